"""A report on a loop: reward, KL, length and win rate by round, with alarms and responses.

Nothing but the run folder is needed: `loop.json`, and the rounds' folders beside it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rlaif.errors import DataError, SpecError
from rlaif.report.page import (
    Block,
    Callout,
    Example,
    Examples,
    Files,
    Heading,
    IntervalChart,
    KeyFigures,
    LineChart,
    Page,
    Table,
)
from rlaif.report.training import TRAINING, alarm_blocks, panels
from rlaif.store.runs import read_json, read_rows, read_verdicts
from rlaif.types import Verdict

LOOP = "loop.json"
_EXAMPLES = 6
_READ = 2000
"""Verdicts among which the examples are drawn."""

Row = Mapping[str, Any]


def loop_page(path: Path, *, seed: int = 0) -> Page:
    """The page of a loop's folder.

    Args:
        path: The folder.
        seed: Seed of the responses that are shown.

    Raises:
        SpecError: it has no `loop.json`, or one that is malformed.
        DataError: no round is done.
    """
    made = read_json(path / LOOP)
    if not isinstance(made, dict) or not isinstance(made.get("rounds"), list):
        raise SpecError("not the table of a loop", path=path / LOOP)
    rows: list[Row] = made["rounds"]
    if not rows:
        raise DataError(f"{path}: no round is done yet")
    return Page(
        f"Loop {made['name']}",
        f"`{made['policy']}` trained by {made['trainer'].upper()} on the verdicts of "
        f"`{made['judge']}`; `{made['held_out_judge']}` held out",
        [
            _key_figures(rows),
            _conclusion(made, rows),
            Heading(
                "By round",
                "Held-out prompts, the policy of each round against the start. Intervals are "
                "95 %, by prompt.",
            ),
            *_charts(rows),
            _table(rows),
            *alarm_blocks(rows[-1]["alarms"], f" after round {rows[-1]['round']}"),
            *_fired_by_round(rows),
            *_training(path, rows),
            *_examples(path, rows, seed),
            _files(rows),
        ],
        footer="P(preferred) is the mean of the judge's probabilities over both orders.",
    )


def _key_figures(rows: Sequence[Row]) -> KeyFigures:
    last = rows[-1]
    shown = [
        ("training judge", f"{last['reward']['value']:.1%}", _span(last["reward"])),
        ("held-out judge", f"{last['gold']['value']:.1%}", _span(last["gold"])),
    ]
    if (kl := _measured(last, "kl")) is not None:
        shown.append(("KL", f"{kl['value']:.2f}", "nats a response from the start"))
    words = last["words"]
    length = f"{words['policy']['mean']:.1f}"
    shown.append(("words", length, f"a response, the start {words['start']['mean']:.1f}"))
    if cost := sum(float(row["cost_usd"]) for row in rows):
        shown.append(("cost", f"${cost:,.2f}", "all rounds"))
    seconds = sum(float(row["wall_s"]) for row in rows)
    shown.append(("time", f"{seconds:,.0f} s", f"{len(rows)} rounds"))
    return KeyFigures(shown)


def _conclusion(made: Mapping[str, Any], rows: Sequence[Row]) -> Callout:
    """What the figures of the last round mean, in plain words."""
    last = rows[-1]
    judge, gold = last["reward"], last["gold"]
    told = (
        f"By the judge it was trained on the policy is preferred to the start in "
        f"{judge['value']:.1%} [{_span(judge)}], by the held-out judge in {gold['value']:.1%} "
        f"[{_span(gold)}]."
    )
    if last["fired"]:
        names = ", ".join(last["fired"])
        ended = " The loop stopped there." if made["ended"] == "alarms" else ""
        return Callout("warning", "Alarms fired", f"{told} Fired: {names}.{ended}")
    if judge["low"] > 0.5 and gold["low"] > 0.5:
        return Callout("good", "The policy improved, by both judges", told)
    if judge["low"] > 0.5:
        return Callout("neutral", "Improved by the judge it was trained on", told)
    return Callout("neutral", "No improvement is shown", told)


def _charts(rows: Sequence[Row]) -> list[Block]:
    rounds = [0, *(row["round"] for row in rows)]

    def line(name: str, start: float, value: Callable[[Row], float]) -> Any:
        return name, rounds, [start, *map(value, rows)]

    words_start = rows[0]["words"]["start"]
    charts: list[Block] = [
        LineChart(
            "P(preferred over the start)",
            "round",
            "share",
            [
                line("training", 0.5, lambda row: row["reward"]["value"]),
                line("held-out", 0.5, lambda row: row["gold"]["value"]),
            ],
            references=[(0.5, "no change")],
        ),
        _win_rates(rows),
    ]
    kls = [name for name in ("kl", "kl_k3") if all(_measured(row, name) for row in rows)]
    if kls:
        series = [line(name, 0.0, lambda row, name=name: _value(row, name)) for name in kls]  # type: ignore[misc]
        charts.append(LineChart("KL from the start", "round", "nats a response", series))
    charts.append(
        LineChart(
            "Length",
            "round",
            "words",
            [
                line("mean", words_start["mean"], lambda row: row["words"]["policy"]["mean"]),
                line("p95", words_start["p95"], lambda row: row["words"]["policy"]["p95"]),
            ],
        )
    )
    return [*charts, *_histogram(rows)]


def _win_rates(rows: Sequence[Row]) -> IntervalChart:
    """Of each round the win rate by both judges, and at equal length."""
    shown = []
    for row in rows:
        number = row["round"]
        shown.append((f"{number} training", *_ends(row["reward"])))
        shown.append((f"{number} held-out", *_ends(row["gold"])))
        corrected = _measured(row, "length_corrected_win_rate")
        if corrected is not None and corrected.get("low") is not None:
            shown.append((f"{number} equal length", *_ends(corrected)))
    return IntervalChart("P(preferred over the start), by round", shown)


def _ends(found: Row) -> tuple[float, float, float]:
    """Low end, value, high end; percentiles of a skewed bootstrap may leave the value outside."""
    value = found["value"]
    return min(found["low"], value), value, max(found["high"], value)


def _histogram(rows: Sequence[Row]) -> list[Block]:
    counts = rows[-1]["judge_histogram"]
    total = sum(counts)
    tenths = [f"{k / 10:.1f} to {(k + 1) / 10:.1f}" for k in range(len(counts))]
    table = [
        (tenth, count, f"{count / total:.1%}") for tenth, count in zip(tenths, counts, strict=True)
    ]
    caption = f"The training judge's P(preferred) after round {rows[-1]['round']}"
    return [Table(caption, ("P(preferred)", "verdicts", "share"), table)]


def _table(rows: Sequence[Row]) -> Table:
    names = ("kl", "length_corrected_win_rate", "gold_gap", "distinct_2", "order_flips")
    return Table(
        "Figures by round",
        ("round", "training judge", "held-out judge", *names, "rows", "fired"),
        [
            (
                str(row["round"]),
                f"{row['reward']['value']:.1%}",
                f"{row['gold']['value']:.1%}",
                *(
                    m["value"] if (m := _measured(row, name)) is not None else None
                    for name in names
                ),
                row.get("rows"),
                ", ".join(row["fired"]) or "none",
            )
            for row in rows
        ],
    )


def _fired_by_round(rows: Sequence[Row]) -> list[Block]:
    """Alarms of the rounds before the last one."""
    fired = [
        (str(row["round"]), alarm["name"], f"{alarm['value']:.3f}", alarm["advice"])
        for row in rows[:-1]
        for alarm in row["alarms"]
        if alarm["fired"]
    ]
    if not fired:
        return []
    return [Table("Fired in earlier rounds", ("round", "alarm", "value", "what to do"), fired)]


def _training(path: Path, rows: Sequence[Row]) -> list[Block]:
    """The curves of each round's training."""
    blocks: list[Block] = []
    for row in rows:
        file = path / f"round-{row['round']}" / "4-model" / TRAINING
        logged = [entry for _, entry in read_rows(file)] if file.is_file() else []
        if logged:
            blocks += panels(logged, f"Round {row['round']}: ")
    return [Heading("Training", "The logged steps of each round."), *blocks] if blocks else []


