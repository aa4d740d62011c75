"""Direct preference optimization on TRL's `DPOTrainer`, LoRA by default, on a CPU or a GPU.

    summary = train_dpo(Path("smollm2"), load_preferences(Path("dataset")), Path("runs/dpo"))

Rafailov et al. 2023, "Direct Preference Optimization" (arXiv 2305.18290), eq. (7). With
`labels="soft"` every pair pulls as far as its `p_chosen` says, see `rlaif.train.losses`. Training
that was stopped goes on from its last checkpoint and ends with the same weights; training that is
done is not done again. Nothing touches the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rlaif.errors import ConfigError
from rlaif.train.arguments import trl_config
from rlaif.train.checkpoints import last_checkpoint
from rlaif.train.common import Fitted, Job, Method, Parts, Progress, carry_out
from rlaif.train.fitting import fitting_pairs
from rlaif.train.labels import Labels, Weights, labeled_rows
from rlaif.train.losses import Form
from rlaif.train.measures import measured_pairs
from rlaif.train.settings import Rates, Settings

__all__ = ["DPO", "DPOSettings", "Progress", "last_checkpoint", "train_dpo"]


@dataclass(frozen=True, kw_only=True)
class DPOSettings(Settings):
    """How to train. Defaults are for LoRA, by the size of the model."""

    beta: float = 0.1
    """Strength of the pull to the reference model."""
    labels: Labels = "hard"
    """`soft` reads `p_chosen`; it is worth it where those are probabilities that come true."""
    form: Form = "conservative"
    """What soft labels come to, see `soft_dpo_loss`."""
    weights: Weights = "none"
    """How much each row counts, see `labeled_rows`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        super().__post_init__()
        if not 0 < self.beta < float("inf"):
            raise ConfigError(f"beta is {self.beta}, and must be more than 0")


class DPO(Method[DPOSettings]):
    """DPO: log-probabilities of the reference are read once, before training."""

    name: ClassVar[str] = "dpo"
    rates: ClassVar[Rates] = {
        "small": (2e-4, 1e-5),
        "medium": (5e-5, 1e-6),
        "large": (1e-5, 5e-7),
    }

    def fit(self, rows: Any, tokenizer: Any) -> Fitted:
        """The pairs whose prompt leaves room for a response."""
        settings = self.settings
        chosen = labeled_rows(rows, settings.labels, settings.weights)
        if settings.weights != "none" and settings.labels == "hard":
            chosen = chosen.add_column("p_chosen", [1.0] * len(chosen))
        return fitting_pairs(chosen, tokenizer, settings.max_length, whole=False)

    def build(self, parts: Parts) -> Any:
        """TRL's trainer, or ours where labels or weights are of each pair."""
        from trl import DPOConfig, DPOTrainer

        from rlaif.train.soft import soft_dpo_trainer

        settings = self.settings
        config = trl_config(
            DPOConfig,
            parts.arguments,
            settings,
            beta=settings.beta,
            max_length=settings.max_length,
            # the reference is frozen: read once, before training, instead of in every step
            # of several processes, none reads the file that another one keeps them in
            precompute_ref_log_probs=parts.alone,
            precompute_ref_batch_size=2 * (settings.micro_batch_size or 1),
        )
        plain = settings.labels == "hard" and settings.weights == "none"
        if not plain and not parts.alone:
            raise ConfigError("soft labels and weights are for one process")
        kind = DPOTrainer if plain else soft_dpo_trainer(settings.form)
        return kind(**parts.given(config))

    def measure(self, trainer: Any) -> dict[str, Any]:
        """How often the held-out chosen response gained more over the reference, and the loss."""
        from rlaif.train.soft import dpo_delta

        def differences(network: Any, batch: Mapping[str, Any]) -> Any:
            inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
            labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
            outputs = network(**inputs, labels=labels, use_cache=False, fused_lm_head=True)
            return dpo_delta(outputs, batch)

        return measured_pairs(trainer, differences, scale=self.settings.beta)


def train_dpo(
    model: Path,
    rows: Any,
    output: Path,
    settings: DPOSettings | None = None,
    *,
    home: Path,
    held_out: Any = None,
    facts: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total, note: None,
) -> dict[str, Any]:
    """Train `model` on preference rows; the tuned checkpoint lies in `output/model`.

    Args:
        model: A checkpoint folder.
        rows: A `datasets.Dataset` of `prompt`, `chosen`, `rejected`, as `load_preferences` gives.
        output: The run folder: config.json, training.jsonl (the curves), summary.json, model/.
        settings: How to train.
        home: Where the choice of dtype is kept.
        held_out: Rows to measure on.
        facts: What the model card says beside the settings: data, judge, rubric.
        progress: Told of every step.

    Returns:
        The summary: rows given, left out and trained on, steps, first and last loss, seconds.

    Raises:
        ConfigError: a package is missing, `model` is no checkpoint, or `output` holds another run.
        SpecError: soft labels or weights are asked for, and rows have none.
        DataError: no row can be trained on, or the loss is no number any more.
        StoreError: the disk is full; the last checkpoint is kept.
    """
    job = Job(model, rows, output, home, held_out, facts or {}, progress)
    return carry_out(DPO(settings or DPOSettings()), job)
