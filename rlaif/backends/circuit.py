"""When to stop: one call, not a thousand, against a provider that answers none."""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from rlaif.errors import BackendError, Failure

SUSPICIOUS = 20
"""Failures in a row after which calls go one at a time."""
PATIENCE_S = 30.0
"""How long everything may fail before the run is stopped."""
PATIENCE_WHEN_BUSY_S = 300.0
"""The same where the provider says that it is busy: it is there, and models take long to load."""
PATIENCE_WHEN_ABSENT_S = 3.0
"""The same where no call ever succeeded, and none even met a provider: nothing listens there, or
something else does. Most likely the address is wrong."""
MOST_REJECTED = 200
"""Requests rejected one after the other, before any success, after which the rest are not sent."""
FEWEST_TRIES = 5
"""Calls that must have failed in a row, however long it took."""
SLOW_S = 5.0
"""A provider that refuses does so at once: one that takes longer is at work on the first call."""
ASK_AGAIN_S = 60.0
"""After a fatal error nothing is sent for so long, then one call to see if it was put right."""
_MOST_SUSPECTS = 4096
"""Requests remembered as failing while others succeed."""
_FIRST_DELAY_S = 0.25
_LONGEST_DELAY_S = 4.0
_CLOCK_S = 1e-6
"""Timers may fire so much before their time."""
_BUSY: frozenset[Failure] = frozenset({"rate_limit", "overload"})
_ABSENT: frozenset[Failure] = frozenset({"connection", "bad_reply"})


