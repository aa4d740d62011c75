"""MT-Bench's protocol: its questions, answers and references, and what is judged of them.

Two turns a question; a turn is judged with the whole conversation up to it in view, and the judge
is asked about the last. Questions of math, reasoning and coding are judged beside a reference
answer. Zheng et al. 2023 (arXiv 2306.05685), section 3 and appendix A; the files are FastChat's.

    questions = load_questions(Path("question.jsonl"))
    answers = [load_answers(path, questions) for path in named_files(folder).values()]
    matches = single_matches(questions, answers, References({}))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from rlaif.backends.base import Backend
from rlaif.errors import BackendError, Cause, ConfigError, SpecError, suggestion
from rlaif.evals.fields import Row, claim, named_files, rows_of
from rlaif.runner import ordered
from rlaif.specs.describe import describe
from rlaif.types import Candidate, Item, Message, Messages, Request, Sampling

Kind = Literal["single", "pair"]

REFERENCE_CATEGORIES = frozenset({"math", "reasoning", "coding", "arena-hard-200"})
"""Categories whose answers are judged beside a reference."""
TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "stem": 0.1,
    "humanities": 0.1,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
}
"""At what temperature a category's questions are answered."""
OTHER_TEMPERATURE = 0.7
"""The same for a category that is not listed."""

_QUESTION_COLUMNS = ("question_id", "category", "turns", "reference", "required_temperature")
_ANSWER_COLUMNS = ("question_id", "answer_id", "model_id", "choices", "tstamp")


@dataclass(frozen=True, slots=True)
class Question:
    """One question, of one turn or more."""

    id: str
    number: int | str
    """The `question_id` as the file has it."""
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...]
    """Its own reference answers, turn by turn, where the file gives any."""
    temperature: float
    """At what temperature it is answered: its own, or its category's."""
    meta: Mapping[str, Any]
    row: Row

    def request(self, answered: Sequence[str], sampling: Sampling) -> Request:
        """What asks for the next turn's answer, with the answers so far in view."""
        messages: list[Message] = []
        for turn, answer in zip(self.turns, answered, strict=False):
            messages += [Message("user", turn), Message("assistant", answer)]
        messages.append(Message("user", self.turns[len(answered)]))
        drawn = Sampling(self.temperature, sampling.top_p, sampling.max_tokens, sampling.seed)
        return Request(tuple(messages), sampling=drawn)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a model has no answer to a question."""

    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model answered: the text of every turn, by the question's id."""

    model: str
    turns: Mapping[str, tuple[str, ...]]
    failures: Mapping[str, Failure] = field(default_factory=dict)
    cut: int = 0
    """How many turns ended at the token limit."""
    repeated: int = 0
    """How many rows of the file a later one of the same question replaced."""
    ids: frozenset[str] = frozenset()
    """Every `model_id` of the file."""
    path: str | None = None


@dataclass(frozen=True, slots=True)
class References:
    """Reference answers, turn by turn, by the question's id; `path` names them in errors."""

    turns: Mapping[str, tuple[str, ...]]
    path: str | None = None
    off: bool = False
    """Judge without references, whatever the category."""


@dataclass(frozen=True)
class Match:
    """One turn to judge: of one model's answers, or of two models' side by side."""

    question: Question
    turn: int
    """From 1."""
    answers: tuple[Answers, ...]
    references: tuple[str, ...] = ()
    """Up to this turn; empty where it is judged without."""

    @cached_property
    def failure(self) -> Failure | None:
        """Why there is nothing to judge, if so."""
        for answers in self.answers:
            if (failure := answers.failures.get(self.question.id)) is not None:
                return Failure(failure.cause, f"no answer by {answers.model}: {failure.reason}")
        return None

    @cached_property
    def said(self) -> tuple[tuple[str, ...], ...]:
        """For each model its answers up to this turn; empty for one that has none."""
        known = (answers.turns.get(self.question.id, ()) for answers in self.answers)
        return tuple(turns[: self.turn] for turns in known)

    @cached_property
    def item(self) -> Item:
        """The question's turn: the opening is the prompt, what follows belongs to the response."""
        question = self.question
        where = {"question_id": question.number, "turn": self.turn, "category": question.category}
        return Item(
            f"{question.id}:{self.turn}",
            (Message("user", question.turns[0]),),
            _joined(self.references) if self.references else None,
            {**question.meta, "dataset": "mt-bench", **where},
        )

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The models' sides of the conversation up to this turn."""
        return tuple(
            Candidate(answers.model, self._conversation(said), answers.model)
            for answers, said in zip(self.answers, self.said, strict=True)
        )

    def _conversation(self, said: tuple[str, ...]) -> Messages:
        messages: list[Message] = []
        for place, answer in enumerate(said):
            if place:
                messages.append(Message("user", self.question.turns[place]))
            messages.append(Message("assistant", answer))
        return tuple(messages)


