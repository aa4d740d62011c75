"""From what a row recorded, or what its raw reply says, to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from rlaif.canonical import digest
from rlaif.errors import Cause, VerdictError
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Row
from rlaif.evals.legacy import Reading
from rlaif.judge.common import no_verdict, verdict_id
from rlaif.judge.pairwise import combine_orders
from rlaif.types import (
    Call,
    Candidate,
    Completion,
    FinishReason,
    Item,
    JudgeRef,
    OrderVerdict,
    Sampling,
    Score,
    Shown,
    Usage,
    Verdict,
    Winner,
)

T = TypeVar("T")

P_A: dict[Winner, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}
FLIPPED: dict[Winner, Winner] = {"A": "B", "B": "A", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What one reply of a judge came to: a value, or the cause of there being none."""

    value: T | None
    cause: Cause | None = None
    reply: str | None = None
    """The raw reply, where the row keeps it."""
    finish: FinishReason = "stop"


@dataclass(frozen=True, slots=True)
class Game:
    """One order of a comparison; the winner is in terms of `candidates[0]` = A."""

    shown: Shown
    outcome: Outcome[Winner]
    p_a: float | None = None
    """P(A preferred), where it is finer than the winner."""


def judge_ref(model: str, format_name: str) -> JudgeRef:
    """The judge of an imported verdict."""
    return JudgeRef(model, f"imported {format_name}", Sampling())


def recorded(
    value: T | None, reply: str | None = None, *, cause: Cause = "unreadable"
) -> Outcome[T]:
    """What a row says came of a reply; `cause` is why there is nothing where it says so."""
    return Outcome(value, None if value is not None else cause, reply)


class Reader(Generic[T]):
    """Decides what a reply came to: as recorded, as our parser reads it, or as the old tool did.

    Args:
        options: Which of the three.
        report: Where disagreements are counted.
        ours, legacy: The two readings of a reply.
    """

    def __init__(
        self, options: ImportOptions, report: ImportReport, ours: Reading[T], legacy: Reading[T]
    ) -> None:
        self._options = options
        self._report = report
        self._ours = ours
        self._legacy = legacy

    def __call__(
        self, row: Row, name: str, was: Outcome[T], shown: Shown | None = None
    ) -> Outcome[T]:
        """The outcome to use; a disagreement is reported under the item's `name`."""
        if not (self._options.reparse or self._options.legacy):
            return was
        if was.reply is None:
            self._report.no_reply += 1
            return was
        self._report.reread += 1
        found = self._read(self._ours if self._options.reparse else self._legacy, was)
        against = was
        if self._options.reparse and self._options.legacy:
            against = self._read(self._legacy, was)
        if found.value != against.value:
            self._report.disagreements += 1
            self._report.on_disagreement(
                {
                    "file": row.path,
                    "line": row.line,
                    "item": name,
                    "shown": shown,
                    "recorded": was.value,
                    "read": found.value,
                    "cause": found.cause,
                    **({"legacy": against.value} if against is not was else {}),
                    "reply": was.reply,
                }
            )
        return found

    @staticmethod
    def _read(rule: Reading[T], was: Outcome[T]) -> Outcome[T]:
        try:
            value = rule(Completion(was.reply or "", finish_reason=was.finish))
        except VerdictError as error:
            return replace(was, value=None, cause=error.cause)
        return replace(was, value=value, cause=None)


def comparison(
    item: Item,
    a: Candidate,
    b: Candidate,
    judge: JudgeRef,
    games: Sequence[Game],
    calls: tuple[Call, ...],
) -> Verdict:
    """The verdict over the games of one comparison.

    If one of them has no reading there is no verdict: half an answer would carry the judge's
    position bias. What the games said is then kept in `item.meta["games"]`.
    """
    failed = [game.outcome.cause or "unreadable" for game in games if game.outcome.value is None]
    if failed:
        said = [{"shown": game.shown, "winner": game.outcome.value} for game in games]
        item = replace(item, meta={**item.meta, "games": said})
        return no_verdict("comparison", item, (a, b), judge, failed[0], calls)
    orders = []
    for game in games:
        winner = game.outcome.value or "tie"
        orders.append(
            OrderVerdict(game.shown, winner, P_A[winner] if game.p_a is None else game.p_a)
        )
    return Verdict(
        id=verdict_id("comparison", item, (a, b), judge),
        kind="comparison",
        item=item,
        candidates=(a, b),
        judge=judge,
        status="ok",
        preference=combine_orders(orders),
        calls=calls,
    )


def scored(
    item: Item,
    candidate: Candidate,
    judge: JudgeRef,
    outcome: Outcome[float],
    calls: tuple[Call, ...],
    *,
    scale: tuple[float, float],
) -> Verdict:
    """The verdict on one response."""
    if outcome.value is None:
        cause = outcome.cause or "unreadable"
        return no_verdict("score", item, (candidate,), judge, cause, calls)
    low, high = scale
    return Verdict(
        id=verdict_id("score", item, (candidate,), judge),
        kind="score",
        item=item,
        candidates=(candidate,),
        judge=judge,
        status="ok",
        score=Score(outcome.value, min(low, outcome.value), max(high, outcome.value)),
        calls=calls,
    )


def call(format_name: str, text: str, place: str, shown: Shown | None = None) -> Call:
    """A reply that a row keeps, as a call that cost nothing now."""
    key = digest({"format": format_name, "text": text, "place": place})
    return Call(key, text, Usage(), latency_s=0.0, cached=True, shown=shown)


def said(verdict: Verdict) -> list[Winner | None]:
    """The winner of every game of a comparison, in order, `None` where one has no reading."""
    if verdict.preference is not None:
        return [order.winner for order in verdict.preference.orders]
    games = verdict.item.meta.get("games")
    if isinstance(games, list):
        return [game.get("winner") if isinstance(game, Mapping) else None for game in games]
    return [None, None]


def winner_in(shown: Shown, read: Callable[[Completion], Winner]) -> Reading[Winner]:
    """A reading of the responses as shown, turned into one in terms of `candidates[0]` = A."""
    return read if shown == "AB" else lambda reply: FLIPPED[read(reply)]


def meta(row: Row, **known: Any) -> dict[str, Any]:
    """`item.meta`: what is `known` and not `None`, then all that nothing took out of `row`."""
    return {key: value for key, value in known.items() if value is not None} | row.rest()
