"""Alarms inside online training: baseline and window, texts that pass by, an end where wanted."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from rlaif.evals.audit_thresholds import Bounds
from rlaif.train.alarms import Limits, load_limits
from rlaif.train.online_alarms import OnlineAlarms, from_trl

LIMITS = Limits(
    "test",
    {
        "kl": Bounds(most=5.0),
        "length_mean": Bounds(0.5, 1.5),
        "gold_trend": Bounds(least=0.0),
        "unfinished": Bounds(most=0.2),
        "entropy": Bounds(least=0.5),
        "judge_ceiling": Bounds(most=0.8),
        "self_similarity": Bounds(most=0.2),
        "coverage": Bounds(least=0.8),
    },
    baseline=3,
    window=4,
)


def run(alarms: OnlineAlarms, rows: list[dict[str, Any]]) -> list[bool]:
    return [alarms({"step": i + 1, **row}) for i, row in enumerate(rows)]


def test_nothing_is_said_before_there_is_a_baseline_and_a_window() -> None:
    alarms = OnlineAlarms(LIMITS)
    assert run(alarms, [{"kl": 100.0}] * 6) == [False] * 6
    assert alarms.alarms == []
    assert alarms({"step": 7, "kl": 100.0})


def test_a_kl_that_runs_away_ends_the_training_and_is_told_once() -> None:
    told: list[str] = []
    alarms = OnlineAlarms(LIMITS, tell=told.append)
    ends = run(alarms, [{"kl": 0.5 * i + 0.01 * (i % 2)} for i in range(30)])
    assert True in ends
    first = ends.index(True)
    assert not any(ends[:first])
    assert alarms.fired["kl"][0] == first + 1
    assert len(told) == 1
    assert told[0].startswith("alarm: kl ")
    found = alarms.as_dict()
    assert [row["name"] for row in found["fired"]] == ["kl"]
    assert found["fired"][0]["step"] == first + 1
    assert {row["name"] for row in found["now"]} == {"kl"}


def test_training_goes_on_where_that_is_wanted() -> None:
    alarms = OnlineAlarms(LIMITS, stop=False)
    assert not any(run(alarms, [{"kl": 50.0}] * 20))
    assert "kl" in alarms.fired


def test_ratios_and_rises_are_against_the_first_steps() -> None:
    alarms = OnlineAlarms(LIMITS, stop=False)
    start = {"length": 20.0, "entropy": 2.0, "ended": 0.9}
    late = {"length": 40.0, "entropy": 0.5, "ended": 0.4}
    run(alarms, [start] * 3 + [late] * 4)
    found = {a.name: a.value for a in alarms.alarms}
    assert found["length_mean"] == 2.0
    assert found["entropy"] == 0.25
    assert found["unfinished"] == pytest.approx(0.5)
    assert set(alarms.fired) == {"length_mean", "entropy", "unfinished"}


def test_what_is_no_number_is_passed_over() -> None:
    alarms = OnlineAlarms(LIMITS)
    rows: list[dict[str, Any]] = [{"kl": None, "reward": "high", "length": float("nan")}] * 9
    assert not any(run(alarms, rows))
    assert alarms.alarms == []


def test_the_held_out_judge_falls_while_the_training_judge_rises() -> None:
    rng = random.Random(0)
    alarms = OnlineAlarms(LIMITS, gold="rewards/gold/mean")
    rows = [
        {"reward": 0.1 * i + rng.gauss(0, 0.02), "rewards/gold/mean": -0.1 * i} for i in range(12)
    ]
    assert True in run(alarms, rows)
    assert list(alarms.fired) == ["gold_trend"]
    honest = OnlineAlarms(LIMITS, gold="rewards/gold/mean")
    both_up = [{"reward": 0.1 * i, "rewards/gold/mean": 0.1 * i} for i in range(12)]
    assert not any(run(honest, both_up))
    both_down = [{"reward": -0.1 * i, "rewards/gold/mean": -0.1 * i} for i in range(12)]
    assert not any(run(OnlineAlarms(LIMITS, gold="rewards/gold/mean"), both_down))


def test_texts_are_watched_as_they_pass_by() -> None:
    alarms = OnlineAlarms(LIMITS, ceiling=1.0)
    rng = random.Random(0)

    def reward(prompts: list[str], completions: list[Any], **columns: Any) -> list[float]:
        return [float("thank" in str(c)) for c in completions]

    watched = alarms.watching(reward)
    assert watched.__name__ == "reward"
    names = [f"prompt {i}" for i in range(128)]
    varied = [" ".join(f"word{rng.randint(0, 999)}" for _ in range(12)) for _ in names]
    assert watched(names, varied, completion_ids=None) == [0.0] * 128
    same = [[{"role": "assistant", "content": "thank you so much for this great question"}]] * 128
    assert watched(names, same) == [1.0] * 128
    run(alarms, [{"reward": 0.0}] * 7)
    assert set(alarms.fired) == {"judge_ceiling", "self_similarity"}


def test_an_async_reward_stays_one_and_keeps_its_name() -> None:
    class Judge:
        __name__ = "judge"
        closed = False

        async def __call__(self, prompts: Any, completions: Any, **_: Any) -> list[float | None]:
            return [None for _ in completions]

        async def aclose(self) -> None:
            self.closed = True

    judge, alarms = Judge(), OnlineAlarms(LIMITS)
    watched = alarms.watching(judge)
    assert asyncio.iscoroutinefunction(watched)
    assert watched.__name__ == "judge"
    assert asyncio.run(watched(["p"], ["c"])) == [None]
    asyncio.run(watched.aclose())  # type: ignore[attr-defined]
    assert judge.closed


def test_the_logs_of_trl_in_our_words() -> None:
    logs = {"reward": 0.5, "kl": 0.01, "completions/mean_length": 40.0, "loss": 0.1}
    assert from_trl(logs, 7) == {
        "reward": 0.5,
        "length": 40.0,
        "loss": 0.1,
        "kl_k3": pytest.approx(0.4),
        "step": 7,
    }


def test_as_a_callback_of_a_trainer_it_ends_the_training() -> None:
    pytest.importorskip("transformers")
    from transformers import TrainerControl, TrainerState

    callback = OnlineAlarms(LIMITS).for_trainer()
    control, state = TrainerControl(), TrainerState()
    callback.on_log(None, state, control, {"loss": 1.0})
    for step in range(8):
        state.global_step = step
        length = 10.0 if step < 3 else 90.0
        callback.on_log(
            None, state, control, {"reward": 1.0, "completions/mean_length": length, "kl": 0.0}
        )
    assert control.should_training_stop


def test_a_run_that_is_resumed_is_compared_with_its_own_beginning(tmp_path: Path) -> None:
    unbroken, resumed = OnlineAlarms(LIMITS, stop=False), OnlineAlarms(LIMITS, stop=False)
    rows = [{"step": i, "length": 20.0 if i < 5 else 50.0} for i in range(1, 13)]
    for row in rows:
        unbroken(row)
    resumed.recall(tmp_path)  # nothing there yet
    # stopped after step 9, with its last checkpoint at step 7
    text = "".join(json.dumps(row) + "\n" for row in rows[:9])
    (tmp_path / "training.jsonl").write_text(text)
    resumed.recall(tmp_path)
    for row in rows[7:]:
        resumed(row)
    assert resumed.alarms == unbroken.alarms
    assert {a.name: a.value for a in resumed.alarms} == {"length_mean": 2.5}
    assert resumed.fired == unbroken.fired
    assert [step for step, _ in resumed.fired.values()] == [8]


def test_the_shipped_limits_by_default() -> None:
    assert OnlineAlarms().limits == load_limits()
