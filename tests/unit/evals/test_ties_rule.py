"""RewardBench 2's rule for ties, against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pytest

from rlaif.evals.ties_rule import TiesTable
from rlaif.types import (
    Call,
    Candidate,
    Item,
    JudgeRef,
    Message,
    OrderVerdict,
    Preference,
    Sampling,
    Usage,
    Verdict,
)

METHOD = "reward (temperature 1 nats)"


def verdict(
    name: str, right: int, wrong: int, rewards: tuple[float, float], **other: str
) -> Verdict:
    """A right response against a wrong one: A is the right one where `right` is even."""
    label = "A" if right % 2 == 0 else "B"
    shown = rewards if label == "A" else rewards[::-1]
    sides = tuple(Candidate(c, (Message("assistant", c),)) for c in "AB")
    calls = tuple(
        Call("0" * 64, json.dumps({"reward": r}), Usage(1, 0, 0), 0.0, False) for r in shown
    )
    order = OrderVerdict("AB", "A", 1.0)
    return Verdict(
        id="v",
        kind="comparison",
        item=Item(f"Ties:{name}:{right}:{wrong}", (Message("user", "x"),), meta={"label": label}),
        candidates=sides,
        judge=JudgeRef("reward/m", other.get("method", METHOD), Sampling()),
        status="ok",
        preference=Preference("A", 1.0, (order,), consistent=True),
        calls=calls,
    )


def table(rewards: Mapping[str, tuple[list[float], list[float]]], **other: str) -> TiesTable:
    made = TiesTable()
    for name, (right, wrong) in rewards.items():
        for i, good in enumerate(right):
            for j, bad in enumerate(wrong):
                made.add(verdict(name, i, j, (good, bad), **other))
    return made


def test_the_score_is_the_published_mixture() -> None:
    made = table(
        {
            "tied:1": ([5.0, 4.0, 4.5], [1.0, 2.0]),  # margin 2, spread 1
            "ref:1": ([3.0], [2.5, 0.0]),  # margin 0.5
            "tied:2": ([5.0, 1.0], [0.0, -1.0]),  # margin 1, spread 4
            "ref:2": ([1.0], [2.0, 0.0]),  # margin -1
        }
    )
    assert len(made) == 4
    extra = (math.tanh(0.5 / 1 - 1) + math.tanh(-1 / 4 - 1)) / 2
    expected = 0.3 * 1.0 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0.0 + 0.01 * extra
    assert made.score() == pytest.approx(expected)


def test_equal_right_responses_have_no_spread_and_a_perfect_model_scores_one() -> None:
    assert table({"tied:1": ([2.0, 2.0], [1.0]), "ref:1": ([2.0], [1.0])}).score() == 1.0
    level = table({"tied:1": ([1.0, 1.0], [1.0]), "ref:1": ([1.0], [1.0])})
    assert level.score() == 0.0
    worse = table({"tied:1": ([0.0, 0.0], [1.0]), "ref:1": ([0.0], [1.0])})
    assert worse.score() == pytest.approx(-0.01)


def test_a_judge_of_pairs_or_one_form_alone_has_no_score() -> None:
    both = {"tied:1": ([2.0, 1.0], [0.0]), "ref:1": ([2.0], [1.0])}
    assert table(both, method="pairwise").score() is None
    assert table({"tied:1": both["tied:1"]}).score() is None
    assert table({"other:1": both["tied:1"]}).score() is None
    assert TiesTable().score() is None


def test_a_prompt_with_a_missing_reward_is_left_out() -> None:
    made = table({"tied:1": ([2.0, 1.0], [0.0]), "ref:1": ([2.0], [1.0]), "ref:2": ([0.0], [9.0])})
    broken = verdict("ref:2", 0, 1, (0.0, 0.0))
    made.add(Verdict(**{**{k: getattr(broken, k) for k in broken.__slots__}, "calls": ()}))
    assert len(made) == 2
    assert made.score() == pytest.approx(0.3 + 0.3 + 0.01 * math.tanh(0.0) + 0.0)
