"""The likelihood behind Bradley-Terry fits: its links, its maximum and the spread of its scores."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError
from rlaif.stats.numeric import sigmoid

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Ties = Literal["half", "davidson", "rao-kupper"]

_STEP = 1e-9
"""Newton stops after a step this small (nats): the error left is its square, so rounding."""
_MAX_STEPS = 100
_SINGULAR = 1e-11
"""A curvature this small beside the largest one is none: something is not identified."""
_NO_OPTIMUM = (
    "no finite optimum: the comparisons separate the models completely, or a covariate cannot be "
    "told apart from the models or from another covariate"
)
_TABLE = 4_000_000
"""Numbers in the largest table of scores by cluster held at once (32 MB)."""


class Rows(NamedTuple):
    """Comparisons split into weights of wins, losses and ties, one entry a row or a pair."""

    i: Ints
    j: Ints
    won: Floats
    lost: Floats
    tied: Floats
    covariates: Floats

    def take(self, which: Ints | slice) -> Rows:
        """Some of the rows."""
        i, j, won, lost, tied, covariates = self
        return Rows(i[which], j[which], won[which], lost[which], tied[which], covariates[which])


def sums(index: Ints, values: Floats, size: int) -> Floats:
    """The sum of `values` at each index, shape (size,)."""
    return np.asarray(np.bincount(index, values, size), dtype=np.float64)


def by_pair(rows: Rows, n_models: int) -> Rows:
    """The same likelihood with one entry a pair of models, where no covariate tells rows apart."""
    if rows.covariates.shape[1]:
        return rows
    swap = rows.i > rows.j
    low, high = np.where(swap, rows.j, rows.i), np.where(swap, rows.i, rows.j)
    cell = low * n_models + high
    size = n_models * n_models
    won = sums(cell, np.where(swap, rows.lost, rows.won), size)
    lost = sums(cell, np.where(swap, rows.won, rows.lost), size)
    tied = sums(cell, rows.tied, size)
    used = np.flatnonzero(won + lost + tied)
    return Rows(
        used // n_models,
        used % n_models,
        won[used],
        lost[used],
        tied[used],
        np.empty((used.size, 0)),
    )


class Derivatives(NamedTuple):
    """Log-likelihood by row and its derivatives in d and in the tie parameter k (a log).

    Second derivatives carry a minus: they are the observed information.
    """

    value: Floats
    d: Floats
    k: Floats
    dd: Floats
    dk: Floats
    kk: Floats


def _half(rows: Rows, d: Floats, _: float) -> Derivatives:
    total = rows.won + rows.lost
    p = sigmoid(d)
    zero = np.zeros(d.size)
    value = -rows.won * np.logaddexp(0, -d) - rows.lost * np.logaddexp(0, d)
    # won - total * p loses digits where p is near 1; each side apart does not.
    slope = rows.won * sigmoid(-d) - rows.lost * p
    return Derivatives(value, slope, zero, total * p * sigmoid(-d), zero, zero)


def _davidson(rows: Rows, d: Floats, k: float) -> Derivatives:
    total = rows.won + rows.lost + rows.tied
    logs = np.stack([d / 2, -d / 2, np.full(d.size, k)])
    norm = np.logaddexp.reduce(logs, axis=0)
    p_i, p_j, p_tie = (np.exp(part - norm) for part in logs)
    value = rows.won * d / 2 - rows.lost * d / 2 + rows.tied * k - total * norm
    lean = (p_i - p_j) / 2
    slope = (rows.won - rows.lost) / 2 - total * lean
    return Derivatives(
        value,
        slope,
        rows.tied - total * p_tie,
        total * ((p_i + p_j) / 4 - lean**2),
        -total * lean * p_tie,
        total * p_tie * (1 - p_tie),
    )


def _rao_kupper(rows: Rows, d: Floats, k: float) -> Derivatives:
    if k <= 0:  # outside the model: a step there is refused
        nothing = np.full(d.size, -np.inf)
        return Derivatives(nothing, *[np.zeros(d.size)] * 5)
    win, loss = rows.won + rows.tied, rows.lost + rows.tied
    a, b = d - k, -d - k
    value = -win * np.logaddexp(0, -a) - loss * np.logaddexp(0, -b)
    value += rows.tied * (2 * k + np.log(-np.expm1(-2 * k)))
    not_a, not_b = sigmoid(-a), sigmoid(-b)
    curve_a, curve_b = win * not_a * sigmoid(a), loss * not_b * sigmoid(b)
    open_share = -np.expm1(-2 * k)
    return Derivatives(
        value,
        win * not_a - loss * not_b,
        2 * rows.tied / open_share - win * not_a - loss * not_b,
        curve_a + curve_b,
        curve_b - curve_a,
        curve_a + curve_b + rows.tied * 4 * np.exp(-2 * k) / open_share**2,
    )


_LINKS = {"half": _half, "davidson": _davidson, "rao-kupper": _rao_kupper}


class Optimum(NamedTuple):
    """The maximum of a likelihood."""

    parameters: Floats
    """Strengths, coefficients and, with a tie model, the log of its parameter."""
    value: float
    """Log-likelihood without the ridge."""
    information: Floats
    """Minus the second derivatives, ridge included; singular along equal strengths without it."""


def maximize(rows: Rows, n_models: int, ties: Ties, ridge: float) -> Optimum:
    """The maximum of the (penalized) log-likelihood, by Newton's method with halved steps."""
    at = np.zeros(n_models + rows.covariates.shape[1] + (ties != "half"))
    if ties != "half":
        at[-1] = _first_tie_parameter(rows, ties)
    penalty = np.zeros(at.size)
    penalty[:n_models] = ridge

    def evaluate(point: Floats) -> tuple[Derivatives, float]:
        there = derivatives(rows, point, n_models, ties)
        return there, float(there.value.sum() - penalty @ point**2 / 2)

    here, value = evaluate(at)
    for _ in range(_MAX_STEPS):
        slope = _scatter(rows, here.d, here.k, n_models, at.size) - penalty * at
        information = _assemble(rows, here.dd, here.dk, here.kk, n_models, at.size)
        information += np.diag(penalty)
        step = _solve(information, slope, n_models)
        length = 1.0
        while True:
            there, gained = evaluate(at + length * step)
            if gained >= value - 1e-13 * abs(value) or length < 1e-10:
                break
            length /= 2
        at, here, value = at + length * step, there, gained
        if np.abs(step).max() < _STEP:
            information = _assemble(rows, here.dd, here.dk, here.kk, n_models, at.size)
            at[:n_models] -= at[:n_models].mean()
            return Optimum(at, float(here.value.sum()), information + np.diag(penalty))
    raise DataError(_NO_OPTIMUM)


