"""Records as Argilla exports them: an item a record, with what each person answered.

A record has `fields` (prompt, and `response` or `response_a` and `response_b`, text or chat),
`metadata`, and `responses`: by question a list of `{"value", "user_id"}`, or, as the server's API
and the older datasets have it, by person `{"user_id", "status", "values": {question: {"value"}}}`.
A question about a pair is answered with a label or a ranking, one about a response with a rating;
text is taken as the reason. Drafts and discarded answers are skipped and counted.

Argilla knows people by UUIDs; here their names stand as `user_id`. Records do not say how far a
rating goes: `metadata` has `scale.QUESTION` where they were written here, else give the scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rlaif.canonical import digest
from rlaif.evals.formats.exports import ExportReport
from rlaif.evals.formats.labels import flat, graded, named, vote_from
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Row, Source, unique
from rlaif.evals.people import Vote, by, rating, vote
from rlaif.specs.describe import describe
from rlaif.specs.items import prompt_messages, response_messages
from rlaif.types import Candidate, Item, JudgeRef, Verdict

NAME = "argilla"
TAKES = frozenset({"scale"})

_PROMPTS = ("prompt", "instruction", "question", "input", "query", "conversation")
_SINGLES = ("response", "completion", "output", "answer", "generation")
_PAIRS = (
    ("response_a", "response_b"),
    ("response_1", "response_2"),
    ("response-1", "response-2"),
    ("generation-1", "generation-2"),
    ("response-0", "response-1"),
    ("generation_1", "generation_2"),
    ("output_1", "output_2"),
    ("chosen", "rejected"),
)
_DONE = "submitted"
_PREFERENCE, _REASON = "preference", "reason"


def read(source: Source, options: ImportOptions, report: ImportReport) -> Iterator[Verdict]:
    """One verdict a person and record, by `human/USER`.

    Raises:
        SpecError: a record does not fit or occurs twice; names the line and the field.
    """
    skipped = 0
    for row in unique(source, source, _name, "id"):
        given, unfinished = _answers(row)
        skipped += unfinished
        for user, answers in given.items():
            report.rows, report.line = report.rows + 1, row.line
            yield _verdict(row, user, answers, options)
    if skipped:
        report.notes.append(f"{skipped:,} drafts and discarded answers were skipped")


def _name(row: Row) -> str:
    known = [name for name in ("id", "external_id", "_server_id") if row.take(name) is not None]
    return str(row.key(known[0] if known else "id"))


def _answers(row: Row) -> tuple[dict[str, dict[str, Any]], int]:
    """By person the answer to each question, and how many are not submitted."""
    responses = row.take("responses")
    if responses is None:
        return {}, 0
    if isinstance(responses, list):
        return _by_person(row, responses)
    given: dict[str, dict[str, Any]] = {}
    skipped = 0
    for question, answers in row.inner(responses, "responses").fields.items():
        place = f"responses.{question}"
        if not isinstance(answers, list):
            row.fail(f"should be a list, found {describe(answers)}", place)
        for number, answer in enumerate(answers):
            one = row.inner(answer, f"{place}.{number}")
            if one.maybe_text("status") not in (None, _DONE):
                skipped += 1
                continue
            mine = given.setdefault(named(one, "user_id"), {})
            if question in mine:
                one.fail("answers the question twice", "user_id")
            mine[question] = one.required("value")
    return given, skipped


def _by_person(row: Row, responses: list[Any]) -> tuple[dict[str, dict[str, Any]], int]:
    given: dict[str, dict[str, Any]] = {}
    skipped = 0
    for number, response in enumerate(responses):
        one = row.inner(response, f"responses.{number}")
        if one.maybe_text("status") not in (None, _DONE):
            skipped += 1
            continue
        user = named(one, "user_id")
        if user in given:
            one.fail("answers the record twice", "user_id")
        values = one.inner(one.required("values"), "values")
        given[user] = {
            name: values.inner(value, name).required("value")
            for name, value in values.fields.items()
        }
    return given, skipped


def _verdict(row: Row, user: str, answers: Mapping[str, Any], options: ImportOptions) -> Verdict:
    fields = row.inner(row.required("fields"), "fields")
    facts = row.inner(row.take("metadata") or {}, "metadata")
    prompt = next((name for name in _PROMPTS if name in fields), None)
    messages = fields.read(prompt, fields.required(prompt), prompt_messages) if prompt else ()
    name = str(facts.key("item")) if facts.take("item") is not None else _name(row)
    judge = by(user, method=f"imported {NAME}")
    pair = next((pair for pair in _PAIRS if pair[0] in fields and pair[1] in fields), None)
    if pair is not None:
        candidates = tuple(
            _candidate(fields, facts, field, side, letter)
            for field, side, letter in zip(pair, ("_a", "_b"), "AB", strict=True)
        )
        item = Item(name, messages, fields.maybe_text("reference"), _meta(facts))
        return _vote(row, item, candidates, judge, (pair, answers))
    single = next((name for name in _SINGLES if name in fields), None)
    if single is None:
        fields.fail(f"has no response: {', '.join(map(repr, list(fields.fields)[:8]))}")
    one = _candidate(fields, facts, single, "", "1")
    grades = {question: value for question, value in answers.items() if _is_number(value)}
    if not grades:
        row.fail(f"{user} answers no question with a number", "responses")
    score = graded(row, grades, facts, options, "responses.")
    item = Item(name, messages, fields.maybe_text("reference"), _meta(facts))
    return rating(item, (one,), judge, score, _reason(answers, grades))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _vote(
    row: Row,
    item: Item,
    candidates: tuple[Candidate, ...],
    judge: JudgeRef,
    answered: tuple[tuple[str, str], Mapping[str, Any]],
) -> Verdict:
    pair, answers = answered
    found = {
        question: said
        for question, value in answers.items()
        if (said := _winner(value, pair, candidates)) is not None
    }
    who = judge.model.partition("/")[2]
    if not found:
        row.fail(f"{who} names no winner: no answer is A, B, tie or a ranking", "responses")
    if len(found) > 1 and _PREFERENCE not in found:
        named = ", ".join(map(repr, found))
        row.fail(f"{who} names a winner more than once: {named}", "responses")
    question = _PREFERENCE if _PREFERENCE in found else next(iter(found))
    return vote(item, candidates, judge, found[question], reason=_reason(answers, {question: True}))


def _winner(value: object, pair: tuple[str, str], candidates: tuple[Candidate, ...]) -> Vote | None:
    if isinstance(value, str):
        if value in pair:
            return "A" if value == pair[0] else "B"
        return vote_from(value, [one.model for one in candidates])
    if not isinstance(value, list):
        return None
    ranks: dict[str, float] = {}
    for place, entry in enumerate(value):
        name, rank = entry, place
        if isinstance(entry, Mapping):
            name, rank = entry.get("value"), entry.get("rank", place)
        if isinstance(name, str) and _is_number(rank):
            ranks[name] = rank
    first, second = (ranks.get(name) for name in pair)
    if first is None or second is None:
        return None
    return "tie" if first == second else "A" if first < second else "B"


def _reason(answers: Mapping[str, Any], used: Mapping[str, Any]) -> str:
    texts = [
        value for name, value in answers.items() if name not in used and isinstance(value, str)
    ]
    return "\n".join(text for text in texts if text.strip())


def _candidate(fields: Row, facts: Row, field: str, side: str, letter: str) -> Candidate:
    model = facts.maybe_text(f"model{side}")
    name = facts.maybe_text(f"candidate{side}") or model or letter
    response = fields.read(field, fields.required(field), response_messages)
    return Candidate(name, response, model)


def _meta(facts: Row) -> dict[str, Any]:
    left = facts.rest()
    left.pop("columns")
    return {
        name: value for name, value in left.items() if not name.startswith(("scale.", "weight."))
    }


def write(verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
    """One record an item and its responses, with the labels of everybody. Holds all in memory.

    Raises:
        DataError: a verdict is a ranking, or no person's.
    """
    records: dict[str, dict[str, Any]] = {}
    for verdict in verdicts:
        row = flat(verdict)
        report.verdicts += 1
        report.lost["judge.rubric"] += verdict.judge.rubric is not None
        if verdict.preference is not None:
            report.lost["preference.orders"] += 1
        sides = [one.id for one in verdict.candidates]
        key = digest([verdict.item.id, str(verdict.item.meta.get("turn")), sides])[:32]
        record = records.setdefault(key, _record(key, row))
        for question, value in _given(row).items():
            answers = record["responses"].setdefault(question, [])
            answers.append({"value": value, "user_id": row["annotator"], "status": _DONE})
    yield from records.values()


def _record(key: str, row: Mapping[str, Any]) -> dict[str, Any]:
    texts = ("prompt", "reference", "response", "response_a", "response_b")
    given = ("winner", "shown", "score", "min", "max", "reason", "annotator", "id")
    facts = {
        name: value
        for name, value in row.items()
        if name not in (*texts, *given) and not name.startswith("grade.")
    }
    if "score" in row and not any(name.startswith("grade.") for name in row):
        facts["scale.score"] = f"{row['min']:g} to {row['max']:g}"
    return {
        "id": key,
        "fields": {name: row[name] for name in texts if name in row},
        "metadata": {"item": row["id"], **facts},
        "suggestions": {},
        "responses": {},
        "vectors": {},
    }


def _given(row: Mapping[str, Any]) -> dict[str, Any]:
    """The answers of one label, by question."""
    grades = {
        name.removeprefix("grade."): value
        for name, value in row.items()
        if name.startswith("grade.")
    }
    if "winner" in row:
        grades = {_PREFERENCE: row["winner"]}
    elif not grades:
        grades = {"score": row["score"]}
    return grades | ({_REASON: row["reason"]} if row.get("reason") else {})
