"""What a person said, as a verdict record: the same that a judge gives, by `human/NAME`.

    vote(item, (a, b), by("anna", rubric), "A", "BA", "It answers the question.")
    rating(item, one, by("anna", rubric), score_of({"clarity": 4}, criteria), "")

So whatever takes verdicts takes labels: agreement, calibration, preferences, training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from rlaif.errors import SpecError
from rlaif.judge.common import verdict_id
from rlaif.judge.scales import CriterionScore, combined_score
from rlaif.specs.describe import describe
from rlaif.specs.rubric import Criterion
from rlaif.types import (
    Candidate,
    Item,
    JudgeRef,
    Kind,
    OrderVerdict,
    Preference,
    RubricRef,
    Sampling,
    Score,
    Shown,
    Verdict,
    Winner,
)

Vote = Literal["A", "B", "tie", "bad"]
"""A is `candidates[0]`, whatever was shown; `bad` is a tie of two bad responses."""

HUMAN = "human/"
"""How the judge of a person's label is called, before the person's name."""
BOTH_BAD = "both_bad"
"""The flag of both candidates of a tie of two bad responses."""

_P: dict[Vote, float] = {"A": 1.0, "B": 0.0, "tie": 0.5, "bad": 0.5}


def by(name: str, rubric: RubricRef | None = None, method: str = "verdict") -> JudgeRef:
    """The person called `name` as a judge."""
    return JudgeRef(f"{HUMAN}{name}", method, Sampling(), rubric)


def vote_of(verdict: Verdict) -> Vote | None:
    """What was said of a pair; None where there is no verdict."""
    if verdict.preference is None:
        return None
    flags = verdict.flags or {}
    if verdict.candidates and all(BOTH_BAD in flags.get(c.id, ()) for c in verdict.candidates):
        return "bad"
    return verdict.preference.winner


def vote(
    item: Item,
    pair: tuple[Candidate, ...],
    judge: JudgeRef,
    said: Vote,
    shown: Shown = "AB",
    reason: str = "",
) -> Verdict:
    """What a person said of a pair, A being its first."""
    winner: Winner = said if said in ("A", "B") else "tie"
    order = OrderVerdict(shown, winner, _P[said], source="verdict")
    flags = {one.id: (BOTH_BAD,) for one in pair} if said == "bad" else None
    made = _record("comparison", item, pair, judge, reason)
    preference = Preference(winner, _P[said], (order,), consistent=True)
    return replace(made, preference=preference, flags=flags)


def rating(
    item: Item, candidates: tuple[Candidate, ...], judge: JudgeRef, score: Score, reason: str = ""
) -> Verdict:
    """What a person said of one response."""
    return replace(_record("score", item, candidates, judge, reason), score=score)


def _record(
    kind: Kind, item: Item, candidates: tuple[Candidate, ...], judge: JudgeRef, reason: str
) -> Verdict:
    return Verdict(
        id=verdict_id(kind, item, candidates, judge),
        kind=kind,
        item=item,
        candidates=candidates,
        judge=judge,
        status="ok",
        rationale=reason or None,
    )


def score_of(grades: object, criteria: Sequence[Criterion]) -> Score:
    """The score that grades make, on the scale that a judge's score by these criteria has.

    Args:
        grades: A level for each criterion, by its name.
        criteria: What is graded.

    Raises:
        SpecError: a criterion has no grade on its scale, or is unknown.
    """
    if not isinstance(grades, Mapping):
        raise SpecError(f"is a level by criterion, not {describe(grades)}", field="grades")
    names = [one.name for one in criteria]
    if stray := next((name for name in grades if name not in names), None):
        raise SpecError(f"there is no criterion {str(stray)[:64]!r}", field="grades")
    found = {}
    for one in criteria:
        level = grades.get(one.name)
        if isinstance(level, float) and level.is_integer():  # JSON has 3.0 for 3 too
            level = int(level)
        if isinstance(level, bool) or not isinstance(level, int) or level not in one.scale.levels:
            scale = f"{one.scale.min} to {one.scale.max}"
            message = f"is a whole number from {scale}, not {describe(level)}"
            raise SpecError(message, field=f"grades.{one.name}")
        found[one.name] = CriterionScore(float(level), None, None, 1)
    return combined_score(criteria, found)
