from __future__ import annotations

import gc
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from rlaif.errors import ConfigError, StoreError
from rlaif.store import locks
from rlaif.store.locks import Claims, lock_file, lock_folder

REPOSITORY = Path(__file__).resolve().parents[3]


def in_another_process(code: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from pathlib import Path\nfrom rlaif.store.locks import *\n{code}",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_claim_is_held_once(tmp_path: Path) -> None:
    keys = [secrets.token_bytes(32) for _ in range(200)]
    one, other = Claims(tmp_path / "c"), Claims(tmp_path / "c")
    assert all(one.take(key) for key in keys)
    assert not any(one.take(key) or other.take(key) for key in keys)
    asked = f"c = Claims(Path({str(tmp_path / 'c')!r}))\nprint(c.take({keys[0]!r}))"
    assert in_another_process(asked) == "False"
    one.drop(keys[0])
    one.drop(keys[0])
    assert in_another_process(asked) == "True"  # and its end lets go
    assert other.take(keys[0])
    assert not one.take(keys[0])
    one.close()
    one.close()
    assert all(other.take(key) for key in keys[1:])
    other.close()


def test_where_there_are_no_locks_this_process_is_kept_from_asking_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = Claims(tmp_path / "c")
    monkeypatch.setattr(locks, "LOCKS", False)
    assert claims.take(b"k" * 32)
    assert not claims.take(b"k" * 32)
    claims.drop(b"k" * 32)
    assert claims.take(b"k" * 32)
    assert not (tmp_path / "c").exists()
    assert lock_folder(tmp_path) is not None


def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "fcntl", refuse)
    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    claims = Claims(tmp_path / "c")
    assert claims.take(b"k" * 32)
    assert not claims.take(b"k" * 32)
    claims.close()
    assert lock_folder(tmp_path) is not None
    os.close(lock_file(tmp_path / "x"))


def test_locks_of_a_process_do_where_there_are_none_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_LINUX", False)
    claims = Claims(tmp_path / "c")
    assert claims.take(b"k" * 32)
    asked = (
        f"import rlaif.store.locks as l; l._LINUX = False\n"
        f"print(Claims(Path({str(tmp_path / 'c')!r})).take({b'k' * 32!r}))"
    )
    assert in_another_process(asked) == "False"
    claims.drop(b"k" * 32)
    assert in_another_process(asked) == "True"
    claims.close()


def test_claims_that_cannot_be_made_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a file")
    with pytest.raises(StoreError, match="cannot claim requests"):
        Claims(tmp_path / "c").take(b"k" * 32)


def test_a_folder_is_one_processs_as_long_as_it_wants(tmp_path: Path) -> None:
    asked = (
        f"try:\n    lock = lock_folder(Path({str(tmp_path)!r}))\n    print('ours')\n"
        "except ConfigError as error:\n    print(error)"
    )
    lock = lock_folder(tmp_path)
    assert lock_folder(tmp_path / ".") is lock
    assert "another process is writing to" in in_another_process(asked)
    del lock
    gc.collect()
    assert in_another_process(asked) == "ours"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        lock_folder(tmp_path / "none")


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    path.write_text("what a killed process left")
    first = lock_file(path)
    assert path.read_text() == ""
    os.write(first, b"ours")
    with pytest.raises(BlockingIOError, match="another writer"):
        lock_file(path)
    assert path.read_text() == "ours"
    path.rename(tmp_path / "x")  # it has its final name now
    second = lock_file(path)
    os.close(first)
    os.close(second)
    assert (tmp_path / "x").read_text() == "ours"
    assert path.read_text() == ""


def test_a_writer_who_was_first_to_finish_keeps_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, final = tmp_path / "x.partial", tmp_path / "x"
    path.write_text("done")
    lock = locks._try_lock

    def late(file: int) -> None:  # between our open and our lock the other one renames
        if not final.exists():
            path.rename(final)
        lock(file)

    monkeypatch.setattr(locks, "_try_lock", late)
    os.close(lock_file(path))
    assert final.read_text() == "done"
    assert path.read_text() == ""
