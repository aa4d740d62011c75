"""Any mix of rewards, and what is missing or wrong in them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import ConfigError, DataError
from rlaif.train.ppo.rewards import ModelReward, RewardMix, Scored

PROMPTS = ["one", "two", "three"]
TEXTS = ["a", "bb", "ccc"]


def asked(mix: RewardMix, **columns: Any) -> Scored:
    async def ask() -> Scored:
        try:
            return await mix(PROMPTS, TEXTS, [[1], [2, 2], [3, 3, 3]], columns)
        finally:
            await mix.aclose()

    return asyncio.run(ask())


def length(completions: list[str], **_: Any) -> list[float]:
    return [float(len(text)) for text in completions]


async def later(prompts: list[str], completion_ids: list[list[int]]) -> list[float | None]:
    await asyncio.sleep(0)
    return [
        None if prompt == "two" else 10.0 * len(ids)
        for prompt, ids in zip(prompts, completion_ids, strict=True)
    ]


def test_rewards_are_summed_by_weight() -> None:
    scored = asked(RewardMix([length, lambda completions: [1, 1, 1]], [2.0, -0.5]))
    assert scored.totals == [1.5, 3.5, 5.5]
    assert scored.parts["length"] == [1.0, 2.0, 3.0]
    assert scored.figures()["reward/length"] == 2.0


def test_an_episode_that_lacks_a_reward_is_masked_or_lives_off_the_rest() -> None:
    assert asked(RewardMix([length, later])).totals == [11.0, None, 33.0]
    # 2 of length 2 stands for both: the other would have been worth as much
    assert asked(RewardMix([length, later], missing="rest")).totals == [11.0, 4.0, 33.0]
    nobody = RewardMix([lambda completions: [None] * 3], missing="rest")
    scored = asked(nobody)
    assert scored.totals == [None] * 3
    assert scored.figures() == {"reward/<lambda>": None}


def test_functions_are_given_what_they_take() -> None:
    def picky(completions: list[str], reference: list[str]) -> list[float]:
        return [float(a == b) for a, b in zip(completions, reference, strict=True)]

    def everything(**given: Any) -> list[float]:
        assert given.keys() >= {"prompts", "completions", "completion_ids", "reference", "extra"}
        return [0.0] * 3

    columns = {"reference": ["a", "b", "ccc"], "extra": [1, 2, 3]}
    assert asked(RewardMix([picky, everything]), **columns).totals == [1.0, 0.0, 1.0]


def test_objects_are_functions_too_and_may_log() -> None:
    class Judge:
        __name__ = "judge"

        async def __call__(
            self, prompts: Any, completions: Any, *, log_metric: Any = None, **_: Any
        ) -> list[float]:
            log_metric("judge/cost_usd", 0.25)
            log_metric("judge/coverage", 1.0)
            return [1.0, 2.0, 3.0]

    figures = asked(RewardMix([Judge()])).figures()
    assert figures["reward/judge"] == 2.0
    assert figures["judge/coverage"] == 1.0
    assert figures["cost_usd"] == 0.25


def test_what_awaits_only_sometimes_is_awaited() -> None:
    def sync(**given: Any) -> Any:
        return later(given["prompts"], given["completion_ids"])

    assert asked(RewardMix([sync])).totals == [10.0, None, 30.0]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_names_its_function(wrong: float) -> None:
    def mine(completions: list[str]) -> list[float]:
        return [0.0, wrong, 0.0]

    with pytest.raises(DataError, match=f"reward function mine gave {wrong} for response 1"):
        asked(RewardMix([length, mine]))


def test_as_many_rewards_as_responses() -> None:
    with pytest.raises(DataError, match="gave 1 rewards for 3 responses"):
        asked(RewardMix([lambda completions: [1.0]]))


def test_a_reward_of_weight_0_is_logged_and_may_be_missing() -> None:
    scored = asked(RewardMix([length, later], [2.0, 0.0]))
    assert scored.totals == [2.0, 4.0, 6.0]
    assert scored.figures()["reward/later"] == 20.0
    with pytest.raises(ConfigError, match="every reward has the weight 0"):
        RewardMix([length, later], [0.0, 0.0])


def test_names_are_told_apart() -> None:
    assert RewardMix([length, length, later]).names == ["length", "length#2", "later"]
    assert RewardMix([length], [0.5]).described() == [["length", 0.5]]


def test_a_mix_needs_functions_and_a_weight_for_each() -> None:
    with pytest.raises(ConfigError, match="no reward function"):
        RewardMix([])
    with pytest.raises(ConfigError, match="1 weights for 2"):
        RewardMix([length, later], [1.0])


def test_a_sequence_classifier_rewards(tmp_path: Path) -> None:
    from rlaif.backends.base import BackendOptions
    from rlaif.backends.reward import open_reward
    from rlaif.types import Message, Request
    from tests.tiny import build_tiny, build_tiny_classifier

    folder = build_tiny_classifier(tmp_path / "rm")
    mix = RewardMix([str(folder)])
    scored = asked(mix)
    assert asked(mix).totals == scored.totals  # let go of, and loaded again
    name = "reward/rm"
    assert list(scored.parts) == [name]

    async def alone() -> str:
        backend = open_reward(str(folder), BackendOptions())
        texts = (Message("user", "two"), Message("assistant", "bb"))
        done = await backend.complete(Request(texts, task="reward"))
        await backend.aclose()
        return done.text

    assert f'"reward":{scored.parts[name][1]:.4f}'[:14] in asyncio.run(alone())
    policy = build_tiny(tmp_path / "policy")
    with pytest.raises(ConfigError, match="no sequence classifier"):
        ModelReward(f"reward/{policy}")


def test_what_does_not_fit_the_classifier_has_no_reward(tmp_path: Path) -> None:
    from tests.tiny import build_tiny_classifier

    folder = build_tiny_classifier(tmp_path / "rm")

    async def ask() -> list[float | None]:
        reward = ModelReward(folder)
        try:
            chat = [[{"role": "assistant", "content": text}] for text in ("short", "x" * 600)]
            return await reward(["p", "p"], chat)
        finally:
            await reward.aclose()

    short, long = asyncio.run(ask())
    assert isinstance(short, float)
    assert long is None
