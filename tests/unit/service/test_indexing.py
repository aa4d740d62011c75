"""Indexes and tables of runs: of the verdicts that are there, and whole or not at all."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rlaif.service import results
from rlaif.service.errors import Problem
from rlaif.service.files import csv_parts, made_whole
from rlaif.service.index import NAME, VerdictIndex, build, is_indexed, main
from rlaif.service.indexing import Indexer
from rlaif.types import Verdict
from tests.builders import verdict
from tests.unit.service.test_pages import write
from tests.unit.service.test_ratings import scored


def rewrite(folder: Path, *verdicts: Verdict) -> None:
    """Other verdicts in the place of those of a run, as when it is done again."""
    again = write(folder.with_name("again"), *verdicts) / "verdicts.jsonl"
    again.replace(folder / "verdicts.jsonl")
    again.parent.rmdir()


def test_an_index_of_other_verdicts_than_are_there_is_none(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", verdict("v1", 0.9), verdict("v2", 0.2))
    build(folder)
    kept = shutil.copyfile(folder / NAME, tmp_path / NAME)
    assert is_indexed(folder)
    # an indexing of the run as it was ends after it was done again
    rewrite(folder, verdict("v1", 0.7), verdict("v2", 0.2))
    shutil.move(kept, folder / NAME)
    assert not is_indexed(folder)
    build(folder)
    assert is_indexed(folder)
    with VerdictIndex(folder) as index:
        assert index.verdict(1) == verdict("v1", 0.7)
    (folder / "verdicts.jsonl").unlink()
    assert not is_indexed(folder)


def test_verdicts_that_change_while_they_are_indexed_are_indexed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlaif.service import index

    folder = write(tmp_path / "run", verdict("v1", 0.9))
    adds = index.flips.add

    def meanwhile(db: object) -> None:
        rewrite(folder, verdict("v1", 0.2))
        adds(db)  # type: ignore[arg-type]

    monkeypatch.setattr(index.flips, "add", meanwhile)
    build(folder)
    assert not is_indexed(folder)


def test_a_run_that_cannot_be_indexed_is_told_once_and_not_tried_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path / "runs", verdict()) / "run"
    write(folder, verdict("v1", prompt="the secret"))
    monkeypatch.setattr(sys, "executable", shutil.which("false"))

    async def look() -> None:
        indexer = Indexer(tmp_path)
        assert not indexer.ready("run")
        assert indexer.busy("run")
        await asyncio.gather(*indexer._under_way.values())
        for _ in range(3):
            with pytest.raises(Problem, match="could not be indexed") as problem:
                indexer.ready("run")
        assert 0 < (problem.value.retry_after_s or 0) <= 60
        assert not indexer.busy("run")
        monkeypatch.setattr("rlaif.service.indexing._AGAIN_S", 0.0)
        assert not indexer.ready("run")
        await indexer.stop()
        monkeypatch.undo()
        indexer.renew("run")  # done again: what failed earlier is forgotten
        assert indexer.busy("run")
        await indexer.stop()

    asyncio.run(look())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"run run cannot be indexed (status 1); python -m rlaif.service.index {folder}" in (
        record.getMessage()
    )


def test_an_indexing_that_is_ended_leaves_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", verdict())
    (folder / "verdicts.jsonl").unlink()
    os.mkfifo(folder / "verdicts.jsonl")  # which it waits for
    command = [sys.executable, "-m", "rlaif.service.index", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with (folder / "verdicts.jsonl").open("w") as pipe:
        pipe.write(json.dumps(verdict().as_dict()) + "\n")
        pipe.flush()
        until_s = time.monotonic() + 20
        while not list(folder.glob("*.partial")) and time.monotonic() < until_s:
            time.sleep(0.02)
        assert list(folder.glob("*.partial"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert process.communicate()[1] == ""
    assert [path.name for path in folder.iterdir()] == ["verdicts.jsonl"]


def test_a_run_that_has_no_report_is_indexed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "run", verdict("v1", 0.9), scored(3))
    assert main(folder) == 0
    assert "there is no report: " in capsys.readouterr().err
    assert is_indexed(folder)


def test_what_dead_servers_left_is_removed_and_what_may_live_is_not(tmp_path: Path) -> None:
    old, young, other = (
        tmp_path / f"{name}.partial" for name in ("table.old", "table.young", "verdicts.jsonl")
    )
    for path in (old, young, other):
        path.write_text("x")
    for path in (old, other):
        os.utime(path, (time.time() - 3600,) * 2)
    with made_whole(tmp_path / "table") as partial:
        partial.write_text("whole")
    assert (tmp_path / "table").read_text() == "whole"
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "table", young, other])
    with pytest.raises(IsADirectoryError), made_whole(tmp_path / "table") as partial:
        partial.write_bytes(tmp_path.read_bytes())
    assert (tmp_path / "table").read_text() == "whole"
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "table", young, other])


def test_two_who_ask_for_parquet_at_once_both_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write(tmp_path / "run", *(verdict(f"v{n}") for n in range(5))) / "verdicts.jsonl"
    reads, both = results.read_verdicts, threading.Barrier(2, timeout=20)

    def slowly(path: Path) -> object:
        both.wait()
        yield from reads(path)
        both.wait()

    monkeypatch.setattr(results, "read_verdicts", slowly)
    made: list[Path] = []
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            made.append(results.parquet(path))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not failed
    assert [parquet.read_table(one).num_rows for one in made] == [5, 5]
    names = sorted(one.name for one in path.parent.iterdir())
    assert names == ["verdicts.jsonl", "verdicts.parquet"]


def test_parquet_of_verdicts_that_changed_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = write(tmp_path / "run", verdict("v1", 0.9))
    path = folder / "verdicts.jsonl"
    reads = results.read_verdicts

    def meanwhile(path: Path) -> object:
        yield from reads(path)
        rewrite(folder, verdict("v1", 0.2))

    monkeypatch.setattr(results, "read_verdicts", meanwhile)
    results.parquet(path)
    monkeypatch.undo()
    made = results.parquet(path)
    assert parquet.read_table(made).column("p_a").to_pylist() == [0.2]
    assert results.parquet(path).stat().st_mtime_ns == made.stat().st_mtime_ns


def test_half_characters_are_shown_by_their_code_in_every_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write(tmp_path / "run", verdict(prompt="a \ud800 b")) / "verdicts.jsonl"
    (row,) = parquet.read_table(results.parquet(path)).to_pylist()
    (line,) = csv.DictReader(io.StringIO("".join(results.csv_lines(path))))
    assert row["prompt"] == line["prompt"] == "a \\ud800 b"


def test_no_cell_of_a_table_begins_as_a_formula_would() -> None:
    rows = [["=1+1", -2.5, None], ["\ud800", {"a": "=1"}, True]] + [[0, 0, 0]] * 150
    parts = list(csv_parts(["=cmd|' /C calc'!A0", "b", "c"], rows))
    assert len(parts) == 2
    head, one, other, *rest = csv.reader(io.StringIO("".join(parts)))
    assert head == ["'=cmd|' /C calc'!A0", "b", "c"]
    assert one == ["'=1+1", "-2.5", ""]
    assert other == ["\\ud800", '{"a":"=1"}', "true"]
    assert rest == [["0", "0", "0"]] * 150
