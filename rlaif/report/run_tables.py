"""Tables and charts of a run's report: standings, head to head, categories, the judge's ways."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlaif.errors import DataError
from rlaif.evals.audit_trials import READS_ALONE
from rlaif.evals.leaderboard import LeaderboardTable
from rlaif.report.charts import Histogram, IntervalChart, format_number
from rlaif.report.drawn import Bars, Cell, Matrix
from rlaif.report.page import Block, Callout, Heading, Table
from rlaif.report.run_figures import Mean, RunFigures, Shares

MOST_ROWS = 30
"""Most models in a chart or matrix; the leaderboard's table has all up to `MOST_LISTED`."""
MOST_LISTED = 200
MOST_CATEGORIES = 24
_BARS = 6
_SHORT_NAME = 40


def causes_told(causes: Mapping[str, int]) -> str:
    """Causes and their counts in a line."""
    return ", ".join(f"{n:,} {cause.replace('_', ' ')}" for cause, n in sorted(causes.items()))


def standings(figures: RunFigures, board: LeaderboardTable) -> list[Block]:
    """The leaderboard, with its intervals drawn."""
    if not figures.tally.ok:
        return []
    if figures.is_audit:
        told = "Its texts are made to test the judge, so there is no leaderboard."
        return [Callout("neutral", "This run is an audit", told)]
    try:
        table: dict[str, Any] = board.result(judges=list(figures.judges))
    except DataError as error:
        told = str(error)
        return [Callout("neutral", "No leaderboard", f"{told[:1].upper()}{told[1:]}.")]
    rows: list[dict[str, Any]] = table["rows"]
    key, name, percent = _measure(rows)
    left_out = f" The first {MOST_LISTED} of {len(rows):,}." if len(rows) > MOST_LISTED else ""
    blocks: list[Block] = [Heading("Leaderboard", f"{_counting(key)}{left_out}")]
    blocks += _drawn(rows, name, (key, "low", "high"), 0.5 if percent else None, percent=percent)
    strength = ("strength", "strength_low", "strength_high")
    blocks += _drawn(rows, "strength, nats", strength, 0.0, percent=False)
    if figures.scores and figures.scale:
        blocks.append(_score_histogram(figures, *figures.scale))
    leads = {found["a"]: found for found in table.get("differences", ())}
    columns, cells = _listed(rows[:MOST_LISTED], leads, key, name, percent=percent)
    notes = "The lead over the next row is counted prompt by prompt; 0 in it: not told apart."
    blocks.append(Table("All figures", columns, cells, notes if leads else ""))
    return blocks


def _drawn(
    rows: Sequence[Mapping[str, Any]],
    name: str,
    keys: tuple[str, str, str],
    reference: float | None,
    *,
    percent: bool,
) -> list[Block]:
    """A figure of the rows with its interval, for those that have one."""
    drawn = []
    for row in rows:
        found = (row.get(key) for key in keys)
        value, low, high = (math.nan if f is None else float(f) for f in found)
        if math.isfinite(high - low + value):
            drawn.append((_clip(row["model"]), low, value, high))
    if not drawn:
        return []
    first = f", first {MOST_ROWS}" if len(drawn) > MOST_ROWS else ""
    title = f"{name[:1].upper()}{name[1:]}{first}"
    return [IntervalChart(title, drawn[:MOST_ROWS], reference=reference, as_percent=percent)]


def _listed(
    rows: Sequence[Mapping[str, Any]],
    leads: Mapping[str, Mapping[str, float]],
    key: str,
    name: str,
    *,
    percent: bool,
) -> tuple[list[str], list[list[Any]]]:
    """The leaderboard's columns and cells; a column that is empty throughout is left out."""
    columns = ["model", name, "95 %", "lead over next", "won / tied / lost", "strength"]
    columns += ["n", "coverage", "without a verdict"]
    cells = [
        [
            _plain(row["model"]),
            _number(row.get(key), percent=percent),
            _ends(row, percent=percent),
            _lead(leads.get(row["model"]), percent=percent),
            _record(row),
            _number(row.get("strength"), percent=False),
            row["n"],
            f"{row['coverage']:.1%}",
            causes_told(row["causes"]) or "–",
        ]
        for row in rows
    ]
    kept = [k for k in range(len(columns)) if any(row[k] != "–" for row in cells)]
    return [columns[k] for k in kept], [[row[k] for k in kept] for row in cells]


