"""Rounds of generate, judge, prefer, train and evaluate, with alarms after each.

    table = asyncio.run(run_loop(Path("runs/loop"), tools, prompts, held_out, load_limits()))

Each round begins with the policy of the round before and is compared with the start: by the judge
that training follows, and by one that it never sees. Rounds and steps that are done are not done
again; a round's figures are kept, so that other limits read them anew without asking anyone.

Yuan et al. 2024, "Self-Rewarding Language Models" (2401.10020), section 2: iterated DPO on the
judge's own choice of best and worst. Gao et al. 2022, "Scaling Laws for Reward Model
Overoptimization" (2210.10760): why another judge, and the KL, are watched.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.backends.local import weights_digest
from rlaif.canonical import digest
from rlaif.store.runs import RunFolder, read_json, whole_file
from rlaif.train.alarms import Alarm, Limits, fired, sound
from rlaif.train.loop_config import prompts_of
from rlaif.train.loop_figures import read_measures, round_figures
from rlaif.train.loop_round import Interrupted, Round, Tools
from rlaif.types import Item, as_dict

if TYPE_CHECKING:
    from rlaif.train.loop_schema import LoopFile

_FREE = frozenset(
    {"name", "description", "rounds", "alarms", "on_alarm", "max_failures", "prompts", "held_out"}
)
"""Fields of a loop's file that may change between two calls; prompts count by their content."""


async def run_loop(
    output: Path,
    tools: Tools,
    prompts: Sequence[Item],
    held_out: Sequence[Item],
    limits: Limits,
    *,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Do, or go on with, every round; the table of rounds, as `loop.json` in `output` has it.

    Args:
        output: The run folder of the loop.
        tools: Configuration, judges, trainer and what else rounds work with.
        prompts: What is trained on.
        held_out: What never is.
        limits: When alarms fire.
        tell: Told of each round's alarms.

    Returns:
        `name`, `rounds` (a row each, with its `alarms`), `fired` (names, over all rounds),
        `ended`: `done`, `alarms` where the loop was to stop at them, or `interrupted`.

    Raises:
        ConfigError: `output` holds another loop.
        BudgetError: the budget is spent.
        BackendError: a fatal one.
        DataError: too much of a step failed, or no pair is fit to train on.
    """
    config = tools.config
    run = RunFolder(output, loop_identity(tools, prompts, held_out))
    rows: list[dict[str, Any]] = []
    policy, ended = tools.start, "done"
    for number in range(1, config.rounds + 1):
        one = Round(
            number=number,
            folder=output / f"round-{number}",
            policy=policy,
            prompts=prompts_of(prompts, number, config.prompts_per_round, config.seed),
            held_out=held_out,
            tools=tools,
        )
        try:
            row = await _row(one, rows)
        except Interrupted:
            ended = "interrupted"
            break
        alarms = sound(read_measures(row["measures"]), limits)
        rows.append(row | _told(alarms, row["train"]))
        for alarm in fired(alarms):
            tell(f"round {number}, alarm: {alarm.line()}")
        _write_table(run, config, limits, rows, ended)
        if rows[-1]["fired"] and config.on_alarm == "stop":
            ended = "alarms"
            break
        policy = one.model
    return _write_table(run, config, limits, rows, ended)


async def _row(one: Round, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row of a round, which is done unless it was before."""
    path, known = one.folder / "round.json", one.digest()
    if path.exists():
        kept: dict[str, Any] = read_json(path)
        if kept["digest"] == known:
            return kept
    started = time.monotonic()
    one.folder.mkdir(parents=True, exist_ok=True)
    await one.carry_out()
    before = one.folder.parent / f"round-{one.number - 1}" if rows else None
    row = {
        "round": one.number,
        "digest": known,
        "prompts": len(one.prompts),
        "model": f"{one.folder.name}/4-model/model",
        **round_figures(one.folder, before, seed=one.tools.config.seed),
        "wall_s": round(time.monotonic() - started, 1),
    }
    with whole_file(path) as file:
        file.write(json.dumps(row, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return row


def loop_identity(
    tools: Tools, prompts: Sequence[Item], held_out: Sequence[Item]
) -> dict[str, Any]:
    """Everything that decides what a loop does, for its run folder."""
    config, at = tools.config, {"base_url"}
    return {
        "command": "loop",
        # where a judge is served is no part of what it says, and may hold a password
        "loop": config.model_dump(
            exclude={**dict.fromkeys(_FREE, True), "judge": at, "held_out_judge": at}
        ),
        "prompts_sha256": digest([as_dict(item) for item in prompts]),
        "held_out_sha256": digest([as_dict(item) for item in held_out]),
        "start_sha256": weights_digest(tools.start),
        "judge": as_dict(tools.judge.judge.ref),
        "held_out_judge": as_dict(tools.gold.judge.ref),
        "backends": [tools.judge.identity, tools.gold.identity],
    }


def _told(alarms: Sequence[Alarm], trained: Mapping[str, Any]) -> dict[str, Any]:
    """The alarms of a round, and the names of those that fired, also while it was trained."""
    while_trained = trained.get("alarms", {}).get("fired", [])
    return {
        "alarms": [alarm.as_dict() for alarm in alarms],
        "fired": [
            *(alarm.name for alarm in fired(alarms)),
            *(f"{alarm['name']} while trained" for alarm in while_trained),
        ],
    }


def _write_table(
    run: RunFolder, config: LoopFile, limits: Limits, rows: Sequence[dict[str, Any]], ended: str
) -> dict[str, Any]:
    """Write `loop.json`, and what `summary.json` says of it; the table."""
    every = dict.fromkeys(name for row in rows for name in row["fired"])
    table = {
        "name": config.name,
        "trainer": config.train.trainer,
        "policy": config.model,
        "judge": config.judge.model,
        "held_out_judge": config.held_out_judge.model,
        "limits": limits.as_dict(),
        "rounds": list(rows),
        "rounds_wanted": config.rounds,
        "fired": list(every),
        "ended": ended,
    }
    run.write_json("loop.json", table)
    run.write_json(
        "summary.json",
        {
            "rounds": len(rows),
            "ended": ended,
            "fired": list(every),
            "alarms": rows[-1]["alarms"] if rows else [],
            "reward": rows[-1]["reward"] if rows else None,
            "gold": rows[-1]["gold"] if rows else None,
            "cost_usd": sum(float(row["cost_usd"]) for row in rows),
            "wall_s": round(sum(float(row["wall_s"]) for row in rows), 1),
        },
    )
    return table
