"""A policy small enough to be trained many times in a test, and what trains it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rlaif.train.ppo.config import PPOConfig
from rlaif.train.ppo.trainer import PPOTrainer

PROMPTS = [{"prompt": "say a"}, {"prompt": "and this one is longer"}, {"prompt": "why"}]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other take longer than work as small as this."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def flat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose next token is anyone's guess."""
    from tests.tiny import build_tiny

    return build_tiny(tmp_path_factory.mktemp("flat") / "model", sharpness=0.1)


def share_of_letters(completions: list[Any], **_: Any) -> list[float | None]:
    """The share of letters: 1 at best."""
    return [sum(c.isalpha() for c in text) / max(1, len(text)) for text in completions]


Build = Callable[..., PPOTrainer]


@pytest.fixture
def build(flat_model: Path, tmp_path: Path) -> Build:
    """Builds a trainer of a fresh copy of the policy; settings by name."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def made(reward: Any = share_of_letters, rows: Any = PROMPTS, **given: Any) -> PPOTrainer:
        parts = {
            name: given.pop(name)
            for name in (
                "ref_model",
                "value_model",
                "peft_config",
                "reward_weights",
                "callbacks",
                "eval_dataset",
                "served_policy",
            )
            if name in given
        }
        settings: dict[str, Any] = {
            "output_dir": tmp_path / "run",
            "total_episodes": 24,
            "batch_size": 8,
            "micro_batch_size": 3,
            "rollout_batch_size": 5,
            "epochs": 2,
            "learning_rate": 1e-3,
            "response_length": 5,
        }
        model = AutoModelForCausalLM.from_pretrained(flat_model, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(flat_model)
        args = PPOConfig(**(settings | given))
        return PPOTrainer(model, reward, args, rows, processing_class=tokenizer, **parts)

    return made


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def weights_of(trainer: PPOTrainer) -> torch.Tensor:
    """All that moves, in one vector."""
    return torch.cat([p.detach().flatten() for p in trainer.actor.parameters() if p.requires_grad])
