"""The penalized logistic fit behind length-controlled win rates, exactly and for many resamples."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import upper_tail_point
from rlaif.stats.length_columns import Floats, Resampling
from rlaif.stats.numeric import sigmoid

_GAMED_WEIGHT = 0.1
_GAMED_POINTS = np.array(
    # length term, difficulty, how many of the gamed rows it stands for
    [
        (-1.00, 0.00, 104.94),
        (-0.99, -1.41, 18.00),
        (-0.99, 2.05, 9.63),
        (-0.98, 2.69, 18.23),
        (-0.66, -1.96, 167.48),
        (-0.62, -0.79, 157.85),
        (-0.25, 1.68, 201.37),
        (-0.21, 3.33, 46.98),
        (-0.02, 5.81, 1.73),
        (0.39, 3.04, 46.37),
        (0.58, -0.39, 264.16),
        (0.63, 3.08, 0.98),
        (0.81, 5.81, 2.34),
        (0.98, 1.83, 26.78),
        (0.99, -2.56, 59.66),
        (0.99, -1.02, 244.77),
        (1.00, 0.69, 136.03),
        (1.00, 3.95, 4.63),
    ]
)
"""The 2 x 805 rows of a verbose and a concise copy of the baseline, condensed: 18 weighted points
whose loss equals theirs for all weights that occur."""
_GAMED_SUMS = np.array([-182.71, 412.94])
"""Sum of label times length term and of label times difficulty over those rows: labels enter a
logistic loss through these sums alone."""

_STEP = 1e-10
_ROUGH_STEP = 0.05
_MAX_STEPS = 100
_FLAT = 1e-13
"""A curvature this small beside that of even odds is rounding."""
_LONGEST_STEP = 2.0


class LengthProblem(NamedTuple):
    """A penalized logistic regression on soft outcomes."""

    columns: Floats
    """Shape (n, k)."""
    y: Floats
    penalty: float
    """Weight of the sum of absolute coefficients."""
    gamed: bool
    """Whether the gamed rows are added; the columns are then length term, difficulty, constant."""


def bootstrap_fit(
    problem: LengthProblem,
    fit: Floats,
    value: Callable[[Floats, Floats], Floats],
    resampling: Resampling,
) -> tuple[float | None, float | None, float | None]:
    """Standard error and percentile interval of `value` over refits; (None, None, None) for none.

    Args:
        problem: The problem of the full data.
        fit: Its coefficients, where each refit starts.
        value: The figure, shape (rounds,), from coefficients (rounds, k) and row weights
            (rounds, n).
        resampling: What to draw.
    """
    tail = upper_tail_point(resampling.level)
    if resampling.rounds < 0:
        raise DataError(f"rounds is {resampling.rounds}, not zero or more")
    if resampling.rounds < 2 or resampling.n_clusters < 2:
        return None, None, None
    free, design = fit != 0, _Design.of(problem)
    values = []
    for row_weights in resampling.weights():
        start = np.tile(fit, (len(row_weights), 1))
        pull = problem.penalty * np.sign(fit)
        found = _newton(design, design.weights(row_weights), pull, free, start)
        # The full fit's signs nearly always hold; where not, or where a zero may leave 0, anew.
        holds = free.all() & (np.sign(found) == np.sign(fit)).all(axis=1)
        if problem.penalty == 0:
            holds = np.isfinite(found).all(axis=1)
        for k in np.flatnonzero(~holds):
            found[k] = fit_problem(problem, row_weights[k])
        values.append(value(found, row_weights))
    drawn = np.concatenate(values)
    low, high = np.quantile(drawn, [1 - tail, tail])
    return float(drawn.std(ddof=1)), float(low), float(high)


def fit_problem(problem: LengthProblem, row_weights: Floats) -> Floats:
    """The coefficients at the optimum for rows of these weights, shape (k,).

    An L1 penalty is linear once the signs are known. They are first those of the fit without it;
    a coefficient whose sign does not hold becomes 0, and one that would leave 0 is let go. The
    loss is strictly convex, so just one pattern of signs is optimal: should that walk not end, all
    are tried.

    Raises:
        DataError: there is no finite optimum.
    """
    design, k = _Design.of(problem), problem.columns.shape[1]
    weights, zeros = design.weights(row_weights[None, :]), np.zeros((1, k))
    every = np.ones(k, dtype=bool)
    if problem.penalty == 0:
        start: Floats = _newton(design, weights, zeros[0], every, zeros)[0]
        if not np.isfinite(start).all():
            raise DataError("no finite fit: length (or difficulty) separates wins from losses")
        return start
    start = np.nan_to_num(_newton(design, weights, zeros[0], every, zeros, exactly=False)[0])
    signs = np.sign(start)
    for _ in range(3 * k):
        found, better = _fit_signs(design, weights, problem.penalty, signs, start)
        if (better == signs).all():
            return found
        if np.isnan(better).any():
            break
        signs = better
    for signs in (np.array(pattern) for pattern in product((-1.0, 0.0, 1.0), repeat=k)):
        found, better = _fit_signs(design, weights, problem.penalty, signs, zeros[0])
        if (better == signs).all():
            return found
    raise DataError("no finite fit: the outcomes do not determine the weights")


class _Design(NamedTuple):
    """The rows of a problem with the points of the gamed rows behind them."""

    columns: Floats
    """Shape (n, k)."""
    products: Floats
    """Shape (n, k * k), of each row's columns with one another."""
    y: Floats
    label_sums: Floats
    """Shape (k,): what the labels of the gamed rows take off the slope."""
    more: Floats
    """Weights of the points."""

    @staticmethod
    def of(problem: LengthProblem) -> _Design:
        columns, y = problem.columns, problem.y
        sums, more = np.zeros(columns.shape[1]), np.empty(0)
        if problem.gamed:
            t, d, count = _GAMED_POINTS.T
            columns = np.vstack([columns, np.column_stack([t, d, np.zeros(t.size)])])
            # With labels 0 the points give sum p x; the labels' share is the known sums.
            y = np.concatenate([y, np.zeros(t.size)])
            sums[:2], more = _GAMED_WEIGHT * _GAMED_SUMS, _GAMED_WEIGHT * count
        products = (columns[:, :, None] * columns[:, None, :]).reshape(len(columns), -1)
        return _Design(columns, products, y, sums, more)

    def weights(self, row_weights: Floats) -> Floats:
        """Of all rows, shape (rounds, n), from those of the problem's own."""
        if not self.more.size:
            return row_weights
        return np.hstack([row_weights, np.tile(self.more, (len(row_weights), 1))])

    def slope(self, weights: Floats, at: Floats) -> tuple[Floats, Floats]:
        """First derivatives (rounds, k) and second ones (rounds, k, k) of the loss without penalty,
        at coefficients of shape (rounds, k).
        """
        k = self.columns.shape[1]
        p = sigmoid(at @ self.columns.T)
        slope = (weights * (p - self.y)) @ self.columns - self.label_sums
        return slope, ((weights * p * (1 - p)) @ self.products).reshape(-1, k, k)


