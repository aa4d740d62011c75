from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from rlaif.errors import StoreError
from rlaif.store.replies import ReplyStore
from rlaif.types import Completion, TokenLogprob, Usage

RICH = Completion(
    "café \ud800 \x00 end",
    finish_reason="length",
    model="m",
    tokens=(TokenLogprob("a", -0.5, (("a", -0.5), ("b", -1.0))),),
    usage=Usage(10, 4, 3),
    latency_s=0.25,
)


def test_what_was_put_comes_back_marked_as_cached(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "deep" / "replies.sqlite") as store:
        store.put_many([("k", RICH)])
        found = store.get("k")
        assert store.get("other") is None
        assert len(store) == 1
    assert found is not None
    assert found.cached
    assert (found.text, found.tokens, found.usage) == (RICH.text, RICH.tokens, RICH.usage)


def test_the_first_completion_of_a_key_stays(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        store.put_many([("k", Completion("one"))])
        store.put_many([("k", Completion("two")), ("l", Completion("three"))])
        assert [c.text for key in "kl" if (c := store.get(key))] == ["one", "three"]


def test_a_group_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        bad = ("b", Completion("x", latency_s=float("nan")))
        with pytest.raises(ValueError, match="JSON"):
            store.put_many([("a", Completion("x")), bad])
        assert len(store) == 0


def test_another_programs_database_is_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's database"):
        ReplyStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all, just some text" * 50, b"SQLite"])
def test_a_file_that_is_no_database_is_left_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not a readable reply store"):
        ReplyStore(path)
    assert path.read_bytes() == content


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    ReplyStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="schema 99"):
        ReplyStore(path)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot open"):
        ReplyStore(tmp_path / "file" / "r.sqlite")


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="cannot use"):
        store.get("k")


def _write(path: Path, name: int) -> None:
    with ReplyStore(path) as store:
        for i in range(50):
            store.put_many([(f"{name}-{i}", Completion("x")), (f"shared-{i}", Completion("y"))])


def test_processes_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "r.sqlite"
    workers = [context.Process(target=_write, args=(path, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0, 0, 0]
    with ReplyStore(path) as store:
        assert len(store) == 200
