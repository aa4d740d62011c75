"""Means of any quantity (words, nats, seconds) with an interval."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from rlaif.stats.clusters import cluster_numbers, clustered_se, finite_vector, t_quantile


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
    values: ArrayLike, clusters: Sequence[Hashable] | None = None, *, level: float = 0.95
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
    mean = float(vector.mean())
    half = t_quantile(level, n_clusters) * se
    return MeanInterval(mean, se, mean - half, mean + half, vector.size, n_clusters, level)