def _lead(found: Mapping[str, float] | None, *, percent: bool) -> str:
    if found is None:
        return "–"
    value, low, high = (
        _number(found[key], percent=percent) for key in ("difference", "low", "high")
    )
    return f"{value} [{low.removesuffix('%')}, {high.removesuffix('%')}]"


def _record(row: Mapping[str, Any]) -> str:
    if "wins" not in row:
        return "–"
    return f"{row['wins']:,} / {row['ties']:,} / {row['losses']:,}"


def _measure(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str, bool]:
    """What the leaderboard's rows are ranked by: (key, name, whether it is a share)."""
    known = (("score", "mean score", False), ("win_rate", "win rate", True))
    for key, name, percent in known:
        if any(row.get(key) is not None for row in rows):
            return key, name, percent
    return "strength", "strength", False


def _counting(key: str) -> str:
    return {
        "score": "Mean score of each model over its verdicts.",
        "win_rate": "Mean probability that each model is preferred, over all its opponents; a tie "
        "counts half.",
        "strength": "Bradley-Terry strength in nats, mean zero.",
    }[key]


def _number(value: Any, *, percent: bool) -> str:
    return "–" if value is None else format_number(float(value), percent=percent)


def _ends(row: Mapping[str, Any], *, percent: bool) -> str:
    low, high = row.get("low"), row.get("high")
    if low is None or high is None:
        return "–"
    return f"{_number(low, percent=percent)} to {_number(high, percent=percent)}"


def _plain(name: str) -> str:
    """A name in a cell as it is: a model may be called `a**b**`."""
    return name.replace("`", "'").replace("**", "*\u200b*")


def _clip(name: str) -> str:
    return name if len(name) <= _SHORT_NAME else name[: _SHORT_NAME - 1] + "…"


def win_matrix(figures: RunFigures) -> list[Block]:
    """Each model against each, where there are two or more."""
    totals: dict[str, Mean] = {}
    for (one, _), mean in figures.matrix.items():
        total = totals.setdefault(one, Mean())
        total.total, total.n = total.total + mean.total, total.n + mean.n
    if len(totals) < 2 or figures.is_audit:
        return []
    most_seen = sorted(totals, key=lambda name: -totals[name].n)[:MOST_ROWS]
    ordered = sorted(most_seen, key=lambda name: -(totals[name].value or 0.0))
    rows = [(one, [_win_cell(figures, one, other) for other in ordered]) for one in ordered]
    left_out = len(totals) - len(ordered)
    more = f" {left_out} models with fewer comparisons are left out." if left_out else ""
    return [
        Heading("Head to head", "How often the row is preferred to the column; a tie counts half."),
        Matrix(
            "Wins of the row over the column, %",
            "model",
            ordered,
            rows,
            numbered=True,
            notes=f"Columns are the rows' numbers. Blue: the row wins more; orange: less.{more}",
        ),
    ]


def _win_cell(figures: RunFigures, one: str, other: str) -> Cell:
    mean = figures.matrix.get((one, other))
    if mean is None or mean.value is None:
        return Cell("·" if one == other else "–")
    title = f"{_clip(one)} over {_clip(other)}: {mean.value:.1%} of {mean.n:,}"
    return Cell(f"{100 * mean.value:.0f}", 2 * mean.value - 1, title)


