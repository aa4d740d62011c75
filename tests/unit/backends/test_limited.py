"""The bound on calls in flight: it holds, it obeys rate limits, and a fatal error ends it."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends.limited import LimitedBackend
from rlaif.backends.scripted import Reply, ScriptedBackend
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Message, Request

REQUEST = Request((Message("user", "hi"),))
Outcomes = list[Completion | BaseException]


async def gather(backend: LimitedBackend, calls: int) -> Outcomes:
    return await asyncio.gather(
        *(backend.complete(REQUEST) for _ in range(calls)), return_exceptions=True
    )


@given(calls=st.integers(1, 40), concurrency=st.integers(1, 12))
def test_never_more_than_the_bound_and_never_needlessly_fewer(calls: int, concurrency: int) -> None:
    async def slow(_: Request) -> str:
        await asyncio.sleep(0)
        return "x"

    inner = ScriptedBackend(slow)
    outcomes = asyncio.run(gather(LimitedBackend(inner, concurrency), calls))
    assert all(isinstance(o, Completion) for o in outcomes)
    assert inner.peak_in_flight == min(calls, concurrency)


def test_a_fatal_error_costs_the_calls_in_flight_only() -> None:
    async def rejected(_: Request) -> Reply:
        await asyncio.sleep(0)
        return BackendError("key rejected", fatal=True)

    inner = ScriptedBackend(rejected)
    backend = LimitedBackend(inner, 4)
    outcomes = asyncio.run(gather(backend, 1000))
    assert inner.calls == 4
    assert all(isinstance(o, BackendError) and o.fatal for o in outcomes)
    assert {str(o) for o in outcomes} == {"key rejected"}
    with pytest.raises(BackendError, match="key rejected"):
        asyncio.run(backend.complete(REQUEST))
    assert inner.calls == 4


def test_other_failures_let_the_rest_go_on() -> None:
    inner = ScriptedBackend(
        [BackendError("bad request"), BackendError("busy", retryable=True), "x"]
    )
    outcomes = asyncio.run(gather(LimitedBackend(inner, 1), 3))
    assert [type(o).__name__ for o in outcomes] == ["BackendError", "BackendError", "Completion"]


def test_a_cancelled_call_gives_its_place_back() -> None:
    async def cancelled() -> str:
        started = asyncio.Event()

        async def reply(request: Request) -> str:
            if request.draw == 0:
                started.set()
                await asyncio.sleep(60)
            return "x"

        backend = LimitedBackend(ScriptedBackend(reply), 1)
        hanging = asyncio.create_task(backend.complete(REQUEST))
        await started.wait()
        waiting = asyncio.create_task(backend.complete(REQUEST))
        await asyncio.sleep(0)
        for task in (waiting, hanging):
            task.cancel()
        await asyncio.gather(waiting, hanging, return_exceptions=True)
        return (await backend.complete(Request(REQUEST.messages, draw=1))).text

    assert asyncio.run(cancelled()) == "x"


class RateLimited:
    """A provider that takes `most` calls at a time and says when to come back."""

    def __init__(self, most: int, pause_s: float) -> None:
        self.most = most
        self.pause_s = pause_s
        self.in_flight = 0
        self.sent: list[float] = []
        self.refused: list[float] = []

    async def __call__(self, _: Request) -> Reply:
        now = time.monotonic()
        self.sent.append(now)
        await asyncio.sleep(0)
        if self.in_flight >= self.most:
            self.refused.append(now)
            return BackendError("slow down", retryable=True, retry_after=self.pause_s)
        self.in_flight += 1
        await asyncio.sleep(0.002)
        self.in_flight -= 1
        return "x"


def test_nothing_is_sent_until_the_provider_said() -> None:
    provider = RateLimited(most=2, pause_s=0.1)
    asyncio.run(gather(LimitedBackend(ScriptedBackend(provider), 4), 20))
    first_refusal = provider.refused[0]
    assert not [t for t in provider.sent if first_refusal + 0.01 < t < first_refusal + 0.09]


def test_a_rate_limit_halves_the_calls_once_a_burst() -> None:
    backend = LimitedBackend(ScriptedBackend(RateLimited(most=0, pause_s=0.0)), 16)
    asyncio.run(gather(backend, 16))
    assert backend.allowed == 8


def test_it_finds_what_the_provider_bears_and_comes_back_up() -> None:
    provider = RateLimited(most=4, pause_s=0.001)
    backend = LimitedBackend(ScriptedBackend(provider), 64)

    async def until_done(calls: int) -> None:
        while calls:
            outcomes = await gather(backend, calls)
            failures = [o for o in outcomes if not isinstance(o, Completion)]
            assert all(isinstance(o, BackendError) for o in failures)
            calls = len(failures)

    async def both() -> tuple[int, int]:
        await until_done(300)
        low = backend.allowed
        provider.most = 1000
        await until_done(3000)
        return low, backend.allowed

    low, high = asyncio.run(both())
    assert low <= 16
    assert high == 64
    assert len(provider.refused) < 200, "without slowing down there are thousands"


def test_it_closes_what_it_wraps_even_while_it_pauses() -> None:
    async def close() -> ScriptedBackend:
        inner = ScriptedBackend([BackendError("slow", retryable=True, retry_after=60.0)])
        backend = LimitedBackend(inner, 2)
        await gather(backend, 1)
        await backend.aclose()
        return inner

    assert asyncio.run(close()).closed


def test_at_least_one_call_is_needed() -> None:
    with pytest.raises(ConfigError, match="concurrency"):
        LimitedBackend(ScriptedBackend([]), 0)
