"""Work that Ctrl-C drains before it stops it.

    summary = run_draining(lambda stop: write_verdicts(…, stop=stop))

The first Ctrl-C sets `stop`: nothing new is begun, what is in flight ends and is kept. The second
ends the work at once, and so does SIGTERM. Either way the command ends with 130.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from rlaif.cli.output import say

if TYPE_CHECKING:
    from rlaif.runner import Stop

R = TypeVar("R")

_OPEN_FILES = 8192
"""Enough for every connection of several endpoints at once."""


class _StoppedAtOnce(Exception):  # noqa: N818
    """The work was ended where it stood."""


def run_draining(work: Callable[[Stop], Coroutine[Any, Any, R]], *, drain: bool = True) -> R:
    """What `work` returns; it is handed what a first Ctrl-C sets.

    Args:
        work: What to do.
        drain: Whether the first Ctrl-C waits for what is in flight. What goes on without this
            process, as batches do, needs no waiting for.

    Raises:
        KeyboardInterrupt: the Ctrl-C that ends the work, or SIGTERM.
    """
    from rlaif.runner import run_async

    async def guarded() -> R:
        stopping = _Stopping(asyncio.get_running_loop(), asyncio.current_task(), drains=drain)
        with stopping.listening():
            try:
                return await work(stopping.drain)
            except asyncio.CancelledError:
                if stopping.at_once:
                    raise _StoppedAtOnce from None
                raise

    allow_open_files()
    try:
        return run_async(guarded())
    except _StoppedAtOnce:
        raise KeyboardInterrupt from None


def allow_open_files() -> None:
    """Let this process have so many connections as its calls need, as far as it may.

    Shells begin processes with 256 or 1,024 files that may be open, and a thousand calls in flight
    are a thousand connections.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = _OPEN_FILES if hard == unlimited else min(hard, _OPEN_FILES)
    if soft != unlimited and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Stopping:
    """What signals have asked for so far."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        task: asyncio.Task[Any] | None,
        *,
        drains: bool = True,
    ) -> None:
        self.drain = threading.Event()
        self.at_once = False
        self._drains = drains
        self._loop = loop
        self._task = task

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Heed SIGINT and SIGTERM until the block ends; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, self._on_interrupt),
            signal.SIGTERM: signal.signal(signal.SIGTERM, self._on_terminate),
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_interrupt(self, *_: object) -> None:
        if self.drain.is_set() or self.at_once or not self._drains:
            self._on_terminate()  # a third one cancels what the end waits for
            return
        self.drain.set()
        say("finishing what is in flight, beginning nothing new; Ctrl-C again stops at once")
        self._wake()

    def _on_terminate(self, *_: object) -> None:
        self.at_once = True
        if self._task is not None:
            self._task.cancel()
        self._wake()

    def _wake(self) -> None:
        """Make the event loop look: it may be waiting for a call that takes long."""
        self._loop.call_soon_threadsafe(lambda: None)
