"""One response graded by a rubric: all criteria in one call, weighted into one score."""

from __future__ import annotations

from typing import Any

from rlaif.backends.base import Backend
from rlaif.errors import VerdictError
from rlaif.judge.common import ask, no_verdict, rubric_ref, verdict_id
from rlaif.judge.parsing import parse_score, rationale
from rlaif.judge.rendering import render_score
from rlaif.specs.rubric import Rubric
from rlaif.types import Candidate, Completion, Item, JudgeRef, Request, Sampling, Score, Verdict


class PointwiseJudge:
    """A judge that grades one response on each criterion of a rubric.

    Args:
        backend: The model that judges.
        rubric: What it judges by.
        sampling: How it draws its replies; greedy by default.
        top_logprobs: How many token probabilities to ask for, for expected grades; 0 for none.
    """

    def __init__(
        self,
        backend: Backend,
        rubric: Rubric,
        *,
        sampling: Sampling | None = None,
        top_logprobs: int = 10,
    ) -> None:
        self._backend = backend
        self._rubric = rubric
        self._sampling = sampling or Sampling()
        self._top_logprobs = top_logprobs
        self.ref = JudgeRef(backend.model, "verdict", self._sampling, rubric_ref(rubric))

    def request(self, item: Item, candidate: Candidate) -> Request:
        """What grading would ask."""
        return Request(
            render_score(self._rubric, item, candidate),
            sampling=self._sampling,
            top_logprobs=self._top_logprobs,
        )

    async def score(self, item: Item, candidate: Candidate) -> Verdict:
        """The grade of `candidate`.

        Raises:
            DataError: the rubric needs a reference and the item has none.
            BackendError: a fatal failure of the provider.
        """
        asked = await ask(self._backend, self.request(item, candidate))
        candidates, calls = (candidate,), (asked.call,)
        try:
            reply = asked.reply()
            score = self._score(reply)
        except VerdictError as error:
            return no_verdict("score", item, candidates, self.ref, error.cause, calls, str(error))
        return Verdict(
            id=verdict_id("score", item, candidates, self.ref),
            kind="score",
            item=item,
            candidates=candidates,
            judge=self.ref,
            status="ok",
            score=score,
            rationale=rationale(reply),
            calls=calls,
        )

    def _score(self, reply: Completion) -> Score:
        criteria = self._rubric.criteria
        found = parse_score(reply, criteria)
        details: dict[str, dict[str, Any]] = {}
        for criterion in criteria:
            value, spread = found[criterion.name]
            details[criterion.name] = {
                "value": value,
                "min": criterion.scale.min,
                "max": criterion.scale.max,
                "weight": criterion.weight,
                **({"distribution": spread} if spread else {}),
            }
        if len(criteria) == 1:
            scale = criteria[0].scale
            value, spread = found[criteria[0].name]
            return Score(value, scale.min, scale.max, distribution=spread, criteria=details)
        scales = {(c.scale.min, c.scale.max) for c in criteria}
        if len(scales) == 1:
            low, high = scales.pop()
            return Score(
                sum(c.weight * found[c.name][0] for c in criteria), low, high, None, details
            )
        # criteria on different scales meet on [0, 1]
        value = sum(
            c.weight * (found[c.name][0] - c.scale.min) / (c.scale.max - c.scale.min)
            for c in criteria
        )
        return Score(value, 0.0, 1.0, None, details)
