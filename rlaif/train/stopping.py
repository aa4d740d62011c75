"""An end of training that was asked for, after the step at hand and with its state kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stopping:
    """What has asked for an end: a Ctrl-C, or an error that waits for the state to be kept."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        """What is raised once the state is kept."""

    @property
    def wanted(self) -> bool:
        """Whether training is to end after this step."""
        return self.error is not None

    def check(self) -> None:
        """Raise what asked for the end, if anything did."""
        if self.error is not None:
            raise self.error

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Heed SIGINT and SIGTERM until the block ends; only the main thread can.

        The first one ends training after the step, the second one at once.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {n: signal.signal(n, self._on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, *_: object) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.error = KeyboardInterrupt()
