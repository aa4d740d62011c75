"""Preference rows for a trainer, from a folder of `datasets` or from JSONL."""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path
from typing import Any

from rlaif.canonical import canonical_json
from rlaif.errors import ConfigError, SpecError
from rlaif.specs.items import prompt_messages, response_messages
from rlaif.store.runs import read_rows
from rlaif.types import as_dict

COLUMNS = ("prompt", "chosen", "rejected")
_BLOCK_ROWS = 1000


def require_train_extra() -> None:
    """Raise `ConfigError` unless everything that training needs is installed."""
    from importlib.util import find_spec

    missing = [
        name for name in ("torch", "transformers", "trl", "datasets", "peft") if not find_spec(name)
    ]
    if missing:
        raise ConfigError(f"training needs {', '.join(missing)}: pip install 'rlaif[train]'")


def load_preferences(path: Path, split: str = "train") -> Any:
    """The rows of a preference data set, with its three training columns and no other.

    Args:
        path: A folder that `datasets` wrote, or a JSONL file.
        split: Which split of a folder that has several.

    Returns:
        A `datasets.Dataset` of `prompt`, `chosen`, `rejected`.

    Raises:
        SpecError: there is no such data set, it has no such split, lacks a column or has no rows.
    """
    import datasets

    datasets.disable_progress_bars()
    if not path.exists():
        raise SpecError("no such data set", path=path)
    if path.is_file():
        rows = _read_jsonl(path)
    else:
        try:
            loaded = datasets.load_from_disk(str(path))
        except FileNotFoundError as error:
            raise SpecError("not a folder that `datasets` wrote", path=path) from error
        if isinstance(loaded, datasets.DatasetDict):
            if split not in loaded:
                raise SpecError(f"no split '{split}', only {', '.join(loaded)}", path=path)
            loaded = loaded[split]
        rows = loaded
    missing = [name for name in COLUMNS if name not in rows.column_names]
    if missing:
        raise SpecError("no such column", path=path, field=missing[0])
    if not len(rows):
        raise SpecError("the data set has no rows", path=path)
    return rows.select_columns(list(COLUMNS))


def _read_jsonl(path: Path) -> Any:
    """The rows of a JSONL file as Arrow tables, a block at a time: text, not Python objects."""
    import datasets

    rows = (_row(path, line, row) for line, row in read_rows(path))
    blocks = []
    while block := list(islice(rows, _BLOCK_ROWS)):
        blocks.append(datasets.Dataset.from_list(block))
    if not blocks:
        raise SpecError("the data set has no rows", path=path)
    return datasets.concatenate_datasets(blocks)


def _row(path: Path, line: int, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return {
            "prompt": as_dict(prompt_messages(row.get("prompt"))),
            "chosen": as_dict(response_messages(row.get("chosen"), "chosen")),
            "rejected": as_dict(response_messages(row.get("rejected"), "rejected")),
        }
    except SpecError as error:
        raise SpecError(error.message, path=path, line=line, field=error.field) from None


def rows_digest(rows: Any) -> str:
    """SHA-256 of the rows themselves, whatever file they came from."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(canonical_json(row).encode())
    return whole.hexdigest()
