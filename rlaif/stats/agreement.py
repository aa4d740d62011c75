"""How often a judge agrees with labels, and how much of that chance would give."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from rlaif.errors import DataError
from rlaif.stats.clusters import upper_tail_point


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share of independent trials with its Wilson interval; all in [0, 1] but `n`."""

    value: float
    low: float
    high: float
    n: int
    level: float


def accuracy(right: float, total: int, *, level: float = 0.95) -> Proportion:
    """The share of `total` independent labeled items that were right, with its Wilson interval.

    Args:
        right: Items that agree with their label; a tie may add 0.5.
        total: Items that have a verdict and a label.
        level: Confidence of the interval.

    Raises:
        DataError: `total` is not positive, `right` lies outside [0, total], or `level` outside
            (0, 1).
    """
    low, high = wilson(right, total, level)
    return Proportion(right / total, low, high, total, level)


def wilson(k: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of k successes in n trials, both ends in [0, 1].

    It keeps its width at k = 0 and k = n, where p +- z * se has none.

    Args:
        k: Successes; need not be whole.
        n: Trials; need not be whole (an effective sample size).
        level: Confidence of the interval.

    Raises:
        DataError: n is not positive, k lies outside [0, n], or `level` outside (0, 1).

    Reference:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference",
        JASA 22(158); Newcombe 1998, Statist. Med. 17, method 3.
    """
    return score_interval(k, n, NormalDist().inv_cdf(upper_tail_point(level)))


def score_interval(k: float, n: float, z: float) -> tuple[float, float]:
    """The score interval of k successes in n trials that reaches `z` standard errors.

    Raises:
        DataError: n is not positive and finite, or k lies outside [0, n].
    """
    if not 0 < n < math.inf:
        raise DataError(f"{n} trials: no proportion")
    if not 0 <= k <= n:
        raise DataError(f"{k} successes in {n} trials")
    p = k / n
    shrink = 1 / (1 + z * z / n)
    center = shrink * (p + z * z / (2 * n))
    half = shrink * z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding must not leave k = 0 a hair above 0, nor push an end past the value itself.
    return (max(0.0, min(center - half, p)), min(1.0, max(center + half, p)))


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Agreement of two raters beyond chance: 1 complete, 0 as chance, below 0 worse; unweighted.

    kappa = (po - pe) / (1 - pe), po the share of equal labels, pe = sum_k pa_k pb_k.

    Args:
        a: Labels of the first rater, length n.
        b: Labels of the second rater for the same items in the same order.

    Raises:
        DataError: the lengths differ or are 0, or both raters used one and the same label
            throughout, where kappa is 0 / 0.

    Reference:
        Cohen 1960, "A coefficient of agreement for nominal scales", EPM 20(1).
    """
    n = len(a)
    if n != len(b):
        raise DataError(f"{n} labels against {len(b)}")
    if n == 0:
        raise DataError("no labels to compare")
    counts_a, counts_b = Counter(a), Counter(b)
    # Whole numbers until the last step: pe = 1 is then exact, and so is perfect agreement.
    agreed = n * sum(x == y for x, y in zip(a, b, strict=True))
    chance = sum(count * counts_b[label] for label, count in counts_a.items())
    if chance == n * n:
        raise DataError("both raters gave one label throughout: kappa is undefined")
    return (agreed - chance) / (n * n - chance)
