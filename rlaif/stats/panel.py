"""Several judges as one: their votes combined, how independent they are, and how good each is.

    import numpy as np
    from rlaif.stats.panel import combine, effective_judges

    votes = np.array([[1, 1, 0.5], [0, 1, np.nan], [0, 0, 0]])     # items x judges, P(A)
    assert combine(votes).round(3).tolist() == [0.833, 0.5, 0.0]
    copies = np.array([[1, 1], [0, 0], [1, 1], [1, 1]])            # the same judge twice
    assert effective_judges(copies, truth=[1, 1, 1, 0]).value == 1.0

A panel of one model family errs together: print what it is worth beside its size.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import cluster_numbers, finite_vector
from rlaif.stats.numeric import logit

Floats = NDArray[np.float64]
Whole = NDArray[np.intp]

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class EffectiveJudges:
    """How many independent judges a panel is worth."""

    value: float
    """Between 1 and `n`."""
    n: int
    """Members."""
    correlation: float
    """Mean over pairs of members."""
    basis: Literal["errors", "verdicts"]
    """What was correlated: errors against the truth, or, without it, the verdicts themselves."""


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """What a panel's votes say about the items, the classes and the judges, all at once."""

    items: tuple[Hashable, ...]
    judges: tuple[Hashable, ...]
    labels: tuple[Hashable, ...]
    posterior: Floats
    """Shape (items, labels): P(true label); rows sum to 1."""
    prior: Floats
    """Shape (labels,): share of each true label."""
    confusion: Floats
    """Shape (judges, labels, labels): P(judge says column | truth is row); rows sum to 1."""
    rounds: int


def combine(votes: ArrayLike, *, weights: ArrayLike | None = None, least: int = 1) -> Floats:
    """The weighted mean vote on each item, shape (items,); NaN where too few members voted.

    Above 0.5 the panel says A, below B; at 0.5 it is a tie, which no order of members breaks.

    Args:
        votes: Shape (items, members), P(A preferred) in [0, 1] (A 1, tie 0.5, B 0); NaN where a
            member has no verdict.
        weights: Shape (members,), 0 or more; None weighs all alike. See `vote_weights`.
        least: Members that must have voted.

    Raises:
        DataError: the votes are no table, one lies outside [0, 1], the weights do not fit or are
            negative, infinite or all 0, or `least` lies outside [1, members].
    """
    table = _table(votes)
    w = np.ones(table.shape[1]) if weights is None else finite_vector(weights)
    if w.size != table.shape[1] or w.min() < 0 or w.max() == 0:
        raise DataError(f"{table.shape[1]} members need as many weights, none negative, not all 0")
    if not 1 <= least <= table.shape[1]:
        raise DataError(f"least {least} of {table.shape[1]} members")
    voted = ~np.isnan(table)
    total = voted.astype(np.float64) @ w
    enough = (voted.sum(axis=1) >= least) & (total > 0)
    sums = np.where(voted, table, 0.0) @ w
    mean: Floats = np.divide(sums, total, out=np.full(len(table), np.nan), where=enough)
    return mean


def vote_weights(right: ArrayLike, n: ArrayLike, *, labels: int = 2) -> Floats:
    """Weights of members by how often each was right, shape (members,): log-odds, at least 0.

    The accuracy is first drawn to chance as by one more row for each label, of which one is right.
    A member no better than chance gets no vote; one that is worse is not turned round. For L
    labels the weight is log((L - 1) a / (1 - a)): the log-odds over those of chance.

    Args:
        right: Shape (members,), labeled items each had right; a tie may add 0.5.
        n: Shape (members,), labeled items each voted on.
        labels: How many labels there are, L.

    Raises:
        DataError: shapes differ, a count is negative or above its `n`, or there is one label.

    Reference:
        Nitzan and Paroush 1982, "Optimal decision rules in uncertain dichotomous choice
        situations", Int. Econ. Rev. 23(2).
    """
    hits, trials = finite_vector(right), finite_vector(n)
    if hits.size != trials.size or hits.min() < 0 or np.any(hits > trials):
        raise DataError("each member needs between 0 and n right of n")
    if labels < 2:
        raise DataError(f"{labels} label leaves nothing to be right about")
    return np.maximum(logit((hits + 1) / (trials + labels)) + math.log(labels - 1), 0.0)