def _examples(path: Path, rows: Sequence[Row], seed: int) -> list[Block]:
    """Held-out responses of the last round beside the start's, drawn and not chosen."""
    folder = path / f"round-{rows[-1]['round']}" / "6-evaluation"
    if not (folder / "verdicts.jsonl").is_file():
        return []
    verdicts = list(islice(read_verdicts(folder), _READ))
    drawn = random.Random(seed).sample(verdicts, min(_EXAMPLES, len(verdicts)))  # noqa: S311
    return [
        Heading("Read for yourself", f"Held-out prompts, drawn by seed {seed} and not by result."),
        Examples([_example(v) for v in sorted(drawn, key=lambda verdict: verdict.item.id)]),
    ]


def _example(verdict: Verdict) -> Example:
    policy, start = verdict.candidates
    told = f"No verdict: {verdict.cause}."
    if verdict.preference is not None:
        told = f"The training judge: P(policy preferred) = {verdict.preference.p_a:.2f}."
    heading = verdict.item.prompt[-1].content
    return Example(heading, "start", start.text, "policy", policy.text, told)


def _files(rows: Sequence[Row]) -> Files:
    found = [(LOOP, "the figures and alarms of every round"), ("config.json", "what decided them")]
    for row in rows:
        number = row["round"]
        found.append((f"round-{number}/", f"every step of round {number}"))
        found.append((str(row["model"]), f"the policy after round {number}, a plain checkpoint"))
    return Files(found)


def _measured(row: Row, name: str) -> Row | None:
    return next((m for m in row["measures"] if m["name"] == name), None)


def _value(row: Row, name: str) -> float:
    found = _measured(row, name)
    return float(found["value"]) if found is not None else 0.0


def _span(found: Row) -> str:
    return f"{found['low']:.1%} to {found['high']:.1%}"
