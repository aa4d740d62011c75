"""Bradley-Terry strengths refitted on resampled prompts: what a new set of prompts would change.

    from rlaif.stats.bootstrap import bootstrap_bradley_terry

    i, j, y = [0, 0, 1] * 40, [1, 1, 0] * 40, [1, 0.5, 1] * 40
    prompts = [k // 2 for k in range(120)]           # both orders of a prompt stay together
    boot = bootstrap_bradley_terry(i, j, y, 2, clusters=prompts, rounds=200, seed=0)
    low, high = boot.interval()
    assert low[0] < boot.strengths[0] < high[0]

Why it is fast. A fit sees the comparisons only through how often each pair met and how often each
model won, and both are sums over prompts. So the comparisons are counted once, by prompt; a block
of rounds is then one product of these tables with the drawn weights, and each refit starts at the
full fit and walks with its curvature, which a resample hardly changes. Its first step needs the
slopes at the full fit, which are sums over prompts too. The work of a round does not grow with the
number of comparisons, and neither does the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.stats.bradley_terry import (
    Comparisons,
    check_comparisons,
    strengths_of_table,
)
from rlaif.stats.clusters import Prompts, cluster_numbers, upper_tail_point
from rlaif.stats.numeric import sigmoid
from rlaif.stats.refit import Refit

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_BLOCK = 64
"""Rounds in one sparse product."""
_TABLE = 8_000_000
"""Numbers in the largest table held at once (64 MB)."""
_IN_CACHE = 80_000
"""Numbers in the tables of the rounds that are refitted side by side."""
_MOST_LEFT_OUT = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class StrengthBootstrap:
    """Strengths of the full data and of resamples of its prompts."""

    strengths: Floats
    """Shape (n_models,), nats, mean zero: the fit to all comparisons."""
    draws: Floats
    """Shape (rounds - left_out, n_models), the same for each resample."""
    n: int
    """Comparisons."""
    n_clusters: int
    """Prompts."""
    left_out: int
    """Rounds without a finite fit: some model won or lost everything in them."""
    seed: int

    @property
    def se(self) -> Floats:
        """Standard deviations over the rounds, shape (n_models,)."""
        return np.asarray(self.draws.std(axis=0, ddof=1))

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Percentiles for each strength by itself, shape (n_models,) each.

        Raises:
            DataError: `level` lies outside (0, 1).
        """
        tail = upper_tail_point(level)
        low, high = np.quantile(self.draws, [1 - tail, tail], axis=0)
        return low, high

    def simultaneous(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Intervals that hold for all models at once: see `max_t_intervals`."""
        return max_t_intervals(self.strengths, self.draws, level)

    def difference(self, i: int, j: int, level: float = 0.95) -> tuple[float, float, float]:
        """strengths[i] - strengths[j] with its percentiles, nats: (value, low, high).

        Raises:
            DataError: `level` lies outside (0, 1).
        """
        tail = upper_tail_point(level)
        low, high = np.quantile(self.draws[:, i] - self.draws[:, j], [1 - tail, tail])
        return float(self.strengths[i] - self.strengths[j]), float(low), float(high)


def bootstrap_bradley_terry(
    i: ArrayLike,
    j: ArrayLike,
    y: ArrayLike,
    n_models: int,
    *,
    weights: ArrayLike | None = None,
    clusters: Prompts | None = None,
    rounds: int = 1000,
    seed: int = 0,
    ridge: float = 0.0,
) -> StrengthBootstrap:
    """Strengths refitted to `rounds` resamples that draw whole prompts with replacement.

    Ties are half wins and outcomes may be soft. Each refit is carried to within 1e-7 nats.
    With few prompts (under about 30) percentiles are too narrow: use the clustered sandwich of
    `fit_bradley_terry`, whose interval corrects for that.

    Args:
        i: Shape (n,), index of the first model of each comparison.
        j: Shape (n,), index of the second.
        y: Shape (n,), in [0, 1]: 1 where i won, 0 where j won, 0.5 a tie, or P(i preferred).
        n_models: Models are numbered 0 to n_models - 1.
        weights: Shape (n,), positive; None weighs each comparison 1.
        clusters: The prompt of each comparison, length n; None resamples single comparisons,
            which makes intervals too narrow whenever prompts have several.
        rounds: How many resamples.
        seed: The same seed draws the same prompts.
        ridge: As in `fit_bradley_terry`; above 0 every round has a finite fit.

    Raises:
        DataError: as `fit_bradley_terry`; `rounds` is under 2; more than 1 % of the rounds have
            no finite fit, so that percentiles would leave out just the extreme ones.

    Reference:
        Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8.
    """
    if rounds < 2:
        raise DataError(f"rounds is {rounds}, not two or more")
    data = check_comparisons(i, j, y, n_models, weights)
    numbers = cluster_numbers(clusters, data.y.size)
    n_clusters = int(numbers.max()) + 1
    if n_clusters < 2:
        raise DataError("one cluster has no spread between clusters")
    full, inverse = strengths_of_table(_wins(data, n_models), ridge)
    draws = np.empty((rounds, n_models))
    refit = Refit(full, inverse, ridge)
    kinds = _kinds(data, n_models) if clusters is None else np.arange(n_clusters)
    row_kinds, n_kinds = kinds[numbers], int(kinds.max()) + 1
    # One prompt of a kind adds its share of what all of the kind do.
    data = data._replace(weights=data.weights / np.bincount(kinds)[row_kinds])
    met, cells = _met_table(data, row_kinds, n_kinds, n_models)
    won = _model_table(data, row_kinds, n_kinds, n_models, (data.y, 1 - data.y))
    gap = data.y - sigmoid(full[data.i] - full[data.j])
    slope = _model_table(data, row_kinds, n_kinds, n_models, (gap, -gap))
    rng = np.random.default_rng(seed)
    block = max(1, min(_BLOCK, _TABLE // max(met.shape)))
    side_by_side = max(1, _IN_CACHE // n_models**2)
    for start in range(0, rounds, block):
        count = min(block, rounds - start)
        drawn = _drawn(rng, kinds, count)
        met_in, won_in, slope_in = ((table @ drawn).T for table in (met, won, slope))
        met_in = np.ascontiguousarray(met_in)
        for first in range(0, count, side_by_side):
            part = slice(first, first + side_by_side)
            draws[start : start + count][part] = refit(
                met_in[part].take(cells, axis=1), won_in[part], slope_in[part]
            )
    kept = draws[np.isfinite(draws).all(axis=1)]
    left_out = rounds - len(kept)
    if left_out > _MOST_LEFT_OUT * rounds:
        raise DataError(
            f"{left_out} of {rounds} resamples have no finite strengths, since some model won or "
            "lost all its comparisons in them: add prompts, or set a ridge"
        )
    return StrengthBootstrap(full, kept, data.y.size, n_clusters, left_out, seed)


def max_t_intervals(
    estimates: ArrayLike, draws: ArrayLike, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Intervals that hold all at once: estimate +- q * se, q the `level` quantile of max |t|.

    Args:
        estimates: Shape (n,).
        draws: Shape (rounds, n), bootstrap draws of them (or draws of their normal distribution:
            see `normal_draws`).
        level: Probability that no interval misses.

    Raises:
        DataError: `level` lies outside (0, 1).

    Reference:
        Westfall and Young 1993, "Resampling-Based Multiple Testing", chapter 2.
    """
    upper_tail_point(level)
    center, table = np.asarray(estimates, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    se = table.std(axis=0, ddof=1)
    largest = np.max(np.abs(table - center) / np.where(se > 0, se, 1.0), axis=1)
    half = float(np.quantile(largest, level)) * se
    return center - half, center + half


def normal_draws(
    estimates: ArrayLike, covariance: ArrayLike, *, rounds: int = 10_000, seed: int = 0
) -> Floats:
    """Draws of the normal distribution that a fit claims, shape (rounds, n), for `max_t_intervals`.

    Args:
        estimates: Shape (n,), such as `BradleyTerryFit.strengths`.
        covariance: Shape (n, n), such as `BradleyTerryFit.covariance`; may be singular.
        rounds: How many draws.
        seed: Seed of the draws.
    """
    center = np.asarray(estimates, dtype=np.float64)
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal(center, np.asarray(covariance), size=rounds, method="eigh")


def _wins(data: Comparisons, n_models: int) -> Floats:
    i, j, y, w = data
    size = n_models * n_models
    forth = np.bincount(i * n_models + j, w * y, size)
    back = np.bincount(j * n_models + i, w * (1 - y), size)
    return np.asarray((forth + back).reshape(n_models, n_models), dtype=np.float64)


def _met_table(
    data: Comparisons, numbers: Ints, n_clusters: int, n_models: int
) -> tuple[Any, Ints]:
    """How often each pair of models met on each prompt, and where pairs lie in it.

    Returns:
        A sparse table, shape (pairs + 1, n_clusters), its last row zeros; and, shape (n_models,
        n_models), the row of each pair (the row of zeros for pairs that never met).
    """
    from scipy.sparse import csr_matrix

    cell = np.minimum(data.i, data.j) * n_models + np.maximum(data.i, data.j)
    pairs = np.flatnonzero(np.bincount(cell, minlength=n_models * n_models))
    row_of = np.full(n_models * n_models, pairs.size)
    row_of[pairs] = np.arange(pairs.size)
    shape = (pairs.size + 1, n_clusters)
    table = csr_matrix((data.weights, (row_of[cell], numbers)), shape=shape)
    square = row_of.reshape(n_models, n_models)
    return table, np.minimum(square, square.T)


def _model_table(
    data: Comparisons,
    numbers: Ints,
    n_clusters: int,
    n_models: int,
    values: tuple[Floats, Floats],
) -> Any:
    """Weighted sums of what comparisons are worth to their two models, by model and prompt.

    Shape (n_models, n_clusters), sparse where that is large.
    """
    from scipy.sparse import csr_matrix

    first, second = (data.weights * value for value in values)
    if (size := n_models * n_clusters) <= _TABLE:
        flat = np.bincount(data.i * n_clusters + numbers, first, size)
        flat += np.bincount(data.j * n_clusters + numbers, second, size)
        return flat.reshape(n_models, n_clusters)
    rows, columns = np.concatenate([data.i, data.j]), np.tile(numbers, 2)
    shape = (n_models, n_clusters)
    return csr_matrix((np.concatenate([first, second]), (rows, columns)), shape=shape)


def _kinds(data: Comparisons, n_models: int) -> Ints:
    """For comparisons drawn one by one: a number of each, equal for equal ones, shape (n,).

    There are far fewer kinds of comparison than comparisons, so a table by kind is small.
    """
    i, j, y, w = data
    outcome = np.where(i < j, y, 1 - y)
    pair = np.minimum(i, j) * n_models + np.maximum(i, j)
    kind = np.unique(pair, return_inverse=True)[1]
    for column in (outcome, w):
        value = np.unique(column, return_inverse=True)[1]
        kind = np.unique(kind * (int(value.max()) + 1) + value, return_inverse=True)[1]
    return np.asarray(kind, dtype=np.intp)


def _drawn(rng: np.random.Generator, kinds: Ints, count: int) -> Floats:
    """How often each kind of prompt is drawn in each of `count` rounds, shape (kinds, count)."""
    n = kinds.size
    drawn = np.empty((count, int(kinds.max()) + 1))
    for row in drawn:
        row[:] = np.bincount(kinds[rng.integers(n, size=n)], minlength=row.size)
    return np.ascontiguousarray(drawn.T)
