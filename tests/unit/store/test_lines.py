from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.canonical import json_line
from rlaif.store.lines import verdict_line
from rlaif.types import (
    Call,
    Candidate,
    Item,
    JudgeRef,
    Message,
    OrderVerdict,
    Preference,
    RubricRef,
    Sampling,
    Score,
    Usage,
    Verdict,
)

TEXT = st.text(max_size=20) | st.sampled_from(["null", "\ud800", "a\u2028b"])
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
JUDGE = JudgeRef("server/judge", "verdict", Sampling(), RubricRef("helpfulness", "1.0.0", "d" * 64))


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    def messages(role: Any) -> tuple[Message, ...]:
        return tuple(Message(role, text) for text in draw(st.lists(TEXT, min_size=1, max_size=2)))

    p_a = draw(NUMBER)
    order = OrderVerdict("AB", "A", p_a, level=draw(st.none() | TEXT), missing_mass=0.1)
    preference = Preference("A", p_a, (order,), consistent=True)
    call = Call(
        draw(TEXT),
        draw(TEXT),
        Usage(1, 0, draw(st.integers(0, 99))),
        0.2,
        cached=draw(st.booleans()),
    )
    members = draw(st.none() | st.just((replace(JUDGE, rubric=None), JUDGE)))
    return Verdict(
        "0" * 32,
        "comparison",
        Item(
            "1",
            messages("user"),
            draw(st.none() | TEXT),
            draw(st.dictionaries(TEXT, PLAIN, max_size=3)),
        ),
        tuple(Candidate(draw(TEXT), messages("assistant")) for _ in "ab"),
        replace(JUDGE, members=members),
        "ok",
        preference=draw(st.none() | st.just(preference)),
        score=draw(st.none() | st.builds(Score, NUMBER, NUMBER, NUMBER, st.just({"1": 0.5}))),
        rationale=draw(st.none() | TEXT),
        calls=draw(st.sampled_from([(), (call,), (call, call)])),
        flags=draw(st.none() | st.just({"a": ("empty",)})),
    )


@given(verdicts())
def test_a_line_is_the_plain_dict_to_the_letter(verdict: Verdict) -> None:
    assert verdict_line(verdict) == json_line(verdict.as_dict())


@dataclass(frozen=True, slots=True)
class Lone:
    _hidden: int
    value: int | None


def with_meta(meta: dict[Any, Any]) -> Verdict:
    item = Item("1", (Message("user", "Hi"),), meta=meta)
    return Verdict("0" * 32, "score", item, (), JUDGE, "no_verdict", cause="budget")


@pytest.mark.parametrize(
    "meta",
    [{1: "a"}, {"x": np.float64(0.5)}, {"x": Lone(1, 2)}, {"x": [Lone(1, None)]}, {"x": 2**80}],
)
def test_what_orjson_does_not_know_is_written_all_the_same(meta: dict[Any, Any]) -> None:
    verdict = with_meta(meta)
    assert verdict_line(verdict) == json_line(verdict.as_dict())


def test_what_json_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no JSON spelling"):
        verdict_line(with_meta({"x": float("nan")}))
    with pytest.raises(TypeError):
        verdict_line(with_meta({"x": {1, 2}}))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", ["p_a", "order", "missing_mass", "latency_s", "cost_usd"])
def test_no_number_that_json_has_not_hides_among_the_usual_ones(place: str, wrong: float) -> None:
    def number(name: str, usual: float) -> float:
        return wrong if name == place else usual

    mass = number("missing_mass", 0.1)
    order = OrderVerdict("AB", "A", number("order", 0.9), source="verdict", missing_mass=mass)
    call = Call(
        "d", "null", Usage(), number("latency_s", 0.2), False, cost_usd=number("cost_usd", 0.0)
    )
    verdict = replace(
        with_meta({}),
        kind="comparison",
        preference=Preference("A", number("p_a", 0.9), (order,), consistent=True),
        calls=(call,),
    )
    with pytest.raises(ValueError, match="no JSON spelling"):
        verdict_line(verdict)
