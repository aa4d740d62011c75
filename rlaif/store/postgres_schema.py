"""The tables of a PostgreSQL database: made once, by whoever comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rlaif.errors import StoreError
from rlaif.store.postgres import Address, Link

if TYPE_CHECKING:
    from rlaif.store.postgres import Connection

Steps = Mapping[int, Sequence[str]]

_MAKING = 0x524C4150
"""The lock under which tables are made."""
_VERSIONS = (
    "CREATE TABLE IF NOT EXISTS rlaif_schema (name TEXT PRIMARY KEY, version INTEGER NOT NULL)"
)


def prepare(link: Link, name: str, steps: Steps) -> None:
    """Bring the tables of `name` to the last version of `steps`; on failure the link is closed.

    Args:
        link: The database.
        name: Which tables.
        steps: By version, the statements that lead to it from the one before.

    Raises:
        StoreError: they are newer than this version of rlaif, or the database refuses.
    """
    try:
        with link.using() as db, db.transaction():
            _bring(db, link.address, name, steps)
    except BaseException:
        link.close()
        raise


def _bring(db: Connection, address: Address, name: str, steps: Steps) -> None:
    newest = max(steps)
    db.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
    db.execute(_VERSIONS)
    row = db.execute("SELECT version FROM rlaif_schema WHERE name = %s", (name,)).fetchone()
    version = row[0] if row else 0
    if version > newest:
        raise StoreError(
            f"{address.shown} has schema {version} of {name}, this version reads {newest}: it is "
            "left untouched"
        )
    for number in range(version + 1, newest + 1):
        for statement in steps[number]:
            db.execute(statement)
    db.execute(
        "INSERT INTO rlaif_schema VALUES (%s, %s) ON CONFLICT (name) DO UPDATE "
        "SET version = excluded.version",
        (name, newest),
    )
