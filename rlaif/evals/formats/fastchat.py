"""What the MT-Bench formats share: questions, answers and references, and the judge's name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlaif.errors import SpecError
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Row, Source
from rlaif.types import Item, Message, Messages

_SUFFIXES = (".gz", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt of one or more turns."""

    turns: tuple[str, ...]
    category: str | None = None
    subset: str | None = None


@dataclass(slots=True)
class Texts:
    """The texts behind judgments, as far as their files were given; keys are ids as text."""

    questions: dict[str, Question] | None = None
    """`None` where no file of questions was given."""
    paths: tuple[Path, ...] = ()
    answers: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    """Turns by model and question."""
    references: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def question(self, row: Row, name: str, column: str = "question_id") -> Question | None:
        """The question of `row`; it must be there where questions were given."""
        if self.questions is None:
            return None
        if (found := self.questions.get(name)) is None:
            row.fail(f"there is no question {name} in {shown(self.paths)}", column)
        return found

    def item(self, row: Row, key: str | int, turn: int | None, meta: dict[str, Any]) -> Item:
        """The item of one turn of a question. It is asked with the first turn's text; later turns
        stand in the responses, between what the model answered.
        """
        found = self.question(row, str(key))
        if found is not None and turn is not None and turn > len(found.turns):
            row.fail(f"question {key} has {len(found.turns)} turns", "turn")
        prompt = (Message("user", found.turns[0]),) if found else ()
        references = self.references.get(str(key), ())
        place = (turn or 1) - 1
        reference = references[place] if place < len(references) else None
        name = str(key) if turn is None else f"{key}:{turn}"
        known: dict[str, Any] = {"question_id": key}
        if turn is not None:
            known["turn"] = turn
        if found is not None and found.category is not None:
            known["category"] = found.category
        return Item(name, prompt, reference or None, known | meta)

    def response(self, model: str, key: str | int, turn: int | None) -> Messages:
        """What `model` answered up to `turn`; empty where its answers were not given."""
        answers = self.answers.get(model, {}).get(str(key), ())[: turn or 1]
        asked = (self.questions or {}).get(str(key), Question(()))
        if not answers or len(answers) > max(1, len(asked.turns)):
            return ()
        messages = [Message("assistant", answers[0])]
        for question, answer in zip(asked.turns[1:], answers[1:], strict=False):
            messages += [Message("user", question), Message("assistant", answer)]
        return tuple(messages)


def load_texts(options: ImportOptions, report: ImportReport) -> Texts:
    """The texts that `options` name.

    Raises:
        SpecError: a file does not fit, or a question or an answer occurs twice.
    """
    texts = Texts(paths=options.questions)
    if options.questions:
        texts.questions = load_questions(options.questions)
    for model, answers in load_answers(options.answers, report):
        texts.answers[model] = answers
    for _, answers in load_answers(options.references, ImportReport()):
        texts.references |= answers
    return texts


def load_questions(paths: Sequence[Path]) -> dict[str, Question]:
    """Questions by id: MT-Bench's, Arena-Hard's of any version.

    Raises:
        SpecError: a file does not fit, or a question is there twice.
    """
    found: dict[str, Question] = {}
    for row in Source(paths):
        column = "uid" if "uid" in row and "question_id" not in row else "question_id"
        name = str(row.key(column))
        if name in found:
            row.fail(f"question {name} is there twice", column)
        category = row.maybe_text("category")
        if "turns" in row:
            turns = tuple(
                _turn(row, value, f"turns.{i}") for i, value in enumerate(row.entries("turns"))
            )
            if not turns:
                row.fail("is empty", "turns")
        else:
            turns = (row.text("prompt"),)
        found[name] = Question(turns, category, row.maybe_text("subcategory"))
    return found


def load_answers(
    paths: Iterable[Path], report: ImportReport
) -> Iterator[tuple[str, dict[str, tuple[str, ...]]]]:
    """The turns of each model by question id. A model is called as its file is, FastChat's rule.

    Raises:
        SpecError: a file does not fit, or a model or an answer occurs twice.
    """
    models: dict[str, Path] = {}
    for path in answer_files(paths):
        model = file_stem(path)
        if model in models:
            raise SpecError(f"answers of {model!r} are also in {models[model]}", path=path)
        models[model] = path
        answers: dict[str, tuple[str, ...]] = {}
        named: set[str] = set()
        for row in Source([path]):
            name = str(
                row.key("uid" if "uid" in row and "question_id" not in row else "question_id")
            )
            if name in answers:
                row.fail(f"question {name} is answered twice", "question_id")
            named.add(row.maybe_text("model_id") or row.maybe_text("model") or model)
            answers[name] = _answer(row)
        if others := sorted(named - {model}):
            report.notes.append(f"{path}: its rows say {', '.join(others)}, taken as {model!r}")
        yield model, answers


def answer_files(paths: Iterable[Path]) -> list[Path]:
    """The files that `paths` name, those inside a folder sorted by name.

    Raises:
        SpecError: a path is absent, or a folder holds no such file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(
            p for p in path.iterdir() if p.name.endswith((".jsonl", ".jsonl.gz", ".json"))
        )
        if not inside:
            raise SpecError("holds no .jsonl file", path=path)
        files += inside
    return files


def file_stem(path: Path) -> str:
    """The name of a file without its endings, those of its format only: models have dots too."""
    name = path.name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _answer(row: Row) -> tuple[str, ...]:
    if "messages" in row:  # Arena-Hard v2
        return tuple(
            _turn(row, message.take("content"), f"messages.{i}.content")
            for i, entry in enumerate(row.entries("messages"))
            if (message := row.inner(entry, f"messages.{i}")).text("role") == "assistant"
        )
    choices = row.entries("choices")
    if not choices:
        row.fail("is empty", "choices")
    turns = row.inner(choices[0], "choices.0").entries("turns")
    return tuple(_turn(row, value, f"choices.0.turns.{i}") for i, value in enumerate(turns))


def _turn(row: Row, value: object, name: str) -> str:
    """One turn: text, or a mapping that holds it as `content` or `answer` (Arena-Hard)."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("content", "answer") if key in value), None)
    if isinstance(value, str):
        return value
    return row.fail("should be text", name)


def shown(paths: Sequence[Path]) -> str:
    """The names of files, in words."""
    return " or ".join(map(str, paths))


def judge_name(row: Row) -> str:
    """Who judged. A list, [model, name of the prompt], stays in `meta` as it is."""
    value = row.required("judge")
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and all(isinstance(part, str) and part for part in value):
        row.leave("judge")
        return str(value[0])
    return row.fail("should be text, or a list of the model and the prompt's name", "judge")


def turn_of(row: Row) -> int | None:
    """The turn that was judged, from 1; `None` in rows that do not tell."""
    return row.whole("turn", 1) if row.take("turn") is not None else None
