from __future__ import annotations

import math
import random

import numpy as np
import pytest

from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.evals.human_checks import calibration, corrected, selection, stated_quality
from rlaif.evals.human_labels import LabeledRun
from rlaif.stats.correction import ppi_mean
from rlaif.stats.error_rates import rogan_gladen
from tests.unit.evals.records import grade, pair, ranked


def filled(verdicts, votes=()) -> LabeledRun:
    run = LabeledRun()
    for verdict in verdicts:
        run.add_judged(verdict)
    for vote in votes:
        run.add_label(vote)
    return run


def season(n: int = 400, labeled: int = 120, seed: int = 3):
    """A judge that overrates x: people prefer x half of the time, the judge 7 times of 10."""
    rng = random.Random(seed)
    verdicts, votes = [], []
    for k in range(n):
        people = rng.random() < 0.5
        judge = people if rng.random() < 0.6 else rng.random() < 0.95
        a, b = ("x", "y") if k % 2 else ("y", "x")
        p_x = rng.uniform(0.8, 1.0) if judge else rng.uniform(0.0, 0.2)
        p_a = p_x if a == "x" else 1 - p_x
        verdicts.append(pair(f"q{k}", a, b, "A" if p_a > 0.5 else "B", p_a=p_a))
        if k < labeled:
            votes.append(pair(f"q{k}", "x", "y", "A" if people else "B", judge="expert_1"))
    return verdicts, votes


def test_a_label_meets_the_verdict_whatever_side_the_models_stand_on() -> None:
    run = filled(
        [pair("1", "x", "y", "A", p_a=0.9), pair("2", "y", "x", "A", p_a=0.7)],
        [
            pair("1", "y", "x", "B", judge="expert_1"),
            pair("1", "x", "y", "tie", judge="author_1"),
            pair("2", "x", "y", "A", judge="expert_1"),
            pair("3", "x", "y", "A", judge="expert_1"),
            pair("1", "x", "y", None, judge="expert_2"),
        ],
    )
    pairs = run.pairs()
    found = sorted(zip(pairs.p.round(3), pairs.label, pairs.agrees, strict=True))
    assert found == [(0.3, 1.0, 0.0), (0.9, 0.5, 0.0), (0.9, 1.0, 1.0)]
    assert run.pairs(voters="author").label.tolist() == [0.5]
    with pytest.raises(ConfigError, match=r"nobody is called 'crowd\*'"):
        run.pairs(voters="crowd")


def test_every_verdict_on_a_key_meets_every_vote() -> None:
    run = filled(
        [pair("1", "x", "y", "A", judge=f"j{n}") for n in range(2)],
        [pair("1", "x", "y", "A", judge=f"v{n}") for n in range(3)],
    )
    assert run.pairs().p.size == 6
    assert run.pairs(["j1"]).p.size == 3


def test_labels_inside_the_items() -> None:
    run = LabeledRun()
    for n, label in enumerate(["A", "B", None, "tie"]):
        verdict = pair(str(n), "x", "y", "A", meta={"label": label} if label else {})
        run.add_judged(verdict)
        run.add_own_label(verdict)
    assert run.pairs().label.tolist() == [1.0, 0.0, 0.5]
    for judge in ("second", "third"):
        verdict = pair("0", "y", "x", "B", judge=judge, meta={"label": "B"})
        run.add_judged(verdict)
        run.add_own_label(verdict)
    assert run.pairs(["second"]).label.tolist() == [1.0]
    assert run.pairs(["judge"]).label.size == 3
    with pytest.raises(SpecError, match="label 'C' is not A, B or tie"):
        run.add_own_label(pair("5", "x", "y", "A", meta={"label": "C"}))
    with pytest.raises(SpecError, match=r"label \['A'\] is not A, B or tie"):
        run.add_own_label(pair("5", "x", "y", "A", meta={"label": ["A"]}))
    with pytest.raises(SpecError, match="a score has no side"):
        LabeledRun().add_own_label(grade("5", "x", 3, meta={"label": "A"}))


def test_what_cannot_be_held_to_labels_is_refused() -> None:
    with pytest.raises(SpecError, match="not rankings"):
        filled([ranked("1", "x", "y")])
    with pytest.raises(SpecError, match="a score among comparisons"):
        filled([pair("1", "x", "y", "A")], [grade("1", "x", 3)])
    with pytest.raises(SpecError, match="a scale of 1 to 5 among 1 to 10"):
        filled([grade("1", "x", 3)], [grade("1", "x", 3, scale=(1, 5))])
    with pytest.raises(DataError, match="there are no labels"):
        filled([pair("1", "x", "y", "A")]).pairs()
    with pytest.raises(DataError, match="share no comparison"):
        filled([pair("1", "x", "y", "A")], [pair("2", "x", "y", "A")]).pairs()
    with pytest.raises(DataError, match="share nothing"):
        corrected(filled([pair("1", "x", "y", "A")], [pair("2", "x", "y", "A")]))
    with pytest.raises(SpecError, match="scores have no probabilities"):
        filled([grade("1", "x", 3)], [grade("1", "x", 3)]).pairs()
    with pytest.raises(DataError, match="there are no verdicts"):
        filled([], [pair("2", "x", "y", "A")]).judged()


