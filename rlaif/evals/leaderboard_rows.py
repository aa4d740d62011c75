"""The rows of a leaderboard, made of counted judgments."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from rlaif.errors import ConfigError
from rlaif.evals.labels import causes_of
from rlaif.evals.leaderboard_counts import Columns, Entries
from rlaif.evals.reading import ABSENT
from rlaif.stats.agreement import score_interval
from rlaif.stats.clusters import t_quantile
from rlaif.stats.means import mean_interval_of_sums
from rlaif.stats.power import sample_size
from rlaif.stats.ranks import separability
from rlaif.stats.win_rate import win_rate_of_sums

Measure = Literal["score", "win_rate"]
_ROUNDING = 1e-12
"""A standard error below this is rounding of one that is 0."""


def model_row(
    name: str,
    entries: Entries,
    measure: Measure,
    level: float,
    scale: tuple[float, float] | None,
) -> dict[str, Any]:
    """The row of one model, without what needs the others."""
    row: dict[str, Any] = {"model": name, **_counts(entries)}
    low, high = None, None
    if entries.ok.any():
        row[measure], se, low, high = _interval(entries, measure, level, scale)
        row[f"{measure}_se"] = se
        if measure == "win_rate":
            wins, ties, losses = _record(entries)
            row["discrete_win_rate"] = (wins + ties / 2) / (wins + ties + losses)
            row |= {"wins": wins, "ties": ties, "losses": losses, "swap_rule": _swap_rule(entries)}
    row |= {"low": low, "high": high}
    if not math.isnan(characters := float(entries.length.sum())):
        row["avg_length"] = int(characters / entries.n.sum())
    return row | _divided(entries, measure, level, scale)


def _record(entries: Entries) -> tuple[int, int, int]:
    """Wins, ties and losses."""
    hard, n = entries.hard, entries.n
    wins, ties, losses = (int(n[hard == value].sum()) for value in (1.0, 0.5, 0.0))
    return wins, ties, losses


def _swap_rule(entries: Entries) -> dict[str, Any]:
    """Wins by the rule of MT-Bench: what two orders disagree about is a tie.

    `win_rate` is wins / n, `win_rate_adjusted` counts ties one half.

    Reference:
        Zheng et al. 2023 (2306.05685), section 3.4.
    """
    n = sum(_record(entries))
    wins, _, losses = _record(entries.where(entries.consistent))
    ties = n - wins - losses
    return {
        "wins": wins,
        "ties": ties,
        "losses": losses,
        "win_rate": wins / n,
        "win_rate_adjusted": (wins + ties / 2) / n,
    }


def _counts(entries: Entries) -> dict[str, Any]:
    n = int(entries.n.sum())
    return {
        "n": n,
        "coverage": int(entries.n[entries.ok].sum()) / n,
        "causes": causes_of(entries.cause, entries.n),
    }


def _interval(
    entries: Entries, measure: Measure, level: float, scale: tuple[float, float] | None
) -> tuple[float, float | None, float, float]:
    """Mean, standard error and interval, clustered by prompt."""
    questions, sums, sizes = entries.by_question()
    if measure == "win_rate":
        rate = win_rate_of_sums(sums, sizes, level=level)
        return rate.value, rate.se, rate.low, rate.high
    least, most = scale or (-math.inf, math.inf)
    if questions.size == 1:  # one prompt says nothing about others
        return float(sums[0] / sizes[0]), None, least, most
    mean = mean_interval_of_sums(sums, sizes, level=level)
    low, high = mean.low, mean.high
    if scale is not None and mean.se <= _ROUNDING:
        low, high = _of_equals(mean.value, scale, questions.size, level)
    # a grade may lie outside its scale, and the interval holds the mean all the same
    low, high = max(low, min(least, mean.value)), min(high, max(most, mean.value))
    return mean.value, mean.se, low, high


def _of_equals(
    value: float, scale: tuple[float, float], n: int, level: float
) -> tuple[float, float]:
    """The interval of the mean of `n` values that are all equal, which have no spread to tell it.

    Were every value yet to come that is another one, as many as the score interval of 0 in n
    allows, at the one end of the scale, or at the other.
    """
    other = score_interval(0, n, t_quantile(level, n))[1]
    return value + other * min(0.0, scale[0] - value), value + other * max(0.0, scale[1] - value)


def _divided(
    entries: Entries, measure: Measure, level: float, scale: tuple[float, float] | None
) -> dict[str, Any]:
    """`by` and `by_interval`, for the strata that occur."""
    by: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, Any]] = {}
    for name, (known, codes) in entries.strata.items():
        for code in sorted(
            np.unique(codes[codes != ABSENT]).tolist(), key=lambda c: _natural(known[c])
        ):
            part = entries.where(codes == code)
            detail = _counts(part)
            if part.ok.any():
                value, _, low, high = _interval(part, measure, level, scale)
                by.setdefault(name, {})[known[code]] = value
                detail |= {"low": low, "high": high}
            intervals.setdefault(name, {})[known[code]] = detail
    return {"by": by, "by_interval": intervals} if intervals else {}


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers by size, before words."""
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)


def best_first(rows: Iterable[dict[str, Any]], first: str) -> list[dict[str, Any]]:
    """Rows from the best by `first` down; those without the figure last."""
    return sorted(rows, key=lambda r: (r.get(first) is None, -(r.get(first) or 0.0), r["model"]))


