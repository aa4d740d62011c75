"""Several judges' verdicts on one item as one: mean, median or vote, with weights. Pure.

    combine_preferences([one, other, third], [1.0, 1.0, 2.0], "mean").p_a

A tie is a tie: no order of judges breaks one. Judges of equal weight may stand in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rlaif.judge.pair_form import side
from rlaif.types import (
    JudgeRef,
    MemberVerdict,
    OrderVerdict,
    Preference,
    RubricRef,
    Score,
    Shown,
    Verdict,
    Winner,
)

Rule = Literal["mean", "median", "vote"]
"""The mean of what judges say, its median, which no single judge can move far, or one vote each."""

VOTES: Mapping[Winner, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}
_LITTLE = 1e-12


def all_flags(said: Iterable[Verdict]) -> dict[str, tuple[str, ...]] | None:
    """The flags that any of several verdicts on the same candidates has, by candidate."""
    flags: dict[str, tuple[str, ...]] = {}
    for verdict in said:
        for name, found in (verdict.flags or {}).items():
            flags[name] = tuple(sorted({*flags.get(name, ()), *found}))
    return flags or None


def member_of(place: int, verdict: Verdict, instead_of: int | None = None) -> MemberVerdict:
    """What the judge at `place` said, for the record of several."""
    return MemberVerdict(
        judge=place,
        calls=len(verdict.calls),
        cause=verdict.cause,
        score=verdict.score,
        preference=verdict.preference,
        ranking=verdict.ranking,
        rationale=verdict.rationale,
        instead_of=instead_of,
    )


def shared_rubric(refs: Iterable[JudgeRef]) -> RubricRef | None:
    """The rubric that all judges have; `None` where they have several, or none."""
    rubrics = {ref.rubric for ref in refs}
    return rubrics.pop() if len(rubrics) == 1 else None


def pooled(values: Sequence[float], weights: Sequence[float], rule: Rule) -> float:
    """The weighted mean, or the weighted median, of values.

    The median lies midway between two values where half of the weight lies on either side. Where
    all weights are 0, all count alike. A vote is the mean of what the caller made votes of.
    """
    total = sum(weights)
    if total <= 0:
        weights, total = [1.0] * len(values), float(len(values))
    if rule != "median":
        return sum(w * v for w, v in zip(weights, values, strict=True)) / total
    ranked = sorted((v, w) for v, w in zip(values, weights, strict=True) if w > 0)
    below = 0.0
    for place, (value, weight) in enumerate(ranked):
        below += weight
        if abs(below - total / 2) <= _LITTLE * total and place + 1 < len(ranked):
            return (value + ranked[place + 1][0]) / 2
        if below > total / 2:
            return value
    return ranked[-1][0]


def combine_preferences(
    said: Sequence[Preference], weights: Sequence[float], rule: Rule
) -> Preference:
    """The preference of a panel: P(A preferred) over its judges, and over each order they share.

    Under `vote` P(A preferred) is the share of the votes, a tie half a vote each way.
    """

    def value(one: Preference | OrderVerdict) -> float:
        return VOTES[one.winner] if rule == "vote" else one.p_a

    p_a = pooled([value(one) for one in said], weights, rule)
    orders = []
    for shown in _common_orders(said):
        asked = [next(o for o in one.orders if o.shown == shown) for one in said]
        p = pooled([value(one) for one in asked], weights, rule)
        orders.append(OrderVerdict(shown, side(p), p))
    consistent = len({order.winner for order in orders}) <= 1
    return Preference(side(p_a), p_a, tuple(orders), consistent)


def _common_orders(said: Sequence[Preference]) -> list[Shown]:
    both: tuple[Shown, ...] = ("AB", "BA")
    return [s for s in both if all(any(o.shown == s for o in one.orders) for one in said)]


def combine_scores(said: Sequence[Score], weights: Sequence[float], rule: Rule) -> Score:
    """The score of a panel: on the scale that its judges share, else all scales meet on [0, 1].

    Under `vote` each judge votes for the level nearest to its score, and the level with the most
    votes wins: midway between the outermost of several with equally many. On [0, 1] the score is
    the share of the votes for above one half.
    """
    if len({(one.min, one.max) for one in said}) > 1:
        said = [_unit(one) for one in said]
    low, high = said[0].min, said[0].max
    values = [one.value for one in said]
    if rule == "vote" and high - low == 1:
        votes = [1.0 if v - low > 0.5 else 0.5 if v - low == 0.5 else 0.0 for v in values]
        value = low + pooled(votes, weights, "mean")
    elif rule == "vote":
        value = _plurality([round(v) for v in values], weights)
    else:
        value = pooled(values, weights, rule)
    spreads = [one.distribution for one in said]
    missing = [one.missing_mass for one in said if one.missing_mass is not None]
    return Score(
        min(max(value, low), high),
        low,
        high,
        _mixed([s for s in spreads if s is not None], weights) if all(spreads) else None,
        _criteria([one.criteria or {} for one in said], weights, rule),
        max(missing) if missing else None,
    )


def _unit(score: Score) -> Score:
    return Score((score.value - score.min) / (score.max - score.min), 0.0, 1.0)


def _plurality(levels: Sequence[int], weights: Sequence[float]) -> float:
    votes: dict[int, float] = {}
    for level, weight in zip(levels, weights, strict=True):
        votes[level] = votes.get(level, 0.0) + weight
    most = max(votes.values())
    first = [level for level, n in votes.items() if n >= most - _LITTLE * max(1.0, most)]
    return (min(first) + max(first)) / 2


def _mixed(spreads: Sequence[Mapping[str, float]], weights: Sequence[float]) -> dict[str, float]:
    """P(level) for a judge drawn by weight."""
    levels = sorted({level for spread in spreads for level in spread}, key=float)
    return {
        level: pooled([spread.get(level, 0.0) for spread in spreads], weights, "mean")
        for level in levels
    }


def _criteria(
    said: Sequence[Mapping[str, Mapping[str, Any]]], weights: Sequence[float], rule: Rule
) -> dict[str, dict[str, Any]] | None:
    """Each criterion that all judges graded on one scale."""
    found = {}
    for name, first in said[0].items():
        grades = [one.get(name, {}) for one in said]
        if any((g.get("min"), g.get("max")) != (first["min"], first["max"]) for g in grades):
            continue
        values = [float(grade["value"]) for grade in grades]
        middle: Rule = "median" if rule == "median" else "mean"
        found[name] = {
            "value": pooled(values, weights, middle),
            **{key: first[key] for key in ("min", "max", "weight") if key in first},
        }
    return found or None