def test_a_corrected_win_rate_is_what_the_functions_give() -> None:
    verdicts, votes = season()
    found = corrected(filled(verdicts, votes), level=0.9)["x"]
    judged = np.array(
        [
            v.preference.p_a if v.candidates[0].model == "x" else 1 - v.preference.p_a
            for v in verdicts
        ]
    )
    labels = np.array([1.0 if v.preference.winner == "A" else 0.0 for v in votes])
    n = labels.size
    by_hand = ppi_mean(labels, judged[:n], judged[n:], level=0.9)
    assert found["corrected"] == pytest.approx(by_hand.value)
    assert found["corrected_se"] == pytest.approx(by_hand.se)
    assert (found["corrected_low"], found["corrected_high"]) == pytest.approx(
        (by_hand.low, by_hand.high)
    )
    assert (found["n_judged"], found["n_labeled"]) == (400, 120)
    assert found["raw"] == pytest.approx(judged.mean())
    assert found["raw"] > 0.6 > found["corrected_high"] - 0.1
    hard = (judged > 0.5).astype(float)
    gladen = rogan_gladen(hard[n:], hard[:n], labels, level=0.9)
    assert found["rogan_gladen"]["value"] == pytest.approx(gladen.value)
    assert found["rogan_gladen"]["sensitivity"] == pytest.approx(gladen.sensitivity)


def test_two_models_are_corrected_to_shares_that_sum_to_one() -> None:
    verdicts, votes = season()
    found = corrected(filled(verdicts, votes))
    assert found["x"]["corrected"] + found["y"]["corrected"] == pytest.approx(1)
    against = corrected(filled(verdicts, votes), baseline="y")
    assert list(against) == ["x"]
    assert against["x"]["corrected"] == pytest.approx(found["x"]["corrected"])


def test_a_judge_near_chance_is_not_corrected_by_its_error_rates() -> None:
    rng = random.Random(1)
    verdicts = [pair(f"q{k}", "x", "y", rng.choice("AB")) for k in range(200)]
    votes = [pair(f"q{k}", "x", "y", rng.choice("AB"), judge="v") for k in range(80)]
    found = corrected(filled(verdicts, votes))["x"]
    assert "near chance" in found["rogan_gladen"]["unavailable"]
    assert found["judge_weight"] < 0.5


def test_labels_of_everything_or_of_nothing_leave_nothing_to_correct() -> None:
    verdicts, votes = season(n=40, labeled=40)
    found = corrected(filled(verdicts, votes))["x"]
    assert "every verdict has a label" in found["unavailable"]
    assert "every verdict has a label" in found["rogan_gladen"]["unavailable"]
    assert found["labels_only"] == pytest.approx(
        sum(v.preference.winner == "A" for v in votes) / 40
    )
    other = [pair(f"z{k}", "x", "z", "AB"[k % 2]) for k in range(9)]
    nothing = corrected(filled([*verdicts[:40], *other], votes[:20]))["z"]
    assert nothing["unavailable"] == "no verdict of it has a label"
    assert "no label" in nothing["rogan_gladen"]["unavailable"]


def test_mean_scores_are_corrected_on_their_scale() -> None:
    rng = random.Random(2)
    truth = [rng.randint(1, 9) for _ in range(200)]
    verdicts = [grade(f"q{k}", "x", t + 1) for k, t in enumerate(truth)]
    votes = [grade(f"q{k}", "x", t, judge="v") for k, t in enumerate(truth[:50])]
    found = corrected(filled(verdicts, votes))["x"]
    assert found["corrected"] == pytest.approx(sum(truth) / 200, abs=0.05)
    assert found["raw"] == pytest.approx(1 + sum(truth) / 200)
    assert "rogan_gladen" not in found


def test_calibration_makes_an_overconfident_judge_honest() -> None:
    verdicts, votes = season(n=400, labeled=400)
    pairs = filled(verdicts, votes).pairs()
    for method in ("isotonic", "platt", "temperature"):
        found = calibration(pairs, method)
        assert found["after"]["ece"] < found["before"]["ece"]
        assert found["after"]["log_loss"] < found["before"]["log_loss"]
        assert (found["n"], found["prompts"], found["folds"]) == (400, 400, 5)
    assert found["map"]["slope"] < 1
    assert set(calibration(pairs, "isotonic")["map"]) == {"p", "value"}
    assert stated_quality(pairs) == calibration(pairs, "platt")["before"]
    with pytest.raises(DataError, match="folds"):
        calibration(filled(verdicts[:3], votes[:3]).pairs(), "platt")


def test_selection_keeps_what_people_would_share() -> None:
    rng = random.Random(5)
    verdicts, votes = [], []
    for k in range(600):
        sure = k % 2 == 0
        right = rng.random() < (0.98 if sure else 0.6)
        p = 0.95 if sure else 0.6
        verdicts.append(pair(f"q{k}", "x", "y", "A", p_a=p))
        votes.append(pair(f"q{k}", "x", "y", "A" if right else "B", judge="v"))
    verdicts += [pair(f"lost{k}", "x", "y", None) for k in range(100)]
    run = filled(verdicts, votes[:400])
    found = selection(run, run.pairs(), agreement=0.9, confidence=0.95)
    assert found["threshold"] == pytest.approx(0.95)
    assert (found["kept"], found["escalated"]) == (300, 400)
    assert found["coverage"] == pytest.approx(300 / 700)
    assert found["steps"][0]["low"] > 0.9
    none = selection(run, run.pairs(), agreement=0.999, confidence=0.95)
    assert (none["threshold"], none["kept"], none["escalated"]) == (None, 0, 700)
    with pytest.raises(DataError):
        selection(run, run.pairs(), agreement=1.5, confidence=0.95)
    assert not math.isnan(found["labeled_coverage"])
