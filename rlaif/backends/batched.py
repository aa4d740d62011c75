"""Any judge through a provider's batch API, at half the price: it awaits, and hours later goes on.

    with BatchBook(home / "batches.sqlite") as book:
        backend = BatchedBackend(provider, provider.batches(), Batching(book))
        await asyncio.gather(*(backend.complete(request) for request in requests))   # one batch

Requests gather until nothing new comes: then every task waits for a reply, and they go out
together. What is asked because of the replies (a second try at an unreadable one, the verdict after
a reference, the next critique of a chain) gathers in the same way, so a judge of several steps runs
in rounds, one batch each. Everything that is to share a batch must therefore be in flight at once.

A batch is noted in the book before it is sent. So whatever kills the process, and whenever, the
next one that asks for the same finds the batch and collects it instead of paying again.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol, runtime_checkable

from rlaif.backends._batch_calls import (
    BatchApi,
    Chunk,
    Straggler,
    next_chunk,
    patiently,
)
from rlaif.backends._batch_entries import Entry
from rlaif.backends._batch_following import Batches, Batching, Stragglers
from rlaif.backends.base import Backend, Wrapper
from rlaif.errors import BackendError, ConfigError, Failure
from rlaif.types import Completion, Request

__all__ = [
    "BatchedBackend",
    "Batching",
    "HasBatches",
    "Straggler",
    "Stragglers",
    "StragglersLive",
    "batched",
]

_CERTAIN: frozenset[Failure] = frozenset({"rate_limit", "access", "request"})
"""Failures by which the provider said that it did not begin the batch."""
_FATAL_S = 60.0
"""How long a fatal error is raised again without asking."""
_TURNS = 10
"""Turns of the event loop that a task takes to come from one reply to its next request, or so."""


@runtime_checkable
class HasBatches(Protocol):
    """A backend of a provider that has a batch API."""

    def batches(self) -> BatchApi:
        """The batch API for its model."""
        ...


class BatchedBackend(Wrapper):
    """Sends requests through a batch API: slowly, in bulk, at half the price.

    Put it inside the cache, which keeps two processes from asking for the same at once, and inside
    the budget: `CachedBackend(BudgetedBackend(BatchedBackend(…), batch=True), store)`.

    Held in memory is what is in flight: each request with its caller, and while a batch is sent its
    body, at most the provider's limit for one batch (200 MB for OpenAI, 256 MB for Anthropic).

    Args:
        inner: The backend that would answer live. It is not asked, but closed at the end.
        api: The batch API of the same model.
        how: Where batches are noted, and how they are waited for.
        kept: Which of some digests the reply store has: the book then lets go of them. What it
            does not let go of can be collected once more, as long as the provider keeps it.
    """

    def __init__(
        self,
        inner: Backend,
        api: BatchApi,
        how: Batching,
        *,
        kept: Callable[[Iterable[str]], Collection[str]] = lambda _: (),
    ) -> None:
        super().__init__(inner)
        self.api = api
        self.sent = 0
        """Batches that this process sent."""
        self._how = how
        self._book = how.book
        self._batches = Batches(api, how, kept=kept, requeue=self._add, fail=self._fail)
        self._pending: dict[str, Entry] = {}
        self._arrived = 0
        self._sender: asyncio.Task[None] | None = None
        self._fatal: BackendError | None = None
        self._fatal_at = 0.0

    @property
    def in_rounds(self) -> bool:
        return True

    async def complete(self, request: Request) -> Completion:
        """The completion, once the batch that `request` goes out in has ended.

        Raises:
            ConfigError: the API cannot answer such a request.
            BackendError: the provider refused the request or the batch, or left it unanswered.
            StoreError: the book cannot be written, so nothing was sent.
        """
        if self._fatal is not None and time.monotonic() - self._fatal_at < _FATAL_S:
            raise copy.copy(self._fatal)
        self.api.check(request)
        digest = request.digest(self.identity)
        entry = self._pending.get(digest) or Entry(request)
        waiter = entry.join()
        self._add(digest, entry)
        return await waiter

    async def aclose(self) -> None:
        """Stop waiting: batches that are under way stay so, and are collected another time."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
            self._sender = None
        await self._batches.close()
        for entry in self._pending.values():
            entry.drop()
        self._pending.clear()
        self._fatal = None
        await self.inner.aclose()

    def _add(self, digest: str, entry: Entry) -> None:
        """Let `entry` go out next."""
        self._pending[digest] = entry
        self._arrived += 1
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._pending:
            await self._quiet()
            gathered, self._pending = self._pending, {}
            gathered = {digest: e for digest, e in gathered.items() if e.wanted}
            try:
                await self._send(gathered)
            except Exception as error:
                for entry in gathered.values():
                    entry.fail(error)
            except BaseException:
                for entry in gathered.values():
                    entry.drop()
                raise

    async def _quiet(self) -> None:
        """Return once nobody has anything to add, or a batch is full."""
        while True:
            arrived = self._arrived
            await self._how.sleep(self._how.quiet_s)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if self._batches.reading:
                continue
            if self._arrived == arrived or len(self._pending) >= self.api.most_requests:
                return

    async def _send(self, gathered: dict[str, Entry]) -> None:
        """Wait for what was sent before, and send the rest."""
        self._batches.let_go()
        new = dict(gathered)
        for batch, digests in self._book.holding(gathered).items():
            sent_before = {digest: new.pop(digest) for digest in digests}
            self._batches.follow(batch, sent_before, self.api.family)
        failed: dict[str, BackendError] = {}
        requests = {digest: entry.request for digest, entry in new.items()}
        while requests:
            # one after the other: a key that is refused costs one call
            chunk = next_chunk(self.api, requests, self._batches.most, failed)
            if chunk is not None:
                await self._submit(chunk, {digest: new[digest] for digest in chunk.digests})
            for digest in (*failed, *(chunk.digests if chunk else ())):
                requests.pop(digest, None)
        for digest, error in failed.items():
            new[digest].fail(error)

    async def _submit(self, chunk: Chunk, entries: dict[str, Entry]) -> None:
        """Have the provider begin a batch, once, whatever goes wrong on the way."""
        await self._batches.room()
        if self._fatal is not None and time.monotonic() - self._fatal_at < _FATAL_S:
            return self._fail(entries, self._fatal)
        batch = self._book.intend(self.model, chunk.digests)
        doubt = False

        async def create() -> str:
            nonlocal doubt
            if doubt:
                known, digests = self._book.ids(), frozenset(chunk.digests)
                if (found := await self.api.find(batch, known, digests)) is not None:
                    return found
            try:
                return await self.api.create(chunk, uploaded, batch.token)
            except BackendError as error:
                doubt = doubt or error.kind not in _CERTAIN
                raise

        try:
            uploaded = await patiently(lambda: self.api.upload(chunk), self._how.sleep)
            name = await patiently(create, self._how.sleep)
        except BackendError as error:
            if not doubt:
                self._book.forget(batch)
            return self._fail(entries, error)
        self.sent += 1
        self._how.tell(f"batch {name}: {batch.size:,} requests sent to {self.model}")
        batch = self._book.submitted(batch, name)
        return self._batches.follow(batch, entries, chunk.family)

    def _fail(self, entries: Mapping[str, Entry], error: BackendError) -> None:
        if error.fatal:
            self._fatal, self._fatal_at = error, time.monotonic()
        for entry in entries.values():
            entry.fail(error)


def batched(
    provider: Backend,
    inner: Backend,
    how: Batching,
    *,
    kept: Callable[[Iterable[str]], Collection[str]] = lambda _: (),
) -> BatchedBackend:
    """A backend that asks the batch API of `provider`.

    Args:
        provider: The provider itself.
        inner: What would ask it live.
        how: As in `BatchedBackend`.
        kept: As in `BatchedBackend`.

    Raises:
        ConfigError: it has none.
    """
    if not isinstance(provider, HasBatches):
        raise ConfigError(f"{provider.model} has no batch API; openai/… and anthropic/… have")
    return BatchedBackend(inner, provider.batches(), how, kept=kept)


class StragglersLive(Wrapper):
    """Asks live for what a batch left unanswered.

    Args:
        inner: Batched, with `stragglers="live"`, and within the budget at the price of batches.
        live: The same model, asked one by one, within the same budget at the full price.
    """

    def __init__(self, inner: Backend, live: Backend) -> None:
        super().__init__(inner)
        self.live = live

    async def complete(self, request: Request) -> Completion:
        """The completion from a batch, else from a live call.

        Raises:
            BackendError: the provider failed or refused the request.
        """
        try:
            return await self.inner.complete(request)
        except Straggler:
            return await self.live.complete(request)
