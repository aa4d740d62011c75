"""A reward model on TRL's `RewardTrainer`: a sequence classifier with one output.

    summary = train_reward(Path("smollm2"), load_preferences(Path("dataset")), Path("runs/rm"))

The checkpoint judges as `reward/runs/rm`, and rewards in PPO, GRPO and RLOO. Bradley-Terry loss,
Ouyang et al. 2022 (arXiv 2203.02155), eq. (1); with `labels="soft"` the cross-entropy on each
pair's `p_chosen`, see `rlaif.train.losses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rlaif.errors import ConfigError
from rlaif.train.arguments import trl_config
from rlaif.train.common import Fitted, Job, Method, Parts, Progress, carry_out
from rlaif.train.fitting import fitting_pairs
from rlaif.train.labels import Labels, Weights, labeled_rows
from rlaif.train.measures import measured_pairs
from rlaif.train.settings import Rates, Settings


@dataclass(frozen=True, kw_only=True)
class RewardSettings(Settings):
    """How to train. Defaults are for LoRA, by the size of the model."""

    labels: Labels = "hard"
    """`soft` reads `p_chosen`; it is worth it where those are probabilities that come true."""
    weights: Weights = "none"
    """How much each row counts, see `labeled_rows`."""
    margin_scale: float = 0.0
    """Units of reward that a row's `margin` of 1 (a sure preference) shifts the difference by."""
    center: float = 0.01
    """Weight of the squared sum of the two rewards, which keeps rewards around 0: Eisenstein et
    al. 2023, "Helping or herding?" (arXiv 2312.09244)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        super().__post_init__()
        for name in ("margin_scale", "center"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}, and must be 0 or more")


class Reward(Method[RewardSettings]):
    """A reward model; pairs with a response that does not fit whole are left out."""

    name: ClassVar[str] = "reward"
    rates: ClassVar[Rates] = {
        "small": (3e-4, 2e-5),
        "medium": (1e-4, 1e-5),
        "large": (5e-5, 3e-6),
    }
    classifier: ClassVar[bool] = True

    def fit(self, rows: Any, tokenizer: Any) -> Fitted:
        """The pairs that fit whole: the reward is that of the last token."""
        settings = self.settings
        chosen = labeled_rows(
            rows, settings.labels, settings.weights, margins=settings.margin_scale > 0
        )
        return fitting_pairs(chosen, tokenizer, settings.max_length, whole=True)

    def build(self, parts: Parts) -> Any:
        """TRL's trainer, or ours where labels, weights or margins are of each pair."""
        from trl import RewardConfig, RewardTrainer

        from rlaif.train.soft import soft_reward_trainer

        settings = self.settings
        config = trl_config(
            RewardConfig,
            parts.arguments,
            settings,
            max_length=settings.max_length,
            center_rewards_coefficient=settings.center or None,
        )
        plain = settings.labels == "hard" and settings.weights == "none"
        kind = (
            RewardTrainer
            if plain and not settings.margin_scale
            else soft_reward_trainer(settings.margin_scale)
        )
        return kind(**parts.given(config))

    def measure(self, trainer: Any) -> dict[str, Any]:
        """How often the held-out chosen response has the higher reward, and the loss."""

        def differences(network: Any, batch: Mapping[str, Any]) -> Any:
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            chosen, rejected = network(**inputs, use_cache=False).logits.squeeze(-1).chunk(2)
            return chosen - rejected

        return measured_pairs(trainer, differences, scale=1.0)


def train_reward(
    model: Path,
    rows: Any,
    output: Path,
    settings: RewardSettings | None = None,
    *,
    home: Path,
    held_out: Any = None,
    facts: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total, note: None,
) -> dict[str, Any]:
    """Train a reward model on preference rows; it lies in `output/model`.

    Arguments, result and errors are those of `train_dpo`. With rows held out, the summary's
    `held_out` has the accuracy on them with its interval.
    """
    job = Job(model, rows, output, home, held_out, facts or {}, progress)
    return carry_out(Reward(settings or RewardSettings()), job)
