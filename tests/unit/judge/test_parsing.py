from __future__ import annotations

import math

import pytest

from rlaif.errors import VerdictError
from rlaif.judge.parsing import blank_quoted, parse_score, parse_winner, rationale
from rlaif.types import Completion, TokenLogprob
from tests.builders import criterion


@pytest.mark.parametrize(
    ("reply", "winner"),
    [
        ("A is right and B is not.\n[[A]]", "A"),
        ("[[B]]", "B"),
        ("Both say the same. [[tie]]", "tie"),
        ("No difference.\n[[C]]", "tie"),
        ("**Verdict:** [[ b ]]", "B"),
        ("First I leaned to [[A]], but the second fact is wrong.\n\n[[B]]", "B"),
        ("I must answer [[A]], [[B]] or [[tie]].\nResponse A is better: [[A]]", "A"),
        ("> [[A]]\nso says the response, yet it is wrong.\n[[B]]", "B"),
        ("[[B]]\n```\nprint('[[A]]')\n```\nThat code fails.", "B"),
        ("My verdict:\n```\n[[A]]\n```", "A"),
        ("<think>maybe [[A]]? no</think>[[B]]", "B"),
        ("[[A]] twice: [[A]]", "A"),
    ],
)
def test_last_mark_outside_quotes_wins(reply: str, winner: str) -> None:
    assert parse_winner(Completion(reply))[0] == winner


@pytest.mark.parametrize(
    ("completion", "cause"),
    [
        (Completion("Both are fine, I would say A."), "unreadable"),
        (Completion(""), "unreadable"),
        (Completion("[[D]]"), "unreadable"),
        (Completion("[A]"), "unreadable"),
        (Completion("Is it [[A]] or [[B]]?"), "unreadable"),
        (Completion("```\nx = '[[A]]'\n```"), "unreadable"),
        (Completion("<think>[[A]] it is"), "unreadable"),
        (Completion("Response A is better. [[A]]", finish_reason="length"), "truncated"),
        (Completion("[[A]]", finish_reason="refusal"), "refused"),
        (Completion("I'm sorry, but I can't compare these."), "refused"),
        (Completion("I cannot help with that."), "refused"),
    ],
)
def test_no_verdict_has_its_cause(completion: Completion, cause: str) -> None:
    with pytest.raises(VerdictError) as caught:
        parse_winner(completion)
    assert caught.value.cause == cause
    assert caught.value.reply == completion.text


def _tokens(*pieces: str, top: dict[str, float], at: int) -> tuple[TokenLogprob, ...]:
    spread = tuple((token, math.log(p)) for token, p in top.items())
    return tuple(
        TokenLogprob(piece, -0.1, spread if place == at else (("x", -0.1),))
        for place, piece in enumerate(pieces)
    )


def test_probability_comes_from_the_label_token() -> None:
    top = {"A": 0.5, " A": 0.1, "B": 0.2, "tie": 0.1, "the": 0.1}
    reply = Completion("[[A]]", tokens=_tokens("[[", "A", "]]", top=top, at=1))
    winner, p = parse_winner(reply)
    assert winner == "A"
    assert p == pytest.approx((0.6 + 0.05) / 0.9)


def test_probability_of_a_label_that_shares_its_token_falls_back_to_the_verdict() -> None:
    top = {"[[A": 0.9, "[[B": 0.1}
    reply = Completion("[[A]]", tokens=_tokens("[[A", "]]", top=top, at=0))
    assert parse_winner(reply) == ("A", 1.0)


def test_probability_mass_outside_the_labels_falls_back_to_the_verdict() -> None:
    top = {"A": 0.3, "none": 0.7}
    reply = Completion("[[A]]", tokens=_tokens("[[", "A", "]]", top=top, at=1))
    assert parse_winner(reply) == ("A", 1.0)


def test_score_is_the_mean_of_the_level_probabilities() -> None:
    top = {"4": 0.6, "5": 0.3, " 4": 0.1}
    reply = Completion("Good. [[4]]", tokens=_tokens("Good. [[", "4", "]]", top=top, at=1))
    value, spread = parse_score(reply, [criterion()])["quality"]
    assert value == pytest.approx(4.3)
    assert spread == pytest.approx({"4": 0.7, "5": 0.3})


def test_scores_of_several_criteria_are_read_by_name() -> None:
    reply = Completion("The tone is fine.\nclarity: [[2]]\n- **tone**: [[5]]")
    found = parse_score(reply, [criterion("clarity"), criterion("tone")])
    assert {name: value for name, (value, _) in found.items()} == {"clarity": 2.0, "tone": 5.0}


@pytest.mark.parametrize("reply", ["clarity: [[2]]", "[[2]] [[5]]", "clarity: [[2]]\ntone: 5"])
def test_a_missing_criterion_is_unreadable(reply: str) -> None:
    with pytest.raises(VerdictError, match="no verdict mark"):
        parse_score(Completion(reply), [criterion("clarity"), criterion("tone")])


@pytest.mark.parametrize("reply", ["[[6]]", "[[0]]", "[[-1]]", "[[10]]"])
def test_a_grade_outside_the_scale_is_unreadable(reply: str) -> None:
    with pytest.raises(VerdictError, match=r"outside 1\.\.5"):
        parse_score(Completion(reply), [criterion()])


@pytest.mark.parametrize("reply", ["4", "[[4.5]]", "[[4/5]]", "four"])
def test_no_grade_is_guessed(reply: str) -> None:
    with pytest.raises(VerdictError):
        parse_score(Completion(reply), [criterion()])


def test_blanking_keeps_offsets() -> None:
    text = "a\n> quoted [[A]]\n```py\n[[B]]\nx\n```\nend"
    assert len(blank_quoted(text)) == len(text)
    assert "[[" not in blank_quoted(text)


def test_rationale_leaves_the_mark_out() -> None:
    assert rationale(Completion("B invents a fact.\n[[A]]")) == "B invents a fact."
    assert rationale(Completion("[[A]]")) is None
