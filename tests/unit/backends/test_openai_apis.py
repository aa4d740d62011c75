"""Which of OpenAI's APIs is asked, the responses API, Azure, and marks for the prompt cache."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from rlaif.backends.base import BackendOptions
from rlaif.backends.openai import OpenAIBackend
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Message, Request, Sampling
from tests.unit.backends.test_openai_backend import KEY, REQUEST, ask
from tests.wire import Fault, Recorded, WireReply, WireServer, api_error


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
