"""Preference rows for a trainer, from a folder of `datasets` or from JSONL."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rlaif.errors import ConfigError, SpecError

COLUMNS = ("prompt", "chosen", "rejected")


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
    import datasets

    from rlaif.specs.items import prompt_messages
    from rlaif.store.runs import read_rows
    from rlaif.types import as_dict

    made: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for line, row in read_rows(path):
        for name in COLUMNS:
            value = row.get(name)
            if name == "prompt":
                try:
                    made[name].append(as_dict(prompt_messages(value)))
                except SpecError as error:
                    raise SpecError(
                        error.message, path=path, line=line, field=error.field
                    ) from None
            else:
                made[name].append(_response(value, path, line, name))
    return datasets.Dataset.from_dict(made)


def _response(value: object, path: Path, line: int, name: str) -> list[dict[str, str]]:
    if isinstance(value, str) and value:
        return [{"role": "assistant", "content": value}]
    if isinstance(value, list) and value and all(_turn(v) for v in value):
        return list(value)
    raise SpecError("a response or a list of messages is needed", path=path, line=line, field=name)


def _turn(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"role", "content"}
        and all(isinstance(v, str) for v in value.values())
    )


def rows_digest(rows: Any) -> str:
    """SHA-256 of the rows themselves, whatever file they came from."""
    from rlaif.canonical import canonical_json

    whole = hashlib.sha256()
    for row in rows:
        whole.update(canonical_json(row).encode())
    return whole.hexdigest()
