"""The chat completions format: the usual answer is read fast, every other with care, both alike."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends import _chat
from rlaif.backends._chat import chat_body, parse_chat
from rlaif.backends._http import Endpoint
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Message, Request, Sampling, TokenLogprob, Usage

ENDPOINT = Endpoint("the server", "http://localhost/v1", "judge", "KEY")
USUAL: dict[str, Any] = {
    "id": "chatcmpl-1",
    "model": "judge-1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "[[A]]", "refusal": None},
            "logprobs": {
                "content": [
                    {
                        "token": "A",
                        "logprob": -0.5,
                        "bytes": [65],
                        "top_logprobs": [
                            {"token": "B", "logprob": -1.5},
                            {"token": "A", "logprob": -0.5},
                            {"token": "C", "logprob": float(-99999)},
                        ],
                    }
                ]
            },
        }
    ],
    "usage": {
        "prompt_tokens": 11,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 5},
    },
}


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where everything inside `value` stands."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [
        path for key, inner in inside for path in [(*prefix, key), *paths(inner, (*prefix, key))]
    ]


def changed(path: tuple[Any, ...], new: Any) -> dict[str, Any]:
    """The usual answer with something else at `path`, or nothing where `new` is `Ellipsis`."""
    answer = copy.deepcopy(USUAL)
    place: Any = answer
    for key in path[:-1]:
        place = place[key]
    if new is Ellipsis:
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return answer


def outcome(read: Any, *arguments: Any) -> Completion | str:
    try:
        completion: Completion = read(*arguments)
    except BackendError as error:
        return f"{error} {error.retryable} {error.kind}"
    return completion


def test_the_usual_answer_is_read_without_care(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_chat, "_careful", None)
    top = (("A", -0.5), ("B", -1.5), ("C", -9999.0))
    said = parse_chat(ENDPOINT, orjson.dumps(USUAL), 0.25)
    assert said == Completion(
        "[[A]]",
        model="judge-1",
        tokens=(TokenLogprob("A", -0.5, top),),
        usage=Usage(11, 5, 3),
        latency_s=0.25,
    )
    without = changed(("choices", 0, "logprobs"), None)
    assert parse_chat(ENDPOINT, json.dumps(without), 0.0).tokens == ()


@given(
    st.sampled_from(paths(USUAL)),
    st.just(...)
    | st.none()
    | st.booleans()
    | st.integers(-2, 2**70)
    | st.floats()
    | st.sampled_from(["", "length", "content_filter", "tool_calls", "\ud800", "text"])
    | st.sampled_from([[], {}, [{}], [None], {"content": None}, {"error": {"message": "no"}}]),
)
def test_both_ways_read_the_same(path: tuple[Any, ...], new: Any) -> None:
    text = json.dumps(changed(path, new))
    fast = outcome(parse_chat, ENDPOINT, text.encode(), 0.5)
    assert fast == outcome(_chat._careful, ENDPOINT, text, 0.5)


@pytest.mark.parametrize("thinking", ["reasoning_content", "reasoning"])
def test_reasoning_is_read_by_both_names(thinking: str) -> None:
    answer = changed(("choices", 0, "message", thinking), "Hm.")
    assert parse_chat(ENDPOINT, orjson.dumps(answer), 0.0).thinking == "Hm."


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"<html></html>", b"[1]", b"null", b"{"])
def test_what_is_no_completion_is_worth_another_try(garbage: bytes) -> None:
    with pytest.raises(BackendError) as caught:
        parse_chat(ENDPOINT, garbage, 0.0)
    assert caught.value.retryable
    assert caught.value.kind == "bad_reply"


def body(**how: Any) -> dict[str, Any]:
    return chat_body("judge", Request((Message("user", "A or B?"),), **how))


def test_choices_ask_for_every_alternative() -> None:
    assert body(choices=("A", "B"), top_logprobs=3)["top_logprobs"] == 20
    assert body(top_logprobs=3)["top_logprobs"] == 3
    assert "logprobs" not in body()


def test_a_schema_is_sent_as_the_format_of_the_reply() -> None:
    schema = {"type": "object", "properties": {"winner": {"enum": ["A", "B"]}}}
    sent = body(json_schema=schema)["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"] == schema


def test_how_much_to_reason_is_a_word() -> None:
    assert body(sampling=Sampling(reasoning="low"))["reasoning_effort"] == "low"
    assert "reasoning_effort" not in body()
    with pytest.raises(ConfigError, match="a word"):
        body(sampling=Sampling(reasoning="2000"))
