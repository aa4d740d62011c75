"""What depends on which rows share a prompt: numbering, standard errors, resampling.

Rows of one prompt (both orders, several draws, several responses) rise and fall together, so a
prompt, not a row, is the unit of evidence.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError

Prompts: TypeAlias = Sequence[Hashable] | NDArray[np.integer[Any]]
"""The prompt of each row: any names, or an array of whole numbers."""


def finite_vector(values: ArrayLike) -> NDArray[np.float64]:
    """`values` as floats, shape (n,) with n > 0.

    Raises:
        DataError: there are none, they are not one row of numbers, or one is NaN or infinite.
    """
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"values are not numbers: {error}") from error
    if vector.ndim != 1:
        raise DataError(f"values have shape {vector.shape}, not (n,)")
    if vector.size == 0:
        raise DataError("there are no values")
    if not np.isfinite(vector).all():
        raise DataError("a value is NaN or infinite")
    return vector


def cluster_numbers(clusters: Prompts | None, n: int) -> NDArray[np.intp]:
    """The cluster of each row, numbered from 0 in order of first appearance, shape (n,).

    Args:
        clusters: Any name of the cluster (prompt id) of each row; None puts each row in its own.
        n: How many rows there are.

    Raises:
        DataError: `clusters` names more or fewer than `n` rows.
    """
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise DataError(f"{len(clusters)} cluster names for {n} values")
    if isinstance(clusters, np.ndarray) and clusters.ndim == 1 and clusters.dtype.kind in "iu":
        return _numbers_of_integers(clusters)
    names = clusters.tolist() if isinstance(clusters, np.ndarray) else clusters
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.fromiter(map(numbers.__getitem__, names), dtype=np.intp, count=n)


def _numbers_of_integers(names: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """As `cluster_numbers`, for a million rows in milliseconds."""
    n, least = names.size, int(names.min(initial=0))
    if (span := int(names.max(initial=0)) - least + 1) > 4 * n:
        names, least = np.unique(names, return_inverse=True)[1], 0
        span = n
    place = names - least
    first = np.full(span, n)
    first[place[::-1]] = np.arange(n - 1, -1, -1)  # of equal places the last one written stays
    present = np.flatnonzero(first < n)
    number = np.empty(span, dtype=np.intp)
    number[present[np.argsort(first[present])]] = np.arange(present.size)
    return np.asarray(number[place], dtype=np.intp)


def clustered_se(values: NDArray[np.float64], numbers: NDArray[np.intp]) -> float:
    """Cluster-robust standard error of the mean of `values`.

    With r_c the sum of (value - mean) over cluster c, C clusters and n rows:
    sqrt(C / (C - 1) * sum_c r_c^2) / n. With one row a cluster it is s / sqrt(n).

    Args:
        values: Shape (n,).
        numbers: Shape (n,), from `cluster_numbers`.

    Raises:
        DataError: there is only one cluster.

    Reference:
        Liang and Zeger 1986, "Longitudinal data analysis using generalized linear models",
        Biometrika 73(1), for an intercept alone; factor C / (C - 1) against small samples.
    """
    residuals = np.bincount(numbers, weights=values - values.mean())
    return _se_of_residuals(residuals.astype(np.float64, copy=False), values.size)


def se_of_sums(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """`clustered_se` of rows that are known by the sum and the size of each cluster alone.

    Args:
        sums: Shape (n_clusters,), the sum of the values of each cluster.
        sizes: Shape (n_clusters,), how many there are, positive.

    Raises:
        DataError: there is only one cluster.
    """
    n = float(sizes.sum())
    return _se_of_residuals(sums - sizes * (sums.sum() / n), n)


def _se_of_residuals(residuals: NDArray[np.float64], n: float) -> float:
    n_clusters = residuals.size
    if n_clusters < 2:
        raise DataError("one cluster has no spread between clusters")
    return float(np.sqrt(n_clusters / (n_clusters - 1) * np.sum(residuals**2)) / n)


def bootstrap_means(
    values: NDArray[np.float64], numbers: NDArray[np.intp], *, rounds: int, seed: int
) -> NDArray[np.float64]:
    """Means of `rounds` resamples that draw whole clusters with replacement, shape (rounds,).

    Args:
        values: Shape (n,).
        numbers: Shape (n,), from `cluster_numbers`.
        rounds: How many resamples.
        seed: The same seed draws the same clusters, so two series over the same prompts compare
            round by round.

    Raises:
        DataError: `rounds` is not positive.

    Reference:
        Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8.
    """
    if rounds < 1:
        raise DataError(f"rounds is {rounds}, not positive")
    n_clusters = int(numbers.max()) + 1
    sums = np.bincount(numbers, weights=values, minlength=n_clusters)
    sizes = np.bincount(numbers, minlength=n_clusters)
    rng = np.random.default_rng(seed)
    means = np.empty(rounds)
    for i in range(rounds):  # one round at a time: a (rounds, clusters) table can be gigabytes
        drawn = rng.integers(n_clusters, size=n_clusters)
        means[i] = sums[drawn].sum() / sizes[drawn].sum()
    return means


def t_quantile(level: float, n_clusters: int) -> float:
    """How many standard errors an interval at `level` reaches, Student's t on n_clusters - 1.

    Raises:
        DataError: `level` is not between 0 and 1.
    """
    from scipy.special import stdtrit

    return float(stdtrit(n_clusters - 1, upper_tail_point(level)))


def upper_tail_point(level: float) -> float:
    """The quantile at which a central interval at `level` ends: 0.975 for 0.95.

    Raises:
        DataError: `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise DataError(f"level is {level}, not between 0 and 1")
    return (1 + level) / 2
