"""What SQLite refuses, in words; and patience where it is only another process that writes."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rlaif.errors import StoreError

_T = TypeVar("_T")

PATIENCE_S = 300.0
"""Longest wait for other processes to finish writing; to compact a large file takes a while."""
LONGEST_PAUSE_S = 0.02


def patiently(attempt: Callable[[], _T]) -> _T:
    """What `attempt` gives, tried again while another process is writing."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return attempt()
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() > until:
                raise
        time.sleep(random.uniform(0.001, LONGEST_PAUSE_S))  # noqa: S311


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process is writing, so that trying again helps."""
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def reason(error: sqlite3.Error) -> str:
    """What SQLite says, and what to do about a disk that takes no more."""
    if _code(error) == sqlite3.SQLITE_FULL:
        return "the disk is full. What was kept before is safe; make room and run the same again"
    if _code(error) == sqlite3.SQLITE_IOERR:
        return (
            f"{error} (a full disk, a quota or a limit on file sizes). What was kept before is "
            "safe; run the same again when it is mended"
        )
    return str(error)


@contextmanager
def opening(path: Path, what: str, timeout_s: float) -> Iterator[sqlite3.Connection]:
    """A connection that any thread may use, for what prepares the file; closed where that fails.

    Args:
        path: The file; made, with its folder, when absent.
        what: What the file is, for errors.
        timeout_s: Longest wait of one statement for another process.

    Raises:
        StoreError: the folder cannot be made, SQLite cannot open the file, or what is done inside
            fails in SQLite.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    except OSError as error:
        raise StoreError(f"cannot open the {what} {path}: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise StoreError(_why_not_opened(path, what, error)) from error
    try:
        yield db
    except sqlite3.Error as error:
        db.close()
        raise StoreError(_why_not_opened(path, what, error)) from error
    except BaseException:
        db.close()
        raise


def _why_not_opened(path: Path, what: str, error: sqlite3.Error) -> str:
    if _code(error) in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return f"{path} is not a readable {what} ({error}); move it away to start a new one"
    if _code(error) in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        return f"cannot open the {what} {path}: {error} (its folder must be writable)"
    return f"cannot open the {what} {path}: {reason(error)}"
