"""How to train with PPO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rlaif.errors import ConfigError

KLEstimator = Literal["k1", "k3"]
MissingReward = Literal["mask", "rest"]
_RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "total_episodes batch_size responses_per_prompt mini_batches micro_batch_size epochs "
        "rollout_batch_size max_prompt_length response_length save_updates kl_horizon "
        "unrewarded_updates",
        lambda x: x >= 1,
        "be at least 1",
    ),
    (
        "learning_rate temperature max_grad_norm clip adam_epsilon value_clip kl_target "
        "kl_stop score_clip",
        lambda x: x > 0,
        "be above 0",
    ),
    ("gamma lam", lambda x: 0 <= x <= 1, "lie in [0, 1]"),
    ("advantage_memory", lambda x: 0 <= x < 1, "lie in [0, 1)"),
    (
        "kl_coefficient value_coefficient weight_decay warmup_updates eval_updates logged_samples",
        lambda x: x >= 0,
        "not be below 0",
    ),
    ("kl_estimator", lambda x: x in get_args(KLEstimator), "be k1 or k3"),
    ("missing_reward", lambda x: x in get_args(MissingReward), "be mask or rest"),
)
"""Settings, what each must fulfil where it is given, and how that is said."""


@dataclass(frozen=True, slots=True)
class PPOConfig:
    """Settings of `PPOTrainer`. Defaults are for LoRA on a small model.

    An update samples `batch_size` responses (episodes) and learns from them `epochs` times, each
    time in `mini_batches` steps of the optimizer, `micro_batch_size` episodes in memory at once.

    Raises:
        ConfigError: a number is out of its range, or the sizes do not divide one another.
    """

    output_dir: Path
    """The run folder; text is taken too."""
    total_episodes: int = 1024
    batch_size: int = 32
    """Episodes an update, over all processes."""
    responses_per_prompt: int = 1
    """Episodes of an update that answer the same prompt: a judge that compares needs two."""
    mini_batches: int = 2
    """Optimizer steps an epoch."""
    micro_batch_size: int = 8
    """Episodes in memory at once, in training: gradients of a mini-batch are summed up."""
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
    """A response is cut after the token that ends it; False samples each to its full length."""
    missing_eos_penalty: float = 0.0
    """Taken from the score of a response that does not end (detail 3 of 2403.17031)."""
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float | None = 0.2
    value_coefficient: float = 0.1
    value_gradient: bool = False
    """Whether the value loss moves a trunk that the policy shares. Without it values are a linear
    reading of what the policy knows, which learned more in scripts/bench_ppo.py."""
    entropy_coefficient: float = 0.0
    kl_coefficient: float = 0.05
    """beta of the penalty a token, nats of reward a nat of KL; 0 needs no reference."""
    kl_estimator: KLEstimator = "k1"
    kl_target: float | None = None
    """Nats a response that the coefficient is steered to; None keeps it (Ziegler et al. 2019)."""
    kl_horizon: int = 10_000
    """Episodes over which it is steered."""
    kl_stop: float | None = None
    """Nats a token from the policy that sampled, at which an update ends: looked at before each of
    its steps, over the mini-batch that the step would be made on."""
    whiten_rewards: bool = False
    whiten_advantages: bool = True
    advantage_memory: float = 0.0
    """0 whitens the advantages of each update by themselves. Above, they are divided by no less
    than they usually spread, of which this share is remembered from update to update (0.99): where
    rewards are all equal, and advantages the noise of the value function, the policy moves less."""
    score_clip: float | None = None
    """Scores are cut to plus or minus this."""
    missing_reward: MissingReward = "mask"
    """mask: an episode that lacks any of its rewards is not learned from. rest: the mean of those
    it has counts."""
    unrewarded_updates: int = 3
    """Updates in a row without a single reward, of which nothing is learned, that end training."""
    bf16: bool = False
    """Mixed precision: products in bfloat16, weights as they are."""
    use_cpu: bool = False
    """Whether to leave a GPU alone."""
    seed: int = 0
    save_updates: int = 10
    """A checkpoint every so many updates."""
    eval_updates: int = 0
    """Held-out prompts are answered and scored before training, at its end, and every so many
    updates between; 0 means not between."""
    logged_samples: int = 4
    """Responses an update that go to samples.jsonl."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_dir", Path(self.output_dir))
        self._check_ranges()
        self._check_sizes()

    def _check_ranges(self) -> None:
        for names, holds, words in _RANGES:
            for name in names.split():
                given = getattr(self, name)
                if given is not None and not holds(given):
                    raise ConfigError(f"{name} must {words}, not {given!r}")
        if self.missing_eos_penalty and not self.stop_at_eos:
            raise ConfigError("missing_eos_penalty: without stop_at_eos no response ends by itself")
        if self.kl_target is not None and not self.kl_coefficient:
            raise ConfigError("kl_target needs a kl_coefficient above 0 to steer")

    def _check_sizes(self) -> None:
        for name in ("mini_batches", "responses_per_prompt"):
            if self.batch_size % getattr(self, name):
                given = getattr(self, name)
                raise ConfigError(f"batch_size {self.batch_size} is no multiple of {name} {given}")
        if self.total_episodes < self.batch_size:
            raise ConfigError(
                f"total_episodes {self.total_episodes} is less than batch_size {self.batch_size}"
            )

    @property
    def updates(self) -> int:
        """How many updates there are; episodes that fill no batch are not sampled."""
        return self.total_episodes // self.batch_size
