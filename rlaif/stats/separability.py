"""Whether the words alone tell one side of pairs from the other, and which words do.

    found = separability(rejected, chosen)
    found.accuracy, found.low            # of held-out pairs; 0.5: the words say nothing
    found.second[:3]                     # ("sorry", 2.1): words of the second side

A preference set whose sides a bag of words can tell apart teaches those words, whatever the labels
were meant to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import t_quantile
from rlaif.stats.text import words
from rlaif.stats.win_rate import win_rate

Floats = NDArray[np.float64]

FOLDS = 5
LEAST_PAIRS = 10
"""Fewer pairs than this say nothing about words."""
MOST_WORDS = 2000
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Separability:
    """How well words tell the sides of pairs apart."""

    accuracy: float
    """Share of held-out pairs whose second side the words point to; undecided ones count half."""
    low: float
    high: float
    n: int
    """Pairs."""
    longer: float
    """The same of length alone: the share of pairs whose second side has more words."""
    first: tuple[tuple[str, float], ...]
    """Words that point to the first side, with their weights in nats; the strongest first."""
    second: tuple[tuple[str, float], ...]


def separability(
    first: Sequence[str], second: Sequence[str], *, tokens: int = 10, level: float = 0.95
) -> Separability:
    """How well a bag-of-words classifier tells `second` from `first`, pair by pair.

    A logistic regression on the difference of the two bags (word present or not), with a ridge and
    without an intercept, so that neither side is favored; the accuracy is of pairs it was not
    fitted to, in five folds.

    Args:
        first: One text of each pair, length n.
        second: The other.
        tokens: How many words of each side to name.
        level: Confidence of the interval.

    Raises:
        DataError: the lengths differ, there are fewer than ten pairs, or no word is in two pairs.

    Reference:
        Bradley and Terry's model with features: Agresti 2013, "Categorical Data Analysis",
        section 11.6.
    """
    if len(first) != len(second):
        raise DataError(f"{len(first)} texts on one side, {len(second)} on the other")
    if len(first) < LEAST_PAIRS:
        raise DataError(f"{len(first)} pairs: at least {LEAST_PAIRS} are needed")
    t_quantile(level, len(first))
    bags = [[set(words(text)) for text in side] for side in (first, second)]
    vocabulary = _vocabulary(bags)
    columns = _differences(bags, vocabulary)
    outcomes = np.full(len(first), 0.5)
    places = np.arange(len(first)) % FOLDS
    for fold in range(FOLDS):
        weights = _fit(columns[places != fold])
        scores = columns[places == fold] @ weights
        outcomes[places == fold] = 0.5 + 0.5 * np.sign(np.round(scores, 9))
    rate = win_rate(outcomes, level=level)
    weights = _fit(columns)
    order = np.argsort(weights, kind="stable")
    named = [(vocabulary[i], float(weights[i])) for i in order]
    lengths = [np.array([len(words(t)) for t in side]) for side in (first, second)]
    longer = float((0.5 + 0.5 * np.sign(lengths[1] - lengths[0])).mean())
    return Separability(
        rate.value,
        rate.low,
        rate.high,
        len(first),
        longer,
        tuple((word, -weight) for word, weight in named[:tokens] if weight < 0),
        tuple((word, weight) for word, weight in named[::-1][:tokens] if weight > 0),
    )


def _vocabulary(bags: Sequence[Sequence[set[str]]]) -> list[str]:
    """The words in two pairs or more, on one side of them at least; the most frequent ones."""
    counts: Counter[str] = Counter()
    for one, other in zip(*bags, strict=True):
        counts.update(one ^ other)
    known = [word for word, n in counts.items() if n >= 2]
    if not known:
        raise DataError("no word tells two pairs apart")
    return sorted(known, key=lambda word: (-counts[word], word))[:MOST_WORDS]


def _differences(bags: Sequence[Sequence[set[str]]], vocabulary: Sequence[str]) -> Any:
    """Shape (pairs, words), sparse: 1 where the second side alone has a word, -1 the first."""
    from scipy.sparse import csr_array

    place = {word: i for i, word in enumerate(vocabulary)}
    values: list[float] = []
    rows: list[int] = []
    columns: list[int] = []
    for row, (one, other) in enumerate(zip(*bags, strict=True)):
        for word in sorted(one ^ other):
            if (column := place.get(word)) is not None:
                rows.append(row)
                columns.append(column)
                values.append(1.0 if word in other else -1.0)
    shape = (len(bags[0]), len(vocabulary))
    return csr_array((values, (rows, columns)), shape=shape)


def _fit(columns: Any) -> Floats:
    """The weights that most favor the second side of every row, held small by the ridge."""
    from scipy.optimize import minimize

    def loss(weights: Floats) -> tuple[float, Floats]:
        margins = columns @ weights
        value = np.logaddexp(0.0, -margins).sum() + 0.5 * _RIDGE * weights @ weights
        pull = -1.0 / (1.0 + np.exp(np.clip(margins, -500, 500)))
        return float(value), columns.T @ pull + _RIDGE * weights

    found = minimize(loss, np.zeros(columns.shape[1]), jac=True, method="L-BFGS-B")
    weights: Floats = np.asarray(found.x, dtype=np.float64)
    return weights
