"""Several judges seated as one: who is asked, what is counted, what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import ConfigError
from rlaif.judge.cascade import CascadeJudge
from rlaif.judge.item_rubric import ItemRubrics
from rlaif.judge.making import comparer
from rlaif.judge.methods import How
from rlaif.judge.panel import PanelJudge
from rlaif.judge.seating import Member, Several, seat
from tests.builders import comparison, rubric


def member(name: str, *replies: str) -> Member:
    backend = ScriptedBackend(list(replies), model=f"scripted/{name}")
    return backend, comparer(backend, rubric(), How())


def test_one_judge_sits_alone() -> None:
    only = member("one", "[[A]]", "[[B]]")
    seated = seat([only], Several())
    assert seated.judge is only[1]
    assert seated.account() == {}
    assert asyncio.run(seated.counted(seated.judge.compare)(comparison("x", "y"))).status == "ok"
    with pytest.raises(ConfigError, match=r"^--panel, --cascade is for several judges"):
        seat([only], Several(panel="vote", cascade=0.9, spelled=lambda name: f"--{name}"))


def test_a_panel_is_counted_and_weighed_by_its_votes() -> None:
    members = [member(name, *["[[A]]", "[[B]]"] * 2) for name in ("one", "two")]
    members.append(member("three", "[[A]]", "[[B]]", "[[B]]", "[[A]]"))
    seated = seat(members, Several(panel="vote", weights="estimated", min_valid=2))
    assert isinstance(seated.judge, PanelJudge)
    pairs = [comparison("x", "y"), comparison("u", "v")]
    assert [backend.model for backend, _ in seated.requests(pairs[0])] == [
        f"scripted/{name}" for name in ("one", "one", "two", "two", "three", "three")
    ]

    async def judged() -> list[float | None]:
        work = seated.counted(seated.judge.compare)
        found = [await work(pair) for pair in pairs]
        weights = seated.estimate()["weights"]
        assert weights[2] < weights[0] == weights[1]
        again = [seated.reweighed(verdict, weights) for verdict in found]
        return [verdict.preference and verdict.preference.p_a for verdict in again]

    sure, doubted = asyncio.run(judged())
    assert sure == 1.0
    assert doubted is not None
    assert doubted > 2 / 3
    assert seated.account()["panel"]["members"] == [
        "scripted/one",
        "scripted/two",
        "scripted/three",
    ]


def test_who_may_be_asked_are_the_members_and_the_reserve() -> None:
    members = [member("one"), member("two")]
    reserve = member("three")[1]
    seated = seat(members, Several(substitute=[reserve]))
    assert seated.judges == [*(judge for _, judge in members), reserve]
    assert seat(members[:1], Several()).judges == [members[0][1]]


def test_weights_that_cannot_be_estimated_say_why() -> None:
    members = [member(name) for name in ("one", "two", "three")]
    seated = seat(members, Several(weights="estimated"))
    found = seated.estimate()
    assert found["weights"] is None
    assert found["why_alike"]


def test_a_cascade_takes_nothing_of_a_panel() -> None:
    members = [member("small", "[[A]]", "[[B]]"), member("large")]
    seated = seat(members, Several(cascade=0.9))
    assert isinstance(seated.judge, CascadeJudge)
    verdict = asyncio.run(seated.counted(seated.judge.compare)(comparison("x", "y")))
    assert verdict.preference is not None
    assert seated.account()["cascade"]["stages"][1]["asked"] == 0
    backend, other = members[0][0], replace(rubric(), name="other")
    for sources in ([rubric(), other], [rubric(), ItemRubrics()]):
        twice = [(backend, comparer(backend, source, How())) for source in sources]
        with pytest.raises(ConfigError, match=r"^cascade takes one rubric"):
            seat(twice, Several(cascade=0.9))
    with pytest.raises(ConfigError, match=r"cascade asks one judge after the other: .* no panel"):
        seat(members, Several(cascade=0.9, panel="vote"))
