"""Time-outs, and the one timer that ends what hangs."""

from __future__ import annotations

import asyncio

import pytest

from rlaif.backends.timeouts import Timeouts, Watchdog
from rlaif.errors import ConfigError
from tests.unit.backends.simulated import now, simulate


def test_a_byte_is_never_waited_for_longer_than_the_whole() -> None:
    assert Timeouts().read_s == 120.0
    assert Timeouts(first_byte_s=30.0).read_s == 30.0
    assert Timeouts(first_byte_s=30.0, total_s=5.0).read_s == 5.0
    assert Timeouts(total_s=10.0).guard_s > 10.0


@pytest.mark.parametrize("wait_s", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["connect_s", "first_byte_s", "total_s"])
def test_a_time_out_is_a_positive_number(name: str, wait_s: float) -> None:
    with pytest.raises(ConfigError, match="positive"):
        Timeouts(**{name: wait_s})


async def watched(watchdog: Watchdog, for_s: float) -> tuple[str, float]:
    """How a task that sleeps ended, and after how long."""
    loop, started = asyncio.get_running_loop(), now()
    task = asyncio.current_task()
    assert task is not None
    watchdog.watch(task, loop, started)
    try:
        await asyncio.sleep(for_s)
    except asyncio.CancelledError:
        if not watchdog.forget(task):
            return "cancelled", now() - started
        assert task.cancelling() == 0, "nothing is left of the cancellation"
        return "ended", now() - started
    assert not watchdog.forget(task)
    return "done", now() - started


def test_what_is_overdue_is_ended_and_the_rest_is_not() -> None:
    watchdog = Watchdog(10.0)

    async def many() -> list[tuple[str, float]]:
        tasks = []
        for for_s in (3.0, 99.0, 8.0, 50.0, 9.9):
            tasks.append(asyncio.create_task(watched(watchdog, for_s)))
            await asyncio.sleep(1.0)
        return await asyncio.gather(*tasks)

    outcomes = simulate(many())
    assert [how for how, _ in outcomes] == ["done", "ended", "done", "ended", "done"]
    assert [round(s, 2) for _, s in outcomes] == [3.0, 10.0, 8.0, 10.0, 9.9]
    # the next event loop has a timer of its own
    assert simulate(watched(watchdog, 99.0))[0] == "ended"
    assert simulate(watched(watchdog, 1.0))[0] == "done"


def test_a_cancellation_from_outside_stays_one() -> None:
    watchdog = Watchdog(10.0)

    async def cancel(at_s: float) -> str:
        task = asyncio.create_task(watched(watchdog, 99.0))
        asyncio.get_running_loop().call_later(at_s, task.cancel)
        return (await task)[0]

    assert simulate(cancel(5.0)) == "cancelled"
    assert simulate(cancel(20.0)) == "ended"


def test_both_at_once_is_a_cancellation() -> None:
    async def both() -> str:
        watchdog = Watchdog(10.0)
        task = asyncio.create_task(watched(watchdog, 99.0))
        await asyncio.sleep(0)
        # set after the watchdog's timer for the same moment, so it comes second
        asyncio.get_running_loop().call_later(10.0, task.cancel)
        return (await task)[0]

    assert simulate(both()) == "cancelled"


def test_a_task_that_swallows_its_end_is_not_ended_twice() -> None:
    async def stubborn() -> tuple[float, int]:
        watchdog, task = Watchdog(10.0), asyncio.current_task()
        assert task is not None
        watchdog.watch(task, asyncio.get_running_loop(), now())
        started = now()
        try:
            await asyncio.sleep(99.0)
        except asyncio.CancelledError:
            other = asyncio.create_task(watched(watchdog, 20.0))
            await asyncio.sleep(30.0)
            assert (await other)[0] == "ended"
        watchdog.forget(task)
        return now() - started, task.cancelling()

    assert simulate(stubborn()) == (40.0, 0)
