from __future__ import annotations

import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlaif.errors import StoreError
from rlaif.store.secret import load_secret


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    first = load_secret(home)
    assert len(first) == 32
    assert load_secret(home) == first
    assert [path.name for path in home.iterdir()] == ["secret"]
    assert load_secret(tmp_path / "other") != first


@pytest.mark.skipif(sys.platform == "win32", reason="no modes there")
def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_secret(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_of_many_at_once_one_wins_and_all_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: load_secret(tmp_path), range(64)))
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_file_that_is_no_secret_is_an_error_that_says_what_to_do(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(StoreError, match=rf"secret has {len(content)} bytes, not 32: remove it"):
        load_secret(tmp_path)


def test_a_home_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot be kept"):
        load_secret(tmp_path / "file")
