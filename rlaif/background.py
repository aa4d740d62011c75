"""An event loop of our own, in a thread, for code that has none or is already inside one.

    verdict = run_blocking(judge.compare(comparison))      # a script, a notebook, a trainer
    verdict = await bridged(judge.compare(comparison))     # any event loop

Connections, limits and retries belong to the loop they were made on. Whatever goes through here
runs on one loop, the same for the whole process, so a backend may be used from everywhere.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

R = TypeVar("R")


class _Background:
    """The loop, begun when it is first needed, and anew in a process that was forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, running."""
        if os.getpid() != self._process:
            self._lock = threading.Lock()  # the parent's may be held by a thread that is not here
        with self._lock:
            if self._loop is None or self._process != os.getpid():
                self._loop = asyncio.new_event_loop()
                self._process = os.getpid()
                threading.Thread(
                    target=self._loop.run_forever, name="rlaif-background", daemon=True
                ).start()
            return self._loop


_BACKGROUND = _Background()


def run_blocking(work: Coroutine[Any, Any, R]) -> R:
    """What `work` returns; the calling thread waits, whether or not it runs an event loop.

    An interruption (Ctrl-C) cancels the work and waits for its end.

    Raises:
        RuntimeError: it was called by work that already runs on that loop, and would never end.
    """
    if _running() is _BACKGROUND.loop():
        work.close()
        raise RuntimeError("work in the background cannot wait for itself: await it")
    future = begun(work)
    try:
        return future.result()
    except BaseException:
        if not future.done():
            future.cancel()
            wait([future])
        raise


def waiting(function: Callable[..., Coroutine[Any, Any, R]], name: str) -> Callable[..., R]:
    """An async function as a plain one, called `name`, that waits as `run_blocking` does."""

    def plain(*args: Any, **kwargs: Any) -> R:
        return run_blocking(function(*args, **kwargs))

    plain.__name__ = name
    return plain


def begun(work: Coroutine[Any, Any, R]) -> Future[R]:
    """The future of `work`, which goes on while the caller does something else."""
    return asyncio.run_coroutine_threadsafe(work, _BACKGROUND.loop())


async def bridged(work: Coroutine[Any, Any, R]) -> R:
    """What `work` returns, awaited on whatever loop the caller has; cancelled with the caller."""
    loop = _BACKGROUND.loop()
    if _running() is loop:
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
