from __future__ import annotations

import contextlib
import math
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import VerdictError
from rlaif.judge.parsing import as_label, blank_quoted, parse_label, parse_winner, rationale
from rlaif.types import Completion, TokenLogprob


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
        ("maybe [[A]]? no</think>[[B]]", "B"),
        ("<thinking>\n[[A]]\n</thinking>\n\n[[B]]", "B"),
        ("[THINK]so [[A]][/THINK][[B]]", "B"),
        ("<reasoning>[[A]] or [[B]]</reasoning>\n[[B]]", "B"),
        ("Let me see. <think>[[A]]</think> No.\n[[B]] <think>[[A]]</think>", "B"),
        ("The response says </think> out of place.\n[[B]]", "B"),
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
        (Completion("I\u2019m afraid I can\u2019t compare these."), "refused"),
        (Completion("Unfortunately, I cannot assess this content."), "refused"),
        (Completion("I must decline to judge this."), "refused"),
        (Completion("<think>Hm.</think>I won't rate this."), "refused"),
        (Completion("I will compare them: A is better."), "unreadable"),
        (Completion("[[A]]\n[[B]] or [[A]]"), "unreadable"),
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


def test_a_label_that_shares_its_token_with_the_bracket_has_its_probability() -> None:
    top = {"[[A": 0.9, "[[B": 0.1}
    reply = Completion("[[A]]", tokens=_tokens("[[A", "]]", top=top, at=0))
    assert parse_winner(reply) == ("A", pytest.approx(0.9))


def test_probability_mass_outside_the_labels_falls_back_to_the_verdict() -> None:
    top = {"A": 0.3, "none": 0.7}
    reply = Completion("[[A]]", tokens=_tokens("[[", "A", "]]", top=top, at=1))
    assert parse_winner(reply) == ("A", 1.0)


def test_blanking_keeps_offsets() -> None:
    text = "a\n> quoted [[A]]\n```py\n[[B]]\nx\n```\nend"
    assert len(blank_quoted(text)) == len(text)
    assert "[[" not in blank_quoted(text)


@given(
    st.lists(
        st.sampled_from(["Why.", "- **clarity**: [[4]]", "[[A]]", "| tone | [[5]] |", "a [[b", ""])
        | st.text(max_size=8),
        max_size=8,
    )
)
def test_no_line_of_marks_is_missed_however_long_the_reasons(lines: list[str]) -> None:
    reasons = "It says what was asked.\n" * 20
    text = "\n".join(lines)
    said = rationale(Completion(text)) or ""
    assert (rationale(Completion(f"{reasons}{text}")) or "").split() == [
        *(reasons.split()),
        *said.split(),
    ]


def test_rationale_leaves_the_mark_out() -> None:
    assert rationale(Completion("B invents a fact.\n[[A]]")) == "B invents a fact."
    assert rationale(Completion("[[A]]")) is None
    assert rationale(Completion("Why.\n- **clarity**: [[4]]\n| tone | [[5]] |")) == "Why."
    assert rationale(Completion("A is better [[A]]")) == "A is better"


@pytest.mark.parametrize("label", ["A>>B", "A>B", "A=B", "B>A", "B>>A"])
def test_the_last_of_five_labels(label: str) -> None:
    reply = Completion(f"I leaned to [[B>A]].\n[[ {label.lower()} ]]")
    assert parse_label(reply) == label
    assert rationale(reply) == "I leaned to ."


@pytest.mark.parametrize(("text", "label"), [("B<A", "A>B"), ("A<<B", "B>>A"), ("B=A", "A=B")])
def test_a_label_from_the_other_side(text: str, label: str) -> None:
    assert as_label(text, Completion("")) == label


@pytest.mark.parametrize("text", ["", "A", "A>>>B", "A>A", "B==A"])
def test_what_is_no_label(text: str) -> None:
    with pytest.raises(VerdictError, match="is no label"):
        as_label(text, Completion("x"))


@given(st.text(alphabet="[]ABtie C\n`> <think/>"))
def test_a_verdict_is_read_from_unquoted_text_alone(text: str) -> None:
    plain = blank_quoted(text)
    assert len(plain) == len(text)
    assert [c for c in plain if c == "\n"] == [c for c in text if c == "\n"]
    try:
        winner, _ = parse_winner(Completion(text))
    except VerdictError:
        return
    marks = re.findall(r"\[\[\s*(A|B|C|tie)\s*\]\]", plain, re.IGNORECASE)
    assert winner == {"a": "A", "b": "B", "c": "tie", "tie": "tie"}[marks[-1].lower()]


@given(st.text(max_size=60))
def test_thinking_is_never_read(thought: str) -> None:
    thought = thought.replace("</think>", "")
    reply = Completion(f"<think>{thought} [[A]]</think>\nB it is.\n[[B]]")
    assert parse_winner(reply)[0] == "B"
    assert rationale(reply) == "B it is."


def test_reading_takes_time_in_proportion_to_the_reply() -> None:
    started = time.perf_counter()
    for piece in ("[[A]] ", "> [[A]]\n", "```\n", "<think>", "</think>", "[[A>B]] "):
        text = piece * 20_000
        for read in (parse_winner, parse_label):
            with contextlib.suppress(VerdictError):
                read(Completion(text))
    assert time.perf_counter() - started < 5.0
