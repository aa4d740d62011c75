import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlaif.errors import DataError
from rlaif.stats.ranks import (
    ELO_PER_NAT,
    agreement_with_confidence,
    cyclic_triples,
    elo,
    kendall_tau,
    pair_rank_brier,
    paired_difference,
    rank_intervals,
    separability,
    spearman,
)

ends = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda x: (x[0], x[0] + x[1])),
    min_size=2,
    max_size=7,
).map(lambda rows: tuple(np.array(column, float) for column in zip(*rows, strict=True)))


def test_elo_is_a_rescale():
    assert elo([0.0, math.log(10)]).tolist() == pytest.approx([1000, 1400])
    assert elo([1.0, 2.0], anchor=1500, at=1).tolist() == pytest.approx([1500 - ELO_PER_NAT, 1500])
    with pytest.raises(DataError, match="there is no model 2 among 2"):
        elo([1.0, 2.0], at=2)


def test_ranks_of_overlapping_intervals():
    best, worst = rank_intervals([0.6, 0.5, 0.1], [0.8, 0.7, 0.3])
    assert best.tolist() == [1, 1, 3]
    assert worst.tolist() == [2, 2, 3]


@given(ends)
def test_ranks_and_separability_by_counting(intervals):
    low, high = intervals
    n = low.size
    best, worst = rank_intervals(low, high)
    for m in range(n):
        assert best[m] == 1 + sum(low[k] > high[m] for k in range(n))
        assert worst[m] == n - sum(high[k] < low[m] for k in range(n))
    apart = [low[a] > high[b] or low[b] > high[a] for a, b in combinations(range(n), 2)]
    assert separability(low, high) == (
        type(separability(low, high))(pytest.approx(np.mean(apart)), len(apart))
    )


def test_agreement_with_confidence_by_hand():
    # Pairs (0,1) and (0,2) are separated in the same order, (1,2) in opposite orders; reference
    # also separates 3 from all, which we do not.
    low, high = [9, 5, 1, 0], [10, 6, 2, 11]
    reference_low, reference_high = [9, 1, 5, 20], [10, 2, 6, 21]
    paper = agreement_with_confidence(low, high, reference_low, reference_high)
    assert (paper.value, paper.pairs) == (pytest.approx((1 + 1 - 1) / 6), 6)
    notebook = agreement_with_confidence(low, high, reference_low, reference_high, form="notebook")
    assert (notebook.value, notebook.pairs) == (pytest.approx((1 + 1 + 0 + 3 * 0.5) / 6), 6)


def test_pairs_that_the_reference_does_not_separate_leave_the_notebook_form():
    share = agreement_with_confidence([1, 3, 5], [2, 4, 6], [1, 1, 5], [2, 2, 6], form="notebook")
    assert (share.value, share.pairs) == (1.0, 2)
    with pytest.raises(DataError, match="separates no pair"):
        agreement_with_confidence([1, 3], [2, 4], [1, 1], [2, 2], form="notebook")


def test_a_leaderboard_agrees_with_itself_as_far_as_it_separates():
    low, high = [1, 3, 3.5, 8], [2, 4, 4.5, 9]
    assert agreement_with_confidence(low, high, low, high).value == separability(low, high).value
    flipped = [-x for x in high], [-x for x in low]
    assert agreement_with_confidence(low, high, *flipped).value == -5 / 6


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1], [2], [1], [2]), {}, "one model makes no pair"),
        (([1, 2], [2], [1, 2], [2, 3]), {}, "2 lower ends, 1 upper ends"),
        (([1, 5], [2, 3], [1, 2], [2, 3]), {}, "lies above its upper end"),
        (([1, 2], [2, 3], [1, 2, 3], [2, 3, 4]), {}, "different numbers of models"),
        (([1, 2], [2, 3], [1, 2], [2, 3]), {"form": "arena"}, "form is 'arena'"),
    ],
)
def test_leaderboards_that_do_not_compare(arguments, options, message):
    with pytest.raises(DataError, match=message):
        agreement_with_confidence(*arguments, **options)


def test_pair_rank_brier_by_hand():
    means, variances, reference = [0.2, 0.5, 0.9], [0.01, 0.03, 0.0], [1, 3, 2]
    p = [
        stats.norm.cdf(0.3 / math.sqrt(0.04)),
        stats.norm.cdf(0.7 / 0.1),
        stats.norm.cdf(0.4 / math.sqrt(0.03)),
    ]
    expected = np.mean([(p[0] - 1) ** 2, (p[1] - 1) ** 2, p[2] ** 2])
    brier = pair_rank_brier(means, variances, reference)
    assert (brier.value, brier.pairs) == (pytest.approx(expected, abs=1e-12), 3)


