"""MT-Bench votes: one winner of two models a row, by a person or, combined, by a judge.

The published votes of people carry both conversations; the compact form leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from rlaif.evals.formats.exports import ExportReport, exported, need_kind, winner_name
from rlaif.evals.formats.fastchat import Texts, judge_name, load_texts, turn_of
from rlaif.evals.formats.rows import (
    ImportOptions,
    ImportReport,
    Row,
    Source,
    by_judge,
    last_of_each,
)
from rlaif.evals.formats.verdicts import Game, comparison, judge_ref, meta, recorded
from rlaif.types import Candidate, Message, Messages, Verdict, Winner, as_dict

NAME = "mt-bench-human"
COLUMNS = ("question_id", "model_a", "model_b", "winner", "judge", "turn")
TAKES = frozenset({"questions", "answers", "references"})
KEPT = frozenset({"winner", "consistent"})
_INCONSISTENT = "tie (inconsistent)"
_WINNERS: dict[str, Winner | None] = {
    "model_a": "A",
    "model_b": "B",
    "tie": "tie",
    _INCONSISTENT: "tie",
    "error": None,
}
_NAMES = {"A": "model_a", "B": "model_b", "tie": "tie", None: "error"}


def read(source: Source, options: ImportOptions, report: ImportReport) -> Iterator[Verdict]:
    """One comparison a vote; voters may differ. The last of equal votes by one voter counts.

    Raises:
        SpecError: a row does not fit.
    """
    texts = load_texts(options, report)

    def rows() -> Iterator[Row]:
        return by_judge(source, judge_name, options, report, mix="take")

    for row in last_of_each(rows, vote_key, report):
        report.rows += 1
        yield vote(row, texts, NAME)


def vote_key(row: Row) -> str:
    """What tells one vote from another."""
    models = f"{row.text('model_a')}\n{row.text('model_b')}"
    return f"{row.key('question_id')}\n{turn_of(row)}\n{models}\n{judge_name(row)}"


def vote(row: Row, texts: Texts, name: str) -> Verdict:
    """The verdict of one vote, as the format called `name`."""
    key, turn, judge = row.key("question_id"), turn_of(row), judge_name(row)
    winner = row.choice("winner", _WINNERS)
    consistent = row.fields["winner"] != _INCONSISTENT
    sides = [_side(row, side, texts, turn) for side in ("a", "b")]
    later = {side: as_dict(rest) for side, (_, _, rest) in zip("ab", sides, strict=True) if rest}
    item = texts.item(row, key, turn, meta(row, kept={"later": later} if later else None))
    (prompt, a, _), (other, b, _) = sides
    if prompt and other and prompt != other:
        row.fail("begins with another prompt than conversation_a", "conversation_b")
    if prompt or other:
        item = replace(item, prompt=prompt or other)
    game = Game("AB", recorded(winner))
    verdict = comparison(item, a, b, judge_ref(judge, name), [game], ())
    return verdict if consistent else _inconsistent(verdict)


def _inconsistent(verdict: Verdict) -> Verdict:
    if verdict.preference is None:
        return verdict
    return replace(verdict, preference=replace(verdict.preference, consistent=False))


def _side(
    row: Row, side: str, texts: Texts, turn: int | None
) -> tuple[Messages, Candidate, Messages]:
    """The prompt, the candidate, and the messages of turns that were not judged."""
    model, column = row.text(f"model_{side}"), f"conversation_{side}"
    if row.take(column) is None:
        response = texts.response(model, row.key("question_id"), turn)
        return (), Candidate(model, response, model), ()
    messages = row.messages(column)
    if not messages or messages[0].role != "user":
        row.fail("should begin with a user turn", column)
    judged = _judged(messages, turn or 1)
    return messages[:1], Candidate(model, messages[1:judged], model), messages[judged:]


def _judged(messages: Messages, turn: int) -> int:
    """How many messages belong to the turns up to `turn`."""
    replies = [n for n, message in enumerate(messages, 1) if message.role == "assistant"]
    return replies[min(turn, len(replies)) - 1] if replies else len(messages)


def write(verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
    """One row a comparison, its winner combined over the orders.

    Raises:
        DataError: a verdict is not a comparison.
    """
    for verdict in verdicts:
        need_kind(verdict, "comparison", NAME)
        yield exported(verdict, NAME, vote_fields(verdict), COLUMNS, KEPT, report)


def vote_fields(verdict: Verdict) -> dict[str, Any]:
    """The fields of a vote."""
    known = verdict.item.meta
    later = known.get("kept", {}).get("later", {})
    winner = _NAMES[winner_name(verdict)]
    if verdict.preference is not None and winner == "tie" and not verdict.preference.consistent:
        winner = _INCONSISTENT
    fields: dict[str, Any] = {
        "question_id": known.get("question_id", verdict.item.id),
        "winner": winner,
        "judge": known.get("judge", verdict.judge.model),
        "turn": known.get("turn", 1 if "columns" not in known else None),
    }
    for side, candidate in zip("ab", verdict.candidates, strict=True):
        fields[f"model_{side}"] = candidate.model or candidate.id
        spoken: tuple[Message, ...] = verdict.item.prompt + candidate.response
        if candidate.response:
            fields[f"conversation_{side}"] = [*as_dict(spoken), *later.get(side, [])]
    return fields
