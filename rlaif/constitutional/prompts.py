"""Prompts of a file, and the rows of it that hold none: a broken row stops no run."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rlaif.errors import SpecError
from rlaif.specs.items import read_prompts
from rlaif.specs.rows import LineTable
from rlaif.types import Item


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that holds no prompt."""

    line: int
    message: str
    field: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """A line of `skipped.jsonl`."""
        field = {"field": self.field} if self.field else {}
        return {"line": self.line, "message": self.message, **field}


def prompts_in(source: Path, limit: int | None = None) -> Iterator[Item | BrokenRow]:
    """The prompts of a file in order, and in their places the rows that hold none.

    Only JSONL, where every line stands for itself, is read past a broken row.

    Args:
        source: As for `rlaif.specs.items.read_prompts`.
        limit: Most rows to read.

    Raises:
        SpecError: the file cannot be read or has no rows, or, of another format, a row is broken.
    """
    if source.suffix != ".jsonl" or not source.is_file():
        yield from read_prompts(source, limit=limit)
        return
    seen, found = LineTable(), False
    with source.open("rb") as file:
        lines = ((n, line) for n, line in enumerate(file, 1) if line.strip())
        for number, line in islice(lines, limit):
            found = True
            yield _row(line, number, seen)
    if not found:
        raise SpecError("holds no rows", path=source)


def _row(line: bytes, number: int, seen: LineTable) -> Item | BrokenRow:
    try:
        [item] = read_prompts("-", stdin=io.BytesIO(line))
    except SpecError as error:
        return BrokenRow(number, error.message, error.field)
    if (first := seen.claim(item.id, number)) is None:
        return item
    if {"id", "question_id"} & json.loads(line).keys():
        return BrokenRow(number, f"{item.id[:60]!r} is also the id of line {first}", "id")
    return BrokenRow(number, f"is the same prompt as line {first}", "prompt")