def effective_judges(votes: ArrayLike, truth: ArrayLike | None = None) -> EffectiveJudges:
    """How many independent judges a panel is worth: n / (1 + (n - 1) rho), between 1 and n.

    rho is the mean correlation of two members' errors (|vote - truth|), at least 0. Without a
    truth it is that of the verdicts themselves: members who agree because they are right then
    count as copies, so the value errs to the low side.

    Args:
        votes: Shape (items, members), P(A preferred) in [0, 1]; NaN where there is no verdict.
        truth: Shape (items,), labels in [0, 1], or None.

    Raises:
        DataError: the votes are no table of two or more members, one lies outside [0, 1], the
            truth does not fit, or no two members vary over two or more common items.

    Reference:
        Kish 1965, "Survey Sampling", section 5.4 (design effect 1 + (n - 1) rho).
    """
    table = _table(votes)
    if table.shape[1] < 2:
        raise DataError("a panel has at least two members")
    if truth is not None:
        labels = finite_vector(truth)
        if labels.size != len(table) or labels.min() < 0 or labels.max() > 1:
            raise DataError(f"the truth must be {len(table)} labels in [0, 1]")
        # Not signed: all errors on one item point the same way, which is no sign of copying.
        table = np.abs(table - labels[:, None])
    found = [
        r
        for i in range(table.shape[1])
        for j in range(i)
        if (r := _correlation(table[:, i], table[:, j])) is not None
    ]
    if not found:
        raise DataError("no two members vary over common items: nothing to correlate")
    rho = float(np.mean(found))
    n = table.shape[1]
    value = n / (1 + (n - 1) * min(1.0, max(0.0, rho)))
    return EffectiveJudges(value, n, rho, "verdicts" if truth is None else "errors")


def dawid_skene(
    items: Sequence[Hashable],
    judges: Sequence[Hashable],
    labels: Sequence[Hashable],
    *,
    smoothing: float = 0.01,
    tolerance: float = 1e-6,
    most_rounds: int = 1000,
) -> DawidSkene:
    """The likely true labels, and each judge's confusion matrix, from votes alone.

    It takes for truth what the judges share: a mistake that all make is invisible to it.

    Args:
        items: The item of each vote, length n.
        judges: Who gave it, length n.
        labels: What was said, length n.
        smoothing: Votes added to each cell of a judge's matrix; above 0.
        tolerance: It ends when no posterior moves by more.
        most_rounds: Rounds of expectation and maximization.

    Raises:
        DataError: lengths differ, there are no votes, `smoothing` is not positive, or the
            posteriors still move after `most_rounds`.

    Reference:
        Dawid and Skene 1979, "Maximum likelihood estimation of observer error-rates using the EM
        algorithm", Appl. Statist. 28(1). Started from the shares of the votes.
    """
    if not len(items) == len(judges) == len(labels):
        raise DataError(f"{len(items)} items, {len(judges)} judges, {len(labels)} labels")
    if len(items) == 0:
        raise DataError("there are no votes")
    if not 0 < smoothing < math.inf:
        raise DataError(f"smoothing is {smoothing}, not positive")
    item, judge, label = (cluster_numbers(names, len(names)) for names in (items, judges, labels))
    shape = (int(item.max()) + 1, int(label.max()) + 1)
    posterior = np.zeros(shape)
    np.add.at(posterior, (item, label), 1.0)
    posterior /= posterior.sum(axis=1, keepdims=True)

    n_judges = int(judge.max()) + 1
    for rounds in range(1, most_rounds + 1):
        prior = posterior.mean(axis=0)
        confusion = _confusion(posterior[item], judge, label, n_judges, smoothing)
        evidence = np.log(confusion)[judge, :, label]
        log_odds = np.column_stack(
            [np.bincount(item, weights=column, minlength=shape[0]) for column in evidence.T]
        )
        # A label that no item has any more is out for good: log 0 is meant.
        with np.errstate(divide="ignore"):
            log_odds += np.log(prior)
        moved = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
        moved /= moved.sum(axis=1, keepdims=True)
        change = float(np.abs(moved - posterior).max())
        posterior = moved
        if change <= tolerance:
            return DawidSkene(
                _distinct(items),
                _distinct(judges),
                _distinct(labels),
                posterior,
                prior,
                confusion,
                rounds,
            )
    raise DataError(f"the posteriors still move by {change:.2g} after {most_rounds} rounds")


def _confusion(
    truth: Floats, judge: Whole, label: Whole, n_judges: int, smoothing: float
) -> Floats:
    """P(judge says column | truth is row) from the votes' shares of truth, shape (n, labels)."""
    n_labels = truth.shape[1]
    cell = judge * n_labels + label
    counts = [np.bincount(cell, weights=share, minlength=n_judges * n_labels) for share in truth.T]
    said = np.reshape(counts, (n_labels, n_judges, n_labels)).transpose(1, 0, 2) + smoothing
    return np.asarray(said / said.sum(axis=2, keepdims=True), dtype=np.float64)


def _distinct(names: Sequence[Hashable]) -> tuple[Hashable, ...]:
    return tuple(dict.fromkeys(names))


def _table(votes: ArrayLike) -> Floats:
    try:
        table = np.asarray(votes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"votes are not numbers: {error}") from error
    if table.ndim != 2 or table.size == 0:
        raise DataError(f"votes have shape {table.shape}, not (items, members)")
    if np.any((table < 0) | (table > 1)):
        raise DataError("a vote lies outside [0, 1]")
    return table


def _correlation(a: Floats, b: Floats) -> float | None:
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    if a.size < 2 or np.ptp(a) < _ROUNDING or np.ptp(b) < _ROUNDING:
        return None
    return float(np.corrcoef(a, b)[0, 1])
