"""Proximal policy optimization of a language model against any mix of rewards.

    from rlaif.train.ppo import PPOConfig, PPOTrainer

Importing it loads no torch; the two names are read when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlaif.train.ppo.config import PPOConfig
    from rlaif.train.ppo.served import ServedPolicy
    from rlaif.train.ppo.trainer import PPOTrainer

__all__ = ["PPOConfig", "PPOTrainer", "ServedPolicy"]

_HOME = {"PPOConfig": "config", "PPOTrainer": "trainer", "ServedPolicy": "served"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rlaif.train.ppo' has no attribute {name!r}")
    return getattr(import_module(f"rlaif.train.ppo.{_HOME[name]}"), name)
