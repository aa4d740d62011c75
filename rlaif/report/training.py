"""A report on a training run: its curves, its alarms and some of what the model wrote.

Nothing but the run folder is needed: `training.jsonl`, and what else lies there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif.errors import DataError, SpecError
from rlaif.report.page import (
    Block,
    Callout,
    Example,
    Examples,
    Heading,
    KeyFigures,
    LineChart,
    Page,
    Paragraph,
    Table,
    files_beside,
)
from rlaif.store.runs import read_json, read_rows

TRAINING = "training.jsonl"
_SAMPLES = 6
_SMOOTHED_FROM = 40
"""Points from which a running mean is drawn over a noisy curve."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart of figures that share an axis."""

    title: str
    unit: str
    names: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    smooth: bool = False


PANELS = (
    Panel("Reward", "reward", ("reward", "eval_reward", "gold_reward"), smooth=True),
    Panel("Reward by source", "reward", (), ("reward/", "rewards/")),
    Panel(
        "Implicit reward",
        "nats",
        ("rewards/chosen", "rewards/rejected", "rewards/margins"),
    ),
    Panel("KL from the start", "nats a response", ("kl", "kl_k3"), smooth=True),
    Panel("Length", "tokens", ("length", "length_p95")),
    Panel("Loss", "loss", ("loss", "eval_loss"), smooth=True),
    Panel("Loss by part", "loss", ("policy_loss", "value_loss")),
    Panel("Entropy", "nats a token", ("entropy",)),
    Panel("Accuracy", "share", ("accuracy", "eval_accuracy", "rewards/accuracies")),
    Panel("Coverage", "share of episodes with a reward", ("coverage",)),
    Panel("Cost", "US dollars", ("cost_usd",)),
)
"""What is drawn, in this order; all that is logged stands in the table below."""

_NAMED = frozenset(name for panel in PANELS for name in panel.names)


def training_page(path: Path) -> Page:
    """The page of a training run's folder.

    Raises:
        SpecError: it has no `training.jsonl`, or a line of it does not fit.
        DataError: nothing was logged.
    """
    rows = [row for _, row in read_rows(path / TRAINING)]
    if not rows:
        raise DataError(f"{path / TRAINING} is empty: nothing was logged")
    config, summary = (_mapping(path / name) for name in ("config.json", "summary.json"))
    command = str(config.get("command", "train"))
    return Page(
        f"Training run {path.resolve().name}",
        f"`rlaif {command}`, {len(rows):,} logged steps",
        [
            _key_figures(rows, summary),
            *alarm_blocks(_alarms(summary)),
            Heading("Curves"),
            *panels(rows),
            *_figures(rows),
            *_summary(summary),
            *_samples(path),
            *_files(path),
        ],
        footer="Everything on this page was read from the files beside it.",
    )


def panels(rows: Sequence[Mapping[str, Any]], prefix: str = "") -> list[Block]:
    """A chart for every group of figures that were logged; `prefix` opens its title."""
    charts: list[Block] = []
    for panel in PANELS:
        names = [n for n in panel.names if _points(rows, n)]
        names += [n for p in panel.prefixes for n in _with_prefix(rows, p)]
        series = [(name, *_points(rows, name)) for name in names]
        if not series:
            continue
        if panel.smooth and len(series) == 1 and len(series[0][1]) >= _SMOOTHED_FROM:
            _, xs, ys = series[0]
            series.append(("mean", xs, running_mean(ys)))
        references = [(0.6931, "no preference")] if _is_pairwise(rows, panel) else []
        charts.append(
            LineChart(prefix + panel.title, "step", panel.unit, series, references=references)
        )
    return charts


