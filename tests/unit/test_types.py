from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif import types
from rlaif.canonical import digest, json_line
from rlaif.errors import Cause, SpecError
from rlaif.types import (
    CAUSES,
    Call,
    Candidate,
    Comparison,
    Completion,
    Item,
    JudgeRef,
    Message,
    OrderVerdict,
    Preference,
    PreferencePair,
    Ranking,
    Request,
    RubricRef,
    Sampling,
    Score,
    TokenLogprob,
    Usage,
    Verdict,
    as_dict,
)
from tests.builders import candidate, item, verdict

TEXT = st.text(st.characters(codec=None), max_size=8)
SHARE = st.floats(0, 1)
NUMBER = st.floats(-1e6, 1e6)
MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT),
    min_size=1,
    max_size=3,
).map(tuple)
META = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT), max_size=3
)
ITEMS = st.builds(Item, TEXT, MESSAGES, st.none() | TEXT, META)
CANDIDATE = st.builds(Candidate, TEXT, MESSAGES, st.none() | TEXT)
CANDIDATES = {
    "score": st.tuples(CANDIDATE),
    "comparison": st.tuples(CANDIDATE, CANDIDATE),
    "ranking": st.lists(CANDIDATE, max_size=3).map(tuple),
}
SAMPLING = st.builds(Sampling, SHARE, SHARE, st.integers(1, 4096), st.none() | st.integers())
RUBRICS = st.none() | st.builds(RubricRef, TEXT, TEXT, TEXT)
LONE_JUDGES = st.builds(JudgeRef, TEXT, TEXT, SAMPLING, RUBRICS)
JUDGES = st.builds(
    JudgeRef,
    TEXT,
    TEXT,
    SAMPLING,
    RUBRICS,
    st.none() | st.lists(LONE_JUDGES, max_size=2).map(tuple),
)
COUNT = st.integers(0, 10**6)
CALLS = st.builds(
    Call,
    TEXT,
    TEXT,
    st.builds(Usage, COUNT, COUNT, COUNT),
    st.floats(0, 100),
    st.booleans(),
    st.sampled_from([None, "AB", "BA"]),
    st.none() | SHARE,
)
WINNER = st.sampled_from(["A", "B", "tie"])
ORDERS = st.builds(
    OrderVerdict, st.sampled_from(["AB", "BA"]), WINNER, SHARE, st.none() | st.integers(1, 9)
)
SCORES = st.builds(
    Score,
    NUMBER,
    NUMBER,
    NUMBER,
    st.none() | st.dictionaries(TEXT, SHARE, max_size=3),
    st.none() | st.dictionaries(TEXT, st.dictionaries(TEXT, NUMBER, max_size=2), max_size=2),
)
PREFERENCES = st.builds(
    lambda p, *rest: Preference("A" if p > 0.5 else "B" if p < 0.5 else "tie", p, *rest),
    SHARE,
    st.lists(ORDERS, max_size=2).map(tuple),
    st.booleans(),
)


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    kind = draw(st.sampled_from(["score", "comparison", "ranking"]))
    ok = draw(st.booleans())
    candidates = draw(CANDIDATES[kind])
    ids = sorted({one.id for one in candidates})
    strengths = st.fixed_dictionaries(dict.fromkeys(ids, NUMBER))
    rankings = st.builds(Ranking, st.permutations(ids).map(tuple), strengths, COUNT)
    payload = {"score": SCORES, "comparison": PREFERENCES, "ranking": rankings}[kind]
    name = {"score": "score", "comparison": "preference", "ranking": "ranking"}[kind]
    return Verdict(
        id=draw(TEXT),
        kind=kind,
        item=draw(ITEMS),
        candidates=candidates,
        judge=draw(JUDGES),
        status="ok" if ok else "no_verdict",
        cause=None if ok else draw(st.sampled_from(CAUSES)),
        rationale=draw(st.none() | TEXT),
        calls=tuple(draw(st.lists(CALLS, max_size=2))),
        **({name: draw(payload)} if ok else {}),
    )


@given(verdicts())
def test_a_verdict_survives_a_line_of_verdicts_jsonl(made: Verdict) -> None:
    made.check()
    line = json_line(made.as_dict())
    assert Verdict.from_dict(json.loads(line.encode())) == made


