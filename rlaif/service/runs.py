"""The runs of a service: who asked for what, and how far it is. One table, any number of servers.

Which server works on a run is told by a lock of the operating system, or of the database that
servers share, which is free again when that server dies: there is nothing to expire, and a run is
never worked on twice.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from rlaif.errors import StoreError
from rlaif.service.accounts import Caller
from rlaif.service.config import Limits
from rlaif.service.database import Held, Tables
from rlaif.service.errors import Problem

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
MOST_LISTED = 1000
"""Runs in one list."""

_COLUMNS = (
    "id, token, created_s, started_s, ended_s, state, cancel, title, work, total, done, ok, "
    "cost_usd, summary, error"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as it stands."""

    id: str
    token: int
    created_s: float
    started_s: float | None
    ended_s: float | None
    state: State
    cancel: bool
    title: str
    work: Mapping[str, Any]
    """What is done: `kind`, `judge`, `rubric`, `data`, `limit`, `pairs`, `budget_usd`."""
    total: int | None
    done: int
    ok: int
    cost_usd: float
    summary: Mapping[str, Any] | None
    error: str | None

    def is_of(self, caller: Caller) -> bool:
        """Whether the run is the caller's own, as every run is an admin's."""
        return self.token == caller.id or caller.may("admin")

    def as_dict(self) -> dict[str, Any]:
        """What clients are told."""
        told = {
            "id": self.id,
            "state": self.state,
            "title": self.title,
            **self.work,
            "total": self.total,
            "done": self.done,
            "ok": self.ok,
            "coverage": self.ok / self.done if self.done else 1.0,
            "cost_usd": self.cost_usd,
            "created_s": self.created_s,
            "started_s": self.started_s,
            "ended_s": self.ended_s,
        }
        if self.summary is not None:
            told["summary"] = dict(self.summary)
        return told | ({"error": self.error} if self.error else {})


