"""The table of methods: one for the command line, files and Python."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import ConfigError
from rlaif.judge.by_scores import ByScoresJudge, ChecklistPairs
from rlaif.judge.checklist import ChecklistJudge
from rlaif.judge.likelihood import LikelihoodJudge
from rlaif.judge.listwise import ListwiseJudge
from rlaif.judge.making import check_combinable, comparer, grader, lister
from rlaif.judge.methods import (
    METHODS,
    CompareMethod,
    GradeMethod,
    How,
    chosen,
    chosen_grading,
    told,
)
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.judge.pointwise import PointwiseJudge
from rlaif.judge.reward import RewardJudge
from rlaif.train.loop_schema import JudgeFile
from rlaif.types import Sampling
from tests.builders import comparison, rubric


class Small(ScriptedBackend):
    parameters = 135_000_000


PLAIN = ScriptedBackend([])
REWARDS = ScriptedBackend([], model="reward/x")


def test_whoever_names_methods_names_those_of_the_table() -> None:
    assert get_args(CompareMethod) == ("auto", *METHODS)
    assert set(get_args(GradeMethod)) - {"auto"} == {w.grades for w in METHODS.values()} - {None}
    assert all(f"{name}: " in told() for name in ("auto", *METHODS))
    in_files = TypeAdapter(JudgeFile).json_schema()["properties"]["method"]["enum"]
    assert in_files == list(get_args(CompareMethod))


@pytest.mark.parametrize(
    ("method", "compares", "grades"),
    [
        ("verdict", PairwiseJudge, PointwiseJudge),
        ("token", PairwiseJudge, PointwiseJudge),
        ("likelihood", LikelihoodJudge, None),
        ("score", ByScoresJudge, PointwiseJudge),
        ("expectation", ByScoresJudge, PointwiseJudge),
        ("checklist", ChecklistPairs, ChecklistJudge),
    ],
)
def test_a_name_stands_for_its_judges(method: Any, compares: type, grades: type | None) -> None:
    how = How(method=method)
    assert type(comparer(PLAIN, rubric(), how)) is compares
    if grades is None:
        with pytest.raises(ConfigError, match="make no grades"):
            grader(PLAIN, rubric(), how)
    else:
        assert type(grader(PLAIN, rubric(), how)) is grades


def test_auto_is_what_suits_the_model() -> None:
    names = [chosen(How(), one).name for one in (PLAIN, Small([]), REWARDS)]
    assert names == ["verdict", "likelihood", "reward"]
    names = [chosen_grading(How(), one).name for one in (PLAIN, Small([]), REWARDS)]
    assert names == ["verdict", "expectation", "reward"]
    assert isinstance(comparer(REWARDS, None, How()), RewardJudge)
    assert isinstance(grader(REWARDS, rubric(), How()), RewardJudge)
    assert isinstance(comparer(Small([]), None, How()), LikelihoodJudge)


def test_a_reward_is_planned_for_a_response_as_for_a_pair() -> None:
    one, pair = grader(REWARDS, rubric(), How()), comparison("x", "y")
    assert [r.task for r in one.requests(pair.item, pair.a)] == ["reward"]
    two = comparer(REWARDS, None, How()).requests(pair)
    assert [r.messages[-1].content for r in two] == ["x", "y"]


OPTIONS: dict[str, Any] = {
    "draws": 2,
    "reference": "judge",
    "structured": True,
    "reask": False,
    "least_mass": 0.3,
    "max_chars": 1000,
    "too_long": "cut",
    "on_injection": "no_verdict",
    "ties": "forced",
    "levels": 5,
    "orders": "AB",
    "aggregate": "mode",
    "criteria_calls": "each",
    "questions_by": ScriptedBackend([]),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_shows_in_the_name_of_the_judge_or_is_refused(method: Any, option: str) -> None:
    """None is ever ignored: neither where a pair is compared nor where a response is graded."""
    spec = rubric(reference="optional")
    hot = Sampling(temperature=1.0)
    for make, uses in (
        (comparer, METHODS[method].pair_uses),
        (grader, METHODS[method].grade_uses),
    ):
        if make is grader and METHODS[method].grades is None:
            continue
        how = How(method=method, sampling=hot, **{option: OPTIONS[option]})
        if option not in uses:
            with pytest.raises(ConfigError, match=rf"the method {method} takes no {option}"):
                make(PLAIN, spec, how)
            continue
        try:
            judge = make(PLAIN, spec, how)
        except ConfigError as error:
            assert any(word in str(error) for word in (option, "JSON object"))  # noqa: PT017
            continue
        usual = make(PLAIN, spec, How(method=method, sampling=hot))
        expected = option in ("max_chars", "criteria_calls")  # named only where they matter
        assert (judge.ref.method != usual.ref.method) or expected


def test_what_nobody_can_do_is_said() -> None:
    with pytest.raises(ConfigError, match=r"one of auto, verdict, token, .* not 'best'"):
        chosen(How(method="best"), PLAIN)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="gives rewards and no replies: it takes no 'token'"):
        chosen(How(method="token"), REWARDS)
    with pytest.raises(ConfigError, match="judges by a rubric: name one"):
        comparer(PLAIN, None, How())
    with pytest.raises(ConfigError, match="ask one judge alone"):
        check_combinable([RewardJudge(REWARDS), PointwiseJudge(PLAIN, rubric())])
    check_combinable([RewardJudge(REWARDS)])


def test_a_list_takes_what_a_list_can_be_told() -> None:
    judge = lister(Small([]), rubric(), How(ties="forced", seed=3), shuffles=2, confidence=0.9)
    assert isinstance(judge, ListwiseJudge)
    words = "listwise, 2 shuffles, ties forced, intervals at 0.9, seed 3"
    assert judge.ref.method == words
    with pytest.raises(ConfigError, match="a list compares no pairs: it takes no draws, levels"):
        lister(PLAIN, rubric(), How(draws=2, levels=5))
    with pytest.raises(ConfigError, match="takes no method 'token'"):
        lister(PLAIN, rubric(), How(method="token"))
    with pytest.raises(ConfigError, match="reads no lists"):
        lister(REWARDS, rubric(), How())


@pytest.mark.parametrize("method", ["token", "expectation"])
def test_a_small_local_model_is_read_as_it_is(method: Any) -> None:
    """Half of its first verdicts would be asked for again, by another prompt."""
    small = comparer(Small([]), rubric(), How(method=method))
    assert "least mass 0" in small.ref.method
    told = comparer(Small([]), rubric(), How(method=method, least_mass=0.5))
    assert "least mass" not in told.ref.method
    assert "least mass" not in comparer(PLAIN, rubric(), How(method=method)).ref.method


def test_a_small_local_model_that_writes_is_held_to_half() -> None:
    for method in ("verdict", "checklist"):
        judge = comparer(Small([]), rubric(), How(method=method))
        assert "least mass" not in judge.ref.method