def test_a_line_begins_with_the_schema_and_leaves_out_what_is_absent() -> None:
    row = verdict().as_dict()
    assert next(iter(row)) == "schema"
    assert row["schema"] == 1
    assert None not in row.values()
    assert {"cause", "score", "ranking", "rationale"}.isdisjoint(row)
    assert "model" not in as_dict(candidate("a", "x"))


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"kind": "guess"}, "kind", "Input should be"),
        ({"item": 7}, "item", "instance of Item"),
        (
            {"candidates": [{"id": "a", "response": [{"role": "user"}]}]},
            "candidates.0.response.0",
            "required",
        ),
        ({"preference": {"winner": "C"}}, "preference.winner", "'A', 'B' or 'tie'"),
        ({"extra": 1}, "extra", "Unexpected"),
        ({"schema": 2}, "schema", "schema 2 is not 1"),
        ({"cause": "refused"}, "cause", "an ok verdict has no cause"),
        ({"status": "no_verdict"}, "cause", "needs its cause"),
        ({"status": "no_verdict", "cause": "bored"}, "cause", "Input should be 'unreadable'"),
        (
            {"status": "no_verdict", "cause": "refused"},
            "kind",
            r"no_verdict comparison verdict carries \['comparison'\]",
        ),
        ({"kind": "score"}, "kind", r"ok score verdict carries \['comparison'\]"),
        ({"candidates": []}, "candidates", "a comparison verdict has 2, found 0"),
        (
            {"kind": "score", "preference": None, "score": {"value": 1, "min": 1, "max": 5}},
            "candidates",
            "a score verdict has 1, found 2",
        ),
    ],
)
def test_a_row_that_contradicts_itself_is_refused_by_field(
    change: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        Verdict.from_dict(verdict().as_dict() | change)
    assert (caught.value.field or "").startswith(field)


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"order": ["a", "a"]}, "order", "names a candidate twice"),
        ({"order": ["a", "c"]}, "order", "'c' is no candidate"),
        ({"strengths": {"a": 1.0}}, "strengths", "has nothing for 'b'"),
        ({"low": {"b": 1.0}}, "low", "has nothing for 'a'"),
        ({"high": {}}, "high", "has nothing for 'a'"),
    ],
)
def test_a_ranking_is_of_the_candidates_and_tells_all_of_each(
    change: dict[str, Any], field: str, message: str
) -> None:
    ranking = {"order": ["a", "b"], "strengths": {"a": 0.1, "b": -0.1}, "comparisons": 1}
    row = {key: value for key, value in verdict().as_dict().items() if key != "preference"}
    row |= {"kind": "ranking", "ranking": ranking}
    assert Verdict.from_dict(row).ranking is not None
    with pytest.raises(SpecError, match=message) as caught:
        Verdict.from_dict(row | {"ranking": ranking | change})
    assert caught.value.field == f"ranking.{field}"


@pytest.mark.parametrize("missing", ["id", "kind", "item", "candidates", "judge", "status"])
def test_a_row_without_a_field_it_needs_is_refused(missing: str) -> None:
    row = verdict().as_dict()
    del row[missing]
    with pytest.raises(SpecError, match="required") as caught:
        Verdict.from_dict(row)
    assert (caught.value.field or "").startswith(missing)


def test_the_causes_are_those_of_the_errors() -> None:
    assert get_args(Cause) == CAUSES


def test_a_digest_follows_all_that_can_change_a_completion_and_the_backend() -> None:
    request = Request((Message("user", "hi"),))
    variants = [
        Request((Message("user", "ho"),)),
        Request((Message("system", "hi"),)),
        Request((Message("user", "hi"), Message("user", ""))),
        replace(request, sampling=Sampling(temperature=0.5)),
        replace(request, sampling=Sampling(top_p=0.5)),
        replace(request, sampling=Sampling(max_tokens=5)),
        replace(request, sampling=Sampling(seed=0)),
        replace(request, draw=1),
        replace(request, top_logprobs=1),
        replace(request, task="likelihood"),
        replace(request, sampling=Sampling(reasoning="low")),
        replace(request, choices=("A", "B")),
        replace(request, json_schema={"type": "object"}),
    ]
    digests = [r.digest("m") for r in (request, *variants)] + [request.digest("n")]
    assert len(set(digests)) == len(digests)
    assert all(len(d) == 64 for d in digests)
    assert Request((Message("user", "hi"),)).digest("m") == digests[0]
    assert replace(request, shared=2).digest("m") == digests[0]  # a hint, which changes no reply
    assert {f.name for f in fields(Request)} == {
        *("messages", "sampling", "draw", "top_logprobs", "task", "choices", "json_schema"),
        *("shared", "code", "_known"),  # no part of what is asked
    }  # a new field needs its variant above


