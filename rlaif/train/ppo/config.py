"""How to train with PPO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlaif.errors import ConfigError

KLEstimator = Literal["k1", "k3"]
MissingReward = Literal["mask", "rest"]


@dataclass(frozen=True, slots=True)
class PPOConfig:
    """Settings of `PPOTrainer`. Defaults are for LoRA on a small model.

    An update samples `batch_size` responses (episodes) and learns from them `epochs` times, each
    time in `mini_batches` steps of the optimizer, `micro_batch_size` episodes in memory at once.

    Raises:
        ConfigError: a number is out of its range, or the sizes do not divide one another.
    """

    output_dir: Path
    total_episodes: int = 1024
    batch_size: int = 32
    """Episodes an update."""
    mini_batches: int = 2
    """Optimizer steps an epoch."""
    micro_batch_size: int = 8
    """Episodes in memory at once, in training."""
    rollout_batch_size: int = 64
    """Episodes in memory at once, in sampling."""
    epochs: int = 4
    """Passes over the episodes of an update."""
    learning_rate: float = 1e-4
    """Peak; it falls linearly to 0 (detail 4 of "The 37 implementation details of PPO")."""
    warmup_updates: int = 0
    weight_decay: float = 0.0
    adam_epsilon: float = 1e-5
    """1e-5, not 1e-8: detail 3 of the 37, kept in arXiv 2403.17031."""
    max_grad_norm: float = 1.0
    max_prompt_length: int = 512
    """Tokens; longer prompts are left out and counted."""
    response_length: int = 64
    """Most tokens of a response."""
    temperature: float = 1.0
    stop_at_eos: bool = True
    """False samples every response to its full length."""
    missing_eos_penalty: float = 0.0
    """Taken from the score of a response that does not end (detail 3 of 2403.17031)."""
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float | None = 0.2
    value_coefficient: float = 0.1
    entropy_coefficient: float = 0.0
    kl_coefficient: float = 0.05
    """beta of the penalty a token, nats of reward a nat of KL; 0 needs no reference."""
    kl_estimator: KLEstimator = "k1"
    kl_target: float | None = None
    """Nats a response that the coefficient is steered to; None keeps it (Ziegler et al. 2019)."""
    kl_horizon: int = 10_000
    """Episodes over which it is steered."""
    kl_stop: float | None = None
    """Nats a token from the policy that sampled, at which an update's epochs end."""
    whiten_rewards: bool = False
    whiten_advantages: bool = True
    score_clip: float | None = None
    """Scores are cut to plus or minus this."""
    missing_reward: MissingReward = "mask"
    """mask: an episode that lacks any of its rewards is not learned from. rest: the mean of those
    it has counts."""
    seed: int = 0
    save_updates: int = 10
    """A checkpoint every so many updates."""
    logged_samples: int = 4
    """Responses an update that go to samples.jsonl."""

    def __post_init__(self) -> None:
        for name in (
            "total_episodes",
            "batch_size",
            "mini_batches",
            "micro_batch_size",
            "rollout_batch_size",
            "epochs",
            "max_prompt_length",
            "response_length",
            "save_updates",
            "kl_horizon",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "temperature", "max_grad_norm", "clip", "adam_epsilon"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], not {getattr(self, name)}")
        if self.batch_size % self.mini_batches:
            raise ConfigError(
                f"batch_size {self.batch_size} is no multiple of mini_batches {self.mini_batches}"
            )
        if self.total_episodes < self.batch_size:
            raise ConfigError(
                f"total_episodes {self.total_episodes} is less than batch_size {self.batch_size}"
            )

    @property
    def updates(self) -> int:
        """How many updates there are; episodes that fill no batch are not sampled."""
        return self.total_episodes // self.batch_size
