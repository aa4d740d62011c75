"""Two responses compared by a rubric, each pair asked in both orders.

judge = PairwiseJudge(backend, load_rubric("helpfulness"))
verdict = await judge.compare(Comparison(item, a, b))
verdict.preference.p_a          # P(a preferred), mean over both orders
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rlaif.backends.base import Backend
from rlaif.errors import VerdictError
from rlaif.judge.common import Asked, ask, no_verdict, rubric_ref, verdict_id
from rlaif.judge.parsing import parse_winner, rationale
from rlaif.judge.rendering import render_comparison
from rlaif.specs.rubric import Rubric
from rlaif.types import (
    Comparison,
    JudgeRef,
    OrderVerdict,
    Preference,
    Request,
    Sampling,
    Shown,
    Verdict,
    Winner,
)

_FLIPPED: dict[Winner, Winner] = {"A": "B", "B": "A", "tie": "tie"}
_ORDERS: tuple[Shown, ...] = ("AB", "BA")
_TIE_WIDTH = 1e-9


def combine_orders(orders: Sequence[OrderVerdict]) -> Preference:
    """The preference over the orders asked: p_a is their mean, the winner its side of one half."""
    p_a = sum(order.p_a for order in orders) / len(orders)
    winner: Winner = "A" if p_a > 0.5 + _TIE_WIDTH else "B" if p_a < 0.5 - _TIE_WIDTH else "tie"
    consistent = len({order.winner for order in orders}) == 1
    return Preference(winner, p_a, tuple(orders), consistent)


class PairwiseJudge:
    """A judge that compares two responses by a rubric.

    Args:
        backend: The model that judges.
        rubric: What it judges by.
        sampling: How it draws its replies; greedy by default.
        top_logprobs: How many token probabilities to ask for, for a soft p(A); 0 for none.
    """

    def __init__(
        self,
        backend: Backend,
        rubric: Rubric,
        *,
        sampling: Sampling | None = None,
        top_logprobs: int = 5,
    ) -> None:
        self._backend = backend
        self._rubric = rubric
        self._sampling = sampling or Sampling()
        self._top_logprobs = top_logprobs
        self.ref = JudgeRef(backend.model, "verdict", self._sampling, rubric_ref(rubric))

    def requests(self, comparison: Comparison) -> list[Request]:
        """What comparing would ask: one request for each order, none for identical responses."""
        if comparison.a.response == comparison.b.response:
            return []
        return [
            Request(
                render_comparison(self._rubric, shown),
                sampling=self._sampling,
                top_logprobs=self._top_logprobs,
            )
            for shown in (comparison, comparison.swapped())
        ]

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses is better, asked in both orders.

        Identical responses are a tie without a call. If either order cannot be read, there is no
        verdict: half an answer would carry the judge's position bias.

        Raises:
            DataError: the rubric needs a reference and the item has none.
            BackendError: a fatal failure of the provider.
        """
        requests = self.requests(comparison)
        asked = await asyncio.gather(
            *(
                ask(self._backend, request, shown)
                for request, shown in zip(requests, _ORDERS, strict=False)
            )
        )
        return self._verdict(comparison, asked)

    def _verdict(self, comparison: Comparison, asked: Sequence[Asked]) -> Verdict:
        item, candidates = comparison.item, (comparison.a, comparison.b)
        calls = tuple(one.call for one in asked)
        try:
            orders = [_read(one, shown) for one, shown in zip(asked, _ORDERS, strict=False)]
        except VerdictError as error:
            return no_verdict(
                "comparison", item, candidates, self.ref, error.cause, calls, str(error)
            )
        preference = combine_orders(orders) if orders else Preference("tie", 0.5, (), True)
        return Verdict(
            id=verdict_id("comparison", item, candidates, self.ref),
            kind="comparison",
            item=item,
            candidates=candidates,
            judge=self.ref,
            status="ok",
            preference=preference,
            rationale=rationale(asked[0].reply()) if asked else None,
            calls=calls,
        )


def _read(asked: Asked, shown: Shown) -> OrderVerdict:
    winner, p_first = parse_winner(asked.reply())
    if shown == "AB":
        return OrderVerdict(shown, winner, p_first)
    return OrderVerdict(shown, _FLIPPED[winner], 1.0 - p_first)
