"""What the experiments with loops share: a small loop on the embedded model, judged by functions.

A judge is a function from a response to a number, asked like any reward model: the loop does not
know that it is no model. Prompts are the quickstart's; training never sees the held-out ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlaif.backends.local import resolve_checkpoint
from rlaif.backends.scripted import ScriptedBackend
from rlaif.cli.output import progress_bar, say, table
from rlaif.judge.reward import RewardJudge
from rlaif.report.page import write_page
from rlaif.report.training_loop import loop_page
from rlaif.specs.items import read_prompts
from rlaif.specs.shipped import shipped_dir
from rlaif.store.replies import ReplyStore
from rlaif.train.alarms import load_limits
from rlaif.train.loop import run_loop
from rlaif.train.loop_round import Seat, Tools
from rlaif.train.loop_schema import LoopFile
from rlaif.train.loop_trainers import dpo_settings, dpo_trainer
from rlaif.types import Item, Request

# the experiment has a bar of its own, and asks no hub
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

Check = Callable[[str], float]
"""The reward of a response, in nats of Bradley and Terry's model."""


def arguments(about: str, output: str) -> argparse.ArgumentParser:
    """The options of every experiment."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path(output))
    parser.add_argument("--model", default="local/smollm2-135m")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=96, help="a round")
    parser.add_argument("--held-out", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=48, help="of a response")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def function_judge(name: str, check: Check) -> Seat:
    """A judge that prefers what `check` gives more to."""

    def reply(request: Request) -> str:
        return json.dumps({"reward": check(request.messages[-1].content)})

    backend = ScriptedBackend(reply, model=f"scripted/{name}")
    return Seat(RewardJudge(backend), backend.identity)


def prompts(split: str, most: int) -> list[Item]:
    """The quickstart's prompts of a split."""
    rows = read_prompts(shipped_dir("quickstart") / "prompts.jsonl")
    return [item for item in rows if item.meta["split"] == split][:most]


def run_experiment(given: argparse.Namespace, judge: Seat, gold: Seat) -> dict[str, Any]:
    """The table of a loop with these judges, printed, with its report beside it."""
    home = Path(os.environ.get("RLAIF_HOME", Path.home() / ".cache" / "rlaif")).expanduser()
    settings = {"learning_rate": given.learning_rate, "batch_size": 4}
    config = LoopFile.model_validate(
        {
            "name": given.output.name,
            "prompts": "quickstart, train",
            "held_out": "quickstart, held out",
            "model": given.model,
            "rounds": given.rounds,
            "prompts_per_round": given.prompts,
            "seed": given.seed,
            "generate": {"candidates": given.candidates, "max_tokens": given.tokens},
            "judge": {"model": judge.identity},
            "held_out_judge": {"model": gold.identity},
            "train": {"settings": settings},
        }
    )
    given.output.mkdir(parents=True, exist_ok=True)
    with ReplyStore(home / "replies.sqlite") as store:
        tools = Tools(
            config=config,
            judge=judge,
            gold=gold,
            start=resolve_checkpoint(given.model.removeprefix("local/"), home),
            store=store,
            home=home,
            train=dpo_trainer(dpo_settings(config.train.settings, given.seed)),
            bar=progress_bar,
            stop=threading.Event(),
        )
        work = run_loop(
            given.output / "loop",
            tools,
            prompts("train", 10_000),
            prompts("heldout", given.held_out),
            load_limits(),
            tell=say,
        )
        made = asyncio.run(work)
    report = write_page(loop_page(given.output / "loop"), given.output / "loop" / "report.html")
    _print(made)
    say(f"wrote {report}")
    return made


def _print(made: dict[str, Any]) -> None:
    def span(found: dict[str, float]) -> str:
        return f"{found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"

    rows = []
    for row in made["rounds"]:
        measures = {m["name"]: m["value"] for m in row["measures"]}
        words = f"{row['words']['start']['mean']:.1f} to {row['words']['policy']['mean']:.1f}"
        fired = ", ".join(row["fired"]) or "none"
        kl = f"{measures['kl']:.2f}"
        rows.append((row["round"], span(row["reward"]), span(row["gold"]), kl, words, fired))
    columns = ("round", "judge", "held-out judge", "KL", "words", "alarms fired")
    table(made["name"], columns, rows, note="P(preferred over the start), 95 % by prompt")
