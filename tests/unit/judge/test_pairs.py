from __future__ import annotations

import json
import math

import pytest

from rlaif.errors import VerdictError
from rlaif.judge.endings import Levels
from rlaif.judge.pairs import PairReader, label_winner, rationale_in, turned
from rlaif.types import Completion
from tests.unit.judge.replies import spoken, spread, token


def test_the_mark_is_the_verdict_and_the_token_its_probability() -> None:
    reply = spoken(token("Fine. [[", x=1.0), token("B", A=0.2, B=0.6, x=0.2), token("]]", x=1.0))
    found = PairReader().mark(reply)
    assert (found.winner, found.source, found.level) == ("B", "tokens", None)
    assert found.p_first == pytest.approx(0.25)
    assert found.missing_mass == pytest.approx(0.2)


def test_without_probabilities_the_verdict_counts() -> None:
    found = PairReader().mark(Completion("[[tie]]"))
    assert (found.winner, found.p_first, found.source) == ("tie", 0.5, "verdict")
    assert found.missing_mass is None


@pytest.mark.parametrize(
    ("label", "winner", "p_first"),
    [
        ("A>>B", "A", 1.0),
        ("A>B", "A", 0.75),
        ("A=B", "tie", 0.5),
        ("B>A", "B", 0.25),
        ("B>>A", "B", 0.0),
    ],
)
def test_five_levels(label: str, winner: str, p_first: float) -> None:
    found = PairReader(levels=5).mark(Completion(f"Well. [[{label}]]"))
    assert (found.winner, found.p_first, found.level) == (winner, p_first, label)
    assert label_winner(turned(label) or "") == {"A": "B", "B": "A", "tie": "tie"}[winner]
    assert turned(turned(label)) == label


def test_no_level_turns_into_none() -> None:
    assert turned(None) is None


@pytest.mark.parametrize(
    ("levels", "reply"),
    [(3, "[[tie]]"), (3, "[[C]]"), (5, "[[A=B]]"), (3, '{"verdict": "tie"}')],
)
def test_a_tie_that_is_not_allowed_is_no_verdict(levels: Levels, reply: str) -> None:
    reader = PairReader(ties=False, levels=levels)
    with pytest.raises(VerdictError, match=r"tie was not among|not one of A, B") as caught:
        reader.structured(Completion(reply))
    assert caught.value.cause == "unreadable"


def test_one_token_is_read_by_its_alternatives() -> None:
    reply = spoken(spread(" A", {" A": 0.5, "A": 0.1, "B": 0.2, "C": 0.1}), finish="length")
    found = PairReader().token(reply)
    assert (found.winner, found.source) == ("A", "tokens")
    assert found.p_first == pytest.approx((0.6 + 0.05) / 0.9)
    assert found.missing_mass == pytest.approx(0.1)


def test_one_token_of_five_verdicts_is_a_digit() -> None:
    reply = spoken(spread("2", {"2": 0.5, "1": 0.25, "5": 0.25}), finish="length")
    found = PairReader(levels=5).token(reply)
    assert (found.winner, found.level) == ("A", "A>B")
    assert found.p_first == pytest.approx(0.5 * 0.75 + 0.25)


@pytest.mark.parametrize("text", ["A", " A.", "**A**", "[[A]]", "(A)", "<think>B?</think>A"])
def test_one_token_without_probabilities_is_the_label_given(text: str) -> None:
    found = PairReader().token(Completion(text, "length"))
    assert (found.winner, found.p_first, found.source) == ("A", 1.0, "verdict")


@pytest.mark.parametrize(
    ("reply", "cause", "message"),
    [
        (Completion("The", "length"), "unreadable", "not one of A, B, C"),
        (Completion("", "length"), "unreadable", "the reply is empty"),
        (Completion("I'm sorry", "length"), "refused", "refused"),
        (Completion("A", "refusal"), "refused", "refused"),
        (spoken(token("The", The=0.8, A=0.2)), "unreadable", "only 20% of the probability"),
    ],
)
def test_one_token_that_says_nothing(reply: Completion, cause: str, message: str) -> None:
    with pytest.raises(VerdictError, match=message) as caught:
        PairReader().token(reply)
    assert caught.value.cause == cause


def test_the_json_object_is_the_verdict() -> None:
    text = json.dumps({"rationale": 'It says "verdict": "B" and [[B]].', "verdict": "A"})
    found = PairReader().structured(Completion(text))
    assert (found.winner, found.source) == ("A", "verdict")
    assert rationale_in(Completion(text)) == 'It says "verdict": "B" and [[B]].'


def test_a_schema_that_was_ignored_leaves_the_marks() -> None:
    assert PairReader().structured(Completion("B is right.\n[[B]]")).winner == "B"
    assert rationale_in(Completion("B is right.\n[[B]]")) is None
    assert rationale_in(Completion('{"rationale": 3, "verdict": "A"}')) is None


def test_the_json_verdict_has_its_probability() -> None:
    pieces = ['{"verdict": "', "A", '"}']
    top = (("A", math.log(0.6)), ("B", math.log(0.2)))
    tokens = [spread(piece, {"x": 1.0}) for piece in pieces]
    tokens[1] = spread("A", {"A": 0.6, "B": 0.2})
    assert tokens[1].top == top
    found = PairReader().structured(spoken(*tokens))
    assert (found.winner, found.source) == ("A", "tokens")
    assert found.p_first == pytest.approx(0.75)


@pytest.mark.parametrize("verdict", ['"C"', '"a"', "1", "null", '["A"]', "{}"])
def test_a_json_verdict_outside_the_list_is_named(verdict: str) -> None:
    with pytest.raises(VerdictError, match="not one of A, B, tie"):
        PairReader().structured(Completion(f'{{"verdict": {verdict}}}'))


def test_a_structured_reply_that_was_cut_off_is_truncated() -> None:
    with pytest.raises(VerdictError) as caught:
        PairReader().structured(Completion('{"rationale": "so', "length"))
    assert caught.value.cause == "truncated"
