"""A reply store in PostgreSQL: what `ReplyStore` is in a file, for servers on several machines.

    with PostgresReplies(Address.parse("postgresql://rlaif@db.example/rlaif")) as store:
        store.put_many([(key, completion)])
        store.get(key)

Event loops claim and keep through `Writer`, which never holds them up; `get`, `recall`, `kept` and
`put_many` wait for the database.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from rlaif.errors import StoreError
from rlaif.store import postgres_claims
from rlaif.store.postgres import Address, Link
from rlaif.store.postgres_schema import prepare
from rlaif.store.postgres_writer import Writer, found_in, insert
from rlaif.store.rows import Row, digest_of, pack, unpack
from rlaif.types import Completion

_TABLE = """
CREATE TABLE replies (
    digest BYTEA PRIMARY KEY,
    created_s DOUBLE PRECISION NOT NULL,
    model BYTEA NOT NULL,
    finish SMALLINT NOT NULL,
    input BIGINT NOT NULL,
    cached_input BIGINT NOT NULL,
    output BIGINT NOT NULL,
    cost_usd DOUBLE PRECISION,
    latency_s DOUBLE PRECISION NOT NULL,
    packed SMALLINT NOT NULL,
    text BYTEA NOT NULL,
    more BYTEA
)
"""
# the model's id is bytes, since text takes neither NUL nor half characters
_STEPS = {1: (_TABLE, postgres_claims.TABLE)}


class PostgresReplies:
    """Completions under their digest, 64 hex digits, shared by all servers of a database.

    Any thread and any event loop may use it; a process that was forked opens its own.

    Args:
        address: The database. Its tables are made when absent.

    Raises:
        StoreError: it cannot be reached, refuses, or its tables are a newer version's.
    """

    far = True
    """That an event loop should not wait for `recall`: `claim` looks up what many ask together."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._reading = Link(address)
        prepare(self._reading, "replies", _STEPS)
        self._writer = Writer(address)

    def get(self, key: str) -> Completion | None:
        """The completion kept under `key`, marked as cached, or `None`.

        Raises:
            StoreError: it is damaged, or the database cannot be read.
        """
        return self.recall([key]).get(key)

    def recall(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The completions kept under `keys`, as many as there are, marked as cached.

        Raises:
            StoreError: one is damaged, or the database cannot be read.
        """
        wanted = {digest_of(key): key for key in keys}
        with self._reading.using() as db:
            rows = found_in(db, wanted)
        return {wanted[digest]: self._unpacked(digest, row) for digest, row in rows.items()}

    def kept(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that completions are kept under.

        Raises:
            StoreError: the database cannot be read.
        """
        digests = [digest_of(key) for key in keys]
        with self._reading.using() as db:
            rows = db.execute("SELECT digest FROM replies WHERE digest = ANY(%s)", (digests,))
            return {digest.hex() for (digest,) in rows.fetchall()}

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
            StoreError: the database cannot be written; it is as it was.
        """
        packed = _packed(rows, created_s)
        with self._reading.using() as db, db.transaction():
            insert(db, packed)

    async def keep(self, rows: Iterable[tuple[str, Completion]]) -> None:
        """`put_many`, together with what other tasks keep. Claims on the keys end.

        A caller who is cancelled meanwhile has its completions kept all the same.

        Raises:
            ValueError: a completion holds a number that is not finite, or a key is no digest.
            StoreError: the database cannot be written; it is as it was.
        """
        await self._writer.keep(_packed(rows, None))

    async def claim(self, key: str) -> Completion | None:
        """The completion kept under `key`, or `None`: then `key` is the caller's to ask for.

        While somebody else is asking for it, on whatever machine, this waits: until the reply is
        there, or the other one failed, gave up or was killed.

        Raises:
            StoreError: the database cannot be used.
        """
        digest = digest_of(key)
        row = await self._writer.claim(digest)
        return None if row is None else self._unpacked(digest, row)

    def release(self, key: str) -> None:
        """End the claim on `key`; nothing where there is none."""
        self._writer.release(digest_of(key))

    def __len__(self) -> int:
        with self._reading.using() as db:
            row = db.execute("SELECT count(*) FROM replies").fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Write what is on its way, and let go of everything. Safe to call twice."""
        self._writer.close()
        self._reading.close()

    def __enter__(self) -> PostgresReplies:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unpacked(self, digest: bytes, row: Row) -> Completion:
        try:
            return unpack(row)
        except ValueError as error:
            raise StoreError(
                f"the reply {digest.hex()} in {self.address.shown} is damaged ({error})"
            ) from error


def _packed(rows: Iterable[tuple[str, Completion]], created_s: float | None) -> list[Row]:
    now = time.time() if created_s is None else created_s
    packed = []
    for key, completion in rows:
        model, *rest = pack(completion)
        data = model if isinstance(model, bytes) else model.encode()
        packed.append((digest_of(key), now, data, *rest))
    return packed
