"""The book of batches: what was sent, across processes and for as long as providers keep it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from rlaif.errors import StoreError
from rlaif.store.batches import KEPT_S, BatchBook


def digests(*numbers: int) -> list[str]:
    return [f"{number:064x}" for number in numbers]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "batches.sqlite"


def test_a_batch_is_found_by_its_digests_after_a_restart(path: Path) -> None:
    with BatchBook(path) as book:
        batch = book.intend("openai/judge", digests(*range(1200)))
        assert (batch.model, batch.size, batch.batch_id) == ("openai/judge", 1200, None)
    with BatchBook(path) as book:
        assert book.holding(digests(3, 1100, 5000)) == {batch: digests(3, 1100)}
        assert book.ids() == set()
        named = book.submitted(batch, "batch_1")
        assert named.batch_id == "batch_1"
    with BatchBook(path) as book:
        assert book.holding(digests(*range(2000))) == {named: digests(*range(1200))}
        assert book.ids() == {"batch_1"}


def test_a_digest_belongs_to_the_batch_it_was_sent_in_last(path: Path) -> None:
    with BatchBook(path) as book:
        first = book.intend("m", digests(1, 2, 3))
        second = book.intend("m", digests(2))
        assert book.holding(digests(1, 2, 3)) == {first: digests(1, 3), second: digests(2)}
        # what the first one lets go of later is not the second one's
        book.drop(first, digests(2, 3))
        assert book.holding(digests(1, 2, 3)) == {first: digests(1), second: digests(2)}


def test_a_batch_that_is_forgotten_holds_nothing(path: Path) -> None:
    with BatchBook(path) as book:
        batch = book.submitted(book.intend("m", digests(1, 2)), "b")
        other = book.intend("m", digests(3))
        book.forget(batch)
        assert book.holding(digests(1, 2, 3)) == {other: digests(3)}
        assert book.ids() == set()


def test_what_providers_keep_no_longer_is_taken_out(path: Path) -> None:
    with BatchBook(path) as book:
        old = book.submitted(book.intend("m", digests(1)), "old")
        young = book.submitted(book.intend("m", digests(2)), "young")
    with closing(sqlite3.connect(path)) as db, db:
        at = time.time() - KEPT_S - 1
        db.execute("UPDATE batches SET created_s = ? WHERE token = ?", (at, old.token))
    with BatchBook(path) as book:
        assert book.holding(digests(1, 2)) == {young: digests(2)}
        assert book.ids() == {"young"}


def test_two_processes_write_at_once(path: Path) -> None:
    with BatchBook(path) as one, BatchBook(path) as other:
        a, b = one.intend("m", digests(1)), other.intend("m", digests(2))
        assert one.holding(digests(1, 2)) == other.holding(digests(1, 2))
        assert set(one.holding(digests(1, 2))) == {a, b}


def test_a_file_of_another_program_is_left_untouched(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's database; it is left untouched"):
        BatchBook(path)
    assert path.read_bytes() == before


def test_a_newer_file_is_left_untouched(path: Path) -> None:
    BatchBook(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreError, match="has schema 9, this version reads up to 1"):
        BatchBook(path)


def test_what_is_no_database_is_said(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("x" * 5000)
    with pytest.raises(StoreError, match="is not a readable book of batches"):
        BatchBook(path)
    with pytest.raises(StoreError, match="cannot open"):
        BatchBook(path.parent)
    with pytest.raises(StoreError, match="cannot open the book of batches"):
        BatchBook(path / "below" / "b.sqlite")


def test_a_full_or_closed_file_is_an_error_and_nothing_is_half_written(path: Path) -> None:
    book = BatchBook(path)
    book.close()
    book.close()
    with pytest.raises(StoreError, match="cannot use the book of batches"):
        book.intend("m", digests(1))
    with BatchBook(path) as again:
        with pytest.raises(ValueError, match="non-hexadecimal"):
            again.intend("m", [*digests(1), "no digest"])
        assert again.holding(digests(1)) == {}
