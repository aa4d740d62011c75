"""A judge that reads a reward model: a number for each response, no words.

A reward model of Bradley and Terry's kind is trained so that

    P(a preferred to b | x) = sigmoid(r(x, a) - r(x, b)),

with rewards r in nats (Ouyang et al. 2022, eq. 1; Bai et al. 2022, section 3). So p(A) is read off
the difference, and only the difference means something: rewards of different prompts may be shifted
against each other. Each response is read on its own, so the order of a pair cannot matter. It reads
no rubric: what it values is in its weights.
"""

from __future__ import annotations

import asyncio
import json
import math

from rlaif.backends.base import Backend
from rlaif.errors import ConfigError, VerdictError
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
    Score,
    Shown,
    Verdict,
    Winner,
)


class RewardJudge:
    """A judge that scores and compares responses by a reward model's numbers.

    Args:
        backend: A sequence classifier: `reward/PATH`.
        temperature_nats: Difference in reward at which p_a is sigmoid(1) = 0.73; 1 for a reward
            model of Bradley and Terry's kind. Fit it to people's preferences for another.

    Raises:
        ConfigError: the temperature is not above 0.
    """

    def __init__(self, backend: Backend, *, temperature_nats: float = 1.0) -> None:
        if not temperature_nats > 0:
            raise ConfigError(f"temperature_nats must be above 0, not {temperature_nats}")
        self._backend = backend
        self._temperature_nats = temperature_nats
        method = f"reward (temperature {temperature_nats:g} nats)"
        self.ref = JudgeRef(backend.model, method, Sampling())

    def requests(
        self, judged: Comparison | Item, candidate: Candidate | None = None
    ) -> list[Request]:
        """What scoring a candidate or comparing two would ask: a reward for each response.

        None for identical responses.
        """
        if candidate is not None and isinstance(judged, Item):
            return [self.request(judged, candidate)]
        assert isinstance(judged, Comparison)
        if judged.a.response == judged.b.response:
            return []
        return [self.request(judged.item, one) for one in (judged.a, judged.b)]

    def request(self, item: Item, candidate: Candidate) -> Request:
        """What scoring a response asks."""
        if all(message.role == "assistant" for message in candidate.response):
            said: tuple[Message, ...] = (Message("assistant", candidate.text),)
        else:
            said = candidate.response
        return Request((*item.prompt, *said), task="reward")

    async def score(self, item: Item, candidate: Candidate) -> Verdict:
        """The reward of a response as the chance, 0..1, that it beats one with reward 0.

        Rewards have no bounds, so that is what keeps their order on a scale; the reward itself is
        in the reply of the call.

        Raises:
            BackendError: a fatal failure, such as a backend that gives no rewards.
        """
        asked = await ask(self._backend, self.request(item, candidate))
        calls = (asked.call,)
        try:
            value = _sigmoid(read_reward(asked) / self._temperature_nats)
        except VerdictError as error:
            return no_verdict("score", item, (candidate,), self.ref, error.cause, calls, str(error))
        return Verdict(
            id=verdict_id("score", item, (candidate,), self.ref),
            kind="score",
            item=item,
            candidates=(candidate,),
            judge=self.ref,
            status="ok",
            score=Score(value, 0.0, 1.0),
            calls=calls,
        )

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses has the higher reward.

        Raises:
            BackendError: a fatal failure, such as a backend that gives no rewards.
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
        if not asked:
            return Preference("tie", 0.5, (), consistent=True)
        r_a, r_b = map(read_reward, asked)
        p_a = _sigmoid((r_a - r_b) / self._temperature_nats)
        winner: Winner = "A" if r_a > r_b else "B" if r_b > r_a else "tie"
        # one reading serves both orders: no order was shown, so none can change the reward
        shown: tuple[Shown, ...] = ("AB", "BA")
        return combine_orders(
            [OrderVerdict(order, winner, p_a, source="reward") for order in shown]
        )


def read_reward(asked: Asked) -> float:
    """The reward in the reply to a request for one.

    Raises:
        VerdictError: the provider failed, or its reply holds no finite reward.
    """
    reply = asked.reply().text
    try:
        reward = json.loads(reply)["reward"]
    except (ValueError, KeyError, TypeError, RecursionError):
        reward = None
    number = isinstance(reward, int | float) and not isinstance(reward, bool)
    if not number or not math.isfinite(reward):
        raise VerdictError("the reply holds no reward", cause="unreadable", reply=reply)
    return float(reward)


def _sigmoid(x: float) -> float:
    if x < 0:
        return math.exp(x) / (1 + math.exp(x))
    return 1 / (1 + math.exp(-x))
