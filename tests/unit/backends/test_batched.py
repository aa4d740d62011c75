"""Requests through batch APIs: gathered, sent once, collected whatever happens, asked again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlaif.backends.anthropic import AnthropicBackend
from rlaif.backends.base import Backend, BackendOptions
from rlaif.backends.batched import BatchedBackend, Batching, StragglersLive
from rlaif.backends.batched import batched as in_batches
from rlaif.backends.cached import CachedBackend
from rlaif.backends.openai import OpenAIBackend
from rlaif.errors import BackendError, ConfigError
from rlaif.store.batches import BatchBook
from rlaif.types import Comparison, Completion, Message, Request, Sampling, Verdict
from tests.batch_wire import BatchFault, BatchServer

PROVIDERS = ("openai", "anthropic")
KEY = "sk-secret-0123456789"


def ask(text: str, **sampling: Any) -> Request:
    return Request((Message("user", text),), Sampling(max_tokens=64, **sampling))


def asks(n: int) -> list[Request]:
    return [ask(f"Question {i}?") for i in range(n)]


def echo(messages: list[dict[str, str]]) -> str:
    return f"Reply to {messages[-1]['content']}"


def provider(name: str, server: BatchServer, key: str = KEY, timeout_s: float = 5.0) -> Any:
    kind = {"openai": OpenAIBackend, "anthropic": AnthropicBackend}[name]
    url = server.url if name == "openai" else server.origin
    return kind("judge", BackendOptions(api_key=key, base_url=url, timeout_s=timeout_s))


async def soon(seconds: float) -> None:
    """A sleep that keeps the order of waits, ten times as fast."""
    await asyncio.sleep(min(seconds, 0.5) / 10)


@pytest.fixture
def book(tmp_path: Path) -> BatchBook:
    return BatchBook(tmp_path / "batches.sqlite")


def batched(name: str, server: BatchServer, book: BatchBook, **more: Any) -> BatchedBackend:
    inner = provider(name, server, more.pop("key", KEY), more.pop("timeout_s", 5.0))
    settings: dict[str, Any] = {"quiet_s": 0.2, "poll_s": 0.3, "settle_s": 0.0, "sleep": soon}
    api = inner.batches()
    api.sleep = soon
    kept = more.pop("kept", lambda _: ())
    return BatchedBackend(inner, api, Batching(book, **settings | more), kept=kept)


def run(backend: Backend, requests: list[Request]) -> list[Completion | BaseException]:
    async def work() -> list[Completion | BaseException]:
        try:
            return await asyncio.gather(
                *(backend.complete(request) for request in requests), return_exceptions=True
            )
        finally:
            await backend.aclose()

    return asyncio.run(work())


def texts(found: list[Completion | BaseException]) -> list[str]:
    return [one.text if isinstance(one, Completion) else repr(one) for one in found]


def expected(n: int) -> list[str]:
    return [f"Reply to Question {i}?" for i in range(n)]


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_batch_brings_what_live_calls_bring(name: str, book: BatchBook) -> None:
    told: list[str] = []
    with BatchServer(echo) as server:
        live = run(provider(name, server), asks(20))
        assert server.calls == 20
        found = run(batched(name, server, book, tell=told.append), asks(20))
        assert server.calls == 20
    assert texts(found) == texts(live) == expected(20)
    for one, other in zip(found, live, strict=True):
        assert isinstance(one, Completion)
        assert isinstance(other, Completion)
        assert replace(one, latency_s=0.0) == replace(other, latency_s=0.0)
        assert one.latency_s >= 0
    [batch] = server.batches
    assert len(batch.requests) == 20
    assert told == [f"batch {batch.id}: 20 requests sent to {name}/judge", told[1]]
    assert told[1] == f"batch {batch.id}: 20/20 done"


def test_models_of_the_responses_api_go_there(book: BatchBook) -> None:
    with BatchServer(echo) as server:
        inner = OpenAIBackend(
            "judge", BackendOptions(api_key=KEY, base_url=f"{server.url}/responses")
        )
        how = Batching(book, quiet_s=0.02, poll_s=0.03)
        backend = BatchedBackend(inner, inner.batches(), how)
        assert texts(run(backend, asks(3))) == expected(3)
        assert server.batches[0].endpoint == "/v1/responses"


@pytest.mark.parametrize("name", PROVIDERS)
def test_steps_that_follow_from_replies_go_out_in_rounds(name: str, book: BatchBook) -> None:
    """Four rounds of critique and revision, after a first reply: nine batches."""

    async def chain(backend: Backend, number: int) -> str:
        said = (await backend.complete(ask(f"Prompt {number}"))).text
        for turn in range(4):
            critique = (await backend.complete(ask(f"Criticize {number} {turn}: {said}"))).text
            said = (await backend.complete(ask(f"Revise {number} {turn}: {critique}"))).text
        return said

    async def work(backend: Backend) -> list[str]:
        try:
            return await asyncio.gather(*(chain(backend, n) for n in range(30)))
        finally:
            await backend.aclose()

    with BatchServer(lambda messages: f"[{len(messages[-1]['content'])}]", looks=1) as server:
        made = asyncio.run(work(batched(name, server, book)))
        assert len(made) == 30
        assert len(server.batches) == 9
        assert {len(batch.requests) for batch in server.batches} == {30}


@pytest.mark.parametrize("name", PROVIDERS)
def test_requests_over_the_limits_go_out_in_several_batches(name: str, book: BatchBook) -> None:
    with BatchServer(echo) as server:
        backend = batched(name, server, book)
        backend.api.most_requests = backend._batches.most = 4
        assert texts(run(backend, asks(10))) == expected(10)
        assert [len(batch.requests) for batch in server.batches] == [4, 4, 2]
        # by bytes: a line is longer than any limit on its own, and goes alone
        backend = batched(name, server, book)
        backend.api.most_bytes = 100
        assert len(run(backend, asks(13)[10:])) == 3
        assert [len(batch.requests) for batch in server.batches[3:]] == [1, 1, 1]


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("outcome", ["expired", "missing", "garbage", "error"])
def test_what_a_batch_leaves_goes_into_the_next(name: str, outcome: str, book: BatchBook) -> None:
    left = {"error": (500, {"type": "api_error", "message": "Sorry."})}.get(outcome, outcome)

    def decide(digest: str, body: dict[str, Any], number: int) -> Any:
        return left if number == 0 and "Question 3" in str(body) else "answered"

    with BatchServer(echo, outcome=decide) as server:
        assert texts(run(batched(name, server, book), asks(6))) == expected(6)
        assert [len(batch.requests) for batch in server.batches] == [6, 1]


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_request_is_given_up_after_three_batches(name: str, book: BatchBook) -> None:
    def decide(digest: str, body: dict[str, Any], number: int) -> Any:
        return "expired" if "Question 1" in str(body) else "answered"

    with BatchServer(echo, outcome=decide) as server:
        backend = batched(name, server, book)
        found = run(backend, asks(3))
        assert len(server.batches) == 3 == backend.sent
        assert isinstance(found[1], BackendError)
        assert "the batch left the request unanswered" in str(found[1])
        assert not found[1].fatal
        # nothing of it is left in the book: the same command asks again
        digest = asks(3)[1].digest(backend.identity)
        assert book.holding([digest]) == {}


@pytest.mark.parametrize("name", PROVIDERS)
def test_lines_that_come_twice_count_once(name: str, book: BatchBook) -> None:
    with BatchServer(echo, outcome=lambda *_: "twice") as server:
        assert texts(run(batched(name, server, book), asks(4))) == expected(4)
        assert len(server.batches) == 1


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("fault", [BatchFault(cut=700), BatchFault(keep_lines=2)])
def test_results_that_end_too_soon_are_read_again(
    name: str, fault: BatchFault, book: BatchBook
) -> None:
    def once(step: str, before: int) -> BatchFault | None:
        return fault if step == "results" and before == 0 else None

    with BatchServer(echo, fault=once) as server:
        assert texts(run(batched(name, server, book), asks(8))) == expected(8)
        assert len(server.batches) == 1
        assert server.steps["results"] in {2, 3, 4}


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_refused_request_fails_alone_and_is_asked_anew_by_a_rerun(
    name: str, book: BatchBook
) -> None:
    error = (400, {"type": "invalid_request_error", "message": "Too long."})

    def decide(digest: str, body: dict[str, Any], number: int) -> Any:
        return error if number == 0 and "Question 2" in str(body) else "answered"

    with BatchServer(echo, outcome=decide) as server:
        found = run(batched(name, server, book), asks(4))
        assert isinstance(found[2], BackendError)
        assert "Too long." in str(found[2])
        assert (found[2].kind, found[2].fatal) == ("request", False)
        assert len(server.batches) == 1
        assert texts(run(batched(name, server, book), asks(4)[2:3])) == ["Reply to Question 2?"]
        assert len(server.batches) == 2


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_parameter_that_is_refused_is_left_out_of_the_next_batch(
    name: str, book: BatchBook
) -> None:
    said = "Unsupported parameter: 'temperature' is not supported with this model."

    def decide(digest: str, body: dict[str, Any], number: int) -> Any:
        if "temperature" in body:
            return 400, {"type": "invalid_request_error", "message": said}
        return "answered"

    with BatchServer(echo, outcome=decide) as server:
        assert texts(run(batched(name, server, book), asks(5))) == expected(5)
        assert [len(batch.requests) for batch in server.batches] == [5, 5]


@pytest.mark.parametrize("name", PROVIDERS)
def test_cancelled_requests_are_not_sent_in_another_batch(name: str, book: BatchBook) -> None:
    def decide(digest: str, body: dict[str, Any], number: int) -> Any:
        return "cancelled" if "Question 0" in str(body) else "answered"

    with BatchServer(echo, outcome=decide) as server:
        found = run(batched(name, server, book), asks(2))
        assert isinstance(found[0], BackendError)
        assert texts(found)[1] == "Reply to Question 1?"
        assert len(server.batches) == 1


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_stragglers_go_live_where_that_is_wanted(name: str, outcome: str, book: BatchBook) -> None:
    with BatchServer(echo, outcome=lambda d, b, n: outcome) as server:
        inner = batched(name, server, book, stragglers="live")
        backend = StragglersLive(inner, inner.inner)
        assert texts(run(backend, asks(3))) == expected(3)
        assert (len(server.batches), server.calls) == (1, 3)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_wrong_key_costs_one_call(name: str, book: BatchBook) -> None:
    with BatchServer(echo, key="another") as server:
        backend = batched(name, server, book)
        backend.api.most_requests = backend._batches.most = 2
        found = run(backend, asks(7))
        assert all(isinstance(one, BackendError) and one.fatal for one in found)
        assert not any(KEY in str(one) for one in found)
        assert sum(server.steps.values()) == 1
    assert book.holding(r.digest(backend.identity) for r in asks(7)) == {}


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    "fault",
    [
        BatchFault(429, headers={"retry-after": "0"}),
        BatchFault(500),
        BatchFault(drop=True),
    ],
    ids=["429", "500", "drop"],
)
@pytest.mark.parametrize("step", ["upload", "create", "look", "results"])
def test_passing_failures_are_tried_again(
    name: str, step: str, fault: BatchFault, book: BatchBook
) -> None:
    def twice(asked: str, before: int) -> BatchFault | None:
        return fault if asked == step and before < 2 else None

    with BatchServer(echo, fault=twice) as server:
        assert texts(run(batched(name, server, book), asks(3))) == expected(3)
        assert len(server.batches) == 1


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("fault", [BatchFault(500, after=True), BatchFault(drop=True, after=True)])
def test_a_batch_whose_answer_was_lost_is_not_sent_again(
    name: str, fault: BatchFault, book: BatchBook
) -> None:
    def once(asked: str, before: int) -> BatchFault | None:
        return fault if asked == "create" and before == 0 else None

    with BatchServer(echo, fault=once) as server:
        assert texts(run(batched(name, server, book), asks(3))) == expected(3)
        assert len(server.batches) == 1
        assert set(server.requests_sent.values()) == {1}
        assert server.steps["list"] == 1


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_a_stopped_process_sent_is_collected_by_the_next(name: str, book: BatchBook) -> None:
    told: list[str] = []

    async def interrupted(backend: BatchedBackend) -> None:
        waiting = [asyncio.ensure_future(backend.complete(r)) for r in asks(5)]
        while not server.batches or not server.steps["look"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await backend.aclose()

    with BatchServer(echo, stay=True) as server:
        asyncio.run(interrupted(batched(name, server, book, tell=told.append)))
        assert told[-1] == (
            "a batch goes on at the provider: the same command collects what comes of it"
        )
        server.stay = False
        # some more, and one of them twice
        found = run(batched(name, server, book), [*asks(7), asks(1)[0]])
        assert texts(found) == [*expected(7), *expected(1)]
        assert [len(batch.requests) for batch in server.batches] == [5, 2]
        assert set(server.requests_sent.values()) == {1}


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("begun", [True, False])
def test_an_intention_without_a_name_is_looked_up_before_it_is_sent_again(
    name: str, begun: bool, book: BatchBook
) -> None:
    """As a process leaves it that was killed between sending a batch and hearing its name."""
    others = [ask(f"Other {n}?") for n in range(5)]
    with BatchServer(echo) as server:
        # somebody else's batches, before and after, of the same size or not
        elsewhere = BatchBook(book.path.with_name("elsewhere.sqlite"))
        run(batched(name, server, elsewhere), others)
        run(batched(name, server, elsewhere), [ask(f"Few {n}?") for n in range(3)])
        first = batched(name, server, book)
        digests = [request.digest(first.identity) for request in asks(5)]
        intent = book.intend(first.model, digests)
        if begun:
            asyncio.run(_begin(first, intent.token, asks(5)))
        run(batched(name, server, elsewhere), [ask(f"Later {n}?") for n in range(5)])
        before = len(server.batches)

        assert texts(run(batched(name, server, book), asks(5))) == expected(5)
        assert len(server.batches) == before + (0 if begun else 1)
        assert set(server.requests_sent.values()) == {1}


async def _begin(backend: BatchedBackend, token: str, requests: list[Request]) -> None:
    from rlaif.backends._batch_calls import next_chunk

    by_digest = {r.digest(backend.identity): r for r in requests}
    chunk = next_chunk(backend.api, by_digest, 100, {})
    assert chunk is not None
    await backend.api.create(chunk, await backend.api.upload(chunk), token)
    await backend.aclose()


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_batch_that_the_provider_has_no_more_is_sent_again(name: str, book: BatchBook) -> None:
    with BatchServer(echo) as server:
        backend = batched(name, server, book)
        digests = [request.digest(backend.identity) for request in asks(3)]
        book.submitted(book.intend(backend.model, digests), "gone")
        assert texts(run(backend, asks(3))) == expected(3)
        assert len(server.batches) == 1


@pytest.mark.parametrize("name", PROVIDERS)
def test_replies_that_were_not_kept_can_be_collected_again(name: str, book: BatchBook) -> None:
    kept: set[str] = set()
    with BatchServer(echo) as server:
        backend = batched(name, server, book, kept=kept.intersection)
        digests = [request.digest(backend.identity) for request in asks(4)]
        run(backend, asks(4))
        assert sum(len(found) for found in book.holding(digests).values()) == 4
        kept |= set(digests[:3])
        again = batched(name, server, book, kept=kept.intersection)
        assert texts(run(again, asks(4))) == expected(4)
        assert len(server.batches) == 1
        # the book let go of what is kept
        assert list(book.holding(digests).values()) == [digests[3:]]


def test_a_batch_that_is_too_much_at_once_goes_in_parts(book: BatchBook) -> None:
    def refuse(number: int, size: int) -> tuple[str, str] | None:
        return ("token_limit_exceeded", "Enqueued token limit reached.") if size > 3 else None

    with BatchServer(echo, refuse=refuse) as server:
        assert texts(run(batched("openai", server, book), asks(10))) == expected(10)
        taken = [len(b.requests) for b in server.batches if not b.failed]
        assert sum(taken) == 10
        assert max(taken) <= 3


def test_a_batch_that_is_always_too_much_is_given_up(book: BatchBook) -> None:
    with BatchServer(echo, refuse=lambda *_: ("token_limit_exceeded", "No room.")) as server:
        [found] = run(batched("openai", server, book), asks(1))
        assert isinstance(found, BackendError)
        assert str(found) == "OpenAI did not take the batch: No room."
        assert len(server.batches) == 3


def test_a_batch_that_is_refused_ends_the_run(book: BatchBook) -> None:
    with BatchServer(echo, refuse=lambda *_: ("invalid_model", f"No {KEY}.")) as server:
        backend = batched("openai", server, book)
        found = run(backend, asks(3))
        assert all(isinstance(one, BackendError) and one.fatal for one in found)
        assert str(found[0]) == "OpenAI did not take the batch: No [redacted]"
        assert len(server.batches) == 1


@pytest.mark.parametrize("name", PROVIDERS)
def test_text_that_no_line_can_carry_fails_alone(name: str, book: BatchBook) -> None:
    with BatchServer(echo) as server:
        found = run(batched(name, server, book), [*asks(1), ask("half \ud800")])
        assert texts(found)[0] == "Reply to Question 0?"
        assert isinstance(found[1], BackendError)
        assert "lone surrogate" in str(found[1])


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_the_api_cannot_answer_is_said_at_once(name: str, book: BatchBook) -> None:
    with BatchServer(echo) as server:
        scored = replace(ask("Given."), task="likelihood")
        [found] = run(batched(name, server, book), [scored])
        assert isinstance(found, ConfigError)
        assert not server.steps


def test_only_providers_with_batches_take_them(book: BatchBook) -> None:
    from rlaif.backends.scripted import ScriptedBackend

    backend = ScriptedBackend(["x"])
    with pytest.raises(ConfigError, match="has no batch API; openai/… and anthropic/… have"):
        in_batches(backend, backend, Batching(book))
    azure = OpenAIBackend(
        "judge", BackendOptions(api_key=KEY, base_url="https://x.openai.azure.com", azure=True)
    )
    with pytest.raises(ConfigError, match="batches of Azure resources are not supported"):
        in_batches(azure, azure, Batching(book))


def test_requests_gather_while_they_keep_coming(book: BatchBook) -> None:
    async def work(backend: BatchedBackend) -> None:
        waiting = []
        for request in asks(10):
            waiting.append(asyncio.ensure_future(backend.complete(request)))
            await asyncio.sleep(0.02)
        await asyncio.gather(*waiting)
        await backend.aclose()

    with BatchServer(echo) as server:
        asyncio.run(work(batched("openai", server, book, quiet_s=1.5)))
        assert [len(batch.requests) for batch in server.batches] == [10]


def test_a_book_that_cannot_be_written_stops_before_anything_is_sent(book: BatchBook) -> None:
    from rlaif.errors import StoreError

    with BatchServer(echo) as server:
        backend = batched("openai", server, book)
        book.close()
        found = run(backend, asks(2))
        assert all(isinstance(one, StoreError) for one in found)
        assert not server.steps


@pytest.mark.parametrize("name", PROVIDERS)
def test_judges_let_nothing_wait_that_need_not(name: str, book: BatchBook) -> None:
    """Both orders of a long pair, of which live the first would go ahead, share one batch."""
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.specs.rubric import load_rubric
    from rlaif.store.replies import ReplyStore
    from tests.builders import candidate, item

    comparison = Comparison(
        item("q", "A long one. " * 800), candidate("A", "x"), candidate("B", "y")
    )

    async def work(backend: Backend) -> Verdict:
        try:
            return await PairwiseJudge(backend, load_rubric("helpfulness")).compare(comparison)
        finally:
            await backend.aclose()

    with (
        BatchServer(lambda _: "Equal.\n[[tie]]") as server,
        ReplyStore(book.path.with_name("replies.sqlite")) as store,
    ):
        backend = CachedBackend(batched(name, server, book), store)
        assert backend.in_rounds
        assert asyncio.run(work(backend)).status == "ok"
        assert [len(batch.requests) for batch in server.batches] == [2]
