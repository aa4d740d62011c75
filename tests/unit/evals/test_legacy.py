"""How replies are read, by our rule and by the old ones, on the same table of replies."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import VerdictError
from rlaif.evals import legacy
from rlaif.types import Completion


def says(rule, text, finish="stop"):
    """What a rule reads, or the cause of it reading nothing."""
    try:
        return rule(Completion(text, finish_reason=finish))
    except VerdictError as error:
        return error.cause if error.reply == text else "another reply"


@pytest.mark.parametrize(
    ("reply", "ours", "fastchat"),
    [
        ("Better: [[A]]", "A", "A"),
        ("Better: [[B]]", "B", "B"),
        ("Equal: [[C]]", "tie", "tie"),
        # a mention is not a verdict
        ('One might say "[[A]]", but on reflection:\n[[B]]', "B", "A"),
        ("I first wrote [[B]].\nThe final verdict is [[C]]", "tie", "B"),
        ("> the response says [[A]]\n\nMy verdict: [[B]]", "B", "A"),
        ("Either [[A]] or [[B]]", "unreadable", "A"),
        ("Assistant A is better.", "unreadable", "unreadable"),
        ("[A]", "unreadable", "unreadable"),
        ("", "unreadable", "unreadable"),
        ("$ERROR$", "provider_error", "provider_error"),
        (" $ERROR$\n", "provider_error", "provider_error"),
        ("I'm sorry, I cannot judge this.", "refused", "unreadable"),
    ],
)
def test_pairwise_replies(reply, ours, fastchat):
    assert says(legacy.read_winner, reply) == ours
    assert says(legacy.legacy_winner, reply) == fastchat


@pytest.mark.parametrize(
    ("reply", "ours", "fastchat"),
    [
        ("Rating: [[7]]", 7, 7),
        ("Rating: [[7.5]]", 7.5, 7.5),
        ("A [[3]] at first.\nRating: [[8]]", 8, 3),
        ("Rating: [6]", "unreadable", 6),
        ("Rating: [[0]]", "unreadable", 0),
        ("Rating: [[11]]", "unreadable", 11),
        ("Rating: [[-1]]", "unreadable", "unreadable"),
        ("Rating: 8", "unreadable", "unreadable"),
        ("$ERROR$", "provider_error", "provider_error"),
    ],
)
def test_pointwise_replies(reply, ours, fastchat):
    assert says(legacy.read_rating, reply) == ours
    assert says(legacy.legacy_rating, reply) == fastchat


@pytest.mark.parametrize(
    ("reply", "ours", "last", "only"),
    [
        ("[[A>>B]]", "A>>B", "A>>B", "A>>B"),
        ("[[A=B]]", "A=B", "A=B", "A=B"),
        ("[[ B > A ]]", "B>A", "unreadable", "unreadable"),
        ("[[a>b]]", "A>B", "A>B", "unreadable"),
        ("[[B<A]]", "unreadable", "A>B", "A>B"),
        ("[[A<<B]]", "unreadable", "B>>A", "B>>A"),
        ("[[B=A]]", "unreadable", "A=B", "A=B"),
        ("[[A>>B]] is too strong.\nSo [[A>B]]", "A>B", "A>B", "unreadable"),
        ("[[A>B]] and again\n[[A>B]]", "A>B", "A>B", "A>B"),
        ("Verdict: [A>B]", "unreadable", "A>B", "unreadable"),
        ("[[A]]", "unreadable", "unreadable", "unreadable"),
        ("A is better", "unreadable", "unreadable", "unreadable"),
    ],
)
def test_labels(reply, ours, last, only):
    assert says(legacy.read_label, reply) == ours
    assert says(legacy.legacy_last_label, reply) == last
    assert says(legacy.legacy_only_label, reply) == only


@pytest.mark.parametrize(
    ("reply", "ours", "llmbar"),
    [
        ("Therefore, Output (a) is better.", "A", "A"),
        ("Therefore, Output (b) is better.", "B", "B"),
        ("Some say Output (a) is better.\nTherefore, Output (b) is better.", "B", "A"),
        ("Output (A) is better.", "A", "unreadable"),
        ("Both outputs are equally good.", "unreadable", "unreadable"),
    ],
)
def test_llmbar_replies(reply, ours, llmbar):
    assert says(legacy.read_better, reply) == ours
    assert says(legacy.legacy_better, reply) == llmbar


def test_a_reply_that_ended_badly_has_no_verdict():
    assert says(legacy.read_better, "Output (a) is better.", "length") == "truncated"
    assert says(legacy.read_label, "[[A>B]]", "refusal") == "refused"
    assert says(legacy.legacy_better, "Output (a) is better.", "length") == "A"


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("6", 6),
        (" 7.5\n", 7.5),
        ("8/10", 8),
        ("9.", 9),
        ("about 6", "unreadable"),
        ("", "unreadable"),
    ],
)
def test_grades(reply, grade):
    assert says(legacy.read_grade, reply) == grade
    assert says(legacy.read_grade, "6", "refusal") == "refused"


@pytest.mark.parametrize(
    ("first", "second", "delta", "winner"),
    [(8, 7, 0, "A"), (7, 8, 0, "B"), (7, 7, 0, "tie"), (7.05, 7, 0.1, "tie"), (7.2, 7, 0.1, "A")],
)
def test_two_scores_make_a_winner(first, second, delta, winner):
    assert legacy.scores_winner(first, second, delta=delta) == winner


@given(st.floats(-50, 0), st.floats(-50, 0))
def test_label_shares_are_a_softmax_over_two(m, big_m):
    share = legacy.label_share({"m": m, "M": big_m, "The": -1.0})
    expected = math.exp(m) / (math.exp(m) + math.exp(big_m))
    assert share == pytest.approx(expected, abs=1e-12)
    assert legacy.label_share({"m": big_m, "M": m}) == pytest.approx(1 - expected, abs=1e-12)


def test_a_label_outside_the_likeliest_counts_nothing():
    assert legacy.label_share({"m": -0.1}) == 1
    assert legacy.label_share({"M": -0.1}) == 0
    assert legacy.label_share({"The": -0.1}) is None


@given(st.floats(0, 1), st.booleans())
def test_the_order_of_alpaca_eval_is_told_by_the_record(share, swapped):
    recorded = 2 - share if swapped else 1 + share
    assert legacy.nearer_preference(share, recorded) == pytest.approx(recorded)


def test_labels_name_winners():
    assert [legacy.label_winner(text) for text in ("A>>B", "A=B", "B>A", "A<B", "C")] == [
        "A",
        "tie",
        "B",
        "B",
        None,
    ]
