"""What a leaderboard can tell apart, and how far two leaderboards agree.

    from rlaif.stats.ranks import rank_intervals, separability

    low, high = [0.6, 0.5, 0.1], [0.8, 0.7, 0.3]          # intervals of three models
    assert separability(low, high).value == 2 / 3          # the first two overlap
    assert rank_intervals(low, high)[0].tolist() == [1, 1, 3]

Scores are oriented so that higher is better throughout.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import cluster_numbers, clustered_se, finite_vector, t_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Form = Literal["paper", "notebook"]

ELO_PER_NAT = 400 / math.log(10)
"""Elo-style points per nat of strength: 173.7."""


@dataclass(frozen=True, slots=True)
class PairShare:
    """A figure averaged over pairs of models."""

    value: float
    pairs: int
    """Pairs that the average is over."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The mean difference of two models over the same prompts, in the units of their scores."""

    value: float
    se: float
    z: float
    """value / se; infinite where the difference is the same on every prompt."""
    p_value: float
    """Two-sided, Student's t on n_prompts - 1 degrees of freedom."""
    low: float
    high: float
    n: int
    """Rows."""
    n_prompts: int
    level: float


def elo(strengths: ArrayLike, *, anchor: float = 1000.0, at: int | None = None) -> Floats:
    """Elo-style ratings: anchor + 400 / ln 10 per nat, shape (n,). A rescale and nothing else.

    Args:
        strengths: Shape (n,), nats.
        anchor: Rating of a model of strength 0, or of model `at`.
        at: Index of the model that `anchor` rates; None takes strength 0.

    Raises:
        DataError: there are no strengths, one is not finite, or `at` is no index.
    """
    nats = finite_vector(strengths)
    if at is None:
        return np.asarray(anchor + ELO_PER_NAT * nats)
    if not 0 <= at < nats.size:
        raise DataError(f"there is no model {at} among {nats.size}")
    return np.asarray(anchor + ELO_PER_NAT * (nats - nats[at]))


def rank_intervals(low: ArrayLike, high: ArrayLike) -> tuple[Ints, Ints]:
    """The best and the worst rank each model may have, from 1, shape (n,) each.

    Best rank: 1 + how many models lie surely above; worst: n - how many lie surely below. With
    simultaneous intervals at a level, all these ranks hold together at that level.

    Args:
        low: Shape (n,), lower ends of the intervals.
        high: Shape (n,), upper ends.

    Raises:
        DataError: the ends differ in number, are not finite, or a low end lies above its high end.

    Reference:
        Chiang et al. 2024, "Chatbot Arena" (2403.04132), section 5 (best ranks).
    """
    lower, upper = _ends(low, high)
    above = lower[None, :] > upper[:, None]  # [m, k]: k lies surely above m
    return 1 + above.sum(axis=1), lower.size - above.sum(axis=0)


def separability(low: ArrayLike, high: ArrayLike) -> PairShare:
    """The share of model pairs whose intervals do not overlap, in [0, 1].

    Args:
        low: Shape (n,), lower ends of the intervals.
        high: Shape (n,), upper ends.

    Raises:
        DataError: as `rank_intervals`, or there is one model.

    Reference:
        Li et al. 2024, "Arena-Hard" (2406.11939), section 3.
    """
    order = _order(*_ends(low, high))
    return PairShare(float(np.abs(order).mean()), order.size)


def agreement_with_confidence(
    low: ArrayLike,
    high: ArrayLike,
    reference_low: ArrayLike,
    reference_high: ArrayLike,
    *,
    form: Form = "paper",
) -> PairShare:
    """How far two leaderboards of the same models order the same pairs with confidence.

    Args:
        low: Shape (n,), lower ends of our intervals.
        high: Shape (n,), upper ends.
        reference_low: Shape (n,), lower ends of the reference's intervals.
        reference_high: Shape (n,), upper ends.
        form: `paper`: mean over all pairs of 1 where both separate it in the same order, -1 in
            opposite order, 0 else; in [-1, 1]. `notebook`: mean over the pairs that the reference
            separates of 1 same, 0.5 not separated by ours, 0 opposite; in [0, 1].

    Raises:
        DataError: as `separability`; the leaderboards differ in length; `form` is unknown; or the
            notebook's form finds no pair that the reference separates.

    Reference:
        Li et al. 2024, "Arena-Hard" (2406.11939), section 3, and its released notebook.
    """
    if form not in get_args(Form):
        raise DataError(f"form is {form!r}, not one of {', '.join(get_args(Form))}")
    ours, theirs = _order(*_ends(low, high)), _order(*_ends(reference_low, reference_high))
    if ours.size != theirs.size:
        raise DataError("the two leaderboards have different numbers of models")
    if form == "paper":
        return PairShare(float((ours * theirs).mean()), ours.size)
    sure = theirs != 0
    if not sure.any():
        raise DataError("the reference separates no pair of models")
    return PairShare(float(((1 + ours * theirs)[sure] / 2).mean()), int(sure.sum()))


