"""A judge for models too small to be asked: how much the prompt raises a response's likelihood.

The score of a response r to a prompt x is its pointwise mutual information per token,

    s(r) = (1/T) sum_t [ log P(r_t | x, r_<t) - log P(r_t | r_<t) ]      nats per token,

both terms read from the model in one pass each, the second with an empty user turn. It rewards
responses that belong to this prompt and no other, and, unlike plain likelihood, not blandness or
shortness. It reads each response on its own, so the order of a pair cannot matter. It reads no
rubric, and it knows nothing of truth: treat it as weak, and measure it (`rlaif quickstart` does).
"""

from __future__ import annotations

import asyncio

from rlaif.backends.base import Backend
from rlaif.errors import VerdictError
from rlaif.judge.common import Asked, ask, no_verdict, verdict_id
from rlaif.judge.pair_form import combine_orders
from rlaif.types import (
    Candidate,
    Comparison,
    Item,
    JudgeRef,
    Message,
    OrderVerdict,
    Preference,
    Request,
    Sampling,
    Shown,
    Verdict,
    Winner,
)

TEMPERATURE_NATS = 0.25
"""Scale of the score difference: p_a = sigmoid((s_a - s_b) / TEMPERATURE_NATS)."""


class LikelihoodJudge:
    """A judge that compares two responses by pointwise mutual information per token.

    Args:
        backend: A model that can score given text: `local/…`, or a `server/…` that returns the
            log-probabilities of its prompt.
        temperature_nats: Difference in score at which p_a is sigmoid(1) = 0.73.
    """

    def __init__(self, backend: Backend, *, temperature_nats: float = TEMPERATURE_NATS) -> None:
        self._backend = backend
        self._temperature_nats = temperature_nats
        method = f"likelihood (pmi per token, temperature {temperature_nats:g} nats)"
        self.ref = JudgeRef(backend.model, method, Sampling())

    def requests(self, comparison: Comparison) -> list[Request]:
        """What comparing would ask: two passes for each response, none for identical responses."""
        if comparison.a.response == comparison.b.response:
            return []
        item = comparison.item
        return [*self._pair(item, comparison.a), *self._pair(item, comparison.b)]

    def _pair(self, item: Item, candidate: Candidate) -> tuple[Request, Request]:
        answer = Message("assistant", candidate.text)
        blank = Message("user", "")
        return (
            Request((*item.prompt, answer), task="likelihood"),
            Request((blank, answer), task="likelihood"),
        )

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses the prompt makes more likely, per token.

        Raises:
            BackendError: a fatal failure, such as a backend that cannot score given text.
        """
        item, candidates = comparison.item, (comparison.a, comparison.b)
        asked = await asyncio.gather(*(ask(self._backend, r) for r in self.requests(comparison)))
        calls = tuple(one.call for one in asked)
        try:
            preference = self._preference(asked)
        except VerdictError as error:
            return no_verdict(
                "comparison", item, candidates, self.ref, error.cause, calls, str(error)
            )
        return Verdict(
            id=verdict_id("comparison", item, candidates, self.ref),
            kind="comparison",
            item=item,
            candidates=candidates,
            judge=self.ref,
            status="ok",
            preference=preference,
            calls=calls,
        )

    def _preference(self, asked: list[Asked]) -> Preference:
        from rlaif.stats.numeric import sigmoid

        if not asked:
            return Preference("tie", 0.5, (), consistent=True)
        s_a, s_b = _score(asked[0], asked[1]), _score(asked[2], asked[3])
        p_a = float(sigmoid((s_a - s_b) / self._temperature_nats))
        winner: Winner = "A" if s_a > s_b else "B" if s_b > s_a else "tie"
        # one reading serves both orders: no order was shown, so none can change the score
        shown: tuple[Shown, ...] = ("AB", "BA")
        return combine_orders(
            [OrderVerdict(order, winner, p_a, source="likelihood") for order in shown]
        )


def _score(given_prompt: Asked, alone: Asked) -> float:
    """Nats per token that the prompt adds to the response."""
    with_prompt, without = given_prompt.reply().tokens, alone.reply().tokens
    if not with_prompt:
        raise VerdictError("an empty response has no likelihood", cause="unreadable")
    if len(with_prompt) != len(without):
        raise VerdictError("the response was tokenized in two ways", cause="unreadable")
    gain = sum(t.logprob for t in with_prompt) - sum(t.logprob for t in without)
    return gain / len(with_prompt)
