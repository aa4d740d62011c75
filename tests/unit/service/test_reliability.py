"""How far people can be relied on, on labels where the answer is known by hand."""

from __future__ import annotations

import pytest

from rlaif.evals.people import score_of
from rlaif.service.labels import Choice, Label
from rlaif.service.queues import Said
from rlaif.service.reliability import is_right, judge_share, reliability
from rlaif.types import Score
from tests.builders import criterion


def pair(n: int, name: str, choice: Choice) -> Label:
    return Label(n, name, choice, "AB", "")


def rated(n: int, name: str, level: int) -> Label:
    return Label(n, name, "rated", "AB", "", score_of({"quality": level}, [criterion()]))


def test_pairs_count_ties_and_no_skips() -> None:
    given = [
        pair(1, "anna", "A"), pair(1, "ben", "B"), pair(2, "anna", "bad"), pair(2, "ben", "skip"),
        pair(3, "anna", "B"),
    ]  # fmt: skip
    said = {1: Said("A", 0.9, None), 2: Said("tie", 0.5, None), 3: Said(None, None, "A")}
    found = reliability(given, said)
    anna, ben = found["annotators"]
    assert (anna["n"], anna["judge_n"], anna["judge_agreement"]) == (3, 2, 1.0)
    assert (anna["gold_n"], anna["gold_accuracy"], anna["others_agreement"]) == (1, 0.0, 0.0)
    assert (ben["n"], ben["judge_agreement"], ben["gold_accuracy"]) == (1, 0.0, None)
    assert anna["gold_low"] == 0.0
    assert 0 < anna["gold_high"] < 1
    assert (found["items"], found["overlapping"]) == (3, 1)
    assert judge_share(given, said) == (3, pytest.approx(2 / 3))


def test_kappa_and_alpha_are_those_of_the_textbook() -> None:
    choices: dict[str, list[Choice]] = {
        "anna": ["A", "A", "B", "B", "A", "B"],
        "ben": ["A", "A", "B", "A", "A", "B"],
    }
    given = [pair(n, who, one) for who, row in choices.items() for n, one in enumerate(row)]
    found = reliability(given, {})
    anna = found["annotators"][0]
    assert anna["others_agreement"] == pytest.approx(5 / 6)
    assert anna["others_kappa"] == pytest.approx((5 / 6 - 0.5) / 0.5)
    assert anna["others_kappa_low"] <= anna["others_kappa"] <= anna["others_kappa_high"]
    # coincidences: 12 values, 7 A and 5 B, two in disagreement: 1 - 2/12 / (2*7*5/(12*11))
    assert found["alpha"]["value"] == pytest.approx(1 - (2 / 12) / (70 / 132))
    alike = reliability([pair(n, who, "A") for n in range(3) for who in ("a", "b")], {})
    assert alike["alpha"] is None
    assert alike["annotators"][0]["others_kappa"] is None
    assert reliability([], {})["annotators"] == []


def test_ratings_agree_within_half_a_level() -> None:
    given = [rated(1, "anna", 4), rated(2, "anna", 2), rated(3, "anna", 5)]
    given += [rated(1, "ben", 4), rated(2, "ben", 3), rated(3, "ben", 5)]
    said = {1: Said(None, 4.4, [4.0]), 2: Said(None, 3.0, [1.0]), 3: Said(None, None, None)}
    found = reliability(given, said)
    anna = found["annotators"][0]
    assert (anna["judge_n"], anna["judge_agreement"]) == (2, 0.5)
    assert anna["others_agreement"] == pytest.approx(2 / 3)
    assert anna["others_kappa"] > 0.8
    assert anna["gold_accuracy"] == 0.5
    assert found["alpha"]["value"] > 0.8


def test_what_is_right_is_told_by_level_or_by_criterion() -> None:
    assert is_right(rated(1, "anna", 4), {"quality": [3.0, 4.0]})
    assert not is_right(rated(1, "anna", 4), {"other": [4.0]})
    assert is_right(rated(1, "anna", 4), [4.0])
    passed = Label(1, "a", "rated", "AB", "", score_of({"safe": 1}, [criterion("safe", 0, 1)]))
    assert is_right(passed, [1.0])
    assert not is_right(passed, [0.0])
    assert judge_share([passed], {1: Said(None, 0.7, None)}) == (1, 1.0)
    assert judge_share([passed], {}) == (0, None)


def test_ratings_of_two_levels_that_differ_do_not_agree_wherever_the_scale_begins() -> None:
    label = Label(1, "anna", "rated", "AB", "", Score(2.0, 1.0, 2.0))
    assert judge_share([label], {1: Said(None, 1.2, None)}) == (1, 0.0)
    assert judge_share([label], {1: Said(None, 1.6, None)}) == (1, 1.0)
