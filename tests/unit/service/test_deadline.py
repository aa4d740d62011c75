"""Time limits that are moved while a request goes on."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from rlaif.service.deadline import Deadline


async def limited(seconds: float, *moves: tuple[float, float], work_s: float = 20.0) -> float:
    """Seconds until the block ended: moves are (after so many seconds, to so many from then)."""
    started = time.monotonic()
    try:
        with Deadline(seconds) as deadline:
            for after, to in moves:
                await asyncio.sleep(after)
                deadline.move(to)
            await asyncio.sleep(work_s)
    except TimeoutError:
        return time.monotonic() - started
    return -1.0


def test_what_takes_too_long_is_ended() -> None:
    assert 0.02 <= asyncio.run(limited(0.02)) < 10


def test_what_is_done_in_time_is_not() -> None:
    async def scene() -> None:
        assert await limited(10.0, work_s=0.0) == -1.0
        assert asyncio.current_task() is not None
        await asyncio.sleep(0)

    asyncio.run(scene())


def test_a_limit_is_moved_later_earlier_and_taken_away() -> None:
    assert 0.08 <= asyncio.run(limited(0.03, (0.01, 0.07))) < 10
    assert 0.02 <= asyncio.run(limited(15.0, (0.0, 0.02))) < 10
    assert asyncio.run(limited(0.02, (0.0, math.inf), work_s=0.1)) == -1.0
    assert 0.06 <= asyncio.run(limited(0.02, (0.0, math.inf), (0.04, 0.02))) < 10


def test_whoever_is_cancelled_by_another_stays_cancelled() -> None:
    async def scene() -> None:
        task = asyncio.create_task(limited(10.0))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())


def test_an_error_inside_is_passed_on() -> None:
    async def scene() -> None:
        with Deadline(10.0):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        asyncio.run(scene())
