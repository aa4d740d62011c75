"""A small table that shows itself: as text in a terminal, as HTML in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_LONGEST = 60
"""Characters of a cell; a judge's reasons are read elsewhere."""


@dataclass(frozen=True, repr=False)
class Table:
    """Rows under a title. `table.rows` are plain dicts: `pandas.DataFrame(table.rows)` takes them.

    `str(table)` is aligned text and `_repr_html_` escaped HTML: judged text in a cell stays text.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    note: str = ""

    @property
    def columns(self) -> list[str]:
        """Names of all columns, in the order in which rows first have them."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __repr__(self) -> str:
        columns = self.columns
        cells = [columns, *([_cell(row.get(name)) for name in columns] for row in self.rows)]
        widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
        right = [_numeric(row.get(name) for row in self.rows) for name in columns]
        lines = [
            "  ".join(
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in cells
        ]
        rule = "─" * max(len(line) for line in lines)
        return "\n".join([self.title, lines[0], rule, *lines[1:], *([self.note] * bool(self.note))])

    def _repr_html_(self) -> str:
        columns = self.columns
        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_cell(row.get(name)))}</td>' for name in columns)}</tr>"
            for row in self.rows
        )
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return (
            f"<table><caption>{escape(self.title)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>{note}"
        )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _numeric(values: Any) -> bool:
    found = [value for value in values if value is not None]
    return bool(found) and all(isinstance(one, int | float) for one in found)