def pair_rank_brier(means: ArrayLike, variances: ArrayLike, reference: ArrayLike) -> PairShare:
    """How well a leaderboard forecasts the order of pairs: 0 perfect, 0.25 a coin, 1 all wrong.

    Mean over pairs of (P(a below b) - 1[a below b in the reference])^2, with P(a below b) =
    Phi((m_b - m_a) / sqrt(v_a + v_b)). A pair that the reference ties counts 0.5 for its outcome.

    Args:
        means: Shape (n,), our scores.
        variances: Shape (n,), their squared standard errors.
        reference: Shape (n,), the reference's scores; only their order matters.

    Raises:
        DataError: the shapes differ, a value is not finite, a variance is negative, or there is
            one model.

    Reference:
        Li et al. 2024, "Arena-Hard" (2406.11939), section 3.
    """
    m, v, r = finite_vector(means), finite_vector(variances), finite_vector(reference)
    if not m.size == v.size == r.size:
        raise DataError(f"{m.size} means, {v.size} variances, {r.size} reference scores")
    if v.min() < 0:
        raise DataError("a variance is negative")
    a, b = _pairs(m.size)
    gap, spread = m[b] - m[a], np.sqrt(v[a] + v[b])
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(spread > 0, gap / spread, np.sign(gap) * np.inf)
    z = np.where((spread == 0) & (gap == 0), 0.0, z)
    below = np.array([NormalDist().cdf(value) for value in z])
    outcome = (1 + np.sign(r[b] - r[a])) / 2
    return PairShare(float(((below - outcome) ** 2).mean()), a.size)


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation, in [-1, 1]; equal values share their mean rank.

    Raises:
        DataError: the lengths differ, a value is not finite, or all values of a side are equal.
    """
    from scipy.stats import spearmanr

    return float(spearmanr(*_two_rankings(a, b)).statistic)


def kendall_tau(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b, in [-1, 1]: pairs in the same order minus opposite ones, ties corrected.

    Raises:
        DataError: the lengths differ, a value is not finite, or all values of a side are equal.

    Reference:
        Kendall 1945, "The treatment of ties in ranking problems", Biometrika 33(3).
    """
    from scipy.stats import kendalltau

    return float(kendalltau(*_two_rankings(a, b), variant="b").statistic)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
) -> PairedDifference:
    """The mean of a - b over the same rows, with what a prompt's rows share taken out.

    Two models on the same prompts rise and fall together, so their intervals may overlap where
    the difference is sure.

    Args:
        a: Shape (n,), scores or outcomes of the first model.
        b: Shape (n,), of the second on the same rows in the same order.
        clusters: The prompt of each row, length n; None takes each row as a prompt of its own.
        level: Confidence of the interval.

    Raises:
        DataError: the lengths differ, a value is not finite, there is one prompt, or `level` lies
            outside (0, 1).
    """
    from scipy.special import stdtr

    first, second = finite_vector(a), finite_vector(b)
    if first.size != second.size:
        raise DataError(f"{first.size} values against {second.size}")
    gap = first - second
    numbers = cluster_numbers(clusters, gap.size)
    n_prompts = int(numbers.max()) + 1
    value, se = float(gap.mean()), clustered_se(gap, numbers)
    z = value / se if se > 0 else math.copysign(math.inf, value) if value else 0.0
    half = t_quantile(level, n_prompts) * se
    p_value = 2 * float(stdtr(n_prompts - 1, -abs(z)))
    return PairedDifference(
        value, se, z, p_value, value - half, value + half, gap.size, n_prompts, level
    )


def cyclic_triples(wins: ArrayLike) -> PairShare:
    """The share of triples of models where each beats the next, of those that all met; in [0, 1].

    One number of strength a model cannot say so: a share well above that of chance (0.25) times
    the closeness of the models is a reason to distrust a ranking. A tied pair makes no cycle.

    Args:
        wins: Shape (n, n). `wins[i, j]` counts wins of i over j; a tie adds 0.5 both ways.

    Raises:
        DataError: the table is not square or not finite, or no three models all met.
    """
    table = np.asarray(wins, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not np.isfinite(table).all():
        raise DataError(f"a table of wins is finite of shape (n, n), not {table.shape}")
    beats = (table > table.T).astype(np.float64)
    met = ((table + table.T) > 0).astype(np.float64)
    np.fill_diagonal(met, 0.0)
    # tr(M^3) walks each triangle 3 times in each of 2 directions; a cycle goes in one.
    triples = round(float(np.trace(met @ met @ met)) / 6)
    if triples == 0:
        raise DataError("no three models all met one another")
    cycles = round(float(np.trace(beats @ beats @ beats)) / 3)
    return PairShare(cycles / triples, triples)


def _ends(low: ArrayLike, high: ArrayLike) -> tuple[Floats, Floats]:
    lower, upper = finite_vector(low), finite_vector(high)
    if lower.size != upper.size:
        raise DataError(f"{lower.size} lower ends, {upper.size} upper ends")
    if (lower > upper).any():
        raise DataError("a lower end lies above its upper end")
    return lower, upper


def _pairs(n: int) -> tuple[Ints, Ints]:
    if n < 2:
        raise DataError("one model makes no pair")
    return np.triu_indices(n, 1)


def _order(low: Floats, high: Floats) -> NDArray[np.int64]:
    """For each pair of models: 1 where the first lies surely above, -1 surely below, 0 else."""
    a, b = _pairs(low.size)
    return (low[a] > high[b]).astype(np.int64) - (low[b] > high[a]).astype(np.int64)


def _two_rankings(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    first, second = finite_vector(a), finite_vector(b)
    if first.size != second.size:
        raise DataError(f"{first.size} values against {second.size}")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise DataError("all values are equal: they rank nothing")
    return first, second
