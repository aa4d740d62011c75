"""Which batches were sent to providers: what a process that dies between sending and collecting
leaves to the next one.

    batch = book.intend("openai/gpt-5.1", digests)      # before anything is sent
    ...                                                 # the provider makes the batch
    book.submitted(batch, "batch_abc")                  # so that it is collected, not sent again
    book.holding(digests)                               # {batch: those of the digests in it}

What is written here stands for money that was spent, so it is on the disk before the call returns
(`synchronous=FULL`): it is a file of its own beside the replies, which are written far more often.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlaif.errors import StoreError
from rlaif.store.failures import opening, patiently, reason

APPLICATION_ID = 0x524C4142
"""`RLAB`, in the file's header."""
VERSION = 1
KEPT_S = 30 * 24 * 3600.0
"""How long providers keep results; what was sent earlier can only be sent again."""
_KEYS_A_STATEMENT = 500

_TABLES = """
CREATE TABLE batches (
    token TEXT NOT NULL PRIMARY KEY,
    model TEXT NOT NULL,
    created_s REAL NOT NULL,
    size INTEGER NOT NULL,
    batch_id TEXT
) WITHOUT ROWID;
CREATE TABLE batched (
    digest BLOB NOT NULL PRIMARY KEY,
    token TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX batched_by_token ON batched (token);
"""
_FIND = (
    "SELECT digest, token, model, created_s, size, batch_id "
    "FROM batched JOIN batches USING (token) WHERE digest IN"
)


@dataclass(frozen=True, slots=True)
class SentBatch:
    """A batch that was sent, or that was about to be."""

    token: str
    """Our own name for it, 32 hex digits, known before the provider gives it one."""
    model: str
    """The address of the model."""
    created_s: float
    """When it was about to be sent, seconds since 1970."""
    size: int
    """Requests in it."""
    batch_id: str | None = None
    """The provider's name for it; `None` if nobody noted it."""


class BatchBook:
    """The batches of all processes that share a reply store, and the digests of their requests.

    A digest belongs to the batch that it was sent in last.

    Args:
        path: The SQLite file; made, with its folder, when absent. What is older than 30 days is
            taken out of it.

    Raises:
        StoreError: the file is something else, was made by a newer version, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with opening(path, "book of batches", 60.0) as self._db:
            patiently(self._prepare)

    def intend(self, model: str, digests: Sequence[str]) -> SentBatch:
        """A new batch of `digests`, noted before it is sent.

        Raises:
            StoreError: it cannot be noted, so it must not be sent.
        """
        batch = SentBatch(secrets.token_hex(16), model, time.time(), len(digests))
        row = (batch.token, batch.model, batch.created_s, batch.size)

        def write() -> None:
            self._db.execute(
                "INSERT INTO batches (token, model, created_s, size) VALUES (?,?,?,?)", row
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO batched (digest, token) VALUES (?,?)",
                ((bytes.fromhex(digest), batch.token) for digest in digests),
            )

        self._transact(write)
        return batch

    def submitted(self, batch: SentBatch, batch_id: str) -> SentBatch:
        """`batch` with the provider's name for it, now noted.

        Raises:
            StoreError: it cannot be noted.
        """
        values = (batch_id, batch.token)
        self._transact(
            lambda: self._db.execute("UPDATE batches SET batch_id = ? WHERE token = ?", values)
        )
        return SentBatch(batch.token, batch.model, batch.created_s, batch.size, batch_id)

    def holding(self, digests: Iterable[str]) -> dict[SentBatch, list[str]]:
        """The batches that any of `digests` were sent in, each with those of them.

        Raises:
            StoreError: the file cannot be read.
        """
        keys = [bytes.fromhex(digest) for digest in digests]
        found: dict[SentBatch, list[str]] = {}

        def read() -> None:
            for start in range(0, len(keys), _KEYS_A_STATEMENT):
                some = keys[start : start + _KEYS_A_STATEMENT]
                marks = ",".join("?" * len(some))
                rows = self._db.execute(f"{_FIND} ({marks})", some)
                for digest, *columns in rows:
                    found.setdefault(SentBatch(*columns), []).append(digest.hex())

        self._transact(read)
        return found

    def ids(self) -> set[str]:
        """The providers' names of all batches that are known by them.

        Raises:
            StoreError: the file cannot be read.
        """
        found: set[str] = set()
        wanted = "SELECT batch_id FROM batches WHERE batch_id IS NOT NULL"
        self._transact(lambda: found.update(name for (name,) in self._db.execute(wanted)))
        return found

    def drop(self, batch: SentBatch, digests: Iterable[str]) -> None:
        """Note that `batch` left `digests` unanswered: they may be sent again.

        Raises:
            StoreError: it cannot be noted.
        """
        rows = [(bytes.fromhex(digest), batch.token) for digest in digests]
        self._transact(
            lambda: self._db.executemany("DELETE FROM batched WHERE digest = ? AND token = ?", rows)
        )

    def forget(self, batch: SentBatch) -> None:
        """Note that `batch` was never made, or is lost: all its requests may be sent again.

        Raises:
            StoreError: it cannot be noted.
        """

        def write() -> None:
            self._db.execute("DELETE FROM batched WHERE token = ?", (batch.token,))
            self._db.execute("DELETE FROM batches WHERE token = ?", (batch.token,))

        self._transact(write)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._db.close()

    def __enter__(self) -> BatchBook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        """Make the tables of a new file; take what is too old out of one that is there."""
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._check()
            old = time.time() - KEPT_S
            self._db.execute(
                "DELETE FROM batched WHERE token IN "
                "(SELECT token FROM batches WHERE created_s < ?)",
                (old,),
            )
            self._db.execute("DELETE FROM batches WHERE created_s < ?", (old,))
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _check(self) -> None:
        application, version = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        )
        if application == APPLICATION_ID and version == VERSION:
            return
        if application == APPLICATION_ID and version > VERSION:
            raise StoreError(
                f"{self.path} has schema {version}, this version reads up to {VERSION}: it is left "
                "untouched; update rlaif"
            )
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application or version or tables:
            raise StoreError(f"{self.path} is another program's database; it is left untouched")
        for statement in _TABLES.split(";"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _transact(self, work: Callable[[], object]) -> None:
        """Do `work` in one transaction: all of it or none."""

        def attempt() -> None:
            with self._lock:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    work()
                    self._db.execute("COMMIT")
                finally:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")

        try:
            patiently(attempt)
        except sqlite3.Error as error:
            message = f"cannot use the book of batches {self.path}: {reason(error)}"
            raise StoreError(message) from error
