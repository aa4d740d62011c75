"""From grades to a score: several draws of one criterion, several criteria, and rewards. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlaif.judge.grades import Grade
from rlaif.specs.rubric import Criterion
from rlaif.types import Score

Aggregate = Literal["mean", "mode"]
"""A distribution's mean, or its likeliest level."""


@dataclass(frozen=True, slots=True)
class CriterionScore:
    """What all draws said about one criterion."""

    value: float
    """On the criterion's own scale."""
    distribution: Mapping[str, float] | None
    missing_mass: float | None
    draws: int


def aggregate_grades(grades: Sequence[Grade], how: Aggregate = "mean") -> CriterionScore:
    """One criterion over its draws.

    With several draws the distribution is the mean of theirs; a draw without probabilities puts all
    on the level it gave. The value is the distribution's mean (Wang et al. 2025, arXiv 2503.03064,
    find it better than the mode). The mode is the likeliest level, and midway between the outermost
    of several that are equally likely.
    """
    if len(grades) == 1:
        one = grades[0]
        value = one.value if how == "mean" else mode(one.distribution or {str(one.level): 1.0})
        return CriterionScore(value, one.distribution, one.missing_mass, 1)
    mass: Counter[str] = Counter()
    for grade in grades:
        for level, p in (grade.distribution or {str(grade.level): 1.0}).items():
            mass[level] += p / len(grades)  # type: ignore[assignment]
    spread = {level: mass[level] for level in sorted(mass, key=int)}
    missing = [grade.missing_mass for grade in grades if grade.missing_mass is not None]
    value = sum(int(level) * p for level, p in spread.items()) if how == "mean" else mode(spread)
    mean_missing = sum(missing) / len(missing) if missing else None
    return CriterionScore(value, spread, mean_missing, len(grades))


def mode(distribution: Mapping[str, float]) -> float:
    """The likeliest level; midway between the outermost of several that are equally likely."""
    most = max(distribution.values())
    likeliest = [int(level) for level, p in distribution.items() if p >= most - 1e-12]
    return (min(likeliest) + max(likeliest)) / 2


def combined_score(criteria: Sequence[Criterion], found: Mapping[str, CriterionScore]) -> Score:
    """The weighted score over all criteria, with each criterion on its own scale beside it.

    One criterion of two levels is pass or fail: its value is P(pass), 0..1. Criteria on one scale
    are weighted on it; on different scales they meet on [0, 1].
    """
    details = {c.name: _detail(c, found[c.name]) for c in criteria}
    missing = [m for c in criteria if (m := found[c.name].missing_mass) is not None]
    worst = max(missing) if missing else None
    scales = {(c.scale.min, c.scale.max) for c in criteria}
    low, high = next(iter(scales))
    if len(criteria) == 1:
        one = found[criteria[0].name]
        value, spread = one.value, one.distribution
        if high - low == 1:
            return Score(value - low, 0.0, 1.0, spread, details, worst)
        return Score(value, low, high, spread, details, worst)
    if len(scales) == 1:
        total = sum(c.weight * found[c.name].value for c in criteria)
        return Score(total, low, high, None, details, worst)
    total = sum(
        c.weight * (found[c.name].value - c.scale.min) / (c.scale.max - c.scale.min)
        for c in criteria
    )
    return Score(total, 0.0, 1.0, None, details, worst)


def _detail(criterion: Criterion, found: CriterionScore) -> dict[str, Any]:
    return {
        "value": found.value,
        "min": criterion.scale.min,
        "max": criterion.scale.max,
        "weight": criterion.weight,
        **({"distribution": found.distribution} if found.distribution else {}),
        **({"missing_mass": found.missing_mass} if found.missing_mass is not None else {}),
        **({"draws": found.draws} if found.draws > 1 else {}),
    }


def as_reward(score: Score, low: float = -1.0, high: float = 1.0) -> float:
    """The score's value with its scale stretched to `low`..`high`, as a reward in training.

    On 1..10 that is (value - 5.5) / 4.5: Lee et al. 2023 (arXiv 2309.00267), direct RLAIF.
    """
    return low + (score.value - score.min) / (score.max - score.min) * (high - low)
