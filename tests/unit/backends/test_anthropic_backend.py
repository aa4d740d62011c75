"""What only Anthropic's API has: the system text, thinking, its stop reasons, its SDK's errors."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pytest

from rlaif.backends.anthropic import AnthropicBackend
from rlaif.backends.base import BackendOptions
from rlaif.backends.families import thinking_room
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Message, Request, Sampling, Usage
from tests.unit.backends.sdk_errors import expected_kind, instance, subclasses
from tests.wire import Fault, WireServer, api_error

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


THOUGHTS = thinking_room()


@pytest.mark.parametrize(
    ("name", "reasoning", "thinking", "effort", "room"),
    [
        ("claude-sonnet-4-5", None, None, None, 0),
        ("claude-sonnet-4-5", "none", None, None, 0),
        ("claude-sonnet-4-5", "5000", {"type": "enabled", "budget_tokens": 5000}, None, 5000),
        ("claude-sonnet-4-5", "10", {"type": "enabled", "budget_tokens": 1024}, None, 1024),
        (
            "claude-sonnet-4-5",
            "low",
            {"type": "enabled", "budget_tokens": THOUGHTS["low"]},
            None,
            THOUGHTS["low"],
        ),
        ("claude-opus-4-6", "3000", {"type": "enabled", "budget_tokens": 3000}, None, 3000),
        ("claude-opus-4-6", "low", "adaptive", "low", THOUGHTS["low"]),
        ("claude-opus-4-8", None, None, None, 0),
        ("claude-opus-4-8", "max", "adaptive", "max", THOUGHTS["max"]),
        ("claude-sonnet-5", None, None, None, THOUGHTS["high"]),
        ("claude-sonnet-5", "none", {"type": "disabled"}, None, 0),
        ("claude-3-5-haiku-latest", "low", None, None, 0),
    ],
)
def test_thinking_is_asked_for_as_the_family_wants(
    name: str, reasoning: str | None, thinking: Any, effort: str | None, room: int
) -> None:
    if thinking == "adaptive":
        thinking = {"type": "adaptive", "display": "summarized"}
    sampling = Sampling(temperature=0.5, max_tokens=100, reasoning=reasoning)
    with WireServer() as server:
        ask(server, Request(REQUEST.messages, sampling), name)
        body = server.requests[0].body
    assert body.get("thinking") == thinking
    assert body.get("output_config") == (None if effort is None else {"effort": effort})
    assert body["max_tokens"] == 100 + room
    if room:
        assert "temperature" not in body


def test_a_number_of_tokens_is_not_for_models_that_take_a_word() -> None:
    request = Request(REQUEST.messages, Sampling(reasoning="2000"))
    with WireServer() as server, pytest.raises(ConfigError, match=r"takes a word .*low, medium"):
        ask(server, request, "claude-opus-4-8")
    assert server.calls == 0


SCHEMA = {"type": "object", "properties": {}}


def test_a_schema_is_sent_where_the_model_holds_replies_to_one() -> None:
    request = Request(REQUEST.messages, Sampling(reasoning="low"), json_schema=SCHEMA)
    with WireServer() as server:
        ask(server, request, "claude-sonnet-4-6")
        ask(server, request, "claude-3-opus-20240229")
        sent, without = (r.body for r in server.requests)
    wanted = {"type": "json_schema", "schema": SCHEMA}
    assert sent["output_config"] == {"effort": "low", "format": wanted}
    assert "output_config" not in without


def test_a_schema_that_is_refused_is_done_without() -> None:
    text = "output_config.format: Extra inputs are not permitted"
    with WireServer(faults=[api_error(400, text)]) as server:
        assert ask(server, Request(REQUEST.messages, json_schema=SCHEMA)).text
        assert "output_config" not in server.requests[1].body


LONG = "word " * 1200
MARK = {"type": "ephemeral"}


def test_the_shared_prefix_is_marked_and_the_rest_is_not() -> None:
    messages = (Message("system", LONG), Message("user", LONG + "end"))
    with WireServer() as server:
        ask(server, Request(messages, shared=len(LONG)), "claude-sonnet-4-6")
        body = server.requests[0].body
    assert body["system"] == [{"type": "text", "text": LONG, "cache_control": MARK}]
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": LONG, "cache_control": MARK},
        {"type": "text", "text": "end"},
    ]


@pytest.mark.parametrize(
    ("text", "shared", "name", "blocks"),
    [
        (LONG + "end", 0, "claude-sonnet-4-6", None),  # nothing is shared
        ("end", 2, "claude-sonnet-4-6", None),  # too short for the cache
        (LONG + "end", 6000, "claude-opus-4-6", None),  # whose cache begins later
        (LONG, 6000, "claude-sonnet-4-6", 1),  # all of it is shared
        (LONG + "  \n", 6000, "claude-sonnet-4-6", 1),  # a block of white space is refused
        (LONG + "end", 9999, "claude-sonnet-4-6", 1),
        (" " * 6000 + "end", 6000, "claude-sonnet-4-6", None),
        (LONG + "end", 6000, "somebody-elses-model", 2),
    ],
)
def test_a_mark_is_made_only_where_it_is_worth_it(
    text: str, shared: int, name: str, blocks: int | None
) -> None:
    with WireServer() as server:
        ask(server, Request((Message("user", text),), shared=shared), name)
        content = server.requests[0].body["messages"][0]["content"]
    if blocks is None:
        assert content == text
    else:
        assert len(content) == blocks
        assert "".join(block["text"] for block in content) == text
        assert ["cache_control" in block for block in content] == [True, False][:blocks]


def test_marks_that_are_refused_are_done_without() -> None:
    text = "messages.0.content.0.text.cache_control: Extra inputs are not permitted"
    request = Request((Message("system", LONG), Message("user", LONG)), shared=len(LONG))
    with WireServer(faults=[api_error(400, text)]) as server:
        assert ask(server, request).text
        assert "cache_control" not in str(server.requests[1].body)


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
    assert str(backend._sdk.client.base_url).rstrip("/") == "https://api.anthropic.com"
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

    monkeypatch.setattr(backend._sdk.client, "post", fails)
    with pytest.raises(BackendError) as caught:
        asyncio.run(once())
    assert KEY not in str(caught.value)
    assert caught.value.kind == expected_kind(error)
    transient = anthropic.APIConnectionError | anthropic.APIResponseValidationError
    answered = isinstance(error, anthropic.APIStatusError)
    assert caught.value.retryable == (
        isinstance(error, transient)
        or (answered and (error.status_code in {408, 409, 429} or error.status_code >= 500))
    )


def test_the_walk_saw_the_errors_that_matter() -> None:
    names = {kind.__name__ for kind in ERRORS}
    assert {"APITimeoutError", "OverloadedError", "APIResponseValidationError"} <= names
