from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
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
