"""Maps from what a judge says to how often it is right, fitted on labels and tested out of fold.

A judge that says 0.95 and is right 80 % of the time can still be used, once its 0.95 is read as
0.80. A map is fitted on (p, y): p the judge's P(A preferred), y the label (A 1, tie 0.5, B 0).
For comparisons it is fitted on (1 - p, 1 - y) as well, so that it does not matter which candidate
is called A: map(1 - p) = 1 - map(p).

    from rlaif.stats.calibration import fit

    p, y = [0.95] * 10 + [0.05] * 10, [1] * 8 + [0] * 2 + [0] * 8 + [1] * 2
    calibrated = fit("isotonic", p, y)
    assert [round(x, 3) for x in calibrated([0.95, 0.5, 0.05])] == [0.8, 0.5, 0.2]

All maps rise or stay level, never fall: a judge worse than chance is mapped to the share of the
labels, not turned round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import Prompts, cluster_numbers, finite_vector
from rlaif.stats.numeric import logit, sigmoid
from rlaif.stats.reliability import Quality, as_confidence, outcomes, quality

Floats = NDArray[np.float64]
Method = Literal["temperature", "platt", "isotonic"]

_FLOOR = 1e-6
"""Probabilities are moved into [floor, 1 - floor] before their log-odds are taken."""
_DIGITS = 12
_STEPS = 100
_GRADIENT = 1e-10


@dataclass(frozen=True, slots=True)
class Logistic:
    """p -> sigmoid(slope * logit(p) + intercept)."""

    slope: float
    """Not below 0; the temperature is 1 / slope."""
    intercept: float = 0.0

    def __call__(self, p: ArrayLike) -> Floats:
        """Calibrated probabilities of `p`, shape (n,)."""
        odds = logit(_probabilities(p), floor=_FLOOR)
        return sigmoid(self.slope * odds + self.intercept)


@dataclass(frozen=True, slots=True)
class Isotonic:
    """p -> a rising broken line through (`p`, `value`), level outside."""

    p: tuple[float, ...]
    """Rising."""
    value: tuple[float, ...]
    """Not falling, in [0, 1]."""

    def __call__(self, p: ArrayLike) -> Floats:
        """Calibrated probabilities of `p`, shape (n,)."""
        return np.interp(_probabilities(p), self.p, self.value)


CalibrationMap = Logistic | Isotonic


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted map, and what it does to rows it has not seen."""

    method: Method
    fitted: CalibrationMap
    """Fitted on all rows: for use on new ones."""
    out_of_fold: Floats
    """Shape (n,): each row mapped by the fit without its fold."""
    before: Quality
    after: Quality
    """Of `out_of_fold`."""
    folds: int
    seed: int
    n_clusters: int


def fit(method: Method, p: ArrayLike, y: ArrayLike, *, comparisons: bool = True) -> CalibrationMap:
    """The map from `p` to the mean of `y`.

    `temperature` fits one number, sigmoid(logit(p) / tau). `platt` adds an intercept where rows
    are no comparisons (for comparisons it would favor one side, so the two are then the same).
    `isotonic` takes any rising curve: with hundreds of labels the best, with tens too free.

    Targets of the logistic maps are drawn in a little, as for n + 2 rows of which one more came
    out either way: without that, a judge that is always right would get an infinite slope.

    Args:
        method: Which family.
        p: Shape (n,), probabilities in [0, 1].
        y: Shape (n,), labels in [0, 1].
        comparisons: Whether p is P(A preferred) and A only a name: fit (1 - p, 1 - y) too.

    Raises:
        DataError: lengths differ, there are no rows, a value lies outside [0, 1], or (logistic
            maps) all probabilities are alike, so that no slope can be told.

    Reference:
        Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599; Platt 1999,
        "Probabilistic outputs for support vector machines" (targets: section 2.1); Zadrozny and
        Elkan 2002, "Transforming classifier scores into accurate multiclass probability estimates".
    """
    probability, label = outcomes(p, y)
    if comparisons or method == "temperature":
        # A line through the origin of the log-odds is its own mirror image: this changes nothing
        # for temperature but the targets.
        probability = np.concatenate([probability, 1 - probability])
        label = np.concatenate([label, 1 - label])
    if method == "isotonic":
        return _isotonic(probability, label)
    with_intercept = method == "platt" and not comparisons
    return _logistic(logit(probability, floor=_FLOOR), label, with_intercept)


