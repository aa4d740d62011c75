"""What the service writes: files that are whole or not there, and tables that do no harm."""

from __future__ import annotations

import csv
import io
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlaif.canonical import json_bytes
from rlaif.evals.formats.files import guarded

_DEAD_S = 600.0
"""Seconds after which nobody can still be at a part that did not grow."""
_ROWS_A_PART = 100


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` when the block ends, and is gone if it fails.

    Several servers may make one file at once: each has a place of its own, and the last that ends
    has made it. What dead servers left of theirs is removed.
    """
    for left in path.parent.glob(f"{path.name}.*.partial"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - _DEAD_S:
                left.unlink()
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sound(text: str) -> str:
    """`text` as UTF-8 and SQLite take it: half characters are shown by their code."""
    return text.encode("utf-8", "backslashreplace").decode()


def csv_parts(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A table as CSV, in parts. No cell begins as a formula would: a quote stands before it.

    Args:
        columns: The names of the columns.
        rows: Their values: text, None, or what JSON has.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    for number, row in enumerate(rows, 1):
        writer.writerow(map(_cell, row))
        if number % _ROWS_A_PART == 0:
            yield written.getvalue()
            written.seek(0)
            written.truncate()
    yield written.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return guarded(sound(value))
    return json_bytes(value).decode()
