"""Who is at work on what, told in a table that all servers of a database see.

Each owner holds one lock of the database's for as long as its session lives, so a claim whose owner
holds none is anybody's: `kill -9` frees what was held as soon as the server has noticed, nothing
expires, and any number of claims takes one lock.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from rlaif.errors import StoreError
from rlaif.store.postgres import Address, Link, UnreachableError

if TYPE_CHECKING:
    from rlaif.store.postgres import Connection

CLASS = 0x524C4149
"""The first half of our locks' names, `RLAI`."""
TABLE = """
CREATE UNLOGGED TABLE IF NOT EXISTS claims (
    digest BYTEA PRIMARY KEY,
    owner INTEGER NOT NULL
)
"""
# unlogged: when the database itself dies, so do all sessions, and no claim outlives its session
_DEAD = f"pg_try_advisory_xact_lock({CLASS}, claims.owner)"
"""Whether an owner is no more: its lock can be had, for as long as the statement takes."""
_TAKE = f"""
INSERT INTO claims (digest, owner) SELECT digest, %s FROM unnest(%s::bytea[]) AS digest
ON CONFLICT (digest) DO UPDATE SET owner = excluded.owner
WHERE claims.owner = ANY(%s) OR (%s AND {_DEAD})
RETURNING digest
"""  # noqa: S608
_GRACE_S = 3.0
"""After a broken connection was mended, time for the others to mend theirs and keep claims."""


class Owner:
    """The claims of one session: what `Link` begins each of its connections with."""

    def __init__(self) -> None:
        self.held: set[bytes] = set()
        self._numbers: list[int] = []
        """This session's, last, after those that `held` may still be written under."""
        self._mended_s = float("-inf")

    @property
    def _number(self) -> int:
        return self._numbers[-1]

    def begin(self, db: Connection) -> None:
        """Take a lock for the new session `db`, and what was held by the one before."""
        again = bool(self._numbers)
        self._numbers.append(_locked(db))
        # of another owner of that number, long ago
        db.execute("DELETE FROM claims WHERE owner = %s", (self._number,))
        if again:
            self._mended_s = time.monotonic()
            taken = (self._number, sorted(self.held), self._numbers, False)
            self.held.intersection_update(digest for (digest,) in db.execute(_TAKE, taken))
        else:
            db.execute(f"DELETE FROM claims WHERE {_DEAD}")  # noqa: S608
        # only now: where this connection broke on the way, the next one must look under all of them
        del self._numbers[:-1]

    def take(self, db: Connection, digests: Iterable[bytes]) -> set[bytes]:
        """Those of `digests` that are now held by this owner, and were held by nobody before."""
        # in one order everywhere: two servers that claim the same cannot wait for each other
        wanted = sorted(set(digests) - self.held)
        if not wanted:
            return set()
        settled = time.monotonic() > self._mended_s + _GRACE_S
        rows = db.execute(_TAKE, (self._number, wanted, [self._number], settled)).fetchall()
        taken = {digest for (digest,) in rows}
        self.held |= taken
        return taken

    def drop(self, db: Connection, digests: Collection[bytes]) -> None:
        """Let go of `digests`; nothing where they are not held."""
        if going := sorted(self.held.intersection(digests)):
            self.held.difference_update(going)
            db.execute(
                "DELETE FROM claims WHERE digest = ANY(%s) AND owner = %s", (going, self._number)
            )


def _locked(db: Connection) -> int:
    """A number that only this session has the lock of."""
    while True:
        number = 1 + secrets.randbelow(2**31 - 1)
        row = db.execute("SELECT pg_try_advisory_lock(%s, %s)", (CLASS, number)).fetchone()
        if row is not None and row[0]:
            return number


class PostgresClaims:
    """Keys, 32 bytes each, held by one owner among all servers of a database.

    Any thread may use it; a call waits for the database.

    Raises:
        StoreError: the database refuses.
    """

    def __init__(self, address: Address) -> None:
        self._owner = Owner()
        self._link = Link(address, self._owner.begin)
        with self._link.using() as db:
            db.execute("SELECT 1")

    def take(self, key: bytes) -> bool:
        """Whether `key` is now held by this caller, and was held by nobody before.

        Raises:
            StoreError: the database cannot be used.
        """
        with self._link.using() as db:
            return bool(self._owner.take(db, [key]))

    def holds(self, key: bytes) -> bool:
        """Whether `key` is still held: what is lost with a connection may be somebody else's.

        Raises:
            StoreError: the database cannot be used.
        """
        with self._link.using():
            return key in self._owner.held

    def drop(self, key: bytes) -> None:
        """Let go of `key`; nothing where it is not held."""
        try:
            with self._link.using() as db:
                self._owner.drop(db, [key])
        except UnreachableError:
            self._owner.held.discard(key)  # the lock ended with the connection

    def close(self) -> None:
        """Let go of everything. Safe to call twice."""
        with suppress(StoreError), self._link.using() as db:
            self._owner.drop(db, set(self._owner.held))
        self._link.close()
