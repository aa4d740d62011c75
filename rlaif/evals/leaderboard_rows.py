"""One side of a comparison an entry, and the rows of a leaderboard made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import ConfigError
from rlaif.evals.labels import causes_of
from rlaif.evals.reading import ABSENT
from rlaif.stats.clusters import t_quantile
from rlaif.stats.means import mean_interval
from rlaif.stats.ranks import separability
from rlaif.stats.win_rate import win_rate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Measure = Literal["score", "win_rate"]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One entry a verdict; a score has no b."""

    models: list[str]
    questions: list[str]
    a: Ints
    b: Ints
    value: Floats
    """Score, or P(a preferred); NaN without a verdict."""
    hard: Floats
    question: Ints
    cause: Ints
    consistent: NDArray[np.bool_]
    length_a: Ints
    length_b: Ints
    strata: dict[str, tuple[list[str], Ints]]
    style: Floats | None = None
    """Shape (n, features), a minus b; None where it was not asked for."""

    def present(self) -> list[str]:
        """The models that occur."""
        numbers = np.unique(np.concatenate([self.a, self.b]))
        return [self.models[n] for n in numbers.tolist() if n != ABSENT]


class Entries(NamedTuple):
    """The judgments of one model, from its side."""

    value: Floats
    """Score, or P(the model preferred); NaN without a verdict."""
    hard: Floats
    consistent: NDArray[np.bool_]
    question: Ints
    cause: Ints
    length: Ints
    opponent_length: Ints
    strata: dict[str, tuple[list[str], Ints]]

    def where(self, rows: NDArray[Any]) -> Entries:
        """The entries that a mask, a slice or places name."""
        return Entries(
            value=self.value[rows],
            hard=self.hard[rows],
            consistent=self.consistent[rows],
            question=self.question[rows],
            cause=self.cause[rows],
            length=self.length[rows],
            opponent_length=self.opponent_length[rows],
            strata={name: (known, codes[rows]) for name, (known, codes) in self.strata.items()},
        )


def entries_by_model(columns: Columns, opponent: int | None = None) -> dict[str, Entries]:
    """The judgments of each model that has some: a comparison gives one to each side.

    Args:
        columns: The verdicts.
        opponent: Keep comparisons with this model only, and leave out its own side.
    """
    n = columns.a.size
    model, other = np.concatenate([columns.a, columns.b]), np.concatenate([columns.b, columns.a])
    order = np.argsort(model, kind="stable")
    order = order[model[order] != ABSENT]
    if opponent is not None:
        order = order[other[order] == opponent]
    numbers, starts = np.unique(model[order], return_index=True)
    parts = zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)
    return {columns.models[number]: _side(columns, rows % n, rows >= n) for number, rows in parts}


def _side(columns: Columns, rows: Ints, second: NDArray[np.bool_]) -> Entries:
    """Entries of one model: `rows` of the columns, in which it is the `second` of the pair."""
    value, hard = columns.value[rows], columns.hard[rows]
    first_length, second_length = columns.length_a[rows], columns.length_b[rows]
    return Entries(
        value=np.where(second, 1 - value, value),
        hard=np.where(second, 1 - hard, hard),
        consistent=columns.consistent[rows],
        question=columns.question[rows],
        cause=columns.cause[rows],
        length=np.where(second, second_length, first_length),
        opponent_length=np.where(second, first_length, second_length),
        strata={name: (known, codes[rows]) for name, (known, codes) in columns.strata.items()},
    )


def model_row(
    name: str,
    entries: Entries,
    measure: Measure,
    level: float,
    scale: tuple[float, float] | None,
) -> dict[str, Any]:
    """The row of one model, without what needs the others."""
    row: dict[str, Any] = {"model": name, **_counts(entries)}
    ok = ~np.isnan(entries.value)
    low, high = None, None
    if ok.any():
        found = _interval(entries.value[ok], entries.question[ok], measure, level, scale)
        row[measure], se, low, high = found
        row[f"{measure}_se"] = se
        if measure == "win_rate":
            hard = entries.hard[ok]
            row["discrete_win_rate"] = float(hard.mean())
            row |= {
                "wins": int((hard == 1).sum()),
                "ties": int((hard == 0.5).sum()),
                "losses": int((hard == 0).sum()),
                "swap_rule": _swap_rule(hard, entries.consistent[ok]),
            }
    row |= {"low": low, "high": high}
    if (entries.length != ABSENT).all():
        row["avg_length"] = int(entries.length.mean())
    return row | _divided(entries, measure, level, scale)


