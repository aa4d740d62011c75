"""Calls at the pace that the endpoint bears, none that hangs, and an end to a hopeless run."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from rlaif.backends.base import Backend, Wrapper
from rlaif.backends.circuit import Circuit
from rlaif.backends.pace import Pace, ReportsLimits
from rlaif.backends.timeouts import Timeouts, Watchdog
from rlaif.errors import BackendError
from rlaif.types import Completion, Request

_LONGEST_CALL_S = 600.0
"""Where neither the caller nor the backend says how long a call may take."""


class LimitedBackend(Wrapper):
    """Asks `inner` no faster than its endpoint bears, and no more once that is hopeless.

    - How many calls are in flight is up to the `Pace`, which all backends of one endpoint share.
    - A call that goes on for a tenth longer than the backend's time-out is ended, even if the
      backend forgot about it.
    - The first call goes alone: a wrong key or an unknown model costs one call. If everything fails
      in any other way, it stops and says so; see `Circuit`.

    Put it right around the provider, inside the retries: `RetryingBackend(LimitedBackend(…))`. A
    call that waits to be tried again then holds no place.

    Args:
        inner: The backend to limit. If it reports rate limits (`ReportsLimits`), they are heeded.
        pace: The pace of its endpoint, or the most calls in flight for a pace of its own; `None`
            for one that finds the number.
        timeouts: How long a call may take: `inner.timeouts` where it has them, else ten minutes.

    Raises:
        ConfigError: the number is below 1.
    """

    def __init__(
        self,
        inner: Backend,
        pace: Pace | int | None = None,
        *,
        timeouts: Timeouts | None = None,
    ) -> None:
        super().__init__(inner)
        self.pace = pace if isinstance(pace, Pace) else Pace(pace)
        own = getattr(inner, "timeouts", None)
        if timeouts is None:
            timeouts = own if isinstance(own, Timeouts) else Timeouts(total_s=_LONGEST_CALL_S)
        self.timeouts = timeouts
        self._circuit = Circuit(inner.model)
        self._watchdog = Watchdog(timeouts.guard_s)
        if isinstance(inner, ReportsLimits):
            inner.on_limits = self.pace.observe

    @property
    def concurrency(self) -> int:
        """Most calls in flight to the endpoint."""
        return self.pace.concurrency

    @property
    def allowed(self) -> int:
        """Calls allowed in flight to the endpoint now, `concurrency` or fewer."""
        return self.pace.allowed

    async def complete(self, request: Request) -> Completion:
        """The completion of `inner`, once there is a place for the call.

        Raises:
            BackendError: `inner` failed, failed fatally before, took too long, or fails always.
        """
        pace, circuit = self.pace, self._circuit
        loop = asyncio.get_running_loop()
        now = loop.time()
        meter = pace.meter
        tokens = meter.estimate(request) if meter is not None else 0.0
        if circuit.open and pace.enter(now, tokens):
            number, alone = pace.sent, False
        else:
            number, alone = await self._wait(tokens)
            now = loop.time()
        try:
            completion = await self._ask(request, loop, now)
        except BackendError as error:
            ended = loop.time()
            pace.failed(number, error, ended)
            key = request.digest(self.identity)
            raised = circuit.failed(error, ended, alone=alone, request=key)
            if raised is error:
                raise
            raise raised from error
        except BaseException:
            pace.leave()
            if alone:
                circuit.abandoned(loop.time())
            raise
        if not circuit.calm:
            circuit.succeeded()
        ended = loop.time()
        if meter is not None:
            meter.correct(request, completion.usage, tokens)
        pace.succeeded(number, ended, ended - now, completion.usage)
        return completion

    async def _wait(self, tokens: float) -> tuple[int, bool]:
        """The number of the call once it has a place, and whether it goes alone."""
        pace, circuit = self.pace, self._circuit
        loop = asyncio.get_running_loop()
        while True:
            alone = False if circuit.open else await circuit.turn()
            try:
                number = pace.sent if pace.enter(loop.time(), tokens) else await pace.wait(tokens)
            except BaseException:
                if alone:
                    circuit.abandoned(loop.time())
                raise
            if alone or circuit.open:
                return number, alone
            # it closed while this call waited for its place
            pace.withdraw(tokens)

    async def _ask(
        self, request: Request, loop: asyncio.AbstractEventLoop, now: float
    ) -> Completion:
        """The completion of `inner`, or an error if it takes much longer than it should."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._watchdog.watch(task, loop, now)
        try:
            completion = await self.inner.complete(request)
        except asyncio.CancelledError:
            if self._watchdog.forget(task):
                raise BackendError(
                    f"{self.model} did not answer within {self.timeouts.guard_s:g} s",
                    retryable=True,
                    kind="timeout",
                ) from None
            raise
        except BaseException:
            self._watchdog.forget(task)
            raise
        self._watchdog.forget(task)
        return completion
