"""Length control as AlpacaEval publishes it: difficulties and weights from files, and the figures.

The files are CSV: `index,instruction_difficulty`, one line a prompt, and `model` with the columns
`np.tanh(std_delta_len)`, `instruction_difficulty` and `not_gamed_baseline.astype(float)`. Prompts
are found by their id, never by their place.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import ConfigError, DataError, SpecError, suggestion
from rlaif.stats.length_control import (
    LengthControlled,
    LengthWeights,
    head_to_head,
    length_only_win_rate,
    length_ratio_win_rate,
    refit_win_rate,
    weighted_win_rate,
)
from rlaif.stats.length_joint import joint_win_rates

Mode = Literal["weights", "refit", "ratio"]
WEIGHT_COLUMNS = (
    "np.tanh(std_delta_len)",
    "instruction_difficulty",
    "not_gamed_baseline.astype(float)",
)


@dataclass(frozen=True, slots=True)
class LengthControl:
    """How win rates are brought to equal length."""

    mode: Mode
    difficulty: Mapping[str, float] | None = None
    """Of each prompt, by id; None leaves difficulty out of a refit."""
    weights: Mapping[str, LengthWeights] | None = None
    """Of each model, for `weights`."""


def load_length_control(mode: str, difficulty: Path | None, weights: Path | None) -> LengthControl:
    """The length control that the command line asks for.

    Raises:
        ConfigError: no such mode, or a file that the mode needs is not named.
        SpecError: a file cannot be read or does not fit: names the line and the column.
    """
    if mode == "weights":
        if difficulty is None or weights is None:
            raise ConfigError("--length-controlled weights needs --difficulty and --weights")
        return LengthControl("weights", read_difficulty(difficulty), read_weights(weights))
    if mode == "refit":
        return LengthControl("refit", read_difficulty(difficulty) if difficulty else None)
    if mode == "ratio":
        return LengthControl("ratio")
    raise ConfigError(f"--length-controlled is {', '.join(get_args(Mode))}, not '{mode}'")


def read_difficulty(path: Path) -> dict[str, float]:
    """The difficulty of each prompt, by id.

    Raises:
        SpecError: the file cannot be read, lacks a column, has a prompt twice, or a value is no
            finite number.
    """
    name = "instruction_difficulty"
    return {key: row[name] for key, row in _read(path, "index", (name,)).items()}


def read_weights(path: Path) -> dict[str, LengthWeights]:
    """The published weights of each model, by name.

    Raises:
        SpecError: the file cannot be read, lacks a column, has a model twice, or a value is no
            finite number.
    """
    rows = _read(path, "model", WEIGHT_COLUMNS)
    return {
        key: LengthWeights(*(row[name] for name in WEIGHT_COLUMNS)) for key, row in rows.items()
    }


def _read(path: Path, key: str, columns: Sequence[str]) -> dict[str, dict[str, float]]:
    """The numbers of a CSV file by the text of its first column, whatever that is called."""
    found: dict[str, dict[str, float]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            for name in columns:
                if name not in header:
                    raise SpecError(
                        f"no such column; {suggestion(name, header)}", path=path, line=1, field=name
                    )
            first = key if key in header else header[0]
            for row in reader:
                name = row[first] or ""
                if not name or name in found:
                    problem = f"'{name}' is there twice" if name else "is empty"
                    raise SpecError(problem, path=path, line=reader.line_num, field=first)
                found[name] = {
                    column: _number(row[column], path, reader.line_num, column)
                    for column in columns
                }
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"cannot be read: {error}", path=path) from error
    return found


def _number(text: str | None, path: Path, line: int, column: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SpecError(f"'{text or ''}' is not a number", path=path, line=line, field=column)
    return value


@dataclass(frozen=True, slots=True, eq=False)
class LengthData:
    """What length control needs of one model's judgments against the baseline."""

    prompts: list[str]
    """The prompt of each, length n."""
    outcomes: NDArray[np.float64]
    """Shape (n,), P(model preferred); NaN without a verdict."""
    lengths: NDArray[Any]
    """Shape (n,), characters of the model's responses; -1 where unknown."""
    baseline_lengths: NDArray[Any]
    """Shape (n,), the same of the baseline's."""

    def readable(self, model: str) -> LengthData:
        """The judgments with a verdict.

        Raises:
            DataError: one of their lengths is unknown.
        """
        ok = ~np.isnan(self.outcomes)
        kept = LengthData(
            [prompt for prompt, there in zip(self.prompts, ok.tolist(), strict=True) if there],
            self.outcomes[ok],
            self.lengths[ok],
            self.baseline_lengths[ok],
        )
        if kept.prompts and min(kept.lengths.min(), kept.baseline_lengths.min()) < 0:
            raise DataError(
                f"the length of a response of {model} or of its opponent is unknown: the records "
                "have neither its text nor item.meta.lengths"
            )
        return kept


