"""A judge's scores against people's ratings, on numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from rlaif.errors import DataError, SpecError
from rlaif.evals.human_labels import LabeledRun
from rlaif.evals.score_agreement import agree, score_agreement
from tests.unit.evals.records import grade, pair

JUDGE = [4, 2, 5, 3]
ANNA = [4, 3, 5, 1]
BEN = [4, 3, 4, 1]


def run(*people: list[float], judge: list[float] | None = None, **more: Any) -> LabeledRun:
    made = LabeledRun()
    for n, value in enumerate(judge or JUDGE):
        made.add_judged(grade(f"q{n}", "m", value, **more))
    for who, values in zip(("human/anna", "human/ben"), people, strict=False):
        for n, value in enumerate(values):
            made.add_label(grade(f"q{n}", "m", value, judge=who, **more))
    return made


def test_scores_meet_ratings() -> None:
    found = score_agreement(run(ANNA), rounds=50)
    assert (found["n"], found["prompts"], found["coverage"]) == (4, 4, 1.0)
    assert found["agreement"] == 0.5
    assert found["difference"] == pytest.approx(0.25)
    assert found["absolute_difference"] == 0.75
    assert found["spearman"] == pytest.approx(0.8)
    assert found["kendall"] == pytest.approx(2 / 3)
    # deviations of the judge .5 -1.5 1.5 -.5, of anna .75 -.25 1.75 -2.25
    assert found["pearson"] == pytest.approx(4.5 / (5 * 8.75) ** 0.5)
    # 1 - mean squared difference / (both variances + squared difference of means)
    assert found["kappa"] == pytest.approx(1 - (5 / 4) / (5 / 4 + 8.75 / 4 + 0.0625))
    assert found["alpha"] is None


def test_several_people_meet_each_score_and_each_other() -> None:
    found = score_agreement(run(ANNA, BEN), rounds=50)
    assert (found["n"], found["agreement"]) == (8, 3 / 8)
    assert found["alpha"] > 0.9
    assert found["alpha_low"] <= found["alpha"] <= found["alpha_high"]
    assert score_agreement(run(ANNA, BEN), voters="human/anna", rounds=50)["n"] == 4


def test_pass_or_fail_agrees_on_one_side_of_the_middle() -> None:
    made = run([1, 0, 1, 0], judge=[0.9, 0.4, 0.2, 0.5], scale=(0, 1))
    assert score_agreement(made, rounds=50)["agreement"] == 0.5


@pytest.mark.parametrize("low", [0.0, 1.0, -1.0, 4.5])
def test_a_scale_of_two_levels_has_its_middle_wherever_it_begins(low: float) -> None:
    levels = [low, low + 0.4, low + 0.5, low + 1]
    found = [[bool(agree(x, y, low, low + 1)) for y in levels] for x in levels]
    assert found == [[True, True, False, False]] * 2 + [[False, False, True, True]] * 2
    made = run([low, low + 1], judge=[low, low], scale=(low, low + 1))
    assert score_agreement(made, rounds=50)["agreement"] == 0.5


def test_what_cannot_be_held_together_is_refused() -> None:
    other = run()
    other.add_label(grade("elsewhere", "m", 3, judge="human/anna"))
    with pytest.raises(DataError, match="share no response"):
        score_agreement(other)
    twice = run(ANNA)
    twice.add_judged(grade("q0", "m", 1))
    with pytest.raises(DataError, match="several responses of one model"):
        score_agreement(twice)
    pairs = LabeledRun()
    pairs.add_judged(pair("q1", "m1", "m2", "A"))
    with pytest.raises(SpecError, match="no scores"):
        pairs.scores()
