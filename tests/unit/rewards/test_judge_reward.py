from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BudgetError, ConfigError, DataError, StoreError
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.judge.pointwise import PointwiseJudge
from rlaif.judge.reward import RewardJudge
from rlaif.rewards.judge_reward import JudgeReward
from rlaif.types import Completion, Request, Usage, Verdict
from tests.builders import rubric
from tests.unit.rewards.judges import Comparing, Grader

GRADES = {"bad": 1, "fair": 3, "good": 5}


def rewards(reward: JudgeReward, *completions: object, **more: object) -> list[float | None]:
    prompts = ["Hi?"] * len(completions)
    return asyncio.run(reward(prompts, list(completions), **more))  # type: ignore[arg-type]


def test_a_grade_becomes_a_reward_from_the_worst_to_the_best() -> None:
    reward = JudgeReward(Grader(lambda text: GRADES[text]))
    assert rewards(reward, "bad", "fair", "good") == [-1.0, 0.0, 1.0]


def test_text_and_messages_are_the_same_completion_and_asked_once() -> None:
    judge = Grader(lambda text: GRADES[text])
    said = [{"role": "assistant", "content": "good"}]
    assert rewards(JudgeReward(judge), "good", said, "good") == [1.0, 1.0, 1.0]
    assert judge.asked == ["good"]


def test_no_verdict_is_none_and_never_zero() -> None:
    causes = {"x": "unreadable", "y": "budget"}
    reward = JudgeReward(Grader(lambda text: causes.get(text) or GRADES[text]))  # type: ignore[arg-type]
    assert rewards(reward, "x", "good", "y") == [None, 1.0, None]
    assert reward.tally.causes == {"unreadable": 1, "budget": 1}
    assert reward.tally.coverage == pytest.approx(1 / 3)


def test_the_mean_of_the_group_stands_in_where_it_is_asked_for() -> None:
    judge = Grader(lambda text: GRADES.get(text) or "refused")
    reward = JudgeReward(judge, no_verdict="mean")
    assert rewards(reward, "x", "good", "bad", "good") == pytest.approx([1 / 3, 1, -1, 1])
    # nothing was read in the group: there is no mean, and still no zero
    assert rewards(reward, "x", "y") == [None, None]


def test_each_prompt_has_its_reference() -> None:
    judge = Grader(lambda text: 3.0)
    prompts, more = ["p", "p", "q"], {"reference": ["r", "r", None], "other": [1, 2, 3]}
    asyncio.run(JudgeReward(judge)(prompts, ["a", "b", "a"], **more))
    assert [item.reference for item in judge.items] == ["r", "r", None]
    named = Grader(lambda text: 3.0)
    columns = {"solution": ["s"], "reference": ["no"]}
    asyncio.run(JudgeReward(named, reference="solution")(["p"], ["a"], **columns))
    assert named.items[0].reference == "s"


def test_comparisons_rank_the_completions_of_a_prompt() -> None:
    judge = Comparing(lambda a, b: 0.5 + (GRADES[a] - GRADES[b]) / 10)
    reward = JudgeReward(judge)
    made = asyncio.run(reward(["p", "p", "q", "p", "q"], ["bad", "good", "fair", "fair", "fair"]))
    # q's two are the same: a tie without a call
    assert made == pytest.approx([-0.6, 0.6, 0.0, 0.0, 0.0])
    assert len(judge.asked) == 3


def test_fewer_opponents_ask_fewer_comparisons() -> None:
    judge = Comparing(lambda a, b: float(a > b))
    rewards(JudgeReward(judge, opponents=2), *"abcdefgh")
    assert len(judge.asked) == 8


def test_an_unread_comparison_is_no_tie() -> None:
    judge = Comparing(lambda a, b: "unreadable" if "x" in (a, b) else 1.0 if a < b else 0.0)
    seen: dict[str, list[object]] = {}
    made = rewards(JudgeReward(judge), "a", "b", "x", log_extra=seen.__setitem__)
    assert made == [1.0, -1.0, None]
    assert seen == {"judge_no_verdict": [None, None, "unreadable"]}


def test_a_lone_completion_has_no_opponent() -> None:
    seen: dict[str, list[object]] = {}
    reward = JudgeReward(Comparing(lambda a, b: 1.0))
    assert rewards(reward, "a", log_extra=seen.__setitem__) == [None]
    assert seen["judge_no_verdict"] == ["alone"]


