"""The one retry loop: provider SDKs are told not to retry, so that every wait is decided here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    wait_random,
    wait_random_exponential,
)

from rlaif.backends.base import Backend, Wrapper
from rlaif.errors import BackendError, ConfigError, Failure
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
        total_s: Most seconds to wait between the tries of one request, in all: a wait that would
            be too much is not begun. Calls, and their wait for a place, are bounded elsewhere.
        first_wait_s: Upper bound of the first wait; it doubles with each further one.
        longest_wait_s: Upper bound of any wait but one that the provider asked for.
        sleep: Waits the given seconds; tests pass their own.

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
    ) -> None:
        if attempts < 1:
            raise ConfigError(f"attempts must be 1 or more, not {attempts}")
        super().__init__(inner)
        self.attempts = attempts
        self.total_s = total_s
        self.retries: Counter[Failure] = Counter()
        """Calls that were asked again, over all requests, by what went wrong before."""
        self._spread = wait_random(0, first_wait_s)
        self._jitter = wait_random_exponential(multiplier=first_wait_s, max=longest_wait_s)
        self._sleep = sleep

    async def complete(self, request: Request) -> Completion:
        """The first completion that `inner` gives.

        Raises:
            BackendError: the last failure, with the number of tries in its message unless it is
                fatal, and so not about this request.
        """
        try:
            return await self.inner.complete(request)
        except BackendError as error:
            if not _may_pass(error) or self.attempts == 1:
                raise
            failed = error
        return await self._again(request, failed)

    async def _again(self, request: Request, failed: BackendError) -> Completion:
        """The completion that a further try gives.

        The loop costs more than all the rest of a call, so it starts only here; the failure of the
        first try stands for that try in it.
        """
        failures = [failed]

        def give_up(state: RetryCallState) -> bool:
            too_long = state.idle_for + state.upcoming_sleep > self.total_s
            return too_long or state.attempt_number >= self.attempts

        async def ask() -> Completion:
            if failures:
                raise failures.pop()
            return await self.inner.complete(request)

        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=self._wait_s,
            stop=give_up,
            sleep=self._sleep,
            before_sleep=self._count,
            reraise=True,
        )
        try:
            return await retrying(ask)
        except BackendError as error:
            tries = int(retrying.statistics["attempt_number"])
            if tries == 1 or error.fatal:
                raise
            raise _after(error, tries) from error

    def _wait_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_for = error.retry_after if isinstance(error, BackendError) else None
        if asked_for is None:
            return self._jitter(state)
        return asked_for + self._spread(state)

    def _count(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, BackendError):
            self.retries[error.kind] += 1


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, BackendError) and error.retryable and not error.fatal


def _after(error: BackendError, tries: int) -> BackendError:
    return BackendError(
        f"{error} (after {tries} tries)",
        retryable=error.retryable,
        retry_after=error.retry_after,
        kind=error.kind,
    )