def calibrate(
    method: Method,
    p: ArrayLike,
    y: ArrayLike,
    clusters: Prompts | None = None,
    *,
    comparisons: bool = True,
    folds: int = 5,
    bins: int = 10,
    seed: int = 0,
) -> Calibration:
    """A map fitted on all rows, with its quality on rows of prompts it was not fitted on.

    Args:
        method: Which family of maps.
        p: Shape (n,), probabilities in [0, 1].
        y: Shape (n,), labels in [0, 1].
        clusters: The prompt of each row, length n: a prompt lies in one fold. None takes the rows
            as independent.
        comparisons: As in `fit`; the quality is then that of the confidence max(p, 1 - p).
        folds: Parts; each is mapped by a fit on the others.
        bins: Most bins of the calibration error.
        seed: Seed of the folds.

    Raises:
        DataError: as `fit`, or there are fewer prompts than folds, or `folds` is below 2.
    """
    probability, label = outcomes(p, y)
    numbers = cluster_numbers(clusters, probability.size)
    fold = folds_of(numbers, folds, seed)
    out_of_fold = np.empty_like(probability)
    for held_out in range(folds):
        rows = fold == held_out
        fitted = fit(method, probability[~rows], label[~rows], comparisons=comparisons)
        out_of_fold[rows] = fitted(probability[rows])
    before, after = (
        quality(*(as_confidence(values, label) if comparisons else (values, label)), bins=bins)
        for values in (probability, out_of_fold)
    )
    return Calibration(
        method,
        fit(method, probability, label, comparisons=comparisons),
        out_of_fold,
        before,
        after,
        folds,
        seed,
        int(numbers.max()) + 1,
    )


def folds_of(numbers: NDArray[np.intp], folds: int, seed: int) -> NDArray[np.intp]:
    """The fold of each row, shape (n,): clusters dealt at random into `folds` of equal count.

    Args:
        numbers: Shape (n,), from `rlaif.stats.clusters.cluster_numbers`.
        folds: How many.
        seed: Seed of the deal.

    Raises:
        DataError: `folds` is below 2 or above the number of clusters.
    """
    n_clusters = int(numbers.max()) + 1
    if not 2 <= folds <= n_clusters:
        raise DataError(f"{folds} folds of {n_clusters} prompts")
    deal = np.random.default_rng(seed).permutation(n_clusters) % folds
    return deal[numbers]


def _probabilities(p: ArrayLike) -> Floats:
    values = finite_vector(p)
    if values.min() < 0 or values.max() > 1:
        raise DataError("a probability lies outside [0, 1]")
    return values


def _isotonic(p: Floats, y: Floats) -> Isotonic:
    from scipy.optimize import isotonic_regression

    # 0.07 and the mirror image of 0.93 differ in the last bit: they are one point.
    rounded = np.round(p, _DIGITS)
    points, where, counts = np.unique(rounded, return_inverse=True, return_counts=True)
    means = np.bincount(where, weights=y) / counts
    values = np.clip(isotonic_regression(means, weights=counts).x, 0.0, 1.0)
    # Only the corners of the line: points inside a level stretch are on it anyway.
    corner = np.ones(points.size, dtype=bool)
    corner[1:-1] = (values[1:-1] != values[:-2]) | (values[1:-1] != values[2:])
    return Isotonic(tuple(points[corner].tolist()), tuple(values[corner].tolist()))


def _logistic(odds: Floats, y: Floats, with_intercept: bool) -> Logistic:
    if np.ptp(odds) == 0:
        raise DataError("all probabilities are alike: there is no slope to fit")
    above, below = y.sum(), (1 - y).sum()
    high, low = (above + 1) / (above + 2), 1 / (below + 2)
    target = low + (high - low) * y
    columns = np.column_stack([odds, np.ones_like(odds)]) if with_intercept else odds[:, None]
    weights = _newton(columns, target)
    if weights[0] < 0:  # the best slope that does not fall is then 0: the loss is convex
        mean = float(target.mean())
        return Logistic(0.0, logit(mean) if with_intercept else 0.0)
    return Logistic(float(weights[0]), float(weights[1]) if with_intercept else 0.0)


def _newton(columns: Floats, target: Floats) -> Floats:
    """The coefficients of least log loss; Newton's method, steps halved while the loss rises."""
    weights = np.zeros(columns.shape[1])
    loss = _loss(columns @ weights, target)
    for _ in range(_STEPS):
        probability = sigmoid(columns @ weights)
        gradient = columns.T @ (probability - target) / target.size
        if np.abs(gradient).max() < _GRADIENT:
            break
        curvature = columns.T @ (columns * (probability * (1 - probability))[:, None]) / target.size
        step = np.linalg.solve(curvature, gradient)
        while (lower := _loss(columns @ (weights - step), target)) > loss and step.any():
            step = step / 2
        weights, loss = weights - step, lower
    return weights


def _loss(odds: Floats, target: Floats) -> float:
    return float(np.mean(np.logaddexp(0.0, odds) - target * odds))
