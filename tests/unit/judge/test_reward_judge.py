"""Comparing and scoring by rewards: symmetric, monotone, and never a number out of nothing."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends.base import BackendOptions
from rlaif.errors import BackendError, ConfigError
from rlaif.judge.reward import RewardJudge
from rlaif.types import Candidate, Comparison, Completion, Item, Message, Request, Verdict
from tests.tiny import build_tiny_classifier

ITEM = Item("i", (Message("user", "Why?"),))


class Rewards:
    """Gives each response the reward that stands in it."""

    model = identity = "reward/fake"

    def __init__(self, failure: BackendError | None = None) -> None:
        self.asked: list[Request] = []
        self.failure = failure

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        if self.failure is not None:
            raise self.failure
        said = request.messages[-1].content
        raw = said.startswith("raw ")
        return Completion(said[4:] if raw else json.dumps({"reward": float(said)}))

    async def aclose(self) -> None:
        pass


def candidate(text: str, name: str = "c") -> Candidate:
    return Candidate(name, (Message("assistant", text),))


def pair(a: str, b: str) -> Comparison:
    return Comparison(ITEM, candidate(a, "a"), candidate(b, "b"))


def compare(comparison: Comparison, temperature: float = 1.0) -> Verdict:
    judge = RewardJudge(Rewards(), temperature_nats=temperature)
    return asyncio.run(judge.compare(comparison))


def test_p_a_is_bradley_and_terrys() -> None:
    verdict = compare(pair("1.5", "0.5"))
    verdict.check()
    assert verdict.preference is not None
    assert verdict.preference.p_a == pytest.approx(1 / (1 + math.exp(-1)))
    assert verdict.preference.winner == "A"
    assert verdict.preference.consistent
    assert [order.shown for order in verdict.preference.orders] == ["AB", "BA"]
    assert [json.loads(call.reply)["reward"] for call in verdict.calls] == [1.5, 0.5]
    assert compare(pair("1.5", "0.5"), 2.0).preference.p_a == pytest.approx(  # type: ignore[union-attr]
        1 / (1 + math.exp(-0.5))
    )


rewards = st.floats(-1e6, 1e6, allow_nan=False).map(str)


@given(rewards, rewards)
def test_swapping_the_responses_swaps_the_verdict(a: str, b: str) -> None:
    straight, swapped = compare(pair(a, b)).preference, compare(pair(a, b).swapped()).preference
    assert straight is not None
    assert swapped is not None
    assert straight.p_a == pytest.approx(1 - swapped.p_a)
    flipped = {"A": "B", "B": "A", "tie": "tie"}
    assert swapped.winner == flipped[straight.winner]


def test_identical_responses_are_a_tie_without_a_call() -> None:
    backend = Rewards()
    judge = RewardJudge(backend)
    comparison = Comparison(ITEM, candidate("1"), candidate("1"))
    verdict = asyncio.run(judge.compare(comparison))
    assert verdict.preference is not None
    assert (verdict.preference.winner, backend.asked, verdict.calls) == ("tie", [], ())
    assert judge.requests(comparison) == []


def test_a_score_is_the_chance_to_beat_a_reward_of_0() -> None:
    verdict = asyncio.run(RewardJudge(Rewards()).score(ITEM, candidate("-2")))
    verdict.check()
    assert verdict.score is not None
    assert verdict.score.value == pytest.approx(1 / (1 + math.exp(2)))
    assert (verdict.score.min, verdict.score.max) == (0.0, 1.0)
    assert json.loads(verdict.calls[0].reply) == {"reward": -2.0}


@pytest.mark.parametrize(
    "reply", ["", "{}", "{", '{"reward": "3"}', '{"reward": true}', "[1]", "7"]
)
def test_a_reply_without_a_reward_is_no_verdict(reply: str) -> None:
    said = "raw " + reply
    scored = asyncio.run(RewardJudge(Rewards()).score(ITEM, candidate(said)))
    assert (scored.status, scored.cause, scored.score) == ("no_verdict", "unreadable", None)
    compared = compare(pair("1", said))
    assert (compared.status, compared.cause) == ("no_verdict", "unreadable")
    assert len(compared.calls) == 2


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_reward_that_is_not_finite_is_no_verdict(number: str) -> None:
    class Odd(Rewards):
        async def complete(self, request: Request) -> Completion:
            return Completion(f'{{"reward": {number}}}')

    verdict = asyncio.run(RewardJudge(Odd()).score(ITEM, candidate("x")))
    assert verdict.cause == "unreadable"


def test_a_failure_is_a_cause_and_a_fatal_one_is_raised() -> None:
    passing = RewardJudge(Rewards(BackendError("too long", kind="request")))
    assert asyncio.run(passing.compare(pair("1", "2"))).cause == "provider_error"
    with pytest.raises(BackendError, match="broken"):
        asyncio.run(
            RewardJudge(Rewards(BackendError("broken", fatal=True))).compare(pair("1", "2"))
        )


def test_turns_in_between_are_shown() -> None:
    backend = Rewards()
    turns = (Message("assistant", "One."), Message("user", "More."), Message("assistant", "2"))
    asyncio.run(RewardJudge(backend).score(ITEM, Candidate("c", turns)))
    assert backend.asked[0].messages == (*ITEM.prompt, *turns)
    assert backend.asked[0].task == "reward"


def test_a_temperature_of_0_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        RewardJudge(Rewards(), temperature_nats=0.0)


def test_with_a_real_classifier(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from rlaif.backends.reward import open_reward

    folder = build_tiny_classifier(tmp_path)

    async def work() -> tuple[Verdict, Verdict]:
        backend = open_reward(str(folder), BackendOptions())
        judge = RewardJudge(backend)
        both = pair("Because it rains.", "It is so.")
        try:
            return await judge.compare(both), await judge.compare(both.swapped())
        finally:
            await backend.aclose()

    straight, swapped = asyncio.run(work())
    assert straight.preference is not None
    assert swapped.preference is not None
    assert 0 < straight.preference.p_a < 1
    assert straight.preference.p_a != 0.5
    assert straight.preference.p_a == pytest.approx(1 - swapped.preference.p_a, abs=1e-6)
