"""What there is to judge: a file, a data frame, a data set, rows, or our own values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rlaif.candidates import pair_up
from rlaif.errors import SpecError
from rlaif.specs.items import read_data
from rlaif.types import Candidate, Comparison, Item

T = TypeVar("T")


def responses(source: Any, limit: int | None) -> list[tuple[Item, Candidate]]:
    """Each response to grade.

    Raises:
        SpecError: the file or a row does not fit.
    """
    if isinstance(source, str | Path):
        from rlaif.cli.judging import responses_in

        return list(responses_in(_path(source), limit))
    rows = _rows(source, limit)
    if not _are_values(rows, tuple):
        return [(item, candidates[0]) for item, candidates in read_data(rows, "score")]
    return rows


def comparisons(source: Any, limit: int | None, pairs: str) -> list[Comparison]:
    """Each comparison to make.

    Raises:
        SpecError: the file or a row does not fit.
        ConfigError: `pairs` is wrong.
    """
    pair_up(Item("", ()), (), pairs)
    if isinstance(source, str | Path):
        from rlaif.cli.judging import comparisons_in

        return list(comparisons_in(_path(source), limit, pairs))
    rows = _rows(source, limit)
    if not _are_values(rows, Comparison):
        return [Comparison(item, a, b) for item, (a, b) in read_data(rows, "compare")]
    return rows


def rankings(source: Any, limit: int | None) -> list[tuple[Item, tuple[Candidate, ...]]]:
    """Each prompt with the responses to rank.

    Raises:
        SpecError: the file or a row does not fit.
    """
    if isinstance(source, str | Path):
        from rlaif.cli.ranking import rankings_in

        return list(rankings_in(_path(source), limit))
    rows = _rows(source, limit)
    return rows if _are_values(rows, tuple) else list(read_data(rows, "rank"))


def _path(source: str | Path) -> Path:
    path = Path(source)
    if not path.exists():
        raise SpecError("no such file or folder", path=path)
    return path


def _rows(source: Any, limit: int | None) -> list[Any]:
    """The rows of `source`, at most `limit`."""
    if hasattr(source, "iterrows") and hasattr(source, "to_dict"):  # a data frame
        source = [_without_gaps(row) for row in source.to_dict("records")]
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        kind = type(source).__name__
        raise SpecError(f"what there is to judge is a file or a list of rows, not a {kind}")
    return [row for _, row in zip(range(limit), source, strict=False)] if limit else list(source)


def _without_gaps(row: Mapping[str, Any]) -> dict[str, Any]:
    """A data frame's row without what it has no value for: NaN, which is no JSON."""
    return {key: value for key, value in row.items() if not (_is_nan(value) or value is None)}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value  # noqa: PLR0124


def _are_values(rows: list[Any], kind: type) -> bool:
    """Whether `rows` are values of `kind` already, rather than mappings."""
    return bool(rows) and all(isinstance(row, kind) for row in rows)
