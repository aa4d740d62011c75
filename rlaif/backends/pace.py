"""How fast an endpoint may be asked, shared by everything in the process that asks it.

    book = PaceBook(requests_per_minute=500)
    pace = book.pace("openai", "https://api.openai.com/v1", key)
    backend = LimitedBackend(OpenAIBackend("gpt-5.1", options), pace)

A `Pace` hands out places in the order they were asked for. How many there are it finds by itself
(`_window.Window`), and it closes for as long as the endpoint says. Nothing is polled: a place that
comes free goes to the one call that has waited longest.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from rlaif.backends._bucket import Bucket, TokenMeter, mean
from rlaif.backends._window import Window
from rlaif.errors import BackendError, ConfigError, Failure
from rlaif.types import Usage

MOST = 1024
"""Most calls in flight where no bound is given."""
_START = 32
"""Calls in flight to begin with where no bound is given."""
_LONGEST_PAUSE_S = 60.0
_CONGESTION: frozenset[Failure] = frozenset({"rate_limit", "overload", "timeout"})
_CLOCK_S = 1e-6
"""Timers may fire so much before their time."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What an answer's headers say is left of a limit; `None` where they do not say."""

    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    """Seconds until all requests are there again."""
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None


OnLimits = Callable[[RateLimits], None]


@runtime_checkable
class ReportsLimits(Protocol):
    """A backend that tells what the headers of answers say: it calls `on_limits` if it is set."""

    on_limits: OnLimits | None


class _Waiter:
    __slots__ = ("future", "tokens")

    def __init__(self, future: asyncio.Future[int], tokens: float) -> None:
        self.future = future
        self.tokens = tokens