def test_pair_rank_brier_without_spread():
    assert pair_rank_brier([1, 2, 3], [0, 0, 0], [1, 2, 3]).value == 0
    assert pair_rank_brier([3, 2, 1], [0, 0, 0], [1, 2, 3]).value == 1
    assert pair_rank_brier([1, 1], [0, 0], [1, 2]).value == 0.25
    assert pair_rank_brier([1, 2], [0, 0], [1, 1]).value == 0.25
    with pytest.raises(DataError, match="variance is negative"):
        pair_rank_brier([1, 2], [0, -1], [1, 2])
    with pytest.raises(DataError, match="2 means, 1 variances, 2 reference scores"):
        pair_rank_brier([1, 2], [0], [1, 2])


pairs_of_numbers = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=12
).filter(lambda rows: all(len(set(column)) > 1 for column in zip(*rows, strict=True)))


@given(pairs_of_numbers)
def test_rank_correlations_by_their_definitions(rows):
    a, b = (np.array(column, float) for column in zip(*rows, strict=True))
    ranks = [stats.rankdata(a), stats.rankdata(b)]
    assert spearman(a, b) == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-9)
    signs = [
        (np.sign(a[x] - a[y]), np.sign(b[x] - b[y])) for x, y in combinations(range(a.size), 2)
    ]
    same = sum(x * y for x, y in signs)
    untied = math.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))
    assert kendall_tau(a, b) == pytest.approx(same / untied, abs=1e-9)


@pytest.mark.parametrize("correlation", [spearman, kendall_tau])
def test_rankings_that_have_no_correlation(correlation):
    with pytest.raises(DataError, match="they rank nothing"):
        correlation([1, 1, 1], [1, 2, 3])
    with pytest.raises(DataError, match="2 values against 3"):
        correlation([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match="NaN"):
        correlation([1, math.nan], [1, 2])


def test_paired_difference_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 3, 50)
    a, b = shared + rng.normal(0.3, 1, 50), shared + rng.normal(0, 1, 50)
    ours = paired_difference(a, b)
    theirs = stats.ttest_rel(a, b)
    assert (ours.z, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert (ours.n, ours.n_prompts) == (50, 50)
    unpaired = math.sqrt(a.var(ddof=1) / 50 + b.var(ddof=1) / 50)
    assert ours.se < unpaired / 2


def test_paired_difference_counts_prompts():
    a, b = [1, 1, 0, 1, 0.5, 0.5], [0, 0, 0, 0, 0.5, 0.0]
    ours = paired_difference(a, b, ["p", "p", "q", "q", "r", "r"])
    gaps = np.array([1.0, 0.5, 0.25])  # means of the prompts
    assert ours.value == pytest.approx(gaps.mean())
    assert ours.se == pytest.approx(gaps.std(ddof=1) / math.sqrt(3))
    assert (ours.n, ours.n_prompts) == (6, 3)


def test_a_difference_that_never_varies():
    sure = paired_difference([2, 3, 4], [1, 2, 3])
    assert (sure.value, sure.se, sure.z, sure.p_value) == (1, 0, math.inf, 0)
    same = paired_difference([1, 2], [1, 2])
    assert (same.z, same.p_value) == (0, 1)


def test_differences_that_cannot_be_had():
    with pytest.raises(DataError, match="3 values against 2"):
        paired_difference([1, 2, 3], [1, 2])
    with pytest.raises(DataError, match="one cluster"):
        paired_difference([1, 2], [1, 3], ["p", "p"])


def test_cyclic_triples_by_hand():
    cycle = [[0, 2, 0], [1, 0, 2], [2, 1, 0]]
    assert cyclic_triples(cycle).value == 1
    assert cyclic_triples([[0, 2, 2], [1, 0, 2], [0, 1, 0]]).value == 0
    assert cyclic_triples([[0, 1, 0], [1, 0, 2], [2, 1, 0]]).value == 0  # a tied pair


@given(st.integers(0, 2**20))
def test_cyclic_triples_by_counting(seed):
    rng = np.random.default_rng(seed)
    wins = np.triu(rng.integers(0, 3, (6, 6)), 1) + np.tril(rng.integers(0, 3, (6, 6)), -1)
    met = [
        t
        for t in combinations(range(6), 3)
        if all(wins[a, b] + wins[b, a] for a, b in combinations(t, 2))
    ]
    if not met:
        with pytest.raises(DataError, match="no three models"):
            cyclic_triples(wins)
        return

    def beats(a, b):
        return wins[a, b] > wins[b, a]

    cycles = sum(
        all(beats(x, y) for x, y in [(a, b), (b, c), (c, a)])
        or all(beats(y, x) for x, y in [(a, b), (b, c), (c, a)])
        for a, b, c in met
    )
    found = cyclic_triples(wins)
    assert (found.value, found.pairs) == (pytest.approx(cycles / len(met)), len(met))


def test_cyclic_triples_need_a_table():
    with pytest.raises(DataError, match="finite of shape"):
        cyclic_triples([[0, 1]])
