from __future__ import annotations

import errno
import gc
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rlaif.canonical import json_line
from rlaif.errors import ConfigError, SpecError, StoreError
from rlaif.store.runs import RunFolder, read_candidates, read_json, read_verdicts, whole_file
from tests.builders import verdict


def test_the_same_configuration_resumes(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", {"a": 1, "b": (1, 2)})
    RunFolder(tmp_path / "run", {"b": [1, 2], "a": 1})


def test_another_configuration_is_refused_by_what_differs(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {"a": 1, "b": 2, "judge": {"model": "x", "n": 1}})
    run.write_json("summary.json", {})
    message = r"a was 1, is 3; c was null, is 4; judge.model was \"x\", is \"y\"\)"
    with pytest.raises(ConfigError, match=message):
        RunFolder(tmp_path / "run", {"a": 3, "b": 2, "c": 4, "judge": {"model": "y", "n": 1}})


def test_what_differs_is_told_in_so_many_words(tmp_path: Path) -> None:
    RunFolder(tmp_path, {str(n): "x" * 200 for n in range(11)}).write_json("summary.json", {})
    with pytest.raises(ConfigError, match="; and 3 more") as caught:
        RunFolder(tmp_path, {})
    assert len(str(caught.value)) < 1200


def test_a_run_that_made_nothing_leaves_its_folder_to_another(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"a": 1}')
    (tmp_path / "run" / "x.jsonl.partial").touch()
    run = RunFolder(tmp_path / "run", {"a": 2})
    assert read_json(run.path / "config.json") == {"a": 2}
    with run.open_whole("x.jsonl") as file, pytest.raises(ConfigError, match="a was 2, is 3"):
        RunFolder(run.path, {"a": 3})
    assert file.closed
    with pytest.raises(ConfigError, match="a was 2, is 3"):
        RunFolder(run.path, {"a": 3})


@pytest.mark.parametrize("more", [20, None])
def test_what_may_grow_goes_on_and_nothing_shrinks(tmp_path: Path, more: int | None) -> None:
    run = RunFolder(tmp_path, {"limit": 10, "a": 1})
    run.write_json("summary.json", {})
    with pytest.raises(ConfigError, match=f"limit was 10, is {'null' if more is None else more}"):
        RunFolder(tmp_path, {"limit": more, "a": 1})
    RunFolder(tmp_path, {"limit": more, "a": 1}, grows={"limit"})
    assert read_json(tmp_path / "config.json") == {"limit": more, "a": 1}
    with pytest.raises(ConfigError, match="limit was"):
        RunFolder(tmp_path, {"limit": 10, "a": 1}, grows={"limit"})


def test_a_folder_without_verdicts_says_whether_its_run_has_ended(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"is not a run that has made a verdicts\.jsonl"):
        list(read_verdicts(tmp_path))
    (tmp_path / "candidates.jsonl.partial").touch()
    with pytest.raises(SpecError, match=r"no candidates\.jsonl yet: run the command"):
        list(read_candidates(tmp_path))


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="not a run folder"):
        RunFolder(tmp_path, {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="not a run's configuration"):
        RunFolder(tmp_path, {})


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", {})
    with run.open_whole("x.jsonl") as file:
        file.write("old\n")

    def interrupted() -> None:
        with run.open_whole("x.jsonl") as file:
            file.write("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (run.path / "x.jsonl").read_text() == "old\n"
    assert (run.path / "x.jsonl.partial").read_text() == "half of the n"


RUNNER = """
import sys
from pathlib import Path
from rlaif.errors import ConfigError
from rlaif.store.runs import RunFolder
try:
    run = RunFolder(Path(sys.argv[1]), {"a": 1})
    with run.open_whole("x.jsonl") as file:
        for i in range(200_000):
            file.write(f"{i}\\n")
            if i == 100_000:
                print("at work", flush=True)
                sys.stdin.readline()
except ConfigError as error:
    print(error)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(folder)],
        cwd=Path(__file__).resolve().parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_second_process_is_refused_and_a_killed_one_leaves_nothing_in_the_way(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    first = start(folder)
    assert first.stdout is not None
    assert first.stdout.readline() == "at work\n"
    second, _ = start(folder).communicate(timeout=20)
    assert second == (
        f"another process is writing to {folder}: wait for it, or choose another -o\n"
    )
    with pytest.raises(ConfigError, match="another process is writing to"):
        RunFolder(folder, {"a": 1})
    first.kill()
    first.communicate(timeout=20)
    assert not (folder / "x.jsonl").exists()
    assert (folder / "x.jsonl.partial").stat().st_size > 0
    again, _ = start(folder).communicate("\n", timeout=20)
    assert again == "at work\n"
    assert (folder / "x.jsonl").read_text().splitlines() == [*map(str, range(200_000))]
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "x.jsonl"]
    RunFolder(folder, {"a": 1})


def test_this_process_shares_a_folder_with_itself_and_lets_it_go(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    one, other = RunFolder(folder, {"a": 1}), RunFolder(folder, {"a": 1})
    assert one._lock is other._lock
    del one
    gc.collect()
    assert "another process" in start(folder).communicate(timeout=20)[0]
    del other
    gc.collect()
    assert start(folder).communicate("\n", timeout=20)[0] == "at work\n"


def test_what_was_killed_before_it_began_is_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "config.json.partial").write_text('{"a":')
    RunFolder(tmp_path, {"a": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with whole_file(path) as first:
        first.write("first")
        with pytest.raises(StoreError, match="another writer has it open"), whole_file(path):
            pass
    assert path.read_text() == "first"


def test_only_the_files_own_errors_are_said_to_be_its(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), whole_file(tmp_path / "x"):
        raise ConnectionResetError("a provider's")


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        with whole_file(tmp_path / "x") as file:
            for _ in range(1000):
                file.write("new" * 1000)

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot write .*x: File too large"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "x").read_text() == "old"
    with whole_file(tmp_path / "x") as file:
        file.write("new")
    assert (tmp_path / "x").read_text() == "new"


def test_a_disk_that_fails_at_the_last_moment_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "x").write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="Input/output"), whole_file(tmp_path / "x") as file:
            file.write("new")
    assert (tmp_path / "x").read_text() == "old"


def test_a_file_without_locks_is_closed_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlaif.store.runs.LOCKS", False)
    with whole_file(tmp_path / "x") as file:
        file.write("new")
    assert (tmp_path / "x").read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with whole_file(path) as file:
            file.write("new")
        assert os.read(reader, 100) == b"new"
    finally:
        os.close(reader)
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"), whole_file(tmp_path / "no" / "x"):
        pass


def test_verdicts_come_back(tmp_path: Path) -> None:
    rows = [verdict("v1"), verdict("v2", None)]
    text = "".join(json_line(v.as_dict()) for v in rows)
    (tmp_path / "verdicts.jsonl").write_text(text + "\n", encoding="utf-8")
    assert list(read_verdicts(tmp_path)) == rows
    assert list(read_verdicts(tmp_path / "verdicts.jsonl")) == rows


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"status": "maybe"}, "status"),
        ({"surprise": 1}, "surprise"),
        ({"preference": None}, "kind"),
        ({"cause": "refused"}, "cause"),
        ({"schema": 2}, "schema"),
        ({"status": "no_verdict", "preference": None}, "cause"),
        ({"item": {"id": 7, "prompt": []}}, "item.id"),
    ],
)
def test_a_line_that_is_no_verdict_names_line_and_field(
    tmp_path: Path, change: dict[str, object], field: str
) -> None:
    row = {**verdict().as_dict(), **change}
    path = tmp_path / "v.jsonl"
    path.write_text(json_line(verdict().as_dict()) + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        list(read_verdicts(path))
    assert (caught.value.line, caught.value.field) == (2, field)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\xff\xfe", b"3"])
def test_a_line_that_is_no_json_object_names_its_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "v.jsonl"
    path.write_bytes(b"\n" + line + b"\n")
    with pytest.raises(SpecError) as caught:
        list(read_verdicts(path))
    assert caught.value.line == 2


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"is not a run that has made a verdicts\.jsonl"):
        list(read_verdicts(tmp_path))
    with pytest.raises(SpecError, match="no such file"):
        read_json(tmp_path / "x.json")


def test_json_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(SpecError, match="not readable as JSON"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "1", "prompt": []}, "no list of candidates"),
        ([], "not a JSON object"),
        ({"id": "1", "prompt": [], "candidates": [{"id": "a"}]}, "0.response"),
        ({"id": "1", "candidates": []}, "prompt"),
    ],
)
def test_candidates_that_do_not_fit_are_named(tmp_path: Path, row: object, message: str) -> None:
    (tmp_path / "candidates.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(SpecError, match=message) as caught:
        list(read_candidates(tmp_path))
    assert caught.value.line == 1
