import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.specs.wording import (
    is_double_barrelled,
    likeness,
    shared_meaning,
    telling,
    words,
)


@pytest.mark.parametrize(
    "question",
    [
        "Is it clear and right?",
        "Is it clear, and does it help?",
        "Is the response clear or concise?",
        "How clear, concise and correct is it?",
        "Is it accurate and/or complete?",
        "Is it polite as well as helpful?",
        "How clear/concise is it?",
        "Does the tone show kindness or honesty?",
    ],
)
def test_two_questions_in_one(question):
    assert is_double_barrelled(question)


@pytest.mark.parametrize(
    "question",
    [
        "Are facts, figures and names right?",
        "Is it right? Ignore tone and length.",
        "How deep is it?",
        "What harm to the person or to others becomes more likely?",
        "Is the date or the place wrong?",
        "Is it right or wrong?",
        "",
    ],
)
def test_one_question(question):
    assert not is_double_barrelled(question)


def test_words_keep_their_apostrophe_and_lose_their_case():
    assert words("It isn't so, Sir: 3 of_them.") == ["it", "isn't", "so", "sir", "3", "of", "them"]


def test_likeness_by_hand():
    assert likeness("a b c", "B c d") == pytest.approx(2 / 4)
    assert likeness("", "") == 0
    assert likeness("It is right.", "It is not right.") == pytest.approx(3 / 4)


def test_telling_words_are_stems_without_small_words():
    assert telling("Is the response reasoned?") == telling("reasons") == {"reason"}
    assert shared_meaning(telling("slang words"), telling("slang and long words")) == 1
    assert shared_meaning(telling("the"), telling("slang")) == 0


@given(st.text(), st.text())
def test_likeness_is_symmetric_and_a_share(first, second):
    assert likeness(first, second) == likeness(second, first)
    assert 0 <= likeness(first, second) <= 1
    a, b = telling(first), telling(second)
    assert shared_meaning(a, b) == shared_meaning(b, a)
    assert 0 <= shared_meaning(a, b) <= 1
