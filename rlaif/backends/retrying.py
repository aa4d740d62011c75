"""The one retry loop: provider SDKs are told not to retry, so that every wait is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    wait_random,
    wait_random_exponential,
)

from rlaif.backends.base import Backend, Wrapper
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Request

Sleep = Callable[[float], Awaitable[None]]


class RetryingBackend(Wrapper):
    """Asks `inner` again after failures that may pass, as their `BackendError` says.

    Waits grow exponentially with full jitter, so that many calls that failed together do not come
    back together. Where the provider says how long to wait (`retry_after`), it is that and a little
    more at random. Errors that are not retryable, or fatal, are raised at once.

    Args:
        inner: The backend to ask.
        attempts: Most calls for one request, 1 or more.
        total_s: Most seconds to go on for, waits included: a wait that would end later is not
            begun. A call in flight is bounded by the backend's own time-out, not by this.
        first_wait_s: Upper bound of the first wait; it doubles with each further one.
        longest_wait_s: Upper bound of any wait but one that the provider asked for.
        sleep: Waits the given seconds; tests pass their own.
        clock: Seconds from an arbitrary start, never going back. The event loop's by default.

    Raises:
        ConfigError: `attempts` is below 1.
    """

    def __init__(
        self,
        inner: Backend,
        attempts: int = 6,
        total_s: float = 300.0,
        *,
        first_wait_s: float = 0.5,
        longest_wait_s: float = 60.0,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if attempts < 1:
            raise ConfigError(f"attempts must be 1 or more, not {attempts}")
        super().__init__(inner)
        self.attempts = attempts
        self.total_s = total_s
        self.retries = 0
        """Calls that were asked again, over all requests."""
        self._spread = wait_random(0, first_wait_s)
        self._jitter = wait_random_exponential(multiplier=first_wait_s, max=longest_wait_s)
        self._sleep = sleep
        self._clock = clock

    async def complete(self, request: Request) -> Completion:
        """The first completion that `inner` gives.

        Raises:
            BackendError: the last failure, with the number of tries in its message.
        """
        now = self._clock or asyncio.get_running_loop().time
        deadline = now() + self.total_s

        def give_up(state: RetryCallState) -> bool:
            late = now() + state.upcoming_sleep > deadline
            return late or state.attempt_number >= self.attempts

        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=self._wait_s,
            stop=give_up,
            sleep=self._sleep,
            before_sleep=self._count,
            reraise=True,
        )
        try:
            return await retrying(self.inner.complete, request)
        except BackendError as error:
            tries = int(retrying.statistics["attempt_number"])
            if tries == 1:
                raise
            raise _after(error, tries) from error

    def _wait_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_for = error.retry_after if isinstance(error, BackendError) else None
        if asked_for is None:
            return self._jitter(state)
        return asked_for + self._spread(state)

    def _count(self, _: RetryCallState) -> None:
        self.retries += 1


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, BackendError) and error.retryable and not error.fatal


def _after(error: BackendError, tries: int) -> BackendError:
    return BackendError(
        f"{error} (after {tries} tries)",
        retryable=error.retryable,
        retry_after=error.retry_after,
        fatal=error.fatal,
    )