def _joined(references: Sequence[str]) -> str:
    if len(references) == 1:
        return references[0]
    return "\n\n".join(f"Turn {turn}:\n{text}" for turn, text in enumerate(references, 1))


def load_questions(path: Path) -> list[Question]:
    """The questions of a `question.jsonl`, in order.

    Raises:
        SpecError: the file cannot be read, an id occurs twice, or a field does not fit.
    """
    taken: dict[str, Row] = {}
    questions = []
    for row in rows_of(path):
        question = _question(row)
        claim(taken, question.id, row, "question_id")
        questions.append(question)
    return questions


def _question(row: Row) -> Question:
    meta = row.others(_QUESTION_COLUMNS)
    category = row.text("category")
    turns = row.texts("turns")
    for place, turn in enumerate(turns):
        if not turn.strip():
            row.fail("is empty", f"turns.{place}")
    return Question(
        id=str(row.key("question_id")),
        number=row.key("question_id"),
        category=category,
        turns=turns,
        references=_own_references(row),
        temperature=_temperature(row, category),
        meta=meta,
        row=row,
    )


def _own_references(row: Row) -> tuple[str, ...]:
    # FastChat's own question file has empty lists and empty texts among them
    if not row.has("reference") or row.take("reference") in ("", []):
        return ()
    if isinstance(row.take("reference"), str):
        return (row.text("reference"),)
    return row.texts("reference")


def _temperature(row: Row, category: str) -> float:
    if not row.has("required_temperature"):
        return TEMPERATURES.get(category, OTHER_TEMPERATURE)
    value = row.required("required_temperature")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        row.fail(f"should be a number from 0 to 2, found {describe(value)}", "required_temperature")
    return float(value)


def load_answers(path: Path, questions: Sequence[Question], model: str | None = None) -> Answers:
    """What the file of one model holds: FastChat's `model_answer/MODEL.jsonl`.

    The model is called as the file is, FastChat's own rule. Files are appended to, so of several
    rows of one question the last counts.

    Args:
        path: The file.
        questions: Every question of the benchmark.
        model: The model's name; by default the file's, without its ending.

    Raises:
        SpecError: the file cannot be read, a row does not fit, or is about no question.
    """
    known = {question.id: question for question in questions}
    turns: dict[str, tuple[str, ...]] = {}
    ids, rows = set(), 0
    for row in rows_of(path):
        rows += 1
        row.others(_ANSWER_COLUMNS)
        name = str(row.key("question_id"))
        if name not in known:
            row.fail(f"there is no question {name!r}", "question_id")
        turns[name] = _answered(row, known[name])
        if row.has("model_id"):
            ids.add(row.text("model_id"))
    named = path.name.removesuffix(".gz").removesuffix(".jsonl")
    return Answers(
        model or named, turns, repeated=rows - len(turns), ids=frozenset(ids), path=str(path)
    )


