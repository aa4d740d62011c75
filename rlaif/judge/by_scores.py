"""Two responses compared by their scores: each is graded alone, and the higher score wins.

    judge = ByScoresJudge(PointwiseJudge(backend, rubric, method="expectation"))
    verdict = await judge.compare(comparison)
    verdict.preference.p_a          # Phi of the difference in standard deviations

What a pointwise judge is worth on pairs that people labeled is found this way. No response is seen
beside another, so the order of a pair cannot matter; equal scores are a tie, which grades without
probabilities often are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import copysign, erf, sqrt
from typing import Any

from rlaif.backends.base import Backend
from rlaif.errors import VerdictError
from rlaif.judge.checklist import ChecklistJudge
from rlaif.judge.pointwise import PointwiseJudge
from rlaif.types import (
    Comparison,
    OrderVerdict,
    Preference,
    PreferenceSource,
    Request,
    Score,
    Verdict,
    Winner,
)

_SAME = 1e-9


class ByScoresJudge:
    """A judge of pairs that grades each response alone.

    Args:
        judge: Who grades.
    """

    def __init__(self, judge: PointwiseJudge) -> None:
        self._judge = judge
        self.ref = replace(judge.ref, method=f"scores, {judge.ref.method}")

    def requests(self, comparison: Comparison) -> list[Request]:
        """What comparing would ask where every reply can be read; none where nobody is asked."""
        item, sides = comparison.item, (comparison.a, comparison.b)
        if comparison.a.response == comparison.b.response:
            return []
        asked = [self._judge.requests(item, side) for side in sides]
        return [request for one in asked for request in one] if all(asked) else []

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which response scores higher; identical ones tie without a call.

        P(A preferred) is Phi((s_a - s_b) / sqrt(var_a + var_b)), the variances those of the grades'
        distributions, criteria and responses independent: Thurstone 1927, "A Law of Comparative
        Judgment", case III. Where grades have no distribution it is 1, 0.5 or 0.

        Raises:
            DataError: the rubric needs a reference and the item has none.
            ConfigError: the judge writes references and the item's rubric shows none.
            BackendError: a fatal failure of the provider.
        """
        item, sides = comparison.item, (comparison.a, comparison.b)
        record, _, why = self._judge.begun("comparison", item, sides)
        record = replace(record, judge=replace(self.ref, rubric=record.judge.rubric))
        if comparison.a.response == comparison.b.response:
            return record.verdict(preference=Preference("tie", 0.5, (), consistent=True))
        if why is not None:
            return record.nothing(why)
        a, b = await asyncio.gather(*(self._judge.score(item, side) for side in sides))
        record = record.after((*a.calls, *b.calls))
        if a.score is None or b.score is None:
            return record.nothing(_failure(a, b))
        return record.verdict(preference=preference_by(a.score, b.score), rationale=_told(a, b))


class ChecklistPairs:
    """A checklist judge as a judge of pairs.

    Args:
        judge: Who writes and answers the checklist.
    """

    def __init__(self, judge: ChecklistJudge) -> None:
        self._judge = judge
        self.ref, self.compare = judge.ref, judge.compare

    def requests(self, comparison: Comparison) -> list[Request]:
        """What comparing may ask, of writer and judge."""
        return [request for _, request in self.planned(comparison)]

    def planned(self, comparison: Comparison) -> Iterator[tuple[Backend, Request]]:
        """What comparing may ask whom, for as many questions as there may be."""
        if comparison.a.response != comparison.b.response:
            yield from self._judge.planned(comparison.item, comparison.a, comparison.b)


def preference_by(a: Score, b: Score) -> Preference:
    """The preference for the higher of two scores by one rubric, as both orders would give it."""
    ahead, sd = a.value - b.value, sqrt(_variance(a) + _variance(b))
    winner: Winner = "A" if ahead > _SAME else "B" if ahead < -_SAME else "tie"
    p_a = 0.5
    if winner != "tie":
        share = erf(ahead / sd / sqrt(2)) if sd > 0 else copysign(1.0, ahead)
        p_a = 0.5 * (1.0 + share)
    masses = [m for m in (a.missing_mass, b.missing_mass) if m is not None]
    details = [*_details(a), *_details(b)]
    draws = min((int(detail.get("draws", 1)) for detail in details), default=1)
    order = OrderVerdict(
        "AB",
        winner,
        p_a,
        draws=draws if draws > 1 else None,
        source=_source(details),
        missing_mass=max(masses, default=None),
    )
    # each response was read by itself, so the other order can only say the same
    return Preference(winner, p_a, (order, replace(order, shown="BA")), consistent=True)


def _source(details: Sequence[Mapping[str, Any]]) -> PreferenceSource:
    if any("draws" in detail for detail in details):
        return "draws"
    return "tokens" if any(detail.get("distribution") for detail in details) else "verdict"


def _details(score: Score) -> list[Mapping[str, Any]]:
    return list((score.criteria or {}).values())


def _variance(score: Score) -> float:
    """Of the score over the distributions of its criteria; 0 where there are none."""
    details = _details(score)
    scales = {(detail["min"], detail["max"]) for detail in details}
    total = 0.0
    for detail in details:
        spread = detail.get("distribution") or {}
        mean = sum(int(level) * p for level, p in spread.items())
        variance = sum(p * (int(level) - mean) ** 2 for level, p in spread.items())
        # criteria on different scales meet on [0, 1], as in `combined_score`
        width = detail["max"] - detail["min"] if len(scales) > 1 else 1
        total += (detail["weight"] / width) ** 2 * variance
    return total


def _failure(a: Verdict, b: Verdict) -> VerdictError:
    """Why there is no verdict: of two reasons the one that ends runs, else the first."""
    failed = [(name, one) for name, one in (("A", a), ("B", b)) if one.cause is not None]
    name, one = next((pair for pair in failed if pair[1].cause == "budget"), failed[0])
    assert one.cause is not None
    return VerdictError(f"response {name}: {one.rationale}", cause=one.cause)


def _told(a: Verdict, b: Verdict) -> str:
    """Both scores, criterion by criterion, and the reasons: a preference has no other place."""
    assert a.score is not None
    assert b.score is not None
    lines = [f"A {a.score.value:.4g}, B {b.score.value:.4g}"]
    of_a, of_b = a.score.criteria or {}, b.score.criteria or {}
    if len(of_a) > 1:
        lines += [f"A {of_a[n]['value']:.4g}, B {of_b[n]['value']:.4g}: {n}" for n in of_a]
    reasons = [f"{name}: {one.rationale}" for name, one in (("A", a), ("B", b)) if one.rationale]
    return "\n\n".join(["\n".join(lines), *reasons])
