"""When to believe a judge: a confidence above which it agrees with people as often as asked.

Rows below the threshold go to a stronger judge or to a person. The threshold is chosen on labeled
rows so that, with probability at least 1 - delta, the judge disagrees with people on at most a
share alpha of the rows it keeps. Where no threshold can promise that, it abstains on everything.

    from rlaif.stats.selective import choose_threshold, to_escalate

    confidence = [0.9] * 60 + [0.6] * 60
    agrees = [1] * 60 + [1, 0] * 30
    chosen = choose_threshold(confidence, agrees, alpha=0.1)
    assert chosen.threshold == 0.9 and chosen.coverage == 0.5
    assert to_escalate([0.95, 0.7, 0.55], chosen.threshold).tolist() == [2, 1]

Calibrating a further stage on the rows that a first stage kept or passed on needs fresh labels,
or delta divided by the number of stages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import Prompts, cluster_numbers, finite_vector
from rlaif.stats.win_rate import win_rate

Floats = NDArray[np.float64]

_THRESHOLDS = 20
_FIRST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """One threshold that was tested."""

    threshold: float
    n: int
    """Labeled rows with at least that confidence."""
    errors: float
    """How many of them disagree with people."""
    risk_limit: float
    """Upper limit, at 1 - delta, of the share that disagrees."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The threshold that was chosen, and why."""

    threshold: float | None
    """Keep verdicts of at least this confidence; None: keep none."""
    coverage: float
    """Share of the labeled rows that it keeps, in [0, 1]."""
    steps: tuple[Step, ...]
    """From the highest threshold down; where the last failed, the one before it was chosen."""
    n: int
    """Labeled rows."""
    alpha: float
    delta: float


def choose_threshold(
    confidence: ArrayLike,
    agrees: ArrayLike,
    *,
    alpha: float,
    delta: float = 0.1,
    clusters: Prompts | None = None,
    least_rows: int = 30,
) -> Selection:
    """The lowest confidence that can be trusted, by testing thresholds from the highest down.

    Up to 20 thresholds keep a fifth of the rows (at least `least_rows`), then ever more, to all;
    the first one that fails ends the sequence, so delta is spent once however many are tested.
    Which are tested depends on the confidences alone. (Starting with fewer rows lets a single
    early error end it: from 30 of 300 rows a judge of 80 % keeps 19 % at alpha 0.15, from 60 33 %.)

    Args:
        confidence: Shape (n,): such as max(p, 1 - p); higher is surer.
        agrees: Shape (n,), 0 or 1: whether the verdict is the people's.
        alpha: Greatest share of kept rows that may disagree, inside (0, 1).
        delta: Greatest chance that the promise fails, inside (0, 0.5).
        clusters: The prompt of each row, length n. None takes rows as independent, with the exact
            binomial limit; otherwise the limit is the score interval's at the effective sample
            size of `rlaif.stats.win_rate`, which is approximate.
        least_rows: A threshold that keeps fewer labeled rows is not tested.

    Raises:
        DataError: lengths differ, there are no rows, `agrees` is not 0 or 1, or alpha, delta or
            `least_rows` is out of range.

    Reference:
        Jung, Brahman and Choi 2024, "Trust or escalate", arXiv 2407.18370, algorithm 1;
        Clopper and Pearson 1934, Biometrika 26(4) (exact limit).
    """
    sure, right = finite_vector(confidence), finite_vector(agrees)
    if sure.size != right.size:
        raise DataError(f"{sure.size} confidences for {right.size} labels")
    if not np.isin(right, (0.0, 1.0)).all():
        raise DataError("whether a verdict agrees is neither 0 nor 1")
    if not 0 < alpha < 1 or not 0 < delta < 0.5 or least_rows < 1:
        raise DataError("alpha must lie in (0, 1), delta in (0, 0.5), least_rows above 0")
    numbers = None if clusters is None else cluster_numbers(clusters, sure.size)

    steps: list[Step] = []
    chosen = None
    for threshold in _thresholds(sure, least_rows):
        kept = sure >= threshold
        wrong = 1 - right[kept]
        n, errors = int(kept.sum()), float(wrong.sum())
        if numbers is None:
            limit = binomial_limit(int(errors), n, delta)
        else:
            limit = win_rate(wrong, numbers[kept].tolist(), level=1 - 2 * delta).high
        steps.append(Step(threshold, n, errors, limit))
        if limit > alpha:
            break
        chosen = steps[-1]
    return Selection(
        chosen.threshold if chosen else None,
        chosen.n / sure.size if chosen else 0.0,
        tuple(steps),
        sure.size,
        alpha,
        delta,
    )


def to_escalate(confidence: ArrayLike, threshold: float | None) -> NDArray[np.intp]:
    """Which rows to pass on, least sure first: those under the threshold, or all where it is None.

    Args:
        confidence: Shape (n,).
        threshold: `Selection.threshold`.

    Raises:
        DataError: there are no rows, or a confidence is NaN or infinite.
    """
    sure = finite_vector(confidence)
    order = np.argsort(sure, kind="stable")
    return order if threshold is None else order[sure[order] < threshold]


def binomial_limit(errors: int, n: int, delta: float) -> float:
    """The greatest error rate at which `errors` or fewer of n still have probability `delta`.

    Args:
        errors: Errors seen.
        n: Independent trials.
        delta: Chance that the true rate lies above the limit, inside (0, 1).

    Raises:
        DataError: n is not positive, `errors` lies outside [0, n], or delta outside (0, 1).
    """
    from scipy.special import betaincinv

    if n < 1 or not 0 <= errors <= n or not 0 < delta < 1:
        raise DataError(f"{errors} errors in {n} trials at {delta}: no limit")
    return 1.0 if errors == n else float(betaincinv(errors + 1, n - errors, 1 - delta))


def _thresholds(confidence: Floats, least_rows: int) -> list[float]:
    """Thresholds from high to low that keep ever more rows, the first a fifth of them."""
    n = confidence.size
    first = max(least_rows, math.ceil(_FIRST_SHARE * n))
    if first > n:
        return []
    rows = np.unique(np.linspace(first, n, _THRESHOLDS).round().astype(np.intp))
    falling = np.sort(confidence)[::-1]
    found: list[float] = np.unique(falling[rows - 1])[::-1].tolist()
    return found
