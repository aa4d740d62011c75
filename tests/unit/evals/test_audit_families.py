from __future__ import annotations

import pytest

from rlaif.errors import DataError
from rlaif.evals.audit import audit_verdicts
from rlaif.evals.audit_families import (
    Judged,
    common,
    family_of,
    judged,
    preference_leakage,
)
from rlaif.evals.audit_thresholds import load_thresholds
from rlaif.types import Comparison
from tests.builders import candidate, item, verdict
from tests.unit.evals import audit_judges as judges


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("openai/gpt-5.1", "openai"),
        ("gpt-3.5-turbo-1106", "openai"),
        ("o1-mini-2024-09-12", "openai"),
        ("claude-v1", "anthropic"),
        ("local/smollm2-135m", "smollm"),
        ("FuseChat-Llama-3.2-1B-Instruct", "llama"),
        ("vicuna-13b-v1.2", "llama"),
        ("phi-3-dpo", "phi"),
        ("Phi3", "phi"),
        ("dolphin-2", None),
        ("qwen2.5-72b", "qwen"),
        ("server/yield", None),
        ("", None),
        (None, None),
    ],
)
def test_a_models_name_tells_its_family(model, family) -> None:
    assert family_of(model) == family


def test_own_families_are_looked_at_first() -> None:
    assert family_of("my-llama", {"mine": ("my",)}) == "mine"
    assert family_of("llama", {"mine": ("my",), "none": ()}) == "llama"


def rows(*outcomes, a="gpt-4", b="claude-2"):
    return [Judged(f"p{i}", a, b, outcome) for i, outcome in enumerate(outcomes)]


FAMILIES = ("openai", "anthropic")


def test_judges_that_agree_leak_nothing() -> None:
    said = rows(1.0, 0.0, 0.5, 1.0)
    # what both see as better is quality: one judge's excess is the other's shortfall
    value, low, high, n = preference_leakage(said, said, FAMILIES)
    even = rows(1.0, 0.0, 1.0, 0.0)
    assert preference_leakage(even, even, FAMILIES)[0] == pytest.approx(0.0)
    assert low <= value <= high
    assert n == 4


def test_judges_that_each_favor_their_own_leak_fully() -> None:
    mine, theirs = rows(*[1.0] * 10), rows(*[0.0] * 10)
    value, low, high, _ = preference_leakage(mine, theirs, FAMILIES)
    assert (value, low, high) == (1.0, 1.0, 1.0)
    assert preference_leakage(theirs, mine, FAMILIES)[0] == -1.0


def test_the_formula_by_hand() -> None:
    # WR(i,i) = .75, WR(i,j) = .25; WR(j,j) = .5, WR(j,i) = .5
    first, second = rows(1, 1, 1, 0), rows(1, 1, 0, 0)
    expected = 0.5 * ((0.75 - 0.5) / 0.5 + 0.0)
    assert preference_leakage(first, second, FAMILIES)[0] == pytest.approx(expected)


def test_leakage_needs_the_same_comparisons_and_some_win() -> None:
    with pytest.raises(DataError, match="same comparisons"):
        preference_leakage(rows(1.0), rows(1.0, 0.0), FAMILIES)
    with pytest.raises(DataError, match="same comparisons"):
        preference_leakage([], [], FAMILIES)
    strangers = rows(0.0, 1.0, a="mistral-7b", b="qwen-7b")
    with pytest.raises(DataError, match="undefined"):
        preference_leakage(strangers, strangers, FAMILIES)


def test_comparisons_meet_whatever_side_a_model_stands_on() -> None:
    one = [Judged("p", "x", "y", 1.0), Judged("q", "x", "y", 0.0)]
    other = [Judged("p", "y", "x", 0.25)]
    mine, theirs = common(one, other)
    assert mine == one[:1]
    assert theirs == [Judged("p", "x", "y", 0.75)]


def test_only_named_models_with_a_verdict_are_judged() -> None:
    assert judged(verdict(), "p") == Judged("p", "m1", "m2", 1.0)
    assert judged(verdict(p_a=None), "p") is None
    unnamed = verdict()
    object.__setattr__(unnamed, "candidates", (candidate("a", "x"), candidate("b", "y")))
    assert judged(unnamed, "p") is None


def pairs(n=12):
    return [
        Comparison(
            item(f"i{k}"), candidate("A", f"yes {k}", "gpt-4"), candidate("B", "no", "claude")
        )
        for k in range(n)
    ]


def test_an_audit_checks_leakage_against_another_judges_run() -> None:
    likes_a = judges.by(lambda text, _: "yes" in text)
    likes_b = judges.by(lambda text, _: text == "no")
    mine = judges.judge_all(likes_a, pairs(), model="openai/gpt-5.1")
    other = judges.judge_all(likes_b, pairs(), model="anthropic/claude-x")
    audit = audit_verdicts(mine, load_thresholds(), other=other)
    check = next(c for c in audit.checks if c.name == "preference_leakage")
    assert (check.n, check.effect, check.passed) == (12, 1.0, False)


@pytest.mark.parametrize(
    ("models", "why"),
    [
        (("openai/gpt-5.1", "openai/gpt-4"), "two known families"),
        (("scripted/x", "anthropic/claude"), "two known families"),
        (("openai/gpt-5.1", "mistral-large"), "no pair that both judged"),
    ],
)
def test_leakage_that_cannot_be_told_is_skipped_with_its_reason(models, why) -> None:
    mine, other = (judges.judge_all(judges.always_a, pairs(3), model=m) for m in models)
    told = dict(audit_verdicts(mine, load_thresholds(), other=other).skipped)
    assert why in told["preference_leakage"]
