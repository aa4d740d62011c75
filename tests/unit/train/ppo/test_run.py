"""A run in a folder: what it leaves, and a judge that fails now and then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import BackendError, ConfigError
from rlaif.report.page import render_page
from rlaif.report.training import training_page
from rlaif.train.online_alarms import OnlineAlarms
from rlaif.train.ppo import PPOConfig, PPOTrainer, ServedPolicy
from rlaif.train.ppo.run import train_ppo
from rlaif.types import Completion, Request
from tests.unit.train.ppo.conftest import PROMPTS, rows_of, share_of_letters

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing` is deprecated")


def settings(folder: Path, **given: Any) -> PPOConfig:
    small: dict[str, Any] = {"total_episodes": 16, "batch_size": 8, "epochs": 1}
    return PPOConfig(folder, **(small | {"response_length": 4} | given))


def test_it_leaves_a_plain_checkpoint_that_can_be_trained_again(
    flat_model: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    first = train_ppo(
        flat_model,
        PROMPTS,
        [share_of_letters],
        settings(tmp_path / "one", learning_rate=1e-2),
        facts={"judged by": "a | function\nhere"},
        progress=lambda done, total, note: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]
    assert first["dtype"] == "float32"
    model = tmp_path / "one" / "model"
    assert "| judged by | a \\| function here |" in (model / "README.md").read_text()
    assert json.loads((tmp_path / "one" / "summary.json").read_text()) == first
    second = train_ppo(model, PROMPTS, [share_of_letters], settings(tmp_path / "two"), lora_rank=0)
    assert second["updates"] == 2
    with pytest.raises(ConfigError, match="another run"):
        train_ppo(model, PROMPTS, [share_of_letters], settings(tmp_path / "one"))


def test_where_it_was_stopped_there_is_no_model_yet(flat_model: Path, tmp_path: Path) -> None:
    def run(**more: Any) -> dict[str, Any]:
        return train_ppo(
            flat_model, PROMPTS, [share_of_letters], settings(tmp_path / "run"), **more
        )

    assert run(callbacks=[lambda figures: True])["stopped"]
    assert not (tmp_path / "run" / "model").exists()
    assert not run()["stopped"]
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_a_server_needs_adapters_to_follow(flat_model: Path, tmp_path: Path) -> None:
    served = ServedPolicy("http://127.0.0.1:9/v1", "base", folder=tmp_path)
    args = settings(tmp_path / "run")
    with pytest.raises(ConfigError, match="by its adapters"):
        train_ppo(flat_model, PROMPTS, [share_of_letters], args, lora_rank=0, served_policy=served)


def test_half_precision_weights_that_stay(flat_model: Path, tmp_path: Path) -> None:
    args = settings(tmp_path / "run")
    summary = train_ppo(flat_model, PROMPTS, [share_of_letters], args, dtype="bfloat16")
    assert summary["dtype"] == "bfloat16"
    assert summary["last"]["first_ratio"] == 1.0


class _Flaky:
    """A judge's backend that fails for three calls in ten."""

    model = "flaky/judge"
    identity = "flaky/judge"

    def __init__(self) -> None:
        self._turn: Iterator[int] = iter(range(10**6))

    async def complete(self, request: Request) -> Completion:
        if next(self._turn) % 10 in (1, 4, 7):
            raise BackendError("the judge has a bad day", kind="bad_reply")
        return Completion("helpfulness: [[4]]", model=self.model)

    async def aclose(self) -> None: ...


def test_a_judge_that_fails_for_three_in_ten_masks_them(flat_model: Path, tmp_path: Path) -> None:
    from rlaif import JudgeReward, PointwiseJudge, load_rubric

    reward = JudgeReward(
        PointwiseJudge(_Flaky(), load_rubric("helpfulness")), on_outage="mask", name="judge"
    )
    args = settings(tmp_path / "run", batch_size=20, total_episodes=40)
    chat = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in PROMPTS]
    summary = train_ppo(flat_model, chat, [reward], args)
    covered = [row["coverage"] for row in rows_of(tmp_path / "run" / "training.jsonl")]
    assert 0.5 < sum(covered) / 2 < 0.9
    assert summary["last"]["reward"] == 0.5  # of those that have one: it is never 0


def _likes_a(completions: list[str], **_: Any) -> list[float | None]:
    """A judge that can be gamed: it wants the letter a, wherever it stands."""
    return [text.count("a") / 3 for text in completions]


def _gold(completions: list[str], **_: Any) -> list[float | None]:
    """What is wanted: letters that differ."""
    return [len(set(text)) / 3 for text in completions]


def _no_room(*_: object) -> None:
    raise OSError("no room")


def test_a_run_that_games_its_judge_ends_with_the_alarms_that_say_so(
    flat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, alarms: OnlineAlarms, **more: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "total_episodes": 960,
            "batch_size": 48,
            "micro_batch_size": 24,
            "epochs": 4,
            "learning_rate": 1.5e-2,
            "response_length": 3,
            "stop_at_eos": False,
            "kl_coefficient": 0.0,
        }
        return train_ppo(
            flat_model,
            PROMPTS[:1],
            [_likes_a, _gold],
            settings(tmp_path / name, **given | more),
            reward_weights=[1.0, 0.0],
            lora_rank=0,
            alarms=alarms,
        )

    told: list[str] = []
    gamed = run("gamed", OnlineAlarms(gold="reward/_gold", ceiling=1.0, tell=told.append))
    assert gamed["stopped"]
    assert gamed["updates"] == 15  # as soon as there is a beginning to compare with
    assert gamed["last"]["reward"] > 0.9
    fired = {row["name"] for row in gamed["alarms"]["fired"]}
    assert fired >= {"gold_trend", "entropy", "self_similarity"}
    assert len(told) == len(fired)
    assert json.loads((tmp_path / "gamed" / "summary.json").read_text()) == gamed
    assert "gold_trend" in render_page(training_page(tmp_path / "gamed"))

    # ended after the last checkpoint, before the model was kept: there is no update left to make
    short = {"total_episodes": 720}
    with monkeypatch.context() as patched:
        patched.setattr(PPOTrainer, "save_model", _no_room)
        with pytest.raises(OSError, match="no room"):
            run("resumed", OnlineAlarms(gold="reward/_gold", stop=False), **short)
    resumed = run("resumed", OnlineAlarms(gold="reward/_gold", stop=False), **short)
    assert {row["name"] for row in resumed["alarms"]["fired"]} >= {"gold_trend", "entropy"}

    quiet = run(
        "quiet", OnlineAlarms(gold="reward/_gold"), learning_rate=1e-6, epochs=1, total_episodes=720
    )
    assert not quiet["stopped"]
    assert quiet["alarms"]["fired"] == []
    assert {row["name"] for row in quiet["alarms"]["now"]} >= {"entropy", "self_similarity"}
