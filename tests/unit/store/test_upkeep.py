from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import SpecError, StoreError
from rlaif.store.replies import ReplyStore
from rlaif.store.upkeep import ModelShare, export_rows, file_bytes, import_rows, prune, shares
from rlaif.types import Completion, Usage

DAY_S = 86_400.0


def key(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReplyStore]:
    with ReplyStore(tmp_path / "r.sqlite") as opened:
        yield opened


def fill(store: ReplyStore, n: int, model: str, *, days_ago: float = 0, size: int = 50) -> None:
    rows = [
        (
            key((model, i)),
            Completion(
                "".join(key((model, i, part)) for part in range(1 + size // 64)),
                model=model,
                usage=Usage(100, 40, 10),
                cost_usd=0.25 if i % 2 else None,
            ),
        )
        for i in range(n)
    ]
    store.put_many(rows, created_s=time.time() - days_ago * DAY_S)


def test_an_empty_store_has_no_shares(store: ReplyStore) -> None:
    assert shares(store) == []
    assert prune(store, older_than_s=0).n == 0
    assert prune(store, most_bytes=0).n == 0
    assert list(export_rows(store)) == []


def test_each_models_share_is_told(store: ReplyStore) -> None:
    fill(store, 4, "b", days_ago=2)
    fill(store, 3, "a")
    store.put_many([(key("odd"), Completion("x", model="m\ud800"))], created_s=5.0)
    first, second, odd = shares(store)
    assert first == ModelShare("b", 4, 400, 160, 40, 0.5, 2, first.oldest_s, first.newest_s)
    assert second.model == "a"
    assert second.n_unpriced == 2
    assert second.oldest_s - first.newest_s == pytest.approx(2 * DAY_S, abs=60)
    assert odd == ModelShare(odd.model, 1, 0, 0, 0, 0.0, 1, 5.0, 5.0)
    assert odd.model.isascii()
    found = store.get(key("odd"))
    assert found is not None
    assert found.model == "m\ud800"


def test_conditions_of_pruning_are_met_together(store: ReplyStore) -> None:
    fill(store, 30, "gpt-5.1", days_ago=40)
    fill(store, 20, "gpt-5.1-mini", days_ago=1)
    fill(store, 10, "claude", days_ago=40)
    what: dict[str, Any] = {"older_than_s": 30 * DAY_S, "model": "gpt*"}
    assert prune(store, **what, dry_run=True).n == 30
    assert len(store) == 60
    assert prune(store, **what).n == 30
    assert [(s.model, s.n) for s in shares(store)] == [("gpt-5.1-mini", 20), ("claude", 10)]
    assert prune(store, model="GPT*").n == 0
    assert prune(store, model="gpt-5.1").n == 0
    assert prune(store, older_than_s=0).n == 30


def test_pruning_frees_what_it_says(store: ReplyStore) -> None:
    fill(store, 1500, "old", days_ago=9, size=2000)
    fill(store, 500, "new", size=2000)
    before = file_bytes(store)
    told = prune(store, model="old", dry_run=True)
    done = prune(store, model="old")
    assert told.n == done.n == 1500
    assert file_bytes(store) == before - done.freed_bytes
    assert done.freed_bytes > 0.5 * before
    assert told.freed_bytes == pytest.approx(done.freed_bytes, rel=0.4)
    assert store.execute("PRAGMA integrity_check") == [("ok",)]
    assert len(store.kept(key(("new", i)) for i in range(500))) == 500


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_oldest_go_until_the_file_is_small_enough(store: ReplyStore, share: float) -> None:
    for day in range(20, 0, -1):
        fill(store, 100, f"day {day}", days_ago=day, size=700)
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    most = round(share * file_bytes(store))
    told = prune(store, most_bytes=most, dry_run=True)
    assert prune(store, most_bytes=most).n == pytest.approx(told.n, rel=0.15)
    assert 0.8 * most <= file_bytes(store) <= most
    left = {s.model: s.n for s in shares(store)}
    gone = [day for day in range(20, 0, -1) if f"day {day}" not in left]
    assert gone == list(range(20, 20 - len(gone), -1))
    assert sum(n < 100 for n in left.values()) <= 1
    assert prune(store, most_bytes=most).n == 0


def test_damaged_replies_are_taken_out_and_only_they(store: ReplyStore) -> None:
    fill(store, 1200, "m", size=600)
    store.execute("UPDATE replies SET text = x'00' WHERE rowid IN (3, 700)")
    with pytest.raises(StoreError, match="is damaged"):
        list(export_rows(store))
    assert prune(store, damaged=True, model="other").n == 0
    assert prune(store, damaged=True, dry_run=True).n == 2
    assert prune(store, damaged=True).n == 2
    assert len(list(export_rows(store))) == 1198


def test_replies_move_to_another_store(store: ReplyStore, tmp_path: Path) -> None:
    fill(store, 700, "a", days_ago=3)
    fill(store, 10, "b")
    lines = [json.dumps(row) for row in export_rows(store)]
    assert len(lines) == 710
    assert len(list(export_rows(store, model="b"))) == 10
    assert set(json.loads(lines[0])) == {"digest", "created_s", "completion"}
    with ReplyStore(tmp_path / "other.sqlite") as other:
        mine = Completion("mine")
        other.put_many([(key(("a", 0)), mine)])
        rows = [(n, json.loads(line)) for n, line in enumerate(lines, 1)]
        assert import_rows(other, rows) == 709
        assert import_rows(other, rows) == 0
        kept = other.get(key(("a", 0)))
        assert kept is not None
        assert kept.text == "mine"
        for name in ("a", 5), ("b", 5):
            assert other.get(key(name)) == store.get(key(name))
        assert [s.oldest_s for s in shares(other)][1] == [s.oldest_s for s in shares(store)][1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"digest": "A" * 64}, "digest"),
        ({"digest": 5}, "digest"),
        ({"created_s": "now"}, "created_s"),
        ({"created_s": True}, "created_s"),
        ({"created_s": 10**400}, "created_s"),
        ({"created_s": -1.0}, "created_s"),
        ({"completion": {"text": 5}}, "completion"),
        ({"completion": {"text": "x", "usage": {"input": 2**70}}}, "completion"),
        ({"surprise": 1}, None),
    ],
)
def test_a_line_that_is_no_reply_is_named(
    store: ReplyStore, change: dict[str, Any], field: str | None
) -> None:
    row = {"digest": key(1), "created_s": 1.0, "completion": {"text": "x"}}
    with pytest.raises(SpecError) as caught:
        import_rows(store, [(1, row), (7, row | change)])
    assert (caught.value.line, caught.value.field) == (7, field)
