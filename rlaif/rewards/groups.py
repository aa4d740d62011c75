"""Rewards from comparisons within a group of responses to one prompt. Pure.

pairs = circulant_pairs(8, opponents=3)             # 12 pairs, each response in 3
rewards = group_rewards([1] * 8, {(0, 1): 0.9, …})  # in [-1, 1], None where too little is known
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

Pair = tuple[int, int]
Strength = Literal["mean", "bradley-terry"]
"""The mean of P(preferred) over the opponents met, or the chance to beat an average response by
strengths fitted to all outcomes of the group."""

LEAST_READ = 0.5
"""Share of a response's comparisons that must have a verdict for it to have a reward."""


def circulant_pairs(n: int, opponents: int | None = None) -> list[Pair]:
    """The pairs to compare among `n` responses, each `i < j`, in order.

    Args:
        n: How many there are.
        opponents: How many others each meets; everyone by default, and where there are no more.
            With an odd number of both, a few meet one more.
    """
    if opponents is None or opponents >= n - 1:
        return list(combinations(range(n), 2))
    steps = list(range(1, opponents // 2 + 1))
    pairs = {_sorted(i, (i + step) % n) for step in steps for i in range(n)}
    if opponents % 2:
        # half a turn pairs everyone once; where n is odd one is left, and meets its neighbor there
        half = n // 2
        pairs |= {_sorted(i, (i + half) % n) for i in range((n + 1) // 2)}
    return sorted(pairs)


def group_rewards(
    counts: Sequence[int],
    outcomes: Mapping[Pair, float | None],
    strength: Strength = "mean",
) -> list[float | None]:
    """The reward of each distinct response of a group, in [-1, 1].

    2 m - 1, where m is the mean P(preferred) over the other completions of the group: copies of the
    response itself, which are ties, and the opponents it met, each as often as it occurs. With
    `bradley-terry` it is 2 sigmoid(s) - 1 for the response's strength s (nats, mean 0 over the
    completions), so that one that met strong opponents is not the worse for it.

    Args:
        counts: How many completions of the group are this response.
        outcomes: P(first preferred) of each pair that was asked; `None` where there is no verdict.
        strength: What the outcomes are summed up to.

    Returns:
        `None` for a response of whose comparisons fewer than half have a verdict, for one that is
        joined to no more than half of the completions (`bradley-terry`), and for one that had
        neither an opponent nor a copy.
    """
    n = len(counts)
    asked, read = [0] * n, [0] * n
    for pair, p in outcomes.items():
        for i in pair:
            asked[i] += 1
            read[i] += p is not None
    known = {pair: p for pair, p in outcomes.items() if p is not None}
    enough = [done >= LEAST_READ * due for done, due in zip(read, asked, strict=True)]
    means = _means(counts, known) if strength == "mean" else _strengths(counts, known)
    return [
        2.0 * mean - 1.0 if mean is not None and fit else None
        for mean, fit in zip(means, enough, strict=True)
    ]


def _means(counts: Sequence[int], known: Mapping[Pair, float]) -> list[float | None]:
    won = [0.5 * (count - 1) for count in counts]
    met = [float(count - 1) for count in counts]
    for (i, j), p in known.items():
        won[i] += p * counts[j]
        won[j] += (1.0 - p) * counts[i]
        met[i] += counts[j]
        met[j] += counts[i]
    return [w / m if m else None for w, m in zip(won, met, strict=True)]


def _strengths(counts: Sequence[int], known: Mapping[Pair, float]) -> list[float | None]:
    import numpy as np

    from rlaif.stats.numeric import sigmoid
    from rlaif.stats.pair_choice import Standing

    if len(counts) < 2:
        return _means(counts, known)
    standing = Standing(len(counts))
    for (i, j), p in known.items():
        standing.add(i, j, p)
    weights = np.asarray(counts, dtype=np.float64)
    groups = standing.groups
    share = np.array([weights[groups == g].sum() for g in groups]) / weights.sum()
    joined = share > 0.5
    if not joined.any():
        return [None] * len(counts)
    raw = standing.strengths
    center = float((raw * weights)[joined].sum() / weights[joined].sum())
    chances = sigmoid(raw - center)
    return [float(p) if fit else None for p, fit in zip(chances, joined, strict=True)]


def _sorted(i: int, j: int) -> Pair:
    return (i, j) if i < j else (j, i)
