"""Supervised fine-tuning on TRL's `SFTTrainer`: the loss is on the response alone.

summary = train_sft(Path("smollm2"), load_demonstrations(Path("sft")), Path("runs/sft"))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rlaif.errors import SpecError
from rlaif.train.arguments import trl_config
from rlaif.train.common import Fitted, Job, Method, Parts, Progress, carry_out
from rlaif.train.data import load_table, messages_in
from rlaif.train.fitting import fitting_completions
from rlaif.train.settings import Rates, Settings

RESPONSES = ("completion", "response", "chosen")
"""Columns that hold what the model is to say; the first one that a row has."""


@dataclass(frozen=True, kw_only=True)
class SFTSettings(Settings):
    """How to train. Defaults are for LoRA, by the size of the model."""


class SFT(Method[SFTSettings]):
    """SFT on prompts with a completion."""

    name: ClassVar[str] = "sft"
    rates: ClassVar[Rates] = {
        "small": (4e-4, 5e-5),
        "medium": (2e-4, 2e-5),
        "large": (1e-4, 1e-5),
    }

    def fit(self, rows: Any, tokenizer: Any) -> Fitted:
        """The rows whose prompt leaves room for a completion."""
        rows = rows.select_columns(["prompt", "completion"])
        return fitting_completions(rows, tokenizer, self.settings.max_length)

    def build(self, parts: Parts) -> Any:
        """TRL's trainer."""
        from trl import SFTConfig, SFTTrainer

        config = trl_config(
            SFTConfig, parts.arguments, self.settings, max_length=self.settings.max_length
        )
        return SFTTrainer(**parts.given(config))


def load_demonstrations(path: Path, split: str = "train") -> Any:
    """The rows of a data set to imitate.

    Args:
        path: A folder that `datasets` wrote, or a JSONL file, of `prompt` and `completion` (or
            `response`, or `chosen`), or of `messages` that end with the assistant's.
        split: Which split of a folder that has several.

    Returns:
        A `datasets.Dataset` of `prompt` and `completion`, as messages.

    Raises:
        SpecError: there is no such data set or split, it has no rows, or one does not fit.
    """
    return load_table(path, split, _demonstration)


def _demonstration(path: Path, line: int, row: dict[str, Any]) -> dict[str, Any]:
    if row.get("messages") is not None and row.get("prompt") is None:
        said = row["messages"]
        if not isinstance(said, list) or len(said) < 2:
            message = "not a conversation with a prompt and a response"
            raise SpecError(message, path=path, line=line, field="messages")
        row = {"prompt": said[:-1], "completion": said[-1:]}
    column = next((name for name in RESPONSES if row.get(name) is not None), RESPONSES[0])
    return messages_in(path, line, row, {"prompt": "prompt", column: "completion"})


def train_sft(
    model: Path,
    rows: Any,
    output: Path,
    settings: SFTSettings | None = None,
    *,
    home: Path,
    held_out: Any = None,
    facts: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total, note: None,
) -> dict[str, Any]:
    """Train `model` to imitate; the tuned checkpoint lies in `output/model`.

    `rows` are as `load_demonstrations` gives them. The other arguments, the result and the errors
    are those of `train_dpo`.
    """
    job = Job(model, rows, output, home, held_out, facts or {}, progress)
    return carry_out(SFT(settings or SFTSettings()), job)
