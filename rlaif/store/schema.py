"""The reply store's file: how it is made, told from any other, and brought up to date.

Schema 1 kept each completion as one JSON text under its digest in hex; schema 2 keeps its parts in
columns. Every step runs in one transaction with the version it leads to: an interruption leaves
the file as it was.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from rlaif.errors import StoreError
from rlaif.store.rows import COLUMNS, completion_from, pack

APPLICATION_ID = 0x524C4149
"""`RLAI`, in the file's header: tells our file from any other."""
VERSION = 2

INSERT = f"INSERT OR IGNORE INTO replies (digest, created_s, {COLUMNS}) VALUES "  # noqa: S608
VALUES = "(?,?,?,?,?,?,?,?,?,?,?,?)"

_TABLE = """
CREATE TABLE replies (
    digest BLOB NOT NULL PRIMARY KEY,
    created_s REAL NOT NULL,
    model TEXT NOT NULL,
    finish INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cached_input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cost_usd REAL,
    latency_s REAL NOT NULL,
    packed INTEGER NOT NULL,
    text BLOB NOT NULL,
    more BLOB
)
"""
# An ordinary table with an index, not WITHOUT ROWID: rows of a kilobyte would each take a page, and
# new ones would land all over the file. This is 5 times cheaper to write and a third of the size.


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file, or bring those of an old one up to date.

    Raises:
        StoreError: the file is another program's, or is newer than this version.
        sqlite3.Error: it is no database, is damaged or cut short, or is busy.
    """
    if pragma(db, "application_id") != APPLICATION_ID:
        _create(db, path)
    version = pragma(db, "user_version")
    if not 1 <= version <= VERSION:
        raise StoreError(
            f"{path} has schema {version}, this version reads up to {VERSION}: it is left "
            "untouched; update rlaif, or move the file away to start a new one"
        )
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    # a run of a million items takes no more memory than a run of ten thousand
    db.execute("PRAGMA cache_size = -4000")
    if version < VERSION:
        _migrate(db, path)


def pragma(db: sqlite3.Connection, name: str) -> int:
    """The number that a pragma tells."""
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def wal_bytes(path: Path) -> int:
    """Bytes of the file beside the store that new rows go to first."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except OSError:
        return 0


def _create(db: sqlite3.Connection, path: Path) -> None:
    if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # must come before the first table
    db.execute("BEGIN IMMEDIATE")
    try:
        if pragma(db, "application_id") != APPLICATION_ID:  # else another process was first
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables or pragma(db, "user_version"):
                raise StoreError(f"{path} is another program's database; it is left untouched")
            db.execute(_TABLE)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        for version in range(pragma(db, "user_version"), VERSION):  # another process may be first
            _STEPS[version](db, path)
            db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _split_into_columns(db: sqlite3.Connection, path: Path) -> None:
    db.execute("ALTER TABLE replies RENAME TO replies_1")
    db.execute(_TABLE)
    rows = db.execute("SELECT digest, completion, created_s FROM replies_1 ORDER BY created_s")
    for digest, completion, created_s in rows:
        try:
            values = (
                bytes.fromhex(digest),
                created_s,
                *pack(completion_from(json.loads(completion))),
            )
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise StoreError(
                f"the reply {digest} in {path} is damaged ({reason}); the file is left as it was"
            ) from error
        db.execute(INSERT + VALUES, values)
    db.execute("DROP TABLE replies_1")


_STEPS: dict[int, Callable[[sqlite3.Connection, Path], None]] = {1: _split_into_columns}
"""How to get from each schema to the next."""
