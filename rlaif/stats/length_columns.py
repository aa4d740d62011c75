"""What every length control rests on: checked columns, the length term, resamples of prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import finite_vector

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_TABLE = 2_000_000
"""Numbers in the largest table of rounds by rows held at once (16 MB)."""


def length_term(baseline_lengths: ArrayLike, model_lengths: ArrayLike) -> Floats:
    """tanh((baseline - model) / s), s the sample standard deviation of the differences, shape (n,).

    Args:
        baseline_lengths: Shape (n,), characters.
        model_lengths: Shape (n,), characters.

    Raises:
        DataError: the shapes differ or are empty, a length is negative or not finite.
    """
    baseline, model = checked_lengths(baseline_lengths, model_lengths)
    delta = baseline - model
    spread = delta.std(ddof=1) if delta.size > 1 else 0.0
    # All differences equal: length then explains nothing that the constant does not.
    return np.tanh(delta / spread) if spread > 0 else np.zeros(delta.size)


class Resampling(NamedTuple):
    """How to draw prompts with replacement."""

    numbers: Ints
    """Shape (n,), the prompt of each row."""
    rounds: int
    seed: int
    level: float

    @property
    def n_clusters(self) -> int:
        return int(self.numbers.max()) + 1

    def weights(self) -> Iterator[Floats]:
        """How often each row is drawn, a block of rounds at a time, shape (block, n) each."""
        rng, c = np.random.default_rng(self.seed), self.n_clusters
        block = max(1, _TABLE // self.numbers.size)
        for start in range(0, self.rounds, block):
            count = min(block, self.rounds - start)
            drawn = [np.bincount(rng.integers(c, size=c), minlength=c) for _ in range(count)]
            yield np.array(drawn, dtype=np.float64)[:, self.numbers]


def checked_lengths(baseline: ArrayLike, model: ArrayLike) -> tuple[Floats, Floats]:
    """Both columns of lengths; raises `DataError` where they do not fit or one is negative."""
    first, second = finite_vector(baseline), finite_vector(model)
    need_same_size(first, second)
    if first.min() < 0 or second.min() < 0:
        raise DataError("a length is negative")
    return first, second


def checked_outcomes(outcomes: ArrayLike) -> Floats:
    """`outcomes` as floats; raises `DataError` where one lies outside [0, 1]."""
    y = finite_vector(outcomes)
    if y.min() < 0 or y.max() > 1:
        raise DataError("an outcome lies outside [0, 1]")
    return y


def need_same_size(*vectors: Floats) -> None:
    """Raise `DataError` unless all have one length."""
    sizes = {vector.size for vector in vectors}
    if len(sizes) > 1:
        raise DataError(f"columns have different lengths: {sorted(sizes)}")
