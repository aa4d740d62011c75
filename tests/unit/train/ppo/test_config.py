"""Settings out of range are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import ConfigError
from rlaif.train.ppo import PPOConfig


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"kl_stop": -1.0}, "kl_stop must be above 0"),
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\]"),
        ({"kl_coefficient": -0.1}, "kl_coefficient must not be below 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"kl_estimator": "k2"}, "kl_estimator must be k1 or k3, not 'k2'"),
        ({"missing_reward": "zero"}, "missing_reward must be mask or rest"),
        ({"batch_size": 10, "mini_batches": 3}, "batch_size 10 is no multiple of mini_batches 3"),
        ({"batch_size": 10, "responses_per_prompt": 4}, "responses_per_prompt 4"),
        ({"total_episodes": 8}, "total_episodes 8 is less than batch_size 32"),
        ({"missing_eos_penalty": 1.0, "stop_at_eos": False}, "missing_eos_penalty"),
        ({"kl_target": 6.0, "kl_coefficient": 0.0}, "kl_target needs"),
    ],
)
def test_what_is_out_of_range_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PPOConfig(Path("run"), **given)


def test_updates_are_whole_batches() -> None:
    args = PPOConfig("runs/ppo", total_episodes=100, batch_size=32)  # type: ignore[arg-type]
    assert args.updates == 3
    assert args.output_dir == Path("runs/ppo")