class Pace:
    """Places for calls to one endpoint: how many at a time, how soon after one another.

    All of a process that asks the endpoint shares one, on one event loop at a time.

    Args:
        concurrency: Most calls in flight, and how many there are until the endpoint objects.
            `None`: at most 1,024, found by doubling from 32.
        requests_per_minute: Never more calls than this in any 60 seconds, spread evenly.
        tokens_per_minute: The same for tokens of prompts and replies. A call's tokens are estimated
            before it is sent, from the calls before it, and corrected by its usage.

    Raises:
        ConfigError: a bound is not above 0.
    """

    def __init__(
        self,
        concurrency: int | None = None,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        for name, bound in (
            ("requests_per_minute", requests_per_minute),
            ("tokens_per_minute", tokens_per_minute),
        ):
            if bound is not None and not (math.isfinite(bound) and bound > 0):
                raise ConfigError(f"{name} must be above 0, not {bound}")
        if concurrency is not None and concurrency < 1:
            raise ConfigError(f"concurrency must be 1 or more, not {concurrency}")
        self.concurrency = concurrency or MOST
        """Most calls in flight."""
        self.window = Window(concurrency or _START, self.concurrency)
        self.in_flight = 0
        self.sent = 0
        """Calls sent so far; each call's number is what this was when it was sent."""
        self.meter = TokenMeter(tokens_per_minute) if tokens_per_minute else None
        """Estimates the tokens of calls, where they are capped."""
        self._requests = Bucket(requests_per_minute, 1.0) if requests_per_minute else None
        self._waiters: deque[_Waiter] = deque()
        self._gated = self._is_capped()
        """Whether a free place is not enough."""
        self._closed_until = 0.0
        self._quota: int | None = None
        """Calls that the endpoint's own limit still allows, where few are left."""
        self._quota_until = 0.0
        self._last_at = -math.inf
        self._latency_s = 0.0
        self._call_tokens = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def allowed(self) -> int:
        """Calls allowed in flight now: 1 to `concurrency`."""
        return self.window.allowed

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return sum(not waiter.future.done() for waiter in self._waiters)

    def enter(self, now: float, tokens: float = 0.0) -> bool:
        """Whether a call got a place at once; if not, `wait` for one.

        Args:
            now: The event loop's time.
            tokens: What the call will take, where tokens are capped: the meter's estimate.
        """
        if self.in_flight >= self.window.allowed or self._waiters:
            return False
        if self._gated and self._gate_s(now, tokens) > 0:
            return False
        self._admit(now, tokens)
        return True

    async def wait(self, tokens: float = 0.0) -> int:
        """The number of the call, once it has a place; first come, first served."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._move_to(loop)
        waiter = _Waiter(loop.create_future(), tokens)
        self._waiters.append(waiter)
        self._pump(loop)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                self.withdraw(tokens)
            elif self._waiters and self._waiters[0] is waiter:
                self._pump(loop)
            raise

    def leave(self) -> None:
        """Give a place back; the one that has waited longest gets it."""
        self.in_flight -= 1
        if self._waiters:
            self._pump(asyncio.get_running_loop())

    def withdraw(self, tokens: float = 0.0) -> None:
        """Give back the place of a call that was not sent after all, and what it counted for."""
        if self._requests is not None:
            self._requests.take(-1.0)
        if self.meter is not None:
            self.meter.bucket.take(-tokens)
        self.leave()

    def succeeded(self, number: int, now: float, latency_s: float, usage: Usage) -> None:
        """Call `number` succeeded: learn from it, and give its place back."""
        window = self.window
        if window.size < window.most:
            window.succeeded(number, now, self.in_flight)
            self._gated = self._is_gated()
        self._latency_s = mean(self._latency_s, latency_s)
        self._call_tokens = mean(self._call_tokens, usage.input + usage.output)
        self.leave()

    def failed(self, number: int, error: BackendError, now: float) -> None:
        """Call `number` failed: slow down if that is why, and give its place back."""
        pause_s = error.retry_after
        if pause_s is not None or error.kind in _CONGESTION:
            obey = self.window.troubled(
                number,
                now,
                self.in_flight,
                self.sent,
                refused=error.kind != "timeout",
                cost_s=max(pause_s or 0.0, self._latency_s),
            )
            if obey and pause_s:
                self.close(now + min(pause_s, _LONGEST_PAUSE_S))
            self._gated = self._is_gated()
        self.leave()

    def close(self, until: float) -> None:
        """Send nothing before `until`, in the event loop's time."""
        self._closed_until = max(self._closed_until, until)
        self._gated = True

    def observe(self, limits: RateLimits) -> None:
        """Heed what an answer says is left: what is used up is waited for, not asked for.

        Calls in flight may not be counted in it yet, so they are taken off.
        """
        tokens = limits.remaining_tokens
        per_call = max(1.0, self._call_tokens)
        lefts = [
            (limits.remaining_requests, limits.reset_requests_s),
            (None if tokens is None else int(tokens / per_call), limits.reset_tokens_s),
        ]
        known = [(left, reset_s) for left, reset_s in lefts if left is not None and reset_s]
        if not known:
            return
        left, reset_s = min(known)
        others = max(0, self.in_flight - 1)
        if left - others > self.window.allowed:
            self._quota = None
        else:
            self._quota = max(0, left - others)
            now = asyncio.get_running_loop().time()
            self._quota_until = now + min(reset_s, _LONGEST_PAUSE_S)
        self._gated = self._is_gated()

    def _admit(self, now: float, tokens: float) -> None:
        self.in_flight += 1
        self.sent += 1
        if self._gated:
            self._last_at = now
            if self._quota is not None:
                self._quota -= 1
            if self._requests is not None:
                self._requests.take(1.0)
            if self.meter is not None:
                self.meter.bucket.take(tokens)

    def _is_capped(self) -> bool:
        return self._requests is not None or self.meter is not None

    def _is_gated(self) -> bool:
        return (
            self._is_capped()
            or self._closed_until > 0
            or self._quota is not None
            or self.window.size < 1
        )

    def _gate_s(self, now: float, tokens: float) -> float:
        """Seconds until the next call may be sent, places aside; 0 for at once."""
        if now >= self._closed_until - _CLOCK_S:
            self._closed_until = 0.0
        if self._quota is not None and now >= self._quota_until - _CLOCK_S:
            self._quota = None
        self._gated = self._is_gated()
        waits = [self._closed_until - now] if self._closed_until else []
        if self._quota is not None and self._quota <= 0:
            waits.append(self._quota_until - now)
        if self.window.size < 1:
            waits.append(self._last_at + self._latency_s / self.window.size - now)
        if self._requests is not None:
            waits.append(self._requests.wait_s(1.0, now))
        if self.meter is not None:
            waits.append(self.meter.bucket.wait_s(tokens, now))
        longest = max(waits, default=0.0)
        return longest if longest > _CLOCK_S else 0.0

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand out the places there are."""
        waiters = self._waiters
        while waiters and self.in_flight < self.window.allowed:
            waiter = waiters[0]
            if waiter.future.done():
                waiters.popleft()
                continue
            now = 0.0
            if self._gated:
                now = loop.time()
                gate_s = self._gate_s(now, waiter.tokens)
                if gate_s > 0:
                    self._wake_at(loop, now + gate_s)
                    return
            waiters.popleft()
            self._admit(now, waiter.tokens)
            waiter.future.set_result(self.sent)

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve `loop`: timers and waiters of one that has ended went with it."""
        if self._loop is not None and self._loop.is_running():
            raise RuntimeError("a Pace serves one event loop at a time")
        self._loop, self._timer = loop, None
        self._waiters.clear()

    def _wake_at(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            self._timer = None
            self._pump(loop)


class PaceBook:
    """One `Pace` for each endpoint: a provider at a URL, asked with one key.

    Args:
        concurrency: As for `Pace`, for each endpoint.
        requests_per_minute: As for `Pace`, for each endpoint.
        tokens_per_minute: As for `Pace`, for each endpoint.
    """

    def __init__(
        self,
        concurrency: int | None = None,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        self._new = partial(
            Pace,
            concurrency,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        self._paces: dict[tuple[str, str | None, bytes], Pace] = {}
        self._salt = secrets.token_bytes(32)

    def pace(self, provider: str, base_url: str | None = None, key: str | None = None) -> Pace:
        """The pace of an endpoint, the same one each time.

        Only a digest of the key is kept, with a salt that is never written down.

        Args:
            provider: The provider's name.
            base_url: Its address; `None` for the usual one.
            key: What it is asked with.
        """
        digest = hashlib.blake2b((key or "").strip().encode(), key=self._salt, digest_size=16)
        endpoint = (provider, base_url and base_url.strip().rstrip("/"), digest.digest())
        if endpoint not in self._paces:
            self._paces[endpoint] = self._new()
        return self._paces[endpoint]
