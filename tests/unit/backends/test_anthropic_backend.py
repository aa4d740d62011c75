"""What only Anthropic's API has: the system text, thinking, its stop reasons, its SDK's errors."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pytest

from rlaif.backends.anthropic import AnthropicBackend
from rlaif.backends.base import BackendOptions
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Message, Request, Sampling, Usage
from tests.unit.backends.sdk_errors import instance, subclasses
from tests.wire import Fault, WireServer

KEY = "sk-ant-api03-Zq7Xw2Vt9Lm4"
REQUEST = Request((Message("user", "A or B?"),))


def ask(server: WireServer, request: Request = REQUEST, name: str = "judge") -> Completion:
    async def once() -> Completion:
        backend = AnthropicBackend(name, BackendOptions(KEY, server.url))
        try:
            return await backend.complete(request)
        finally:
            await backend.aclose()

    return asyncio.run(once())


def test_system_messages_become_the_system_text() -> None:
    messages = (
        Message("system", "Be fair."),
        Message("user", "hi"),
        Message("system", "Be brief."),
        Message("assistant", "hello"),
    )
    with WireServer() as server:
        ask(server, Request(messages))
        ask(server)
        with_system, without = (r.body for r in server.requests)
    assert with_system["system"] == "Be fair.\n\nBe brief."
    assert [m["role"] for m in with_system["messages"]] == ["user", "assistant"]
    assert "system" not in without


def test_no_seed_and_no_log_probabilities_are_asked_for() -> None:
    with WireServer() as server:
        said = ask(server, Request(REQUEST.messages, Sampling(seed=1), top_logprobs=5))
        assert not {"seed", "logprobs", "top_logprobs"} & server.requests[0].body.keys()
    assert said.tokens == ()


@pytest.mark.parametrize(
    ("name", "sampled"),
    [
        ("claude-3-5-haiku-20241022", True),
        ("claude-haiku-4-5", True),
        ("claude-sonnet-4-5-20250929", True),
        ("claude-opus-4-6", True),
        ("claude-opus-4-7", False),
        ("claude-opus-5-5", False),
        ("claude-sonnet-5", False),
        ("claude-mythos-preview", False),
        ("someone-elses-model", True),
    ],
)
def test_newer_models_are_not_sent_what_they_refuse(name: str, sampled: bool) -> None:
    with WireServer() as server:
        ask(server, Request(REQUEST.messages, Sampling(temperature=0.5, top_p=0.5)), name)
        body = server.requests[0].body
    assert ("temperature" in body, "top_p" in body) == (sampled, sampled)


def message(*blocks: dict[str, Any], stop: str = "end_turn", **usage: int) -> Fault:
    body = {"content": list(blocks), "stop_reason": stop, "model": "m", "usage": usage}
    return Fault(body={"type": "message", **body})


def test_text_blocks_are_joined_and_thinking_is_kept_apart() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm. ", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "thinking", "thinking": "A."},
        {"type": "text", "text": "A is "},
        {"type": "tool_use", "id": "1", "name": "n", "input": {}},
        {"type": "text", "text": "better."},
    ]
    with WireServer(faults=[message(*blocks)]) as server:
        said = ask(server)
    assert (said.text, said.thinking) == ("A is better.", "Hm. A.")


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("something new", "stop"),
    ],
)
def test_stop_reasons(stop: str, reason: str) -> None:
    with WireServer(faults=[message(stop=stop)]) as server:
        said = ask(server)
    assert (said.text, said.finish_reason) == ("", reason)


def test_input_counts_what_the_cache_read_and_wrote() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 20}
    with WireServer(faults=[message(**usage, output_tokens=3)]) as server:
        assert ask(server).usage == Usage(input=95, cached_input=70, output=3)


def test_given_text_cannot_be_scored() -> None:
    request = Request((Message("user", "x"), Message("assistant", "y")), task="likelihood")
    with WireServer() as server, pytest.raises(ConfigError, match="cannot score given text"):
        ask(server, request)
    assert server.calls == 0


def test_a_key_is_needed_and_none_is_taken_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://elsewhere.invalid")
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        AnthropicBackend("x", BackendOptions())
    backend = AnthropicBackend("x", BackendOptions(KEY))
    assert str(backend._client.base_url).rstrip("/") == "https://api.anthropic.com"
    assert backend.identity == "anthropic/x"
    asyncio.run(backend.aclose())


def test_the_version_of_the_api_is_named() -> None:
    with WireServer(key=KEY) as server:
        ask(server)
        assert server.requests[0].headers["anthropic-version"]


ERRORS = subclasses(anthropic.AnthropicError)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_sdk_becomes_ours(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = instance(kind, 500, f"trouble with {KEY}")
    backend = AnthropicBackend("x", BackendOptions(KEY))

    async def fails(*_: object, **__: object) -> str:
        raise error

    async def once() -> None:
        try:
            await backend.complete(REQUEST)
        finally:
            await backend.aclose()

    monkeypatch.setattr(backend._client, "post", fails)
    with pytest.raises(BackendError) as caught:
        asyncio.run(once())
    assert KEY not in str(caught.value)
    transient = anthropic.APIConnectionError | anthropic.APIResponseValidationError
    answered = isinstance(error, anthropic.APIStatusError)
    assert caught.value.retryable == (
        isinstance(error, transient)
        or (answered and (error.status_code in {408, 409, 429} or error.status_code >= 500))
    )


def test_the_walk_saw_the_errors_that_matter() -> None:
    names = {kind.__name__ for kind in ERRORS}
    assert {"APITimeoutError", "OverloadedError", "APIResponseValidationError"} <= names
