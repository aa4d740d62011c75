"""What the three providers over HTTP have in common, through the real SDKs and a local server."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from rlaif.backends.anthropic import AnthropicBackend
from rlaif.backends.base import Backend, BackendOptions
from rlaif.backends.limited import LimitedBackend
from rlaif.backends.openai import OpenAIBackend
from rlaif.backends.pace import RateLimits, ReportsLimits
from rlaif.backends.retrying import RetryingBackend
from rlaif.backends.server import ServerBackend
from rlaif.backends.timeouts import Timeouts
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Message, Request, Sampling, Usage
from tests.wire import Fault, WireReply, WireServer, api_error, html, refuse

KEY = "sk-proj-Zq7Xw2Vt9Lm4"
PROVIDERS: list[Callable[[str, BackendOptions], Backend]] = [
    OpenAIBackend,
    AnthropicBackend,
    ServerBackend,
]
VARIABLES = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "RLAIF_SERVER_API_KEY"]
REQUEST = Request((Message("system", "Be fair."), Message("user", "Which is better?")))

pytestmark = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda p: p.__name__)
Provider = Callable[[str, BackendOptions], Backend]


def ask(
    provider: Provider,
    server: WireServer,
    request: Request = REQUEST,
    *,
    name: str = "judge",
    timeout_s: float = 20.0,
    url: str | None = None,
) -> Completion:
    async def once() -> Completion:
        options = BackendOptions(KEY, url or server.url, timeout_s)
        backend = provider(name, options)
        try:
            return await backend.complete(request)
        finally:
            await backend.aclose()
            await backend.aclose()

    return asyncio.run(once())


def failure(provider: Provider, *faults: Fault, **options: Any) -> BackendError:
    with WireServer(faults=faults) as server, pytest.raises(BackendError) as caught:
        ask(provider, server, **options)
    return caught.value


@pytest.mark.parametrize("finish_reason", ["stop", "length", "refusal"])
def test_all_say_the_same_of_the_same_conversation(provider: Provider, finish_reason: str) -> None:
    def reply(messages: list[dict[str, str]]) -> WireReply:
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
        return WireReply("A is “better”. 🎉\n", finish_reason, "Let me see.", cached_input=3)

    turns = (Message("assistant", "Of what?"), Message("user", "Of A and B."))
    with WireServer(reply) as server:
        said = ask(provider, server, Request(REQUEST.messages + turns))
    assert said.text == "A is “better”. 🎉\n"
    assert said.finish_reason == finish_reason
    assert said.thinking == "Let me see."
    assert said.model == "judge-2026-01-01"
    # the toy template: 4 roles, 2 + 3 + 2 + 4 words, and the role that is to answer
    assert said.usage == Usage(input=16, cached_input=3, output=5)
    assert said.tokens == ()
    assert 0 < said.latency_s < 20
    assert not said.cached


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_the_version_in_the_url_may_be_left_out(provider: Provider, suffix: str) -> None:
    with WireServer() as server:
        assert ask(provider, server, url=server.origin + suffix).text == "A fixed reply."


def test_sampling_is_passed_on(provider: Provider) -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=77, seed=40)
    with WireServer() as server:
        ask(provider, server, Request(REQUEST.messages, sampling, draw=2))
        body = server.requests[0].body
    assert (body["model"], body["temperature"], body["top_p"]) == ("judge", 0.7, 0.9)
    assert 77 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert body.get("seed") == (None if provider is AnthropicBackend else 42)
    assert "logprobs" not in body


def test_top_p_is_sent_only_when_it_does_something(provider: Provider) -> None:
    with WireServer() as server:
        ask(provider, server)
        assert "top_p" not in server.requests[0].body


def test_a_long_reply_may_be_asked_for(provider: Provider) -> None:
    with WireServer() as server:
        request = Request(REQUEST.messages, Sampling(max_tokens=100_000))
        assert ask(provider, server, request).text == "A fixed reply."


def test_a_refused_parameter_is_left_out_once_and_for_all(provider: Provider) -> None:
    sampling = Sampling(temperature=0.5, top_p=0.5)

    async def two(server: WireServer) -> None:
        backend = provider("judge", BackendOptions(KEY, server.url))
        for _ in range(2):
            assert (await backend.complete(Request(REQUEST.messages, sampling))).text
        await backend.aclose()

    with WireServer(faults=refuse("temperature")) as server:
        asyncio.run(two(server))
        sent = [("temperature" in r.body, "top_p" in r.body) for r in server.requests]
    assert sent == [(True, True), (False, True), (False, True)]


def test_of_two_parameters_refused_together_one_stays(provider: Provider) -> None:
    def either(request: Any) -> Fault | None:
        if {"temperature", "top_p"} <= request.body.keys():
            text = "`temperature` and `top_p` cannot both be specified for this model."
            return api_error(400, text)
        return None

    with WireServer(faults=either) as server:
        ask(provider, server, Request(REQUEST.messages, Sampling(temperature=0.5, top_p=0.5)))
        assert "temperature" in server.requests[1].body
        assert server.calls == 2


@pytest.mark.parametrize(
    "message",
    ["temperature: must be at most 1", "messages: unsupported role", "max_tokens is not supported"],
)
def test_a_wrong_value_is_not_corrected(provider: Provider, message: str) -> None:
    def always(_: Any) -> Fault:
        return api_error(400, message)

    with WireServer(faults=always) as server:
        with pytest.raises(BackendError, match="rejected the request") as caught:
            ask(provider, server)
        assert server.calls <= 2
    assert not caught.value.retryable
    assert not caught.value.fatal


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_is_fatal_and_names_its_variable(provider: Provider, status: int) -> None:
    error = failure(provider, api_error(status, f"Bad key {KEY}"))
    assert error.fatal
    assert error.kind == "access"
    assert not error.retryable
    assert VARIABLES[PROVIDERS.index(provider)] in str(error)


def test_no_part_of_the_key_shows_anywhere(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    starred = f"{KEY[:8]}********{KEY[-4:]}"
    said = f"Your key {KEY} ({starred}) [Bearer {KEY}] x{KEY.lower()[:3]} is wrong \x1b[31m\u202e"
    shown = []
    for status in (400, 401, 403, 404, 429, 500, 302):
        error = failure(provider, api_error(status, said, code=KEY))
        shown += [str(error), repr(error), *traceback.format_exception(error)]
    for body in (
        KEY,
        f'{{"error": "{KEY}"}}',
        f"<html>{KEY}",
        f'{{"choices": "{KEY}"}}',
        f'"{KEY}"',
    ):
        error = failure(provider, Fault(200, {}, body))
        shown += [str(error), *traceback.format_exception(error)]
    backend = provider("judge", BackendOptions(KEY, "http://localhost:1"))
    shown += [repr(backend), backend.identity, repr(vars(backend)), caplog.text]
    asyncio.run(backend.aclose())
    for text in shown:
        assert KEY not in text
        assert KEY[:8] not in text
        assert KEY[-4:] not in text
    assert "\x1b" not in "".join(shown)
    assert "\u202e" not in "".join(shown)


@pytest.mark.parametrize("bad", ["sk two", "sk\nline", "sk\x00", "schlüssel", "sk\u200b1"])
def test_a_key_that_cannot_be_one_is_refused_unseen(provider: Provider, bad: str) -> None:
    with pytest.raises(ConfigError) as caught:
        provider("judge", BackendOptions(bad, "http://localhost:1"))
    assert VARIABLES[PROVIDERS.index(provider)] in str(caught.value)
    assert bad not in str(caught.value)


def test_what_copying_leaves_around_a_key_is_taken_off(provider: Provider) -> None:
    async def once(server: WireServer) -> str:
        backend = provider("judge", BackendOptions(f" {KEY}\r\n", server.url))
        try:
            return (await backend.complete(REQUEST)).text
        finally:
            await backend.aclose()

    with WireServer(key=KEY) as server:
        assert asyncio.run(once(server)) == "A fixed reply."


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, "timeout"),
        (409, "server"),
        (425, "server"),
        (429, "rate_limit"),
        (500, "server"),
        (502, "server"),
        (503, "overload"),
        (504, "timeout"),
        (529, "overload"),
    ],
)
def test_what_may_pass_is_retryable(provider: Provider, status: int, kind: str) -> None:
    error = failure(provider, api_error(status, "Overloaded", {"Retry-After": "7"}))
    assert (error.retryable, error.fatal, error.retry_after) == (True, False, 7.0)
    assert error.kind == kind
    assert "Overloaded" in str(error)
    assert str(status) in str(error)


@pytest.mark.parametrize("status", [400, 413, 418, 422])
def test_what_is_wrong_with_the_request_is_not(provider: Provider, status: int) -> None:
    error = failure(provider, api_error(status, "too long " * 200))
    assert (error.retryable, error.fatal, error.kind) == (False, False, "request")
    assert 250 < len(str(error)) < 400


def test_the_wait_may_be_a_date_or_milliseconds(provider: Provider) -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    error = failure(provider, api_error(503, "later", {"Retry-After": date}))
    assert error.retry_after is not None
    assert 25 < error.retry_after <= 30
    headers = {"Retry-After": "9", "retry-after-ms": "250"}
    assert failure(provider, api_error(429, "later", headers)).retry_after == 0.25
    for odd in ("soon", "nan", "inf", ""):
        assert failure(provider, api_error(429, "x", {"Retry-After": odd})).retry_after is None
    past = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert failure(provider, api_error(429, "x", past)).retry_after == 0.0


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (api_error(429, "You exceeded your current quota", code="insufficient_quota"), "access"),
        (api_error(400, "Your credit balance is too low to access the API."), "access"),
        (api_error(402, "Payment required"), "access"),
        (Fault(307, {"Location": "http://127.0.0.1:9/steal"}, b""), "request"),
    ],
)
def test_what_no_further_call_would_change_is_fatal(
    provider: Provider, fault: Fault, kind: str
) -> None:
    error = failure(provider, fault)
    assert (error.retryable, error.fatal, error.kind) == (False, True, kind)


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (["judge-7b", "writer"], r"has no model 'judge-8b'; did you mean 'judge-7b'\?$"),
        (["zz", "yy"], "has no model 'judge-8b'; known: yy, zz$"),
        ([f"{n:03}" for n in range(99)], "known: 000, .*, 019 and 79 more$"),
        ([f"{KEY}-7b"], r"known: \[redacted\]$"),
    ],
)
def test_an_unknown_model_is_fatal_and_the_known_ones_are_named(
    provider: Provider, models: list[str], said: str
) -> None:
    with (
        WireServer(models=models) as server,
        pytest.raises(BackendError, match=said) as caught,
    ):
        ask(provider, server, name="judge-8b")
    assert (caught.value.fatal, caught.value.kind) == (True, "request")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["/api", "/api/v2"])
def test_a_url_where_nothing_is_asks_whether_it_is_right(provider: Provider, path: str) -> None:
    with (
        WireServer() as server,
        pytest.raises(
            BackendError, match=r"is the base URL right\? most servers' ends in /v1"
        ) as e,
    ):
        ask(provider, server, url=server.origin + path)
    assert e.value.fatal
    assert path in str(e.value)


def test_what_is_left_of_the_limits_is_told(provider: Provider) -> None:
    told: list[RateLimits] = []
    left = {
        "x-ratelimit-remaining-requests": "7",
        "x-ratelimit-reset-requests": "1m1s",
        "x-ratelimit-remaining-tokens": "900",
    }

    async def two(server: WireServer) -> None:
        backend = provider("judge", BackendOptions(KEY, server.url))
        assert isinstance(backend, ReportsLimits)
        backend.on_limits = told.append
        await backend.complete(REQUEST)
        with pytest.raises(BackendError, match="slow"):
            await backend.complete(REQUEST)
        await backend.aclose()

    with WireServer(headers=left, faults=[None, api_error(429, "slow")]) as server:
        asyncio.run(two(server))
    assert told == [RateLimits(7, 61.0, 900, None)] * 2


def test_a_time_out_is_as_long_as_it_was_said_to_be(provider: Provider) -> None:
    backend = provider("judge", BackendOptions(KEY, "http://localhost:1", timeout_s=3.0))
    found = getattr(backend, "timeouts", None)
    asyncio.run(backend.aclose())
    assert isinstance(found, Timeouts)
    assert (found.total_s, found.connect_s) == (3.0, 3.0)


def test_rewards_are_not_had(provider: Provider) -> None:
    with WireServer() as server, pytest.raises(ConfigError, match=r"reward|cannot score"):
        ask(provider, server, replace(REQUEST, task="reward"))
    assert server.calls == 0


def chat(**message: Any) -> dict[str, Any]:
    return {"choices": [{"message": message}], "content": [message], "usage": {}}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (html(), "answered HTML .* is the base URL right"),
        (Fault(body=b"\x00\xff\xfe garbage"), "answered no JSON"),
        (Fault(body='{"choices": [{"mess'), "answered no JSON"),
        (Fault(body=b""), "nothing at all"),
        (Fault(body="[" * 100_000), "answered no JSON"),
        (Fault(body="[1]"), "a list, not an object"),
        (Fault(body={}), "(choices|content) is missing"),
        (Fault(body={"choices": [], "content": None}), "is missing"),
        (Fault(body={"choices": "x", "content": "x"}), "is not a list"),
        (Fault(body={"choices": [7], "content": [7]}), r"\[0\] is not an object"),
        (Fault(body={"choices": [{}], "content": [{"type": 5}]}), "missing|is not text"),
        (Fault(body={"choices": [{"message": ""}], "content": ""}), "is not (an object|a list)"),
        (Fault(body=chat(type="text", content=5, text=5)), "is not text"),
        (
            Fault(body={**chat(type="text"), "usage": {"prompt_tokens": "9", "input_tokens": -1}}),
            "is not a count",
        ),
        (Fault(cut=True), "no connection"),
        (Fault(drop=True), "no connection .* disconnected"),
        (Fault(200, {"Content-Encoding": "gzip"}, b"not gzip"), "no connection"),
        (html(502), r"failed \(HTTP 502\): an HTML page"),
    ],
)
def test_a_broken_answer_is_worth_another_try(provider: Provider, fault: Fault, said: str) -> None:
    with WireServer(faults=[fault]) as server:
        with pytest.raises(BackendError, match=said) as caught:
            ask(provider, server)
        assert server.calls == 1
    assert (caught.value.retryable, caught.value.fatal) == (True, False)
    connection = "no connection" in said
    assert caught.value.kind == ("connection" if connection else kind_of(said))


def kind_of(said: str) -> str:
    return "server" if "HTTP 502" in said else "bad_reply"


def test_a_server_that_hangs_is_left(provider: Provider) -> None:
    started = time.perf_counter()
    error = failure(provider, Fault(hang=True), timeout_s=0.3)
    assert str(error).endswith("did not answer within 0.3 s")
    assert (error.retryable, error.kind) == (True, "timeout")
    assert time.perf_counter() - started < 3


def test_a_server_that_is_not_there_is_retryable(provider: Provider) -> None:
    with WireServer() as server:
        gone = server.url
    with pytest.raises(BackendError, match="no connection") as caught:
        ask(provider, server, url=gone)
    assert caught.value.retryable


def test_text_that_no_wire_carries_does_not_break_the_run(provider: Provider) -> None:
    request = Request((Message("user", "half a \ud83d pair"),))
    with WireServer() as server:
        if provider is ServerBackend:
            assert ask(provider, server, request).text == "A fixed reply."
            return
        with pytest.raises(BackendError, match="UTF-8") as caught:
            ask(provider, server, request)
    assert not caught.value.retryable


def test_a_cancelled_call_is_cancelled(provider: Provider) -> None:
    async def cancel(server: WireServer) -> bool:
        backend = provider("judge", BackendOptions(KEY, server.url))
        task = asyncio.create_task(backend.complete(REQUEST))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait([task])
        await backend.aclose()
        return task.cancelled()

    with WireServer(faults=[Fault(hang=True)]) as server:
        assert asyncio.run(cancel(server))


def test_many_calls_with_faults_all_end_well(provider: Provider) -> None:
    turn = iter(range(10**6))

    def sometimes(_: Any) -> Fault | None:
        kinds = {3: Fault(drop=True), 5: html(), 7: api_error(500, "x"), 11: Fault(cut=True)}
        return next((f for n, f in kinds.items() if next(turn) % (n * 7) == 0), None)

    async def many(server: WireServer) -> list[Completion]:
        inner = provider("judge", BackendOptions(KEY, server.url))
        backend = RetryingBackend(LimitedBackend(inner, 32), first_wait_s=0.01)
        requests = [Request((Message("user", f"item {i}"),)) for i in range(300)]
        try:
            return await asyncio.gather(*map(backend.complete, requests))
        finally:
            await backend.aclose()

    with WireServer(lambda m: m[-1]["content"], faults=sometimes) as server:
        said = asyncio.run(many(server))
        assert server.peak_in_flight <= 32
        assert server.calls > 300
        assert server.connections < server.calls / 2, "connections are kept"
    assert [c.text for c in said] == [f"item {i}" for i in range(300)]


def test_a_wrong_key_costs_only_what_is_in_flight(provider: Provider) -> None:
    async def many(server: WireServer) -> list[Completion | BaseException]:
        inner = provider("judge", BackendOptions("wrong-key-wrong", server.url))
        backend = RetryingBackend(LimitedBackend(inner, 8))
        try:
            return await asyncio.gather(
                *(backend.complete(REQUEST) for _ in range(200)), return_exceptions=True
            )
        finally:
            await backend.aclose()

    with WireServer(key=KEY) as server:
        outcomes = asyncio.run(many(server))
        assert 1 <= server.calls <= 8
    assert all(isinstance(o, BackendError) and o.fatal for o in outcomes)


def test_the_body_on_the_wire_is_utf_8_json(provider: Provider) -> None:
    with WireServer() as server:
        ask(provider, server, Request((Message("user", 'quote " and 🎉 \u2028'),)))
        assert server.requests[0].body["messages"][-1]["content"] == 'quote " and 🎉 \u2028'
        assert json.dumps(server.requests[0].body)
