"""MT-Bench pairwise judgments: `model_judgment/JUDGE_pair.jsonl`, two games a row.

Game 1 shows `model_1` first, game 2 shows it second; the recorded winners are models in both. Rows
made of two pointwise scores (`m1_score`), very old rows (one `winner`) and the combined votes of
`mt-bench-human` are one game.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rlaif.evals.formats.exports import ExportReport, exported, need_kind
from rlaif.evals.formats.fastchat import Texts, judge_name, load_texts, turn_of
from rlaif.evals.formats.mt_bench_human import vote, vote_fields, vote_key
from rlaif.evals.formats.rows import (
    ImportOptions,
    ImportReport,
    Row,
    Source,
    by_judge,
    last_of_each,
)
from rlaif.evals.formats.verdicts import (
    Game,
    Outcome,
    Reader,
    call,
    comparison,
    judge_ref,
    meta,
    recorded,
    said,
    winner_in,
)
from rlaif.evals.legacy import (
    FAILED,
    TIE_DELTA,
    legacy_rating,
    legacy_winner,
    read_rating,
    read_winner,
    scores_winner,
)
from rlaif.types import Call, Candidate, Completion, Shown, Verdict, Winner

NAME = "mt-bench-pair"
COLUMNS = (
    "question_id", "model_1", "model_2", "g1_winner", "g2_winner", "judge", "g1_judgment",
    "g2_judgment", "turn",
)  # fmt: skip
TAKES = frozenset({"questions", "answers", "references"})
KEPT = frozenset({"orders", "replies"})
_WINNERS: dict[str, Winner | None] = {"model_1": "A", "model_2": "B", "tie": "tie", "error": None}
_NAMES = {winner: name for name, winner in _WINNERS.items()}
_GAMES: tuple[tuple[str, Shown], ...] = (("g1", "AB"), ("g2", "BA"))


def read(source: Source, options: ImportOptions, report: ImportReport) -> Iterator[Verdict]:
    """One comparison a row. Of rows with the same question, models and turn the last one counts.

    Raises:
        SpecError: a row does not fit, or judges are mixed.
    """
    texts = load_texts(options, report)
    judged = _Judged(texts, options, report)

    def rows() -> Iterator[Row]:
        return by_judge(source, judge_name, options, report, mix="refuse")

    for row in last_of_each(rows, _key, report):
        report.rows += 1
        yield vote(row, texts, NAME) if _is_vote(row) else judged(row)


def _is_vote(row: Row) -> bool:
    return "model_a" in row and "model_1" not in row


def _key(row: Row) -> str:
    if _is_vote(row):
        return vote_key(row)
    models = f"{row.text('model_1')}\n{row.text('model_2')}"
    return f"{row.key('question_id')}\n{turn_of(row)}\n{models}\n{judge_name(row)}"


class _Judged:
    """Reads one row of games."""

    def __init__(self, texts: Texts, options: ImportOptions, report: ImportReport) -> None:
        self._texts = texts
        self._readers = {
            shown: Reader(
                options, report, winner_in(shown, read_winner), winner_in(shown, legacy_winner)
            )
            for _, shown in _GAMES
        }
        self._scores = Reader(options, report, _by_ratings(read_rating), _by_ratings(legacy_rating))

    def __call__(self, row: Row) -> Verdict:
        key, turn, judge = row.key("question_id"), turn_of(row), judge_name(row)
        names = [row.text("model_1"), row.text("model_2")]
        replies = _replies(row)
        kept = {name: row.take(name) for name in ("g1_winner", "g2_winner", "winner")}
        place = f"{key}:{turn}:{names[0]}:{names[1]}"
        name = str(key) if turn is None else f"{key}:{turn}"
        games = self._games(row, name, replies)
        item = self._texts.item(row, key, turn, meta(row))
        a, b = (Candidate(m, self._texts.response(m, key, turn), m) for m in names)
        two = kept["winner"] is None and "m1_score" not in row
        calls = tuple(_calls(replies, place, two=two))
        return comparison(item, a, b, judge_ref(judge, NAME), games, calls)

    def _games(self, row: Row, name: str, replies: list[str | None]) -> list[Game]:
        if row.take("winner") is not None:
            return [Game("AB", recorded(row.choice("winner", _WINNERS)))]
        if "m1_score" in row:
            if row.fields.get("g2_winner") != row.fields.get("g1_winner"):
                row.fail("differs from g1_winner, though two scores make one winner", "g2_winner")
            joint = None if None in replies else _JOINT.join(reply or "" for reply in replies)
            was = _recorded(row.choice("g1_winner", _WINNERS), joint)
            return [Game("AB", self._scores(row, name, was))]
        return [
            Game(shown, self._readers[shown](row, name, _recorded(winner, reply), shown))
            for (game, shown), reply in zip(_GAMES, replies, strict=True)
            for winner in [row.choice(f"{game}_winner", _WINNERS)]
        ]


def _replies(row: Row) -> list[str | None]:
    replies = [row.maybe_text(f"{game}_judgment") for game, _ in _GAMES]
    if "m1_score" in row and None in replies:  # one grading alone says nothing: it stays as it is
        row.leave(*(f"{game}_judgment" for game, _ in _GAMES))
        return [None, None]
    return replies


_JOINT = "\n\n\x1e\n\n"
"""Stands between the two gradings that made one winner."""


def _by_ratings(rule: Any) -> Any:
    def winner(reply: Completion) -> Winner:
        first, second = (rule(Completion(text)) for text in reply.text.split(_JOINT))
        return scores_winner(first, second, delta=TIE_DELTA)

    return winner


def _recorded(winner: Winner | None, reply: str | None) -> Outcome[Winner]:
    failed = reply is not None and FAILED in (part.strip() for part in reply.split(_JOINT))
    return recorded(winner, reply, cause="provider_error" if failed else "unreadable")


def _calls(replies: list[str | None], place: str, *, two: bool) -> Iterator[Call]:
    for (game, shown), reply in zip(_GAMES, replies, strict=True):
        if reply is not None:
            yield call(NAME, reply, f"{place}:{game}", shown if two else None)


def write(verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
    """One row a comparison.

    Raises:
        DataError: a verdict is not a comparison.
    """
    for verdict in verdicts:
        need_kind(verdict, "comparison", NAME)
        winners = said(verdict)
        one = len(winners) == 1
        columns = (
            COLUMNS if not one else ("question_id", "model_1", "model_2", "winner", "judge", "turn")
        )
        yield exported(verdict, NAME, _fields(verdict, winners), columns, KEPT, report)


def _fields(verdict: Verdict, winners: list[Winner | None]) -> dict[str, Any]:
    fields = vote_fields(verdict)
    if "model_a" in verdict.item.meta.get("columns", ()):
        return fields
    a, b = (candidate.model or candidate.id for candidate in verdict.candidates)
    by_order = {call.shown: call.reply for call in verdict.calls if call.shown}
    alone = [call.reply for call in verdict.calls if not call.shown]
    replies = {"AB": alone[0], "BA": alone[-1]} if alone else by_order
    orders = verdict.preference.orders if verdict.preference else ()
    shown = [order.shown for order in orders] or ["AB", "BA"]
    ranked = sorted(zip(shown, winners, strict=False))  # AB before BA, whatever was asked first
    first, last = ranked[0][1] if ranked else "tie", ranked[-1][1] if ranked else "tie"
    return fields | {
        "model_1": a,
        "model_2": b,
        "winner": _NAMES[first],
        "g1_winner": _NAMES[first],
        "g2_winner": _NAMES[last],
        "g1_judgment": replies.get("AB"),
        "g2_judgment": replies.get("BA"),
    }
