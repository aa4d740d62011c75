"""GRPO and RLOO of TRL on a tiny model, with rewards of every kind."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from rlaif.backends.local import weights_digest
from rlaif.errors import BudgetError, ConfigError, DataError
from rlaif.evals.audit_thresholds import Bounds
from rlaif.train.alarms import Limits
from rlaif.train.online import OnlineSettings, load_prompts, train_online
from rlaif.train.online_alarms import OnlineAlarms
from tests.unit.train.conftest import said

# TRL's loop of async rewards is closed by nobody
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-2,
    "batch_size": 8,
    "micro_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 6,
    "max_length": 128,
    "lora_rank": 4,
    "warmup_steps": 0,
    "save_steps": 1,
    "max_steps": 3,
}


def prompts(n: int = 8) -> Any:
    import datasets

    return datasets.Dataset.from_dict(
        {"prompt": [said("user", f"Say {i}.") for i in range(n)], "want": ["e"] * n}
    )


def vowels(completions: Any, **columns: Any) -> list[float | None]:
    assert set(columns["want"]) == {"e"}
    return [float(len(c[0]["content"].encode()) % 3) for c in completions]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("algorithm", ["grpo", pytest.param("rloo", marks=pytest.mark.slow)])
def test_it_trains_and_a_stopped_run_ends_with_the_same_weights(
    algorithm: Any, tiny_model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    def run(name: str, **more: Any) -> dict[str, Any]:
        settings = OnlineSettings(**SETTINGS)
        return train_online(
            algorithm, tiny_model, prompts(), [vowels], tmp_path / name, settings, home=home, **more
        )

    whole = run("whole")
    assert (whole["steps"], whole["episodes"], whole["coverage"]) == (3, 24, 1.0)
    digest = weights_digest(tmp_path / "whole" / "model")
    assert digest != weights_digest(tiny_model)
    curves = read(tmp_path / "whole" / "training.jsonl")
    assert [row["step"] for row in curves] == [1, 2, 3]
    assert [row["episodes"] for row in curves] == [8, 16, 24]
    names = {"loss", "reward", "entropy", "length", "length_p95", "coverage", "unfinished"}
    kl = "kl" if algorithm == "rloo" else "kl_k3"
    assert names | {kl, "reward/vowels"} <= set(curves[0])
    assert curves[0][kl] == pytest.approx(0.0, abs=1e-3)
    assert curves[0]["length"] <= curves[0]["length_p95"] <= 6
    samples = read(tmp_path / "whole" / "samples.jsonl")
    assert {row["step"] for row in samples} == {1, 2, 3}
    assert set(samples[0]) == {"step", "prompt", "completion", "reward"}

    def stop(done: int, total: int, note: str) -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run("broken", progress=stop)
    assert run("broken")["steps"] == 3
    assert weights_digest(tmp_path / "broken" / "model") == digest
    assert read(tmp_path / "broken" / "samples.jsonl") == samples


def test_what_has_no_reward_is_left_out_and_counted(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    def some(completions: Any, log_metric: Any, **_: Any) -> list[float | None]:
        log_metric("judge/cost_usd", 0.25)
        return [None if n % 4 == 0 else float(n) for n in range(len(completions))]

    settings = OnlineSettings(**SETTINGS | {"max_steps": 1})
    found = train_online(
        "grpo", tiny_model, prompts(), [some], tmp_path / "run", settings, home=home
    )
    assert (found["coverage"], found["cost_usd"]) == (0.75, 0.25)
    [row] = read(tmp_path / "run" / "training.jsonl")
    assert row["reward"] == pytest.approx((1 + 2 + 3 + 5 + 6 + 7) / 6)
    assert row["judge/cost_usd"] == 0.25


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
@pytest.mark.parametrize("reward", [None, 1.5])
def test_rewards_that_are_all_the_same_or_missing_teach_nothing(
    algorithm: Any, reward: float | None, tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    seen: list[dict[str, Any]] = []
    settings = OnlineSettings(**SETTINGS | {"max_steps": 1, "beta": 0.0})
    train_online(
        algorithm,
        tiny_model,
        prompts(),
        [lambda completions, **_: [reward] * len(completions)],
        tmp_path / "run",
        settings,
        home=home,
        watch=[lambda figures: seen.append(dict(figures))],
    )
    [row] = read(tmp_path / "run" / "training.jsonl")
    assert row["grad_norm"] == pytest.approx(0.0, abs=1e-9)
    assert row.get("reward") == reward
    assert row["coverage"] == (0.0 if reward is None else 1.0)
    assert seen[0]["step"] == 1


def test_a_reward_that_is_no_number_names_its_function(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    async def broken(completions: Any, **_: Any) -> list[float]:
        return [math.nan] * len(completions)

    settings = OnlineSettings(**SETTINGS)
    with pytest.raises(DataError, match="reward function broken gave nan"):
        train_online("grpo", tiny_model, prompts(), [broken], tmp_path / "run", settings, home=home)


def test_a_spent_budget_keeps_the_state_and_a_larger_one_goes_on(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    def poor(completions: Any, log_metric: Any, **_: Any) -> list[float | None]:
        log_metric("judge/no_verdict/budget", 0.5)
        return [None if n % 2 else float(n) for n in range(len(completions))]

    settings = OnlineSettings(**SETTINGS)
    given: Any = ("grpo", tiny_model, prompts())
    with pytest.raises(BudgetError, match="a larger budget goes on"):
        train_online(*given, [poor], tmp_path / "run", settings, home=home)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-1").exists()

    def rich(completions: Any, **_: Any) -> list[float]:
        return [float(n) for n in range(len(completions))]

    rich.__name__ = "poor"  # the same reward, paid
    found = train_online(*given, [rich], tmp_path / "run", settings, home=home)
    assert found["steps"] == 3
    assert [row["coverage"] for row in read(tmp_path / "run" / "training.jsonl")] == [0.5, 1, 1]


def test_who_watches_may_end_it(tiny_model: Path, home: Path, tmp_path: Path) -> None:
    settings = OnlineSettings(**SETTINGS)
    found = train_online(
        "grpo",
        tiny_model,
        prompts(),
        [vowels],
        tmp_path / "run",
        settings,
        home=home,
        watch=[lambda figures: figures["step"] == 1],
    )
    assert found["steps"] == 1
    assert "alarms" not in found


def test_alarms_watch_a_run_that_is_gone_on_with(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    """Its first step, from before the stop, is the baseline of its last two."""
    limits = Limits("test", {"coverage": Bounds(least=1.1)}, "value", baseline=1, window=2)

    def run(alarms: OnlineAlarms, **more: Any) -> dict[str, Any]:
        given: Any = ("grpo", tiny_model, prompts(), [vowels], tmp_path / "run")
        settings = OnlineSettings(**SETTINGS)
        return train_online(*given, settings, home=home, alarms=alarms, **more)

    def stop(done: int, total: int, note: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(OnlineAlarms(limits), progress=stop)
    found = run(OnlineAlarms(limits, ceiling=3.0))
    fired = found["alarms"]["fired"]
    assert [(row["name"], row["step"], row["value"]) for row in fired] == [("coverage", 3, 1.0)]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["alarms"] == found["alarms"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"num_generations": 1}, "2 or more"),
        ({"batch_size": 6}, "no multiple of num_generations"),
        ({"beta": -1.0}, "beta is -1.0"),
        ({"temperature": 0.0}, "temperature must be more than 0"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_completion_length": 0}, "1 or more"),
    ],
)
def test_settings_that_cannot_be_trained_with(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OnlineSettings(**SETTINGS | {"micro_batch_size": None} | more)


def test_completions_must_leave_room_for_prompts(
    tiny_model: Path, home: Path, tmp_path: Path
) -> None:
    settings = OnlineSettings(**SETTINGS | {"max_completion_length": 128})
    with pytest.raises(ConfigError, match="leave no room for a prompt in 128"):
        train_online("grpo", tiny_model, prompts(), [vowels], tmp_path / "a", settings, home=home)
    with pytest.raises(ConfigError, match="grpo or rloo, not 'ppo'"):
        train_online("ppo", tiny_model, prompts(), [vowels], tmp_path / "b", home=home)  # type: ignore[arg-type]


def test_prompts_bring_their_references_and_plain_columns(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": "Why?", "reference": "So.", "level": 1, "tags": ["a"], "odd": "x"},
        {"prompt": "How?", "level": 2, "tags": [], "odd": 3},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load_prompts(path)
    assert found["prompt"][:] == [said("user", "Why?"), said("user", "How?")]
    assert found["reference"][:] == ["So.", None]
    assert found["level"][:] == [1, 2]
    assert set(found.column_names) == {"prompt", "id", "reference", "level"}
    assert len(load_prompts(path, limit=1)) == 1
