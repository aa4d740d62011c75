"""What only OpenAI's API has: parameters by family, refusals, log-probabilities, SDK errors."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from rlaif.backends._http import Endpoint
from rlaif.backends._sdk import failure
from rlaif.backends.base import BackendOptions
from rlaif.backends.openai import OpenAIBackend
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Message, Request, Sampling
from tests.unit.backends.sdk_errors import expected_kind, instance, subclasses
from tests.wire import Fault, WireServer, api_error, refuse

KEY = "sk-proj-Zq7Xw2Vt9Lm4"
REQUEST = Request((Message("user", "A or B?"),), Sampling(temperature=0.0), top_logprobs=2)


def ask(
    server: WireServer, request: Request = REQUEST, name: str = "gpt-4.1", path: str = ""
) -> Completion:
    async def once() -> Completion:
        backend = OpenAIBackend(name, BackendOptions(KEY, server.url + path))
        try:
            return await backend.complete(request)
        finally:
            await backend.aclose()

    return asyncio.run(once())


@pytest.mark.parametrize(
    ("name", "sampled", "scored", "room"),
    [
        ("gpt-4.1", True, True, 0),
        ("gpt-4o-mini", True, True, 0),
        ("gpt-5-chat-latest", True, False, 0),
        ("gpt-5.1", True, True, 0),
        ("gpt-5", False, False, 8192),
        ("gpt-5-mini-2025-08-07", False, False, 8192),
        ("gpt-5.2-pro", False, False, 8192),
        ("o1", False, False, 8192),
        ("o3-mini", False, False, 8192),
        ("o4-mini-2025-04-16", False, False, 8192),
        ("gpt-5.6-sol", False, False, 8192),
        ("ollama-model", True, True, 0),
    ],
)
def test_families_are_not_sent_what_they_refuse(
    name: str, sampled: bool, scored: bool, room: int
) -> None:
    with WireServer() as server:
        ask(server, name=name)
        body = server.requests[0].body
    assert ("temperature" in body) == sampled
    assert ("logprobs" in body, "top_logprobs" in body) == (scored, scored)
    assert body["max_completion_tokens"] == 1024 + room
    assert "max_tokens" not in body


def test_log_probabilities_come_with_the_likeliest_first() -> None:
    with WireServer(lambda _: "B wins", logprob=lambda _: -1.0) as server:
        completion = ask(server)
    assert [t.token for t in completion.tokens] == ["B", " wins"]
    assert completion.tokens[0].top == (("A", -0.5), ("B", -1.0))


def test_no_more_alternatives_are_asked_for_than_the_api_gives() -> None:
    with WireServer() as server:
        ask(server, Request(REQUEST.messages, top_logprobs=50))
        assert server.requests[0].body["top_logprobs"] == 20


def chat(message: dict[str, Any], **choice: Any) -> Fault:
    return Fault(body={"choices": [{"message": message, **choice}], "model": "m"})


def test_a_refusal_is_one_with_its_words() -> None:
    with WireServer(faults=[chat({"content": None, "refusal": "I cannot help."})]) as server:
        said = ask(server)
    assert (said.text, said.finish_reason) == ("I cannot help.", "refusal")


def test_content_in_parts_is_joined_and_nothing_is_empty_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    faults = [chat({"content": parts}), chat({"content": None}, finish_reason="length")]
    with WireServer(faults=faults) as server:
        assert ask(server).text == "ab"
        cut = ask(server)
    assert (cut.text, cut.finish_reason) == ("", "length")


def token(logprob: Any) -> Fault:
    content = [{"token": "A", "logprob": logprob, "top_logprobs": [{"token": "A", "logprob": 0}]}]
    return chat({"content": "A"}, logprobs={"content": content})


def test_log_probabilities_are_made_finite_or_refused() -> None:
    low, over, text, nan = token(float("-inf")), token(1e-9), token("x"), token(float("nan"))
    with WireServer(faults=[low, over, text, nan]) as server:
        assert ask(server).tokens[0].logprob == -9999.0
        assert ask(server).tokens[0].logprob == 0.0
        for _ in range(2):
            with pytest.raises(BackendError, match="is not a log-probability") as caught:
                ask(server)
            assert caught.value.retryable


def test_the_older_name_of_max_tokens_is_learned() -> None:
    with WireServer(faults=refuse("max_completion_tokens")) as server:
        assert ask(server).text
        assert server.requests[1].body["max_tokens"] == 1024
        assert "max_completion_tokens" not in server.requests[1].body


def test_the_bound_on_the_reply_is_never_dropped() -> None:
    with (
        WireServer(faults=refuse("max_completion_tokens", "max_tokens")) as server,
        pytest.raises(BackendError, match="max_tokens"),
    ):
        ask(server)


def test_log_probabilities_that_are_not_allowed_are_done_without() -> None:
    text = "You are not allowed to request logprobs from this model"
    with WireServer(faults=[api_error(403, text)]) as server:
        assert ask(server).tokens == ()
        assert not {"logprobs", "top_logprobs"} & server.requests[1].body.keys()


def test_calls_in_flight_together_learn_together() -> None:
    async def many(server: WireServer) -> list[Completion]:
        backend = OpenAIBackend("new", BackendOptions(KEY, server.url))
        try:
            return await asyncio.gather(*(backend.complete(REQUEST) for _ in range(20)))
        finally:
            await backend.aclose()

    with WireServer(faults=refuse("temperature", "logprobs"), delay_s=0.01) as server:
        assert len(asyncio.run(many(server))) == 20


@pytest.mark.parametrize(
    ("name", "reasoning", "sent"),
    [
        ("gpt-5.1", "low", "low"),
        ("gpt-5.1", "none", "none"),
        ("gpt-4.1", "low", None),
        ("gpt-5.1", None, None),
    ],
)
def test_reasoning_is_asked_for_in_the_providers_words(
    name: str, reasoning: str | None, sent: str | None
) -> None:
    request = Request(REQUEST.messages, Sampling(reasoning=reasoning), top_logprobs=2)
    with WireServer() as server:
        ask(server, request, name)
        ask(server, request, name, path="/responses")
        chat, response = (r.body for r in server.requests)
    assert chat.get("reasoning_effort") == sent
    assert response.get("reasoning") == (None if sent is None else {"effort": sent})
    thinks = sent == "low"
    assert [("temperature" in body, "logprobs" in str(body)) for body in (chat, response)] == [
        (not thinks, not thinks)
    ] * 2


def test_a_number_of_tokens_is_no_word_for_reasoning() -> None:
    request = Request(REQUEST.messages, Sampling(reasoning="2000"))
    with (
        WireServer() as server,
        pytest.raises(ConfigError, match=r"a word for reasoning \(none, low"),
    ):
        ask(server, request, "gpt-5.1")
    assert server.calls == 0


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def test_a_schema_is_sent_where_the_model_holds_replies_to_one() -> None:
    request = Request(REQUEST.messages, json_schema=SCHEMA, choices=("A", "B"))
    with WireServer() as server:
        ask(server, request)
        ask(server, request, path="/responses")
        ask(server, request, "gpt-4-turbo")
        chat, response, without = (r.body for r in server.requests)
    schema = {"name": "reply", "schema": SCHEMA, "strict": True}
    assert chat["response_format"] == {"type": "json_schema", "json_schema": schema}
    assert response["text"] == {"format": {"type": "json_schema", **schema}}
    assert "response_format" not in without


@pytest.mark.parametrize("path", ["", "/responses"])
def test_a_schema_that_is_refused_is_done_without(path: str) -> None:
    text = "Invalid schema for response_format 'reply': 'minimum' is not permitted."
    with WireServer(faults=[api_error(400, text)]) as server:
        assert ask(server, Request(REQUEST.messages, json_schema=SCHEMA), path=path).text
        assert not {"response_format", "text"} & server.requests[1].body.keys()


def test_an_error_with_status_200_is_an_error() -> None:
    gateway = Fault(body={"error": {"code": 429, "message": "upstream is busy"}})
    odd = Fault(body={"error": "upstream is down"})
    with WireServer(faults=[gateway, odd]) as server:
        for said in ("limiting the rate .* upstream is busy", "upstream is down"):
            with pytest.raises(BackendError, match=said) as caught:
                ask(server)
            assert caught.value.retryable


def test_given_text_cannot_be_scored() -> None:
    request = Request((Message("user", "x"), Message("assistant", "y")), task="likelihood")
    with WireServer() as server, pytest.raises(ConfigError, match="cannot score given text"):
        ask(server, request)
    assert server.calls == 0


def test_a_key_is_needed() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        OpenAIBackend("x", BackendOptions())


def test_another_address_is_another_identity_and_the_usual_one_is_not_taken_from_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.invalid/v1")
    usual = OpenAIBackend("x", BackendOptions(KEY))
    other = OpenAIBackend("x", BackendOptions(KEY, "http://localhost:1/v1/"))
    assert usual.identity == "openai/x"
    assert other.identity == "openai/x@http://localhost:1/v1"
    assert str(usual._sdk.client.base_url) == "https://api.openai.com/v1/"
    for backend in (usual, other):
        asyncio.run(backend.aclose())


ERRORS = subclasses(openai.OpenAIError)
COMPLETION = openai.types.chat.ChatCompletion.model_construct(usage=None)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_sdk_becomes_ours(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = instance(kind, 500, f"trouble with {KEY}", completion=COMPLETION)
    backend = OpenAIBackend("x", BackendOptions(KEY))

    async def fails(*_: object, **__: object) -> str:
        raise error

    async def once() -> None:
        try:
            await backend.complete(REQUEST)
        finally:
            await backend.aclose()

    monkeypatch.setattr(backend._sdk.client, "post", fails)
    with pytest.raises(BackendError) as caught:
        asyncio.run(once())
    assert KEY not in str(caught.value)
    assert caught.value.kind == expected_kind(error)
    assert caught.value.retryable == (
        isinstance(error, openai.APIConnectionError | openai.APIResponseValidationError)
        or getattr(error, "status_code", 0) in {409, 429, 500}
    )


def test_the_walk_saw_the_errors_that_matter() -> None:
    names = {kind.__name__ for kind in ERRORS}
    assert {"APITimeoutError", "RateLimitError", "APIResponseValidationError"} <= names


def test_an_unforeseen_status_becomes_ours() -> None:
    endpoint = Endpoint("OpenAI", "http://x", "m", "OPENAI_API_KEY", KEY)
    for status in range(300, 600):
        error = instance(openai.APIStatusError, status, "odd")
        found = failure(openai, endpoint, error, 1.0)
        assert found.kind == expected_kind(error)
        assert found.retryable == (status in {408, 409, 425, 429} or status >= 500)
        assert found.fatal == (status < 400 or status in {401, 402, 403, 404})
