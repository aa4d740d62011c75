"""How far a policy has moved: figures with known values, intervals, and texts of any kind."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.train.alarms import Measure
from rlaif.train.drift import (
    Responses,
    change,
    entropy_measure,
    is_refusal,
    kl_measures,
    length_measures,
    mean_measure,
    rise,
    self_similarity,
    text_measures,
)
from rlaif.train.judged import (
    gold_measures,
    gold_trend,
    judge_histogram,
    judge_measures,
    length_corrected,
)


def by_name(measures: list[Measure]) -> dict[str, Measure]:
    return {measure.name: measure for measure in measures}


def test_kl_by_hand() -> None:
    found = by_name(kl_measures([[0.5, 0.5], [-0.5]]))
    assert found["kl"].value == pytest.approx((1.0 - 0.5) / 2)
    k3 = [2 * (math.exp(-0.5) - 1 + 0.5), math.exp(0.5) - 1 - 0.5]
    assert found["kl_k3"].value == pytest.approx(sum(k3) / 2)


def test_both_estimators_come_to_the_kl_of_two_coins() -> None:
    rng = np.random.default_rng(0)
    p, q = np.array([0.7, 0.3]), np.array([0.5, 0.5])
    drawn = rng.choice(2, size=20_000, p=p)
    ratios = np.log(p / q)[drawn]
    true = float((p * np.log(p / q)).sum())
    found = by_name(kl_measures([[float(r)] for r in ratios]))
    for measure in found.values():
        assert measure.low is not None
        assert measure.high is not None
        assert measure.low < true < measure.high
    # the same quantity with less noise is why k3 is there
    assert found["kl_k3"].high - found["kl_k3"].low < found["kl"].high - found["kl"].low  # type: ignore[operator]


@given(st.lists(st.lists(st.floats(-80, 80), min_size=1, max_size=5), min_size=1, max_size=8))
def test_k3_is_never_negative(ratios: list[list[float]]) -> None:
    assert by_name(kl_measures(ratios))["kl_k3"].value >= -1e-9


def test_entropy_is_that_of_the_start_over_again_where_nothing_changed() -> None:
    rows = [[-1.0, -2.0], [-3.0]]
    assert entropy_measure(rows, rows).value == 1.0
    assert entropy_measure([[-1.0]], rows).value == 0.5
    with pytest.raises(DataError, match="no tokens"):
        entropy_measure([[]], rows)
    with pytest.raises(DataError, match="always says the same"):
        entropy_measure(rows, [[0.0]])


def test_lengths_are_ratios_by_prompt() -> None:
    start = Responses(["p", "q"], ["one two", "one two three four"])
    twice = Responses(["p", "q"], ["one two " * 2, "one two three four " * 2])
    found = by_name(length_measures(twice, start))
    assert found["length_mean"].value == 2.0
    # every prompt doubled: there is no doubt about the ratio
    assert found["length_mean"].low == pytest.approx(2.0)
    assert found["length_p95"].value == pytest.approx(2.0)
    with pytest.raises(DataError, match="no words"):
        length_measures(twice, Responses(["p", "q"], ["", "!"]))
    with pytest.raises(DataError, match="no prompt in common"):
        length_measures(Responses(["x"], ["a"]), Responses(["y"], ["b"]))


def test_the_interval_of_a_ratio_covers_it() -> None:
    rng = np.random.default_rng(1)
    inside, rounds = 0, 200
    for _ in range(rounds):
        lengths = rng.integers(20, 60, size=30)
        ours = np.maximum(1, np.round(1.2 * lengths + rng.normal(0, 10, size=30))).astype(int)
        names = [f"p{i}" for i in range(30)]
        found = length_measures(
            Responses(names, ["w " * n for n in ours]),
            Responses(names, ["w " * n for n in lengths]),
        )[0]
        inside += found.low <= 1.2 <= found.high  # type: ignore[operator]
    assert inside / rounds > 0.9


def test_one_answer_for_everything_is_seen() -> None:
    prompts = [f"What is thing {i}?" for i in range(8)]
    start = Responses(
        prompts,
        [
            f"Thing {i} is a kind of {w} that lives in {w}land, far away."
            for i, w in enumerate("abcdefgh")
        ],
    )
    same = Responses(prompts, ["This is a great question and I am happy to help you."] * 8)
    found = by_name(text_measures(same, start))
    assert found["distinct_2"].value < 0.5
    assert found["self_similarity"].value > 0.3
    assert found["near_duplicates"].value > 0.8
    assert found["refusals"].value == 0.0
    unchanged = by_name(text_measures(start, start))
    assert all(unchanged[f"distinct_{n}"].value == 1.0 for n in (1, 2, 3))
    assert unchanged["self_similarity"].value == unchanged["echo"].value == 0.0


def test_refusals_rise_by_prompt_or_between_samples() -> None:
    refuse = "I'm sorry, but I cannot help with that."
    start = Responses(["p", "q", "r"], ["Yes.", "Sure.", "Here."])
    found = by_name(text_measures(Responses(["p", "q", "r"], [refuse] * 3), start))["refusals"]
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    others = Responses(["x", "y", "z"], [refuse, "Yes.", refuse])
    unpaired = by_name(text_measures(others, start))["refusals"]
    assert unpaired.value == pytest.approx(2 / 3)
    assert unpaired.low is not None
    assert unpaired.low < 0.0
    assert is_refusal("Sorry, no.")
    assert not is_refusal("I can do that.")


def test_texts_without_words_give_what_they_can() -> None:
    empty = Responses(["p", "q"], ["", "!!"])
    found = by_name(text_measures(empty, empty))
    assert "distinct_1" not in found
    assert "echo" not in found
    assert found["refusals"].value == 0.0
    single = by_name(text_measures(Responses(["p"], ["a b"]), Responses(["q"], ["a b"])))
    assert "self_similarity" not in single
    assert "refusals" not in single
    with pytest.raises(DataError, match="1 prompts for 0 responses"):
        Responses(["p"], [])


def test_self_bleu_by_hand() -> None:
    assert self_similarity(["a b c d e"] * 3) == pytest.approx(1.0)
    assert self_similarity(["a b", "c d"]) == 0.0
    assert self_similarity(["alone"]) is None
    # words: 2 of 3 are in the other text; pairs: 1 of 2; longer ones: the text of three has one
    # triple, which is nowhere else
    assert self_similarity(["a b x", "a b y"], order=2) == pytest.approx(math.sqrt(2 / 3 * 1 / 2))


@given(st.lists(st.text(alphabet="ab c", max_size=12), min_size=2, max_size=6))
def test_self_bleu_is_a_share_and_knows_no_order(texts: list[str]) -> None:
    found = self_similarity(texts)
    assert found is not None
    assert 0 <= found <= 1 + 1e-12
    assert self_similarity(texts[::-1]) == pytest.approx(found)


def test_self_bleu_is_that_of_its_definition() -> None:
    texts = ["a b a c", "a a b", "b c a b c", "c"]

    def precision(place: int, n: int) -> float | None:
        grams = [
            tuple(t.split()[i : i + n])
            for t in [texts[place]]
            for i in range(len(t.split()) - n + 1)
        ]
        others = [
            [tuple(t.split()[i : i + n]) for i in range(len(t.split()) - n + 1)]
            for k, t in enumerate(texts)
            if k != place
        ]
        if not grams:
            return None
        matched = sum(min(grams.count(g), max(o.count(g) for o in others)) for g in set(grams))
        return matched / len(grams)

    scores = []
    for place in range(len(texts)):
        known = [p for n in range(1, 5) if (p := precision(place, n)) is not None]
        scores.append(0.0 if 0.0 in known else math.exp(sum(map(math.log, known)) / len(known)))
    assert self_similarity(texts) == pytest.approx(sum(scores) / len(scores))


def test_rises_are_paired_by_prompt() -> None:
    names = [f"p{i}" for i in range(10)]
    before = [float(i) for i in range(10)]
    found = rise("x", names, [v + 1 for v in before], names, before)
    assert found.value == pytest.approx(1.0)
    assert found.low == pytest.approx(1.0)
    with pytest.raises(DataError, match="no prompt in common"):
        rise("x", ["a"], [1.0], ["b"], [1.0])
    assert mean_measure("x", [1.0], ["p"]) == Measure("x", 1.0)


def test_a_change_between_samples_has_welchs_interval() -> None:
    found = change([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert found is not None
    # by hand: means 2 and 4, variances of the means 1/3 and 4/3, 2.94 degrees of freedom
    assert found[0] == 2.0
    half = 3.2183 * math.sqrt(5 / 3)
    assert found[2] - found[0] == pytest.approx(half, rel=1e-3)
    assert change([1.0], [2.0, 3.0]) is None
    assert change([1.0, 1.0], [2.0, 2.0]) == (1.0, 1.0, 1.0)


def test_a_judge_at_its_ceiling_and_one_that_flips() -> None:
    prompts = [f"p{i}" for i in range(10)]
    found = by_name(judge_measures([1.0] * 9 + [0.2], prompts, [True] * 5 + [False] * 5, 20))
    assert found["judge_ceiling"].value == pytest.approx(0.9)
    assert found["order_flips"].value == pytest.approx(0.5)
    assert found["coverage"].value == 0.5
    assert by_name(judge_measures([], [], [], 4)).keys() == {"coverage"}
    with pytest.raises(DataError, match="no verdict was asked for"):
        judge_measures([], [], [], 0)


def test_the_histogram_has_both_ends() -> None:
    assert judge_histogram([0.0, 0.05, 0.5, 0.99, 1.0]) == [2, 0, 0, 0, 0, 1, 0, 0, 0, 2]


def test_what_length_won_is_told_apart() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(20, 80, size=400), rng.integers(20, 50, size=400)
    outcomes = [1 / (1 + math.exp(-(a - b) / 8)) for a, b in zip(ours, theirs, strict=True)]
    prompts = [f"p{i}" for i in range(400)]
    found = by_name(length_corrected(outcomes, list(ours), list(theirs), prompts))
    assert np.mean(outcomes) > 0.65
    assert found["length_corrected_win_rate"].value == pytest.approx(0.5, abs=0.03)
    effect = found["length_effect"]
    assert effect.low is not None
    assert effect.low > 0.1
    assert effect.high is not None
    assert effect.low < effect.value < effect.high


def test_where_one_side_won_all_length_explains_nothing() -> None:
    assert length_corrected([1.0] * 4, [5, 6, 7, 8], [5, 5, 5, 5], list("abcd")) == []


def test_a_gap_between_the_judges_has_an_interval() -> None:
    prompts = [f"p{i}" for i in range(20)]
    judge = dict.fromkeys(prompts, 0.9)
    gold = {p: 0.4 + 0.01 * (i % 3) for i, p in enumerate(prompts)}
    found = by_name(gold_measures(judge, gold))
    assert found["gold_gap"].value == pytest.approx(0.9 - sum(gold.values()) / 20)
    assert found["gold_gap"].low is not None
    assert found["gold_gap"].low > 0.4
    assert found["gold_win_rate"].value < 0.5
    with pytest.raises(DataError, match="no prompt in common"):
        gold_measures({"a": 1.0}, {"b": 1.0})


def test_the_trend_speaks_only_where_the_training_judge_rose() -> None:
    prompts = [f"p{i}" for i in range(12)]
    low, high = dict.fromkeys(prompts, 0.5), dict.fromkeys(prompts, 0.7)
    falling = gold_trend(high, low, low, high)
    assert falling is not None
    assert falling.value == pytest.approx(-0.2)
    assert falling.high is not None
    assert falling.high < 0
    assert gold_trend(low, high, low, high) is None
    assert gold_trend(low, low, low, high) is None


def test_two_samples_of_one_policy_sound_no_alarm() -> None:
    from rlaif.train.alarms import fired, load_limits, sound

    limits = load_limits()
    said = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        prompts = [f"word{rng.integers(40)} word{rng.integers(40)}?" for _ in range(24)]
        sides = [
            Responses(
                prompts, [" ".join(f"word{k}" for k in rng.integers(40, size=8)) for _ in prompts]
            )
            for _ in range(2)
        ]
        said += len(fired(sound(text_measures(sides[0], sides[1]), limits)))
    assert said == 0