def test_what_a_trainer_logs() -> None:
    metrics: dict[str, float] = {}
    extra: dict[str, list[object]] = {}
    judge = Grader(lambda text: GRADES.get(text) or "refused")
    rewards(
        JudgeReward(judge, name="help"),
        *("good", "fair", "x", "good"),
        log_metric=metrics.__setitem__,
        log_extra=extra.__setitem__,
    )
    assert metrics.pop("help/seconds") >= 0
    assert metrics == pytest.approx(
        {
            "help/coverage": 0.75,
            "help/mean": 2 / 3,
            "help/no_verdict/refused": 0.25,
            "help/calls": 0.0,
            "help/cost_usd": 0.0,
        }
    )
    assert extra == {
        "help_no_verdict": [None, None, "refused", None],
        "help_rationale": ["because", "because", None, "because"],
    }


def test_costs_and_budget_are_counted_with_a_real_judge() -> None:
    def reply(request: Request) -> Completion | BudgetError:
        if "costly" in request.messages[-1].content:
            return BudgetError("the budget is spent")
        return Completion("quality: [[4]]", usage=Usage(10, 0, 2), cost_usd=0.25)

    metrics: dict[str, float] = {}
    reward = JudgeReward(PointwiseJudge(ScriptedBackend(reply), rubric()))
    made = rewards(reward, "one", "costly", "two", log_metric=metrics.__setitem__)
    assert made == [0.5, None, 0.5]
    assert metrics["judge/cost_usd"] == 0.5
    assert metrics["judge/no_verdict/budget"] == pytest.approx(1 / 3)
    assert reward.tally.summary()["cost_usd"] == 0.5


def test_a_real_pairwise_judge_asks_both_orders() -> None:
    def reply(request: Request) -> str:
        text = request.messages[-1].content
        return "[[A]]" if text.index("gold") < text.index("lead") else "[[B]]"

    backend = ScriptedBackend(reply)
    metrics: dict[str, float] = {}
    reward = JudgeReward(PairwiseJudge(backend, rubric()))
    assert rewards(reward, "lead", "gold", log_metric=metrics.__setitem__) == [-1.0, 1.0]
    assert backend.calls == 2
    assert metrics["judge/consistent"] == 1.0


def test_all_are_asked_at_once() -> None:
    reward = JudgeReward(Grader(lambda text: 3.0, wait_s=0.1))
    started = time.monotonic()
    rewards(reward, *map(str, range(32)))
    assert time.monotonic() - started < 0.1 * 32 / 4


def test_trainers_that_do_not_await_get_a_plain_function() -> None:
    reward = JudgeReward(Grader(lambda text: GRADES[text]), name="help")
    assert reward.blocking.__name__ == "help"
    assert reward.blocking(prompts=["p"], completions=["good"], completion_ids=[[1]]) == [1.0]


def test_every_verdict_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "verdicts.jsonl"
    reward = JudgeReward(Grader(lambda text: GRADES[text]), record=path)
    rewards(reward, "good", "good", "bad")
    rewards(reward, "fair")
    kept = [Verdict.from_dict(json.loads(line)) for line in path.read_text().splitlines()]
    assert [one.candidates[0].text for one in kept] == ["good", "bad", "fair"]
    with pytest.raises(StoreError, match="directory"):
        rewards(JudgeReward(Grader(lambda text: 3.0), record=tmp_path), "a")


def test_a_reward_model_does_both_and_must_be_told() -> None:
    judge = RewardJudge(
        ScriptedBackend(lambda r: json.dumps({"reward": len(r.messages[-1].content)}))
    )
    with pytest.raises(ConfigError, match="say whether"):
        JudgeReward(judge)
    assert JudgeReward(judge, by="comparison").by == "comparison"
    graded = rewards(JudgeReward(judge, by="score"), "", "aaaa")
    assert graded[0] == pytest.approx(0.0)
    assert graded[1] is not None
    assert graded[1] > 0.9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "comparison"}, "Grader does not judge by comparison"),
        ({"by": "vibes"}, "by is 'score' or 'comparison'"),
        ({"opponents": 2}, "opponents is a count"),
        ({"strength": "elo"}, "strength is one of"),
        ({"no_verdict": "zero"}, "no_verdict is 'none' or 'mean'"),
        ({"on_outage": "zero"}, "on_outage is 'pause' or 'mask'"),
        ({"longest_pause_s": -1}, "longest_pause_s is 0 or more"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        JudgeReward(Grader(lambda text: 3.0), **options)  # type: ignore[arg-type]


def test_as_many_prompts_as_completions() -> None:
    with pytest.raises(DataError, match="1 prompts are not as many as 2 completions"):
        asyncio.run(JudgeReward(Grader(lambda text: 3.0))(["p"], ["a", "b"]))


def test_no_completions_are_no_rewards() -> None:
    metrics: dict[str, float] = {}
    assert rewards(JudgeReward(Grader(lambda t: 3.0)), log_metric=metrics.__setitem__) == []
    assert metrics["judge/coverage"] == 1.0
