from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from rlaif.backends.cached import CachedBackend
from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BackendError
from rlaif.store.replies import ReplyStore
from rlaif.types import Completion, Message, Request, Sampling

REQUEST = Request((Message("user", "hi"),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReplyStore]:
    with ReplyStore(tmp_path / "r.sqlite") as opened:
        yield opened


def _ask(backend: CachedBackend, *requests: Request) -> list[Completion]:
    async def work() -> list[Completion]:
        return [await backend.complete(request) for request in requests]

    return asyncio.run(work())


def test_the_second_time_is_free(store: ReplyStore) -> None:
    inner = ScriptedBackend(["one", "two"])
    backend = CachedBackend(inner, store)
    first, second = _ask(backend, REQUEST, REQUEST)
    assert (first.text, first.cached) == ("one", False)
    assert (second.text, second.cached) == ("one", True)
    assert len(inner.requests) == 1
    assert backend.kept(REQUEST)


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message("user", "ho"),)},
        {"messages": (Message("system", "hi"),)},
        {"messages": (Message("user", "h"), Message("user", "i"))},
        {"sampling": Sampling(temperature=0.1)},
        {"sampling": Sampling(top_p=0.9)},
        {"sampling": Sampling(max_tokens=1)},
        {"sampling": Sampling(seed=1)},
        {"draw": 1},
        {"top_logprobs": 5},
        {"task": "likelihood"},
    ],
)
def test_all_that_can_change_a_reply_changes_the_key(
    store: ReplyStore, change: dict[str, object]
) -> None:
    inner = ScriptedBackend(["one", "two"])
    replies = _ask(CachedBackend(inner, store), REQUEST, replace(REQUEST, **change))  # type: ignore[arg-type]
    assert [r.text for r in replies] == ["one", "two"]


def test_another_backend_has_other_keys(store: ReplyStore) -> None:
    one = CachedBackend(ScriptedBackend(["one"], model="scripted/a"), store)
    other = CachedBackend(ScriptedBackend(["other"], model="scripted/b"), store)
    assert [_ask(b, REQUEST)[0].text for b in (one, other)] == ["one", "other"]


def test_a_failure_is_never_kept(store: ReplyStore) -> None:
    backend = CachedBackend(ScriptedBackend([BackendError("down"), "up"]), store)
    with pytest.raises(BackendError, match="down"):
        _ask(backend, REQUEST)
    assert _ask(backend, REQUEST)[0].text == "up"


def test_equal_requests_in_flight_are_asked_once(store: ReplyStore) -> None:
    asked = 0

    async def slow(request: Request) -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.02)
        return f"reply {asked}"

    backend = CachedBackend(ScriptedBackend(slow), store)

    async def work() -> list[Completion]:
        return list(await asyncio.gather(*(backend.complete(REQUEST) for _ in range(5))))

    replies = asyncio.run(work())
    assert asked == 1
    assert {r.text for r in replies} == {"reply 1"}
    assert [r.cached for r in replies] == [False, True, True, True, True]


class _Group(ScriptedBackend):
    group_size = 8

    def __init__(self) -> None:
        super().__init__(lambda request: f"alone {request.draw}")
        self.groups: list[list[int]] = []

    async def complete_group(self, requests: Sequence[Request]) -> list[Completion]:
        self.groups.append([r.draw for r in requests])
        return [Completion(f"group {r.draw}") for r in requests]


def test_a_group_asks_for_what_is_missing_and_keeps_its_order(store: ReplyStore) -> None:
    inner = _Group()
    backend = CachedBackend(inner, store)
    draws = [replace(REQUEST, draw=n) for n in range(4)]
    assert backend.group_size == 8
    asyncio.run(backend.complete_group(draws[1:3]))
    replies = asyncio.run(backend.complete_group([*draws, draws[0]]))
    assert inner.groups == [[1, 2], [0, 3]]
    assert [r.text for r in replies] == ["group 0", "group 1", "group 2", "group 3", "group 0"]
    assert [r.cached for r in replies[:4]] == [False, True, True, False]


def test_a_backend_without_groups_is_asked_one_by_one(store: ReplyStore) -> None:
    backend = CachedBackend(ScriptedBackend(["a", "b"]), store)
    assert backend.group_size == 1
    draws = [replace(REQUEST, draw=n) for n in range(2)]
    assert [r.text for r in asyncio.run(backend.complete_group(draws))] == ["a", "b"]


def test_requests_are_looked_up_together(store: ReplyStore) -> None:
    backend = CachedBackend(ScriptedBackend(["a", "b"]), store)
    draws = [replace(REQUEST, draw=n) for n in range(4)]
    _ask(backend, draws[1], draws[3])
    assert backend.kept_many([*draws, draws[1]]) == [False, True, False, True, True]
    assert backend.kept_many([]) == []


def test_what_is_at_hand_is_looked_up_as_long_as_there_is_some(store: ReplyStore) -> None:
    draws = [replace(REQUEST, draw=n) for n in range(3)]
    backend = CachedBackend(ScriptedBackend(["a", "b"]), store)
    keys = [r.digest(backend.identity) for r in draws]
    assert backend.at_hand(draws) == [(key, None) for key in keys]
    _ask(backend, draws[1])
    # a first run is not searched for again and again
    assert backend.at_hand([draws[1]]) == [(keys[1], None)]
    assert _ask(backend, draws[1])[0].cached
    found = backend.at_hand(draws)
    assert [key for key, _ in found] == keys
    assert [done.text if done else None for _, done in found] == [None, "a", None]