def _swap_rule(hard: Floats, consistent: NDArray[np.bool_]) -> dict[str, Any]:
    """Wins by the rule of MT-Bench: what two orders disagree about is a tie.

    `win_rate` is wins / n, `win_rate_adjusted` counts ties one half.

    Reference:
        Zheng et al. 2023 (2306.05685), section 3.4.
    """
    wins, losses = int(((hard == 1) & consistent).sum()), int(((hard == 0) & consistent).sum())
    ties = hard.size - wins - losses
    return {
        "wins": wins,
        "ties": ties,
        "losses": losses,
        "win_rate": wins / hard.size,
        "win_rate_adjusted": (wins + ties / 2) / hard.size,
    }


def _counts(entries: Entries) -> dict[str, Any]:
    return {
        "n": int(entries.value.size),
        "coverage": float((~np.isnan(entries.value)).mean()),
        "causes": causes_of(entries.cause),
    }


def _interval(
    values: Floats,
    questions: Ints,
    measure: Measure,
    level: float,
    scale: tuple[float, float] | None,
) -> tuple[float, float | None, float, float]:
    """Mean, standard error and interval, clustered by prompt."""
    clusters = questions.tolist()
    if measure == "win_rate":
        rate = win_rate(values, clusters, level=level)
        return rate.value, rate.se, rate.low, rate.high
    if len(set(clusters)) == 1:  # one prompt says nothing about others
        low, high = scale or (-math.inf, math.inf)
        return float(values.mean()), None, low, high
    mean = mean_interval(values, clusters, level=level)
    return mean.value, mean.se, mean.low, mean.high


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
            detail, ok = _counts(part), ~np.isnan(part.value)
            if ok.any():
                value, _, low, high = _interval(
                    part.value[ok], part.question[ok], measure, level, scale
                )
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
    ok = ~np.isnan(columns.value)
    found: dict[str, Any] = {
        "n": int(ok.size),
        "coverage": float(ok.mean()),
        "causes": causes_of(columns.cause),
    }
    if (columns.b != ABSENT).any():
        found |= {
            "ties": int((columns.hard == 0.5).sum()),
            "inconsistent": int((~columns.consistent).sum()),
            "own_pairs": own_pairs,
        }
    return found


def baseline_row(name: str, opponents: Iterable[Entries]) -> dict[str, Any]:
    """The baseline against itself: a draw on every prompt it served on."""
    question = np.concatenate([entries.question for entries in opponents])
    length = np.concatenate([entries.opponent_length for entries in opponents])
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
    if (length != ABSENT).all():
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
    rows: Sequence[Mapping[str, Any]], by_model: Mapping[str, Entries], level: float
) -> list[dict[str, Any]]:
    """How far each row lies above the next, prompts paired."""
    made = []
    for above, below in pairwise(rows):
        found = _paired_difference(by_model[above["model"]], by_model[below["model"]], level)
        if found is not None:
            made.append({"a": above["model"], "b": below["model"], **found})
    return made


def _paired_difference(first: Entries, second: Entries, level: float) -> dict[str, float] | None:
    """The difference of two means with the error that shared prompts leave.

    Each prompt adds its residuals to the one mean less those to the other, so what a prompt does to
    both cancels. None where there are fewer than two prompts.
    """
    parts = [
        (e.value[ok], e.question[ok]) for e in (first, second) if (ok := ~np.isnan(e.value)).any()
    ]
    if len(parts) < 2:
        return None
    size = 1 + max(int(question.max()) for _, question in parts)
    pulls = [np.bincount(q, v - v.mean(), size) / v.size for v, q in parts]
    clusters = int(np.unique(np.concatenate([q for _, q in parts])).size)
    if clusters < 2:
        return None
    se = float(np.sqrt(clusters / (clusters - 1) * np.sum((pulls[0] - pulls[1]) ** 2)))
    difference = float(parts[0][0].mean() - parts[1][0].mean())
    half = t_quantile(level, clusters) * se
    return {"difference": difference, "se": se, "low": difference - half, "high": difference + half}


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
