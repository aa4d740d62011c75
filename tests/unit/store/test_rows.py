from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.store.rows import COLUMNS, completion_from, pack, unpack
from rlaif.types import Completion, FinishReason, TokenLogprob, Usage

finite = st.floats(allow_nan=False, allow_infinity=False)
any_text = st.text(st.characters(exclude_categories=()), max_size=400)  # surrogates too
counts = st.integers(0, 2**63 - 1)
tokens = st.builds(
    TokenLogprob, any_text, finite, st.lists(st.tuples(any_text, finite), max_size=3).map(tuple)
)
completions = st.builds(
    Completion,
    text=any_text,
    finish_reason=st.sampled_from(get_args(FinishReason)),
    model=any_text,
    tokens=st.lists(tokens, max_size=3).map(tuple),
    thinking=any_text,
    usage=st.builds(Usage, counts, counts, counts),
    latency_s=finite,
    cost_usd=st.none() | finite,
)


@given(completions)
def test_a_completion_survives_the_round_trip(completion: Completion) -> None:
    row = pack(completion)
    assert len(row) == len(COLUMNS.split(","))
    assert unpack(row) == replace(completion, cached=True)


def test_every_field_of_a_completion_has_its_place() -> None:
    known = "text finish_reason model tokens thinking usage latency_s cached cost_usd"
    assert [f.name for f in fields(Completion)] == known.split()
    assert [f.name for f in fields(Usage)] == ["input", "cached_input", "output"]
    assert [f.name for f in fields(TokenLogprob)] == ["token", "logprob", "top"]


def test_long_text_is_compressed_and_short_text_is_not() -> None:
    reply = "Response A names the capital, and Response B hedges without need. "
    assert pack(Completion(reply))[8] == reply.encode()
    long = pack(Completion(reply * 30, thinking=reply * 30))
    assert (len(long[8]), len(long[9])) < (len(reply) * 30 / 10, len(reply) * 30 / 10)
    assert unpack(long).text == reply * 30


@pytest.mark.parametrize(
    "bad",
    [
        Completion("x", latency_s=math.nan),
        Completion("x", cost_usd=math.inf),
        Completion("x", usage=Usage(input=2**63)),
        Completion("x", usage=Usage(output=1.5)),  # type: ignore[arg-type]
        Completion("x", usage=Usage(cached_input=None)),  # type: ignore[arg-type]
        Completion("x", tokens=(TokenLogprob("a", -math.inf),)),
    ],
)
def test_what_cannot_come_back_is_not_kept(bad: Completion) -> None:
    with pytest.raises(ValueError, match=r"finite|count|JSON"):
        pack(bad)


GOOD = pack(Completion("x" * 500, model="m", thinking="t" * 500, tokens=(TokenLogprob("a", -1.0),)))
PLACES = [name.strip() for name in COLUMNS.split(",")]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("model", 3),
        ("model", b"\xff"),
        ("finish", 3),
        ("finish", -1),
        ("finish", "stop"),
        ("input", 1.0),
        ("cached_input", None),
        ("output", "7"),
        ("cost_usd", "1"),
        ("latency_s", None),
        ("packed", "1"),
        ("packed", 0),
        ("text", None),
        ("text", "text"),
        ("text", b"not zstd"),
        ("text", GOOD[8][:-3]),
        ("more", b"not zstd"),
        ("more", 5),
    ],
)
def test_a_damaged_row_is_noticed(column: str, value: Any) -> None:
    row = list(GOOD)
    row[PLACES.index(column)] = value
    with pytest.raises(ValueError, match=r"."):
        unpack(tuple(row))


@pytest.mark.parametrize(
    "more",
    [[], [3, []], ["", 5], ["", [["a", "x", []]]], ["", [["a", -1]]], ["", [["a", -1, [[1, 2]]]]],
     ["", [[1, -1.0, []]]], ["", [["a", -1.0, [["b", None]]]]], {}, ["", [["a", -1, [["b"]]]]]],
)  # fmt: skip
def test_damaged_probabilities_are_noticed(more: Any) -> None:
    row = list(pack(Completion("x")))
    row[PLACES.index("more")] = json.dumps(more).encode()
    with pytest.raises(ValueError, match=r"."):
        unpack(tuple(row))


@pytest.mark.parametrize("plain", [{}, {"text": 1}, {"text": "x", "surprise": 1}, [], "x"])
def test_what_others_wrote_is_checked(plain: Any) -> None:
    with pytest.raises(ValueError, match="validation error"):
        completion_from(plain)
