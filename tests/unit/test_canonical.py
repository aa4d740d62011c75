from __future__ import annotations

import hashlib
import json
import math
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.canonical import (
    canonical_json,
    digest,
    json_bytes,
    json_line,
    quick_digest,
    remembered,
    spelled,
)
from rlaif.types import Usage

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
@pytest.mark.parametrize("write", [canonical_json, digest, json_line, json_bytes])
@pytest.mark.parametrize(
    "around",
    [
        lambda number: {"a": [number]},
        lambda number: {"a": {"b": (None, np.float64(number))}},
        lambda number: {number: "null"},
        lambda number: ["\ud800", number],
    ],
)
def test_numbers_that_json_cannot_say_are_refused(write: Any, around: Any, number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write(around(number))


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"p": np.float64(0.5), "s": "é"}, {"p": 0.5, "s": "é"}),
        ([1e16, Point(1, "é")], [1e16, [1, "é"]]),
        ((1, (2,)), [1, [2]]),
        ({1: "é", 10: "b"}, {"1": "é", "10": "b"}),
        ({2: None, 10: True}, {"10": True, "2": None}),
        ({None: 1, True: 2}, {"true": 2, "null": 1}),
    ],
)
def test_what_json_does_not_tell_apart_is_spelled_alike(one: Any, other: Any) -> None:
    assert canonical_json(one) == canonical_json(other)


@pytest.mark.parametrize("write", [canonical_json, digest, json_line, json_bytes])
@pytest.mark.parametrize("value", [Usage(), {1, 2}, b"x", [object()], {"\ud800": object()}])
def test_what_json_has_not_is_refused(write: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="JSON"):
        write(value)


@pytest.mark.parametrize("value", [2**70, -(2**63) - 1, [[[["\ud800"]]]], "null", {"a": None}])
def test_the_rest_goes_through_the_standard_library(value: Any) -> None:
    for text in (canonical_json(value), json_line(value), json_bytes(value).decode()):
        assert json.loads(text) == value


def test_deep_values_are_written() -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = [deep]
    assert json.loads(canonical_json(deep)) == deep


@given(PLAIN)
def test_a_line_is_one_line_of_utf8_and_the_same_value(value: Any) -> None:
    line = json_line(value)
    assert line.endswith("\n")
    assert line.encode().count(b"\n") == 1
    assert json.loads(line.encode()) == value


def test_a_line_is_readable_unless_utf8_cannot_carry_it() -> None:
    assert json_line({"b": "café 東京", "a": 1}) == '{"b":"café 東京","a":1}\n'
    assert json_bytes({"b": "é", "a": 1}) == '{"b":"é","a":1}'.encode()
    assert json_line("é \ud800") == '"\\u00e9 \\ud800"\n'


@given(PLAIN, PLAIN)
def test_a_part_that_was_spelled_before_changes_no_digest(part: Any, rest: Any) -> None:
    whole = {"part": part, "rest": rest}
    parts = {"part": spelled(part), "rest": rest}
    quick = quick_digest(parts)
    assert quick in {digest(whole), None}
    assert (quick is None) == (parts["part"] is part or spelled(rest) is rest)


@pytest.mark.parametrize("odd", ["\ud800", 2**70])
def test_what_only_the_careful_way_can_spell_is_left_to_it(odd: Any) -> None:
    value = {"a": [odd]}
    assert spelled(value) is value
    assert quick_digest({"b": spelled(value)}) is None
    assert quick_digest({"a": spelled("b"), "c": odd}) is None


def test_no_part_that_is_not_finite_is_spelled() -> None:
    with pytest.raises(ValueError, match="JSON"):
        spelled({"a": math.nan})


def test_what_is_remembered_is_remembered_of_the_very_object() -> None:
    asked: list[list[float]] = []

    def write(value: list[float]) -> str:
        asked.append(value)
        return str(value)

    spell = remembered(write)
    whole: list[float] = [0, 0]
    float_ = [0.0, 0.0]
    assert whole == float_
    assert [spell(value) for value in (whole, float_, whole, float_)] == [
        *("[0, 0]", "[0.0, 0.0]") * 2
    ]
    assert len(asked) == 2
    assert [spell([n]) for n in range(1000)] == [f"[{n}]" for n in range(1000)]
    assert spell(whole) == "[0, 0]"
