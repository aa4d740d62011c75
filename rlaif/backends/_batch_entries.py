"""Requests on their way through batches, and those who wait for them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

from rlaif.backends._batch_calls import Straggler
from rlaif.backends.families import Family
from rlaif.store.batches import SentBatch
from rlaif.types import Completion, Request


@dataclass(slots=True)
class Entry:
    """A request, and the callers who wait for its completion."""

    request: Request
    waiting: list[asyncio.Future[Completion]] = field(default_factory=list)
    tries: int = 0
    """Batches that left it unanswered."""

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits."""
        return any(not waiter.done() for waiter in self.waiting)

    def join(self) -> asyncio.Future[Completion]:
        """A further caller's place."""
        waiter: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        return waiter

    def answer(self, completion: Completion) -> None:
        """Hand the completion to everybody."""
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(completion)

    def fail(self, error: Exception) -> None:
        """Raise `error` in everybody, a copy in each: shared, it would mix their tracebacks."""
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_exception(copy.copy(error))

    def drop(self) -> None:
        """Cancel everybody."""
        for waiter in self.waiting:
            waiter.cancel()


@dataclass(slots=True)
class Following:
    """A batch that is under way, and the requests in it that somebody waits for."""

    batch: SentBatch
    entries: dict[str, Entry]
    sent: Family
    """What the requests were made for."""
    task: asyncio.Task[None] | None = None
    reading: bool = False
    """Whether its results are being handed out."""
    answered: list[str] = field(default_factory=list)
    left: dict[str, Straggler] = field(default_factory=dict)
    """Requests that may be asked again, and why."""
    seen: set[str] = field(default_factory=set)
    """Requests whose result was read."""

    def join(self, entries: Mapping[str, Entry]) -> None:
        """Let further callers wait for it."""
        for digest, entry in entries.items():
            if (there := self.entries.setdefault(digest, entry)) is not entry:
                there.waiting += entry.waiting

    def fail(self, error: Exception) -> None:
        """Raise `error` in everybody who still waits for it."""
        for entry in self.entries.values():
            entry.fail(error)
