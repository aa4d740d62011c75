from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from rlaif.errors import VerdictError
from rlaif.judge.endings import (
    Levels,
    correction,
    pair_ending,
    pair_json_ending,
    pair_labels,
    pair_token_ending,
    pair_tokens,
    score_ending,
    score_json_ending,
    score_token_ending,
    turn_note,
)
from rlaif.types import Message
from tests.builders import candidate, criterion, item

FORMS = list(itertools.product((True, False), (3, 5)))


@pytest.mark.parametrize(("ties", "levels"), FORMS)
@pytest.mark.parametrize("reasoning", ["before", "after", "none"])
def test_every_verdict_is_named_once(ties: bool, levels: Levels, reasoning: str) -> None:
    labels = pair_labels(ties, levels)
    assert len(labels) == levels - (not ties)
    marks = pair_ending(reasoning, ties=ties, levels=levels)  # type: ignore[arg-type]
    assert re.findall(r"\[\[([^\]]+)\]\]", marks) == list(labels)
    quoted = pair_json_ending(reasoning, ties=ties, levels=levels)  # type: ignore[arg-type]
    assert all(f'"{label}" if' in quoted for label in labels)
    assert ('"rationale"' in quoted) == (reasoning != "none")


@pytest.mark.parametrize(("ties", "levels"), FORMS)
def test_every_verdict_has_one_token(ties: bool, levels: Levels) -> None:
    tokens = pair_tokens(ties, levels)
    assert list(tokens.values()) == list(pair_labels(ties, levels))
    assert all(len(one) == 1 for one in tokens)
    ending = pair_token_ending(ties=ties, levels=levels)
    assert all(re.search(rf"\b{one} if\b", ending) for one in tokens)
    assert ("must choose" in ending) == (not ties)


def test_scores_name_every_criterion_and_its_scale() -> None:
    criteria = (criterion("facts", 0, 1), criterion("tone", 1, 10))
    assert "facts: [[n]]   (n a whole number from 0 to 1)" in score_ending("before", criteria)
    assert '"tone": a whole number from 1 to 10' in score_json_ending("after", criteria)
    assert "grade for tone" in score_token_ending(criteria[1])
    assert "from 1 to 10" in score_token_ending(criteria[1])
    assert "0 or 1" in score_token_ending(criteria[0])


def _note(prompt: int, response: int, **meta: object) -> str:
    """The note for a prompt of so many user messages and a response with so many more."""
    asked = [Message("user", "q"), Message("assistant", "r")] * prompt
    said = [
        Message("assistant", "r"),
        *[Message("user", "q"), Message("assistant", "r")] * response,
    ]
    what = replace(item(meta=meta), prompt=tuple(asked[:-1]))
    return turn_note(what, [replace(candidate("a", ""), response=tuple(said))])


def test_a_single_turn_needs_no_note() -> None:
    assert _note(1, 0) == ""
    assert _note(1, 0, turn=1) == ""


@pytest.mark.parametrize(
    ("prompt", "response", "meta", "said"),
    [
        (3, 0, {}, "3 turns. Judge what the assistant says in turn 3, the last one"),
        (1, 1, {}, "2 turns. Judge what the assistant says in turn 2, the last one"),
        (1, 1, {"turn": 1}, "turn 1, not the later ones up to turn 2"),
        (1, 2, {"turn": 2}, "turn 2, not the later ones up to turn 3"),
        # the prompt holds the first two turns: none of the responses speaks in them
        (3, 0, {"turn": 1}, "in turn 3, the last one"),
        (1, 1, {"turn": 7}, "in turn 2, the last one"),
        (1, 1, {"turn": "2"}, "in turn 2, the last one"),
    ],
)
def test_the_turn_in_question_is_named(
    prompt: int, response: int, meta: dict[str, object], said: str
) -> None:
    assert said in _note(prompt, response, **meta)


def test_a_correction_names_the_fault_and_no_verdict() -> None:
    ending = pair_ending("none")
    told = correction(VerdictError("no verdict mark in the reply", cause="unreadable"), ending)
    assert "no verdict mark in the reply" in told
    assert told.endswith(ending)
    cut = correction(VerdictError("the reply was cut off", cause="truncated"), ending)
    assert "cut off" in cut
    assert "Do not repeat your reasons" in cut