def totals(columns: Columns, *, own_pairs: int) -> dict[str, Any]:
    """What there was to read and what was read, over all models.

    Args:
        columns: The verdicts.
        own_pairs: Comparisons of a model with itself, which no row counts.
    """
    n = int(columns.n.sum())
    found: dict[str, Any] = {
        "n": n,
        "coverage": int(columns.n[columns.ok].sum()) / n,
        "causes": causes_of(columns.cause, columns.n),
    }
    if (columns.b != ABSENT).any():
        found |= {
            "ties": int(columns.n[columns.hard == 0.5].sum()),
            "inconsistent": int(columns.n[~columns.consistent].sum()),
            "own_pairs": own_pairs,
        }
    return found


def baseline_row(name: str, opponents: Iterable[Entries]) -> dict[str, Any]:
    """The baseline against itself: a draw on every prompt it served on."""
    sides = list(opponents)
    question = np.concatenate([entries.question for entries in sides])
    length = np.concatenate([entries.opponent_length / entries.n for entries in sides])
    _, first = np.unique(question, return_index=True)
    row: dict[str, Any] = {
        "model": name,
        "baseline": True,
        "n": int(first.size),
        "coverage": 1.0,
        "causes": {},
        "win_rate": 0.5,
        "win_rate_se": 0.0,
        "discrete_win_rate": 0.5,
        "wins": 0,
        "ties": int(first.size),
        "losses": 0,
        "low": 0.5,
        "high": 0.5,
    }
    if not np.isnan(length).any():
        row["avg_length"] = int(length[first].mean())
    return row


def separated(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How many pairs of rows have intervals that do not overlap; None with fewer than two."""
    known = [row for row in rows if row["low"] is not None and not row.get("baseline")]
    if len(known) < 2:
        return None
    share = separability([row["low"] for row in known], [row["high"] for row in known])
    return {
        "value": share.value,
        "separated": round(share.value * share.pairs),
        "pairs": share.pairs,
    }


def differences(
    rows: Sequence[Mapping[str, Any]],
    by_model: Mapping[str, Entries],
    level: float,
    scale: tuple[float, float] = (0.0, 1.0),
) -> list[dict[str, Any]]:
    """How far each row lies above the next, prompts paired; `scale` is that of their figures."""
    made = []
    for above, below in pairwise(rows):
        sides = by_model[above["model"]], by_model[below["model"]]
        found = _paired_difference(*sides, scale[1] - scale[0], level)
        if found is not None:
            made.append({"a": above["model"], "b": below["model"], **found})
    return made


def _paired_difference(
    first: Entries, second: Entries, most: float, level: float
) -> dict[str, Any] | None:
    """The difference of two means with the error that shared prompts leave, and what it would take
    to tell it from 0.

    Each prompt adds its residuals to the one mean less those to the other, so what a prompt does to
    both cancels. Where that leaves no error at all (one model won every time), the interval is that
    of equal values from -`most` to `most`. None where there are fewer than two prompts.
    """
    sides = [entries.by_question() for entries in (first, second)]
    if not all(questions.size for questions, _, _ in sides):
        return None
    means = [float(sums.sum() / sizes.sum()) for _, sums, sizes in sides]
    pulls = [
        (sums - mean * sizes) / sizes.sum()
        for (_, sums, sizes), mean in zip(sides, means, strict=True)
    ]
    asked = np.concatenate([questions for questions, _, _ in sides])
    prompts, where = np.unique(asked, return_inverse=True)
    clusters = prompts.size
    if clusters < 2:
        return None
    residuals = np.bincount(where, np.concatenate([pulls[0], -pulls[1]]), clusters)
    se = float(np.sqrt(clusters / (clusters - 1) * np.sum(residuals**2)))
    difference = means[0] - means[1]
    half = t_quantile(level, clusters) * se
    low, high = difference - half, difference + half
    if alike := se <= _ROUNDING:
        low, high = _of_equals(difference, (-most, most), clusters, level)
    return {
        "difference": difference,
        "se": se,
        "low": low,
        "high": high,
        "prompts": clusters,
        "more_prompts": _more_alike(difference, most, clusters, level)
        if alike
        else _more_prompts(difference, se, clusters, (low, high), level),
    }


def _more_alike(difference: float, most: float, prompts: int, level: float) -> int | None:
    """As `_more_prompts`, where all differences so far are equal."""

    def found(n: int) -> bool:
        low, high = _of_equals(difference, (-most, most), n, level)
        return not low <= 0 <= high

    if abs(difference) <= _ROUNDING:
        return None
    enough = prompts
    while not found(enough):
        enough *= 2
    return bisect_left(range(prompts, enough), True, key=found)


def _more_prompts(
    difference: float, se: float, prompts: int, interval: tuple[float, float], level: float
) -> int | None:
    """Prompts still to ask so that the interval leaves out 0 four times of five, were the
    difference as observed; 0 where it does now, None where there is no difference to find.
    """
    if not interval[0] <= 0 <= interval[1]:
        return 0
    needed = sample_size(difference, se * math.sqrt(prompts), level=level)
    return None if needed is None else max(0, needed - prompts)


def common_opponent(columns: Columns) -> str:
    """The model that every comparison has, the second one where two do.

    Raises:
        ConfigError: there is none.
    """
    shared = {int(columns.a[0]), int(columns.b[0])}
    common = [n for n in shared if ((columns.a == n) | (columns.b == n)).all()]
    if len(common) == 2 and (columns.b == columns.b[0]).all():
        common = [int(columns.b[0])]
    if len(common) != 1:
        raise ConfigError("length control is against one model: name it with --baseline")
    return columns.models[common[0]]
