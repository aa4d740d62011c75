"""Strengths of a leaderboard's models, from the columns of its comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError
from rlaif.evals.leaderboard_counts import Columns, Floats, Ints
from rlaif.stats.bootstrap import max_t_intervals, normal_draws
from rlaif.stats.bradley_terry import BradleyTerryFit, fit_bradley_terry, separation
from rlaif.stats.pair_likelihood import Ties
from rlaif.stats.ranks import elo as elo_ratings
from rlaif.stats.ranks import rank_intervals


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
    ok = columns.ok
    models, a, b = numbered(columns.a[ok], columns.b[ok], columns.models)
    n = columns.n[ok].astype(np.float64)
    outcome = columns.total[ok] / n if ties == "half" else columns.hard[ok]
    try:
        need_finite(a, b, outcome, n, models)
        fit = fit_bradley_terry(
            a, b, outcome, len(models), weights=n, clusters=columns.question[ok], ties=ties
        )
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
        "n": int(n.sum()),
        "unit": "nats",
    }


def numbered(
    first: Ints, second: Ints, models: Sequence[str]
) -> tuple[list[str], NDArray[np.intp], NDArray[np.intp]]:
    """The models that were compared, and both sides of each comparison as places among them."""
    present, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
    a, b = np.split(numbers, 2)
    return [models[n] for n in present.tolist()], a, b


def _ranks(fit: BradleyTerryFit, level: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Best and worst rank of each model, from intervals that hold together."""
    draws = normal_draws(fit.strengths, fit.covariance)
    best, worst = rank_intervals(*max_t_intervals(fit.strengths, draws, level))
    return best, worst


def need_finite(
    a: NDArray[np.intp], b: NDArray[np.intp], outcome: Floats, n: Floats, models: Sequence[str]
) -> None:
    """Raise `DataError` naming the models that leave strengths without a finite value.

    Args:
        a: Shape (entries,), places of the first model.
        b: Shape (entries,), of the second.
        outcome: Shape (entries,), P(first preferred).
        n: Shape (entries,), how many comparisons each entry counts for.
        models: Their names.
    """
    size = len(models)
    if size < 2:
        raise DataError("no comparison of two models has a verdict")
    wins = np.bincount(a * size + b, n * outcome, size * size)
    wins += np.bincount(b * size + a, n * (1 - outcome), size * size)
    if (split := separation(wins.reshape(size, size))) is not None:
        group = ", ".join(models[n] for n in split.group)
        raise DataError(f"{group} {split.how} the rest: strengths have no finite value")
