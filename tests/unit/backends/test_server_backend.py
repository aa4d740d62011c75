"""What only the server backend has: its URL, one session, scoring of given text, model listing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rlaif.backends.base import BackendOptions
from rlaif.backends.pace import RateLimits, ReportsLimits
from rlaif.backends.server import ServerBackend
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Message, Request, TokenLogprob
from tests.wire import Fault, Recorded, WireReply, WireServer, api_error, refuse

REQUEST = Request((Message("user", "A or B?"),))


def score(content: str, *before: Message) -> Request:
    prompt = before or (Message("system", "Be fair."), Message("user", "Which is better?"))
    return Request((*prompt, Message("assistant", content)), task="likelihood")


def ask(server: WireServer, *requests: Request, name: str = "judge") -> list[Completion]:
    async def each() -> list[Completion]:
        backend = ServerBackend(name, BackendOptions(base_url=server.url))
        try:
            return [await backend.complete(request) for request in requests]
        finally:
            await backend.aclose()

    return asyncio.run(each())


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        (" localhost:8000 ", "http://localhost:8000/v1"),
        ("https://host/api/v1/chat/completions", "https://host/api/v1"),
        ("https://[::1]:8000/openai", "https://[::1]:8000/openai"),
    ],
)
def test_the_url_is_completed(given: str, asked: str) -> None:
    assert ServerBackend("m", BackendOptions(base_url=given)).identity == f"server/m@{asked}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (None, "--base-url"),
        ("ftp://host", "is not like"),
        ("http://", "is not like"),
        ("http://a b/v1", "is not like"),
        ("http://host:port/v1", "not a URL"),
        ("http://[::1/v1", "not a URL"),
        ("http://host/v1?key=abc", "query"),
        ("http://host/v1#top", "fragment"),
        ("http://me:hunter2@host/v1", "user or a password"),
    ],
)
def test_a_wrong_url_is_refused(url: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ServerBackend("m", BackendOptions(base_url=url))
    assert "hunter2" not in str(caught.value)


def test_no_key_is_needed_and_none_is_sent() -> None:
    with WireServer() as server:
        assert ask(server, REQUEST)[0].text == "A fixed reply."
        assert "authorization" not in server.requests[0].headers


def test_a_server_that_wants_a_key_says_which_variable() -> None:
    with (
        WireServer(key="k") as server,
        pytest.raises(BackendError, match="wants a key: set RLAIF_SERVER_API_KEY") as caught,
    ):
        ask(server, REQUEST)
    assert caught.value.fatal


def test_one_connection_serves_calls_one_after_the_other() -> None:
    with WireServer() as server:
        ask(server, *[REQUEST] * 20)
        assert (server.calls, server.connections) == (20, 1)


def test_log_probabilities_and_thinking() -> None:
    with WireServer(
        lambda _: WireReply("B wins", thinking="Hm."), logprob=lambda _: -1.0
    ) as server:
        (said,) = ask(server, Request(REQUEST.messages, top_logprobs=2))
    assert said.thinking == "Hm."
    assert said.tokens[0] == TokenLogprob("B", -1.0, (("A", -0.5), ("B", -1.0)))


def test_the_other_name_for_the_reasoning_text_is_read() -> None:
    body = {"choices": [{"message": {"content": "A", "reasoning": "Hm."}}]}
    with WireServer(faults=[Fault(body=body)]) as server:
        assert ask(server, REQUEST)[0].thinking == "Hm."


def test_the_newer_name_of_max_tokens_is_learned() -> None:
    with WireServer(faults=refuse("max_tokens")) as server:
        ask(server, REQUEST, REQUEST)
        names = [{"max_tokens", "max_completion_tokens"} & r.body.keys() for r in server.requests]
    assert names == [{"max_tokens"}, {"max_completion_tokens"}, {"max_completion_tokens"}]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["qwen3-8b", "llama-3"], "has no model 'qwen-8b'; did you mean 'qwen3-8b'"),
        (["zz"], "has no model 'qwen-8b'; known: zz"),
    ],
)
def test_an_unknown_model_names_those_that_are_there(models: list[str], message: str) -> None:
    with WireServer(models=models) as server, pytest.raises(BackendError, match=message) as caught:
        ask(server, REQUEST, name="qwen-8b")
    assert caught.value.fatal


def test_a_wrong_path_is_told_from_a_wrong_model() -> None:
    with WireServer() as server:
        server.url = f"{server.origin}/nowhere"
        with pytest.raises(BackendError, match="or nothing at http") as caught:
            ask(server, REQUEST)
    assert caught.value.fatal


def test_given_text_is_scored_token_by_token() -> None:
    with WireServer(logprob=lambda token: -float(len(token))) as server:
        (said,) = ask(server, score("it is A"))
        whole, prefix = (r.body for r in server.requests)
    assert said.text == "it is A"
    assert said.tokens == tuple(TokenLogprob(t, -float(len(t))) for t in ("it", " is", " A"))
    assert said.usage.input == 11
    assert (whole["prompt_logprobs"], whole["max_tokens"]) == (0, 1)
    assert (whole["add_generation_prompt"], whole["continue_final_message"]) == (False, True)
    assert prefix["messages"] == whole["messages"][:-1]
    assert prefix["add_generation_prompt"] is True


def test_a_prompt_is_measured_once_for_all_its_replies() -> None:
    with WireServer() as server:
        ask(server, score("A"), score("B"), score("tie"), score("A", Message("user", "Now?")))
        assert server.calls == 4 + 2


def test_white_space_around_given_text_is_the_templates_to_change() -> None:
    with WireServer() as server:
        (said,) = ask(server, score("  A\n"))
    assert "".join(t.token for t in said.tokens).strip() == "A"


def test_a_template_that_rewrites_the_text_is_noticed() -> None:
    def short_prefix(request: Recorded) -> Fault | None:
        usage = {"prompt_tokens": 2}
        choice = {"message": {"content": ""}}
        wrong = Fault(body={"choices": [choice], "usage": usage})
        return None if "prompt_logprobs" in request.body else wrong

    with (
        WireServer(faults=short_prefix) as server,
        pytest.raises(BackendError, match="cannot be told apart") as caught,
    ):
        ask(server, score("it is A"))
    assert not caught.value.retryable


def test_a_server_without_usage_cannot_be_trusted_to_score() -> None:
    def no_usage(request: Recorded) -> Fault | None:
        nothing = Fault(body={"choices": []})
        return None if "prompt_logprobs" in request.body else nothing

    with (
        WireServer(faults=no_usage) as server,
        pytest.raises(BackendError, match="cannot be told apart"),
    ):
        ask(server, score("it is A"))


def test_a_server_that_cannot_score_says_so_for_good() -> None:
    with (
        WireServer(scores_text=False) as server,
        pytest.raises(BackendError, match="cannot score given text") as caught,
    ):
        ask(server, score("A"))
    assert caught.value.fatal


def test_only_what_the_assistant_says_is_scored() -> None:
    request = Request((Message("user", "A"),), task="likelihood")
    with WireServer() as server, pytest.raises(ConfigError, match="assistant"):
        ask(server, request)


def given(entries: list[Any]) -> Fault:
    return Fault(body={"prompt_logprobs": entries, "usage": {"prompt_tokens": 9}, "choices": []})


@pytest.mark.parametrize(
    "entry",
    [None, {}, "x", {"7": None}, {"7": {"decoded_token": "A"}}, {"7": {"logprob": "low"}}],
)
def test_broken_scores_are_refused(entry: Any) -> None:
    prompt = [{"1": {"logprob": -1, "decoded_token": "x"}}] * 5
    with (
        WireServer(faults=[given([None, *prompt, entry])]) as server,
        pytest.raises(BackendError, match="prompt_logprobs") as caught,
    ):
        ask(server, score("A", Message("user", "a b c d")))
    assert caught.value.retryable


def test_an_impossible_token_has_the_lowest_log_probability() -> None:
    entry = {"7": {"logprob": float("-inf"), "rank": None, "decoded_token": "A"}}
    prompt = [{"1": {"logprob": -1, "decoded_token": "x"}}] * 5
    with WireServer(faults=[given([None, *prompt, entry])]) as server:
        (said,) = ask(server, score("A", Message("user", "a b c d")))
    assert said.tokens == (TokenLogprob("A", -9999.0),)


def test_a_token_that_ends_inside_a_character_is_let_pass() -> None:
    halves = [{"7": {"logprob": -1.0, "decoded_token": "\ufffd"}}] * 2
    prompt = [{"1": {"logprob": -1, "decoded_token": "x"}}] * 5
    with WireServer(faults=[given([None, *prompt, *halves])]) as server:
        (said,) = ask(server, score("é", Message("user", "a b c d")))
    assert len(said.tokens) == 2


def test_an_error_while_scoring_is_an_error() -> None:
    with (
        WireServer(faults=[api_error(400, "prompt_logprobs are limited here")]) as server,
        pytest.raises(BackendError, match="limited here"),
    ):
        ask(server, score("A"))


def test_a_closed_backend_opens_again_when_asked() -> None:
    async def twice(server: WireServer) -> str:
        backend = ServerBackend("judge", BackendOptions(base_url=server.url))
        await backend.complete(REQUEST)
        await backend.aclose()
        said = await backend.complete(REQUEST)
        await backend.aclose()
        return said.text

    with WireServer() as server:
        assert asyncio.run(twice(server)) == "A fixed reply."


HELD = Request(REQUEST.messages, choices=("A", 'say "B"\n'))


@pytest.mark.parametrize(
    ("owner", "version", "sent"),
    [
        ("vllm", "0.12.0", {"structured_outputs": {"choice": ["A", 'say "B"\n']}}),
        ("vllm", "0.11.1rc2", {"structured_outputs": {"choice": ["A", 'say "B"\n']}}),
        ("vllm", None, {"structured_outputs": {"choice": ["A", 'say "B"\n']}}),
        ("vllm", "dev", {"structured_outputs": {"choice": ["A", 'say "B"\n']}}),
        ("vllm", "0.9.2", {"guided_choice": ["A", 'say "B"\n']}),
        ("llamacpp", None, {"grammar": r'root ::= "A" | "say \"B\"\n"'}),
        ("sglang", None, {"regex": '(A|say\\ "B"\\\n)'}),
        ("library", None, {}),
        (None, None, {}),
    ],
)
def test_a_reply_is_held_to_its_choices_in_the_servers_own_words(
    owner: str | None, version: str | None, sent: dict[str, Any]
) -> None:
    with WireServer(owner=owner, version=version) as server:
        ask(server, HELD, HELD)
        bodies = [call.body for call in server.requests]
    own = ("structured_outputs", "guided_choice", "grammar", "regex", "cache_prompt")
    assert [{k: v for k, v in body.items() if k in own} for body in bodies] == [sent, sent]


@pytest.mark.parametrize(("owner", "kept"), [("llamacpp", True), ("vllm", None)])
def test_a_prompt_that_others_begin_with_is_kept_where_that_must_be_said(
    owner: str, kept: bool | None
) -> None:
    with WireServer(owner=owner) as server:
        ask(server, Request(REQUEST.messages, shared=3))
        assert server.requests[0].body.get("cache_prompt") is kept


def test_an_ordinary_request_asks_nobody_who_they_are() -> None:
    with WireServer(owner="vllm") as server:
        ask(server, REQUEST)
        assert server.connections == 1
        assert set(server.requests[0].body) == {"model", "messages", "temperature", "max_tokens"}


def test_a_server_that_refuses_its_own_words_is_asked_without() -> None:
    with WireServer(owner="vllm", faults=refuse("structured_outputs")) as server:
        ask(server, HELD, HELD)
        sent = ["structured_outputs" in call.body for call in server.requests]
    assert sent == [True, False, False]


def test_calls_that_wait_to_know_the_server_outlive_one_that_is_cancelled() -> None:
    async def two(server: WireServer) -> str:
        backend = ServerBackend("judge", BackendOptions(base_url=server.url))
        first = asyncio.create_task(backend.complete(HELD))
        second = asyncio.create_task(backend.complete(HELD))
        await asyncio.sleep(0)
        first.cancel()
        try:
            return (await second).text
        finally:
            await backend.aclose()

    with WireServer(owner="vllm") as server:
        assert asyncio.run(two(server)) == "A fixed reply."


def test_closing_while_the_server_is_asked_who_it_is() -> None:
    async def close(server: WireServer) -> str:
        backend = ServerBackend("judge", BackendOptions(base_url=server.url))
        waiting = asyncio.create_task(backend.complete(HELD))
        await asyncio.sleep(0)
        await backend.aclose()
        waiting.cancel()
        said = await backend.complete(HELD)
        await backend.aclose()
        return said.text

    with WireServer(owner="vllm") as server:
        assert asyncio.run(close(server)) == "A fixed reply."


def test_what_the_headers_say_of_limits_is_passed_on() -> None:
    limits = {"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "2s"}
    told: list[RateLimits] = []

    async def once(server: WireServer) -> None:
        backend = ServerBackend("judge", BackendOptions(base_url=server.url))
        assert isinstance(backend, ReportsLimits)
        backend.on_limits = told.append
        await backend.complete(REQUEST)
        await backend.complete(REQUEST)
        await backend.aclose()

    with WireServer(faults=[Fault(headers=limits)]) as server:
        asyncio.run(once(server))
    assert told == [RateLimits(7, 2.0)]


def test_a_call_that_hangs_ends_in_time_and_is_worth_another_try() -> None:
    async def hang(server: WireServer) -> float:
        backend = ServerBackend("judge", BackendOptions(base_url=server.url, timeout_s=0.2))
        started = asyncio.get_running_loop().time()
        with pytest.raises(BackendError, match=r"did not answer within 0\.2 s") as caught:
            await backend.complete(REQUEST)
        assert caught.value.retryable
        assert caught.value.kind == "timeout"
        took = asyncio.get_running_loop().time() - started
        assert (await backend.complete(REQUEST)).text == "A fixed reply."
        await backend.aclose()
        return took

    with WireServer(faults=[Fault(hang=True)]) as server:
        assert 0.15 < asyncio.run(hang(server)) < 5


def test_cancelling_a_call_is_no_time_out() -> None:
    async def cancel(server: WireServer) -> None:
        backend = ServerBackend("judge", BackendOptions(base_url=server.url))
        task = asyncio.create_task(backend.complete(REQUEST))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await backend.aclose()

    with WireServer(faults=[Fault(hang=True)]) as server:
        asyncio.run(cancel(server))


def test_text_that_utf8_cannot_carry_is_sent_escaped() -> None:
    with WireServer() as server:
        ask(server, Request((Message("user", "lone \ud800"),)))
        assert server.requests[0].body["messages"][0]["content"] == "lone \ud800"