class RunBook:
    """The runs of a service.

    Args:
        database: Where they are kept.
        claims: The locks by which servers tell who works on what.
        limits: How many may wait.
    """

    def __init__(self, database: Tables, claims: Held, limits: Limits) -> None:
        self._db = database
        self._claims = claims
        self._limits = limits

    def add(self, caller: Caller, title: str, work: Mapping[str, Any]) -> Run:
        """A new run, which waits.

        Raises:
            Problem: too many wait already.
        """
        name = secrets.token_hex(8)
        with self._db.transaction():
            waiting = self._db.rows(
                "SELECT token, count(*) FROM runs WHERE state = 'queued' GROUP BY token"
            )
            counts = dict(waiting)
            if counts.get(caller.id, 0) >= self._limits.queued_runs_a_token:
                raise Problem(429, "too many runs of this token wait", retry_after_s=60)
            if sum(counts.values()) >= self._limits.queued_runs:
                raise Problem(503, "too many runs wait", retry_after_s=60)
            self._db.change(
                "INSERT INTO runs (id, token, created_s, state, title, work) "
                "VALUES (?, ?, ?, 'queued', ?, ?)",
                (name, caller.id, time.time(), title, json.dumps(work)),
            )
        return self._known(name)

    def get(self, name: str, caller: Caller) -> Run:
        """The run called `name`, if the caller may see it.

        Raises:
            Problem: there is none, or it is somebody else's.
        """
        found = self.shown(name, caller)
        if not found.is_of(caller):
            raise Problem(404, "there is no such run")
        return found

    def shown(self, name: str, caller: Caller) -> Run:
        """The run called `name`, if the caller may see it or judge its pairs.

        Raises:
            Problem: there is none, or it is somebody else's.
        """
        row = self._db.row(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (name,))  # noqa: S608
        if row is None or not (row[1] == caller.id or caller.may("annotate")):
            raise Problem(404, "there is no such run")
        return _run(row)

    def listed(self, caller: Caller, limit: int, before_s: float | None = None) -> list[Run]:
        """The runs that the caller may see, newest first.

        Args:
            caller: Who asks.
            limit: Most of them.
            before_s: Only those made before that time.
        """
        mine, who = ("TRUE", ()) if caller.may("admin") else ("token = ?", (caller.id,))
        rows = self._db.rows(
            f"SELECT {_COLUMNS} FROM runs WHERE {mine} AND created_s < ? "  # noqa: S608
            "ORDER BY created_s DESC LIMIT ?",
            (*who, before_s or 1e18, limit),
        )
        return [_run(row) for row in rows]

    def for_people(self, limit: int) -> list[Run]:
        """Runs that are done, whoever made them, newest first, that people may judge too."""
        kinds = [f"%{json.dumps({'kind': kind})[1:-1]}%" for kind in ("compare", "score")]
        rows = self._db.rows(
            f"SELECT {_COLUMNS} FROM runs WHERE state = 'done' "  # noqa: S608
            "AND (work LIKE ? OR work LIKE ?) ORDER BY created_s DESC LIMIT ?",
            (*kinds, limit),
        )
        return [_run(row) for row in rows]

    def labelled(self, run: Run, how: Mapping[str, Any]) -> None:
        """Note how a run is labelled by people."""
        work = json.dumps({**run.work, "people": dict(how)})
        self._db.change("UPDATE runs SET work = ? WHERE id = ?", (work, run.id))

    def counts(self) -> dict[str, int]:
        """How many runs are in each state."""
        states = dict.fromkeys(("queued", "running", *ENDED), 0)
        return states | dict(self._db.rows("SELECT state, count(*) FROM runs GROUP BY state"))

    def claim(self) -> Run | None:
        """A run to work on, which nobody else works on; None where there is none.

        One that a dead server left comes first. Then whoever has the fewest running, and among
        those whoever waited longest since a run of theirs was begun: many runs of one token do not
        hold up another's.
        """
        if self._db.row("SELECT 1 FROM runs WHERE state IN ('queued', 'running') LIMIT 1") is None:
            return None
        rows = self._db.rows(
            """
            SELECT r.id FROM runs r
            LEFT JOIN (
                SELECT token, count(CASE WHEN state = 'running' THEN 1 END) AS running,
                    max(started_s) AS latest_s
                FROM runs GROUP BY token
            ) t ON t.token = r.token
            WHERE r.state IN ('queued', 'running')
            ORDER BY r.state = 'queued', t.running, t.latest_s NULLS FIRST, r.created_s
            """
        )
        for (name,) in rows:
            if not self._claims.take(_key(name)):
                continue
            # another server may have ended it between the two looks
            taken = self._db.change(
                "UPDATE runs SET state = 'running', started_s = coalesce(started_s, ?) "
                "WHERE id = ? AND state IN ('queued', 'running')",
                (time.time(), name),
            )
            if taken:
                return self._known(name)
            self._claims.drop(_key(name))
        return None

    def advance(self, name: str, total: int | None, done: int, ok: int, cost_usd: float) -> bool:
        """Note how far a run is; whether it is to be cancelled."""
        row = self._db.row(
            "UPDATE runs SET total = coalesce(?, total), done = ?, ok = ?, cost_usd = ? "
            "WHERE id = ? RETURNING cancel",
            (total, done, ok, cost_usd, name),
        )
        return bool(row and row[0])

    def holds(self, name: str) -> bool:
        """Whether the run is still this server's to work on."""
        return self._claims.holds(_key(name))

    def end(
        self,
        name: str,
        state: State,
        *,
        summary: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """Note that a run ended, and let go of it."""
        self._db.change(
            "UPDATE runs SET state = ?, ended_s = ?, summary = ?, error = ? WHERE id = ?",
            (state, time.time(), summary and json.dumps(summary), error, name),
        )
        self.release(name)

    def release(self, name: str) -> None:
        """Let go of a run: as it stands, another server may go on with it."""
        self._claims.drop(_key(name))

    def cancel(self, run: Run) -> Run:
        """The run, which ends as soon as what is in flight has ended; at once where it waits.

        Raises:
            Problem: it has ended.
        """
        with self._db.transaction():
            queued = self._db.change(
                "UPDATE runs SET state = 'cancelled', ended_s = ? WHERE id = ? "
                "AND state = 'queued'",
                (time.time(), run.id),
            )
            changed = queued or self._db.change(
                "UPDATE runs SET cancel = 1 WHERE id = ? AND state = 'running'", (run.id,)
            )
        if not changed:
            raise Problem(409, f"the run is {self._known(run.id).state}")
        return self._known(run.id)

    def again(self, run: Run, budget_usd: float | None) -> Run:
        """The run, waiting anew: it asks only for what it has no reply to.

        Args:
            run: One that has ended.
            budget_usd: The most it may spend from now on; as before where None.

        Raises:
            Problem: it has not ended.
        """
        work = dict(run.work) | ({"budget_usd": budget_usd} if budget_usd is not None else {})
        changed = self._db.change(
            "UPDATE runs SET state = 'queued', cancel = 0, ended_s = NULL, error = NULL, "
            "summary = NULL, started_s = NULL, done = 0, ok = 0, cost_usd = 0, work = ? "
            "WHERE id = ? AND state IN ('done', 'failed', 'cancelled')",
            (json.dumps(work), run.id),
        )
        if not changed:
            raise Problem(409, f"the run is {self._known(run.id).state}")
        return self._known(run.id)

    def _known(self, name: str) -> Run:
        row = self._db.row(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (name,))  # noqa: S608
        if row is None:
            raise StoreError(f"the run {name} is gone from the service's database")
        return _run(row)


def _run(row: tuple[Any, ...]) -> Run:
    values = list(row)
    values[6] = bool(values[6])
    values[8] = json.loads(values[8])
    values[13] = values[13] and json.loads(values[13])
    return Run(*values)


def _key(name: str) -> bytes:
    return sha256(name.encode()).digest()
