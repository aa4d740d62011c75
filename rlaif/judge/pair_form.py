"""What a judge is asked about a pair, and how its reply is read: two halves of one agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from rlaif.judge import endings
from rlaif.judge.endings import Levels
from rlaif.judge.hearing import Correct, Heard, enough
from rlaif.judge.pairs import PairReader, PairReading, turned
from rlaif.judge.settings import Settings
from rlaif.judge.structured import pair_schema
from rlaif.specs.rubric import Reasoning
from rlaif.types import (
    Completion,
    Messages,
    OrderVerdict,
    Preference,
    Request,
    Sampling,
    Shown,
    Winner,
)

PairMethod = Literal["verdict", "token"]
"""Reasons as the rubric wants them and a verdict mark, or one token and no reasons."""

_FLIPPED: dict[Winner, Winner] = {"A": "B", "B": "A", "tie": "tie"}
_TIE_WIDTH = 1e-9


@dataclass(frozen=True, slots=True)
class PairForm:
    """What is asked for about a pair.

    Args:
        method: A verdict mark or one token.
        ties: Whether a tie is among the verdicts.
        levels: How many verdicts there are with ties.
        settings: How the judge asks.
    """

    method: PairMethod
    ties: bool
    levels: Levels
    settings: Settings

    def named(self) -> list[str]:
        """What it is, as a judge's method names it."""
        five = ["5 levels"] if self.levels == 5 else []
        return [self.method, *five, *([] if self.ties else ["ties forced"])]

    def ending(self, reasoning: Reasoning) -> str:
        """The last block of the prompt."""
        if self.method == "token":
            return endings.pair_token_ending(ties=self.ties, levels=self.levels)
        if self.settings.structured:
            return endings.pair_json_ending(reasoning, ties=self.ties, levels=self.levels)
        return endings.pair_ending(reasoning, ties=self.ties, levels=self.levels)

    def correct(self) -> Correct | None:
        """What a judge is told whose reply cannot be read; `None` where it is asked once."""
        if not self.settings.reask:
            return None
        return lambda error: endings.correction(error, self.ending("none"))

    def request(
        self, messages: Messages, reasoning: Reasoning, draw: int, shared: int, code: str
    ) -> Request:
        """The request that shows `messages`, whose tags carry `code`."""
        settings = self.settings
        if self.method == "token":
            return Request(
                messages,
                sampling=one_token(settings.sampling),
                draw=draw,
                top_logprobs=settings.top_logprobs,
                choices=tuple(endings.pair_tokens(self.ties, self.levels)),
                shared=shared,
                code=code,
            )
        return Request(
            messages,
            sampling=settings.sampling,
            draw=draw,
            top_logprobs=settings.top_logprobs,
            json_schema=self._schema(reasoning) if settings.structured else None,
            shared=shared,
            code=code,
        )

    def _schema(self, reasoning: Reasoning) -> dict[str, Any]:
        return pair_schema(endings.pair_labels(self.ties, self.levels), reasoning)

    def read(self, completion: Completion) -> PairReading:
        """The verdict in a reply.

        Raises:
            VerdictError: there is none.
        """
        reader = _reader(self.ties, self.levels, self.settings.least_mass)
        if self.method == "token":
            return reader.token(completion)
        return (
            reader.structured(completion) if self.settings.structured else reader.mark(completion)
        )


_reader = lru_cache(maxsize=64)(PairReader)


def one_token(sampling: Sampling, tokens: int = 1) -> Sampling:
    """`sampling` for a reply that is a label and nothing else."""
    return Sampling(sampling.temperature, sampling.top_p, tokens, sampling.seed, sampling.reasoning)


def order_verdict(shown: Shown, heard: Sequence[Heard[PairReading]]) -> OrderVerdict:
    """What the judge said in one order, over its draws.

    Raises:
        VerdictError: half of the draws or more cannot be read.
    """
    if len(heard) == 1:
        return _as_given(shown, heard[0].read())
    read = enough(heard)
    p_first = sum(one.p_first for one in read) / len(read)
    p_a = p_first if shown == "AB" else 1.0 - p_first
    return OrderVerdict(shown, side(p_a), p_a, draws=len(read), source="draws")


def _as_given(shown: Shown, read: PairReading) -> OrderVerdict:
    if shown == "AB":
        return OrderVerdict(
            shown,
            read.winner,
            read.p_first,
            level=read.level,
            source=read.source,
            missing_mass=read.missing_mass,
        )
    return OrderVerdict(
        shown,
        _FLIPPED[read.winner],
        1.0 - read.p_first,
        level=turned(read.level),
        source=read.source,
        missing_mass=read.missing_mass,
    )


def side(p_a: float) -> Winner:
    """Who P(A preferred) names."""
    return "A" if p_a > 0.5 + _TIE_WIDTH else "B" if p_a < 0.5 - _TIE_WIDTH else "tie"


def combine_orders(orders: Sequence[OrderVerdict]) -> Preference:
    """The preference over the orders asked: p_a is their mean, the winner its side of one half."""
    p_a = sum(order.p_a for order in orders) / len(orders)
    consistent = len({order.winner for order in orders}) == 1
    return Preference(side(p_a), p_a, tuple(orders), consistent)
