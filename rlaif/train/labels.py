"""The labels of preference rows as a trainer takes them: hard or soft, and weights of mean 1."""

from __future__ import annotations

from typing import Any, Literal

from rlaif.errors import DataError, SpecError
from rlaif.train.data import COLUMNS

Labels = Literal["hard", "soft"]
Weights = Literal["none", "margin", "column"]


def labeled_rows(rows: Any, labels: Labels, weights: Weights, *, margins: bool = False) -> Any:
    """The rows with the columns that the loss reads, and no others.

    Args:
        rows: As `load_preferences` gives them.
        labels: `hard` takes the chosen response as the better one, for sure; `soft` with the
            probability `p_chosen`.
        weights: `none`; `margin` counts a row by |2 p_chosen - 1|; `column` by its `weight`. They
            are divided by their mean, so that the step size stays.
        margins: Whether `margin` is read too.

    Raises:
        SpecError: a column that is asked for is not there, or has gaps.
        DataError: all weights are 0.
    """
    made = rows.select_columns(list(COLUMNS))
    if labels == "soft":
        made = made.add_column("p_chosen", _column(rows, "p_chosen"))
    if margins:
        made = made.add_column("margin", _margins(rows))
    if weights != "none":
        raw = _column(rows, "weight") if weights == "column" else map(abs, _margins(rows))
        found = list(raw)
        mean = sum(found) / len(found)
        if not mean > 0:
            raise DataError("all rows have the weight 0")
        made = made.add_column("weight", [w / mean for w in found])
    return made


def _margins(rows: Any) -> list[float]:
    """The column `margin`, or 2 p_chosen - 1 where there is none."""
    if "margin" in rows.column_names and None not in (found := list(rows["margin"])):
        return found
    return [2 * p - 1 for p in _column(rows, "p_chosen")]


def _column(rows: Any, name: str) -> list[float]:
    if name not in rows.column_names:
        raise SpecError("no such column, and it is what was asked for", field=name)
    found = list(rows[name])
    if None in found:
        raise SpecError(f"row {found.index(None) + 1} has none", field=name)
    return found
