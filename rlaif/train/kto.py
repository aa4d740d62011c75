"""Kahneman-Tversky optimization on TRL's `KTOTrainer`: responses that are good or bad, unpaired.

    summary = train_kto(Path("smollm2"), load_opinions(Path("dataset")), Path("runs/kto"))

Ethayarajh et al. 2024, "KTO" (arXiv 2402.01306), eq. (8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.train.arguments import trl_config
from rlaif.train.common import Fitted, Job, Method, Parts, Progress, carry_out
from rlaif.train.data import PROVENANCE, load_preferences, load_table, messages_in
from rlaif.train.fitting import fitting_completions
from rlaif.train.settings import Rates, Settings


@dataclass(frozen=True, kw_only=True)
class KTOSettings(Settings):
    """How to train. Defaults are for LoRA, by the size of the model."""

    beta: float = 0.1
    """Strength of the pull to the reference model."""
    desirable_weight: float | None = None
    """How much a good response counts. By default both sides count the same in all: the rarer one
    is weighted up (section 4.2 of the paper)."""
    undesirable_weight: float | None = None
    """How much a bad response counts."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        super().__post_init__()
        if not 0 < self.beta < float("inf"):
            raise ConfigError(f"beta is {self.beta}, and must be more than 0")
        if self.micro_batch_size == 1 or self.batch_size == 1:
            # the KL is that of each prompt with another one's response from the same batch
            raise ConfigError("KTO needs 2 or more rows in memory at once")


class KTO(Method[KTOSettings]):
    """KTO; log-probabilities of the reference are read once, before training."""

    name: ClassVar[str] = "kto"
    rates: ClassVar[Rates] = {
        "small": (2e-4, 1e-5),
        "medium": (5e-5, 1e-6),
        "large": (1e-5, 5e-7),
    }

    def fit(self, rows: Any, tokenizer: Any) -> Fitted:
        """The rows whose prompt leaves room for a response, in an order drawn by the seed."""
        rows = rows.select_columns(["prompt", "completion", "label"])
        shuffled = rows.shuffle(seed=self.settings.seed)
        return fitting_completions(shuffled, tokenizer, self.settings.max_length)

    def build(self, parts: Parts) -> Any:
        """TRL's trainer, with the two sides balanced.

        Raises:
            DataError: all rows are good, or all are bad.
        """
        from trl import KTOConfig, KTOTrainer

        settings = self.settings
        good, bad = _weights(settings, parts.rows)
        config = trl_config(
            KTOConfig,
            parts.arguments,
            settings,
            beta=settings.beta,
            max_length=settings.max_length,
            desirable_weight=good,
            undesirable_weight=bad,
            # each row has its partner for the KL beside it; the order is drawn before
            train_sampling_strategy="sequential",
            # of several processes, none reads the file that another one keeps them in
            precompute_ref_log_probs=parts.alone,
            precompute_ref_batch_size=2 * (settings.micro_batch_size or 2),
        )
        return KTOTrainer(**parts.given(config))


def _weights(settings: KTOSettings, rows: Any) -> tuple[float, float]:
    good = sum(rows["label"])
    bad = len(rows) - good
    if not good or not bad:
        side = "good" if good else "bad"
        raise DataError(f"KTO needs good and bad responses: all {len(rows)} are {side}")
    balanced = (max(1.0, bad / good), max(1.0, good / bad))
    given = (settings.desirable_weight, settings.undesirable_weight)
    pairs = zip(given, balanced, strict=True)
    return tuple(b if g is None else g for g, b in pairs)  # type: ignore[return-value]  # two


def load_opinions(path: Path, split: str = "train") -> Any:
    """The rows of a data set of good and bad responses.

    Args:
        path: A folder that `datasets` wrote, or a JSONL file, of `prompt`, `completion` (or
            `response`) and `label` (true for good); or of preference pairs, of which each gives a
            good and a bad row.
        split: Which split of a folder that has several.

    Returns:
        A `datasets.Dataset` of `prompt`, `completion` and `label`.

    Raises:
        SpecError: there is no such data set or split, it has no rows, or one does not fit.
    """
    first: list[bool] = []

    def opinion(path: Path, line: int, row: dict[str, Any]) -> dict[str, Any]:
        first.append("chosen" in row and "label" not in row)
        return {} if first[0] else _opinion(path, line, row)

    rows = load_table(path, split, opinion)
    return split_pairs(load_preferences(path, split)) if first[0] else rows


def _opinion(path: Path, line: int, row: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(row.get("label"), bool):
        raise SpecError("true or false is wanted", path=path, line=line, field="label")
    column = "response" if row.get("completion") is None and "response" in row else "completion"
    names = {"prompt": "prompt", column: "completion"}
    return messages_in(path, line, row, names) | {"label": row["label"]}


def split_pairs(rows: Any) -> Any:
    """Preference pairs as good and bad responses; a pair of equal ones says nothing and is left."""
    import datasets

    kept = [n for n, row in enumerate(rows) if row["chosen"] != row["rejected"]]
    rows = rows.select(kept)
    if not kept:
        raise DataError("in every pair the two responses are the same")
    keep = ["prompt", *(name for name in PROVENANCE if name in rows.column_names)]
    sides = [
        rows.select_columns([*keep, side])
        .rename_column(side, "completion")
        .add_column("label", [side == "chosen"] * len(rows))
        for side in ("chosen", "rejected")
    ]
    return datasets.concatenate_datasets(sides)


def train_kto(
    model: Path,
    rows: Any,
    output: Path,
    settings: KTOSettings | None = None,
    *,
    home: Path,
    held_out: Any = None,
    facts: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total, note: None,
) -> dict[str, Any]:
    """Train `model` on good and bad responses; the tuned checkpoint lies in `output/model`.

    `rows` are as `load_opinions` gives them. The other arguments, the result and the errors are
    those of `train_dpo`.
    """
    job = Job(model, rows, output, home, held_out, facts or {}, progress)
    return carry_out(KTO(settings or KTOSettings()), job)
