"""How good stated probabilities are: calibration error, Brier score, log loss, and the curve.

    from rlaif.stats.reliability import quality

    found = quality([0.9, 0.9, 0.9, 0.9], [1, 1, 1, 0])
    assert round(found.ece, 3) == 0.15  # says 0.9, is right 0.75 of the time

With few rows the calibration error of a perfect judge is above 0 too: compare like with like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import finite_vector

Floats = NDArray[np.float64]

_FLOOR = 1e-6
_EVEN = 1e-12
"""Nearer than this to 0.5 is 0.5: rounding must not choose a side."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One point of the reliability curve."""

    stated: float
    """Mean probability of its rows."""
    observed: float
    """Mean label of its rows."""
    n: int


@dataclass(frozen=True, slots=True)
class Quality:
    """How good n stated probabilities are."""

    ece: float
    """Expected calibration error: mean over rows of |stated - observed| of their bin, in [0, 1]."""
    brier: float
    """Mean squared difference of probability and label, in [0, 1]."""
    log_loss: float
    """Nats a row; probabilities are first moved into [1e-6, 1 - 1e-6]."""
    bins: tuple[Bin, ...]
    """The reliability curve: equal-mass bins, lowest probabilities first."""
    n: int


def quality(p: ArrayLike, y: ArrayLike, *, bins: int = 10) -> Quality:
    """Calibration error, Brier score, log loss and reliability curve of probabilities.

    Bins hold equally many rows as far as that goes without parting equal probabilities, so the
    order of the rows changes nothing and there can be fewer bins than asked for.

    Args:
        p: Shape (n,), probabilities in [0, 1].
        y: Shape (n,), labels in [0, 1].
        bins: Most bins.

    Raises:
        DataError: lengths differ, there are no rows, a value lies outside [0, 1], or `bins` is
            not positive.

    Reference:
        Brier 1950, "Verification of forecasts expressed in terms of probability", Mon. Weather
        Rev. 78(1); Nixon et al. 2019, "Measuring calibration in deep learning", arXiv 1904.01685
        (equal-mass bins).
    """
    probability, label = outcomes(p, y)
    if bins < 1:
        raise DataError(f"{bins} bins")
    curve = _curve(probability, label, bins)
    ece = sum(b.n * abs(b.stated - b.observed) for b in curve) / probability.size
    inside = np.clip(probability, _FLOOR, 1 - _FLOOR)
    loss = -np.mean(label * np.log(inside) + (1 - label) * np.log1p(-inside))
    brier = float(np.mean((probability - label) ** 2))
    return Quality(float(ece), brier, float(loss), curve, probability.size)


def as_confidence(p: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Each row seen from the side that `p` prefers: (max(p, 1 - p), label of that side).

    At p = 0.5 no side is preferred: the label becomes 0.5, so that swapping candidates changes
    nothing.

    Args:
        p: Shape (n,), P(A preferred) in [0, 1].
        y: Shape (n,), labels in [0, 1].

    Raises:
        DataError: lengths differ, there are no rows, or a value lies outside [0, 1].
    """
    probability, label = outcomes(p, y)
    toward = np.where(probability > 0.5, label, 1 - label)
    even = np.abs(probability - 0.5) < _EVEN
    return np.maximum(probability, 1 - probability), np.where(even, 0.5, toward)


def outcomes(p: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Probabilities and labels as vectors of one length, each value in [0, 1].

    Raises:
        DataError: lengths differ, there are no rows, or a value lies outside [0, 1].
    """
    probability, label = finite_vector(p), finite_vector(y)
    if probability.size != label.size:
        raise DataError(f"{probability.size} probabilities for {label.size} labels")
    for name, values in (("probability", probability), ("label", label)):
        if values.min() < 0 or values.max() > 1:
            raise DataError(f"a {name} lies outside [0, 1]")
    return probability, label


def _curve(p: Floats, y: Floats, bins: int) -> tuple[Bin, ...]:
    _, group, counts = np.unique(p, return_inverse=True, return_counts=True)
    # A group of equal probabilities goes to the bin in which its middle row falls.
    middle = np.cumsum(counts) - counts / 2
    number = np.floor(middle * bins / p.size).astype(np.intp)[group]
    sizes = np.bincount(number, minlength=bins)
    stated = np.bincount(number, weights=p, minlength=bins)
    observed = np.bincount(number, weights=y, minlength=bins)
    return tuple(
        Bin(float(stated[i] / sizes[i]), float(observed[i] / sizes[i]), int(sizes[i]))
        for i in np.flatnonzero(sizes)
    )
