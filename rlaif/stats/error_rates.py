"""A judged share (yes or no) corrected for the judge's error rates, measured on labeled rows.

    from rlaif.stats.error_rates import rogan_gladen

    judged = [1] * 620 + [0] * 380                      # rows without labels
    labels = [1] * 100 + [0] * 100
    checks = [1] * 90 + [0] * 10 + [1] * 20 + [0] * 80  # sensitivity 0.9, specificity 0.8
    result = rogan_gladen(judged, checks, labels)
    assert (result.raw, round(result.value, 3)) == (0.62, 0.6)
    assert result.low < 0.55 and result.high > 0.65

`rlaif.stats.correction.ppi_mean` takes outcomes with ties or probabilities, and a judge that is
near chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.stats.agreement import wilson
from rlaif.stats.clusters import (
    Prompts,
    cluster_numbers,
    clustered_se,
    finite_vector,
    t_quantile,
    upper_tail_point,
)
from rlaif.stats.correction import shrink

Floats = NDArray[np.float64]

LEAST_INFORMEDNESS = 0.2
"""`rogan_gladen` refuses where sensitivity + specificity - 1 may be below this."""
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class CorrectedShare:
    """A judged share, corrected for the judge's error rates; all in [0, 1] but the counts."""

    value: float
    """Corrected."""
    low: float
    high: float
    raw: float
    """The share that the judge called positive."""
    shrunk: float
    """Between `raw` and `value`: see `shrink`."""
    sensitivity: float
    """Share of the truly positive labeled rows that the judge called positive."""
    specificity: float
    """Share of the truly negative labeled rows that the judge called negative."""
    n: int
    """Judged rows."""
    n_positive: int
    """Labeled rows that are truly positive."""
    n_negative: int
    level: float
    """Confidence that [low, high] claims."""


def rogan_gladen(
    judged: ArrayLike,
    labeled_judged: ArrayLike,
    labels: ArrayLike,
    *,
    clusters: Prompts | None = None,
    labeled_clusters: Prompts | None = None,
    level: float = 0.95,
) -> CorrectedShare:
    """The share that is truly positive, from a judge whose error rates were measured.

    value = (p + q0 - 1) / (q0 + q1 - 1), p the judged share, q0 specificity, q1 sensitivity. That
    divides by how much better than chance the judge is; where this may be under 0.2, correction
    would add more error than it removes, and is refused.

    With clusters, the counts in the interval are those of as many independent rows as the spread
    between prompts amounts to, and its reach is Student's t.

    Args:
        judged: Shape (n,), 0 or 1: the judge on rows without labels.
        labeled_judged: Shape (m,), 0 or 1: the judge on labeled rows.
        labels: Shape (m,), 0 or 1: the truth for the same rows.
        clusters: The prompt of each row of `judged`; None takes rows as independent.
        labeled_clusters: The prompt of each labeled row.
        level: Confidence of the interval.

    Raises:
        DataError: a value is not 0 or 1, lengths differ, only one of the two classes has labels,
            the lower limit of q0 + q1 - 1 is under `LEAST_INFORMEDNESS`, or `level` lies outside
            (0, 1).

    Reference:
        Rogan and Gladen 1978, "Estimating prevalence from the results of a screening test", Am.
        J. Epidemiol. 107(1); interval: Lang and Reiczigel 2014, Prev. Vet. Med. 113(1), as used
        for judges in arXiv 2511.21140. Limit of q0 + q1 - 1: Newcombe 1998, Statist. Med. 17,
        p. 873, method 10.
    """
    verdicts, checks, truth = (_binary(x) for x in (judged, labeled_judged, labels))
    if checks.size != truth.size:
        raise DataError(f"{checks.size} verdicts for {truth.size} labels")
    numbers = cluster_numbers(clusters, verdicts.size)
    labeled_numbers = cluster_numbers(labeled_clusters, checks.size)
    positive = truth == 1
    if positive.all() or not positive.any():
        raise DataError("labels of one class only: sensitivity or specificity is unknown")
    z = NormalDist().inv_cdf(upper_tail_point(level))
    if clusters is not None or labeled_clusters is not None:
        fewest = min(len(np.unique(numbers)), len(np.unique(labeled_numbers)))
        z = t_quantile(level, max(2, fewest))

    p, n = _share(verdicts, numbers)
    q1, m1 = _share(checks[positive], labeled_numbers[positive])
    q0, m0 = _share(1 - checks[~positive], labeled_numbers[~positive])
    _refuse_near_chance(q0, m0, q1, m1, level)
    value = min(1.0, max(0.0, (p + q0 - 1) / (q0 + q1 - 1)))

    p_near, n_near = (n * p + z * z / 2) / (n + z * z), n + z * z
    q0_near, q1_near = (m0 * q0 + 1) / (m0 + 2), (m1 * q1 + 1) / (m1 + 2)
    gain = q0_near + q1_near - 1
    near = min(1.0, max(0.0, (p_near + q0_near - 1) / gain))
    miss = q1_near * (1 - q1_near) / (m1 + 2)
    alarm = q0_near * (1 - q0_near) / (m0 + 2)
    shift = 2 * z * z * (near * miss - (1 - near) * alarm)
    judged_variance = p_near * (1 - p_near) / n_near
    se = math.sqrt(judged_variance + (1 - near) ** 2 * alarm + near**2 * miss) / gain
    return CorrectedShare(
        value=value,
        low=max(0.0, min(value, near + shift - z * se)),
        high=min(1.0, max(value, near + shift + z * se)),
        raw=p,
        shrunk=shrink(p, value, se, covariance=judged_variance / gain),
        sensitivity=q1,
        specificity=q0,
        n=verdicts.size,
        n_positive=int(positive.sum()),
        n_negative=int((~positive).sum()),
        level=level,
    )


