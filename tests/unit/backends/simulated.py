"""An event loop whose time passes only in waiting, and endpoints with limits that are known.

A minute of waiting takes no time and the same things always happen in the same order, so what a
pace does over hours can be tested in a second.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rlaif.backends.pace import OnLimits, RateLimits
from rlaif.errors import BackendError
from rlaif.types import Completion, Request, Usage

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Does not wait: it puts the clock forward."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("everything waits, and nothing will ever end it")
        self.now += max(0.0, timeout)
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop on simulated time."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """The result of `main`, run to its end on simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Endpoint:
    """A model behind limits; it fills the seam of a backend.

    Args:
        most: Calls it works on at once; more are refused.
        per_minute: Calls it takes a minute: a bucket of `burst` that fills evenly.
        retry_after_s: What it asks refused calls to wait; `None` for nothing.
        latency_s: How long it works on a call.
        fault: What goes wrong with a call that was let in, from its number and the time.
        headers: Whether it says with each answer how many calls are left.
    """

    most: int | None = None
    per_minute: float | None = None
    burst: float = 10.0
    retry_after_s: float | None = 1.0
    latency_s: float = 0.2
    spread: float = 0.0
    tokens: int = 100
    refuses_in_s: float = 0.001
    fault: Callable[[int, float], BackendError | float | None] = lambda number, at: None
    headers: bool = False
    model: str = "simulated/x"
    identity: str = "simulated/x"
    on_limits: OnLimits | None = None
    in_flight: int = 0
    peak: int = 0
    calls: int = 0
    sent_at: list[float] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    _level: float | None = None
    _level_at: float = 0.0
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    async def complete(self, request: Request) -> Completion:
        at = now()
        self.calls += 1
        number = self.calls
        self.sent_at.append(at)
        if not self._admits(at):
            self.refused_at.append(at)
            await asyncio.sleep(self.refuses_in_s)
            raise refusal(self.retry_after_s)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            wrong = self.fault(number, at)
            if isinstance(wrong, BackendError):
                if wrong.kind == "rate_limit":
                    self.refused_at.append(at)
                await asyncio.sleep(self.refuses_in_s)
                raise wrong
            extra_s = wrong or 0.0
            await asyncio.sleep(
                extra_s + self.latency_s * self._random.lognormvariate(0.0, self.spread)
            )
        finally:
            self.in_flight -= 1
        self.answered_at.append(now())
        if self.headers and self.on_limits is not None:
            self.on_limits(self._limits(now()))
        return Completion("x", usage=Usage(input=self.tokens // 2, output=self.tokens // 2))

    async def aclose(self) -> None:
        pass

    def _admits(self, at: float) -> bool:
        if self.most is not None and self.in_flight >= self.most:
            return False
        if self.per_minute is None:
            return True
        self._flow(at)
        assert self._level is not None
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def _flow(self, at: float) -> None:
        assert self.per_minute is not None
        level = self.burst if self._level is None else self._level
        self._level = min(self.burst, level + (at - self._level_at) * self.per_minute / 60)
        self._level_at = at

    def _limits(self, at: float) -> RateLimits:
        assert self.per_minute is not None
        self._flow(at)
        assert self._level is not None
        missing = self.burst - self._level
        return RateLimits(int(self._level), missing * 60 / self.per_minute)


def refusal(retry_after_s: float | None = 1.0) -> BackendError:
    return BackendError("429", retryable=True, retry_after=retry_after_s, kind="rate_limit")


def most_in(seconds: float, times: list[float]) -> int:
    """Most of `times` in any half-open stretch of so many seconds."""
    inside: deque[float] = deque()
    most = 0
    for at in times:
        inside.append(at)
        while inside[0] <= at - seconds + 1e-6:
            inside.popleft()
        most = max(most, len(inside))
    return most
