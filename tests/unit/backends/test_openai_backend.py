"""What only OpenAI's API has: parameters by family, refusals, log-probabilities, SDK errors."""

from __future__ import annotations

import asyncio
from dataclasses import replace
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
from tests.wire import Fault, Recorded, WireReply, WireServer, api_error, refuse

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


def test_the_responses_api_says_the_same() -> None:
    said = WireReply("A is better.", "length", "Let me see.", cached_input=3)
    sampling = Sampling(temperature=0.5, top_p=0.5, max_tokens=77, seed=4)
    with WireServer(lambda _: said) as server:
        chat = ask(server, Request(REQUEST.messages, sampling, top_logprobs=2))
        response = ask(
            server, Request(REQUEST.messages, sampling, top_logprobs=2), path="/responses"
        )
        body = server.requests[1].body
    assert replace(response, latency_s=0.0) == replace(chat, latency_s=0.0)
    assert response.tokens[0].top[0] == ("A", -0.125)
    assert server.requests[1].path == "/v1/responses"
    assert (body["max_output_tokens"], body["store"], body["top_logprobs"]) == (77, False, 2)
    assert (body["temperature"], body["top_p"]) == (0.5, 0.5)
    assert "seed" not in body


def test_the_responses_api_takes_no_fewer_than_16_tokens() -> None:
    with WireServer() as server:
        ask(server, Request(REQUEST.messages, Sampling(max_tokens=1)), path="/responses")
        assert server.requests[0].body["max_output_tokens"] == 16


def test_log_probabilities_that_a_reasoning_model_refuses_are_done_without() -> None:
    text = "logprobs are not supported with reasoning models."
    with WireServer(faults=[api_error(400, text, param="include")]) as server:
        assert ask(server, path="/responses").tokens == ()
        assert not {"include", "top_logprobs"} & server.requests[1].body.keys()


@pytest.mark.parametrize("finish_reason", ["stop", "refusal"])
def test_a_refusal_of_the_responses_api(finish_reason: str) -> None:
    with WireServer(lambda _: WireReply("I cannot.", finish_reason)) as server:
        said = ask(server, path="/responses")
    assert (said.text, said.finish_reason) == ("I cannot.", finish_reason)


def response(**fields: Any) -> Fault:
    return Fault(body={"object": "response", "model": "m", "output": [], **fields})


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("rate_limit_exceeded", "rate_limit", True),
        ("server_error", "server", True),
        ("vector_store_timeout", "timeout", True),
        ("invalid_image", "request", False),
    ],
)
def test_a_response_that_failed_is_an_error(code: str, kind: str, retryable: bool) -> None:
    fault = response(status="failed", error={"code": code, "message": "it broke"})
    with WireServer(faults=[fault]) as server, pytest.raises(BackendError, match="it broke") as e:
        ask(server, path="/responses")
    assert (e.value.kind, e.value.retryable) == (kind, retryable)


def test_a_response_that_was_declined_is_a_refusal() -> None:
    error = {"code": "invalid_prompt", "message": "flagged by our usage policy"}
    filtered = response(status="incomplete", incomplete_details={"reason": "content_filter"})
    with WireServer(faults=[response(status="failed", error=error), filtered]) as server:
        first, second = ask(server, path="/responses"), ask(server, path="/responses")
    assert (first.text, first.finish_reason) == ("flagged by our usage policy", "refusal")
    assert (second.text, second.finish_reason) == ("", "refusal")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"output": None}, "output is missing"),
        ({"output": [{"type": "message", "content": [{"text": 5}]}]}, "text is not text"),
        ({"output": "x"}, "output is not a list"),
        ({"error": "broken"}, "error is not an object"),
    ],
)
def test_a_response_that_is_none_is_worth_another_try(fields: Any, said: str) -> None:
    faults = [response(**fields)]
    with WireServer(faults=faults) as server, pytest.raises(BackendError, match=said) as caught:
        ask(server, path="/responses")
    assert (caught.value.retryable, caught.value.kind) == (True, "bad_reply")


def test_thoughts_in_a_response_are_kept_apart() -> None:
    thought = {"type": "reasoning", "summary": [{"text": "One."}], "content": [{"text": "Two."}]}
    message = {"type": "message", "content": [{"type": "output_text", "text": "B"}]}
    with WireServer(faults=[response(output=[thought, message])]) as server:
        said = ask(server, path="/responses")
    assert (said.text, said.thinking) == ("B", "One.\n\nTwo.")


def test_a_declined_prompt_is_a_refusal_and_no_failure() -> None:
    inner = {"code": "ResponsibleAIPolicyViolation"}
    azure = api_error(400, "The prompt was filtered", code="content_filter", innererror=inner)
    with WireServer(faults=[azure]) as server:
        said = ask(server)
    assert (said.text, said.finish_reason) == ("The prompt was filtered", "refusal")


ONLY = "This model is only supported in v1/responses and not in v1/chat/completions."