def running_mean(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, as far as a twentieth of all reaches back."""
    reach = max(1, len(values) // 20)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [
        (sums[i + 1] - sums[max(0, i + 1 - reach)]) / (i + 1 - max(0, i + 1 - reach))
        for i in range(len(values))
    ]


def _is_pairwise(rows: Sequence[Mapping[str, Any]], panel: Panel) -> bool:
    """Whether the loss is that of a choice between two, which begins at log 2."""
    return panel.title == "Loss" and "rewards/margins" in rows[0]


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> Any:
    """The steps where a figure was logged, and its values; nothing where it never was."""
    found = [(_step(row, i), row[name]) for i, row in enumerate(rows) if _is_number(row.get(name))]
    if not found:
        return ()
    xs, ys = zip(*found, strict=True)
    return list(xs), list(ys)


def _step(row: Mapping[str, Any], place: int) -> float:
    return float(row["step"]) if _is_number(row.get("step")) else float(place + 1)


def _with_prefix(rows: Sequence[Mapping[str, Any]], prefix: str) -> list[str]:
    names = dict.fromkeys(
        n for row in rows for n in row if n.startswith(prefix) and n not in _NAMED
    )
    # spreads and the like would squeeze the means that the chart is of
    return [n for n in names if _points(rows, n) and not n.endswith(("/std", "_sd"))][:6]


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except SpecError:
        return {}
    return found if isinstance(found, dict) else {}


def _key_figures(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> KeyFigures:
    shown = [("steps", f"{int(_step(rows[-1], len(rows) - 1)):,}", _rows_told(summary))]
    for name, label, note in (
        ("reward", "reward", "mean of the last tenth, first tenth {0:.3g}"),
        ("loss", "loss", "mean of the last tenth, first tenth {0:.3g}"),
        ("kl", "KL", "nats a response from the start, at the end"),
        ("length", "length", "tokens, mean of the last tenth, first tenth {0:.3g}"),
        ("coverage", "coverage", "of episodes have a reward, in the last tenth"),
    ):
        if found := _points(rows, name):
            ys = found[1]
            tenth = max(1, len(ys) // 10)
            first, last = (sum(part) / len(part) for part in (ys[:tenth], ys[-tenth:]))
            shown.append((label, f"{last:.3g}", note.format(first)))
    if _is_number(wall_s := summary.get("wall_s")):
        shown.append(("time", f"{float(wall_s):,.0f} s", "in all"))  # type: ignore[arg-type]
    return KeyFigures(shown[:6])


def _rows_told(summary: Mapping[str, Any]) -> str:
    for key, what in (("rows_trained", "rows"), ("episodes", "episodes")):
        if _is_number(summary.get(key)):
            return f"{summary[key]:,} {what}"
    return "logged"


def _alarms(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alarms in a summary: as they are at the end, or, where they fired before, as then."""
    found = summary.get("alarms")
    if not isinstance(found, dict):
        return []
    earlier = {row["name"]: row for row in found.get("fired", [])}
    now = [row for row in found.get("now", []) if row["name"] not in earlier]
    return [*earlier.values(), *now]


def alarm_blocks(alarms: Sequence[Mapping[str, Any]], where: str = "") -> list[Block]:
    """What fired, and every alarm with its value and its limits.

    Args:
        alarms: Alarms as plain data: `name`, `what`, `value`, `low`, `high`, `least`, `most`,
            `fired`, `advice`, and the `step` where it fired.
        where: What they are of, for the heading.
    """
    if not alarms:
        return []
    fired = [row for row in alarms if row["fired"]]
    if fired:
        told = "\n\n".join(f"**{row['name']}**: {row['what']}. {row['advice']}." for row in fired)
        callout = Callout("warning", f"{len(fired)} alarms fired", told)
    else:
        quiet = f"None of {len(alarms)} alarms fired. Read some responses all the same."
        callout = Callout("good", "The alarms are quiet", quiet)
    return [
        Heading(f"Alarms{where}", "Figures that change when a policy games its judge."),
        callout,
        Table(
            "Figures and their limits",
            ("figure", "value", "95 % interval", "limits", "state"),
            [
                (
                    f"`{row['name']}` {row['what']}",
                    f"{row['value']:.3f}",
                    _interval(row),
                    _limits(row),
                    _state(row),
                )
                for row in alarms
            ],
        ),
    ]


def _interval(row: Mapping[str, Any]) -> str:
    if row.get("low") is None or row.get("high") is None:
        return "–"
    return f"{row['low']:.3f} to {row['high']:.3f}"


def _limits(row: Mapping[str, Any]) -> str:
    ends = [("at least", row.get("least")), ("at most", row.get("most"))]
    return ", ".join(f"{word} {end:g}" for word, end in ends if end is not None)


def _state(row: Mapping[str, Any]) -> str:
    if not row["fired"]:
        return "quiet"
    return f"**fired** at step {row['step']}" if "step" in row else "**fired**"


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    names = dict.fromkeys(name for row in rows for name in row if name != "step")
    table = [
        (f"`{name}`", ys[0], ys[-1], min(ys), max(ys))
        for name in names
        if (found := _points(rows, name))
        for ys in (found[1],)
    ]
    if not table:
        return []
    columns = ("figure", "first", "last", "least", "most")
    return [Table("All that was logged", columns, table)]


def _summary(summary: Mapping[str, Any]) -> list[Block]:
    rows = [(k.replace("_", " "), _cell(v)) for k, v in summary.items() if k != "alarms"]
    return [Heading("Summary"), Table("summary.json", ("what", "value"), rows)] if rows else []


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_cell, value[:8])) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _samples(path: Path) -> list[Block]:
    file = path / "samples.jsonl"
    rows = [row for _, row in read_rows(file)] if file.is_file() else []
    if not rows:
        return []
    half = _SAMPLES // 2
    shown = rows if len(rows) <= _SAMPLES else [*rows[:half], *rows[-half:]]
    return [
        Heading("What the policy wrote", "From the first logged steps and from the last."),
        Examples(
            [
                Example(
                    f"Step {row.get('step', '–')}",
                    "prompt",
                    said(row.get("prompt")),
                    "completion",
                    said(row.get("completion")),
                    _rewarded(row.get("reward")),
                )
                for row in shown
            ]
        ),
        Paragraph("All that was kept is in `samples.jsonl`."),
    ]


def said(value: Any) -> str:
    """A prompt or completion as text: it is kept as text, or as messages."""
    if isinstance(value, list):
        return "\n".join(str(m.get("content", "")) for m in value if isinstance(m, dict))
    return "" if value is None else str(value)


def _rewarded(reward: object) -> str:
    return f"Reward {reward:.3f}." if _is_number(reward) else "No reward."


def _files(path: Path) -> list[Block]:
    return files_beside(
        path,
        {
            "config.json": "everything that decided the result",
            TRAINING: "the logged steps, one a line",
            "summary.json": "what came of it",
            "samples.jsonl": "some of what the policy wrote while it was trained",
            "model/README.md": "the card of the trained model, which lies beside it",
        },
    )
