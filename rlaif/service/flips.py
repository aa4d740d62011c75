"""What came out differently in two runs, found among 100,000 verdicts in some milliseconds.

Beside each index stand three sorted columns as arrays: a join in SQL would look up every verdict of
one run in the other's index, each time that somebody turns a page.
"""

from __future__ import annotations

import sqlite3
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

TABLE = "CREATE TABLE outcomes (same BLOB, outcome BLOB, n BLOB);"
_TYPE = np.dtype("<i8")


def add(db: sqlite3.Connection) -> None:
    """Note what every verdict of an index said, in the order of what they judge."""
    rows = db.execute("SELECT same, outcome, n FROM verdicts ORDER BY same, n")
    columns = np.fromiter(
        ((same, _number(outcome), n) for same, outcome, n in rows), dtype=np.dtype((_TYPE, 3))
    )
    db.execute(
        "INSERT INTO outcomes VALUES (?, ?, ?)",
        [np.ascontiguousarray(column).tobytes() for column in columns.reshape(-1, 3).T],
    )


def differing(one: sqlite3.Connection, other: sqlite3.Connection) -> tuple[int, Numbers]:
    """How many pieces of work two runs share, and where those stand that came out differently.

    What a run judged more than once is held against the other's, the first against the first.

    Args:
        one: The index of a run.
        other: The index of the other.

    Returns:
        The count, and shape (k, 2): the places in both runs, in the order of the first.
    """
    same, outcome, n = _columns(one)
    their_same, their_outcome, their_n = _columns(other)
    repeat = np.arange(len(same)) - np.searchsorted(same, same)
    at = np.searchsorted(their_same, same) + repeat
    mine = np.flatnonzero(at < len(their_same))
    mine = mine[their_same[at[mine]] == same[mine]]
    theirs = at[mine]
    differ = outcome[mine] != their_outcome[theirs]
    places = np.stack([n[mine[differ]], their_n[theirs[differ]]], axis=1)
    return len(mine), places[np.argsort(places[:, 0])]


def _columns(db: sqlite3.Connection) -> list[Numbers]:
    row = db.execute("SELECT same, outcome, n FROM outcomes").fetchone()
    return [np.frombuffer(column, _TYPE) for column in row]


def _number(outcome: str) -> int:
    """A number that stands for an outcome."""
    return int.from_bytes(sha256(outcome.encode()).digest()[:8], "little", signed=True)
