from __future__ import annotations

import json
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
    RunFolder(tmp_path / "run", {"a": 1, "b": 2})
    with pytest.raises(ConfigError, match=r"a was 1, is 3; c was null, is 4"):
        RunFolder(tmp_path / "run", {"a": 3, "b": 2, "c": 4})


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
    with pytest.raises(SpecError, match=r"verdicts\.jsonl: No such file"):
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
