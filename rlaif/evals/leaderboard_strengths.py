"""Strengths of a leaderboard's models, from the columns of its comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError
from rlaif.evals.leaderboard_rows import Columns, Floats, Ints
from rlaif.stats.bootstrap import max_t_intervals, normal_draws
from rlaif.stats.bradley_terry import BradleyTerryFit, fit_bradley_terry, separation
from rlaif.stats.pair_likelihood import Ties
from rlaif.stats.ranks import elo as elo_ratings
from rlaif.stats.ranks import rank_intervals
from rlaif.stats.style import fit_style_control


def add_strengths(
    rows: Mapping[str, dict[str, Any]],
    columns: Columns,
    *,
    ties: Ties,
    level: float,
    elo: bool,
    required: bool,
) -> dict[str, Any]:
    """Add strengths to the rows; what they rest on, or why there are none.

    Args:
        rows: By model; `strength`, `strength_se`, `strength_low` and `strength_high` are added, in
            nats, mean zero over all models compared, and `rank_best` to `rank_worst`, which hold
            for all models together at `level`.
        columns: The comparisons.
        ties: How a tie enters.
        level: Confidence of the interval.
        elo: Whether to add `elo`, 400 / ln 10 a nat, mean 1000.
        required: Raise where strengths have no finite value, instead of saying so.

    Raises:
        DataError: `required`, and some models never lost to the rest: names them.
    """
    ok = ~np.isnan(columns.value)
    models, a, b = _numbered(columns, ok)
    outcome = (columns.value if ties == "half" else columns.hard)[ok]
    try:
        fit = _fit(a, b, outcome, columns.question[ok], models, ties)
    except DataError as error:
        if required:
            raise
        return {"ties": ties, "unavailable": str(error)}
    low, high = fit.interval(level)
    ratings = elo_ratings(fit.strengths)
    best, worst = _ranks(fit, level)
    for place, name in enumerate(models):
        if name not in rows:
            continue
        rows[name] |= {
            "strength": float(fit.strengths[place]),
            "strength_se": float(fit.se[place]),
            "strength_low": float(low[place]),
            "strength_high": float(high[place]),
            "rank_best": int(best[place]),
            "rank_worst": int(worst[place]),
        }
        if elo:
            rows[name]["elo"] = float(ratings[place])
    return {
        "ties": ties,
        "nu": fit.nu,
        "log_likelihood": fit.log_likelihood,
        "n": fit.n,
        "unit": "nats",
    }


def add_style_control(
    rows: Mapping[str, dict[str, Any]], columns: Columns, level: float, baseline: str | None
) -> dict[str, Any]:
    """Add strengths with style taken out to the rows; what style was worth to the judge.

    With a baseline, `style_win_rate` against it is added too, and features are centered as
    Arena-Hard publishes them; without one models are compared at equal style.

    Args:
        rows: By model; `style_strength` with `_se`, `_low` and `_high` are added, in nats.
        columns: The comparisons, with their style differences.
        level: Confidence of the interval.
        baseline: The other side of win rates.

    Raises:
        DataError: some models never lost to the rest, or a feature cannot be told apart from them.
    """
    if columns.style is None:
        raise DataError("the style of responses was not counted")
    ok = ~np.isnan(columns.value)
    models, a, b = _numbered(columns, ok)
    outcome, style = columns.value[ok], columns.style[ok]
    _need_finite(a, b, outcome, models)
    if baseline is not None:  # first minus second is to be model minus baseline throughout
        flip = a == models.index(baseline)
        a, b = np.where(flip, b, a), np.where(flip, a, b)
        outcome = np.where(flip, 1 - outcome, outcome)
        style = np.where(flip[:, None], -style, style)
    found = fit_style_control(
        a,
        b,
        outcome,
        len(models),
        style,
        center=baseline is not None,
        clusters=columns.question[ok].tolist(),
    )
    low, high = found.fit.interval(level)
    for place, name in enumerate(models):
        if name not in rows:
            continue
        rows[name] |= {
            "style_strength": float(found.fit.strengths[place]),
            "style_strength_se": float(found.fit.se[place]),
            "style_strength_low": float(low[place]),
            "style_strength_high": float(high[place]),
        }
        if baseline is not None and name != baseline:
            rows[name]["style_win_rate"] = found.win_rate(place, models.index(baseline))
    return {
        feature: {"coefficient": float(value), "se": float(se), "unit": "nats per s.d."}
        for feature, value, se in zip(found.features, found.coefficients, found.se, strict=True)
    }


def _numbered(columns: Columns, ok: NDArray[np.bool_]) -> tuple[list[str], Ints, Ints]:
    """The models that were compared, and both sides of each comparison as places among them."""
    sides = np.concatenate([columns.a[ok], columns.b[ok]])
    present, numbers = np.unique(sides, return_inverse=True)
    a, b = np.split(numbers, 2)
    return [columns.models[n] for n in present.tolist()], a, b


def _ranks(fit: BradleyTerryFit, level: float) -> tuple[Ints, Ints]:
    """Best and worst rank of each model, from intervals that hold together."""
    draws = normal_draws(fit.strengths, fit.covariance)
    best, worst = rank_intervals(*max_t_intervals(fit.strengths, draws, level))
    return best, worst


def _need_finite(a: Ints, b: Ints, outcome: Floats, models: Sequence[str]) -> None:
    """Raise `DataError` naming the models that leave strengths without a finite value."""
    size = len(models)
    if size < 2:
        raise DataError("no comparison of two models has a verdict")
    wins = np.bincount(a * size + b, outcome, size * size)
    wins += np.bincount(b * size + a, 1 - outcome, size * size)
    if (split := separation(wins.reshape(size, size))) is not None:
        group = ", ".join(models[n] for n in split.group)
        raise DataError(f"{group} {split.how} the rest: strengths have no finite value")


def _fit(
    a: Ints, b: Ints, outcome: Floats, question: Ints, models: Sequence[str], ties: Ties
) -> BradleyTerryFit:
    """The strengths, prompts as clusters.

    Raises:
        DataError: they have no finite value: names the models at fault.
    """
    _need_finite(a, b, outcome, models)
    return fit_bradley_terry(a, b, outcome, len(models), clusters=question.tolist(), ties=ties)
