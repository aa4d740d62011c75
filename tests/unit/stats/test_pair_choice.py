"""The choice of pairs, and when an order is settled."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rlaif.errors import DataError
from rlaif.stats.numeric import sigmoid
from rlaif.stats.pair_choice import Standing, top


def table(n: int, seed: int, noise: float = 0.5) -> np.ndarray:
    """P(row preferred to column) of a Bradley-Terry judge whose log-odds are noisy."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(0, 1.5, n)
    p = sigmoid(strength[:, None] - strength[None, :] + rng.normal(0, noise, (n, n)))
    upper = np.triu(p, 1)
    return upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(n)


def played(n: int, truth: np.ndarray, pairs: object) -> Standing:
    standing = Standing(n)
    for i, j in pairs:
        standing.add(i, j, truth[i, j])
    return standing


def test_a_whole_round_robin_orders_by_row_sums_and_leaves_no_risk() -> None:
    truth = table(9, 3)
    standing = played(9, truth, combinations(range(9), 2))
    assert standing.order().tolist() == np.argsort(-truth.sum(axis=1)).tolist()
    assert standing.risk("all") == 0.0
    assert standing.strengths.sum() == pytest.approx(0.0, abs=1e-9)
    assert standing.choose(3, np.random.default_rng(0)) == []


def test_strengths_are_near_the_log_odds_of_one_sure_pair() -> None:
    standing = Standing(2)
    standing.add(0, 1, 0.9)
    gap = standing.strengths[0] - standing.strengths[1]
    assert 1.8 < gap < np.log(9)  # the prior draws it in, a little


def test_relabeling_candidates_permutes_strengths_and_risk() -> None:
    truth, order = table(6, 1), [3, 0, 5, 1, 4, 2]
    pairs = [(0, 1), (2, 3), (4, 5), (1, 2), (3, 4)]
    one = played(6, truth, pairs)
    other = Standing(6)
    for i, j in pairs:
        other.add(order[i], order[j], truth[i, j])
    assert other.strengths[order] == pytest.approx(one.strengths, abs=1e-9)
    for settle in ("all", "top1", "top3"):
        assert other.risk(settle) == pytest.approx(one.risk(settle), abs=1e-9)


def test_no_candidate_is_in_two_pairs_of_a_round_and_no_pair_is_asked_twice() -> None:
    truth, rng, standing = table(7, 2), np.random.default_rng(0), Standing(7)
    asked: set[frozenset[int]] = set()
    while pairs := standing.choose(3, rng):
        assert len({k for pair in pairs for k in pair}) == 2 * len(pairs)
        for i, j in pairs:
            assert frozenset((i, j)) not in asked
            asked.add(frozenset((i, j)))
            standing.add(i, j, None if len(asked) == 4 else truth[i, j])
    assert len(asked) == 21
    assert standing.met.sum() == 40


def test_a_close_pair_promises_more_than_a_clear_one() -> None:
    standing = Standing(4)
    for i, j, p in ((0, 2, 0.95), (1, 2, 0.95), (2, 3, 0.95)):
        standing.add(i, j, p)
    assert {*standing.choose(1, np.random.default_rng(0))[0]} == {0, 1}


def test_dispersion_tells_coins_from_a_table_without_noise() -> None:
    exact = played(12, table(12, 5, noise=0.0), combinations(range(12), 2))
    assert exact.dispersion < 0.05
    rng = np.random.default_rng(1)
    coins = (rng.random((12, 12)) < table(12, 5, noise=0.0)).astype(float)
    assert played(12, coins, combinations(range(12), 2)).dispersion > 0.5


def test_the_order_that_is_called_settled_is_that_of_the_round_robin() -> None:
    right, asked = 0, 0
    for seed in range(30):
        truth, rng, standing = table(8, seed), np.random.default_rng(seed), Standing(8)
        while standing.risk("top1") > 0.05:
            for i, j in standing.choose(1, rng):
                standing.add(i, j, truth[i, j])
                asked += 1
        right += standing.order()[0] == truth.sum(axis=1).argmax()
    assert right >= 28
    assert asked < 30 * 20


def test_groups_fall_apart_where_nothing_joins_them() -> None:
    standing = played(4, table(4, 0), [(0, 1), (2, 3)])
    standing.add(1, 2, None)
    first, second, third, fourth = standing.groups
    assert (first == second, third == fourth, first == third) == (True, True, False)


@pytest.mark.parametrize("pair", [(0, 0), (0, 3), (-1, 1)])
def test_what_is_no_pair_is_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="no pair"):
        Standing(3).add(*pair, 0.5)


def test_wrong_numbers_are_refused() -> None:
    standing = Standing(3)
    with pytest.raises(DataError, match="no probability"):
        standing.add(0, 1, 1.2)
    standing.add(0, 1, 0.5)
    with pytest.raises(DataError, match="asked before"):
        standing.add(1, 0, 0.5)
    with pytest.raises(DataError, match="make no pair"):
        Standing(1)
    with pytest.raises(DataError, match="prior variance"):
        Standing(2, prior_variance=0.0)


@pytest.mark.parametrize("settle", ["top", "top0", "best", "top-1", "top²"])
def test_an_unknown_part_of_the_order_is_refused(settle: str) -> None:
    with pytest.raises(DataError, match="settle is"):
        top(settle, 5)


def test_top_k_must_leave_somebody_below() -> None:
    assert top("top4", 5) == 4
    with pytest.raises(DataError, match="5 candidates"):
        top("top5", 5)
