"""Judges without a model, for rewards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rlaif.errors import BackendError, Cause
from rlaif.judge.common import no_verdict, verdict_id
from rlaif.types import (
    Candidate,
    Comparison,
    Item,
    JudgeRef,
    Preference,
    Sampling,
    Score,
    Verdict,
)

REF = JudgeRef("test/judge", "verdict", Sampling())


class Grader:
    """Grades 1 to 5 by a function of the text; a cause instead of a grade is no verdict."""

    ref = REF

    def __init__(
        self, grade: Callable[[str], float | Cause | BackendError], wait_s: float = 0.0
    ) -> None:
        self._grade = grade
        self._wait_s = wait_s
        self.items: list[Item] = []
        self.asked: list[str] = []

    async def score(self, item: Item, candidate: Candidate) -> Verdict:
        self.items.append(item)
        self.asked.append(candidate.text)
        await asyncio.sleep(self._wait_s)
        made = self._grade(candidate.text)
        if isinstance(made, BackendError):
            raise made
        if isinstance(made, str):
            return no_verdict("score", item, (candidate,), REF, made, reason="it said nothing")
        name = verdict_id("score", item, (candidate,), REF)
        score = Score(float(made), 1.0, 5.0)
        return Verdict(
            name, "score", item, (candidate,), REF, "ok", score=score, rationale="because"
        )


class Comparing:
    """Prefers with a probability that is a function of both texts; a cause is no verdict."""

    ref = REF

    def __init__(self, p_a: Callable[[str, str], float | Cause]) -> None:
        self._p_a = p_a
        self.asked: list[tuple[str, str]] = []

    async def compare(self, comparison: Comparison) -> Verdict:
        sides = (comparison.a, comparison.b)
        self.asked.append((comparison.a.text, comparison.b.text))
        made = self._p_a(comparison.a.text, comparison.b.text)
        if isinstance(made, str):
            return no_verdict("comparison", comparison.item, sides, REF, made)
        winner = "A" if made > 0.5 else "B" if made < 0.5 else "tie"
        preference = Preference(winner, made, (), consistent=True)  # type: ignore[arg-type]
        name = verdict_id("comparison", comparison.item, sides, REF)
        return Verdict(name, "comparison", comparison.item, sides, REF, "ok", preference=preference)
