"""A backend that asks only for what the reply store does not hold yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from rlaif.backends.base import Backend, GroupBackend, Wrapper
from rlaif.store.replies import ReplyStore
from rlaif.types import Completion, Request


class CachedBackend(Wrapper):
    """Answers from the store, and keeps what the inner backend answers.

    A failure is never kept. Equal requests in flight are asked once, and all but the first caller
    see the reply as cached. The raw completion is kept, so a better parser reads it again for free.
    """

    def __init__(self, inner: Backend, store: ReplyStore) -> None:
        super().__init__(inner)
        self._store = store
        self._in_flight: dict[str, asyncio.Future[Completion]] = {}

    @property
    def group_size(self) -> int:
        """The inner backend's, or 1 where it answers one by one."""
        return self.inner.group_size if isinstance(self.inner, GroupBackend) else 1

    def kept(self, request: Request) -> bool:
        """Whether `request` would be answered from the store."""
        return self._store.get(request.digest(self.identity)) is not None

    async def complete(self, request: Request) -> Completion:
        key = request.digest(self.identity)
        if (hit := self._store.get(key)) is not None:
            return hit
        if (flying := self._in_flight.get(key)) is not None:
            # shielded: one caller that is cancelled must not take the reply from the others
            return replace(await asyncio.shield(flying), cached=True)
        task = asyncio.ensure_future(self._ask(key, request))
        self._in_flight[key] = task
        task.add_done_callback(lambda _: self._in_flight.pop(key, None))
        return await task

    async def _ask(self, key: str, request: Request) -> Completion:
        completion = await self.inner.complete(request)
        self._store.put_many([(key, completion)])
        return completion

    async def complete_group(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer `requests` in order; what is not kept yet is asked, and kept, as one group."""
        if not isinstance(self.inner, GroupBackend):
            return list(await asyncio.gather(*(self.complete(r) for r in requests)))
        keys = [r.digest(self.identity) for r in requests]
        found = {key: hit for key in keys if (hit := self._store.get(key)) is not None}
        missing = {k: r for k, r in zip(keys, requests, strict=True) if k not in found}
        if missing:
            answers = await self.inner.complete_group(list(missing.values()))
            fresh = dict(zip(missing, answers, strict=True))
            self._store.put_many(fresh.items())
            found |= fresh
        return [found[key] for key in keys]
