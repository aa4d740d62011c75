"""Replies in a file and in PostgreSQL: one behaviour, whichever it is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from rlaif.backends.cached import CachedBackend
from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import StoreError
from rlaif.store.postgres import Address
from rlaif.store.postgres_replies import PostgresReplies
from rlaif.store.replies import ReplyStore
from rlaif.types import Completion, Message, Request, Sampling, TokenLogprob, Usage

Store = ReplyStore | PostgresReplies
Opener = Callable[[], Store]


def key(name: object) -> str:
    return sha256(str(name).encode()).hexdigest()


def completion(text: str = "Fine. [[4]]") -> Completion:
    return Completion(text, "stop", "a-model", usage=Usage(10, 2, 3), latency_s=0.5, cost_usd=0.01)


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens one store, as often as it is called."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield lambda: stack.enter_context(ReplyStore(tmp_path / "replies.sqlite"))
        else:
            address = Address.parse(request.getfixturevalue("postgres_url"))
            yield lambda: stack.enter_context(PostgresReplies(address))


def test_what_one_keeps_the_other_finds_and_the_first_stays(opened: Opener) -> None:
    one, other = opened(), opened()
    one.put_many([(key(1), completion("first")), (key(2), completion())], created_s=5.0)
    other.put_many([(key(1), completion("second"))])
    hit = other.get(key(1))
    assert hit is not None
    assert (hit.text, hit.cached, hit.usage, hit.cost_usd) == ("first", True, Usage(10, 2, 3), 0.01)
    assert other.get(key(3)) is None
    assert set(other.recall([key(1), key(2), key(3)])) == {key(1), key(2)}
    assert other.recall([]) == {}
    assert other.kept([key(2), key(3)]) == {key(2)}
    assert len(other) == 2


@pytest.mark.parametrize(
    "odd",
    [
        Completion("", "length", ""),
        Completion("a\0b \ud800 é" * 200, "refusal", "m\0\ud83d", thinking="\0\udfff"),
        Completion("x", "stop", "é", (TokenLogprob("\0", -0.5, (("\ud800", -1.0),)),)),
        Completion("x", "stop", "m", usage=Usage(2**62, 2**40, -1), latency_s=1e-300),
    ],
)
def test_odd_replies_come_back_as_they_were(opened: Opener, odd: Completion) -> None:
    store = opened()
    store.put_many([(key("odd"), odd)])
    hit = store.get(key("odd"))
    assert hit is not None
    assert (hit.text, hit.model, hit.thinking) == (odd.text, odd.model, odd.thinking)
    assert (hit.tokens, hit.usage, hit.latency_s) == (odd.tokens, odd.usage, odd.latency_s)


def test_what_cannot_be_kept_is_refused_and_nothing_of_it_is(opened: Opener) -> None:
    store = opened()
    bad = Completion("x", "stop", "m", cost_usd=float("nan"))
    with pytest.raises(ValueError, match="finite"):
        store.put_many([(key(1), completion()), (key(2), bad)])
    with pytest.raises(ValueError, match="not a digest"):
        store.put_many([(key(1), completion()), ("short", completion())])
    assert len(store) == 0


def test_one_asks_and_the_other_waits_for_the_reply(opened: Opener) -> None:
    one, other = opened(), opened()

    async def scene() -> None:
        assert await one.claim(key(1)) is None
        waiting = [asyncio.create_task(store.claim(key(1))) for store in (one, other)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        await one.keep([(key(1), completion())])
        hits = await asyncio.gather(*waiting)
        assert [hit and hit.text for hit in hits] == ["Fine. [[4]]"] * 2
        one.release(key(1))

    asyncio.run(scene())


def test_whoever_gives_up_leaves_the_asking_to_another(opened: Opener) -> None:
    one, other = opened(), opened()

    async def scene() -> None:
        assert await one.claim(key(1)) is None
        gone, waiting = (asyncio.create_task(other.claim(key(1))) for _ in range(2))
        await asyncio.sleep(0.1)
        gone.cancel()
        one.release(key(1))
        assert await waiting is None
        late = asyncio.create_task(one.claim(key(1)))
        await asyncio.sleep(0.1)
        assert not late.done()
        other.close()
        assert await late is None

    asyncio.run(scene())


def test_a_caller_who_is_cancelled_holds_nothing_and_loses_nothing(opened: Opener) -> None:
    one, other = opened(), opened()

    async def scene() -> None:
        claims = [asyncio.create_task(one.claim(key(1))) for _ in range(20)]
        await asyncio.sleep(0)
        for task in claims:
            task.cancel()
        await asyncio.gather(*claims, return_exceptions=True)
        if not all(task.cancelled() for task in claims):  # one of them had it before it was ended
            one.release(key(1))
        assert await other.claim(key(1)) is None
        keeping = asyncio.create_task(other.keep([(key(1), completion())]))
        await asyncio.sleep(0)
        keeping.cancel()
        hit = await one.claim(key(1))
        assert hit is not None

    asyncio.run(scene())


def test_event_loops_of_one_process_wait_for_each_other(opened: Opener) -> None:
    store, fresh = opened(), []

    async def work() -> None:
        for n in range(20):
            if await store.claim(key(n)) is None:
                await asyncio.sleep(0.002)
                await store.keep([(key(n), completion())])
                fresh.append(n)

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(fresh) == list(range(20))


def test_no_event_loop_waits_for_a_store_on_another_machine(opened: Opener) -> None:
    store = opened()
    backend = CachedBackend(ScriptedBackend(["once"]), store)
    request = Request((Message("user", "Hello?"),), Sampling())
    first = asyncio.run(backend.complete(request))
    ((name, found),) = backend.at_hand([request])
    assert store.kept([name]) == {name}
    assert (found is None) == isinstance(store, PostgresReplies)
    again = asyncio.run(backend.complete(request))
    assert (first.cached, again.cached, again.text) == (False, True, "once")


def test_a_store_that_was_closed_says_so(opened: Opener) -> None:
    store = opened()
    store.close()
    store.close()
    with pytest.raises(StoreError):
        store.get(key(1))
    with pytest.raises(StoreError):
        asyncio.run(store.keep([(key(1), completion())]))