def _first_tie_parameter(rows: Rows, ties: Ties) -> float:
    """The log parameter that fits the share of ties among equals."""
    share = rows.tied.sum() / (rows.won + rows.lost + rows.tied).sum()
    odds = 2 * share / (1 - share) if ties == "davidson" else (1 + share) / (1 - share)
    return float(np.log(odds))


def derivatives(rows: Rows, at: Floats, n_models: int, ties: Ties) -> Derivatives:
    """Log-likelihood and derivatives of each row at the parameters `at`."""
    d = at[rows.i] - at[rows.j]
    n_covariates = rows.covariates.shape[1]
    if n_covariates:
        d = d + rows.covariates @ at[n_models : n_models + n_covariates]
    return _LINKS[ties](rows, d, float(at[-1]))


def _scatter(rows: Rows, d: Floats, k: Floats, n_models: int, size: int) -> Floats:
    """Derivatives in d and k by row, summed into derivatives in the parameters, shape (size,)."""
    total = np.zeros(size)
    total[:n_models] = sums(rows.i, d, n_models) - sums(rows.j, d, n_models)
    end = n_models + rows.covariates.shape[1]
    total[n_models:end] = d @ rows.covariates
    total[end:] = k.sum()
    return total


def _assemble(rows: Rows, dd: Floats, dk: Floats, kk: Floats, n_models: int, size: int) -> Floats:
    """Sum over rows of the 2 x 2 form (dd, dk; dk, kk) in (d, k), in the parameters, (size, size).

    Rows touch two models each, so the block of models is a graph Laplacian.
    """
    matrix = np.zeros((size, size))
    cell = sums(rows.i * n_models + rows.j, dd, n_models * n_models)
    one_way: Floats = -cell.reshape(n_models, n_models)
    block = one_way + one_way.T
    np.fill_diagonal(block, -block.sum(axis=1))
    matrix[:n_models, :n_models] = block
    end = n_models + rows.covariates.shape[1]
    sides = [(n_models + c, dd * rows.covariates[:, c]) for c in range(end - n_models)]
    sides += [(c, dk) for c in range(end, size)]
    for c, weight in sides:
        edge = sums(rows.i, weight, n_models) - sums(rows.j, weight, n_models)
        matrix[:n_models, c] = matrix[c, :n_models] = edge
    inner = rows.covariates.T * dd
    matrix[n_models:end, n_models:end] = inner @ rows.covariates
    for c in range(end, size):
        matrix[n_models:end, c] = matrix[c, n_models:end] = dk @ rows.covariates
        matrix[c, c] = kk.sum()
    return matrix


