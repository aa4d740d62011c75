"""What writes to a reply store in PostgreSQL: a thread that takes along all that came up meanwhile.

A thousand calls in flight are a few statements, and no event loop waits. What cannot be written
because the server is away is tried again for a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from rlaif.errors import StoreError
from rlaif.store.postgres import Address, Link, UnreachableError
from rlaif.store.postgres_claims import Owner
from rlaif.store.rows import COLUMNS, Row

if TYPE_CHECKING:
    from rlaif.store.postgres import Connection

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_INSERT = (
    f"INSERT INTO replies (digest, created_s, {COLUMNS}) "  # noqa: S608
    f"VALUES ({', '.join(['%s'] * 12)}) ON CONFLICT (digest) DO NOTHING"
)
SELECT = f"SELECT digest, {COLUMNS} FROM replies WHERE digest = ANY(%s)"  # noqa: S608
_AT_ONCE = 2000
_PATIENCE_S = 60.0
_PAUSE_S = 0.5
_FIRST_LOOK_S, _RAREST_LOOK_S = 0.02, 5.0
_LOOK_AFTER = 0.15
"""Share of the time waited so far after which to look again for a reply that others ask for."""
_TELL_AFTER_S = 30.0


@dataclass(eq=False, slots=True)
class _Claim:
    """A caller who wants a reply, or to be the one who asks for it."""

    digest: bytes
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Row | None]
    since_s: float = field(default_factory=time.monotonic)
    look_s: float = 0.0
    """When to look again, while somebody else asks."""

    def granted(self) -> bool:
        """Whether the caller was told to ask."""
        told = self.answer.done() and not self.answer.cancelled()
        return told and self.answer.exception() is None and self.answer.result() is None


@dataclass(eq=False, slots=True)
class _Keep:
    """Completions to be kept, all of them or none."""

    rows: list[Row]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[None]


@dataclass(eq=False, slots=True)
class _Release:
    """A claim that ends."""

    digest: bytes


class Writer:
    """Claims, keeps and releases for all event loops of a process.

    Args:
        address: The database, the tables of which are there.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._owner = Owner()
        self._link = Link(address, self._owner.begin)
        self._asked: queue.SimpleQueue[_Claim | _Keep | _Release | None] = queue.SimpleQueue()
        self._waiting: list[_Claim] = []
        self._closing = threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._work, name="rlaif-replies", daemon=True)
        self._thread.start()

    async def keep(self, rows: list[Row]) -> None:
        """Keep rows, digests first, all of them or none; claims on them end.

        Raises:
            StoreError: the database cannot be written; it is as it was.
        """
        loop = asyncio.get_running_loop()
        op = _Keep(rows, loop, loop.create_future())
        self._ask(op)
        await op.answer

    async def claim(self, digest: bytes) -> Row | None:
        """The row that is kept under `digest`, or None: then it is the caller's to ask for.

        Waits while somebody else asks for it.

        Raises:
            StoreError: the database cannot be used.
        """
        loop = asyncio.get_running_loop()
        op = _Claim(digest, loop, loop.create_future())
        self._ask(op)
        try:
            return await op.answer
        except asyncio.CancelledError:
            if op.granted():  # and the caller was cancelled before it could know
                self._asked.put(_Release(digest))
            raise

    def release(self, digest: bytes) -> None:
        """End the claim on `digest`; nothing where there is none."""
        if digest in self._owner.held:
            self._asked.put(_Release(digest))

    def close(self) -> None:
        """Write what is on its way, and let go of everything. Safe to call twice."""
        if not self._closing.is_set():
            self._closing.set()
            self._asked.put(None)
            self._thread.join()
            self._link.close()

    def _ask(self, op: _Claim | _Keep) -> None:
        if self._closing.is_set():
            raise StoreError(f"the store {self._address.shown} is closed")
        self._asked.put(op)

    def _work(self) -> None:
        """What the thread does, until the store is closed."""
        ended = False
        while not ended:
            ops = self._next()
            ended = None in ops
            self._keep_all(
                [op for op in ops if isinstance(op, _Keep)],
                [op.digest for op in ops if isinstance(op, _Release)],
            )
            now_s = time.monotonic()
            due = [one for one in self._waiting if one.look_s <= now_s]
            self._waiting = [one for one in self._waiting if one.look_s > now_s]
            self._claim_all([*due, *(op for op in ops if isinstance(op, _Claim))])
        closed = StoreError(f"the store {self._address.shown} is closed")
        for one in self._waiting:
            _answer(one, closed)
        with contextlib.suppress(StoreError), self._link.using() as db:
            self._owner.drop(db, set(self._owner.held))

    def _next(self) -> list[_Claim | _Keep | _Release | None]:
        """What came up; waits for it, until somebody who waits is to be looked after."""
        ops: list[_Claim | _Keep | _Release | None] = []
        look_s = min((one.look_s for one in self._waiting), default=None)
        try:
            pause = None if look_s is None else max(0.0, look_s - time.monotonic())
            ops.append(self._asked.get(timeout=pause))
            while len(ops) < _AT_ONCE:
                ops.append(self._asked.get_nowait())
        except queue.Empty:
            pass
        return ops

    def _keep_all(self, keeps: list[_Keep], released: list[bytes]) -> None:
        """Write completions, and end the claims on them and on what was released."""
        rows = [row for op in keeps for row in op.rows]
        going = {row[0] for row in rows} | set(released)
        if not rows and not self._owner.held & going:
            return

        def write(db: Connection) -> None:
            with db.transaction():
                insert(db, rows)
                self._owner.drop(db, going)

        error = self._tried(write)[1]
        for op in keeps:
            _answer(op, error)
        for one in self._waiting:
            if one.digest in going:
                one.look_s = 0.0

    def _claim_all(self, claims: list[_Claim]) -> None:
        """Answer callers: with what is kept, with the claim, or later where others have it."""
        if not claims:
            return
        wanted = {op.digest for op in claims}

        def look(db: Connection) -> tuple[dict[bytes, Row], set[bytes]]:
            found = found_in(db, wanted)
            taken = self._owner.take(db, wanted - found.keys())
            if taken and (late := found_in(db, taken)):  # kept between the two looks
                self._owner.drop(db, late)
                found |= late
                taken -= late.keys()
            return found, taken

        result, error = self._tried(look)
        found, taken = result or ({}, set[bytes]())
        for op in claims:
            if error is not None:
                _answer(op, error)
            elif op.digest in found:
                _answer(op, None, found[op.digest])
            elif op.digest in taken:
                taken.discard(op.digest)
                _answer(op, None, refused=lambda op=op: self._asked.put(_Release(op.digest)))  # type: ignore[misc]
            else:
                self._wait(op)

    def _wait(self, op: _Claim) -> None:
        now_s = time.monotonic()
        waited_s = now_s - op.since_s
        if waited_s > _TELL_AFTER_S and not self._told:
            self._told = True
            _log.warning(
                "another process is asking for replies that are needed here too: waiting for it. "
                "If it was stopped, let it go on or end it."
            )
        if op.answer.cancelled():
            return
        op.look_s = now_s + min(max(_FIRST_LOOK_S, _LOOK_AFTER * waited_s), _RAREST_LOOK_S)
        self._waiting.append(op)

    def _tried(self, work: Callable[[Connection], _T]) -> tuple[_T | None, StoreError | None]:
        """What `work` gives, tried again while the server is away, or the error it ended in."""
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with self._link.using() as db:
                    return work(db), None
            except UnreachableError as error:
                if time.monotonic() > until_s or self._closing.wait(_PAUSE_S):
                    return None, error
            except StoreError as error:
                return None, error
            except Exception as error:  # a bug must not leave callers waiting without end
                _log.exception("the reply store failed")
                return None, StoreError(f"the reply store failed: {type(error).__name__}")


def insert(db: Connection, rows: list[Row]) -> None:
    """Keep rows, digests first; a digest that is there already keeps its own."""
    # in one order everywhere: two servers that keep the same cannot wait for each other
    ordered = sorted(rows, key=itemgetter(0))
    if ordered:
        with db.cursor() as cursor:
            cursor.executemany(_INSERT, ordered)


def found_in(db: Connection, digests: Iterable[bytes]) -> dict[bytes, Row]:
    """What is kept under `digests`, as many as there are: the values of `COLUMNS`."""
    rows = db.execute(SELECT, (list(digests),)).fetchall()
    return {row[0]: row[1:] for row in rows}


def _answer(
    op: _Claim | _Keep,
    error: StoreError | None,
    row: Row | None = None,
    refused: Callable[[], Any] = lambda: None,
) -> None:
    """Tell the caller, on its own event loop; `refused` is called where nobody listens any more."""

    def tell() -> None:
        if op.answer.done():
            refused()
        elif error is not None:
            op.answer.set_exception(type(error)(str(error)))
        else:
            op.answer.set_result(row)  # type: ignore[arg-type]

    try:
        op.loop.call_soon_threadsafe(tell)
    except RuntimeError:  # the loop is closed
        refused()
