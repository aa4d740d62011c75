from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rlaif.canonical import canonical_json
from rlaif.errors import StoreError
from rlaif.store import schema
from rlaif.store.replies import ReplyStore
from rlaif.store.upkeep import prune
from rlaif.types import Completion, TokenLogprob, Usage, as_dict

ROWS = [
    (
        hashlib.sha256(str(i).encode()).hexdigest(),
        Completion(
            f"reply {i} \ud800 " * (1 + i % 40),
            finish_reason="length" if i % 7 == 0 else "stop",
            model=f"m{i % 3}",
            tokens=(TokenLogprob("a", -0.5, (("a", -0.5), ("b", -1.0))),) if i % 5 == 0 else (),
            thinking="hm" * (i % 3),
            usage=Usage(i, 1, 2),
            latency_s=i / 8,
            cost_usd=None if i % 2 else i / 1000,
        ),
    )
    for i in range(120)
]


def first_version(path: Path, rows: list[tuple[str, Completion]]) -> Path:
    """A store as the first version wrote it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(
            "CREATE TABLE replies (digest TEXT PRIMARY KEY, model TEXT NOT NULL, "
            "completion TEXT NOT NULL, created_s REAL NOT NULL) WITHOUT ROWID"
        )
        db.execute(f"PRAGMA application_id = {0x524C4149}")
        db.execute("PRAGMA user_version = 1")
        db.execute("PRAGMA journal_mode = WAL")
        for i, (key, c) in enumerate(rows):
            plain = as_dict(c) | {"cached": False}
            row = (key, c.model, canonical_json(plain), 1000.5 + i)
            db.execute("INSERT INTO replies VALUES (?, ?, ?, ?)", row)
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return schema.pragma(db, "user_version")


def test_a_store_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = first_version(tmp_path / "r.sqlite", ROWS)
    for _ in range(2):
        with ReplyStore(path) as store:
            assert len(store) == len(ROWS)
            for key, completion in ROWS:
                found = store.get(key)
                assert found is not None
                assert as_dict(found) | {"cached": False} == as_dict(completion)
            times = store.execute("SELECT created_s FROM replies ORDER BY rowid")
            assert times == [(1000.5 + i,) for i in range(len(ROWS))]
            assert store.execute("SELECT name FROM sqlite_master WHERE type = 'table'") == [
                ("replies",)
            ]
        assert version(path) == schema.VERSION
    with ReplyStore(path) as store:  # the first version could not shrink; pruning does
        before = path.stat().st_size
        assert prune(store, older_than_s=0).n == len(ROWS)
        assert path.stat().st_size < before / 3
        assert store.execute("PRAGMA auto_vacuum") == [(2,)]


def test_an_interrupted_update_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = first_version(tmp_path / "r.sqlite", ROWS)
    seen = 0

    def interrupted(completion: Completion) -> tuple[object, ...]:
        nonlocal seen
        seen += 1
        if seen == 60:
            raise KeyboardInterrupt
        return pack(completion)

    pack = schema.pack
    monkeypatch.setattr(schema, "pack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ReplyStore(path)
    assert version(path) == 1
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM replies").fetchone() == (len(ROWS),)
    monkeypatch.undo()
    with ReplyStore(path) as store:
        assert len(store) == len(ROWS)


@pytest.mark.parametrize("bad", ["{", json.dumps({"text": 5}), "[]", '"x"'])
def test_a_damaged_row_of_the_first_version_is_named(tmp_path: Path, bad: str) -> None:
    path = first_version(tmp_path / "r.sqlite", ROWS)
    key = ROWS[50][0]
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE replies SET completion = ? WHERE digest = ?", (bad, key))
    with pytest.raises(StoreError, match=rf"{key} .* is damaged .* left as it was"):
        ReplyStore(path)
    assert version(path) == 1


@pytest.mark.parametrize("number", [0, 3, 99, -1])
def test_a_schema_of_another_version_is_left_untouched(tmp_path: Path, number: int) -> None:
    path = tmp_path / "r.sqlite"
    ReplyStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {number}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"has schema {number}, .* left untouched"):
        ReplyStore(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.sqlite"]


def test_the_second_of_two_processes_finds_the_work_done(tmp_path: Path) -> None:
    path = first_version(tmp_path / "r.sqlite", ROWS)
    with ReplyStore(path) as one, ReplyStore(path) as other:
        schema._migrate(other._db, path)
        schema._create(other._db, path)
        assert len(one) == len(other) == len(ROWS)
