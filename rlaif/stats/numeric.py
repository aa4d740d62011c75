"""The logistic function and its inverse, without overflow or lost digits."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError

Floats = NDArray[np.float64]


@overload
def sigmoid(x: float) -> float: ...
@overload
def sigmoid(x: Floats) -> Floats: ...
def sigmoid(x: float | Floats) -> float | Floats:
    """1 / (1 + e^-x) of nats, in [0, 1]; any shape, infinities included.

    The small side is e^x to full precision, not 1 minus something: sigmoid(-50) is 1.9e-22.
    """
    # e^-|x| cannot overflow, and each side divides by the same 1 + e^-|x|.
    small = np.exp(-np.abs(x))
    value = np.where(np.asarray(x) < 0, small, 1.0) / (1.0 + small)
    return float(value) if np.ndim(x) == 0 else value


@overload
def logit(p: float, *, floor: float = 0.0) -> float: ...
@overload
def logit(p: Floats, *, floor: float = 0.0) -> Floats: ...
def logit(p: float | Floats, *, floor: float = 0.0) -> float | Floats:
    """log(p / (1 - p)) in nats; any shape.

    Args:
        p: Probabilities in [0, 1].
        floor: `p` is first moved into [floor, 1 - floor]; above 0 it keeps 0 and 1 finite.

    Raises:
        DataError: a probability lies outside [0, 1] or is NaN, or its log-odds are infinite.
    """
    value = np.asarray(p, dtype=np.float64)
    if not np.all((value >= 0) & (value <= 1)):
        raise DataError("a probability lies outside [0, 1]")
    value = np.clip(value, floor, 1 - floor)
    if not np.all((value > 0) & (value < 1)):
        raise DataError("probability 0 or 1 has infinite log-odds: give a floor")
    odds = np.log(value) - np.log1p(-value)
    return float(odds) if np.ndim(p) == 0 else odds
