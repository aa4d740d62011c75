"""A judge as the reward of TRL's own online trainers, on a tiny random model."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BackendError, BudgetError
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.judge.pointwise import PointwiseJudge
from rlaif.rewards.judge_reward import JudgeReward
from rlaif.types import Request
from tests.builders import rubric

pytest.importorskip("trl")
# transformers' and TRL's own
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)

LATENCY_S = 0.2


def trainer(kind: str, folder: Path, model: Path, rewards: list[Any], **config: Any) -> Any:
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer

    rows = [
        {"prompt": [{"role": "user", "content": f"Say {n}."}], "reference": str(n)}
        for n in range(4)
    ]
    args = getattr(trl, f"{kind}Config")(
        output_dir=str(folder),
        max_steps=2,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=8,
        learning_rate=0.01,
        report_to="none",
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        logging_steps=1,
        gradient_checkpointing=False,
        disable_tqdm=True,
        seed=1,
        **config,
    )
    return getattr(trl, f"{kind}Trainer")(
        model=str(model),
        args=args,
        reward_funcs=rewards,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
    )


def weights(made: Any) -> Any:
    import torch

    return torch.cat([p.detach().flatten().clone() for p in made.model.parameters()])


def slowly(said: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Any]]:
    async def reply(request: Request) -> Any:
        await asyncio.sleep(LATENCY_S)
        return said(request)

    return reply


def grade(request: Request) -> str:
    """A grade that differs from text to text."""
    return f"[[{1 + sum(request.messages[-1].content.encode()) % 5}]]"


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_a_graded_batch_trains_and_waits_for_one_latency(
    kind: str, tmp_path: Path, tiny_model: Path
) -> None:
    backend = ScriptedBackend(slowly(grade))
    reward = JudgeReward(
        PointwiseJudge(backend, rubric()), name="help", record=tmp_path / "verdicts.jsonl"
    )
    made = trainer(kind, tmp_path / "out", tiny_model, [reward])
    before = weights(made)
    made.train()
    assert (weights(made) != before).any()
    logs = [row for row in made.state.log_history if "rewards/help/mean" in row]
    assert len(logs) == 2
    for row in logs:
        assert row["help/coverage"] == 1.0
        assert row["help/mean"] == pytest.approx(row["rewards/help/mean"], abs=1e-6)
        # eight completions were judged side by side
        assert LATENCY_S <= row["help/seconds"] < 8 * LATENCY_S / 2
    assert backend.peak_in_flight >= 6
    assert len((tmp_path / "verdicts.jsonl").read_text().splitlines()) == reward.tally.done
    assert reward.tally.coverage == 1.0


def test_two_rewards_are_asked_side_by_side(tmp_path: Path, tiny_model: Path) -> None:
    first, second = ScriptedBackend(slowly(grade)), ScriptedBackend(slowly(grade))
    rewards = [
        JudgeReward(PointwiseJudge(first, rubric()), name="one"),
        JudgeReward(PointwiseJudge(second, rubric()), name="two", no_verdict="mean"),
    ]
    made = trainer("GRPO", tmp_path, tiny_model, rewards)
    started = time.monotonic()
    made._calculate_rewards(*_batch(made))
    assert time.monotonic() - started < 2 * 8 * LATENCY_S / 4
    assert first.calls == second.calls == 8


def _batch(made: Any) -> tuple[Any, ...]:
    prompts = [[{"role": "user", "content": f"Say {n // 4}."}] for n in range(8)]
    completions = [[{"role": "assistant", "content": f"It is {n}."}] for n in range(8)]
    inputs = [{"prompt": p, "reference": "r"} for p in prompts]
    return inputs, prompts, completions, [[1]] * 8


@pytest.mark.parametrize("strength", ["mean", "bradley-terry"])
def test_completions_ranked_within_their_group(
    strength: Any, tmp_path: Path, tiny_model: Path
) -> None:
    def winner(request: Request) -> str:
        text = request.messages[-1].content
        a, b = (text.split(f"response_{side}>\n")[1].split("\n</")[0] for side in "ab")
        return "[[A]]" if a < b else "[[B]]" if b < a else "[[tie]]"

    reward = JudgeReward(
        PairwiseJudge(ScriptedBackend(winner), rubric()), opponents=2, strength=strength
    )
    made = trainer("GRPO", tmp_path, tiny_model, [reward])
    before = weights(made)
    made.train()
    assert (weights(made) != before).any()
    logs = [row for row in made.state.log_history if "judge/consistent" in row]
    assert [row["judge/consistent"] for row in logs] == [1.0, 1.0]
    # every win is another's loss
    assert [row["judge/mean"] for row in logs] == pytest.approx([0.0, 0.0], abs=0.05)


@pytest.mark.parametrize("kind", ["GRPO", pytest.param("RLOO", marks=pytest.mark.slow)])
@pytest.mark.parametrize("failure", ["unreadable", "budget", "outage"])
def test_without_any_verdict_nothing_is_learned(
    kind: str, failure: str, tmp_path: Path, tiny_model: Path
) -> None:
    replies: dict[str, Any] = {
        "unreadable": "I would rather not say.",
        "budget": BudgetError("the budget is spent"),
        "outage": BackendError("connection refused", kind="connection"),
    }
    backend = ScriptedBackend(lambda request: replies[failure])
    reward = JudgeReward(PointwiseJudge(backend, rubric()), on_outage="mask")
    made = trainer(kind, tmp_path, tiny_model, [reward], beta=0.0)
    before = weights(made)
    made.train()
    assert (weights(made) == before).all()
    cause = {"outage": "provider_error"}.get(failure, failure)
    logs = [row for row in made.state.log_history if "judge/coverage" in row]
    assert [(row["judge/coverage"], row[f"judge/no_verdict/{cause}"]) for row in logs] == [
        (0.0, 1.0)
    ] * 2
    assert all("judge/mean" not in row for row in logs)
    assert all(row["reward"] is None or math.isnan(row["reward"]) for row in logs)


def test_one_missing_verdict_moves_neither_itself_nor_the_others(
    tmp_path: Path, tiny_model: Path
) -> None:
    def some(request: Request) -> str:
        silent = any("It is 3." in message.content for message in request.messages)
        return "no idea" if silent else grade(request)

    reward = JudgeReward(PointwiseJudge(ScriptedBackend(some), rubric()))
    made = trainer("GRPO", tmp_path, tiny_model, [reward])
    found = made._calculate_rewards(*_batch(made))[:, 0].tolist()
    assert [math.isnan(r) for r in found] == [n == 3 for n in range(8)]


def test_online_dpo_takes_the_plain_function(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    reward = JudgeReward(PointwiseJudge(ScriptedBackend(grade), rubric()))
    made = OnlineDPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32),
        reward_funcs=reward.blocking,
        args=OnlineDPOConfig(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=2,
            max_new_tokens=8,
            report_to="none",
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            gradient_checkpointing=False,
            disable_tqdm=True,
            learning_rate=0.01,
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": f"Say {n}."}]} for n in range(4)]
        ),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )
    before = weights(made)
    made.train()
    assert (weights(made) != before).any()
    assert reward.tally.coverage == 1.0
