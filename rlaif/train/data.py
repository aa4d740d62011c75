"""Rows for a trainer, from a folder of `datasets` or from JSONL: preferences, and prompts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rlaif.canonical import canonical_json
from rlaif.errors import ConfigError, SpecError
from rlaif.specs.items import prompt_messages, response_messages
from rlaif.store.runs import read_rows
from rlaif.types import as_dict

COLUMNS = ("prompt", "chosen", "rejected")
LABELS = ("p_chosen", "margin", "weight")
"""Numbers beside a pair: P(chosen preferred), 2 p - 1, and how much the row counts."""
PROVENANCE = ("judge", "rubric")
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
    """The rows of a preference data set: training columns, and what its labels are worth.

    Args:
        path: A folder that `datasets` wrote, or a JSONL file.
        split: Which split of a folder that has several.

    Returns:
        A `datasets.Dataset` of `prompt`, `chosen`, `rejected`, and of `p_chosen`, `margin`,
        `weight`, `judge` and `rubric` as far as the data set has them.

    Raises:
        SpecError: there is no such data set, it has no such split, lacks a column, has no rows, or
            a number in it is out of range.
    """
    return load_table(path, split, _pair, COLUMNS)


Read = Callable[[Path, int, dict[str, Any]], dict[str, Any]]
"""Makes a row of what stands in a file at a line."""


def load_table(path: Path, split: str, read: Read, columns: Sequence[str] = ()) -> Any:
    """The rows of a data set, each as `read` makes it.

    Args:
        path: A folder that `datasets` wrote, or a JSONL file.
        split: Which split of a folder that has several.
        read: Makes a row of what is there; all rows have the columns of the first one.
        columns: Those that a folder must have.

    Raises:
        SpecError: there is no such data set, split or column, or there are no rows.
    """
    import datasets

    datasets.disable_progress_bars()
    if not path.exists():
        raise SpecError("no such data set", path=path)
    if path.is_file():
        return _table(path, (read(path, line, row) for line, row in read_rows(path)))
    try:
        loaded = datasets.load_from_disk(str(path))
    except FileNotFoundError as error:
        raise SpecError("not a folder that `datasets` wrote", path=path) from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise SpecError(f"no split '{split}', only {', '.join(loaded)}", path=path)
        loaded = loaded[split]
    if missing := [name for name in columns if name not in loaded.column_names]:
        raise SpecError("no such column", path=path, field=missing[0])
    return _table(path, (read(path, line, row) for line, row in enumerate(loaded, 1)))


def has_split(path: Path, split: str) -> bool:
    """Whether a folder that `datasets` wrote has a split of this name."""
    return (path / "dataset_dict.json").exists() and (path / split).is_dir()


def _table(path: Path, rows: Iterable[dict[str, Any]]) -> Any:
    """Rows as Arrow tables, a block at a time: text, not Python objects."""
    import datasets

    rows = iter(rows)
    blocks: list[Any] = []
    features = None
    while block := list(islice(rows, _BLOCK_ROWS)):
        features = features or _features(block[0])
        columns = {name: [row.get(name) for row in block] for name in features}
        blocks.append(datasets.Dataset.from_dict(columns, features=features))
    if not blocks:
        raise SpecError("the data set has no rows", path=path)
    return datasets.concatenate_datasets(blocks)


def _features(row: Mapping[str, Any]) -> Any:
    """The types of the columns that the first row has: later ones need not have them all."""
    import datasets

    text = datasets.Value("string")
    messages = [{"role": text, "content": text}]
    return datasets.Features(
        {
            name: messages
            if isinstance(value, list)
            else datasets.Value("float64")
            if name in LABELS
            else datasets.Value("bool")
            if name == "label"
            else text
            for name, value in row.items()
        }
    )


def _pair(path: Path, line: int, row: dict[str, Any]) -> dict[str, Any]:
    made = messages_in(path, line, row, {name: name for name in COLUMNS})
    for name in LABELS:
        if name in row:
            made[name] = _number(path, line, name, row[name])
    for name in PROVENANCE:
        if name in row:
            made[name] = row[name] if isinstance(row[name], str) else None
    return made


def messages_in(
    path: Path, line: int, row: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    """The prompt and the responses of a row as messages, under new names.

    Args:
        path: The file, for errors.
        line: Its line.
        row: What stands there.
        names: New name by column.

    Raises:
        SpecError: one is missing or no text.
    """
    try:
        return {
            new: as_dict(
                prompt_messages(row.get(old))
                if old == "prompt"
                else response_messages(row.get(old), old)
            )
            for old, new in names.items()
        }
    except SpecError as error:
        raise SpecError(error.message, path=path, line=line, field=error.field) from None


def _number(path: Path, line: int, name: str, value: Any) -> float | None:
    """A label as it may be: a probability, a margin in [-1, 1], or a weight from 0 up."""
    if value is None:
        return None
    least, most = {"p_chosen": (0.0, 1.0), "margin": (-1.0, 1.0), "weight": (0.0, math.inf)}[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecError("not a finite number", path=path, line=line, field=name)
    if not least <= value <= most:
        raise SpecError(f"{value} is not in [{least}, {most}]", path=path, line=line, field=name)
    return float(value)


def held_out_split(rows: Any, share: float) -> tuple[Any, Any]:
    """`rows` in two, for training and for measuring: no prompt is in both.

    The side is decided by the digest of the prompt, and so by no other row. It is another digest
    than the one that parts data sets, whose train split would else be on one side as a whole.
    """
    sides: tuple[list[int], list[int]] = ([], [])
    for place, prompt in enumerate(rows["prompt"]):
        text = b"held out" + canonical_json(prompt).encode()
        where = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
        sides[where < share].append(place)
    return rows.select(sides[0]), rows.select(sides[1])


def without_prompts_of(rows: Any, others: Any) -> Any:
    """The rows whose prompt is not among those of `others`."""
    seen = {canonical_json(prompt) for prompt in others["prompt"]}
    prompts = enumerate(rows["prompt"])
    return rows.select([n for n, prompt in prompts if canonical_json(prompt) not in seen])


def provenance(rows: Any) -> dict[str, str]:
    """Which judges and rubrics made the labels of rows, for the model card."""
    found = {}
    for name in PROVENANCE:
        if name in rows.column_names and (values := {v for v in rows[name] if v}):
            found[name] = ", ".join(sorted(values))
    return found


def rows_digest(rows: Any) -> str:
    """SHA-256 of the rows themselves, whatever file they came from."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(canonical_json(row).encode())
    return whole.hexdigest()
