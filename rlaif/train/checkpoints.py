"""Checkpoints of a trainer of transformers, and the tuned model, on a disk that may be full."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlaif.errors import StoreError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAID = ("No space left", "file write failed", "PytorchStreamWriter", "File too large")
"""How safetensors and torch report a full disk: not as an `OSError`."""


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint in `folder` that was written to its end, or `None`.

    A process that was killed while it wrote one leaves a folder that cannot be loaded; the one
    before it is used then.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for checkpoint in reversed(found):
        # trainer_state.json is the last file that the trainer writes
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
        else:
            return str(checkpoint)
    return None


@contextmanager
def naming_full_disk(checkpoints: Path) -> Iterator[None]:
    """Name a full disk as such: the half-written checkpoint goes, the one before it stays.

    Raises:
        StoreError: the block failed because nothing more could be written.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        shutil.rmtree(checkpoints.with_name(".model.partial"), ignore_errors=True)
        kept = last_checkpoint(checkpoints)
        told = f"{Path(kept).name} is kept" if kept else "there is no checkpoint yet"
        raise StoreError(f"cannot write {checkpoints.parent}: the disk is full; {told}") from error


def _is_full(error: Exception) -> bool:
    if isinstance(error, StoreError):
        return False
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(text in str(error) for text in _SAID)


def save_model(trainer: Any, output: Path, card: str) -> None:
    """The tuned model with the adapter merged, put in place whole; checkpoints go."""
    scratch = output / ".model.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    network = trainer.accelerator.unwrap_model(trainer.model)
    merged = network.merge_and_unload() if hasattr(network, "merge_and_unload") else network
    merged.__dict__.pop("forward", None)  # TRL's fused head, patched onto the instance
    merged.save_pretrained(scratch)
    trainer.processing_class.save_pretrained(scratch)
    (scratch / "README.md").write_text(card, encoding="utf-8")
    scratch.replace(output / "model")
    shutil.rmtree(output / "checkpoints", ignore_errors=True)