def test_a_failure_is_every_callers_and_the_next_one_asks_again(store: ReplyStore) -> None:
    replies = iter([BackendError("down"), "up"])

    async def slow(request: Request) -> str | BackendError:
        await asyncio.sleep(0.01)
        return next(replies)

    backend = CachedBackend(ScriptedBackend(slow), store)

    async def work() -> list[object]:
        first = await asyncio.gather(
            *(backend.complete(REQUEST) for _ in range(3)), return_exceptions=True
        )
        return [*first, await backend.complete(REQUEST)]

    *failed, up = asyncio.run(asyncio.wait_for(work(), 5))
    assert [str(error) for error in failed] == ["down"] * 3
    assert isinstance(up, Completion)
    assert (up.text, up.cached) == ("up", False)


@pytest.mark.parametrize("leaves", [0, 1])
def test_a_caller_who_is_cancelled_takes_the_reply_from_nobody(
    store: ReplyStore, leaves: int
) -> None:
    async def slow(request: Request) -> str:
        await asyncio.sleep(0.02)
        return "reply"

    inner = ScriptedBackend(slow)
    backend = CachedBackend(inner, store)

    async def work() -> list[Completion | BaseException]:
        tasks = [asyncio.ensure_future(backend.complete(REQUEST)) for _ in range(3)]
        await asyncio.sleep(0.005)
        tasks[leaves].cancel()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    replies = asyncio.run(work())
    assert isinstance(replies.pop(leaves), asyncio.CancelledError)
    assert [r.text for r in replies if isinstance(r, Completion)] == ["reply", "reply"]
    assert inner.calls == 1


@pytest.mark.parametrize("pause_s", [None, 0, 0.005])
def test_a_call_that_nobody_waits_for_ends_and_can_be_asked_again(
    store: ReplyStore, pause_s: float | None
) -> None:
    ended = 0

    async def slow(request: Request) -> str:
        nonlocal ended
        try:
            await asyncio.sleep(0.02)
        finally:
            ended += 1
        return "reply"

    inner = ScriptedBackend(slow)
    backend = CachedBackend(inner, store)

    async def work() -> Completion:
        task = asyncio.ensure_future(backend.complete(REQUEST))
        await asyncio.sleep(0)
        if pause_s is not None:
            await asyncio.sleep(pause_s)
        task.cancel()
        await asyncio.sleep(0)
        again = await backend.complete(REQUEST)  # while the first is still ending
        assert task.cancelled()
        return again

    assert asyncio.run(asyncio.wait_for(work(), 5)).text == "reply"
    assert ended == inner.calls <= 2
    assert backend._flights == {}
    assert not store._claims._held


def test_backends_that_share_a_store_ask_once(store: ReplyStore) -> None:
    async def slow(request: Request) -> str:
        await asyncio.sleep(0.01)
        return "reply"

    inner = ScriptedBackend(slow)

    async def work() -> list[Completion]:
        backends = [CachedBackend(inner, store) for _ in range(3)]
        return list(await asyncio.gather(*(b.complete(REQUEST) for b in backends)))

    assert [r.cached for r in asyncio.run(work())] == [False, True, True]
    assert inner.calls == 1


def test_event_loops_of_several_threads_ask_once(store: ReplyStore) -> None:
    async def slow(request: Request) -> str:
        await asyncio.sleep(0.01)
        return f"reply {request.draw}"

    inner = ScriptedBackend(slow)
    backend = CachedBackend(inner, store)
    draws = [replace(REQUEST, draw=n) for n in range(40)]

    async def work() -> list[str]:
        return [r.text for r in await asyncio.gather(*map(backend.complete, draws))]

    with ThreadPoolExecutor(3) as threads:
        said = list(threads.map(lambda _: asyncio.run(work()), range(3)))
    assert said == [[f"reply {n}" for n in range(40)]] * 3
    assert sorted(r.draw for r in inner.requests) == list(range(40))


def test_groups_that_overlap_do_not_wait_for_each_other_forever(store: ReplyStore) -> None:
    class Slow(_Group):
        async def complete_group(self, requests: Sequence[Request]) -> list[Completion]:
            await asyncio.sleep(0.01)
            return await super().complete_group(requests)

    inner = Slow()
    backend = CachedBackend(inner, store)
    draws = [replace(REQUEST, draw=n) for n in range(6)]

    async def work() -> list[list[Completion]]:
        groups = (draws[:4], draws[:1:-1], [draws[3], draws[0], draws[5]])
        return list(await asyncio.gather(*map(backend.complete_group, groups)))

    one, two, three = asyncio.run(asyncio.wait_for(work(), 10))
    assert [r.text for r in one] == [f"group {n}" for n in (0, 1, 2, 3)]
    assert [r.text for r in two] == [f"group {n}" for n in (5, 4, 3, 2)]
    assert [r.text for r in three] == [f"group {n}" for n in (3, 0, 5)]
    assert sorted(n for group in inner.groups for n in group) == list(range(6))


def test_a_group_that_fails_leaves_nothing_behind(store: ReplyStore) -> None:
    class Failing(_Group):
        async def complete_group(self, requests: Sequence[Request]) -> list[Completion]:
            raise BackendError("out of memory")

    with pytest.raises(BackendError, match="out of memory"):
        asyncio.run(CachedBackend(Failing(), store).complete_group([REQUEST]))
    assert not store._claims._held
    assert asyncio.run(CachedBackend(_Group(), store).complete_group([REQUEST]))


def test_a_reply_that_cannot_be_kept_is_an_error_and_blocks_nothing(store: ReplyStore) -> None:
    replies = [Completion("x", latency_s=float("nan")), Completion("fine")]
    backend = CachedBackend(ScriptedBackend(replies), store)
    with pytest.raises(ValueError, match="finite"):
        _ask(backend, REQUEST)
    assert _ask(backend, REQUEST)[0].text == "fine"