class Circuit:
    """Lets calls through one at a time while it is not known that any can succeed.

    - The first call goes alone. Any success, and any answer that is about this one request or about
      the rate of calls, lets all others through; so does a first call at work for 5 seconds.
    - A fatal error (a bad key, an unknown model) is raised again in every call that waits or
      comes later, for a minute.
    - After 20 failures in a row, or if the first call failed, calls go one at a time and further
      and further apart (up to 4 s) until one succeeds. The others wait without using up their
      tries, so an outage shorter than the patience costs a few calls and no verdict.
    - When nothing has succeeded for 30 seconds of that (300 where the provider says that it is busy
      or limits the rate; 3 where none ever succeeded, and nothing there is a provider), and never
      after fewer than 5 tries, the error becomes fatal and says what was tried.
    - So it does when the first 200 requests were rejected one by one, none having succeeded.
    - A request that failed, then failed again after another one had succeeded, says nothing about
      the provider: it is not counted. Else the last few of a run, which no provider can answer,
      would look like an outage.

    Args:
        model: The model's address, for the message.
    """

    def __init__(self, model: str) -> None:
        self.open = False
        """Whether calls go through freely."""
        self.calm = False
        """Whether it is open and the last call succeeded, so that a success is no news."""
        self._model = model
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._next_at = 0.0
        """When the next call may go alone."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where the timer runs."""
        self._proven = False
        """Whether any call ever succeeded."""
        self._failures: Counter[Failure] = Counter()
        """Failures of the provider since it last answered."""
        self._failing_since = 0.0
        self._tries = 0
        """How many of them went alone."""
        self._rejections = 0
        """Requests rejected since the last success."""
        self._rejecting_since = 0.0
        self._failing: set[str] = set()
        """Requests that failed since the last success."""
        self._suspects: dict[str, None] = {}
        """Requests that failed before it, oldest first."""
        self._fatal: BackendError | None = None
        self._fatal_at = 0.0

    async def turn(self) -> bool:
        """Whether this call goes alone, once it may go; it must then report how it ended.

        Raises:
            BackendError: a fatal error came before.
        """
        loop = asyncio.get_running_loop()
        while not self.open:
            now = loop.time()
            self._check(now)
            if now >= self._next_at - _CLOCK_S:
                self._wait_until(loop, now + SLOW_S)
                return True
            waiter = loop.create_future()
            self._waiters.append(waiter)
            if self._timer is None or self._loop is not loop:
                self._wait_until(loop, self._next_at)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()
                raise
        return False

    def abandoned(self, now: float) -> None:
        """A call that went alone ended with neither a success nor a failure: another may go."""
        if not self.open:
            self._next_at = now
            self._wake_one()

    def succeeded(self) -> None:
        """A call succeeded."""
        if self._fatal is not None:
            # it was sent before the provider shut us out
            return
        self._proven = self.calm = True
        self._rejections = 0
        self._suspect_failing()
        self._let_all()

    def failed(self, error: BackendError, now: float, *, alone: bool, request: str) -> BackendError:
        """The error to raise for a call that failed at `now`: a fatal one where it is time to stop.

        Args:
            error: Why it failed.
            now: The event loop's time.
            alone: Whether it went alone.
            request: What tells the request from others, its digest.
        """
        self.calm = False
        if error.fatal:
            return self._stop(error, now)
        if self._fatal is not None:
            return error
        if not error.retryable:
            return self._rejected(error, now)
        if request not in self._suspects:
            return self._counted(error, now, alone, request)
        if alone:
            self._put_off(now)
        return error

    def _counted(self, error: BackendError, now: float, alone: bool, request: str) -> BackendError:
        """The error to raise for a failure that may be the provider's."""
        self._failing.add(request)
        if not self._failures:
            self._failing_since = now
        self._failures[error.kind] += 1
        few = self._failures.total() < SUSPICIOUS
        if few and (self.open or error.kind in _BUSY):
            self._let_all_through()
            return error
        self.open = False
        lasted_s = now - self._failing_since
        if lasted_s >= self._patience_s() and self._failures.total() >= FEWEST_TRIES:
            return self._stop(self._hopeless(error, lasted_s, dict(self._failures)), now)
        if alone:
            self._put_off(now)
        return error

    def _put_off(self, now: float) -> None:
        """Let the next call go alone a while after one that did so and failed at `now`."""
        self._tries += 1
        delay_s = _FIRST_DELAY_S * 2.0 ** min(self._tries - 2, 9) if self._tries > 1 else 0.0
        self._wait_until(asyncio.get_running_loop(), now + min(_LONGEST_DELAY_S, delay_s))

    def _suspect_failing(self) -> None:
        """What failed till now is to blame by itself if it goes on failing."""
        self._suspects.update(dict.fromkeys(self._failing))
        self._failing.clear()
        while len(self._suspects) > _MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    def _patience_s(self) -> float:
        kinds = self._failures.keys()
        if kinds & _BUSY:
            return PATIENCE_WHEN_BUSY_S
        absent = not self._proven and kinds <= _ABSENT
        return PATIENCE_WHEN_ABSENT_S if absent else PATIENCE_S

    def _rejected(self, error: BackendError, now: float) -> BackendError:
        """The provider is there and takes the key, but not this request."""
        if not self._rejections:
            self._rejecting_since = now
        self._rejections += 1
        if not self._proven and self._rejections >= MOST_REJECTED:
            kinds: dict[Failure, int] = {error.kind: self._rejections}
            return self._stop(self._hopeless(error, now - self._rejecting_since, kinds), now)
        self._let_all()
        return error

    def _hopeless(
        self, error: BackendError, lasted_s: float, kinds: dict[Failure, int]
    ) -> BackendError:
        """The fatal error that says what was tried."""
        said = ", ".join(f"{n} x {kind.replace('_', ' ')}" for kind, n in sorted(kinds.items()))
        since = "since the last success" if self._proven else "and none ever succeeded"
        return BackendError(
            f"stopped asking {self._model}: {sum(kinds.values())} calls in a row failed within "
            f"{max(lasted_s, 1):.0f} s ({said}) {since}; the last one: {error}",
            fatal=True,
            kind=error.kind,
        )

    def _stop(self, error: BackendError, now: float) -> BackendError:
        self.open = False
        self._fatal = error
        self._fatal_at = now
        self._wake_all()
        return error

    def _check(self, now: float) -> None:
        """Raise a copy of the fatal error: one exception in many tasks would mix tracebacks."""
        fatal = self._fatal
        if fatal is None:
            return
        if now < self._fatal_at + ASK_AGAIN_S:
            raise BackendError(str(fatal), fatal=True, kind=fatal.kind)
        self._fatal = None
        self._failures.clear()
        self._tries = self._rejections = 0
        self._next_at = now

    def _wait_until(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """Let the next call go alone at `when`."""
        if self._timer is not None:
            self._timer.cancel()
        self._next_at = when
        self._loop = loop
        self._timer = loop.call_at(when, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        if self._proven or self._failures:
            self._wake_one()
        elif self._fatal is None:
            self._let_all()

    def _let_all(self) -> None:
        """The provider answers: forget its failures and let all calls through."""
        self._failures.clear()
        self._let_all_through()

    def _let_all_through(self) -> None:
        if self.open:
            return
        self.open = True
        self._tries = 0
        self._next_at = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_all()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
