"""A reply store: every completion under the digest of all that could change it, in one SQLite file.

    with ReplyStore(home / "replies.sqlite") as store:
        store.put_many([(key, completion)])     # one transaction: all or none
        store.get(key)

The file is in WAL mode with `synchronous=NORMAL`: what `put_many` returned from survives
`kill -9`, many processes may read and write at once, and no call waits for the disk.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from rlaif.canonical import canonical_json
from rlaif.errors import StoreError
from rlaif.types import Completion, as_dict

_APPLICATION_ID = 0x524C4149  # "RLAI", in the file's header: tells our file from any other
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE replies (
    digest TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    completion TEXT NOT NULL,
    created_s REAL NOT NULL
) WITHOUT ROWID
"""


class ReplyStore:
    """Completions under their digest.

    Args:
        path: The SQLite file; made, with its folder, when absent.

    Raises:
        StoreError: the file is not a reply store, is damaged, or was written by a newer version.
            It is never overwritten.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot open the reply store {path}: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(
                f"{path} is not a readable reply store ({error}); move it away to start a new one"
            ) from error
        except StoreError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        if self._pragma("application_id") != _APPLICATION_ID:
            self._create()
        version = self._pragma("user_version")
        if version != _SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema {version}; this version reads {_SCHEMA_VERSION}"
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")

    def _create(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._pragma("application_id") == _APPLICATION_ID:  # another process was first
                return
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables or self._pragma("user_version"):
                raise StoreError(f"{self.path} is another program's database; it is left untouched")
            self._db.execute(_SCHEMA)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        finally:
            self._db.execute("COMMIT")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def get(self, key: str) -> Completion | None:
        """The completion kept under `key`, marked as cached, or `None`."""
        row = self._run("SELECT completion FROM replies WHERE digest = ?", (key,)).fetchone()
        if row is None:
            return None
        completion: Completion = _adapter().validate_python(json.loads(row[0]) | {"cached": True})
        return completion

    def put_many(self, rows: Iterable[tuple[str, Completion]]) -> None:
        """Keep completions under their keys, all of them or, on failure, none.

        A key that is already there keeps its first completion: a draw is never redrawn.
        """
        now = time.time()
        values = [
            (key, c.model, canonical_json(as_dict(c) | {"cached": False}), now) for key, c in rows
        ]
        self._run("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?)", values)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreError(f"cannot write to the reply store {self.path}: {error}") from error

    def __len__(self) -> int:
        return int(self._run("SELECT count(*) FROM replies").fetchone()[0])

    def _run(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise StoreError(f"cannot use the reply store {self.path}: {error}") from error

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._db.close()

    def __enter__(self) -> ReplyStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Completion)
