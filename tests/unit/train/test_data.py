from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import ConfigError, SpecError
from rlaif.train.data import (
    held_out_split,
    load_preferences,
    provenance,
    require_train_extra,
    rows_digest,
    without_prompts_of,
)

datasets = pytest.importorskip("datasets")

ROW: dict[str, Any] = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
TURNS: dict[str, Any] = {
    "prompt": [{"role": "user", "content": "Why?"}],
    "chosen": [{"role": "assistant", "content": "So."}],
    "rejected": [{"role": "assistant", "content": "No."}],
}


def _jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _folder(path: Path, rows: dict[str, list[dict[str, Any]]] | list[dict[str, Any]]) -> Path:
    if isinstance(rows, list):
        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    else:
        parts = {name: datasets.Dataset.from_list(part) for name, part in rows.items()}
        datasets.DatasetDict(parts).save_to_disk(str(path))
    return path


@pytest.mark.parametrize("row", [ROW, TURNS, TURNS | {"verdict_id": "v", "consistent": True}])
def test_jsonl_becomes_conversations_in_three_columns(row: dict[str, Any], tmp_path: Path) -> None:
    rows = load_preferences(_jsonl(tmp_path / "rows.jsonl", row, row))
    assert rows.column_names == ["prompt", "chosen", "rejected"]
    assert list(rows) == [TURNS, TURNS]


def test_labels_and_their_origin_come_along_as_far_as_there_are_any(tmp_path: Path) -> None:
    sure = {"p_chosen": 1, "margin": 1.0, "judge": "m", "rubric": None, "weight": 2}
    unsure = {"p_chosen": 0.75, "judge": "n", "margin": None}
    path = _jsonl(tmp_path / "rows.jsonl", ROW | sure, ROW | unsure)
    rows = load_preferences(path)
    assert rows["p_chosen"][:] == [1.0, 0.75]
    assert rows["margin"][:] == [1.0, None]
    assert rows["weight"][:] == [2.0, None]
    assert provenance(rows) == {"judge": "m, n"}
    folder = _folder(tmp_path / "folder", [TURNS | {"p_chosen": 0.9}])
    assert load_preferences(folder)["p_chosen"][:] == [0.9]


@pytest.mark.parametrize(
    "wrong",
    [{"p_chosen": 1.2}, {"p_chosen": "high"}, {"margin": -2}, {"weight": -1}, {"weight": True}],
)
def test_a_label_out_of_range_is_named(wrong: dict[str, Any], tmp_path: Path) -> None:
    [name] = wrong
    sources = [_jsonl(tmp_path / "rows.jsonl", ROW, ROW | wrong)]
    if not isinstance(wrong[name], bool | str):
        sources.append(_folder(tmp_path / "folder", [TURNS | {name: 0.5}, TURNS | wrong]))
    for path in sources:
        with pytest.raises(SpecError) as caught:
            load_preferences(path)
        assert (caught.value.line, caught.value.field) == (2, name)


def test_no_prompt_is_trained_on_and_measured_on(tmp_path: Path) -> None:
    made = [ROW | {"prompt": f"Why {n // 2}?", "chosen": f"So {n}."} for n in range(200)]
    rows = load_preferences(_jsonl(tmp_path / "rows.jsonl", *made))
    kept, held_out = held_out_split(rows, 0.3)
    sides = [{p[0]["content"] for p in part["prompt"]} for part in (kept, held_out)]
    assert not sides[0] & sides[1]
    assert len(kept) + len(held_out) == 200
    assert 40 <= len(held_out) <= 80
    # a row's side does not depend on the other rows
    again = held_out_split(rows.select(range(50)), 0.3)[1]
    assert list(again) == list(held_out)[: len(again)]
    assert len(without_prompts_of(rows, kept)) == len(held_out)


def test_a_folder_has_the_same_rows_in_whatever_split(tmp_path: Path) -> None:
    other = TURNS | {"chosen": [{"role": "assistant", "content": "Other."}]}
    extra = {"consistent": True}
    split = _folder(tmp_path / "split", {"train": [TURNS | extra], "test": [other | extra]})
    assert list(load_preferences(split)) == [TURNS]
    assert list(load_preferences(split, "test")) == [other]
    assert list(load_preferences(_folder(tmp_path / "whole", [other | extra]))) == [other]


def test_the_digest_is_of_the_rows_whatever_file_they_come_from(tmp_path: Path) -> None:
    file = load_preferences(_jsonl(tmp_path / "rows.jsonl", ROW))
    folder = load_preferences(_folder(tmp_path / "folder", [TURNS | {"verdict_id": "v"}]))
    assert rows_digest(file) == rows_digest(folder)
    twice = load_preferences(_jsonl(tmp_path / "twice.jsonl", ROW, ROW))
    other = load_preferences(_jsonl(tmp_path / "other.jsonl", ROW | {"chosen": "So!"}))
    assert len({rows_digest(file), rows_digest(twice), rows_digest(other)}) == 3


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"chosen": "a", "rejected": "b"}, "prompt"),
        (ROW | {"prompt": ""}, "prompt"),
        (ROW | {"prompt": [{"role": "owl", "content": "x"}]}, "prompt.0.role"),
        ({"prompt": "a", "rejected": "b"}, "chosen"),
        (ROW | {"chosen": []}, "chosen"),
        (ROW | {"chosen": 7}, "chosen"),
        (ROW | {"rejected": [{"role": "assistant"}]}, "rejected.0.content"),
        (ROW | {"rejected": [{"role": "assistant", "content": 7}]}, "rejected.0.content"),
        (ROW | {"rejected": None}, "rejected"),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_file_line_and_field(
    row: dict[str, Any], field: str, tmp_path: Path
) -> None:
    path = _jsonl(tmp_path / "rows.jsonl", ROW, row)
    with pytest.raises(SpecError) as caught:
        load_preferences(path)
    found = caught.value
    assert (found.path, found.line, found.field) == (str(path), 2, field)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such data set"):
        load_preferences(tmp_path / "nothing")
    with pytest.raises(SpecError, match="not a folder that `datasets` wrote"):
        load_preferences(tmp_path)
    with pytest.raises(SpecError, match="not JSON"):
        load_preferences(_broken(tmp_path))
    with pytest.raises(SpecError, match="the data set has no rows"):
        load_preferences(_jsonl(tmp_path / "empty.jsonl"))


def _broken(folder: Path) -> Path:
    path = folder / "broken.jsonl"
    path.write_text("{\n")
    return path


def test_a_folder_without_the_split_or_a_column_is_refused(tmp_path: Path) -> None:
    split = _folder(tmp_path / "split", {"train": [TURNS], "test": [TURNS]})
    with pytest.raises(SpecError, match="no split 'validation', only train, test"):
        load_preferences(split, "validation")
    partial = _folder(tmp_path / "partial", [{"prompt": "x", "chosen": "y"}])
    with pytest.raises(SpecError, match="no such column") as caught:
        load_preferences(partial)
    assert caught.value.field == "rejected"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_train_extra()
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n in {"trl", "peft"} else real(n)
    )
    with pytest.raises(
        ConfigError, match=r"training needs trl, peft: pip install 'rlaif\[train\]'"
    ):
        require_train_extra()
