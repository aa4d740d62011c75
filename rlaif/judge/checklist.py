"""A response checked against yes/no questions that were written before anybody saw it.

judge = ChecklistJudge(backend, load_rubric("helpfulness"))
verdict = await judge.score(item, candidate)
verdict.score.value             # weighted share of the questions answered yes, 0..1
verdict.score.criteria          # by the text of each question: value = P(yes)

The questions come from the prompt (and the reference) alone, so they are the same for all
responses to it, and the store answers from the second response on. Such lists help on prompts with
many checkable demands more than on others: Cook et al. 2024, "TICKing All the Boxes"; a strong
writer and a small judge: Wei et al. 2025, "RocketEval".
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rlaif.backends.base import Backend
from rlaif.errors import VerdictError
from rlaif.judge.checklist_form import (
    ANSWER,
    STAND_INS,
    Question,
    answer_request,
    checklist_criteria,
    parse_questions,
    parse_yes_no,
    question_part,
    questions_ending,
    questions_request,
)
from rlaif.judge.common import RubricSource, rubric_for, rubric_ref
from rlaif.judge.endings import correction
from rlaif.judge.grades import Grade
from rlaif.judge.hearing import (
    REFERENCE_STAND_IN,
    Correct,
    Heard,
    ahead,
    hear,
    hear_reference,
    own_reference,
    together,
)
from rlaif.judge.labels import LEAST_MASS
from rlaif.judge.markers import Markers
from rlaif.judge.record import Record
from rlaif.judge.scales import aggregate_grades, combined_score
from rlaif.judge.screening import OnInjection, Screen
from rlaif.judge.settings import MAX_CHARS, ReferenceFrom, Settings, TooLong
from rlaif.specs.rubric import Rubric
from rlaif.types import (
    Call,
    Candidate,
    Comparison,
    Item,
    JudgeRef,
    Kind,
    OrderVerdict,
    Preference,
    Request,
    Sampling,
    Verdict,
    Winner,
)

_TOP_LOGPROBS = 20
_MOST_PARTS = 4096
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class _Checked:
    """What came of one response."""

    heard: tuple[Heard[Grade], ...]
    """One for each question."""

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(call for one in self.heard for call in one.calls)

    def grades(self) -> list[Grade]:
        """The answers; raises the `VerdictError` of the first that is none."""
        return [one.read() for one in self.heard]


class ChecklistJudge:
    """A judge that writes yes/no questions from a prompt, then answers each for a response.

    Args:
        backend: The model that answers.
        rubric: What the questions are to be about, or what names the rubric of each item.
        writer: The model that writes the questions, and references if it is to; by default the one
            that answers. A strong writer lends a small judge its judgment once a prompt.
        sampling: How questions are drawn: its greedy form, with its `max_tokens`.
        reference: `judge` lets the writer answer the prompt itself, before it writes questions,
            where the item brings no reference.
        reask: Whether a judge whose reply cannot be read is told so, once.
        least_mass: Probability that must lie on Yes and No where tokens have probabilities.
        max_chars, too_long, markers, on_injection, constant: As for `PointwiseJudge`.

    Raises:
        ConfigError: options contradict each other.
    """

    def __init__(
        self,
        backend: Backend,
        rubric: RubricSource,
        *,
        writer: Backend | None = None,
        sampling: Sampling | None = None,
        reference: ReferenceFrom = "given",
        reask: bool = True,
        least_mass: float = LEAST_MASS,
        max_chars: int = MAX_CHARS,
        too_long: TooLong = "refuse",
        markers: Markers | None = None,
        on_injection: OnInjection = "flag",
        constant: Collection[int] = (),
    ) -> None:
        self._backend = backend
        self._writer = writer or backend
        self._rubric = rubric
        self._settings = Settings(
            sampling=sampling or Sampling(),
            top_logprobs=_TOP_LOGPROBS,
            reask=reask,
            reference=reference,
            least_mass=least_mass,
            max_chars=max_chars,
            too_long=too_long,
        )
        self._screen = Screen(self._settings, on_injection, constant)
        self._markers = markers or Markers()
        self._parts: dict[tuple[str, str], Rubric] = {}
        fixed = rubric if isinstance(rubric, Rubric) else None
        if fixed is not None:
            self._settings.check_rubric(fixed)
        ref = rubric_ref(fixed) if fixed is not None else None
        self.ref = JudgeRef(backend.model, self._name(), self._settings.sampling, ref)

    def _name(self) -> str:
        other = self._writer is not self._backend
        by = [f"questions by {self._writer.model}"] if other else []
        return ", ".join(["checklist", *by, *self._settings.named(), *self._screen.named()])

    def writing_requests(self, item: Item, candidate: Candidate) -> list[Request]:
        """What the writer would be asked; nothing where the response is not judged."""
        rubric = rubric_for(self._rubric, item)
        if self._objection(rubric, item, (candidate,)) is not None:
            return []
        first = []
        if self._settings.writes_reference(item):
            first = [own_reference(item, self._settings.sampling)]
            item = replace(item, reference=REFERENCE_STAND_IN)
        return [*first, questions_request(rubric, item, self._settings.sampling, self._markers)]

    def answer_requests(self, item: Item, candidate: Candidate) -> list[Request]:
        """What the judge would be asked about a response, for as many questions as there may be."""
        rubric = rubric_for(self._rubric, item)
        if self._objection(rubric, item, (candidate,)) is not None:
            return []
        if self._settings.writes_reference(item):
            item = replace(item, reference=REFERENCE_STAND_IN)
        return self._answers(rubric, item, self._settings.fitted(candidate), STAND_INS)

    def requests(self, item: Item, candidate: Candidate) -> list[Request]:
        """What scoring would ask, of writer and judge."""
        return [*self.writing_requests(item, candidate), *self.answer_requests(item, candidate)]

    def planned(self, item: Item, *candidates: Candidate) -> Iterator[tuple[Backend, Request]]:
        """What judging candidates of one prompt would ask whom; nobody where one is not judged."""
        answers = [self.answer_requests(item, one) for one in candidates]
        if not all(answers):
            return
        for request in self.writing_requests(item, candidates[0]):
            yield self._writer, request
        for request in (request for one in answers for request in one):
            yield self._backend, request

    async def score(self, item: Item, candidate: Candidate) -> Verdict:
        """The weighted share of questions that the response passes, 0..1.

        Every question must have an answer.

        Raises:
            DataError: the rubric needs a reference and the item has none.
            ConfigError: the judge writes references and the item's rubric shows none.
            BackendError: a fatal failure of the provider.
        """
        record, rubric, failed = self._begun("score", item, (candidate,))
        if failed is not None:
            return failed
        record, item, written = await self._written(record, rubric, item)
        if written.error is not None:
            return record.nothing(written.error)
        questions = written.read()
        checked = await self._checked(rubric, item, candidate, questions)
        record = record.after(checked.calls)
        criteria = checklist_criteria(questions)
        try:
            grades = checked.grades()
        except VerdictError as error:
            return record.nothing(error)
        found = {c.name: aggregate_grades([g]) for c, g in zip(criteria, grades, strict=True)}
        return record.verdict(score=combined_score(criteria, found))

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses passes more of one checklist; identical ones tie without a call.

        P(A preferred) is the weighted mean over the questions of the chance that A passes and B
        does not, equal outcomes half: (1 + score of A - score of B) / 2. No order is shown.

        Raises:
            DataError: the rubric needs a reference and the item has none.
            ConfigError: the judge writes references and the item's rubric shows none.
            BackendError: a fatal failure of the provider.
        """
        item, sides = comparison.item, (comparison.a, comparison.b)
        record, rubric, failed = self._begun("comparison", item, sides)
        if failed is not None:
            return failed
        if comparison.a.response == comparison.b.response:
            return record.verdict(preference=Preference("tie", 0.5, (), consistent=True))
        record, item, written = await self._written(record, rubric, item)
        if written.error is not None:
            return record.nothing(written.error)
        questions = written.read()
        checked = await asyncio.gather(
            *(self._checked(rubric, item, side, questions) for side in sides)
        )
        record = record.after(call for one in checked for call in one.calls)
        try:
            a, b = (one.grades() for one in checked)
        except VerdictError as error:
            return record.nothing(error)
        return record.verdict(
            preference=_preference(questions, a, b), rationale=_told(questions, a, b)
        )

    def _begun(
        self, kind: Kind, item: Item, candidates: tuple[Candidate, ...]
    ) -> tuple[Record, Rubric, Verdict | None]:
        """The record, the rubric, and the verdict where the judge is not asked."""
        rubric, judge = rubric_for(self._rubric, item), self.ref
        if judge.rubric is None:
            self._settings.check_rubric(rubric)
            judge = replace(judge, rubric=rubric_ref(rubric))
        flags = self._screen.flags(rubric, item, candidates)
        record = Record(kind, item, candidates, judge, flags)
        why = self._screen.objection(item, candidates, flags)
        return record, rubric, record.nothing(why) if why is not None else None

    def _objection(
        self, rubric: Rubric, item: Item, candidates: Sequence[Candidate]
    ) -> VerdictError | None:
        flags: Mapping[str, tuple[str, ...]] = self._screen.flags(rubric, item, candidates)
        return self._screen.objection(item, candidates, flags)

    async def _written(
        self, record: Record, rubric: Rubric, item: Item
    ) -> tuple[Record, Item, Heard[tuple[Question, ...]]]:
        """The record with the calls, the item with its reference, and the questions if any."""
        sampling = self._settings.sampling
        if self._settings.writes_reference(item):
            answer = await hear_reference(self._writer, item, sampling)
            record = record.after(answer.calls)
            if answer.error is not None:
                return record, item, Heard((), error=answer.error)
            item = replace(item, reference=answer.read())
        request = questions_request(rubric, item, sampling, self._markers)
        correct = self._correct(questions_ending())
        heard = await hear(self._writer, request, parse_questions, correct=correct)
        return record.after(heard.calls), item, heard

    async def _checked(
        self, rubric: Rubric, item: Item, candidate: Candidate, questions: Sequence[Question]
    ) -> _Checked:
        requests = self._answers(rubric, item, self._settings.fitted(candidate), questions)
        read = partial(parse_yes_no, least_mass=self._settings.least_mass)
        correct = self._correct(ANSWER)
        jobs = [partial(hear, self._backend, one, read, correct=correct) for one in requests]
        return _Checked(tuple(await together(jobs, ahead(self._backend, requests[0].shared))))

    def _answers(
        self, rubric: Rubric, item: Item, candidate: Candidate, questions: Sequence[Question]
    ) -> list[Request]:
        sampling = self._settings.sampling
        parts = [self._part(rubric, question.text) for question in questions]
        return [answer_request(part, item, candidate, sampling, self._markers) for part in parts]

    def _part(self, rubric: Rubric, question: str) -> Rubric:
        key = (rubric.digest, question)
        if (known := self._parts.get(key)) is None:
            if len(self._parts) >= _MOST_PARTS:
                self._parts.clear()
            known = self._parts[key] = question_part(rubric, question)
        return known

    def _correct(self, ending: str) -> Correct | None:
        return (lambda error: correction(error, ending)) if self._settings.reask else None


def _preference(
    questions: Sequence[Question], a: Sequence[Grade], b: Sequence[Grade]
) -> Preference:
    weights = [c.weight for c in checklist_criteria(questions)]
    ahead = sum(w * (x.value - y.value) for w, x, y in zip(weights, a, b, strict=True))
    winner: Winner = "tie" if abs(ahead) < _SAME else "A" if ahead > 0 else "B"
    p_a = 0.5 if winner == "tie" else (1 + ahead) / 2
    soft = any(grade.distribution for grade in (*a, *b))
    masses = [g.missing_mass for g in (*a, *b) if g.missing_mass is not None]
    order = OrderVerdict(
        "AB",
        winner,
        p_a,
        source="tokens" if soft else "verdict",
        missing_mass=max(masses, default=None),
    )
    # each response was read by itself, so the other order can only say the same
    return Preference(winner, p_a, (order, replace(order, shown="BA")), consistent=True)


def _told(questions: Sequence[Question], a: Sequence[Grade], b: Sequence[Grade]) -> str:
    """The checklist with P(yes) of both responses: a preference has no other place for it."""
    rows = zip(questions, a, b, strict=True)
    return "\n".join(f"A {x.value:.2f}, B {y.value:.2f}: {q.text}" for q, x, y in rows)
