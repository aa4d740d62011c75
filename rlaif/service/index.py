"""An index of a run's verdicts, so that a page of 25 among 100,000 is found in milliseconds.

    build(folder)                       # verdicts.index beside verdicts.jsonl, whole or not at all
    with VerdictIndex(folder) as index:
        index.listed(Filter(words="paris", reading="inconsistent"), offset=50)

It holds where each verdict stands in the file, what a list shows of it, and its words. It is made
anew from `verdicts.jsonl` at any time.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from rlaif.canonical import digest
from rlaif.errors import DataError, RlaifError, SpecError, StoreError
from rlaif.report.browser import Entry
from rlaif.report.run_entries import entry_of
from rlaif.service import flips, queues
from rlaif.service.files import made_whole, sound
from rlaif.service.queues import Queues
from rlaif.types import Verdict

NAME = "verdicts.index"
PAGE = 25
"""Verdicts on one page of a list."""
_VERSION = 3
_MOST_VALUES = 40
_SNIPPET = 160
_MOST_WORDS = 12
_ROWS_A_COMMIT = 5000

_TABLES = """
CREATE TABLE verdicts (
    n INTEGER PRIMARY KEY, at INTEGER, size INTEGER, same INTEGER, reading TEXT, badge TEXT,
    color TEXT, title TEXT, figure TEXT, snippet TEXT, category TEXT, models TEXT, outcome TEXT
);
CREATE TABLE made_of (version INTEGER, size INTEGER, mtime_ns INTEGER);
CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='unicode61');
CREATE TABLE facets (name TEXT, value TEXT, count INTEGER);
"""
_INDEXES = """
CREATE INDEX by_reading ON verdicts (reading);
CREATE INDEX by_category ON verdicts (category);
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which verdicts to list; what is empty filters nothing."""

    words: str = ""
    """Each must occur in the prompt, a response or a reply."""
    reading: str = ""
    category: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One verdict in a list."""

    n: int
    """Its place in the run, from 1."""
    badge: str
    color: str
    title: str
    figure: str
    snippet: str


@dataclass(frozen=True, slots=True)
class Flip:
    """One piece of work that two runs judged differently."""

    n: int
    other: int
    title: str
    snippet: str
    outcome: str
    other_outcome: str


def build(folder: Path) -> None:
    """Index the verdicts of a run folder.

    Raises:
        SpecError: a line is no verdict.
        StoreError: the index cannot be written.
    """
    try:
        with (
            (folder / "verdicts.jsonl").open("rb") as file,
            made_whole(folder / NAME) as partial,
            closing(sqlite3.connect(partial, isolation_level=None)) as db,
        ):
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")
            db.executescript(_TABLES + queues.TABLES + flips.TABLE)
            made_of = _made_of(os.fstat(file.fileno()))  # before a line of it is read
            db.execute("INSERT INTO made_of VALUES (?, ?, ?)", made_of)
            _fill(db, file)
            flips.add(db)
            db.executescript(_INDEXES + queues.INDEXES)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot index {folder}: {error}") from error


def _made_of(file: os.stat_result) -> tuple[int, int, int]:
    """What tells an index of these verdicts from one of others, or of another version."""
    return _VERSION, file.st_size, file.st_mtime_ns


def _fill(db: sqlite3.Connection, file: BinaryIO) -> None:
    facets: dict[str, Counter[str]] = {"reading": Counter(), "category": Counter()}
    facets["model"] = Counter()
    db.execute("BEGIN")
    for n, (at, line) in enumerate(_lines(file), 1):
        verdict = Verdict.from_dict(json.loads(line))
        entry, same = entry_of(verdict), _same(verdict)
        db.execute(
            "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (n, at, len(line), same, *map(sound, _shown(verdict, entry))),
        )
        queues.add(db, n, same, verdict)
        texts = [entry.prompt, *(text for _, text in entry.sides), *(r.text for r in entry.replies)]
        db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (n, sound("\n".join(texts))))
        facets["reading"][entry.reading] += 1
        facets["category"][sound(entry.category)] += 1
        facets["model"].update(sound(model) for model in set(entry.models))
        if n % _ROWS_A_COMMIT == 0:
            db.execute("COMMIT")
            db.execute("BEGIN")
    for name, counts in facets.items():
        rows = [(name, value, count) for value, count in counts.most_common(_MOST_VALUES) if value]
        db.executemany("INSERT INTO facets VALUES (?, ?, ?)", rows)
    db.execute("COMMIT")


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    at = 0
    for line in file:
        yield at, line
        at += len(line)


def _same(verdict: Verdict) -> int:
    """A number that verdicts of two runs share where they judge the same work."""
    names = sorted(candidate.id for candidate in verdict.candidates)
    return int(digest([verdict.kind, verdict.item.id, names])[:15], 16)


def _shown(verdict: Verdict, entry: Entry) -> tuple[str, ...]:
    snippet = " ".join(entry.prompt[: 4 * _SNIPPET].split())[:_SNIPPET]
    models = "".join(f"|{model}|" for model in entry.models)
    return (
        entry.reading,
        entry.badge,
        entry.color,
        entry.title[:200],
        entry.figure,
        snippet,
        entry.category,
        models,
        _outcome(verdict),
    )


