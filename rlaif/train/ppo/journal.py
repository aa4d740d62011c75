"""What a run writes down as it goes: training.jsonl, and samples of what the policy says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlaif.canonical import json_line
from rlaif.errors import StoreError
from rlaif.store.runs import read_rows, whole_file

LOG = "training.jsonl"
SAMPLES = "samples.jsonl"


class Journal:
    """The two logs of a run. Every row has its `step`.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows to a log.

        Raises:
            StoreError: the disk is full.
        """
        path = self._folder / name
        try:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(map(json_line, rows))
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror or error}") from error

    def first_evaluation(self) -> dict[str, Any] | None:
        """The figures of the held-out prompts before training, if they were written down."""
        path = self._folder / LOG
        rows = (row for _, row in read_rows(path)) if path.exists() else iter(())
        first = next(rows, {})
        found = {name: value for name, value in first.items() if name.startswith("eval_")}
        return found if first.get("step") == 0 else None

    def keep_until(self, step: int) -> None:
        """Drop what was logged after `step`, the last one that there is a checkpoint of.

        A line that a killed process left half written goes too.
        """
        for name in (LOG, SAMPLES):
            path = self._folder / name
            if not path.exists():
                continue
            _mend(path)
            kept = [row for _, row in read_rows(path) if row["step"] <= step]
            with whole_file(path) as file:
                file.writelines(map(json_line, kept))


def _mend(path: Path) -> None:
    whole = path.read_bytes()
    if whole and not whole.endswith(b"\n"):
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])
