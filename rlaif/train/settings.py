"""How to train: settings with defaults by the size of the model, and any of them from a YAML file.

    settings = load_settings(DPOSettings, Path("dpo.yaml"), {"beta": 0.2})   # the second one wins

Whatever TRL's own configuration has and ours does not goes under `trl:`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from rlaif.errors import ConfigError, SpecError, suggestion
from rlaif.specs import yamlfile

Size = Literal["small", "medium", "large"]
"""Under a billion parameters, under ten, or more."""

_NEUTRAL = frozenset({"save_steps", "report_to", "micro_batch_size", "keep_checkpoints"})
"""Settings that do not decide what is learned, but for rounding."""
_OURS = frozenset(
    {"output_dir", "seed", "data_seed", "report_to", "max_steps", "save_steps", "logging_steps"}
    | {"per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs"}
    | {"save_strategy", "save_total_limit", "logging_strategy", "learning_rate", "max_length"}
    | {"push_to_hub", "remove_unused_columns", "eval_strategy", "eval_steps", "disable_tqdm"}
)
"""Fields of TRL's configuration that the run depends on, or that have a setting here."""

S = TypeVar("S", bound="Settings")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all trainers have in common. `None` is chosen by the size of the model."""

    learning_rate: float | None = None
    """The highest; it falls to 0 in a straight line."""
    epochs: float = 1.0
    """Passes over the rows."""
    max_steps: int | None = None
    """Stop after so many steps, whatever `epochs` says."""
    batch_size: int = 8
    """Rows a step, over all devices."""
    micro_batch_size: int | None = None
    """Rows in memory at once; divides the batch size."""
    max_length: int = 1024
    """Tokens of prompt and response together."""
    lora_rank: int = 16
    """0 trains every weight."""
    warmup_steps: int = 3
    seed: int = 0
    save_steps: int = 5
    """A checkpoint every so many steps."""
    keep_checkpoints: int = 2
    eval_steps: int | None = None
    """Measure on the held-out rows every so many steps; always once at the end."""
    gradient_checkpointing: bool | None = None
    """Less memory for a fifth more time. By default on a GPU for models over a billion."""
    report_to: tuple[str, ...] = ()
    """Trackers, by transformers' names: wandb, tensorboard, mlflow, trackio …"""
    trl: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of TRL's configuration, handed on as they are."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        whole = {
            "batch_size": 1,
            "micro_batch_size": 1,
            "max_length": 2,
            "lora_rank": 0,
            "warmup_steps": 0,
            "save_steps": 1,
            "keep_checkpoints": 1,
            "max_steps": 1,
            "eval_steps": 1,
        }
        for name, least in whole.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}, and must be {least} or more")
        if not self.epochs > 0:
            raise ConfigError(f"epochs is {self.epochs}, and must be more than 0")
        if self.learning_rate is not None and not 0 <= self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate is {self.learning_rate}, and must be 0 or more")
        micro = self.micro_batch_size
        if micro is not None and self.batch_size % micro:
            raise ConfigError(
                f"batch_size {self.batch_size} is no multiple of micro_batch_size {micro}"
            )
        if taken := sorted(_OURS & self.trl.keys()):
            raise ConfigError(f"trl: {taken[0]} is set by rlaif itself; use the setting for it")

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, for the run folder."""
        return {k: v for k, v in asdict(self).items() if k not in _NEUTRAL}


Rates = Mapping[Size, tuple[float, float]]
"""Learning rates by size: with LoRA, and of all weights."""


def size_of(parameters: int) -> Size:
    """The size that defaults are chosen by."""
    return "small" if parameters < 1e9 else "medium" if parameters < 1e10 else "large"


def resolved(settings: S, parameters: int, rates: Rates) -> S:
    """`settings` with every `None` chosen for a model of so many parameters.

    Adapters take about ten times the rate that all weights take, and small models more than large.
    """
    size = size_of(parameters)
    rate = settings.learning_rate
    micro = settings.micro_batch_size
    if micro is None:
        most = {"small": 4, "medium": 2, "large": 1}[size]
        micro = next(
            n for n in range(min(most, settings.batch_size), 0, -1) if settings.batch_size % n == 0
        )
    return replace(
        settings,
        learning_rate=rates[size][0 if settings.lora_rank else 1] if rate is None else rate,
        micro_batch_size=micro,
    )


def load_settings(kind: type[S], path: Path | None, given: Mapping[str, Any]) -> S:
    """The settings in a YAML file, with those in `given` over them.

    Args:
        kind: Which settings.
        path: A YAML file of settings by name; `None` for none.
        given: Settings by name.

    Raises:
        SpecError: the file is missing, is no YAML, or has a field that is unknown or does not fit.
        ConfigError: a setting in `given` does not fit.
    """
    return settings_from(kind, read_yaml(path) if path else {}, path, given)


def settings_from(
    kind: type[S], read: Mapping[str, Any], path: Path | None, given: Mapping[str, Any]
) -> S:
    """As `load_settings`, of a file that is read already.

    Raises:
        SpecError, ConfigError: as `load_settings`.
    """
    from pydantic import TypeAdapter, ValidationError

    known = [f.name for f in fields(kind)]
    if unknown := sorted(read.keys() - set(known)):
        hint = suggestion(unknown[0], known)
        raise SpecError(f"no such setting; {hint}", path=path, field=unknown[0])
    try:
        return TypeAdapter(kind).validate_python({**read, **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        message = str(first.get("ctx", {}).get("error") or first["msg"])
        if path is not None and (not name or first["loc"][0] not in given):
            raise SpecError(message, path=path, field=name or None) from None
        raise ConfigError(f"{name}: {message}" if name else message) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        SpecError: it is missing, no YAML, or holds something else.
    """
    return {str(name): value for name, value in yamlfile.read_yaml(path).data.items()}
