"""The steps of a run as they are logged: told, kept in `training.jsonl`, and watched for NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rlaif.canonical import json_line
from rlaif.errors import DataError
from rlaif.store.runs import RunFolder
from rlaif.train.stopping import Stopping


class Curve(Protocol):
    """What gives the steps their names."""

    def curve(self, entry: Mapping[str, float]) -> dict[str, float]:
        """A step, as the run folder has it."""
        ...


def curve_rows(method: Curve, trainer: Any) -> list[dict[str, Any]]:
    """One row a logged step: what was trained, and what the held-out rows said at it."""
    rows: list[dict[str, Any]] = []
    for entry in trainer.state.log_history:
        plain = _plain(entry)
        if "train_runtime" in plain or "step" not in plain:
            continue
        step = int(plain["step"])
        if not rows or rows[-1]["step"] != step:
            rows.append({})
        rows[-1] |= {"step": step, **method.curve(plain)} | {"step": step}
    return rows


def write_curves(run: RunFolder, method: Curve, trainer: Any) -> None:
    """Put `training.jsonl` in place."""
    with run.open_whole("training.jsonl") as file:
        file.writelines(json_line(row) for row in curve_rows(method, trainer))


def _plain(entry: Mapping[str, Any]) -> dict[str, float]:
    """A log entry with numbers as numbers; TRL writes some as text, and NaN where there is none."""
    made: dict[str, float] = {}
    for key, value in entry.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            made[key] = number
    return made


def run_callback(
    progress: Callable[[int, int, str], None], stopping: Stopping, method: Curve
) -> Any:
    """What the trainer tells of its steps, and asks whether to stop after."""
    from transformers import TrainerCallback

    class Told(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if "loss" not in logs:
                return
            for name in ("loss", "grad_norm"):
                if math.isnan(float(logs.get(name, 0.0))):
                    what = "loss" if name == "loss" else "gradient"
                    raise DataError(
                        f"the {what} is no number at step {state.global_step}: "
                        "try a lower learning_rate"
                    )
            row = method.curve(_plain(logs))
            parts = [f"{k} {row[k]:.3f}" for k in ("loss", "reward", "kl", "coverage") if k in row]
            progress(state.global_step, state.max_steps, ", ".join(parts))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if stopping.wanted:
                control.should_log = control.should_save = control.should_training_stop = True

    return Told()
