"""Agreement of any number of raters beyond chance: Fleiss' kappa and Krippendorff's alpha.

    from rlaif.stats.raters import krippendorff_alpha

    units = ["i1", "i1", "i1", "i2", "i2", "i3", "i3", "i4"]        # i4 was seen by one rater
    scores = [4, 4, 5, 2, 2, 1, 2, 5]
    result = krippendorff_alpha(scores, units, distance="interval")
    assert (round(result.value, 3), result.n) == (0.867, 3)

Rows come in any order, one for each label: a gap is a row that is not there.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import cluster_numbers
from rlaif.stats.coefficients import (
    Coefficient,
    coefficient,
    counts_by_cluster,
    label_codes,
    sums_by_cluster,
    unit_range,
)

Floats = NDArray[np.float64]
Whole = NDArray[np.intp]

_MOST_LEVELS = 100
"""Levels of an ordinal scale: its table of level pairs is kept for each prompt."""


def fleiss_kappa(
    labels: Sequence[Hashable],
    units: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    rounds: int = 10_000,
    seed: int = 0,
) -> Coefficient:
    """Fleiss' kappa: the same number of labels for each unit, whoever gave them.

    Args:
        labels: One label a row, length n, in any order.
        units: What each label is about, length n.
        clusters: The prompt of each row, length n; None makes each unit its own cluster.
        level: Confidence of the interval.
        rounds: Resamples.
        seed: Seed of the resamples.

    Raises:
        DataError: units have different numbers of labels (Krippendorff's alpha takes those) or
            fewer than two, a unit lies in two clusters, lengths differ, there are no labels, all
            are equal, `level` lies outside (0, 1) or `rounds` is not positive.

    Reference:
        Fleiss 1971, "Measuring nominal scale agreement among many raters", Psychol. Bull. 76(5).
    """
    unit, n_units = _units(labels, units)
    sizes = np.bincount(unit)
    if sizes.min() != sizes.max():
        raise DataError(
            f"units have from {sizes.min()} to {sizes.max()} labels: use Krippendorff's alpha"
        )
    raters = int(sizes[0])
    if raters < 2:
        raise DataError("one label a unit: nothing to compare")
    (codes,), n_labels = label_codes(labels)
    of_unit = _clusters_of_units(unit, n_units, clusters)
    apart = _pairs_apart(unit, codes, n_units, n_labels) / (raters * (raters - 1))
    parts = np.column_stack(
        [
            sums_by_cluster([np.ones(n_units), apart], of_unit),
            counts_by_cluster(codes, n_labels, of_unit[unit]),
        ]
    )
    return coefficient(parts, _fleiss, n_units, level, rounds, seed)


def krippendorff_alpha(
    labels: Sequence[Hashable],
    units: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
    *,
    distance: Literal["nominal", "ordinal", "interval"] = "nominal",
    level: float = 0.95,
    rounds: int = 10_000,
    seed: int = 0,
) -> Coefficient:
    """Krippendorff's alpha: any number of raters, with gaps.

    A unit with a single label says nothing about agreement and is left out.

    Args:
        labels: One label a row, length n, in any order; a gap is a row that is not there.
            Numbers where `distance` is not `nominal`.
        units: What each label is about, length n.
        clusters: The prompt of each row, length n; None makes each unit its own cluster.
        distance: How far apart two labels are: `nominal` equal or not, `ordinal` by the labels
            ranked between them, `interval` by their difference squared.
        level: Confidence of the interval.
        rounds: Resamples.
        seed: Seed of the resamples.

    Raises:
        DataError: no unit has two labels, a unit lies in two clusters, lengths differ, all labels
            are equal, a score is no finite number, an ordinal scale has over 100 levels, `level`
            lies outside (0, 1) or `rounds` is not positive.

    Reference:
        Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    unit, n_units = _units(labels, units)
    of_unit = _clusters_of_units(unit, n_units, clusters)
    sizes = np.bincount(unit)
    pairable = sizes[unit] > 1
    kept = np.flatnonzero(sizes > 1)
    if kept.size == 0:
        raise DataError("no unit has two labels: nothing to compare")
    # Clusters of which nothing is left must not be drawn: number the others anew.
    of_unit = np.searchsorted(np.unique(of_unit[kept]), of_unit)
    cluster = of_unit[unit[pairable]]
    unit = np.searchsorted(kept, unit[pairable])
    chosen = [label for label, keep in zip(labels, pairable, strict=True) if keep]
    others = np.bincount(unit) - 1
    ones = np.ones(unit.size)

    if distance == "nominal":
        (codes,), n_labels = label_codes(chosen)
        apart = _pairs_apart(unit, codes, kept.size, n_labels) / others
        sums = [ones, (apart / (others + 1))[unit]]
        parts = np.column_stack(
            [sums_by_cluster(sums, cluster), counts_by_cluster(codes, n_labels, cluster)]
        )
        return coefficient(parts, _alpha_nominal, kept.size, level, rounds, seed)
    (x,) = unit_range(chosen)
    if distance == "interval":
        total, squares = np.bincount(unit, weights=x), np.bincount(unit, weights=x * x)
        apart = 2 * ((others + 1) * squares - total**2) / others
        parts = sums_by_cluster([ones, (apart / (others + 1))[unit], x, x * x], cluster)
        return coefficient(parts, _alpha_interval, kept.size, level, rounds, seed)
    parts = _coincidences(x, unit, cluster)
    return coefficient(parts, _alpha_ordinal, kept.size, level, rounds, seed)


def _fleiss(sums: Floats) -> tuple[Floats, Floats]:
    counts = sums[..., 2:]
    n = counts.sum(axis=-1)
    return sums[..., 1] / sums[..., 0], (n * n - (counts**2).sum(axis=-1)) / (n * n)


def _alpha_nominal(sums: Floats) -> tuple[Floats, Floats]:
    n = sums[..., 0]
    chance = n * n - (sums[..., 2:] ** 2).sum(axis=-1)
    return sums[..., 1] / n, chance / (n * (n - 1))


def _alpha_interval(sums: Floats) -> tuple[Floats, Floats]:
    n, apart, x, xx = np.moveaxis(sums, -1, 0)
    return apart / n, 2 * (n * xx - x * x) / (n * (n - 1))


def _alpha_ordinal(sums: Floats) -> tuple[Floats, Floats]:
    levels = int(np.sqrt(sums.shape[-1]))
    table = sums.reshape(*sums.shape[:-1], levels, levels)
    counts = table.sum(axis=-1)
    n = counts.sum(axis=-1)
    # The distance of two levels is that of their mean ranks; as a share of the widest it is <= 1.
    ranks = np.cumsum(counts, axis=-1) - counts / 2
    ranks = ranks / n[..., None]
    squares = (counts * ranks**2).sum(axis=-1)
    crossed = np.einsum("...i,...ij,...j->...", ranks, table, ranks)
    observed = 2 * (squares - crossed) / n
    expected = 2 * (n * squares - (counts * ranks).sum(axis=-1) ** 2) / (n * (n - 1))
    return observed, expected


def _coincidences(x: Floats, unit: Whole, cluster: Whole) -> Floats:
    """Ordered pairs of levels met within a unit, each over (labels of the unit - 1), flattened."""
    levels, codes = np.unique(x, return_inverse=True)
    k = len(levels)
    if k > _MOST_LEVELS:
        raise DataError(f"{k} levels on an ordinal scale: at most {_MOST_LEVELS}; use `interval`")
    parts = np.zeros((int(cluster.max()) + 1, k, k))
    order = np.argsort(unit, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(unit[order])) + 1):
        counts = np.bincount(codes[rows], minlength=k)
        pairs = np.outer(counts, counts) - np.diag(counts)
        parts[cluster[rows[0]]] += pairs / (len(rows) - 1)
    return parts.reshape(len(parts), k * k)