@given(
    st.builds(
        Request,
        MESSAGES,
        SAMPLING,
        st.integers(0, 2**70),
        choices=st.lists(TEXT, max_size=2).map(tuple),
        json_schema=st.none() | META,
        code=st.sampled_from(["", "0"]),
    ),
    TEXT,
)
def test_the_quick_way_to_a_digest_leads_where_the_careful_one_does(
    request: Request, identity: str
) -> None:
    said = [{"role": m.role, "content": m.content} for m in request.messages]
    for message in said if request.code else []:
        message["content"] = message["content"].replace(request.code, "________")
    told = {
        "messages": said,
        "sampling": as_dict(request.sampling),
        **{name: getattr(request, name) for name in ("draw", "top_logprobs", "task")},
    }
    if request.choices:
        told["choices"] = list(request.choices)
    if request.json_schema is not None:
        told["json_schema"] = dict(request.json_schema)
    assert request.digest(identity) == digest({"backend": identity, "request": told})


def test_choices_are_digested_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request((Message("user", "hi"),), choices=("A", "é"))
    key = request.digest("m")
    monkeypatch.delattr(types, "digest")
    assert replace(request, choices=("A", "é")).digest("m") == key


@pytest.mark.parametrize(
    "odd", [{"sampling": Sampling(float("nan"))}, {"json_schema": {"a": float("inf")}}]
)
def test_a_number_that_is_not_finite_has_no_digest(odd: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Request((Message("user", "hi"),), **odd).digest("m")


def test_swapping_twice_is_nothing() -> None:
    made = Comparison(item(), candidate("a", "x"), candidate("b", "y"))
    assert made.swapped() == Comparison(item(), candidate("b", "y"), candidate("a", "x"))
    assert made.swapped().swapped() == made


def test_the_text_of_a_candidate_is_what_the_assistant_said() -> None:
    turns = (
        Message("assistant", "One."),
        Message("user", "And?"),
        Message("assistant", "Two."),
    )
    assert Candidate("a", turns).text == "One.\n\nTwo."
    assert Candidate("a", ()).text == ""


@given(st.lists(st.builds(Usage, COUNT, COUNT, COUNT), max_size=5))
def test_usage_adds_up(parts: list[Usage]) -> None:
    total = sum(parts, Usage())
    assert total.input == sum(p.input for p in parts)
    assert total.cached_input == sum(p.cached_input for p in parts)
    assert total.output == sum(p.output for p in parts)


def test_a_preference_row_has_every_column_even_without_a_value() -> None:
    said = (Message("assistant", "x"),)
    pair = PreferencePair(
        (Message("user", "?"),), said, said, 0.9, 0.8, True, "v", None, None, "m/j", None
    )
    row = pair.as_dict()
    assert list(row) == [f.name for f in fields(PreferencePair)]
    assert (row["chosen_model"], row["rubric"]) == (None, None)
    assert row["chosen"] == [{"role": "assistant", "content": "x"}]


def test_plain_data_holds_only_what_json_has() -> None:
    token = TokenLogprob("a", -0.5, (("a", -0.5),))
    row = as_dict(Completion("x", tokens=(token,)))
    assert row["tokens"] == [{"token": "a", "logprob": -0.5, "top": [["a", -0.5]]}]
    assert as_dict({1: (None, token)}) == {"1": [None, as_dict(token)]}
    assert json.loads(json.dumps(row)) == row


def test_values_are_frozen() -> None:
    kinds = [k for k in vars(types).values() if isinstance(k, type) and is_dataclass(k)]
    assert len(kinds) > 15
    assert all(k.__dataclass_params__.frozen for k in kinds)  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        Usage().input = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("winner", "p_a", "field"),
    [
        ("A", 0.4, "preference.winner"),
        ("B", 0.6, "preference.winner"),
        ("A", 1.5, "preference.p_a"),
        ("B", -0.1, "preference.p_a"),
    ],
)
def test_a_winner_that_contradicts_its_probability_is_refused(
    winner: str, p_a: float, field: str
) -> None:
    row = verdict().as_dict()
    row["preference"] |= {"winner": winner, "p_a": p_a}
    with pytest.raises(SpecError) as caught:
        Verdict.from_dict(row)
    assert caught.value.field == field