def length_controlled(
    control: LengthControl,
    data: Mapping[str, LengthData],
    *,
    rounds: int,
    seed: int,
    level: float,
) -> dict[str, dict[str, Any]]:
    """The length-controlled figures of each model against the baseline.

    `lc_method` names the quantity: `weights` and `refit` with published difficulties; without
    them `joint`, where the models' prompts are given effects of their own, or for a single model
    `length only`; `length ratio` is the simple form, a logistic fit on the ratio of lengths read at
    1. `lc_win_rate_se` is the bootstrap's (prompts resampled, each round refitted) but
    for `weights`, where nothing is fitted and it is the published kind: the spread of the
    predictions over prompts, about half of the true error. `lc_standard_error` is that kind
    wherever there is one.

    Args:
        control: Mode, difficulties and weights.
        data: By model.
        rounds: Resamples.
        seed: Seed of the resamples.
        level: Confidence of the interval.

    Raises:
        ConfigError: a model has no weights: names the nearest.
        DataError: a prompt has no difficulty, a length is unknown, or there is no finite fit.
    """
    if control.mode == "weights":
        return {model: _from_weights(control, model, its) for model, its in data.items()}
    readable = {model: its.readable(model) for model, its in data.items()}
    readable = {model: its for model, its in readable.items() if its.prompts}
    if control.mode == "refit" and control.difficulty is None and len(readable) > 1:
        return _jointly(readable, rounds=rounds, seed=seed, level=level)
    return {
        model: _figures(_refit(control, its, rounds=rounds, seed=seed, level=level))
        for model, its in readable.items()
    }


def head_to_heads(
    control: LengthControl, models: Sequence[str], prompts: Sequence[str]
) -> dict[str, dict[str, float]]:
    """P(row preferred to column) at equal length, of each two models, from published weights.

    Args:
        control: Difficulties and weights.
        models: Models that have weights.
        prompts: The prompts to average over.

    Raises:
        DataError: a prompt has no difficulty.
    """
    weights, difficulty = control.weights or {}, _difficulties(control, prompts)
    return {
        model: {
            other: head_to_head(weights[model], weights[other], difficulty)
            for other in models
            if other != model
        }
        for model in models
    }


def _from_weights(control: LengthControl, model: str, data: LengthData) -> dict[str, Any]:
    known = control.weights or {}
    if model not in known:
        raise ConfigError(f"no weights for the model '{model}': {suggestion(model, known)}")
    return _figures(weighted_win_rate(known[model], _difficulties(control, data.prompts)))


def _refit(
    control: LengthControl, data: LengthData, *, rounds: int, seed: int, level: float
) -> LengthControlled:
    outcomes, baseline, own = data.outcomes, data.baseline_lengths, data.lengths
    prompts = data.prompts
    if control.mode == "ratio":
        return length_ratio_win_rate(
            outcomes, baseline, own, prompts=prompts, rounds=rounds, seed=seed, level=level
        )
    if control.difficulty is None:
        return length_only_win_rate(
            outcomes, baseline, own, prompts=prompts, rounds=rounds, seed=seed, level=level
        )
    difficulty = _difficulties(control, prompts)
    return refit_win_rate(
        outcomes, baseline, own, difficulty, prompts=prompts, rounds=rounds, seed=seed, level=level
    )


def _jointly(
    data: Mapping[str, LengthData], *, rounds: int, seed: int, level: float
) -> dict[str, dict[str, Any]]:
    parts = list(data.values())
    fit = joint_win_rates(
        np.repeat(np.arange(len(parts)), [len(its.prompts) for its in parts]),
        [prompt for its in parts for prompt in its.prompts],
        np.concatenate([its.outcomes for its in parts]),
        np.concatenate([its.baseline_lengths for its in parts]),
        np.concatenate([its.lengths for its in parts]),
        len(parts),
        rounds=rounds,
        seed=seed,
        level=level,
    )
    figures: dict[str, dict[str, Any]] = {}
    for place, model in enumerate(data):
        figures[model] = {"lc_win_rate": float(fit.values[place]), "lc_method": "joint"}
        if fit.se is not None and fit.low is not None and fit.high is not None:
            figures[model] |= {
                "lc_win_rate_se": float(fit.se[place]),
                "lc_low": float(fit.low[place]),
                "lc_high": float(fit.high[place]),
            }
    return figures


def _difficulties(control: LengthControl, prompts: Sequence[str]) -> list[float]:
    known = control.difficulty or {}
    missing = [prompt for prompt in prompts if prompt not in known]
    if missing:
        raise DataError(f"{len(missing)} prompts have no difficulty, the first is '{missing[0]}'")
    return [known[prompt] for prompt in prompts]


def _figures(result: LengthControlled) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "lc_win_rate": result.value,
        "lc_win_rate_se": result.lc_standard_error if result.se is None else result.se,
        "lc_method": result.method,
    }
    if result.lc_standard_error is not None:
        figures["lc_standard_error"] = result.lc_standard_error
    if result.low is not None and result.high is not None:
        figures |= {"lc_low": result.low, "lc_high": result.high}
    if result.suspicious:
        figures["lc_suspicious"] = True
    return figures
