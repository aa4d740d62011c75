from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.judge.grades import Grade
from rlaif.judge.scales import CriterionScore, aggregate_grades, as_reward, combined_score, mode
from rlaif.types import Score
from tests.builders import criterion

LEVELS = st.lists(st.integers(1, 5), min_size=1, max_size=9)


def _given(*levels: int) -> list[Grade]:
    return [Grade(level, float(level)) for level in levels]


def _found(**values: float) -> dict[str, CriterionScore]:
    return {name: CriterionScore(value, None, None, 1) for name, value in values.items()}


def test_one_grade_stays_as_it_is() -> None:
    grade = Grade(4, 4.3, {"4": 0.7, "5": 0.3}, 0.1)
    one = aggregate_grades([grade])
    assert (one.value, one.distribution, one.missing_mass) == (4.3, {"4": 0.7, "5": 0.3}, 0.1)
    assert aggregate_grades([grade], "mode").value == 4.0
    assert aggregate_grades(_given(3), "mode").value == 3.0


@given(LEVELS)
def test_draws_are_counted(levels: list[int]) -> None:
    found = aggregate_grades(_given(*levels))
    assert found.value == pytest.approx(sum(levels) / len(levels))
    assert found.draws == len(levels)
    if len(levels) > 1:
        assert found.distribution is not None
        assert sum(found.distribution.values()) == pytest.approx(1.0)
        assert list(found.distribution) == sorted(found.distribution, key=int)


def test_draws_with_probabilities_are_averaged() -> None:
    soft = Grade(4, 4.5, {"4": 0.5, "5": 0.5}, 0.2)
    found = aggregate_grades([soft, Grade(2, 2.0)])
    assert found.distribution == pytest.approx({"2": 0.5, "4": 0.25, "5": 0.25})
    assert found.value == pytest.approx(3.25)
    assert found.missing_mass == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("levels", "likeliest"), [((5, 5, 1), 5.0), ((1, 5), 3.0), ((1, 2, 5, 5, 2), 3.5)]
)
def test_the_mode_favors_no_level_of_equally_likely_ones(
    levels: tuple[int, ...], likeliest: float
) -> None:
    assert aggregate_grades(_given(*levels), "mode").value == likeliest


def test_the_mode_of_a_distribution() -> None:
    assert mode({"1": 0.3, "10": 0.5, "2": 0.2}) == 10.0


def test_two_levels_are_pass_or_fail() -> None:
    for low in (0, 1):
        grade = Grade(low, low + 0.3, {str(low): 0.7, str(low + 1): 0.3}, 0.05)
        one = criterion("right", low, low + 1)
        score = combined_score([one], {"right": aggregate_grades([grade])})
        assert score.value == pytest.approx(0.3)
        assert (score.min, score.max, score.missing_mass) == (0.0, 1.0, 0.05)
        assert score.criteria is not None
        assert score.criteria["right"]["min"] == low


def test_the_worst_missing_mass_is_the_scores() -> None:
    criteria = (criterion("facts", weight=0.75), criterion("tone", weight=0.25))
    found = {
        "facts": CriterionScore(5.0, {"5": 1.0}, 0.1, 1),
        "tone": CriterionScore(1.0, {"1": 1.0}, 0.4, 3),
    }
    score = combined_score(criteria, found)
    assert (score.value, score.missing_mass) == (4.0, 0.4)
    assert score.criteria is not None
    assert score.criteria["tone"] == {
        "value": 1.0, "min": 1, "max": 5, "weight": 0.25,
        "distribution": {"1": 1.0}, "missing_mass": 0.4, "draws": 3,
    }  # fmt: skip


@given(st.permutations(["a", "b", "c", "d"]), st.data())
def test_the_order_of_criteria_does_not_change_the_score(names: list[str], data) -> None:
    weights = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    values = {n: data.draw(st.floats(1, 5)) for n in weights}
    made = {n: criterion(n, weight=w) for n, w in weights.items()}
    one = combined_score([made[n] for n in weights], _found(**values))
    other = combined_score([made[n] for n in names], _found(**values))
    assert one.value == pytest.approx(other.value)


@pytest.mark.parametrize(
    ("value", "low", "high", "reward"),
    [(1, 1, 10, -1.0), (10, 1, 10, 1.0), (5.5, 1, 10, 0.0), (8, 1, 10, 2.5 / 4.5), (1, 0, 1, 1.0)],
)
def test_a_score_as_a_reward(value: float, low: float, high: float, reward: float) -> None:
    assert as_reward(Score(value, low, high)) == pytest.approx(reward)


def test_a_reward_between_other_bounds() -> None:
    assert as_reward(Score(3, 1, 5), 0.0, 10.0) == pytest.approx(5.0)