def _fit_signs(
    design: _Design, weights: Floats, penalty: float, signs: Floats, start: Floats
) -> tuple[Floats, Floats]:
    """The optimum for these signs, and the signs it asks for: the same where it is the optimum."""
    free = signs != 0
    first = np.where(free, start, 0.0)[None, :]
    found: Floats = _newton(design, weights, penalty * signs, free, first)[0]
    if not np.isfinite(found).all():
        return found, np.full(signs.size, np.nan)
    held = np.where(np.sign(found) == signs, signs, 0.0)
    if (held != signs).any():
        return found, held
    slope = design.slope(weights, found[None, :])[0][0]
    leaves = ~free & (np.abs(slope) > penalty * (1 + 1e-9))
    return found, np.where(leaves, -np.sign(slope), signs)


def _newton(
    design: _Design,
    weights: Floats,
    pull: Floats,
    free: NDArray[np.bool_],
    start: Floats,
    *,
    exactly: bool = True,
) -> Floats:
    """Minima for fixed signs of the coefficients, one a row of `weights`, shape (rounds, k).

    Args:
        design: What to minimize.
        weights: Shape (rounds, n), of `design.weights`.
        pull: Shape (k,), the slope of the penalty for these signs.
        free: Shape (k,); the other coefficients stay 0.
        start: Shape (rounds, k).
        exactly: False stops where the signs are told: another walk goes on from there.

    Rows that have not arrived are NaN.
    """
    at = start.copy()
    todo = np.arange(len(at))
    k = pull.size
    fixed, eye = np.diag(np.where(free, 0.0, 1.0)), np.eye(k)
    both = free[:, None] & free[None, :]
    spread = (design.columns[: design.y.size - design.more.size] ** 2).sum(axis=0)
    unit = np.where(free & (spread > 0), 2 / np.sqrt(np.maximum(spread, 1e-300)), 1.0)
    for _ in range(_MAX_STEPS):
        every = todo.size == len(at)
        slope, curve = design.slope(weights if every else weights[todo], at[todo])
        slope = np.where(free, slope + pull, 0.0)
        curve = np.where(both, curve, 0.0) + fixed
        # A trace of damping lets a singular round fail alone; it moves no optimum.
        trace = np.trace(curve, axis1=1, axis2=2)[:, None, None]
        damping = np.maximum(1e-13 * trace, 1e-100) * eye
        step = np.linalg.solve(curve + damping, slope[:, :, None])[:, :, 0]
        size = np.abs(step).max(axis=1, keepdims=True)
        at[todo] -= step * np.minimum(1.0, _LONGEST_STEP / np.maximum(size, _LONGEST_STEP))
        arrived = size[:, 0] < (_STEP if exactly else _ROUGH_STEP)
        if arrived.any():
            # Where wins and losses are told apart completely, only rounding ends the walk.
            arrived &= np.linalg.eigvalsh(curve * unit[:, None] * unit)[:, 0] >= _FLAT
        todo = todo[~arrived]
        if not todo.size:
            return at
    at[todo] = np.nan
    return at