def _reflected(value: Any, keep_none: bool) -> Any:
    """What `as_dict` says, in the plainest words."""
    if is_dataclass(value):
        plain = {f.name: _reflected(getattr(value, f.name), keep_none) for f in fields(value)}
        return {k: v for k, v in plain.items() if keep_none or v is not None}
    if isinstance(value, dict):
        return {str(k): _reflected(v, keep_none) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_reflected(v, keep_none) for v in value]
    return value


@given(verdicts(), st.booleans())
def test_plain_data_is_that_of_the_fields(made: Verdict, keep_none: bool) -> None:
    plain = as_dict(made, keep_none=keep_none)
    assert plain == _reflected(made, keep_none)
    assert list(plain) == list(_reflected(made, keep_none))


def test_other_mappings_and_sequences_become_dicts_and_lists() -> None:
    class Names(tuple):
        __slots__ = ()

    meta = MappingProxyType({1: Names(("a", None))})
    assert as_dict(Item("i", (), meta=meta)) == {
        "id": "i",
        "prompt": [],
        "meta": {"1": ["a", None]},
    }


def test_the_code_of_a_home_is_no_part_of_what_is_asked() -> None:
    here, there = (
        Request((Message("user", f"<{code}:response>x</{code}:response>"),), code=code)
        for code in ("k3f9abqz", "m2m2m2m2")
    )
    assert here.digest("m") == there.digest("m")
    assert replace(here, code="").digest("m") != replace(there, code="").digest("m")
    assert replace(here, messages=(Message("user", "y"),)).digest("m") != here.digest("m")


def test_a_request_that_told_its_digest_is_the_same_request() -> None:
    request, other = (Request((Message("user", "hi"),)) for _ in range(2))
    first = request.digest("m")
    assert request.digest("n") != first
    assert request.digest("m") == first == other.digest("m")
    assert request == other
    assert repr(request) == repr(other)
    assert replace(request, draw=1).digest("m") != first
    assert pickle.loads(pickle.dumps(request)).digest("m") == first


ODD_TEXT = st.text(st.characters(codec=None), max_size=20) | st.just("k3f9abqz")
MESSAGE = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), ODD_TEXT)
SAMPLING = st.builds(
    Sampling,
    st.floats(0, 2) | st.integers(0, 2),
    seed=st.none() | st.integers(),
    reasoning=st.none() | ODD_TEXT,
)


@given(
    st.lists(MESSAGE, max_size=3).map(tuple),
    SAMPLING,
    st.integers(0, 9),
    st.sampled_from(["", "k3f9abqz"]),
    ODD_TEXT,
)
def test_the_quick_way_to_a_digest_leads_to_the_same(
    messages: tuple[Message, ...], sampling: Sampling, draw: int, code: str, identity: str
) -> None:
    request = Request(messages, sampling, draw, code=code)
    plain = [
        {"role": m.role, "content": m.content.replace(code, "________") if code else m.content}
        for m in messages
    ]
    asked = {
        "messages": plain,
        "sampling": as_dict(sampling),
        "draw": draw,
        "top_logprobs": 0,
        "task": "reply",
    }
    assert request.digest(identity) == digest({"backend": identity, "request": asked})


def test_digests_of_users_stores_stay_what_they_are() -> None:
    plain = Request((Message("user", "hi"),)).digest("server/x@y")
    assert plain == "bd053f22792e3fd2a84c27218c920d06e2e08f510eec13f2f55e2ae6e10603ed"
    rich = Request(
        (Message("user", "hi"),),
        Sampling(0.7, seed=5, reasoning="low"),
        top_logprobs=5,
        choices=("A", "B"),
    )
    assert rich.digest("server/x@y") == (
        "fe43c24551957dba67d4d46138a69062ead137074a12828c5ff722612f380431"
    )


@pytest.mark.parametrize("odd", [Sampling(float("nan")), Sampling(top_p=float("inf"))])
def test_a_request_whose_sampling_is_no_number_has_no_digest(odd: Sampling) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Request((Message("user", "hi"),), odd).digest("m")


def test_a_schema_without_a_json_spelling_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Request((Message("user", "hi"),), json_schema={"maximum": float("nan")}).digest("m")


def test_responses_of_equal_strength_share_a_place() -> None:
    from rlaif.types import Ranking

    ranking = Ranking(("x", "y", "z"), {"x": 1.0, "y": -0.5, "z": -0.5}, 2)
    assert [ranking.before(*pair) for pair in ("xy", "yx", "yz", "zy")] == [1.0, 0.0, 0.5, 0.5]
    assert Ranking(("x", "y"), {}, 0).before("y", "x") == 0.0