def categories(figures: RunFigures) -> list[Block]:
    """Bars, and for many models a table, by category, where there are two or more."""
    named = sorted(c for c in figures.categories if c)[:MOST_CATEGORIES]
    if len(named) < 2 or figures.is_audit:
        return []
    models = _by_value(figures)
    is_score = bool(figures.scores)
    least, most = figures.scale if is_score and figures.scale else (0.0, 1.0)
    what = "Mean score" if is_score else "Win rate"
    blocks: list[Block] = [
        Heading("By category", f"{what} of each model within each category."),
    ]
    shown = models[:_BARS]
    groups = [(c, [_category_value(figures, c, m) for m in shown]) for c in named]
    first = f", first {_BARS} models" if len(models) > _BARS else ""
    blocks.append(
        Bars(
            f"{what} by category{first}",
            [_clip(m) for m in shown],
            groups,
            least,
            most,
            as_percent=not is_score,
            notes=f"Bars run from {least:g} to {most:g}."
            if is_score
            else "Bars run from 0 to 100%.",
        )
    )
    if len(models) > _BARS:
        rows = [
            (m, [_category_cell(figures, c, m, (least, most)) for c in named])
            for m in models[:MOST_ROWS]
        ]
        blocks.append(Matrix(f"{what} by category", "model", named, rows))
    return blocks


def _by_value(figures: RunFigures) -> list[str]:
    """The models, best mean first."""
    totals: dict[str, Mean] = {}
    for (_, model), mean in figures.by_category.items():
        total = totals.setdefault(model, Mean())
        total.total, total.n = total.total + mean.total, total.n + mean.n
    return sorted(totals, key=lambda model: -(totals[model].value or 0.0))


def _category_value(figures: RunFigures, category: str, model: str) -> float | None:
    mean = figures.by_category.get((category, model))
    return None if mean is None else mean.value


def _category_cell(
    figures: RunFigures, category: str, model: str, scale: tuple[float, float]
) -> Cell:
    value = _category_value(figures, category, model)
    if value is None:
        return Cell("–")
    n = figures.by_category[category, model].n
    low, high = scale
    shade = 2 * (value - low) / (high - low) - 1 if high > low else 0.0
    text = f"{value:.2f}" if figures.scores else f"{100 * value:.0f}"
    return Cell(text, shade, f"{_clip(model)}, {category}: {text}, n = {n:,}")


def behavior(figures: RunFigures) -> list[Block]:
    """How the judge behaves: position, length, spread of its verdicts."""
    if not figures.p_a:
        return []
    blocks: list[Block] = [Heading("How the judge behaves", _behavior_intro(figures))]
    rows = [
        _share_row("orders disagree", figures.disagreements),
        _share_row("shown first wins", figures.first),
        _share_row("longer response wins", figures.longer),
    ]
    drawn = [row for row in rows if row is not None]
    if drawn:
        note = "First and longer: one half is fair at equal quality. Disagreeing orders: 0 is best."
        blocks.append(IntervalChart("Biases", drawn, reference=0.5, note=note))
    bins = [i / 20 for i in range(21)]
    blocks.append(Histogram("P(A) over all comparisons", "P(A)", [("P(A)", figures.p_a)], bins))
    return blocks


def _behavior_intro(figures: RunFigures) -> str:
    if figures.flipped.values:
        return "Both orders of each pair, side by side."
    if figures.disagreements.values:
        return "The verdicts are recorded combined: which place won is not known."
    if all(method.startswith(READS_ALONE) for method in figures.methods):
        return "It reads each response by itself, so no order can move it."
    return "Only one order was asked, so position bias cannot be told from opinion."


def _share_row(label: str, shares: Shares) -> tuple[str, float, float, float] | None:
    found = shares.interval()
    return None if found is None else (f"{label} (n = {len(shares.values):,})", *found)


def _score_histogram(figures: RunFigures, low: float, high: float) -> Histogram:
    whole = float(low).is_integer() and float(high).is_integer() and high - low <= 20
    step = 0.5 if whole and high - low <= 10 else 1.0 if whole else (high - low) / 20
    n = round((high - low) / step)
    edges = [low + (i - 0.5) * step for i in range(n + 2)]
    return Histogram("Scores", "score", [("scores", figures.scores)], edges)
