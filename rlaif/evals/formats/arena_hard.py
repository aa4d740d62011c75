"""Arena-Hard judgments: the model against a baseline, two games a row, five labels.

A is the model. Game 0 shows the baseline first ("BA"), game 1 the model ("AB"). The labels, which
also tell a narrow win from a clear one, stay in `item.meta["labels"]` as they were shown, one a
game, where no game failed. Reads v2 (`uid`) and v0.1 (`question_id`, no baseline in the row).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rlaif.evals.formats.exports import ExportReport, exported, need_kind
from rlaif.evals.formats.fastchat import Texts, judge_name, load_texts
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Row, Source, by_judge, unique
from rlaif.evals.formats.verdicts import (
    FLIPPED,
    Game,
    Outcome,
    Reader,
    call,
    comparison,
    judge_ref,
    meta,
    recorded,
    said,
)
from rlaif.evals.legacy import (
    label_winner,
    legacy_last_label,
    legacy_only_label,
    read_label,
)
from rlaif.judge.parsing import Label
from rlaif.types import Call, Candidate, Item, Message, Shown, Verdict, Winner

NAME = "arena-hard"
COLUMNS = ("uid", "category", "judge", "model", "baseline", "games")
TAKES = frozenset({"questions", "answers", "baseline"})
KEPT = frozenset({"orders", "replies"})
_SHOWN: tuple[Shown, ...] = ("BA", "AB")
_NAMES: dict[Winner, Label] = {"A": "A>B", "B": "B>A", "tie": "A=B"}
_LABELS: dict[str, Label] = {
    "A>>B": "A>>B", "A>B": "A>B", "A=B": "A=B", "B>A": "B>A", "B>>A": "B>>A",
    "B<<A": "A>>B", "B<A": "A>B", "B=A": "A=B", "A<B": "B>A", "A<<B": "B>>A",
}  # fmt: skip


def read(source: Source, options: ImportOptions, report: ImportReport) -> Iterator[Verdict]:
    """One comparison a row.

    Raises:
        SpecError: a row does not fit, occurs twice, or judges are mixed.
    """
    texts = load_texts(options, report)
    newer = Reader(options, report, read_label, legacy_last_label)
    older = Reader(options, report, read_label, legacy_only_label)

    rows = by_judge(source, judge_name, options, report, mix="refuse")
    for row in unique(source, rows, _key, "uid"):
        report.rows += 1
        reader = newer if "uid" in row else older
        yield _verdict(row, texts, reader, options.baseline)


def _id_column(row: Row) -> str:
    return "question_id" if "question_id" in row and "uid" not in row else "uid"


def _key(row: Row) -> str:
    return f"{row.key(_id_column(row))}\n{row.text('model')}\n{judge_name(row)}"


def _verdict(row: Row, texts: Texts, reader: Reader[Label], baseline: str | None) -> Verdict:
    column = _id_column(row)
    key, judge, model = row.key(column), judge_name(row), row.text("model")
    other = baseline if "baseline" not in row else row.text("baseline")
    if other is None:
        row.fail("is missing; name it with --baseline", "baseline")
    question = texts.question(row, str(key), column)
    category = row.maybe_text("category") or (question.category if question else None)
    if not category:
        row.leave("category")
    entries = row.entries("games")
    if not 1 <= len(entries) <= 2:
        row.fail(f"should hold two games, found {len(entries)}", "games")
    outcomes: list[Outcome[Label]] = []
    for n, (entry, shown) in enumerate(zip(entries, _SHOWN, strict=False)):
        outcomes.append(reader(row, str(key), _outcome(row, entry, n), shown))
    labels = [outcome.value for outcome in outcomes]
    kept: dict[str, Any] = {"games": [_without(entry) for entry in entries]}
    if None in labels:  # half of the labels is no verdict, yet must come back
        kept["labels"] = labels
    facts = meta(
        row,
        question_id=key,
        category=category,
        subset=question.subset if question else None,
        labels=None if None in labels else labels,
        kept=kept,
    )
    prompt = (Message("user", question.turns[0]),) if question else ()
    item = Item(str(key), prompt, None, facts)
    a, b = (Candidate(name, texts.response(name, key, None), name) for name in (model, other))
    games = [
        Game(shown, _winner(outcome, shown))
        for outcome, shown in zip(outcomes, _SHOWN, strict=False)
    ]
    calls = tuple(_calls(outcomes, f"{judge}:{key}:{model}"))
    return comparison(item, a, b, judge_ref(judge, NAME), games, calls)


def _outcome(row: Row, entry: object, number: int) -> Outcome[Label]:
    name = f"games.{number}"
    if entry is None:
        return recorded(None, cause="provider_error")
    game = row.inner(entry, name)
    label = None if game.take("score") is None else game.choice("score", _LABELS)
    judgment = game.take("judgment")
    if isinstance(judgment, dict):
        judgment = game.inner(judgment, "judgment").maybe_text("answer")
    if judgment is not None and not isinstance(judgment, str):
        game.fail("should be text, or a mapping with the answer", "judgment")
    return recorded(label, judgment, cause="unreadable" if judgment else "provider_error")


def _winner(outcome: Outcome[Label], shown: Shown) -> Outcome[Winner]:
    winner = label_winner(outcome.value) if outcome.value else None
    if winner is not None and shown == "BA":
        winner = FLIPPED[winner]
    return Outcome(winner, outcome.cause, outcome.reply, outcome.finish)


def _calls(outcomes: list[Outcome[Label]], place: str) -> Iterator[Call]:
    for shown, outcome in zip(_SHOWN, outcomes, strict=False):
        if outcome.reply is not None:
            yield call(NAME, outcome.reply, f"{place}:{shown}", shown)


def _without(entry: Any) -> Any:
    """A game without its label and its reply, which the record holds elsewhere."""
    if not isinstance(entry, dict):
        return entry
    kept = {k: v for k, v in entry.items() if k not in {"score", "judgment"}}
    if isinstance(judgment := entry.get("judgment"), dict):
        kept["judgment"] = {k: v for k, v in judgment.items() if k != "answer"}
    return kept


def write(verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
    """One row a comparison.

    Raises:
        DataError: a verdict is not a comparison.
    """
    for verdict in verdicts:
        need_kind(verdict, "comparison", NAME)
        yield exported(verdict, NAME, _fields(verdict), COLUMNS, KEPT, report)


def _fields(verdict: Verdict) -> dict[str, Any]:
    known = verdict.item.meta
    a, b = (candidate.model or candidate.id for candidate in verdict.candidates)
    key = known.get("question_id", verdict.item.id)
    return {
        "uid": key,
        "question_id": key,
        "category": known.get("category"),
        "judge": known.get("judge", verdict.judge.model),
        "model": a,
        "baseline": b,
        "games": _games(verdict),
    }


def _games(verdict: Verdict) -> list[Any]:
    known = verdict.item.meta.get("kept", {})
    kept = known.get("games")
    labels = verdict.item.meta.get("labels") or known.get("labels") or _labels(verdict)
    replies = {call.shown: call.reply for call in verdict.calls}
    games: list[Any] = []
    for n, (shown, label) in enumerate(zip(_SHOWN, labels, strict=False)):
        rest = kept[n] if kept else {"judgment": {}}
        if rest is None:
            games.append(None)
            continue
        reply = replies.get(shown)
        inside = {**rest["judgment"], "answer": reply} if "judgment" in rest else reply
        games.append({**rest, "score": label, "judgment": inside})
    return games


def _labels(verdict: Verdict) -> list[Label | None]:
    """Labels for a comparison that was not made with them: a win is a narrow one."""
    orders = verdict.preference.orders if verdict.preference else ()
    shown = [order.shown for order in orders] or list(_SHOWN)
    won = dict(zip(shown, said(verdict), strict=False))
    return [_label(won.get(one), one) for one in _SHOWN]


def _label(winner: Winner | None, shown: Shown) -> Label | None:
    if winner is None:
        return None
    return _NAMES[winner if shown == "AB" else FLIPPED[winner]]
