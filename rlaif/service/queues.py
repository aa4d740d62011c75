"""What people should look at first, among the verdicts of a run: queues, beside the run's index.

    with VerdictIndex(folder) as index:
        index.queues.sizes()                        # {"random": 4000, "unsure": 210, ...}
        index.queues.places("unsure")               # least sure first
        index.queues.places("against", other=path)  # where another run says otherwise

A score differs from another by enough to matter when a quarter of the scale lies between them: one
level of five.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rlaif.errors import StoreError
from rlaif.judge.cascade import confidence, is_escalated
from rlaif.service.files import sound
from rlaif.types import MemberVerdict, Preference, Score, Verdict

Queue = Literal["random", "unsure", "split", "against", "escalated", "failed"]
"""A random sample; where the judge was least sure; where the judges of a panel or a cascade
disagree; where another run says otherwise; what a cascade ended in doubt; what has no verdict."""
QUEUES: tuple[Queue, ...] = get_args(Queue)

SURE = 0.8
"""Confidence under which a verdict counts as unsure, by default."""
FAR = 0.25
"""How far apart two scores are that disagree, as a share of their scale."""

TABLES = """
CREATE TABLE queues (
    n INTEGER PRIMARY KEY, same INTEGER, item TEXT, winner TEXT, value REAL, side INTEGER,
    unit REAL, sure REAL, apart REAL, escalated INTEGER, gold TEXT
);
"""
INDEXES = """
CREATE INDEX queues_by_same ON queues (same);
CREATE INDEX queues_by_item ON queues (item);
CREATE INDEX queues_by_sure ON queues (sure) WHERE sure IS NOT NULL;
CREATE INDEX queues_apart ON queues (apart) WHERE apart IS NOT NULL;
CREATE INDEX queues_escalated ON queues (n) WHERE escalated;
CREATE INDEX queues_failed ON queues (n) WHERE value IS NULL;
CREATE INDEX queues_gold ON queues (n) WHERE gold IS NOT NULL;
"""

_SHUFFLED = "(n * 2654435761) % 4294967296"
_BETWEEN = (
    "FROM queues a JOIN other.queues b ON b.same = a.same WHERE a.unit IS NOT NULL "
    "AND b.unit IS NOT NULL AND CASE WHEN a.side IS NULL THEN abs(a.unit - b.unit) >= ? "
    "ELSE a.side <> b.side END"
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a run's judge said of one item, as figures need it."""

    winner: str | None
    value: float | None
    """P(A preferred), or the score."""
    gold: Any
    """What is known to be right, or None."""


def add(db: sqlite3.Connection, n: int, same: int, verdict: Verdict) -> None:
    """Keep what the queues need of the verdict at place `n`."""
    payload = verdict.preference or verdict.score
    side = _side(verdict, verdict.preference)
    known = gold_of(verdict)
    db.execute(
        "INSERT INTO queues VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            n,
            same,
            sound(verdict.item.id),
            verdict.preference.winner if verdict.preference else None,
            _value(payload),
            side,
            _oriented(verdict, payload),
            confidence(verdict),
            _apart(verdict),
            is_escalated(verdict),
            None if known is None else json.dumps(known),
        ),
    )


def gold_of(verdict: Verdict) -> Any:
    """What is known to be right of an item by which people are checked: its `gold`, else None.

    Of a comparison A, B or tie. Of a score the right level, a list of right levels, or either by
    the name of a criterion; given back as a list of levels, or lists by criterion.
    """
    known = verdict.item.meta.get("gold")
    if verdict.kind == "comparison":
        return known if known in ("A", "B", "tie") else None
    if verdict.kind != "score":
        return None
    if isinstance(known, Mapping):
        found = {str(name): _levels(value) for name, value in known.items()}
        return found if found and all(found.values()) else None
    return _levels(known) or None


def _levels(value: object) -> list[float]:
    values = value if isinstance(value, list) else [value]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return [float(v) for v in numbers] if len(numbers) == len(values) else []


def _value(payload: Preference | Score | None) -> float | None:
    if payload is None:
        return None
    return payload.p_a if isinstance(payload, Preference) else payload.value


def _unit(payload: Preference | Score | None) -> float | None:
    """P(A preferred), or how high a score lies on its scale: in [0, 1]."""
    if payload is None:
        return None
    if isinstance(payload, Preference):
        return payload.p_a
    width = payload.max - payload.min
    return (payload.value - payload.min) / width if width > 0 else None


def _turned(verdict: Verdict) -> bool:
    """Whether A is the candidate whose id sorts second: another run may have them the other way."""
    return len(verdict.candidates) == 2 and verdict.candidates[0].id > verdict.candidates[1].id


def _oriented(verdict: Verdict, payload: Preference | Score | None) -> float | None:
    unit = _unit(payload)
    return 1 - unit if unit is not None and _turned(verdict) else unit