def label_split(
    total: int, share: float, *, false_positives: int, false_negatives: int
) -> tuple[int, int]:
    """How to spend `total` labels: how many truly positive rows, how many truly negative.

    Most where the error rate weighs most in `rogan_gladen`'s interval: positives to negatives as
    share : (1 - share) sqrt(k), k the ratio of the two error rates, from a pilot with as many
    rows of either class.

    Args:
        total: Labels to spend, at least 2.
        share: Guess of the positive share, such as the judge's; inside (0, 1).
        false_positives: Negative rows of the pilot that the judge called positive.
        false_negatives: Positive rows of the pilot that the judge called negative.

    Raises:
        DataError: `total` is below 2, `share` outside (0, 1), or a count negative.

    Reference:
        arXiv 2511.21140, section on the allocation of calibration labels.
    """
    if total < 2:
        raise DataError(f"{total} labels: at least one of either class is needed")
    if not 0 < share < 1:
        raise DataError(f"share {share} does not lie inside (0, 1)")
    if min(false_positives, false_negatives) < 0:
        raise DataError("a count of errors is negative")
    ratio = (false_positives + 1) / (false_negatives + 1)
    positives = round(total / (1 + (1 / share - 1) * math.sqrt(ratio)))
    positives = min(total - 1, max(1, positives))
    return positives, total - positives


def _refuse_near_chance(q0: float, m0: float, q1: float, m1: float, level: float) -> None:
    below0, below1 = q0 - wilson(q0 * m0, m0, level)[0], q1 - wilson(q1 * m1, m1, level)[0]
    least = q0 + q1 - 1 - math.hypot(below0, below1)
    if least < LEAST_INFORMEDNESS:
        raise DataError(
            f"sensitivity {q1:.3f} + specificity {q0:.3f} - 1 = {q0 + q1 - 1:.3f} may be as low as "
            f"{least:.3f}, under {LEAST_INFORMEDNESS}: correcting a judge so near chance adds more "
            "error than it removes; label more rows or use a better judge"
        )


def _binary(values: ArrayLike) -> Floats:
    vector = finite_vector(values)
    if not np.isin(vector, (0.0, 1.0)).all():
        raise DataError("a value is neither 0 nor 1")
    return vector


def _share(values: Floats, numbers: NDArray[np.intp]) -> tuple[float, float]:
    """The mean of 0/1 values, and how many independent ones would be as certain (at most n)."""
    p = float(values.mean())
    _, numbers = np.unique(numbers, return_inverse=True)
    n_clusters = int(numbers.max()) + 1
    if n_clusters == values.size:
        return p, float(values.size)
    se = clustered_se(values, numbers) if n_clusters > 1 else 0.0
    return p, min(float(values.size), p * (1 - p) / se**2) if se > _ROUNDING else float(n_clusters)
