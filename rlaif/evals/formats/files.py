"""Rows written to the kinds of file that legacy tools read; a file appears whole or not at all.

guarded("=1+1")                     # "'=1+1": a quote stands before what would be a formula
unguarded("'=1+1")                  # "=1+1"
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from rlaif.canonical import json_line
from rlaif.errors import ConfigError, DataError, StoreError
from rlaif.store.runs import is_stream

Rows = Callable[[], Iterable[Mapping[str, Any]]]

ENDINGS = (".jsonl", ".json", ".csv", ".tsv")
"""Kinds of file, each also with `.gz` behind it. `.json` is one list."""

_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""How a cell begins that a spreadsheet calculates, full-width signs too; quotes before it count, so
that what is written is read back as it was."""


def guarded(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """What `guarded` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def write_rows(path: Path, rows: Rows, *, guard: bool = False) -> int:
    """Write `rows`, asked for twice where the columns must be known first; how many there were.

    Args:
        path: The file.
        rows: Gives them.
        guard: Whether cells of CSV and TSV are kept from being formulas.

    Raises:
        ConfigError: the file's ending tells no kind.
        DataError: a text cannot stand in this kind of file.
        StoreError: the file cannot be written.
    """
    ending = Path(path.name.removesuffix(".gz")).suffix
    if ending not in ENDINGS:
        known = ", ".join(ENDINGS)
        raise ConfigError(f"{path}: the name should end in one of {known}, or that with .gz")
    with _whole(path) as file:
        if ending == ".jsonl":
            return _write_lines(file, rows())
        if ending == ".json":
            return _write_list(file, rows())
        return _write_cells(file, rows, "," if ending == ".csv" else "\t", path, guard=guard)


@contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    # a pipe is not replaced, but written to
    partial = path if is_stream(path) else path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as raw:
            if path.suffix == ".gz":
                # no name and no time inside: equal rows give equal files
                with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                    yield from _text(packed)
            else:
                yield from _text(raw)
        if partial != path:
            partial.replace(path)
    except BaseException as error:
        if partial != path:
            with suppress(OSError):
                partial.unlink()
        if isinstance(error, OSError):
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def _text(file: Any) -> Iterator[TextIO]:
    wrapper = TextIOWrapper(file, encoding="utf-8", newline="")
    yield wrapper
    wrapper.flush()
    wrapper.detach()


def _write_lines(file: TextIO, rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    for row in rows:
        file.write(json_line(row))
        count += 1
    return count


def _write_list(file: TextIO, rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    for count, row in enumerate(rows, 1):
        file.write(("[\n" if count == 1 else ",\n") + json_line(row).rstrip("\n"))
    file.write("\n]\n" if count else "[]\n")
    return count


def _write_cells(
    file: TextIO, rows: Rows, delimiter: str, path: Path, *, guard: bool = False
) -> int:
    def cell(value: object) -> str:
        return guarded(value) if guard and isinstance(value, str) else _cell(value)

    columns = list(dict.fromkeys(name for row in rows() for name in row))
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow([cell(name) for name in columns])
    count = 0
    for count, row in enumerate(rows(), 1):
        cells = [cell(row.get(name)) for name in columns]
        try:
            "".join(cells).encode()
        except UnicodeEncodeError:
            message = f"{path}: row {count} holds half a surrogate pair, which only JSON can carry"
            raise DataError(message) from None
        writer.writerow(cells)
    return count


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