def _answered(row: Row, question: Question) -> tuple[str, ...]:
    choices = row.required("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        row.fail(f"should be a list of choices, found {describe(choices)}", "choices")
    first = choices[0].get("turns")
    if not isinstance(first, list) or not all(isinstance(turn, str) for turn in first):
        row.fail(f"should be a list of texts, found {describe(first)}", "choices.0.turns")
    if len(first) < len(question.turns):
        message = f"answers {len(first)} of the {len(question.turns)} turns of {question.id!r}"
        row.fail(message, "choices.0.turns")
    return tuple(first)


def check_complete(answers: Answers, questions: Iterable[Question]) -> None:
    """Raise `SpecError` at the first question that a file of answers leaves out."""
    for question in questions:
        if question.id not in answers.turns and question.id not in answers.failures:
            message = f"holds no answer to question {question.id!r}"
            raise SpecError(message, path=answers.path, field="question_id")


def load_references(path: Path, questions: Sequence[Question], judge: str) -> References:
    """The reference answers of a file, or of the file in a folder that is called as the judge is.

    Raises:
        SpecError: no such file, no file for this judge, or a row that does not fit.
    """
    if path.is_dir():
        files = named_files(path)
        name = judge.rpartition("/")[2]
        if len(files) > 1 and name not in files:
            message = f"holds the references of several judges, none of {name!r}: name one file"
            raise SpecError(message, path=path)
        path = files[name] if name in files else next(iter(files.values()))
    return References(load_answers(path, questions).turns, str(path))


def references_of(question: Question, turn: int, given: References) -> tuple[str, ...]:
    """The reference answers up to `turn`: those given, else the question's own.

    Raises:
        SpecError: there are none, or too few.
    """
    found = given.turns.get(question.id) if given.path else question.references
    if not found:
        path, line = (given.path, None) if given.path else (question.row.path, question.row.line)
        message = (
            f"question {question.id!r} ({question.category}) is judged beside a reference and has "
            "none: give --references, or --references none to judge without"
        )
        field_name = "question_id" if given.path else "reference"
        raise SpecError(message, path=path, line=line, field=field_name)
    if len(found) < turn:
        message = f"the reference of question {question.id!r} has {len(found)} turns, not {turn}"
        path, line = (given.path, None) if given.path else (question.row.path, question.row.line)
        raise SpecError(message, path=path, line=line, field="reference")
    return found[:turn]


def single_matches(
    questions: Sequence[Question],
    models: Sequence[Answers],
    references: References,
    *,
    always: bool = False,
) -> Iterator[Match]:
    """Every turn of every model's answers, model by model.

    Args:
        questions: What is judged.
        models: Whose answers.
        references: For the categories that need one.
        always: Every category needs one.

    Raises:
        SpecError: a reference is missing.
    """
    for answers in models:
        yield from _matches(questions, (answers,), references, always)


def pair_matches(
    questions: Sequence[Question],
    models: Sequence[Answers],
    references: References,
    *,
    baseline: str | None = None,
    always: bool = False,
) -> Iterator[Match]:
    """Every turn of the models against the baseline, or of every pair of models without one.

    A pair's A is the model, its B the baseline; without one the earlier model comes first.

    Raises:
        SpecError: a reference is missing.
        ConfigError: there is no such baseline, or nothing to compare.
    """
    pairs: list[tuple[Answers, ...]] = list(combinations(models, 2))
    if baseline is not None:
        names = {answers.model: answers for answers in models}
        if baseline not in names:
            hint = suggestion(baseline, names)
            raise ConfigError(f"there are no answers of the baseline {baseline!r}: {hint}")
        pairs = [(answers, names[baseline]) for answers in models if answers.model != baseline]
    if not pairs:
        raise ConfigError("pairwise judging needs the answers of two models or more")
    for pair in pairs:
        yield from _matches(questions, pair, references, always)


def _matches(
    questions: Sequence[Question],
    models: tuple[Answers, ...],
    references: References,
    always: bool,
) -> Iterator[Match]:
    for question in questions:
        needed = (always or question.category in REFERENCE_CATEGORIES) and not references.off
        for turn in range(1, len(question.turns) + 1):
            shown = references_of(question, turn, references) if needed else ()
            yield Match(question, turn, models, shown)


async def answer_questions(
    backend: Backend,
    questions: Sequence[Question],
    sampling: Sampling,
    *,
    concurrency: int,
    progress: Callable[[int, str], None] = lambda steps, note: None,
) -> Answers:
    """The model's answers, turn after turn in one conversation; a failure is kept, not raised.

    Args:
        backend: The model that answers.
        questions: What it is asked.
        sampling: Token limit and seed; the temperature is each question's.
        concurrency: Most conversations at once.
        progress: Told after each question.

    Raises:
        BackendError: a fatal failure of the provider.
    """
    turns: dict[str, tuple[str, ...]] = {}
    failures: dict[str, Failure] = {}
    cut = 0

    async def converse(question: Question) -> tuple[Question, list[str], int, Failure | None]:
        said: list[str] = []
        shortened = 0
        for _ in question.turns:
            try:
                done = await backend.complete(question.request(said, sampling))
            except BackendError as error:
                if error.fatal:
                    raise
                return question, said, shortened, Failure("provider_error", str(error))
            shortened += done.finish_reason == "length"
            said.append(done.text)
        return question, said, shortened, None

    async for question, said, shortened, failure in ordered(
        questions, converse, concurrency=concurrency
    ):
        cut += shortened
        if failure is None:
            turns[question.id] = tuple(said)
        else:
            failures[question.id] = failure
        progress(1, f"{len(failures)} failed" if failures else "")
    return Answers(backend.model, turns, failures, cut)
