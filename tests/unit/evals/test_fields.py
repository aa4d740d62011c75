from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rlaif.errors import SpecError
from rlaif.evals.fields import Row, claim, named_files, rows_of


def row(**fields: object) -> Row:
    return Row(fields, "file.jsonl", 3)


@pytest.mark.parametrize(
    ("fields", "read", "message"),
    [
        ({}, lambda r: r.any_text("a"), "field 'a': is missing; the row has nothing"),
        ({"a": 1}, lambda r: r.any_text("a"), "field 'a': should be text, found the number 1"),
        ({"a": "x"}, lambda r: r.texts("a"), "field 'a': should be a list of texts"),
        ({"a": ["x", 1]}, lambda r: r.texts("a"), "field 'a': should be a list of texts"),
        ({"a": []}, lambda r: r.texts("a"), "field 'a': is an empty list"),
        ({"refrence": 1}, lambda r: r.others(["reference"]), "did you mean 'reference'?"),
        ({"x": object()}, lambda r: r.others([]), "field 'x'"),
    ],
)
def test_a_field_that_does_not_fit_is_named(fields: dict, read: object, message: str) -> None:
    with pytest.raises(SpecError) as error:
        read(row(**fields))  # type: ignore[operator]
    assert str(error.value).startswith("file.jsonl:3: ")
    assert message in str(error.value)


def test_unknown_columns_go_to_meta_unless_they_look_misspelt() -> None:
    found = row(turns=["a"], refrence="x", reference="y", note=None, level=2).others(
        ["turns", "reference"]
    )
    assert found == {"refrence": "x", "level": 2}
    assert row(a="").any_text("a") == ""
    assert row(a=None).has("a") is False


def test_rows_are_read_from_gzip_arrays_and_nan(tmp_path: Path) -> None:
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf[{"a": NaN},\r\n{"a": 2}]'))
    rows = list(rows_of(path))
    assert [r.has("a") for r in rows] == [False, True]
    assert [(r.line, r.ordinal) for r in rows] == [(1, 1), (2, 2)]
    assert len(list(rows_of(path, limit=1))) == 1


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n")
    with pytest.raises(SpecError, match="holds no rows"):
        list(rows_of(path))
    path.write_text("[1]\n")
    with pytest.raises(SpecError, match="should be a mapping"):
        list(rows_of(path))


def test_a_key_is_claimed_once() -> None:
    taken: dict = {}
    claim(taken, "a", row(), "id")
    with pytest.raises(SpecError, match=r":3: field 'id': 'a' is also in line 3"):
        claim(taken, "a", row(), "id")


def test_a_folder_of_files_is_read_by_name(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"holds no \.jsonl"):
        named_files(tmp_path)
    (tmp_path / "gpt-3.5.jsonl").write_text(json.dumps({}))
    (tmp_path / "notes.txt").write_text("")
    assert list(named_files(tmp_path)) == ["gpt-3.5"]
    (tmp_path / "gpt-3.5.jsonl.gz").write_bytes(b"")
    with pytest.raises(SpecError, match="too"):
        named_files(tmp_path)
    with pytest.raises(SpecError, match="not a folder"):
        named_files(tmp_path / "nowhere")