def test_a_model_that_only_the_other_api_has_is_asked_there() -> None:
    def only_responses(call: Recorded) -> Fault | None:
        return api_error(404, ONLY) if call.path.endswith("completions") else None

    async def two(server: WireServer) -> tuple[str, ...]:
        backend = OpenAIBackend("new-pro", BackendOptions(KEY, server.url))
        for _ in range(2):
            assert (await backend.complete(REQUEST)).text == "A fixed reply."
        await backend.aclose()
        return backend.corrections

    with WireServer(faults=only_responses) as server:
        said = asyncio.run(two(server))
        paths = [r.path.rpartition("/")[2] for r in server.requests]
    assert paths == ["completions", "responses", "responses"]
    assert said == ("new-pro does not take the chat API: not sent from now on",)


@pytest.mark.parametrize("has_it", [True, False])
def test_a_server_without_the_responses_api_is_asked_through_chat(has_it: bool) -> None:
    text = "The requested model 'x' is not supported with the Responses API."
    faults = [api_error(400, text)] if has_it else []
    with WireServer(faults=faults, responses=has_it) as server:
        assert ask(server, path="/responses").text == "A fixed reply."
        assert server.requests[-1].path == "/v1/chat/completions"


def test_apis_that_both_refuse_are_not_asked_for_ever() -> None:
    def neither(call: Recorded) -> Fault:
        return api_error(404, ONLY if call.path.endswith("completions") else "Not Found")

    with WireServer(faults=neither) as server:
        with pytest.raises(BackendError, match="'; known: judge"):
            ask(server)
        assert server.calls == 2


@pytest.mark.parametrize(
    ("name", "api"),
    [("gpt-4.1", "chat"), ("gpt-5", "responses"), ("o3", "responses"), ("gpt-5.1", "chat")],
)
def test_the_api_goes_by_the_family_at_openai_and_azure_only(name: str, api: str) -> None:
    azure = BackendOptions(KEY, "https://x.openai.azure.com", azure=True)
    for options in (BackendOptions(KEY), azure):
        backend = OpenAIBackend(name, options)
        assert backend.family.api == api
        asyncio.run(backend.aclose())
    other = OpenAIBackend(name, BackendOptions(KEY, "http://localhost:1/v1"))
    assert other.family.api == "chat"
    asyncio.run(other.aclose())


@pytest.mark.parametrize(
    ("version", "path"),
    [
        (None, "/openai/v1/chat/completions"),
        ("2024-10-21", "/openai/deployments/gpt-4.1/chat/completions"),
    ],
)
@pytest.mark.parametrize("suffix", ["", "/", "/openai", "/openai/v1"])
def test_azure_is_asked_at_its_paths_with_its_key(
    version: str | None, path: str, suffix: str
) -> None:
    async def once(server: WireServer) -> str:
        url = server.origin + suffix
        options = BackendOptions(KEY, url, azure=True, api_version=version)
        backend = OpenAIBackend("gpt-4.1", options)
        try:
            assert backend.identity.startswith(f"openai/gpt-4.1@{server.origin}/openai")
            return (await backend.complete(REQUEST)).text
        finally:
            await backend.aclose()

    with WireServer(key=KEY) as server:
        assert asyncio.run(once(server)) == "A fixed reply."
        call = server.requests[0]
    assert call.path == path
    assert ("api-key" in call.headers) == (version is not None)


def test_azure_names_its_own_key() -> None:
    async def once(server: WireServer) -> None:
        options = BackendOptions("wrong-key", server.origin, azure=True)
        backend = OpenAIBackend("gpt-4.1", options)
        try:
            await backend.complete(REQUEST)
        finally:
            await backend.aclose()

    with WireServer(key=KEY) as server, pytest.raises(BackendError, match="AZURE_OPENAI_API_KEY"):
        asyncio.run(once(server))
    with pytest.raises(ConfigError, match="set AZURE_OPENAI_API_KEY"):
        OpenAIBackend("x", BackendOptions(None, "https://x.openai.azure.com", azure=True))


def test_the_shared_part_is_marked_for_models_that_want_a_mark() -> None:
    text = "word " * 1200
    request = Request((Message("system", "Be fair."), Message("user", text + "end")), shared=6000)
    with WireServer() as server:
        ask(server, request, "gpt-5.6-sol", path="/responses")
        ask(server, request, "gpt-5.6-sol")
        ask(server, request, "gpt-5.1", path="/responses")
        ask(server, replace(request, shared=10), "gpt-5.6-sol", path="/responses")
        marked, elsewhere, older, short = (r.body for r in server.requests)
    mark = {"mode": "explicit"}
    assert marked["input"][1]["content"] == [
        {"type": "input_text", "text": text, "prompt_cache_breakpoint": mark},
        {"type": "input_text", "text": "end"},
    ]
    assert marked["prompt_cache_options"] == mark
    for body in (elsewhere, older, short):
        assert "prompt_cache" not in str(body)


def test_a_mark_that_is_refused_is_done_without() -> None:
    request = Request((Message("user", "word " * 1200),), shared=6000)
    text = "Unknown parameter: 'prompt_cache_options'."
    with WireServer(faults=[api_error(400, text)]) as server:
        assert ask(server, request, "gpt-5.6-sol", path="/responses").text
        assert "prompt_cache" not in str(server.requests[1].body)


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
