"""What came out differently in two runs, as looking at every pair of verdicts would find it."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from rlaif.service import flips

RUNS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["a", "b", "tie", "é"])), max_size=12)
Rows = list[tuple[int, str]]


def indexed(rows: Rows) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE verdicts (n INTEGER PRIMARY KEY, same INTEGER, outcome TEXT)")
    db.executescript(flips.TABLE)
    db.executemany("INSERT INTO verdicts (same, outcome) VALUES (?, ?)", rows)
    flips.add(db)
    return db


def by_work(rows: Rows) -> dict[tuple[int, int], tuple[int, str]]:
    """The place and the outcome of each piece of work and its repeats."""
    seen: defaultdict[int, int] = defaultdict(int)
    found = {}
    for n, (same, outcome) in enumerate(rows, 1):
        found[same, seen[same]] = (n, outcome)
        seen[same] += 1
    return found


@given(one=RUNS, other=RUNS)
def test_flips_are_those_of_every_piece_of_work_that_both_runs_judged(
    one: Rows, other: Rows
) -> None:
    mine, theirs = by_work(one), by_work(other)
    shared = sorted((mine[key], theirs[key]) for key in mine.keys() & theirs.keys())
    wanted = [[n, m] for (n, a), (m, b) in shared if a != b]
    with closing(indexed(one)) as first, closing(indexed(other)) as second:
        count, places = flips.differing(first, second)
    assert count == len(shared)
    assert places.tolist() == wanted