def _units(labels: Sequence[Hashable], units: Sequence[Hashable]) -> tuple[Whole, int]:
    if len(labels) != len(units):
        raise DataError(f"{len(labels)} labels for {len(units)} units")
    if len(labels) == 0:
        raise DataError("no labels to compare")
    unit = cluster_numbers(units, len(labels))
    return unit, int(unit.max()) + 1


def _clusters_of_units(unit: Whole, n_units: int, clusters: Sequence[Hashable] | None) -> Whole:
    """The cluster of each unit, shape (units,)."""
    if clusters is None:
        return np.arange(n_units)
    numbers = cluster_numbers(clusters, unit.size)
    of_unit = np.zeros(n_units, dtype=np.intp)
    of_unit[unit] = numbers
    if np.any(of_unit[unit] != numbers):
        raise DataError("a unit lies in two clusters")
    return of_unit


def _pairs_apart(unit: Whole, codes: Whole, n_units: int, n_labels: int) -> Floats:
    """Ordered pairs of different labels within each unit, shape (units,)."""
    cells, counts = np.unique(unit * n_labels + codes, return_counts=True)
    alike = np.bincount(cells // n_labels, weights=counts.astype(np.float64) ** 2)
    return np.asarray(np.bincount(unit, minlength=n_units) ** 2 - alike, dtype=np.float64)
