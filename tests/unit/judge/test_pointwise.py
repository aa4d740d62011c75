from __future__ import annotations

import asyncio

import pytest

from rlaif.backends.scripted import ScriptedBackend
from rlaif.judge.pointwise import PointwiseJudge
from rlaif.specs.rubric import Rubric
from rlaif.types import Verdict
from tests.builders import candidate, criterion, item, rubric


def _score(reply: str, spec: Rubric | None = None) -> Verdict:
    judge = PointwiseJudge(ScriptedBackend([reply]), spec or rubric())
    return asyncio.run(judge.score(item(), candidate("a", "Paris.")))


def test_one_criterion_keeps_its_scale() -> None:
    score = _score("Right. [[4]]").score
    assert score is not None
    assert (score.value, score.min, score.max) == (4.0, 1, 5)


def test_criteria_on_one_scale_are_weighted_on_it() -> None:
    spec = rubric(criterion("facts", weight=0.75), criterion("tone", weight=0.25))
    score = _score("facts: [[5]]\ntone: [[1]]", spec).score
    assert score is not None
    assert (score.value, score.min, score.max) == (4.0, 1, 5)
    assert score.criteria is not None
    assert score.criteria["tone"]["value"] == 1.0


def test_the_order_of_criteria_does_not_change_the_mean() -> None:
    facts, tone = criterion("facts", weight=0.75), criterion("tone", weight=0.25)
    one = _score("facts: [[5]]\ntone: [[2]]", rubric(facts, tone)).score
    other = _score("tone: [[2]]\nfacts: [[5]]", rubric(tone, facts)).score
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(other.value)


def test_criteria_on_different_scales_meet_between_zero_and_one() -> None:
    spec = rubric(criterion("facts", 0, 1, 0.5), criterion("tone", 1, 5, 0.5))
    score = _score("facts: [[1]]\ntone: [[3]]", spec).score
    assert score is not None
    assert (score.value, score.min, score.max) == (0.75, 0.0, 1.0)


def test_an_unreadable_grade_is_no_verdict_and_keeps_the_reply() -> None:
    verdict = _score("It is quite good, 4 out of 5.")
    assert (verdict.status, verdict.cause, verdict.score) == ("no_verdict", "unreadable", None)
    assert verdict.calls[0].reply == "It is quite good, 4 out of 5."


def test_a_verdict_survives_a_round_trip() -> None:
    verdict = _score("Right. [[4]]")
    assert Verdict.from_dict(verdict.as_dict()) == verdict
