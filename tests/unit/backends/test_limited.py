"""The wrapper around a provider: its bound holds, it obeys rate limits, and nothing hangs in it."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends.limited import LimitedBackend
from rlaif.backends.pace import Pace
from rlaif.backends.scripted import Reply, ScriptedBackend
from rlaif.backends.timeouts import Timeouts
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Message, Request
from tests.unit.backends.simulated import Endpoint, now, simulate

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
    # the first call goes alone
    assert inner.peak_in_flight == max(1, min(calls - 1, concurrency))


def test_a_fatal_error_costs_one_call() -> None:
    async def rejected(_: Request) -> Reply:
        await asyncio.sleep(0)
        return BackendError("key rejected", fatal=True)

    inner = ScriptedBackend(rejected)
    backend = LimitedBackend(inner, 4)
    outcomes = asyncio.run(gather(backend, 1000))
    assert inner.calls == 1
    assert all(isinstance(o, BackendError) and o.fatal for o in outcomes)
    assert {str(o) for o in outcomes} == {"key rejected"}
    with pytest.raises(BackendError, match="key rejected"):
        asyncio.run(backend.complete(REQUEST))
    assert inner.calls == 1


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


def test_a_rate_limit_cuts_once_a_burst() -> None:
    backend = LimitedBackend(ScriptedBackend(RateLimited(most=13, pause_s=0.0)), 16)
    asyncio.run(gather(backend, 17))
    assert backend.allowed == 12


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
        await until_done(6000)
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


def test_it_takes_a_pace_or_a_number_or_nothing() -> None:
    pace = Pace(3)
    assert LimitedBackend(ScriptedBackend([]), pace).pace is pace
    assert LimitedBackend(ScriptedBackend([]), 5).concurrency == 5
    assert LimitedBackend(ScriptedBackend([])).concurrency == 1024


class Hanging:
    """A backend that never answers every third call, and says how long a call may take."""

    model = identity = "hanging/x"
    timeouts = Timeouts(total_s=10.0)

    def __init__(self) -> None:
        self.calls = 0

    async def complete(self, request: Request) -> Completion:
        del request
        self.calls += 1
        await asyncio.sleep(1e9 if self.calls % 3 == 0 else 1.0)
        return Completion("x")

    async def aclose(self) -> None:
        pass


def test_a_call_that_hangs_is_ended_and_its_place_used_again() -> None:
    async def timed() -> tuple[Outcomes, float]:
        backend = LimitedBackend(Hanging(), 8)
        started = now()
        outcomes = await gather(backend, 30)
        assert backend.pace.in_flight == 0
        return outcomes, now() - started

    outcomes, took_s = simulate(timed())
    failed = [o for o in outcomes if isinstance(o, BackendError)]
    assert len(failed) == 10
    assert all(e.kind == "timeout" and e.retryable and not e.fatal for e in failed)
    assert str(failed[0]) == "hanging/x did not answer within 11 s"
    assert took_s < 60


def test_the_time_outs_are_the_given_ones_the_backends_or_long_ones() -> None:
    assert LimitedBackend(Hanging()).timeouts.total_s == 10.0
    assert LimitedBackend(Hanging(), timeouts=Timeouts(total_s=3.0)).timeouts.total_s == 3.0
    assert LimitedBackend(ScriptedBackend([])).timeouts.total_s == 600.0


def test_cancelling_a_call_under_way_cancels_it() -> None:
    async def cancel() -> tuple[bool, int]:
        backend = LimitedBackend(Hanging(), 8)
        await backend.complete(REQUEST)
        task = asyncio.create_task(backend.complete(REQUEST))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled(), backend.pace.in_flight

    assert simulate(cancel()) == (True, 0)


def test_what_the_provider_reports_reaches_the_pace() -> None:
    async def held_back() -> float:
        endpoint = Endpoint(per_minute=60, burst=1.5, headers=True)
        backend = LimitedBackend(endpoint, 4)
        await backend.complete(REQUEST)
        started = now()
        await backend.complete(REQUEST)
        assert endpoint.refused_at == []
        return now() - started

    assert simulate(held_back()) > 0.5


def test_tokens_of_a_call_are_counted_before_it_and_corrected_after() -> None:
    async def timed() -> float:
        endpoint = Endpoint(tokens=100)
        backend = LimitedBackend(endpoint, Pace(4, tokens_per_minute=60_000))
        for _ in range(3):
            await backend.complete(REQUEST)
        started = now()
        await gather(backend, 300)
        return now() - started

    # 300 calls of 100 tokens at 60,000 a minute; with the 1,024 tokens that a reply may have it
    # would take five minutes
    assert 25 < simulate(timed()) < 33


def test_a_call_whose_turn_comes_when_it_has_closed_gives_its_place_back() -> None:
    async def closed() -> tuple[int, int]:
        endpoint = Endpoint(
            fault=lambda number, _: BackendError("no", fatal=True) if number == 3 else None
        )
        pace = Pace(2, requests_per_minute=6000)
        backend = LimitedBackend(endpoint, pace)
        outcomes = await gather(backend, 50)
        assert sum(isinstance(o, BackendError) for o in outcomes) >= 46
        return pace.in_flight, pace.waiting

    assert simulate(closed()) == (0, 0)


def test_a_call_that_goes_alone_may_be_cancelled_while_it_waits_for_its_place() -> None:
    async def cancelled() -> str:
        pace = Pace(1)
        other, backend = LimitedBackend(Hanging(), pace), LimitedBackend(Endpoint(), pace)
        busy = asyncio.create_task(other.complete(REQUEST))
        await asyncio.sleep(0)
        first = asyncio.create_task(backend.complete(REQUEST))
        await asyncio.sleep(0.1)
        first.cancel()
        said = await backend.complete(REQUEST)
        await busy
        return said.text

    assert simulate(cancelled()) == "x"