def _side(verdict: Verdict, preference: Preference | None) -> int | None:
    if preference is None:
        return None
    side = {"A": 1, "tie": 0, "B": -1}[preference.winner]
    return -side if _turned(verdict) else side


def _apart(verdict: Verdict) -> float | None:
    """How far the judges that were asked lie apart where they disagree, else None."""
    said = [one for one in verdict.members or () if one.preference or one.score]
    units = [unit for one in said if (unit := _unit(one.preference or one.score)) is not None]
    if len(units) < 2:
        return None
    width = max(units) - min(units)
    differ = width >= FAR if verdict.kind == "score" else len(_winners(said)) > 1
    return width if differ else None


def _winners(said: Iterable[MemberVerdict]) -> set[str]:
    return {one.preference.winner for one in said if one.preference}


class Queues:
    """The queues of one run.

    Args:
        db: The run's index, open for reading.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def sizes(self, sure: float = SURE, other: Path | None = None) -> dict[Queue, int]:
        """How many verdicts are in each queue; `against` only where there is another run.

        Args:
            sure: Confidence under which a verdict counts as unsure.
            other: The index of another run.

        Raises:
            StoreError: the other run has no index of this kind.
        """
        counted: dict[Queue, tuple[str, tuple[float, ...]]] = {
            "random": ("1", ()),
            "unsure": ("sure < ?", (sure,)),
            "split": ("apart IS NOT NULL", ()),
            "escalated": ("escalated", ()),
            "failed": ("value IS NULL", ()),
        }
        found = {
            name: self._one(f"SELECT count(*) FROM queues WHERE {where}", values)  # noqa: S608
            for name, (where, values) in counted.items()
        }
        if other is not None:
            self._attach(other)
            found["against"] = self._one(f"SELECT count(DISTINCT a.n) {_BETWEEN}", (FAR,))
        return {name: found[name] for name in QUEUES if name in found}

    def places(self, queue: Queue, sure: float = SURE, other: Path | None = None) -> Iterator[int]:
        """The places of a queue's verdicts in the order in which people should see them.

        Args:
            queue: Which one.
            sure: Confidence under which a verdict counts as unsure.
            other: The index of the other run, for `against`.

        Raises:
            StoreError: as `sizes`.
        """
        if queue == "against":
            if other is None:
                return iter(())
            self._attach(other)
            order = "GROUP BY a.n ORDER BY max(abs(a.unit - b.unit)) DESC, a.n"
            return self._all(f"SELECT a.n {_BETWEEN} {order}", (FAR,))
        by: dict[Queue, tuple[str, tuple[float, ...]]] = {
            "random": (f"ORDER BY {_SHUFFLED}", ()),
            "unsure": ("WHERE sure < ? ORDER BY sure, n", (sure,)),
            "split": ("WHERE apart IS NOT NULL ORDER BY apart DESC, n", ()),
            "escalated": ("WHERE escalated ORDER BY n", ()),
            "failed": ("WHERE value IS NULL ORDER BY n", ()),
        }
        where, values = by[queue]
        return self._all(f"SELECT n FROM queues {where}", values)  # noqa: S608

    def gold(self) -> Iterator[int]:
        """The places of items by which people are checked, shuffled."""
        return self._all(f"SELECT n FROM queues WHERE gold IS NOT NULL ORDER BY {_SHUFFLED}", ())  # noqa: S608

    def first_with_verdict(self) -> int | None:
        """The first place that has a verdict."""
        statement = "SELECT min(n) FROM queues WHERE value IS NOT NULL"
        found: int | None = self._db.execute(statement).fetchone()[0]
        return found

    def of_item(self, name: str) -> list[int]:
        """The places of the verdicts on an item."""
        return list(self._all("SELECT n FROM queues WHERE item = ? ORDER BY n", (sound(name),)))

    def said(self, places: Iterable[int]) -> dict[int, Said]:
        """What the judge said at some places, and what is known to be right there."""
        found: dict[int, Said] = {}
        statement = "SELECT winner, value, gold FROM queues WHERE n = ?"
        for n in places:
            row = self._db.execute(statement, (n,)).fetchone()
            if row is not None:
                found[n] = Said(row[0], row[1], row[2] and json.loads(row[2]))
        return found

    def _attach(self, other: Path) -> None:
        attached = {row[1] for row in self._db.execute("PRAGMA database_list")}
        if "other" in attached:
            return
        try:
            self._db.execute("ATTACH ? AS other", (f"{other.absolute().as_uri()}?mode=ro",))
            self._db.execute("SELECT 1 FROM other.queues LIMIT 1")
        except sqlite3.Error as error:
            raise StoreError(f"the other run has no index that can be read: {error}") from error

    def _one(self, statement: str, values: tuple[float, ...]) -> int:
        return int(self._db.execute(statement, values).fetchone()[0])

    def _all(self, statement: str, values: tuple[float | str, ...]) -> Iterator[int]:
        for (n,) in self._db.execute(statement, values):
            yield n
