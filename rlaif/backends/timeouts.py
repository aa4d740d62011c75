"""How long a call may take, and the guard that no hanging call gets past."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

from rlaif.errors import ConfigError

_GRACE = 1.1
"""The guard waits this much longer than the backend's own time-out, whose error says more."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Longest waits of one call, in seconds.

    Raises:
        ConfigError: one is not a positive number.
    """

    connect_s: float = 10.0
    """For a connection, the TLS handshake included. A host that is not there is known early."""
    first_byte_s: float | None = None
    """For the first byte of the answer once the request is sent, and for any byte after another.
    `None`: as long as the whole, as an answer that is not streamed begins when it is complete."""
    total_s: float = 120.0
    """For the whole call."""

    def __post_init__(self) -> None:
        for wait_s in (self.connect_s, self.first_byte_s, self.total_s):
            if wait_s is not None and not (math.isfinite(wait_s) and wait_s > 0):
                raise ConfigError(f"a time-out is a positive number of seconds, not {wait_s}")

    @property
    def read_s(self) -> float:
        """Longest wait for a byte of the answer: never longer than the whole."""
        return min(self.first_byte_s or self.total_s, self.total_s)

    @property
    def guard_s(self) -> float:
        """When a call that its backend has not ended is ended for it."""
        return self.total_s * _GRACE


class Watchdog:
    """Cancels tasks that are still at it after `longest_s`, with one timer for all of them.

    All tasks get the same time, so the oldest is always the next one due: watching costs an entry
    in a dict instead of a timer for each call.
    """

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self._since: dict[asyncio.Task[Any], float] = {}
        self._ended: dict[asyncio.Task[Any], int] = {}
        """Tasks that were cancelled, with how many others wanted them cancelled before."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, now: float) -> None:
        """Give `task`, which is running, until `longest_s` after `now` (the loop's time)."""
        self._since[task] = now
        if self._loop is not loop:
            # no timer is set, or it went with an event loop that has ended
            self._loop = loop
            loop.call_at(now + self.longest_s, self._look, loop)

    def forget(self, task: asyncio.Task[Any]) -> bool:
        """Whether the watchdog, and nobody else, ended what `task` was at; it is over now."""
        del self._since[task]
        if not self._ended or task not in self._ended:
            return False
        return task.uncancel() <= self._ended.pop(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what is overdue, and come back when the next one is due."""
        if self._loop is not loop:
            return
        now = loop.time()
        for task, since in self._since.items():
            if task in self._ended:
                continue
            if since + self.longest_s > now:
                loop.call_at(since + self.longest_s, self._look, loop)
                return
            self._ended[task] = task.cancelling()
            task.cancel()
        self._loop = None
