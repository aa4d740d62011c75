"""A bound on the calls in flight, and an end to a run that cannot succeed."""

from __future__ import annotations

import asyncio

from rlaif.backends.base import Backend, Wrapper
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Request

_LONGEST_PAUSE_S = 60.0


class LimitedBackend(Wrapper):
    """At most `concurrency` calls to `inner` at a time, fewer while it limits their rate.

    A provider that says when to come back (`retry_after`) is sent nothing until then, and half as
    many calls at a time from then on; each round of successes allows one more again. Without this,
    calls that wait would use up their tries on a limit that the others keep exceeding.

    A fatal error (a refused key, an unknown model) means that every further call would fail the
    same way. So the first one is remembered, and calls that wait or come later raise it again
    without being sent: a wrong key costs the calls in flight, not the whole work list.

    Put it right around the provider, inside the retries: `RetryingBackend(LimitedBackend(…))`. A
    call that waits to be tried again then holds no place.

    Args:
        inner: The backend to bound.
        concurrency: Most calls in flight, 1 or more.

    Raises:
        ConfigError: `concurrency` is below 1.
    """

    def __init__(self, inner: Backend, concurrency: int) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency must be 1 or more, not {concurrency}")
        super().__init__(inner)
        self.concurrency = concurrency
        self.allowed = concurrency
        """Calls allowed in flight now, `concurrency` or fewer."""
        self._places = asyncio.Semaphore(concurrency)
        self._surplus = 0
        """Places to take away as calls leave them."""
        self._successes = 0
        self._open = asyncio.Event()
        self._open.set()
        self._closed_until = 0.0
        self._reopening: asyncio.TimerHandle | None = None
        self._fatal: BackendError | None = None

    async def complete(self, request: Request) -> Completion:
        """The completion of `inner`, once there is a place for the call.

        Raises:
            BackendError: `inner` failed, or failed fatally before.
        """
        await self._places.acquire()
        try:
            await self._open.wait()
            if self._fatal is not None:
                raise _again(self._fatal)
            sent = asyncio.get_running_loop().time()
            try:
                completion = await self.inner.complete(request)
            except BackendError as error:
                if error.fatal:
                    self._fatal = error
                    self._open.set()
                elif error.retry_after is not None:
                    self._slow_down(sent, error.retry_after)
                raise
            self._speed_up()
            return completion
        finally:
            self._free_place()

    async def aclose(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        await self.inner.aclose()

    def _slow_down(self, sent: float, pause_s: float) -> None:
        """Let nothing in for a while; calls sent together that fail together halve once."""
        loop = asyncio.get_running_loop()
        if sent >= self._closed_until:
            fewer = max(1, self.allowed // 2)
            self._surplus += self.allowed - fewer
            self.allowed = fewer
            self._successes = 0
        until = loop.time() + min(pause_s, _LONGEST_PAUSE_S)
        if until > self._closed_until and self._fatal is None:
            self._closed_until = until
            self._open.clear()
            if self._reopening is not None:
                self._reopening.cancel()
            self._reopening = loop.call_at(until, self._open.set)

    def _speed_up(self) -> None:
        """Allow one more call at a time after as many successes as calls are allowed."""
        if self.allowed == self.concurrency:
            return
        self._successes += 1
        if self._successes >= self.allowed:
            self._successes = 0
            self.allowed += 1
            self._free_place()

    def _free_place(self) -> None:
        if self._surplus:
            self._surplus -= 1
        else:
            self._places.release()


def _again(error: BackendError) -> BackendError:
    """A copy of a fatal error: one exception raised in many tasks would mix their tracebacks."""
    return BackendError(str(error), retry_after=error.retry_after, fatal=True)
