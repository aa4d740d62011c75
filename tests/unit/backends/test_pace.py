"""The pace of an endpoint: it finds the limit, obeys what it is told, and loses no place."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends.limited import LimitedBackend
from rlaif.backends.pace import MOST, Pace, PaceBook, RateLimits
from rlaif.backends.retrying import RetryingBackend
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Message, Request, Usage
from tests.unit.backends.simulated import Endpoint, SimulatedLoop, most_in, now, simulate

REQUEST = Request((Message("user", "hi"),))


def ask(endpoint: Endpoint, pace: Pace, calls: int, at_once: int = 2000) -> float:
    """Seconds until `calls` requests are answered, all of them in the end."""

    async def all_of_them() -> float:
        backend = RetryingBackend(LimitedBackend(endpoint, pace), attempts=20)
        slots = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with slots:
                await backend.complete(REQUEST)

        started = now()
        async with asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(one())
        return now() - started

    return simulate(all_of_them())


@pytest.mark.parametrize("concurrency", [None, 1024], ids=["found", "given"])
@pytest.mark.parametrize("retry_after_s", [None, 1.0, 5.0])
def test_it_finds_how_many_calls_an_endpoint_bears(
    concurrency: int | None, retry_after_s: float | None
) -> None:
    endpoint = Endpoint(most=40, retry_after_s=retry_after_s)
    took_s = ask(endpoint, Pace(concurrency), 8000)
    assert 8000 / took_s >= 0.85 * 40 / endpoint.latency_s
    at_first = [at for at in endpoint.refused_at if at < 1002]
    assert len(endpoint.refused_at) - len(at_first) < 0.01 * 8000
    assert len(at_first) <= (990 if concurrency else 60)


def test_uneven_answers_make_no_difference() -> None:
    endpoint = Endpoint(most=40, spread=0.5)
    took_s = ask(endpoint, Pace(), 8000)
    mean_s = endpoint.latency_s * 2.71828**0.125
    assert 8000 / took_s >= 0.85 * 40 / mean_s
    assert len(endpoint.refused_at) < 0.01 * 8000


@pytest.mark.parametrize("latency_s", [0.2, 2.0])
@pytest.mark.parametrize("concurrency", [None, 64])
def test_it_finds_how_many_calls_a_minute_an_endpoint_takes(
    concurrency: int | None, latency_s: float
) -> None:
    endpoint = Endpoint(per_minute=300, latency_s=latency_s)
    took_s = ask(endpoint, Pace(concurrency), 1500)
    assert 1500 / took_s >= 0.9 * 5
    assert len(endpoint.refused_at) < 0.08 * 1500


def test_a_healthy_endpoint_is_asked_at_the_given_number_from_the_second_round() -> None:
    took_s = ask(Endpoint(), Pace(1024), 12_000, at_once=12_000)
    assert took_s == pytest.approx(0.2 + 0.2 * 12)


def test_without_a_number_it_is_soon_at_the_most() -> None:
    endpoint = Endpoint()
    took_s = ask(endpoint, Pace(), 12_000, at_once=12_000)
    assert endpoint.peak == MOST
    assert took_s < 3.5


def test_calls_a_minute_are_a_hard_cap() -> None:
    endpoint = Endpoint()
    took_s = ask(endpoint, Pace(64, requests_per_minute=300), 1500)
    assert most_in(60.0, endpoint.sent_at) <= 300
    assert 1500 / took_s >= 0.95 * 5
    assert endpoint.refused_at == []


def test_tokens_a_minute_are_a_cap_once_the_usage_is_known() -> None:
    endpoint = Endpoint(tokens=100)
    took_s = ask(endpoint, Pace(64, tokens_per_minute=30_000), 1500)
    settled = [at for at in endpoint.sent_at if at > 1000 + 30]
    assert most_in(60.0, settled) <= 1.02 * 300
    assert 1500 / took_s >= 0.9 * 5


def test_what_headers_say_is_left_is_not_passed() -> None:
    told, untold = (Endpoint(per_minute=300, burst=50, headers=h) for h in (True, False))
    assert ask(told, Pace(), 1500) <= 1.02 * ask(untold, Pace(), 1500)
    assert len(told.refused_at) < 0.5 * len(untold.refused_at)


def test_all_wait_as_long_as_one_was_told() -> None:
    refused: list[float] = []

    def once(number: int, at: float) -> BackendError | None:
        if number != 50:
            return None
        refused.append(at)
        return BackendError("slow down", retryable=True, retry_after=7.0, kind="rate_limit")

    endpoint = Endpoint(fault=once)
    ask(endpoint, Pace(8), 200)
    after = [at for at in endpoint.sent_at if at > refused[0] + endpoint.refuses_in_s]
    assert min(after) >= refused[0] + 7.0


def test_refusals_by_chance_do_not_bring_it_down() -> None:
    # one of nineteen, whatever the load
    endpoint = Endpoint(
        fault=lambda number, _: (
            BackendError("429", retryable=True, retry_after=1.0, kind="rate_limit")
            if number % 19 == 7
            else None
        )
    )
    took_s = ask(endpoint, Pace(64), 8000)
    assert took_s < 2 * 8000 / 64 * endpoint.latency_s


@pytest.mark.parametrize("limits", [RateLimits(), RateLimits(0, None), RateLimits(0, 0.0)])
def test_limits_without_a_time_say_nothing(limits: RateLimits) -> None:
    async def observed() -> bool:
        pace = Pace(4)
        pace.observe(limits)
        return pace.enter(now())

    assert simulate(observed())


@pytest.mark.parametrize(
    ("limits", "wait_s"),
    [
        (RateLimits(0, 30.0), 30.0),
        (RateLimits(500, 1.0, 10, 20.0), 20.0),
        (RateLimits(0, 9000.0), 60.0),
        (RateLimits(500, 1.0, 50_000, 20.0), 0.0),
    ],
)
def test_nothing_left_is_waited_for(limits: RateLimits, wait_s: float) -> None:
    async def waited() -> float:
        pace = Pace(4)
        assert pace.enter(now())
        pace.succeeded(1, now(), 0.1, Usage(input=2000))
        pace.observe(limits)
        started = now()
        await pace.wait()
        return now() - started

    assert simulate(waited()) == pytest.approx(wait_s, abs=0.01)


def test_more_that_is_left_than_was_thought_opens_again() -> None:
    async def opened() -> bool:
        pace = Pace(4)
        pace.observe(RateLimits(0, 30.0))
        assert not pace.enter(now())
        pace.observe(RateLimits(100, 30.0))
        return pace.enter(now())

    assert simulate(opened())


def test_first_come_first_served() -> None:
    async def order() -> list[int]:
        pace, served = Pace(3), []

        async def one(index: int) -> None:
            number = pace.sent if pace.enter(now()) else await pace.wait()
            served.append(index)
            await asyncio.sleep(0.1 + index % 5)
            pace.succeeded(number, now(), 0.1, Usage())

        await asyncio.gather(*(one(i) for i in range(40)))
        return served

    assert simulate(order()) == list(range(40))


steps = st.lists(
    st.tuples(st.sampled_from(["ask", "cancel", "pass", "refuse", "fail"]), st.integers(0, 9)),
    max_size=60,
)


@given(concurrency=st.integers(1, 5), steps=steps, capped=st.booleans())
def test_no_place_is_lost_whatever_is_cancelled(
    concurrency: int, steps: list[tuple[str, int]], capped: bool
) -> None:
    async def play() -> None:
        pace = Pace(concurrency, requests_per_minute=600 if capped else None)
        tasks: list[asyncio.Task[None]] = []
        peak = 0

        async def one(how: str) -> None:
            nonlocal peak
            number = pace.sent if pace.enter(now()) else await pace.wait()
            peak = max(peak, pace.in_flight)
            try:
                await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                pace.leave()
                raise
            if how == "ask":
                pace.succeeded(number, now(), 0.5, Usage())
            else:
                kind = "rate_limit" if how == "refuse" else "server"
                pace.failed(number, BackendError("x", kind=kind), now())  # type: ignore[arg-type]

        for what, amount in steps:
            if what == "cancel" and tasks:
                tasks[amount % len(tasks)].cancel()
            elif what == "pass":
                await asyncio.sleep(amount / 10)
            else:
                tasks.append(asyncio.create_task(one(what)))
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        async with asyncio.timeout(10_000):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert (pace.in_flight, pace.waiting) == (0, 0)
        assert peak <= concurrency
        async with asyncio.timeout(1000):
            await pace.wait()

    simulate(play())


def test_a_place_handed_to_a_cancelled_call_goes_to_the_next() -> None:
    async def handed_on() -> int:
        pace = Pace(1)
        assert pace.enter(now())
        first, second = (asyncio.create_task(pace.wait()) for _ in range(2))
        await asyncio.sleep(0)
        pace.leave()
        first.cancel()
        async with asyncio.timeout(5):
            return await second

    assert simulate(handed_on()) == 3


def test_it_goes_on_in_the_next_event_loop() -> None:
    pace = Pace(1, requests_per_minute=60)
    for _ in range(3):

        async def cut_short() -> None:
            await pace.wait()
            asyncio.create_task(pace.wait())  # noqa: RUF006
            await asyncio.sleep(0)
            pace.leave()

        simulate(cut_short())
        gc.collect()
    assert pace.in_flight == 0


def test_two_event_loops_at_once_are_refused() -> None:
    pace, ready, done = Pace(1), threading.Event(), threading.Event()

    async def hold() -> None:
        await pace.wait()
        ready.set()
        await asyncio.to_thread(done.wait)
        pace.leave()

    thread = threading.Thread(target=asyncio.run, args=(hold(),))
    thread.start()
    ready.wait()
    try:
        with pytest.raises(RuntimeError, match="one event loop"):
            asyncio.run(pace.wait())
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Pace(0),
        lambda: Pace(requests_per_minute=0),
        lambda: Pace(tokens_per_minute=-5),
        lambda: Pace(requests_per_minute=float("nan")),
        lambda: PaceBook(0).pace("openai"),
    ],
)
def test_bounds_are_above_zero(build: Callable[[], Pace]) -> None:
    with pytest.raises(ConfigError, match=r"above 0|1 or more"):
        build()


def test_one_endpoint_has_one_pace_and_its_key_is_not_kept() -> None:
    book = PaceBook(7, requests_per_minute=60)
    pace = book.pace("openai", "https://x.example/v1", "sk-secret")
    assert book.pace("openai", "https://x.example/v1/", " sk-secret\n") is pace
    others = [
        book.pace("openai", "https://x.example/v1", "sk-other"),
        book.pace("openai", None, "sk-secret"),
        book.pace("server", "https://x.example/v1", "sk-secret"),
        book.pace("openai", "https://x.example/v1"),
    ]
    assert len({id(p) for p in [pace, *others]}) == 5
    assert pace.concurrency == 7
    assert "secret" not in repr(vars(book))


def test_models_of_one_endpoint_share_its_places() -> None:
    async def both() -> int:
        endpoint, pace = Endpoint(), Pace(5)
        backends = [LimitedBackend(endpoint, pace) for _ in range(3)]
        await asyncio.gather(*(b.complete(REQUEST) for b in backends for _ in range(20)))
        return endpoint.peak

    assert simulate(both()) == 5


def test_the_simulated_loop_says_when_nothing_can_happen() -> None:
    loop = SimulatedLoop()
    with pytest.raises(AssertionError, match="nothing will ever end it"):
        loop.run_until_complete(loop.create_future())
    loop.close()
