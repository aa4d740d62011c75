"""A thread that moves new rows from the store's log into its file, so that no call waits for disks.

It runs a moment after something was written: a power cut costs about as much, and the log stays
small. Readers and writers go on meanwhile.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

_EVERY_S = 1.0
_LONGEST_LOG_PAGES = 16_384
"""64 MB: then writers are held up once, so that the log can start again from its beginning."""


class Checkpointer:
    """Looks after the log of the store at `path`; the thread starts at the first `wake`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Say that something was written."""
        if not self._written.is_set():
            self._written.set()
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="rlaif-checkpoint", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """End the thread. Safe to call twice."""
        self._stopping.set()
        self._written.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while True:
            self._written.wait()
            if self._stopping.wait(_EVERY_S):
                return
            self._written.clear()
            checkpoint(self._path)


def checkpoint(path: Path) -> None:
    """Move what the log holds into the file, if that can be done now; the next time it may."""
    try:
        with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as db:
            _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _LONGEST_LOG_PAGES:
                db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    except sqlite3.Error:  # a full disk, or a busy one: what is in the log is safe there
        return
