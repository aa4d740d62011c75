"""A backend that asks only for what the reply store does not hold yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

from rlaif.backends.base import Backend, GroupBackend, Wrapper
from rlaif.store.base import Replies
from rlaif.types import Completion, Request


class _Flight:
    """A call under way, and those who wait for it. It ends when nobody waits any more."""

    __slots__ = ("abandoned", "flights", "key", "loop", "store", "task", "waiting")

    def __init__(self, key: str, store: Replies, flights: dict[str, _Flight]) -> None:
        self.key = key
        self.store = store
        self.flights = flights
        self.loop = asyncio.get_running_loop()
        self.waiting: set[asyncio.Future[Completion]] = set()
        self.abandoned = False
        self.task: asyncio.Task[None]

    def start(self, inner: Backend, request: Request) -> None:
        """Ask, in a task of its own: the first caller may be cancelled while others wait."""
        self.flights[self.key] = self
        self.task = self.loop.create_task(self._ask(inner, request))

    async def join(self) -> Completion:
        """What the call brings. Its error is every waiting caller's."""
        waiter: asyncio.Future[Completion] = self.loop.create_future()
        self.waiting.add(waiter)
        try:
            return await waiter
        finally:
            self.waiting.discard(waiter)
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # seen, even by a caller who was cancelled just now
            elif not self.waiting and not self.task.done():
                self.abandoned = True
                self.task.cancel()
                # a task that had no turn yet never gets to its own end
                self.task.add_done_callback(lambda _: self._end())

    async def _ask(self, inner: Backend, request: Request) -> None:
        try:
            completion = await inner.complete(request)
            await self.store.keep([(self.key, completion)])
        except Exception as error:
            self._end()
            for waiter in self._still_waiting():
                waiter.set_exception(error)
        except BaseException:
            self._end()
            for waiter in self._still_waiting():
                waiter.cancel()
            raise
        else:
            self._end()
            for waiter in self._still_waiting():
                waiter.set_result(completion)

    def _still_waiting(self) -> list[asyncio.Future[Completion]]:
        return [waiter for waiter in self.waiting if not waiter.done()]

    def _end(self) -> None:
        if self.flights.get(self.key) is self:
            del self.flights[self.key]
            self.store.release(self.key)


_FLIGHTS: WeakKeyDictionary[Replies, dict[str, _Flight]] = WeakKeyDictionary()
"""Of each store, the calls under way: backends that share a store share them too."""


class CachedBackend(Wrapper):
    """Answers from the store, and keeps what the inner backend answers.

    A failure is never kept. Equal requests in flight are asked once, over all backends and all
    processes that share the store, and all but the first caller see the reply as cached; where the
    call fails, so does every caller in this process, and other processes ask themselves. A caller
    who is cancelled takes the reply from nobody else. The raw completion is kept, so a better
    parser reads it again for free.
    """

    def __init__(self, inner: Backend, store: Replies) -> None:
        super().__init__(inner)
        self._store = store
        self._flights = _FLIGHTS.setdefault(store, {})
        self._promising = True
        """Whether the store held any of the last replies."""
        self._near = not store.far

    @property
    def group_size(self) -> int:
        """The inner backend's, or 1 where it answers one by one."""
        return self.inner.group_size if isinstance(self.inner, GroupBackend) else 1

    def kept(self, request: Request) -> bool:
        """Whether `request` would be answered from the store."""
        return self.kept_many([request])[0]

    def kept_many(self, requests: Sequence[Request]) -> list[bool]:
        """Whether each of `requests` would be answered from the store, looked up together."""
        identity = self.identity
        keys = [request.digest(identity) for request in requests]
        found = self._store.kept(keys)
        return [key in found for key in keys]

    def at_hand(self, requests: Sequence[Request]) -> list[tuple[str, Completion | None]]:
        """The digest of each of `requests`, and what the store holds for it, without a wait.

        Where the last replies were not in the store it is not searched: a first run has `complete`
        to find out. Nor is a store on another machine, which would hold up the event loop.

        Raises:
            StoreError: the store cannot be read.
        """
        identity = self.identity
        keys = [request.digest(identity) for request in requests]
        found: dict[str, Completion] = {}
        if self._promising and self._near:
            found = self._store.recall(keys)
            self._promising = len(found) > 0
        return [(key, found.get(key)) for key in keys]

    async def complete(self, request: Request) -> Completion:
        """The completion kept for `request`, or the inner backend's.

        Raises:
            BackendError: the inner backend failed.
            StoreError: the store cannot be read or written.
        """
        key = request.digest(self.identity)
        flight = self._flights.get(key)
        if (
            flight is not None
            and not flight.abandoned
            and flight.loop is asyncio.get_running_loop()
        ):
            return replace(await flight.join(), cached=True)
        if (hit := await self._store.claim(key)) is not None:
            self._promising = True
            return hit
        flight = _Flight(key, self._store, self._flights)
        flight.start(self.inner, request)
        return await flight.join()

    async def complete_group(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer `requests` in order; what is not kept yet is asked, and kept, as one group.

        Raises:
            BackendError: the inner backend failed: nothing of the group is kept.
            StoreError: the store cannot be read or written.
        """
        if not isinstance(self.inner, GroupBackend):
            return list(await asyncio.gather(*(self.complete(r) for r in requests)))
        identity = self.identity
        keys = [r.digest(identity) for r in requests]
        found: dict[str, Completion] = {}
        claimed: set[str] = set()
        try:
            # in one order everywhere: two groups that overlap cannot wait for each other
            for key in sorted(set(keys)):
                hit = await self._store.claim(key)
                if hit is None:
                    claimed.add(key)
                else:
                    found[key] = hit
            missing = {k: r for k, r in zip(keys, requests, strict=True) if k in claimed}
            if missing:
                answers = await self.inner.complete_group(list(missing.values()))
                fresh = dict(zip(missing, answers, strict=True))
                await self._store.keep(fresh.items())
                found |= fresh
        finally:
            for key in claimed:
                self._store.release(key)
        return [found[key] for key in keys]
