"""A reply store: every completion under the digest of all that could change it, in one SQLite file.

    with ReplyStore(home / "replies.sqlite") as store:
        store.put_many([(key, completion)])     # one transaction: all or none
        store.get(key)

The file is in WAL mode with `synchronous=NORMAL`: what `put_many` or `keep` returned from survives
`kill -9`, a power cut costs the last seconds at most, many processes may read and write at once,
and no call waits for the disk. Completions that arrive in one turn of the event loop are written in
one transaction, on the spot: 10 to 30 microseconds each is less than it takes to wake a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rlaif.errors import StoreError
from rlaif.store import schema
from rlaif.store.checkpoint import Checkpointer
from rlaif.store.failures import (
    LONGEST_PAUSE_S,
    PATIENCE_S,
    is_busy,
    opening,
    patiently,
    reason,
)
from rlaif.store.locks import Claims
from rlaif.store.rows import COLUMNS, Row, digest_of, pack, unpack
from rlaif.types import Completion

_log = logging.getLogger(__name__)

_ROWS_A_STATEMENT = 256
_KEYS_A_STATEMENT = 500
_KEYS_ONE_BY_ONE = 4
_FIRST_LOOK_S, _RAREST_LOOK_S = 0.02, 5.0
_LOOK_AFTER = 0.15
"""Share of the time waited so far after which to look again: a long wait is looked at rarely."""
_TELL_AFTER_S = 30.0
_GET = f"SELECT {COLUMNS} FROM replies WHERE digest = ?"  # noqa: S608


@dataclass(slots=True)
class _Group:
    """Rows of one turn of an event loop, and the callers who wait for them to be written."""

    rows: list[Row] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    since_s: float = field(default_factory=time.monotonic)


class ReplyStore:
    """Completions under their digest, 64 hex digits.

    Any thread and any event loop may use it; a process that was forked opens its own.

    Args:
        path: The SQLite file; made, with its folder, when absent. A file of an older version is
            brought up to date.

    Raises:
        StoreError: the file is not a reply store, is damaged or cut short, cannot be written, or
            was made by a newer version. It is never overwritten.
    """

    far = False
    """A look at the file is short enough for an event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._groups: dict[asyncio.AbstractEventLoop, _Group] = {}
        self._claims = Claims(path.with_name(path.name + "-claims"))
        self._checkpointer = Checkpointer(path)
        self._told = False
        with opening(path, "reply store", 60.0) as self._db:
            patiently(lambda: schema.prepare(self._db, path))
            # from here on nobody waits inside SQLite, where an event loop would stand still
            self._db.execute("PRAGMA busy_timeout = 0")
            self._db.execute("PRAGMA wal_autocheckpoint = 0")

    def get(self, key: str) -> Completion | None:
        """The completion kept under `key`, marked as cached, or `None`.

        Raises:
            StoreError: it is damaged, or the file cannot be read.
        """
        rows = self._select(_GET, (digest_of(key),))
        return self._unpacked(key, rows[0]) if rows else None

    def recall(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The completions kept under `keys`, as many as there are, marked as cached.

        Raises:
            StoreError: one is damaged, or the file cannot be read.
        """
        wanted = {digest_of(key): key for key in keys}
        found: dict[str, Completion] = {}
        for some in _parts(list(wanted)):
            for row in self._select(_recall(len(some)), some):
                key = wanted[row[-1]]
                found[key] = self._unpacked(key, row[:-1])
        return found

    def kept(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that completions are kept under."""
        found: set[str] = set()
        for some in _parts([digest_of(key) for key in keys]):
            marks = ",".join("?" * len(some))
            rows = self.execute(f"SELECT digest FROM replies WHERE digest IN ({marks})", some)  # noqa: S608
            found.update(digest.hex() for (digest,) in rows)
        return found

    def put_many(
        self, rows: Iterable[tuple[str, Completion]], *, created_s: float | None = None
    ) -> None:
        """Keep completions under their keys, all of them or, on failure, none.

        A key that is already there keeps its first completion: a draw is never redrawn.

        Args:
            rows: Keys and completions.
            created_s: When they were asked, seconds since 1970; now by default.

        Raises:
            ValueError: a completion holds a number that is not finite, or a key is no digest.
            StoreError: the file cannot be written; it is as it was.
        """
        packed = _packed(rows, created_s)
        try:
            patiently(lambda: self._write(packed))
        except sqlite3.Error as error:
            raise StoreError(self._why_not_written(error)) from error

    async def keep(self, rows: Iterable[tuple[str, Completion]]) -> None:
        """`put_many`, in one transaction with what other tasks keep in this turn of the loop.

        A caller who is cancelled meanwhile has its completions kept all the same. Claims on the
        keys end.

        Raises:
            ValueError: a completion holds a number that is not finite, or a key is no digest.
            StoreError: the file cannot be written; it is as it was.
        """
        packed = _packed(rows, None)
        loop = asyncio.get_running_loop()
        group = self._groups.get(loop)
        if group is None:
            group = self._groups[loop] = _Group()
            loop.call_soon(self._flush, loop)
        written = loop.create_future()
        group.rows += packed
        group.waiting.append(written)
        await written

    async def claim(self, key: str) -> Completion | None:
        """The completion kept under `key`, or `None`: then `key` is the caller's to ask for.

        While another process, or another event loop of this one, is asking for it, this waits:
        until the reply is there, or the other one failed, gave up or was killed.

        Raises:
            StoreError: the file cannot be read.
        """
        digest = digest_of(key)
        if not self._claims.take(digest):
            if (hit := self.get(key)) is not None:
                return hit
            await self._wait(digest)
        try:
            hit = self.get(key)
        except StoreError:
            self._claims.drop(digest)
            raise
        if hit is not None:
            self._claims.drop(digest)
        return hit

    def release(self, key: str) -> None:
        """End the claim on `key`; nothing where there is none."""
        self._claims.drop(digest_of(key))

    def flush(self) -> None:
        """Write what event loops have gathered and did not come to write.

        Raises:
            StoreError: the file cannot be written.
        """
        while self._groups:
            _, group = self._groups.popitem()
            try:
                patiently(lambda rows=group.rows: self._write(rows))  # type: ignore[misc]
            except sqlite3.Error as error:
                raise StoreError(self._why_not_written(error)) from error

    def _select(self, sql: str, values: Sequence[Any]) -> list[Row]:
        """What `execute` gives, at a third less for what is read at once."""
        try:
            with self._lock:
                self._check_process()
                return self._db.execute(sql, values).fetchall()
        except sqlite3.Error:
            return self.execute(sql, values)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows that one statement gives; waits where another process is writing.

        Raises:
            StoreError: the file cannot be read or written.
        """

        def attempt() -> list[Row]:
            with self._lock:
                self._check_process()
                return self._db.execute(sql, values).fetchall()

        try:
            return patiently(attempt)
        except sqlite3.Error as error:
            raise StoreError(f"cannot use the reply store {self.path}: {error}") from error

    def compact(self, pages: int) -> None:
        """Give up to `pages` pages that nothing uses back to the file system.

        Raises:
            StoreError: the file cannot be written.
        """

        def attempt() -> None:
            with self._lock:
                # as a script, since by itself the statement ends after its first page
                self._db.executescript(f"PRAGMA incremental_vacuum({int(pages)})")

        try:
            patiently(attempt)
        except sqlite3.Error as error:
            raise StoreError(self._why_not_written(error)) from error

    def __len__(self) -> int:
        return int(self.execute("SELECT count(*) FROM replies")[0][0])

    def close(self) -> None:
        """Write what is gathered, and close the file. Safe to call twice."""
        if os.getpid() != self._process:
            return
        try:
            self.flush()
        finally:
            self._checkpointer.close()
            self._claims.close()
            self._db.close()

    def __enter__(self) -> ReplyStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        group = self._groups.pop(loop, None)
        if group is None:  # a close was faster
            return
        failure: str | None = None
        try:
            self._write(group.rows)
        except sqlite3.Error as error:
            if is_busy(error) and time.monotonic() - group.since_s < PATIENCE_S:
                self._groups[loop] = group
                loop.call_later(random.uniform(0.001, LONGEST_PAUSE_S), self._flush, loop)  # noqa: S311
                return
            failure = self._why_not_written(error)
        except StoreError as error:
            failure = str(error)
        for row in group.rows:
            self._claims.drop(row[0])
        for written in group.waiting:
            if written.done():  # its caller was cancelled
                continue
            if failure is None:
                written.set_result(None)
            else:
                written.set_exception(StoreError(failure))

    def _write(self, rows: list[Row]) -> None:
        with self._lock:
            self._check_process()
            if len(rows) <= _ROWS_A_STATEMENT:
                self._insert(rows)
            else:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    for start in range(0, len(rows), _ROWS_A_STATEMENT):
                        self._insert(rows[start : start + _ROWS_A_STATEMENT])
                    self._db.execute("COMMIT")
                finally:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
        self._checkpointer.wake()

    def _insert(self, rows: list[Row]) -> None:
        """One statement for all: a transaction by itself, and the interpreter is let go once."""
        if rows:
            places = ",".join([schema.VALUES] * len(rows))
            self._db.execute(schema.INSERT + places, [value for row in rows for value in row])

    async def _wait(self, digest: bytes) -> None:
        """Return once the claim on `digest` is ours."""
        started = time.monotonic()
        while True:
            waited = time.monotonic() - started
            if waited > _TELL_AFTER_S and not self._told:
                self._told = True
                _log.warning(
                    "another process is asking for replies that are needed here too: waiting for "
                    "it. If it was stopped, let it go on or end it."
                )
            await asyncio.sleep(min(max(_FIRST_LOOK_S, _LOOK_AFTER * waited), _RAREST_LOOK_S))
            if self._claims.take(digest):
                return

    def _unpacked(self, key: str, row: Row) -> Completion:
        try:
            return unpack(row)
        except ValueError as error:
            raise StoreError(
                f"the reply {key} in {self.path} is damaged ({error}): "
                "rlaif cache prune --damaged takes such replies out"
            ) from error

    def _check_process(self) -> None:
        if os.getpid() != self._process:  # SQLite's own locks do not survive a fork
            raise StoreError(f"{self.path} was opened before this process forked: open it anew")

    def _why_not_written(self, error: sqlite3.Error) -> str:
        return f"cannot write to the reply store {self.path}: {reason(error)}"


@cache
def _recall(keys: int) -> str:
    """The statement that finds the completions under so many keys."""
    if keys <= _KEYS_ONE_BY_ONE:  # a tenth faster than a list, which SQLite first sorts
        one = f"SELECT {COLUMNS}, digest FROM replies WHERE digest = ?"  # noqa: S608
        return " UNION ALL ".join([one] * keys)
    marks = ",".join("?" * keys)
    return f"SELECT {COLUMNS}, digest FROM replies WHERE digest IN ({marks})"  # noqa: S608


def _parts(digests: list[bytes]) -> Iterator[list[bytes]]:
    """`digests` in as many parts as statements can take."""
    for start in range(0, len(digests), _KEYS_A_STATEMENT):
        yield digests[start : start + _KEYS_A_STATEMENT]


def _packed(rows: Iterable[tuple[str, Completion]], created_s: float | None) -> list[Row]:
    now = time.time() if created_s is None else created_s
    return [(digest_of(key), now, *pack(completion)) for key, completion in rows]
