from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.rewards.groups import circulant_pairs, group_rewards


@given(st.integers(2, 24), st.integers(1, 30))
def test_everyone_meets_as_many_as_asked(n: int, opponents: int) -> None:
    pairs = circulant_pairs(n, opponents)
    assert len(set(pairs)) == len(pairs)
    assert all(0 <= i < j < n for i, j in pairs)
    met = Counter(i for pair in pairs for i in pair)
    wanted = min(opponents, n - 1)
    assert set(met.values()) <= {wanted, wanted + 1}
    assert len(met) == n
    if n * wanted % 2 == 0:
        assert set(met.values()) == {wanted}
    else:
        assert sum(met.values()) == n * wanted + 1


def test_one_response_meets_nobody() -> None:
    assert circulant_pairs(1) == []
    assert circulant_pairs(1, 3) == []


def test_the_mean_over_the_others() -> None:
    assert group_rewards([1, 1, 1], {(0, 1): 0.9, (0, 2): 0.7, (1, 2): 0.5}) == pytest.approx(
        [0.6, 2 * (0.1 + 0.5) / 2 - 1, 2 * (0.3 + 0.5) / 2 - 1]
    )


def test_copies_tie_with_each_other_and_count_as_often_as_they_occur() -> None:
    rewards = group_rewards([3, 1], {(0, 1): 1.0})
    # three copies: each met two ties and one loser; the loser met three winners
    assert rewards == pytest.approx([2 * (0.5 + 0.5 + 1.0) / 3 - 1, -1.0])
    # so the sum over all completions is zero, as without copies
    assert 3 * rewards[0] + rewards[1] == pytest.approx(0.0)
    assert group_rewards([4], {}) == [0.0]


@pytest.mark.parametrize("strength", ["mean", "bradley-terry"])
def test_what_was_not_read_is_no_reward(strength: str) -> None:
    outcomes = {(0, 1): 0.9, (0, 2): 0.8, (0, 3): None, (1, 2): 0.5, (1, 3): None, (2, 3): None}
    rewards = group_rewards([1, 1, 1, 1], outcomes, strength)  # type: ignore[arg-type]
    assert rewards[3] is None
    assert all(r is not None for r in rewards[:3])
    assert group_rewards([1, 1], {(0, 1): None}, strength) == [None, None]  # type: ignore[arg-type]
    assert group_rewards([1], {}, strength) == [None]  # type: ignore[arg-type]


def test_strengths_do_not_punish_strong_opponents() -> None:
    # 1 only met the best, 2 only met the worst; all four are joined
    outcomes = {(0, 1): 0.6, (0, 3): 0.95, (2, 3): 0.6}
    mean = group_rewards([1] * 4, outcomes)
    fitted = group_rewards([1] * 4, outcomes, "bradley-terry")
    assert mean[1] is not None
    assert mean[2] is not None
    assert mean[1] < mean[2]
    assert fitted[1] is not None
    assert fitted[2] is not None
    assert fitted[1] > fitted[2]


def test_strengths_that_are_not_joined_to_most_are_no_reward() -> None:
    made = group_rewards([1] * 5, {(0, 1): 0.7, (1, 2): 0.7, (3, 4): 0.7}, "bradley-terry")
    assert [one is None for one in made] == [False, False, False, True, True]
    split = group_rewards([1] * 4, {(0, 1): 0.7, (2, 3): 0.7}, "bradley-terry")
    assert split == [None] * 4


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6), st.permutations(range(4)))
def test_renaming_permutes_rewards(values: list[float], order: list[int]) -> None:
    outcomes = dict(zip(circulant_pairs(4), values, strict=True))
    renamed = {}
    for (i, j), p in outcomes.items():
        a, b = order[i], order[j]
        renamed[(a, b) if a < b else (b, a)] = p if a < b else 1 - p
    for strength in ("mean", "bradley-terry"):
        one = group_rewards([1] * 4, outcomes, strength)  # type: ignore[arg-type]
        other = group_rewards([1] * 4, renamed, strength)  # type: ignore[arg-type]
        assert [other[order[i]] for i in range(4)] == pytest.approx(one, abs=1e-6)
