"""The service's own database: tokens, runs, and labels by people, in one SQLite file.

Several server processes may use one file: it is in WAL mode, and whatever must not happen twice is
one statement or one transaction. `Tables` is what any other database has to fill; its statements
are SQL that SQLite and PostgreSQL both take, with `?` for values.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from rlaif.errors import StoreError
from rlaif.store.failures import opening, reason
from rlaif.store.locks import Claims
from rlaif.store.schema import pragma
from rlaif.store.secret import load_secret

APPLICATION_ID = 0x524C5356
"""`RLSV`, in the file's header."""
VERSION = 1

TABLES = """
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL,
    scopes TEXT NOT NULL,
    budget_usd REAL,
    per_minute REAL,
    created_s REAL NOT NULL,
    revoked_s REAL,
    spent_usd REAL NOT NULL DEFAULT 0
);
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    token INTEGER NOT NULL,
    created_s REAL NOT NULL,
    started_s REAL,
    ended_s REAL,
    state TEXT NOT NULL,
    cancel INTEGER NOT NULL DEFAULT 0,
    title TEXT NOT NULL,
    work TEXT NOT NULL,
    total INTEGER,
    done INTEGER NOT NULL DEFAULT 0,
    ok INTEGER NOT NULL DEFAULT 0,
    cost_usd REAL NOT NULL DEFAULT 0,
    summary TEXT,
    error TEXT
);
CREATE TABLE labels (
    run TEXT NOT NULL,
    n INTEGER NOT NULL,
    name TEXT NOT NULL,
    choice TEXT NOT NULL,
    shown TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_s REAL NOT NULL,
    PRIMARY KEY (run, name, n)
);
CREATE INDEX runs_by_state ON runs (state, created_s);
CREATE INDEX runs_by_token ON runs (token, created_s);
"""


class KeyTakenError(StoreError):
    """A row of that key is there already."""


class Held(Protocol):
    """Keys of which each is held by one server at most, until it drops it or dies."""

    def take(self, key: bytes) -> bool:
        """Whether `key` is now held by this server, and was held by nobody before."""
        ...

    def holds(self, key: bytes) -> bool:
        """Whether this server still holds `key`."""
        ...

    def drop(self, key: bytes) -> None:
        """Let go of `key`; nothing where it is not held."""
        ...

    def close(self) -> None:
        """Let go of everything. Safe to call twice."""
        ...


class Tables(Protocol):
    """Where a service keeps tokens, runs and labels. Any thread may use it.

    Every method raises `StoreError` where the database cannot be used.
    """

    fresh_s: float
    """Seconds for which a token that was looked up is believed, where each look takes a while."""

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a statement returns."""
        ...

    def row(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row that a statement returns."""
        found = self.rows(statement, values)
        return found[0] if found else None

    def change(self, statement: str, values: Sequence[Any] = ()) -> int:
        """How many rows a statement changed; `KeyTakenError` where a key is there already."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Statements of which all take effect, or none; no other server writes between them."""
        ...

    def held(self, root: Path) -> Held:
        """By what servers tell who works on which run; `root` is the service's folder."""
        ...

    def secret(self, root: Path) -> bytes:
        """32 random bytes that all servers share, kept in `root`, made when they are first needed.

        Raises:
            ConfigError: another server of the database has another `root`.
        """
        ...

    def close(self) -> None:
        """Give the database back. Safe to call twice."""
        ...


class Database(Tables):
    """The file, and the one connection of this process to it. Any thread may use it.

    Args:
        path: The file; made, with its folder, when absent.

    Raises:
        StoreError: it is another program's, newer than this version, damaged, or not writable.
    """

    fresh_s = 0.0

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with opening(path, "service's database", 30.0) as self._db:
            self._prepare()
        path.chmod(0o600)

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            made_by, version = pragma(self._db, "application_id"), pragma(self._db, "user_version")
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not tables and not made_by:
                for statement in TABLES.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {VERSION}")
            elif made_by != APPLICATION_ID:
                raise StoreError(f"{self.path} is another program's database; it is left untouched")
            elif version != VERSION:
                raise StoreError(
                    f"{self.path} has schema {version}, this version reads {VERSION}: it is left "
                    "untouched"
                )
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a statement returns.

        Raises:
            StoreError: the file cannot be read or written.
        """
        with self._lock:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.IntegrityError as error:
                raise KeyTakenError(str(error)) from error
            except sqlite3.Error as error:
                raise StoreError(f"cannot use {self.path}: {reason(error)}") from error

    def change(self, statement: str, values: Sequence[Any] = ()) -> int:
        """How many rows a statement changed.

        Raises:
            StoreError: as `rows`.
            KeyTakenError: a row of that key is there already.
        """
        with self._lock:
            try:
                return self._db.execute(statement, values).rowcount
            except sqlite3.IntegrityError as error:
                raise KeyTakenError(str(error)) from error
            except sqlite3.Error as error:
                raise StoreError(f"cannot write {self.path}: {reason(error)}") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Statements of which all take effect, or none; no other process writes between them.

        Raises:
            StoreError: as `rows`.
        """
        with self._lock:
            self.rows("BEGIN IMMEDIATE")
            try:
                yield
                self.rows("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def held(self, root: Path) -> Claims:
        """Locks of the operating system, below `root`: they end with their process."""
        return Claims(root / "claims")

    def secret(self, root: Path) -> bytes:
        """The bytes in the file `secret` of `root`, made if there is none.

        Raises:
            StoreError: the file cannot be read or made, or is not 32 bytes.
        """
        return load_secret(root)

    def close(self) -> None:
        """Give the file back. Safe to call twice."""
        with self._lock:
            self._db.close()
