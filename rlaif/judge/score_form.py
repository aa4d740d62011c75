"""What a judge is asked about one response, and how its reply is read: two halves of one agreement.

A part is a rubric of the criteria that one call asks about: the whole rubric, or one criterion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from rlaif.backends.base import Backend
from rlaif.errors import VerdictError
from rlaif.judge import endings
from rlaif.judge.grades import (
    Grade,
    has_probabilities,
    level_names,
    parse_grades,
    parse_level,
    parse_structured_grades,
)
from rlaif.judge.hearing import Correct, Heard, ahead, hear, hear_all, together
from rlaif.judge.labels import longest_level
from rlaif.judge.markers import Markers
from rlaif.judge.rendering import render_score, shared_length
from rlaif.judge.settings import Settings
from rlaif.judge.structured import score_schema
from rlaif.specs.rubric import Rubric
from rlaif.types import Call, Candidate, Completion, Item, Request

ScoreMethod = Literal["verdict", "expectation"]
"""Reasons as the rubric wants them and grade marks, or the probabilities of the levels."""
CriteriaCalls = Literal["one", "each"]

Grades = Mapping[str, Grade]
"""Grades by the criterion's name."""

_DRAWN_TEMPERATURE = 1.0
"""Draws that stand in for probabilities are drawn as the model would speak."""


class NoProbabilities(VerdictError):  # noqa: N818
    """The backend gave no token probabilities where a level was to be read from them."""


@dataclass(frozen=True, slots=True)
class Graded:
    """What came of one part."""

    heard: tuple[Heard[Grades], ...]
    """One for each draw that counts."""
    tried: tuple[Call, ...] = ()
    """Calls before those, which told nothing."""

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call, in order."""
        return (*self.tried, *(call for one in self.heard for call in one.calls))


@dataclass(frozen=True, slots=True)
class ScoreForm:
    """What is asked for about a response.

    Args:
        method: Grade marks, or the probabilities of the levels.
        settings: How the judge asks.
        fallback_draws: Replies that stand in for probabilities where a backend gives none.
        markers: Where the codes in the tags around judged text come from.
    """

    method: ScoreMethod
    settings: Settings
    fallback_draws: int
    markers: Markers

    def ending(self, part: Rubric) -> str:
        """The last block of the prompt."""
        if self.method == "expectation":
            return endings.score_token_ending(part.criteria[0])
        ask = endings.score_json_ending if self.settings.structured else endings.score_ending
        return ask(part.reasoning, part.criteria)

    def correct(self, part: Rubric) -> Correct | None:
        """What a judge is told whose reply cannot be read; `None` where it is asked once."""
        if not self.settings.reask:
            return None

        def told(error: VerdictError) -> str | None:
            if isinstance(error, NoProbabilities):
                return None
            if self.method == "expectation":
                return endings.correction(error, self.ending(part))
            ask = endings.score_json_ending if self.settings.structured else endings.score_ending
            return endings.correction(error, ask("none", part.criteria))

        return told

    def requests(
        self, part: Rubric, item: Item, candidate: Candidate, *, parts: int
    ) -> list[Request]:
        """The requests about one part of `parts`: one for each draw."""
        last = parts > 1
        messages = render_score(
            part,
            item,
            candidate,
            ending=self.ending(part),
            criteria_last=last,
            markers=self.markers,
        )
        shared = len(messages[-1].content) if self.settings.draws > 1 else 0
        if last and "score" not in part.prompts:
            shared = shared_length(messages, item, criteria_last=True, markers=self.markers)
        settings, code = self.settings, self.markers.code(item)
        sampling, schema = settings.sampling, None
        choices: tuple[str, ...] = ()
        if self.method == "expectation":
            choices = level_names(part.criteria[0].scale)
            tokens = longest_level(choices)
            sampling = replace(sampling, temperature=0.0, top_p=1.0, max_tokens=tokens)
        elif settings.structured:
            schema = score_schema(part.criteria, part.reasoning)
        return [
            Request(
                messages,
                sampling=sampling,
                draw=draw,
                top_logprobs=settings.top_logprobs,
                choices=choices,
                json_schema=schema,
                shared=shared,
                code=code,
            )
            for draw in range(settings.draws)
        ]

    def reader(self, part: Rubric) -> Callable[[Completion], Grades]:
        """What reads the grades in a reply; it raises `VerdictError` where there are none."""
        criteria = part.criteria
        if self.method == "expectation":
            return lambda completion: _expected(completion, part, self.settings.least_mass)
        if self.settings.structured:
            return lambda completion: parse_structured_grades(completion, criteria)
        return lambda completion: parse_grades(completion, criteria)

    async def grade(self, backend: Backend, part: Rubric, requests: Sequence[Request]) -> Graded:
        """What the judge says about one part, asked by its `requests`.

        Raises:
            BackendError: a fatal failure of the provider.
        """
        read, correct = self.reader(part), self.correct(part)
        asks = [(None, request) for request in requests]
        heard = await hear_all(backend, asks, read, correct=correct)
        if isinstance(heard[0].error, NoProbabilities):
            drawn = await self._drawn(backend, part, requests[0])
            return Graded(drawn, tried=heard[0].calls)
        return Graded(tuple(heard))

    async def _drawn(
        self, backend: Backend, part: Rubric, request: Request
    ) -> tuple[Heard[Grades], ...]:
        """Draws in place of the probabilities that the backend does not give."""
        sampling, draws = self.settings.sampling, self.fallback_draws
        if draws > 1 and sampling.temperature == 0:
            sampling = replace(sampling, temperature=_DRAWN_TEMPERATURE)
        criterion, correct = part.criteria[0], self.correct(part)

        def read(completion: Completion) -> Grades:
            return {criterion.name: parse_level(completion, criterion)}

        asked = [
            replace(request, sampling=sampling, draw=draw, top_logprobs=0) for draw in range(draws)
        ]
        jobs = [partial(hear, backend, one, read, correct=correct) for one in asked]
        shared = ahead(backend, len(request.messages[-1].content))
        return tuple(await together(jobs, shared))


def _expected(completion: Completion, part: Rubric, least_mass: float) -> Grades:
    if completion.finish_reason != "refusal" and not has_probabilities(completion):
        message = "the backend gives no token probabilities"
        raise NoProbabilities(message, cause="unreadable", reply=completion.text)
    criterion = part.criteria[0]
    return {criterion.name: parse_level(completion, criterion, least_mass=least_mass)}


def parts_of(rubric: Rubric, each: bool) -> tuple[Rubric, ...]:
    """The rubrics to ask about: `rubric` whole, or one for each criterion."""
    if not each or len(rubric.criteria) == 1:
        return (rubric,)
    return tuple(replace(rubric, criteria=(replace(c, weight=1.0),)) for c in rubric.criteria)
