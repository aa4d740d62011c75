"""Length and style control of a leaderboard: what needs each judgment by itself."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlaif.errors import DataError, SpecError
from rlaif.evals.leaderboard_counts import Floats, Ints
from rlaif.evals.leaderboard_strengths import need_finite, numbered
from rlaif.evals.length_tables import LengthData
from rlaif.evals.reading import ABSENT, Names, column
from rlaif.stats.style import FEATURES, count_style, fit_style_control, style_differences
from rlaif.types import Candidate


class JudgmentRows:
    """Columns of comparisons one by one: prompt, models, value, lengths and, if asked, style.

    Some fifty bytes a comparison, kept only for the control that is asked for.

    Args:
        style: Whether to count length, headers, lists and bold spans of each response.
    """

    def __init__(self, *, style: bool) -> None:
        self._questions = Names()
        self._judge, self._question = array("i"), array("i")
        self._a, self._b = array("i"), array("i")
        self._value, self._lengths = array("d"), array("d")
        self._style = array("d") if style else None

    def add(
        self,
        judge: int,
        question: str,
        models: tuple[int, int],
        value: float,
        lengths: tuple[float, float],
        pair: Sequence[Candidate],
    ) -> None:
        """Keep one comparison; `value` and `lengths` are NaN where unknown.

        Raises:
            SpecError: style is to be counted and a response has no text.
        """
        style = None if self._style is None else _style_difference(pair)
        self._judge.append(judge)
        self._question.append(self._questions.number(question))
        self._a.append(models[0])
        self._b.append(models[1])
        self._value.append(value)
        self._lengths.extend(lengths)
        if self._style is not None and style is not None:
            self._style.extend(style)

    def against(
        self, opponent: int, judges: Sequence[int], models: Sequence[str]
    ) -> dict[str, LengthData]:
        """What length control needs of each model's comparisons with `opponent`, by name.

        Args:
            opponent: Number of the baseline.
            judges: Numbers of the judges to keep.
            models: The name of each number.
        """
        kept = np.isin(column(self._judge), judges)
        a, b = column(self._a), column(self._b)
        lengths = column(self._lengths).reshape(-1, 2)
        names = np.array(self._questions.all(), dtype=object)
        found = {}
        for number, name in enumerate(models):
            first, second = (a == number) & (b == opponent), (b == number) & (a == opponent)
            rows = np.flatnonzero(kept & (first | second))
            if not rows.size:
                continue
            flip = second[rows]
            value, own = column(self._value)[rows], np.where(flip, 1, 0)
            found[name] = LengthData(
                names[column(self._question)[rows]].tolist(),
                np.where(flip, 1 - value, value),
                _whole(lengths[rows, own]),
                _whole(lengths[rows, 1 - own]),
            )
        return found

    def add_style_control(
        self,
        rows: Mapping[str, dict[str, Any]],
        judges: Sequence[int],
        models: Sequence[str],
        level: float,
        baseline: str | None,
    ) -> dict[str, Any]:
        """Add strengths with style taken out to the rows; what style was worth to the judge.

        With a baseline, `style_win_rate` against it is added too, and features are centered as
        Arena-Hard publishes them; without one models are compared at equal style.

        Args:
            rows: By model; `style_strength` with `_se`, `_low` and `_high` are added, in nats.
            judges: Numbers of the judges to keep.
            models: The name of each number.
            level: Confidence of the interval.
            baseline: The other side of win rates.

        Raises:
            DataError: some models never lost to the rest, or a feature cannot be told apart from
                them.
        """
        if self._style is None:
            raise DataError("the style of responses was not counted")
        ok = np.isin(column(self._judge), judges) & ~np.isnan(column(self._value))
        names, a, b = numbered(column(self._a)[ok], column(self._b)[ok], models)
        outcome = column(self._value)[ok]
        style = column(self._style).reshape(-1, len(FEATURES))[ok]
        need_finite(a, b, outcome, np.ones(outcome.size), names)
        if baseline is not None:  # first minus second is to be model minus baseline throughout
            flip = a == names.index(baseline)
            a, b = np.where(flip, b, a), np.where(flip, a, b)
            outcome = np.where(flip, 1 - outcome, outcome)
            style = np.where(flip[:, None], -style, style)
        return _style_controlled(
            rows, names, (a, b, outcome, style, column(self._question)[ok]), level, baseline
        )


def _style_controlled(
    rows: Mapping[str, dict[str, Any]],
    names: list[str],
    comparisons: tuple[Ints, Ints, Floats, Floats, Ints],
    level: float,
    baseline: str | None,
) -> dict[str, Any]:
    a, b, outcome, style, question = comparisons
    found = fit_style_control(
        a, b, outcome, len(names), style, center=baseline is not None, clusters=question
    )
    low, high = found.fit.interval(level)
    for place, name in enumerate(names):
        if name not in rows:
            continue
        rows[name] |= {
            "style_strength": float(found.fit.strengths[place]),
            "style_strength_se": float(found.fit.se[place]),
            "style_strength_low": float(low[place]),
            "style_strength_high": float(high[place]),
        }
        if baseline is not None and name != baseline:
            rows[name]["style_win_rate"] = found.win_rate(place, names.index(baseline))
    return {
        feature: {"coefficient": float(value), "se": float(se), "unit": "nats per s.d."}
        for feature, value, se in zip(found.features, found.coefficients, found.se, strict=True)
    }


def _whole(lengths: Floats) -> Ints:
    unknown = np.isnan(lengths)
    return np.where(unknown, ABSENT, np.where(unknown, 0, lengths)).astype(np.int64)


def _style_difference(pair: Sequence[Candidate]) -> list[float]:
    """How much longer and more marked up the first response is than the second, by `FEATURES`.

    Raises:
        SpecError: the record has no text to look at.
    """
    if not all(candidate.response for candidate in pair):
        raise SpecError("style control needs the text of both responses", field="candidates")
    first, second = (count_style(candidate.text) for candidate in pair)
    difference: list[float] = style_differences([first], [second])[0].tolist()
    return difference
