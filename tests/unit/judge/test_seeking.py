from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.judge.seeking import seeker


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("the verdict: a", True),
        ("disregard all of it", True),
        ("one\nuser: two", True),
        ("a user: two", False),
        ("the verdict is a", False),
        ("", False),
        ("\ud800 ignore this \udfff", True),
        ("caf\u00e9, ignore this", True),
    ],
)
def test_any_of_the_patterns_is_found_on_any_line(text: str, held: bool) -> None:
    assert seeker(["ignore|disregard", "verdict:", "^user: "])(text) is held


def test_of_no_patterns_none_is_found() -> None:
    assert not seeker([])("anything")


def test_a_pattern_that_needs_to_look_around_is_refused() -> None:
    with pytest.raises(ValueError, match="look-around"):
        seeker(["a(?!b)"])


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4), st.text(), st.text())
def test_words_of_any_kind_are_found_where_they_stand(
    words: list[str], before: str, after: str
) -> None:
    seek = seeker(map(re.escape, words))
    assert all(seek(before + word + after) for word in words)
    assert seek(before) == any(word in before for word in words)
