"""A time limit that is moved as a request goes on: `asyncio.timeout`, at a third of its cost.

with Deadline(60.0) as deadline:
    await body()
    deadline.move(600.0)        # only notes it: the one timer looks again when it fires
    await answer()
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Self


class Deadline:
    """Cancels the task inside the block once its time is up, and raises `TimeoutError` there.

    Args:
        seconds: From now.

    Raises:
        TimeoutError: on leaving the block, where the time was up. A task that somebody else
            cancelled as well stays cancelled.
    """

    __slots__ = ("_before", "_end_s", "_fires_s", "_loop", "_task", "_timer", "_up")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._up = False
        self._end_s = self._fires_s = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._fires_s, self._look)

    def move(self, seconds: float) -> None:
        """From now on there are so many seconds; infinity is no limit at all."""
        self._end_s = self._loop.time() + seconds
        if self._end_s < self._fires_s:
            self._timer.cancel()
            self._arm()

    def _arm(self) -> None:
        self._fires_s = self._end_s
        if self._end_s < math.inf:
            self._timer = self._loop.call_at(self._end_s, self._look)

    def _look(self) -> None:
        if self._loop.time() < self._end_s:
            self._arm()
        else:
            self._up = True
            self._task.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._up and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error
