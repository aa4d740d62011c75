import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.stats.agreement import accuracy, cohen_kappa, wilson


# Newcombe 1998, Statist. Med. 17: 857-872, table I, method 3.
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_matches_published_intervals(k, n, low, high):
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(counts):
    k, n = counts
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert low < high
    other_low, other_high = wilson(n - k, n)
    assert (other_low, other_high) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_widens_with_its_level():
    assert wilson(7, 10, 0.99)[0] < wilson(7, 10, 0.9)[0]
    assert wilson(7, 10, 0.99)[1] > wilson(7, 10, 0.9)[1]


@pytest.mark.parametrize(
    ("k", "n"), [(0, 0), (1, -3), (-1, 5), (6, 5), (math.nan, 5), (1, math.nan), (1, math.inf)]
)
def test_wilson_refuses_impossible_counts(k, n):
    with pytest.raises(DataError):
        wilson(k, n)


def test_wilson_refuses_an_impossible_level():
    with pytest.raises(DataError, match="level"):
        wilson(1, 2, 1.0)


def test_accuracy_counts_a_tie_as_half():
    result = accuracy(34.5, 60)
    assert (result.value, result.n, result.level) == (0.575, 60, 0.95)
    assert (result.low, result.high) == wilson(34.5, 60)


def test_accuracy_of_nothing_is_no_number():
    with pytest.raises(DataError):
        accuracy(0, 0)


def test_kappa_of_the_wikipedia_example():
    # 50 grant proposals: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no. po 0.7, pe 0.5.
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(a, b) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("table", "kappa"), [((45, 15, 25, 15), 0.1304), ((25, 35, 5, 35), 0.2593)]
)
def test_kappa_differs_at_equal_agreement(table, kappa):
    # Wikipedia, "Same percentages but different numbers": both agree on 60 of 100.
    both_yes, a_only, b_only, both_no = table
    a = ["yes"] * (both_yes + a_only) + ["no"] * (b_only + both_no)
    b = ["yes"] * both_yes + ["no"] * a_only + ["yes"] * b_only + ["no"] * both_no
    assert cohen_kappa(a, b) == pytest.approx(kappa, abs=5e-5)


def test_kappa_at_its_marks():
    assert cohen_kappa("ABAB", "ABAB") == 1
    assert cohen_kappa("AABB", "ABAB") == 0
    assert cohen_kappa("AB", "BA") == -1
    assert cohen_kappa("AAAA", "BBBB") == 0


LABELS = st.lists(st.sampled_from(["A", "B", "tie"]), min_size=1, max_size=40)


@given(LABELS, st.randoms(use_true_random=False))
def test_kappa_ignores_names_and_order_of_raters(a, random):
    b = [random.choice(["A", "B", "tie"]) for _ in a]
    if len(set(a) | set(b)) == 1:
        return
    renamed = {"A": 1, "B": 2, "tie": 3}
    expected = cohen_kappa(a, b)
    assert cohen_kappa(b, a) == expected
    assert cohen_kappa([renamed[x] for x in a], [renamed[x] for x in b]) == expected
    assert -1 <= expected <= 1


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [([], [], "no labels"), ("A", "AB", "1 labels against 2"), ("AA", "AA", "undefined")],
)
def test_kappa_refuses_what_it_cannot_measure(a, b, message):
    with pytest.raises(DataError, match=message):
        cohen_kappa(a, b)
