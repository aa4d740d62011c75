"""What depends on which rows share a prompt: numbering, standard errors, resampling.

Rows of one prompt (both orders, several draws, several responses) rise and fall together, so a
prompt, not a row, is the unit of evidence.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError


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


def cluster_numbers(clusters: Sequence[Hashable] | None, n: int) -> NDArray[np.intp]:
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
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.intp)


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
    n_clusters = int(numbers.max()) + 1
    if n_clusters < 2:
        raise DataError("one cluster has no spread between clusters")
    residuals = np.bincount(numbers, weights=values - values.mean(), minlength=n_clusters)
    return float(np.sqrt(n_clusters / (n_clusters - 1) * np.sum(residuals**2)) / values.size)


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
