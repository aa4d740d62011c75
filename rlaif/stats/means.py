"""Means of any quantity (words, nats, seconds) with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.stats.clusters import (
    Prompts,
    cluster_numbers,
    clustered_se,
    finite_vector,
    se_of_sums,
    t_quantile,
)


@dataclass(frozen=True, slots=True)
class MeanInterval:
    """A mean with its uncertainty, in the units of the values."""

    value: float
    se: float
    """Cluster-robust standard error of `value`."""
    low: float
    high: float
    n: int
    """Values."""
    n_clusters: int
    """Prompts."""
    level: float
    """Confidence that [low, high] claims."""


def mean_interval(
    values: ArrayLike, clusters: Prompts | None = None, *, level: float = 0.95
) -> MeanInterval:
    """The mean with its Student-t interval: C - 1 degrees of freedom for C clusters.

    Values that are all equal give an interval without width: unlike a win rate, an unbounded
    quantity has no scale to widen it by.

    Args:
        values: Shape (n,), any unit.
        clusters: The prompt of each value, length n; None takes the values as independent.
        level: Confidence of the interval.

    Raises:
        DataError: there are no values or one cluster, one is NaN or infinite, `clusters` has
            another length, or `level` lies outside (0, 1).

    Reference:
        Standard error as in `rlaif.stats.clusters.clustered_se`; t quantile as in Cameron and
        Miller 2015, "A practitioner's guide to cluster-robust inference", J. Human Resources
        50(2), section VI.
    """
    vector = finite_vector(values)
    numbers = cluster_numbers(clusters, vector.size)
    n_clusters = int(numbers.max()) + 1
    se = clustered_se(vector, numbers)
    return _interval(float(vector.mean()), se, vector.size, n_clusters, level)


def mean_interval_of_sums(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], *, level: float = 0.95
) -> MeanInterval:
    """`mean_interval` of values that are known by the sum and the size of each prompt alone.

    Args:
        sums: Shape (n_clusters,), the sum of each prompt's values.
        sizes: Shape (n_clusters,), how many there are, positive.
        level: Confidence of the interval.

    Raises:
        DataError: there is one prompt, or `level` lies outside (0, 1).
    """
    se, n = se_of_sums(sums, sizes), float(np.sum(sizes))
    return _interval(float(np.sum(sums)) / n, se, int(n), sums.size, level)


def _interval(mean: float, se: float, n: int, n_clusters: int, level: float) -> MeanInterval:
    half = t_quantile(level, n_clusters) * se
    return MeanInterval(mean, se, mean - half, mean + half, n, n_clusters, level)
