from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.judge.labels import (
    Place,
    first_place,
    label_spread,
    level_spread,
    longest_level,
    place_of,
)
from rlaif.types import Completion, TokenLogprob
from tests.unit.judge.replies import spoken, spread, token

NAMES = {"A": "A", "B": "B", "tie": "tie", "t": "tie"}
TEN = tuple(map(str, range(1, 11)))
HUNDRED = tuple(map(str, range(101)))


def test_spellings_are_summed_and_the_rest_is_missing() -> None:
    place = Place((spread("A", {"A": 0.5, " A": 0.2, "B": 0.1, "The": 0.15}),), "")
    found = label_spread(place, "A", NAMES)
    assert found.p == pytest.approx({"A": 0.7 / 0.8, "B": 0.1 / 0.8})
    assert found.missing_mass == pytest.approx(0.2)
    assert found.holds()


@pytest.mark.parametrize(
    ("drawn", "before", "label", "top"),
    [
        ("[[A", "[[", "A", {"[[A": 0.6, "[[B": 0.3, "A": 0.1}),
        (" [[A", " [[", "A", {" [[A": 0.6, "[[B": 0.3}),
        ('"A"', '"', "A", {'"A"': 0.6, '"B"': 0.3, '"C"': 0.1}),
        ("A]]", "", "A", {"A]]": 0.6, "B]]": 0.3}),
        ("t", "", "tie", {"t": 0.6, "B": 0.3}),
    ],
)
def test_a_label_may_share_its_token(
    drawn: str, before: str, label: str, top: dict[str, float]
) -> None:
    found = label_spread(Place((spread(drawn, top),), before), label, NAMES)
    name = "tie" if label == "tie" else "A"
    assert found.p == pytest.approx({name: 2 / 3, "B": 1 / 3})


def test_labels_nowhere_in_sight_leave_nothing() -> None:
    found = label_spread(Place((token("x", x=0.9),), ""), "A", NAMES)
    assert (found.p, found.missing_mass, found.holds()) == ({}, 1.0, False)


def test_most_of_the_probability_must_lie_on_the_labels() -> None:
    assert not label_spread(Place((token("A", A=0.49, x=0.51),), ""), "A", NAMES).holds()
    assert label_spread(Place((token("A", A=0.51, x=0.49),), ""), "A", NAMES).holds()


def test_the_place_of_a_character_is_its_token() -> None:
    reply = spoken(token("It is ", x=1.0), spread(" [[A", {" [[A": 0.9}), token("]]", x=1.0))
    place = place_of(reply, reply.text.index("A"))
    assert place is not None
    assert (place.tokens[0].token, place.before) == (" [[A", " [[")
    assert place_of(reply, 1000) is None
    assert place_of(Completion("A", tokens=(TokenLogprob("A", -0.1),)), 0) is None
    assert place_of(Completion("A"), 0) is None


def test_the_first_token_that_says_something() -> None:
    place = first_place(spoken(token("\n", x=1.0), token("4", x=1.0)))
    assert place is not None
    assert place.tokens[0].token == "4"
    assert first_place(Completion("4")) is None
    assert first_place(Completion("4", tokens=(TokenLogprob("4", -0.1),))) is None


def _levels(*tokens: TokenLogprob, levels: tuple[str, ...] = TEN, ended: bool = True):
    return level_spread(Place(tokens, ""), levels, ended=ended)


def test_a_tokenizer_that_has_ten_as_one_token() -> None:
    found = _levels(spread("10", {"10": 0.5, "1": 0.2, "9": 0.2, " 9": 0.1}))
    assert found.p == pytest.approx({"10": 0.5, "1": 0.2, "9": 0.3})
    assert found.missing_mass == pytest.approx(0.0)


def test_a_tokenizer_that_has_ten_as_two_tokens() -> None:
    # P(10) = P(1) P(0 | 1), and what else follows the 1 leaves it a 1
    first = spread("1", {"1": 0.8, "9": 0.2})
    second = spread("0", {"0": 0.75, "<end>": 0.25})
    found = _levels(first, second)
    assert found.p == pytest.approx({"10": 0.6, "1": 0.2, "9": 0.2})


def test_a_one_that_the_reply_ended_after_is_a_one() -> None:
    assert _levels(spread("1", {"1": 0.9, "2": 0.1})).p == pytest.approx({"1": 0.9, "2": 0.1})


def test_a_digit_that_may_begin_two_levels_counts_as_missing() -> None:
    # cut after one token: the 1 may have become a 10
    cut = _levels(spread("1", {"1": 0.6, "2": 0.4}), ended=False)
    assert cut.p == pytest.approx({"2": 1.0})
    assert cut.missing_mass == pytest.approx(0.6)
    # the 8 was drawn: what the 1 would have become is not known
    other = _levels(spread("8", {"8": 0.7, "1": 0.3}), token("]]", x=1.0))
    assert other.p == pytest.approx({"8": 1.0})
    assert other.missing_mass == pytest.approx(0.3)


def test_a_hundred_levels_in_digits() -> None:
    first = spread("8", {"8": 0.9, "7": 0.1})
    second = spread("5", {"5": 0.5, "0": 0.4, "<end>": 0.1})
    found = _levels(first, second, levels=HUNDRED)
    assert found.p == pytest.approx({"85": 0.5, "80": 0.4, "8": 0.1})
    assert found.missing_mass == pytest.approx(0.1)


def test_a_hundred_in_three_digits() -> None:
    found = _levels(
        spread("1", {"1": 1.0}),
        spread("0", {"0": 1.0}),
        spread("0", {"0": 0.6, "<end>": 0.4}),
        levels=HUNDRED,
    )
    assert found.p == pytest.approx({"100": 0.6, "10": 0.4})


def test_negative_levels() -> None:
    levels = tuple(map(str, range(-2, 3)))
    whole = _levels(spread("-1", {"-1": 0.6, "1": 0.4}), levels=levels)
    assert whole.p == pytest.approx({"-1": 0.6, "1": 0.4})
    split = _levels(spread("-", {"-": 0.6, "1": 0.4}), spread("2", {"2": 1.0}), levels=levels)
    assert split.p == pytest.approx({"-2": 0.6, "1": 0.4})


def test_choices_that_the_backend_lists_whole() -> None:
    listed = spread("3", {"3": 0.5, "10": 0.3, "1": 0.2})
    assert _levels(listed, ended=False).p == pytest.approx({"3": 0.5, "10": 0.3, "1": 0.2})


@pytest.mark.parametrize(
    ("levels", "tokens"),
    [(("1", "2", "5"), 1), (TEN, 2), (HUNDRED, 3), (("-1", "0", "1"), 2)],
)
def test_as_many_tokens_as_tell_the_levels_apart(levels: tuple[str, ...], tokens: int) -> None:
    assert longest_level(levels) == tokens


@given(
    st.dictionaries(
        st.sampled_from([*TEN, " 3", "0", "The", "", "-"]), st.floats(1e-6, 1.0), min_size=1
    ),
    st.booleans(),
)
def test_a_spread_is_a_distribution_over_levels(top: dict[str, float], ended: bool) -> None:
    total = sum(top.values())
    top = {text: p / total for text, p in top.items()}
    drawn = max(top, key=lambda text: top[text])
    found = _levels(spread(drawn, top), ended=ended)
    assert set(found.p) <= set(TEN)
    assert 0.0 <= found.missing_mass <= 1.0
    assert not found.p or sum(found.p.values()) == pytest.approx(1.0)
