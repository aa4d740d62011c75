"""Rows of a benchmark's files, and their fields with the file, line and name in every error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rlaif.errors import SpecError, suggestion
from rlaif.evals.formats.rows import Row as LegacyRow
from rlaif.specs.describe import describe
from rlaif.specs.items import plain
from rlaif.specs.rows import file_rows

_MISSPELT = 0.8
"""How alike two names are, 0..1, from which one is taken for the other misspelt."""


class Row(LegacyRow):
    """One row of a benchmark's own file; a field that is null is absent."""

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.fields.get(name) is not None

    def any_text(self, name: str) -> str:
        """The text of a field; it may be empty, as a response may be."""
        value = self.required(name)
        if not isinstance(value, str):
            self.fail(f"should be text, found {describe(value)}", name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a list; it may not be empty."""
        value = self.required(name)
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            self.fail(f"should be a list of texts, found {describe(value)}", name)
        if not value:
            self.fail("is an empty list", name)
        return tuple(value)

    def others(self, known: Iterable[str]) -> dict[str, Any]:
        """The fields that are not `known`, for an item's meta.

        A field that looks like a known one misspelt is refused: left alone, it would change the
        result without a word.
        """
        known = tuple(known)
        found = {k: v for k, v in self.fields.items() if k not in known and v is not None}
        absent = [name for name in known if name not in self.fields]
        for name in found:
            if get_close_matches(name, absent, n=1, cutoff=_MISSPELT):
                self.fail(f"is not a known column; {suggestion(name, absent)}", name)
        try:
            return {name: plain(value, name) for name, value in found.items()}
        except SpecError as error:
            self.fail(error.message, error.field)


def rows_of(path: Path, limit: int | None = None) -> Iterator[Row]:
    """The rows of a file, at least one; NaN counts as absent.

    Raises:
        SpecError: the file cannot be read, has no rows, or a row is not an object.
    """
    number = 0
    for number, (line, fields) in enumerate(file_rows(path, lenient=True), 1):
        yield Row(fields, str(path), line, number)
        if number == limit:
            return
    if not number:
        raise SpecError("holds no rows", path=path)


def claim(taken: dict[Any, Row], key: Any, row: Row, name: str) -> None:
    """Note that `key` stands in `row`; a second row with the same one is refused.

    Raises:
        SpecError: it is taken: names both lines.
    """
    if key in taken:
        shown = str(key)[:60]
        row.fail(f"{shown!r} is also in line {taken[key].line}", name)
    taken[key] = row


def named_files(folder: Path) -> dict[str, Path]:
    """The JSONL files of a folder, each under its name without the ending, in order of name.

    Raises:
        SpecError: there is no such folder, or it holds none.
    """
    if not folder.is_dir():
        raise SpecError("is not a folder", path=folder)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(".gz")
        if name.endswith(".jsonl"):
            name = name.removesuffix(".jsonl")
            if name in found:
                raise SpecError(f"holds the answers of {found[name].name} too", path=path)
            found[name] = path
    if not found:
        raise SpecError("holds no .jsonl files", path=folder)
    return found