def _anchored(information: Floats, n_models: int) -> Floats:
    """The information with weight on the sum of strengths, which no comparison informs."""
    scale = float(np.trace(information[:n_models, :n_models])) / n_models
    if not scale > 0:
        raise DataError(_NO_OPTIMUM)
    anchored = information.copy()
    anchored[:n_models, :n_models] += scale / n_models
    return anchored


def _solve(information: Floats, slope: Floats, n_models: int) -> Floats:
    try:
        return np.asarray(np.linalg.solve(_anchored(information, n_models), slope))
    except np.linalg.LinAlgError as error:
        raise DataError(_NO_OPTIMUM) from error


def inverse_information(information: Floats, n_models: int) -> Floats:
    """The pseudo-inverse under the mean-zero condition on strengths."""
    anchored = _anchored(information, n_models)
    # Columns of different units (a length, a sign) must not look singular for that alone.
    unit = 1 / np.sqrt(np.maximum(np.diag(anchored), np.finfo(float).tiny))
    curvature, axes = np.linalg.eigh(anchored * unit[:, None] * unit)
    if curvature[0] < _SINGULAR * curvature[-1]:
        raise DataError(_NO_OPTIMUM)
    half = unit[:, None] * axes / np.sqrt(curvature)
    center = np.eye(information.shape[0])
    center[:n_models, :n_models] -= 1 / n_models
    return np.asarray(center @ (half @ half.T) @ center.T)


def row_meat(rows: Rows, here: Derivatives, n_models: int, size: int) -> Floats:
    """Sum of u u' over the scores u of single rows, shape (size, size)."""
    return _assemble(rows, here.d**2, here.d * here.k, here.k**2, n_models, size)


def cluster_meat(
    rows: Rows, d: Floats, k: Floats, numbers: Ints, n_models: int, size: int
) -> Floats:
    """Sum of u u' over the summed scores u of each cluster, shape (size, size).

    Args:
        rows: Single comparisons.
        d: Shape (n,), their slopes in d.
        k: Shape (n,), their slopes in the tie parameter.
        numbers: Shape (n,), the cluster of each, from 0.
        n_models: How many models there are.
        size: How many parameters there are.

    Raises:
        DataError: there is only one cluster.
    """
    n_clusters = int(numbers.max()) + 1
    if n_clusters < 2:
        raise DataError("one cluster has no spread between clusters")
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    rows = rows.take(order)
    d, k = d[order], k[order]
    meat = np.zeros((size, size))
    at_once = max(1, _TABLE // size)
    for start in range(0, n_clusters, at_once):
        count = min(at_once, n_clusters - start)
        low, high = np.searchsorted(numbers, [start, start + count])
        part = rows.take(slice(low, high))
        scores = _scores(part, d[low:high], k[low:high], numbers[low:high] - start, n_models, size)
        meat += scores.T @ scores
    return meat


def _scores(rows: Rows, d: Floats, k: Floats, numbers: Ints, n_models: int, size: int) -> Floats:
    """Summed score vectors by cluster, shape (clusters, size)."""
    count = int(numbers.max()) + 1
    table = np.zeros((count, size))
    first = sums(numbers * n_models + rows.i, d, count * n_models)
    second = sums(numbers * n_models + rows.j, d, count * n_models)
    table[:, :n_models] = (first - second).reshape(count, n_models)
    end = n_models + rows.covariates.shape[1]
    for c in range(n_models, end):
        table[:, c] = sums(numbers, d * rows.covariates[:, c - n_models], count)
    for c in range(end, size):
        table[:, c] = sums(numbers, k, count)
    return table
