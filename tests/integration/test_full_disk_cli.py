"""A disk that takes no more: one clear line, the store whole, and the same command goes on."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration import disks
from tests.integration.command import REPOSITORY, Result, rlaif, rows, write_rows
from tests.wire import WireServer

PAIRS = 150
REPLY = f"{'It holds up, the other does not. ' * 8}\n\n[[A]]"


@pytest.fixture
def data() -> Path:
    made = (
        {"prompt": f"Question {n}? {'So? ' * 200}", "response_a": "Yes.", "response_b": "No."}
        for n in range(PAIRS)
    )
    return write_rows(Path("d.jsonl"), *made)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with disks.small_disk("256k") as folder:
        yield folder


def _words(data: Path, server: WireServer, run: Path) -> tuple[object, ...]:
    return ("judge", "compare", data, "-m", "server/judge", "--base-url", server.url, "-o", run)


def _short_of_room(home: Path, most_bytes: int, *words: object) -> Result:
    """The command in a process whose files may not grow beyond `most_bytes`."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    done = subprocess.run(
        [sys.executable, "-m", "rlaif", *map(str, words)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "RLAIF_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def _kept(home: Path) -> int:
    """Replies in the store, which is sound."""
    with closing(sqlite3.connect(home / "replies.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return int(db.execute("SELECT count(*) FROM replies").fetchone()[0])


def _goes_on(data: Path, server: WireServer, run: Path, kept: int) -> None:
    """With room, the same command asks only for what is not kept."""
    done = rlaif(*_words(data, server, run), "--json")
    assert (done.code, done.json["ok"]) == (0, PAIRS)
    assert (done.json["calls"], done.json["calls_cached"]) == (2 * PAIRS, kept)
    assert len(rows(run / "verdicts.jsonl")) == PAIRS
    assert not (run / "verdicts.jsonl.partial").exists()


def test_a_full_disk_under_the_store(
    small_disk: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAIF_HOME", str(small_disk))
    with WireServer(lambda _: REPLY) as server:
        done = rlaif(*_words(data, server, Path("run")))
        assert done.code == 1
        assert done.error == (
            f"cannot write to the reply store {small_disk / 'replies.sqlite'}: the disk is full. "
            "What was kept before is safe; make room and run the same again"
        )
        assert not Path("run/verdicts.jsonl").exists()
        assert rlaif(*_words(data, server, Path("run"))).code == 1
        kept = _kept(small_disk)
        assert 0 < kept < 2 * PAIRS
        assert disks.mounted(small_disk, "remount,size=64m")
        _goes_on(data, server, Path("run"), kept)


def test_a_full_disk_under_the_run_folder(small_disk: Path, data: Path, home: Path) -> None:
    run = small_disk / "run"
    with WireServer(lambda _: REPLY) as server:
        done = rlaif(*_words(data, server, run))
        assert done.code == 1
        assert done.error == f"cannot write {run / 'verdicts.jsonl'}: No space left on device"
        assert sorted(p.name for p in run.iterdir()) == ["config.json", "verdicts.jsonl.partial"]
        kept = _kept(home)
        assert disks.mounted(small_disk, "remount,size=64m")
        _goes_on(data, server, run, kept)


def test_a_store_that_may_not_grow(data: Path, home: Path) -> None:
    with WireServer(lambda _: REPLY) as server:
        done = _short_of_room(home, 64 << 10, *_words(data, server, Path("run")))
        assert done.code == 1
        assert done.error.startswith(f"cannot write to the reply store {home / 'replies.sqlite'}: ")
        assert done.error.endswith(
            "(a full disk, a quota or a limit on file sizes). What was kept before is safe; run "
            "the same again when it is mended"
        )
        kept = _kept(home)
        assert 0 < kept < 2 * PAIRS
        _goes_on(data, server, Path("run"), kept)


def test_a_run_folder_whose_files_may_not_grow(data: Path, home: Path) -> None:
    with WireServer(lambda _: REPLY) as server:
        assert rlaif(*_words(data, server, Path("first"))).code == 0
        done = _short_of_room(home, 64 << 10, *_words(data, server, Path("run")))
        assert done.code == 1
        assert done.error == "cannot write run/verdicts.jsonl: File too large"
        _goes_on(data, server, Path("run"), 2 * PAIRS)
