"""Two homes with two secrets ask for the same replies: a kept reply answers in both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlaif.backends.scripted import ScriptedBackend
from rlaif.judge.checklist import ChecklistJudge
from rlaif.judge.listwise import ListwiseJudge
from rlaif.judge.markers import Markers
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.judge.pointwise import PointwiseJudge
from rlaif.specs.rubric import load_rubric
from rlaif.types import Candidate, Comparison, Item, Message, Request

ITEM = Item("q", (Message("user", "Name a river."),))
RESPONSES = [Candidate(n, (Message("assistant", f"The {n}."),)) for n in ("Rhine", "Nile", "Po")]
PAIR = Comparison(ITEM, *RESPONSES[:2])
BACKEND, RUBRIC = ScriptedBackend([]), load_rubric("helpfulness")

Asked = Callable[[Markers], list[Request]]
JUDGES: dict[str, Asked] = {
    "pairs": lambda m: PairwiseJudge(BACKEND, RUBRIC, markers=m).requests(PAIR),
    "pairs by token": lambda m: PairwiseJudge(BACKEND, RUBRIC, method="token", markers=m).requests(
        PAIR
    ),
    "points": lambda m: PointwiseJudge(BACKEND, RUBRIC, markers=m).requests(ITEM, RESPONSES[0]),
    "lists": lambda m: ListwiseJudge(BACKEND, RUBRIC, markers=m).requests(ITEM, RESPONSES),
    "questions": lambda m: ChecklistJudge(BACKEND, RUBRIC, markers=m).requests(ITEM, RESPONSES[0]),
}


@pytest.mark.parametrize("name", JUDGES)
def test_the_secret_of_a_home_changes_the_prompt_and_not_the_digest(name: str) -> None:
    one, other = (JUDGES[name](Markers(key)) for key in (b"one home", b"another"))
    assert one
    assert [r.messages for r in one] != [r.messages for r in other]
    assert digests(one) == digests(other)


def digests(requests: list[Request]) -> list[Any]:
    return [request.digest("m") for request in requests]
