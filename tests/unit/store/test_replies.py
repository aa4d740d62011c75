from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import sqlite3
import time
from pathlib import Path

import pytest

from rlaif.errors import StoreError
from rlaif.store import replies, schema
from rlaif.store.checkpoint import checkpoint
from rlaif.store.replies import ReplyStore
from rlaif.types import Completion, TokenLogprob, Usage


def key(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


K, L = key("k"), key("l")
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
        store.put_many([(K, RICH)])
        found = store.get(K)
        assert store.get(key("other")) is None
        assert len(store) == 1
    assert found is not None
    assert found.cached
    assert (found.text, found.tokens, found.usage) == (RICH.text, RICH.tokens, RICH.usage)


def test_the_first_completion_of_a_key_stays(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        store.put_many([(K, Completion("one"))])
        store.put_many([(K, Completion("two")), (L, Completion("three"))])
        assert [c.text for k in (K, L) if (c := store.get(k))] == ["one", "three"]


def test_a_group_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        bad = (K, Completion("x", latency_s=float("nan")))
        with pytest.raises(ValueError, match="not a finite number"):
            store.put_many([(L, Completion("x")), bad])
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
        store.get(K)
    with pytest.raises(StoreError, match="cannot write"):
        store.put_many([(K, RICH)])


def _write(path: Path, name: int) -> None:
    with ReplyStore(path) as store:
        for i in range(50):
            store.put_many([(key((name, i)), Completion("x")), (key(i), Completion("y"))])


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


@pytest.mark.parametrize("bad", ["k", "0" * 63, "g" * 64, "00" * 33, "é" * 64])
def test_a_key_that_is_no_digest_is_a_bug(tmp_path: Path, bad: str) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store, pytest.raises(ValueError, match="64 hex"):
        store.get(bad)


def test_more_rows_than_one_statement_takes_are_still_one_transaction(tmp_path: Path) -> None:
    n = 3 * replies._ROWS_A_STATEMENT + 1
    with ReplyStore(tmp_path / "r.sqlite") as store:
        store.put_many((key(i), Completion(str(i))) for i in range(n))
        assert len(store) == n
        assert store.kept(key(i) for i in range(-5, n + 5)) == {key(i) for i in range(n)}
        store.execute("CREATE TRIGGER no BEFORE INSERT ON replies WHEN NEW.model = 'stop' "
                      "BEGIN SELECT RAISE(ABORT, 'stopped'); END")  # fmt: skip
        late = [(key(-i - 1), Completion("x")) for i in range(n)]
        with pytest.raises(StoreError, match="stopped"):
            store.put_many([*late, (key("last"), Completion("x", model="stop"))])
        assert len(store) == n
        store.put_many(late)
        assert len(store) == 2 * n


def test_what_tasks_keep_in_one_turn_is_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    write = ReplyStore._write

    def counted(self: ReplyStore, rows: list[replies.Row]) -> None:
        writes.append(len(rows))
        write(self, rows)

    monkeypatch.setattr(ReplyStore, "_write", counted)

    async def work(store: ReplyStore) -> None:
        await asyncio.gather(*(store.keep([(key(i), Completion(str(i)))]) for i in range(50)))

    with ReplyStore(tmp_path / "r.sqlite") as store:
        asyncio.run(work(store))
        assert writes == [50]
        assert [c.text for i in range(50) if (c := store.get(key(i)))] == [*map(str, range(50))]


def test_one_row_that_cannot_be_kept_does_not_spoil_the_others(tmp_path: Path) -> None:
    async def work(store: ReplyStore) -> list[object]:
        bad = Completion("x", usage=Usage(input=2**70))
        return await asyncio.gather(
            store.keep([(K, bad)]), store.keep([(L, RICH)]), return_exceptions=True
        )

    with ReplyStore(tmp_path / "r.sqlite") as store:
        failed, kept = asyncio.run(work(store))
        assert isinstance(failed, ValueError)
        assert kept is None
        assert store.kept([K, L]) == {L}


def test_a_caller_who_is_cancelled_has_paid_and_keeps_the_reply(tmp_path: Path) -> None:
    async def work(store: ReplyStore) -> None:
        tasks = [asyncio.ensure_future(store.keep([(k, RICH)])) for k in (K, L)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [task.cancelled() for task in tasks] == [True, False]

    with ReplyStore(tmp_path / "r.sqlite") as store:
        asyncio.run(work(store))
        assert len(store) == 2


def test_what_the_loop_did_not_come_to_write_is_written_at_the_end(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    with ReplyStore(tmp_path / "r.sqlite") as store:
        keeping = store.keep([(K, RICH)])

        async def step() -> None:
            keeping.send(None)

        loop.call_soon(loop.stop)
        loop.run_until_complete(step())
        keeping.close()
        loop.close()
        assert store.get(K) is None
    with ReplyStore(tmp_path / "r.sqlite") as store:
        assert store.get(K) is not None


def test_writers_wait_for_each_other_and_the_loop_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"

    async def work(store: ReplyStore, other: sqlite3.Connection) -> int:
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.ensure_future(store.keep([(K, RICH)]))
        turns = 0
        for _ in range(20):
            await asyncio.sleep(0.002)
            turns += 1
        second = asyncio.ensure_future(store.keep([(L, RICH)]))
        await asyncio.sleep(0.002)
        assert not task.done()
        assert store.get(K) is None
        other.execute("COMMIT")
        await asyncio.gather(task, second)
        return turns

    with ReplyStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        assert asyncio.run(work(store, other)) == 20
        assert len(store) == 2
        other.close()


def test_patience_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.sqlite"
    with ReplyStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(replies, "PATIENCE_S", 0.05)
        monkeypatch.setattr("rlaif.store.failures.PATIENCE_S", 0.05)
        with pytest.raises(StoreError, match=r"cannot write.*locked"):
            asyncio.run(store.keep([(K, RICH)]))
        with pytest.raises(StoreError, match=r"cannot write.*locked"):
            store.put_many([(K, RICH)])
        other.execute("ROLLBACK")
        other.close()
        store.put_many([(K, RICH)])


def test_a_claim_is_for_one_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"

    async def work(one: ReplyStore, other: ReplyStore) -> None:
        assert await one.claim(K) is None
        waiting = [asyncio.ensure_future(s.claim(K)) for s in (one, other)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        one.release(K)  # the call failed: one of the others is next
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.05)
        assert [task.result() for task in done] == [None]
        assert not any(task.done() for task in pending)
        owner = one if done == {waiting[0]} else other
        await owner.keep([(K, RICH)])
        (last,) = await asyncio.gather(*pending)
        assert last is not None
        assert last.text == RICH.text
        for store in (one, other):  # and the claim has ended
            assert (await store.claim(K)) == last
            assert store._claims.take(bytes.fromhex(K))
            store.release(K)

    with ReplyStore(path) as one, ReplyStore(path) as other:
        asyncio.run(work(one, other))


def test_a_claim_on_a_damaged_reply_ends(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        store.put_many([(K, RICH)])
        store.execute("UPDATE replies SET finish = 7")
        for _ in range(2):
            with pytest.raises(StoreError, match=rf"{K} .* is damaged .*--damaged"):
                asyncio.run(store.claim(K))


def test_replies_are_recalled_together(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        store.put_many((key(i), Completion(str(i))) for i in range(0, 1400, 2))
        found = store.recall([key(i) for i in range(1400)])
        assert {k: c.text for k, c in found.items()} == {key(i): str(i) for i in range(0, 1400, 2)}
        assert all(c.cached for c in found.values())
        assert found[key(2)] == store.get(key(2))
        assert store.recall([]) == {}
        store.execute("UPDATE replies SET finish = 7")
        with pytest.raises(StoreError, match=rf"{key(4)} .* is damaged .*--damaged"):
            store.recall([key(4)])


def test_a_long_wait_for_another_process_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replies, "_TELL_AFTER_S", 0.03)
    path = tmp_path / "r.sqlite"

    async def work(one: ReplyStore, other: ReplyStore) -> None:
        assert await one.claim(K) is None
        waiting = asyncio.ensure_future(other.claim(K))
        await asyncio.sleep(0.2)
        one.release(K)
        assert await waiting is None

    with ReplyStore(path) as one, ReplyStore(path) as other:
        asyncio.run(work(one, other))
    assert [r.message.split(":")[0] for r in caplog.records] == [
        "another process is asking for replies that are needed here too"
    ]


def test_a_forked_process_opens_its_own(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        store.put_many([(K, RICH)])
        store._process = os.getpid() + 1  # as a child sees it
        for use in (lambda: store.get(K), lambda: store.put_many([(L, RICH)]), lambda: len(store)):
            with pytest.raises(StoreError, match="before this process forked"):
                use()
        with pytest.raises(StoreError, match="before this process forked"):
            asyncio.run(store.keep([(L, RICH)]))
        store.close()  # leaves the parent's file alone
        store._process = os.getpid()
        assert store.get(K) is not None


def test_a_file_cut_short_is_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with ReplyStore(path) as store:
        store.put_many((key(i), Completion(key(i) * 3)) for i in range(500))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=r"not a readable reply store .*malformed"):
        ReplyStore(path)
    assert path.read_bytes() == whole[: len(whole) // 2]
    path.write_bytes(whole)
    with ReplyStore(path) as store:
        assert len(store) == 500


def test_a_damaged_page_is_said(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with ReplyStore(path) as store:
        store.put_many((key(i), Completion(key(i) * 3)) for i in range(500))
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * (path.stat().st_size - 4096 * 2))
    with ReplyStore(path) as store, pytest.raises(StoreError, match=r"malformed|damaged"):
        assert [store.get(key(i)) for i in range(500)] == []


def test_new_rows_reach_the_file_without_anybody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlaif.store.checkpoint._EVERY_S", 0.01)
    path = tmp_path / "r.sqlite"
    with ReplyStore(path) as store:
        store.put_many((key(i), Completion(key(i) * 3)) for i in range(500))
        deadline = time.monotonic() + 10
        while path.stat().st_size < 100_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_size >= 100_000


def test_a_long_log_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlaif.store.checkpoint._EVERY_S", 3600)
    monkeypatch.setattr("rlaif.store.checkpoint._LONGEST_LOG_PAGES", 10)
    path = tmp_path / "r.sqlite"
    with ReplyStore(path) as store:
        sizes: list[int] = []
        for part in range(3):
            rows = [(key((part, i)), Completion(key((part, i)))) for i in range(200)]
            store.put_many(rows)
            checkpoint(path)
            sizes.append(schema.wal_bytes(path))
        assert sizes[2] <= 1.5 * sizes[0]
