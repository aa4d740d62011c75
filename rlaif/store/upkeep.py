"""What a reply store holds, what to throw away, and its replies as lines of JSON.

A line is `{"digest", "created_s", "completion": {…}}`. A store holds no prompt and no key, only
the replies and the digests of what was asked, so neither do the lines.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any

from rlaif.errors import SpecError
from rlaif.store import schema
from rlaif.store.replies import ReplyStore
from rlaif.store.rows import COLUMNS, Row, completion_from, pack, unpack
from rlaif.types import Completion, as_dict

_AT_ONCE = 500
"""Rows read or deleted before others may have their turn."""
_BYTES = "(length(text) + coalesce(length(more), 0) + length(model) + 130)"
"""About what a row takes, its place in the index included."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LATEST_S = 1e11
_ROW_FIELDS = {"digest", "created_s", "completion"}


@dataclass(frozen=True, slots=True)
class ModelShare:
    """What a store holds of one model, by the id that its provider reports."""

    model: str
    n: int
    input: int
    cached_input: int
    output: int
    cost_usd: float
    """US dollars paid for the replies whose price is known."""
    n_unpriced: int
    oldest_s: float
    """Seconds since 1970, as `newest_s`."""
    newest_s: float


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` took out, or would."""

    n: int
    """Replies."""
    freed_bytes: int
    """By how much the file is smaller; an estimate where nothing was done."""


def file_bytes(store: ReplyStore) -> int:
    """Bytes of the store's file and of the log beside it."""
    return store.path.stat().st_size + schema.wal_bytes(store.path)


def shares(store: ReplyStore) -> list[ModelShare]:
    """What the store holds of each model, the largest number of replies first."""
    rows = store.execute(
        "SELECT model, count(*), sum(input), sum(cached_input), sum(output), total(cost_usd), "
        "count(*) - count(cost_usd), min(created_s), max(created_s) "
        "FROM replies GROUP BY model ORDER BY count(*) DESC, model"
    )
    return [ModelShare(_name(row[0]), *row[1:]) for row in rows]


def prune(
    store: ReplyStore,
    *,
    older_than_s: float | None = None,
    model: str | None = None,
    damaged: bool = False,
    most_bytes: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Take replies out that meet every condition given, and make the file smaller.

    Args:
        store: Others may go on using it meanwhile.
        older_than_s: Replies kept longer ago than this.
        model: Replies of models that this shell pattern fits, as the providers report them.
        damaged: Replies that cannot be read.
        most_bytes: The oldest ones, until the file is this small.
        dry_run: Only say how many there are.

    Raises:
        StoreError: the store cannot be read or written.
    """
    before = file_bytes(store)
    chosen = _chosen(store, older_than_s, model)
    if damaged:
        chosen = _damaged(store, chosen)
    going = chosen if most_bytes is None else _oldest(store, chosen, most_bytes)
    if dry_run:
        return Pruned(len(going), min(before, round(sum(size for _, size in going))))
    n = 0
    while going:
        _delete(store, [number for number, _ in going])
        n += len(going)
        chosen = chosen[len(going) :]
        # a guess, until the file is looked at again: pages of the index stay partly filled
        going = [] if most_bytes is None else _oldest(store, chosen, most_bytes)
    return Pruned(n, max(0, before - file_bytes(store)))


def export_rows(store: ReplyStore, *, model: str | None = None) -> Iterator[dict[str, Any]]:
    """The replies as JSON objects, oldest first, a few in memory at a time.

    Args:
        store: Where they are.
        model: Only models that this shell pattern fits.

    Raises:
        StoreError: a reply is damaged, or the store cannot be read.
    """
    for digest, created_s, row in _rows(store, model):
        try:
            completion = unpack(row)
        except ValueError:
            store.get(digest.hex())  # raises the error that names it, and what to do
            continue  # somebody took it out just now
        plain = as_dict(replace(completion, cached=False))
        yield {"digest": digest.hex(), "created_s": created_s, "completion": plain}


def import_rows(store: ReplyStore, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> int:
    """How many replies were new among numbered JSON objects of `export_rows`; all are kept.

    A key that is already there keeps its own completion.

    Raises:
        SpecError: an object is not one of a reply: names its line.
        StoreError: the store cannot be written.
    """
    before = len(store)
    read = (_imported(line, row) for line, row in rows)
    while some := list(islice(read, _AT_ONCE)):
        for created_s, group in groupby(some, key=lambda row: row[0]):
            store.put_many([row[1:] for row in group], created_s=created_s)
    return len(store) - before


def _imported(line: int, row: Mapping[str, Any]) -> tuple[float, str, Completion]:
    digest, created_s = row.get("digest"), row.get("created_s")
    if set(row) != _ROW_FIELDS:
        raise SpecError("not a reply that `rlaif cache export` wrote", line=line)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise SpecError("not a digest of 64 hex digits", line=line, field="digest")
    if isinstance(created_s, bool) or not isinstance(created_s, int | float):
        raise SpecError("not a number of seconds", line=line, field="created_s")
    if not 0 <= created_s < _LATEST_S:
        raise SpecError("not a time of our era, in seconds", line=line, field="created_s")
    try:
        completion = completion_from(row["completion"])
        pack(completion)
        return created_s, digest, completion
    except ValueError as error:
        raise SpecError("not a completion", line=line, field="completion") from error


def _chosen(
    store: ReplyStore, older_than_s: float | None, model: str | None
) -> list[tuple[int, float]]:
    """Row numbers and bytes, oldest first, of what meets the conditions."""
    until = time.time() - older_than_s if older_than_s is not None else float("inf")
    rows = store.execute(
        f"SELECT rowid, {_BYTES} FROM replies WHERE created_s < ? AND model GLOB ? "  # noqa: S608
        "ORDER BY created_s, rowid",
        (until, "*" if model is None else model),
    )
    return [(number, size) for number, size in rows]


def _damaged(store: ReplyStore, chosen: list[tuple[int, float]]) -> list[tuple[int, float]]:
    sizes = dict(chosen)
    return [
        (number, sizes[number])
        for some in _parts(sizes)
        for number, *row in store.execute(
            f"SELECT rowid, {COLUMNS} FROM replies "  # noqa: S608
            f"WHERE rowid IN ({','.join('?' * len(some))})",
            some,
        )
        if not _sound(tuple(row))
    ]


def _sound(row: Row) -> bool:
    try:
        unpack(row)
    except ValueError:
        return False
    return True


def _oldest(
    store: ReplyStore, chosen: list[tuple[int, float]], most_bytes: int
) -> list[tuple[int, float]]:
    """The first of `chosen` without which the rest of the store takes at most `most_bytes`."""
    (whole,) = store.execute(f"SELECT total({_BYTES}) FROM replies")[0]  # noqa: S608
    page = store.execute("PRAGMA page_size")[0][0]
    used = page * (
        store.execute("PRAGMA page_count")[0][0] - store.execute("PRAGMA freelist_count")[0][0]
    )
    scale = used / whole if whole else 1.0
    surplus = used - most_bytes
    going = []
    for number, size in chosen if used > most_bytes else ():
        if surplus <= 0:
            break
        going.append((number, size * scale))
        surplus -= size * scale
    return going


def _delete(store: ReplyStore, numbers: list[int]) -> None:
    """Take rows out, and give what they took back to the file system."""
    for some in _parts(numbers):
        marks = ",".join("?" * len(some))
        store.execute(f"DELETE FROM replies WHERE rowid IN ({marks})", some)  # noqa: S608
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if store.execute("PRAGMA auto_vacuum")[0][0] != 2:  # a file that an older version made
        store.execute("PRAGMA auto_vacuum = INCREMENTAL")
        store.execute("VACUUM")
    while free := store.execute("PRAGMA freelist_count")[0][0]:
        store.compact(2000)
        if store.execute("PRAGMA freelist_count")[0][0] >= free:
            break
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # little room may be left on the disk
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _rows(store: ReplyStore, model: str | None) -> Iterator[tuple[bytes, float, Row]]:
    last = -1
    while True:
        rows = store.execute(
            f"SELECT rowid, digest, created_s, {COLUMNS} FROM replies "  # noqa: S608
            f"WHERE rowid > ? AND model GLOB ? ORDER BY rowid LIMIT {_AT_ONCE}",
            (last, "*" if model is None else model),
        )
        if not rows:
            return
        for _, digest, created_s, *row in rows:
            yield digest, created_s, tuple(row)
        last = rows[-1][0]


def _parts(numbers: Iterable[int]) -> Iterator[list[int]]:
    iterator = iter(numbers)
    while some := list(islice(iterator, _AT_ONCE)):
        yield some


def _name(model: str | bytes) -> str:
    return model if isinstance(model, str) else model.decode("utf-8", "backslashreplace")
