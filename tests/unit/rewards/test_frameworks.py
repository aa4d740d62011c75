from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from rlaif.errors import ConfigError, DataError, VerdictError
from rlaif.rewards.frameworks import OpenRLHFReward, VerlReward
from rlaif.rewards.judge_reward import JudgeReward
from tests.unit.rewards.judges import Comparing, Grader

GRADES = {"bad": 1, "fair": 3, "good": 5}


def grader() -> Grader:
    return Grader(lambda text: GRADES.get(text) or "unreadable")


def verl(judge: Grader, response: str, extra: Any, truth: Any = "r", **more: Any) -> Any:
    return asyncio.run(VerlReward(JudgeReward(judge), **more)("set", response, truth, extra))


def test_verl_gets_the_same_keys_with_and_without_a_verdict() -> None:
    judge = grader()
    assert verl(judge, "good", {"question": "Hi?"}) == {
        "score": 1.0,
        "no_verdict": 0,
        "cost_usd": 0.0,
    }
    assert judge.items[0].reference == "r"
    assert judge.items[0].prompt[0].content == "Hi?"
    made = verl(judge, "x", {"prompt": [{"role": "user", "content": "Hi?"}]}, 3, neutral=-0.25)
    assert made == {"score": -0.25, "no_verdict": 1, "cost_usd": 0.0}
    assert judge.items[1].reference is None


def test_verl_finds_that_it_is_to_be_awaited() -> None:
    assert inspect.iscoroutinefunction(VerlReward(JudgeReward(grader())).__call__)


def test_verl_has_no_word_for_no_verdict() -> None:
    with pytest.raises(VerdictError, match=r"no verdict \(unreadable\)") as caught:
        verl(grader(), "x", {"question": "Hi?"})
    assert caught.value.cause == "unreadable"
    with pytest.raises(DataError, match="extra_info needs the prompt"):
        verl(grader(), "good", None)
    with pytest.raises(ConfigError, match="one response at a time"):
        VerlReward(JudgeReward(Comparing(lambda a, b: 1.0)))


def test_openrlhf_gets_tensors_of_one_length() -> None:
    reward = OpenRLHFReward(JudgeReward(grader()), neutral=0.0)
    prompts = ["<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"] * 3
    ends = ["good<|im_end|>", "x", "bad</s>\n"]
    made = reward([p + end for p, end in zip(prompts, ends, strict=True)], prompts, ["r", None, 3])
    assert made["rewards"].tolist() == [1.0, 0.0, -1.0]
    assert made["scores"].tolist() == [1.0, 0.5, 0.0]
    assert made["extra_logs"]["judge_no_verdict"].tolist() == [0.0, 1.0, 0.0]


def test_openrlhf_ranks_a_group_that_comes_whole() -> None:
    judge = Comparing(lambda a, b: 0.5 + (GRADES[a] - GRADES[b]) / 8)
    made = OpenRLHFReward(JudgeReward(judge))(["pgood", "pbad"], ["p", "p"])
    assert made["rewards"].tolist() == [1.0, -1.0]
    with pytest.raises(VerdictError, match="alone"):
        OpenRLHFReward(JudgeReward(judge))(["pgood"], ["p"])


def test_openrlhf_queries_begin_with_their_prompts() -> None:
    with pytest.raises(DataError, match="does not begin with its prompt"):
        OpenRLHFReward(JudgeReward(grader()))(["good"], ["p"])