def _outcome(verdict: Verdict) -> str:
    """What the verdict says, in a word: what must differ for two to disagree."""
    if verdict.preference is not None:
        winner = verdict.preference.winner
        place = {"A": 0, "B": 1}.get(winner)
        return "tie" if place is None else verdict.candidates[place].id
    if verdict.score is not None:
        return f"{verdict.score.value:g}"
    if verdict.ranking is not None:
        return " > ".join(verdict.ranking.order)
    return f"no verdict ({verdict.cause})"


def is_indexed(folder: Path) -> bool:
    """Whether a run folder has an index that this version made of the verdicts that it holds."""
    path = folder / NAME
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            found = db.execute("SELECT version, size, mtime_ns FROM made_of").fetchone()
        return bool(found == _made_of((folder / "verdicts.jsonl").stat()))
    except (sqlite3.Error, OSError):
        return False


class VerdictIndex:
    """The index of a run, open for reading.

    Raises:
        StoreError: there is none, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._db = sqlite3.connect(
                f"{(folder / NAME).absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise StoreError(f"{folder} has no index that can be read: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def count(self, wanted: Filter) -> int:
        """How many verdicts a filter lets through."""
        where, values = _where(wanted)
        statement = f"SELECT count(*) FROM verdicts {where}"  # noqa: S608
        return int(self._db.execute(statement, values).fetchone()[0])

    def listed(self, wanted: Filter, offset: int = 0) -> list[Row]:
        """The verdicts that a filter lets through, in the run's order, at most 25."""
        where, values = _where(wanted)
        rows = self._db.execute(
            f"SELECT n, badge, color, title, figure, snippet FROM verdicts {where} "  # noqa: S608
            "ORDER BY n LIMIT ? OFFSET ?",
            (*values, PAGE, offset),
        )
        return [Row(*row) for row in rows]

    def beside(self, wanted: Filter, n: int) -> tuple[int | None, int | None]:
        """The places before and after `n` that a filter lets through; None where there is none."""
        where, values = _where(wanted)
        found = (
            self._db.execute(
                f"SELECT {end}(n) FROM verdicts {where} {'AND' if where else 'WHERE'} n {side} ?",  # noqa: S608
                (*values, n),
            ).fetchone()[0]
            for end, side in (("max", "<"), ("min", ">"))
        )
        return next(found), next(found)

    def facet(self, name: str) -> list[tuple[str, int]]:
        """The values of `reading`, `category` or `model` with their counts, most frequent first."""
        rows = self._db.execute(
            "SELECT value, count FROM facets WHERE name = ? ORDER BY count DESC, value", (name,)
        )
        return list(rows)

    def verdict(self, n: int) -> Verdict | None:
        """The verdict at a place of the run, or None where there is none."""
        row = self._db.execute("SELECT at, size FROM verdicts WHERE n = ?", (n,)).fetchone()
        if row is None:
            return None
        with (self._folder / "verdicts.jsonl").open("rb") as file:
            file.seek(row[0])
            return Verdict.from_dict(json.loads(file.read(row[1])))

    @property
    def queues(self) -> Queues:
        """What people should look at first."""
        return Queues(self._db)

    def against(self, other: Path, offset: int = 0) -> tuple[int, int, list[Flip]]:
        """How many pieces of work two runs share, how many came out differently, and 25 of those.

        Raises:
            StoreError: the other run has no index.
        """
        with VerdictIndex(other) as theirs:
            shared, places = flips.differing(self._db, theirs._db)
            shown = places[offset : offset + PAGE].tolist()
            return shared, len(places), [self._flip(n, theirs, m) for n, m in shown]

    def _flip(self, n: int, theirs: VerdictIndex, other: int) -> Flip:
        row = "SELECT title, snippet, outcome FROM verdicts WHERE n = ?"
        title, snippet, outcome = self._db.execute(row, (n,)).fetchone()
        _, _, other_outcome = theirs._db.execute(row, (other,)).fetchone()
        return Flip(n, other, title, snippet, outcome, other_outcome)


def _where(wanted: Filter) -> tuple[str, list[Any]]:
    parts, values = [], list[Any]()
    # SQLite reads a search up to a NUL, which leaves a quotation open
    sought = wanted.words.replace('"', "").replace("\0", " ")
    words = sought.split()[:_MOST_WORDS]
    if words:
        parts.append("n IN (SELECT rowid FROM words WHERE words MATCH ?)")
        values.append(" ".join(f'"{sound(word)}"' for word in words))
    for name in ("reading", "category"):
        if value := getattr(wanted, name):
            parts.append(f"{name} = ?")
            values.append(sound(value))
    if wanted.model:
        parts.append("instr(models, ?)")
        values.append(f"|{sound(wanted.model)}|")
    return ("WHERE " + " AND ".join(parts) if parts else ""), values


def main(folder: Path) -> int:
    """Index a run folder and write its report: what a server does in a process of its own.

    Returns:
        1 where it failed, 0 where it is done; a run that has no report is indexed too.
    """
    from rlaif.report.page import write_page
    from rlaif.report.run_report import run_page

    try:
        build(folder)
        try:
            write_page(run_page(folder), folder / "report.html")
        except (DataError, SpecError) as error:
            print(f"there is no report: {error}", file=sys.stderr)
    except RlaifError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which leaves nothing half made
    sys.exit(main(Path(sys.argv[1])))
