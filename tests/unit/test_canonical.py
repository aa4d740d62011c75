from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.canonical import canonical_json, digest, json_line

TEXT = st.text(st.characters(codec=None), max_size=20)  # lone surrogates too
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def _reordered(value: Any) -> Any:
    """An equal value whose mappings were filled the other way round."""
    if isinstance(value, dict):
        return {key: _reordered(value[key]) for key in reversed(value)}
    return [_reordered(v) for v in value] if isinstance(value, list) else value


@given(PLAIN)
def test_equal_values_have_one_spelling(value: Any) -> None:
    assert canonical_json(_reordered(value)) == canonical_json(value)
    assert digest(_reordered(value)) == digest(value)


@given(PLAIN)
def test_it_is_json_of_the_same_value_on_one_line_that_utf8_carries(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text.encode()) == value
    assert "\n" not in text


@given(PLAIN, PLAIN)
def test_different_values_have_different_spellings(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(one) == digest(other)) == same


def test_the_spelling_is_fixed() -> None:
    value = {"b": [1, 2.5, None, True], "a": "é\u2028"}
    text = '{"a":"é\u2028","b":[1,2.5,null,true]}'
    assert canonical_json(value) == text
    assert digest(value) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("write", [canonical_json, digest, json_line])
def test_numbers_that_json_cannot_say_are_refused(write: Any, number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write({"a": [number]})


@given(PLAIN)
def test_a_line_is_one_line_of_utf8_and_the_same_value(value: Any) -> None:
    line = json_line(value)
    assert line.endswith("\n")
    assert line.encode().count(b"\n") == 1
    assert json.loads(line.encode()) == value


def test_a_line_is_readable_unless_utf8_cannot_carry_it() -> None:
    assert json_line({"b": "café 東京", "a": 1}) == '{"b":"café 東京","a":1}\n'
    assert json_line("é \ud800") == '"\\u00e9 \\ud800"\n'
