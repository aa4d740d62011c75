"""What a loop's file may hold, as strict models: no unknown key, no conversion.

Only `rlaif.train.loop_config` imports this module, and only when a file is read: pydantic is slow
to import.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0, le=10_000_000)]
Share = Annotated[float, Field(gt=-1e-9, le=1, allow_inf_nan=False)]
Flag = Literal[True, False]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class GenerateFile(_Strict):
    """`generate:`: how the policy answers."""

    candidates: Annotated[int, Field(gt=1)] = 4
    """Responses to each prompt, to choose pairs from."""
    held_out_candidates: Count = 2
    """Responses to each held-out prompt, of the policy and of the start."""
    temperature: Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)] = 0.9
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.95
    max_tokens: Count = 256


class JudgeFile(_Strict):
    """`judge:` and `held_out_judge:`: who compares, and how it is asked."""

    model: Text
    rubric: Text | None = None
    method: Literal[
        "auto", "verdict", "token", "likelihood", "score", "expectation", "checklist"
    ] = "auto"
    temperature: Annotated[float, Field(gt=-1e-9, le=2, allow_inf_nan=False)] = 0.0
    max_tokens: Count = 1024
    draws: Count | None = None
    ties: Literal["allowed", "forced"] = "allowed"
    levels: Literal[3, 5] = 3
    structured: Literal["auto", "off"] = "off"
    base_url: Text | None = None


class SelectFile(_Strict):
    """`select:`: which comparisons become training rows."""

    pairs: Literal["all", "best-worst", "tiers"] = "best-worst"
    rho: Annotated[float, Field(gt=-1e-9, le=0.5, allow_inf_nan=False)] = 0.2
    compare: Text = "all"
    min_margin: Share = 0.0
    inconsistent: Flag = False
    max_length_ratio: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 4.0
    balance: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = 0.02


class TrainFile(_Strict):
    """`train:`: the trainer, and its settings by their names."""

    trainer: Literal["dpo", "ppo"] = "dpo"
    settings: dict[str, Any] = {}


class LoopFile(_Strict):
    """A loop's file."""

    name: Text = "loop"
    description: str = ""
    prompts: Text
    held_out: Text
    model: Text
    rounds: Count = 3
    prompts_per_round: Count | None = None
    seed: int = 0
    generate: GenerateFile = GenerateFile()
    judge: JudgeFile
    held_out_judge: JudgeFile
    select: SelectFile = SelectFile()
    train: TrainFile = TrainFile()
    alarms: Text | None = None
    on_alarm: Literal["stop", "continue"] = "stop"
    max_failures: Share = 0.05
