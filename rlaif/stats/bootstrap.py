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

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_LEFT = 1e-7
"""A refit stops where what is left is smaller, nats, as far as its last two steps tell."""
_CHORD_STEPS = 12
"""Steps with the full fit's curvature before the round's own is computed."""
_NEWTON_STEPS = 40
_BLOCK = 64
"""Rounds in one sparse product."""
_TABLE = 8_000_000
"""Numbers in the largest table held at once (64 MB)."""
_IN_CACHE = 80_000
"""Numbers in the tables of the rounds that are refitted side by side."""
_FARTHEST = 15.0
"""A refit this far from the full fit, in nats, is on its way to infinity: some group of models won
or lost all against the rest, and where it halts is only where rounding ends."""
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
    refit = _Refit(full, inverse, ridge)
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


def _connected(met: Floats) -> NDArray[np.bool_]:
    """Whether each table's models all hang together by comparisons; `met` is (rounds, n, n)."""
    reached = met[:, 0] > 0
    reached[:, 0] = True
    size = -1
    while not reached.all() and reached.sum() > size:
        size = reached.sum()
        reached |= (reached[:, :, None] & (met > 0)).any(axis=1)
    return np.asarray(reached.all(axis=1))


class _Refit:
    """Refits many tables of counts at once, from a common start.

    Steps first use the inverse curvature of the full fit; they shrink by the same factor each
    time, small where resamples differ little. Rounds where that is too slow go on by Newton's
    method with their own curvature.

    Args:
        start: Shape (n,), strengths of the full fit.
        inverse: Shape (n, n), its inverse information.
        ridge: Precision of the prior on strengths.
    """

    def __init__(self, start: Floats, inverse: Floats, ridge: float) -> None:
        self._start = start
        self._inverse = inverse
        self._ridge = ridge

    def __call__(self, met: Floats, won: Floats, slope: Floats) -> Floats:
        """Strengths, shape (rounds, n), of `met` (rounds, n, n) and `won` (rounds, n).

        Rows are NaN where no finite optimum was found.

        Args:
            met: How often each two models met.
            won: How often each model won.
            slope: Shape (rounds, n): wins less those expected at the full fit.
        """
        step = (slope - self._ridge * self._start) @ self._inverse
        at = self._moved(self._start, step)
        last = np.abs(step).max(axis=1)
        finite = np.ones(len(won), dtype=bool)
        if self._ridge == 0:
            # Quick to see: who won or lost all, and groups that did not meet.
            played = met.sum(axis=2)
            finite = ((won > 1e-12 * played) & (won < (1 - 1e-12) * played)).all(axis=1)
            finite &= _connected(met)
        todo = np.flatnonzero(finite)
        slow = self._walk(at, last, met, won, todo, _CHORD_STEPS, newton=False)
        finite[self._walk(at, last, met, won, slow, _NEWTON_STEPS, newton=True)] = False
        if self._ridge == 0:
            finite &= np.abs(at - self._start).max(axis=1) < _FARTHEST
        at[~finite] = np.nan
        return at

    def _moved(self, here: Floats, step: Floats) -> Floats:
        """`here + step` with mean zero; at most twice as far as any that counts, so that odds
        cannot overflow.
        """
        moved = np.clip(here + step, self._start - 2 * _FARTHEST, self._start + 2 * _FARTHEST)
        return np.asarray(moved - moved.mean(axis=1, keepdims=True))

    def _walk(
        self,
        at: Floats,
        last: Floats,
        met: Floats,
        won: Floats,
        todo: Ints,
        steps: int,
        *,
        newton: bool,
    ) -> Ints:
        """Improve rows `todo` of `at` in place; which of them have not arrived after `steps`.

        `last` is the size of the step before, and is kept up to date.
        """
        for _ in range(steps):
            if not todo.size:
                break
            every = todo.size == len(at)  # then without copies
            here, games = (at, met) if every else (at[todo], met[todo])
            odds = np.exp(here)
            rate = odds[:, :, None] + odds[:, None, :]
            np.divide(games, rate, out=rate)  # n_ij / (a_i + a_j): times a_i, i's expected wins
            slope = (won if every else won[todo]) - odds * rate.sum(axis=2) - self._ridge * here
            step = slope @ self._inverse
            if newton:
                step = self._newton_step(games, rate, odds, slope)
            at[todo] = self._moved(here, step)
            size = np.abs(step).max(axis=1)
            # Steps that shrink by r each time leave r / (1 - r) of the last one.
            shrink = np.minimum(size / np.maximum(last[todo], 1e-300), 1.0)
            arrived = size * shrink < _LEFT * (1 - shrink)
            last[todo] = size
            todo = todo[~arrived]
        return todo

    def _newton_step(self, games: Floats, rate: Floats, odds: Floats, slope: Floats) -> Floats:
        n = odds.shape[1]
        # n_ij p_ij p_ji; both rates of a pair that never met are 0.
        curve = rate**2 * odds[:, :, None] * odds[:, None, :] / np.where(games > 0, games, 1.0)
        diagonal = curve.sum(axis=2)
        information = -curve
        # Weight on the sum of strengths, which no comparison informs.
        information += (diagonal.mean(axis=1) / n)[:, None, None]
        information[:, np.arange(n), np.arange(n)] += diagonal + self._ridge
        try:
            step = np.linalg.solve(information, slope[:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:  # a round without curvature stops none of the others
            step = slope @ self._inverse
        # Far from the optimum a full step overshoots.
        size = np.abs(step).max(axis=1, keepdims=True)
        return np.asarray(step * np.minimum(1.0, 2.0 / np.maximum(size, 2.0)))
