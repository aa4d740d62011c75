"""The state of a PPO run between two updates, on disk.

A checkpoint is written beside its place and moved there whole, and only then are older ones
removed: a full disk or a `kill -9` leaves the one before. Chances need no keeping: every update
draws from a generator seeded by the run's seed and its own number.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from rlaif.canonical import canonical_json
from rlaif.errors import StoreError

_STATE = "state.json"


def save_checkpoint(folder: Path, update: int, tensors: dict[str, Any], state: Any) -> Path:
    """The folder of a new checkpoint, the only one left.

    Args:
        folder: Where checkpoints are.
        update: How many updates are done.
        tensors: What `torch.save` takes: weights that move, and the optimizer.
        state: JSON: the coefficient of the KL penalty, and the like.

    Raises:
        StoreError: it could not be written; the checkpoint before is as it was.
    """
    import torch

    place = folder / f"update-{update}"
    scratch = folder / f".update-{update}.partial"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        torch.save(tensors, scratch / "tensors.pt")
        _settle(scratch / "tensors.pt")
        (scratch / _STATE).write_text(canonical_json({"update": update, **state}), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        scratch.replace(place)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError of its archive writer
        shutil.rmtree(scratch, ignore_errors=True)
        raise StoreError(f"{place}: cannot write the checkpoint: {error}") from error
    for old in _whole(folder):
        if old != place:
            shutil.rmtree(old)
    return place


def last_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The tensors and the state of the newest whole checkpoint, or None.

    Raises:
        StoreError: there is one that cannot be read.
    """
    import torch

    found = _whole(folder)
    if not found:
        return None
    newest = found[-1]
    try:
        state = json.loads((newest / _STATE).read_text(encoding="utf-8"))
        tensors = torch.load(newest / "tensors.pt", map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, LookupError, EOFError, UnpicklingError) as error:
        # torch reads a file that is no archive as one of its old formats, and stumbles somewhere
        raise StoreError(f"{newest}: cannot read the checkpoint: {error}") from error
    return tensors, state


def _settle(path: Path) -> None:
    """Wait until a file is on the disk: a power cut must not leave a name without its content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _whole(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("update-*") if (path / _STATE).exists()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("update-")))
