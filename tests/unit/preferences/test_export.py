from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlaif.errors import DataError
from rlaif.preferences.export import split_of, write_dataset
from rlaif.preferences.pairs import Rules, pairs_from
from rlaif.types import Message, Verdict
from tests.builders import verdict

datasets = pytest.importorskip("datasets")


def _verdicts(n: int = 40) -> list[Verdict]:
    return [
        verdict(f"v{i}", 0.5 if i % 10 == 9 else 0.8, item_id=f"i{i}", prompt=f"Question {i}?")
        for i in range(n)
    ]


def _write(folder: Path, verdicts: list[Verdict], share: float = 0.3) -> dict[str, object]:
    rows = pairs_from(verdicts, Rules())
    return write_dataset(rows, folder, test_share=share, source="a test").as_dict()


def test_datasets_opens_what_was_written(tmp_path: Path) -> None:
    summary = _write(tmp_path / "d", _verdicts())
    made = datasets.load_from_disk(str(tmp_path / "d"))
    assert {split: len(rows) for split, rows in made.items()} == summary["rows"]
    assert summary["held_back"] == {"tie": 4}
    row = made["train"][0]
    assert row["chosen"] == [{"role": "assistant", "content": "Paris is the capital."}]
    assert (row["p_chosen"], row["consistent"], row["rubric"]) == (0.8, True, None)
    lines = (tmp_path / "d" / "train.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == row


def test_no_prompt_stands_on_both_sides_and_the_split_never_depends_on_the_rest() -> None:
    prompts = [(Message("user", f"Question {i}?"),) for i in range(2000)]
    test = [split_of(p, 0.1) == "test" for p in prompts]
    assert 150 < sum(test) < 250
    assert test == [split_of(p, 0.1) == "test" for p in prompts]
    assert all(split_of(p, 0.3) == "test" for p, held in zip(prompts, test, strict=True) if held)


def test_writing_again_replaces_the_data_set(tmp_path: Path) -> None:
    _write(tmp_path / "d", _verdicts(40))
    _write(tmp_path / "d", _verdicts(5), share=0.0)
    made = datasets.load_from_disk(str(tmp_path / "d"))
    assert {split: len(rows) for split, rows in made.items()} == {"train": 5}
    assert not (tmp_path / "d" / "test.jsonl").exists()


def test_the_card_says_how_it_was_labeled(tmp_path: Path) -> None:
    _write(tmp_path / "d", _verdicts())
    card = (tmp_path / "d" / "README.md").read_text()
    assert "scripted/judge" in card
    assert "| tie | 4 |" in card
    assert "Made from a test." in card


def test_nothing_fit_to_train_on_is_an_error_and_the_reasons_are_kept(tmp_path: Path) -> None:
    ties = [verdict(f"v{i}", 0.5) for i in range(3)]
    with pytest.raises(DataError, match="no pair is fit to train on: 3 tie"):
        _write(tmp_path / "d", ties)
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["held_back.jsonl"]


def test_no_comparisons_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no comparisons"):
        _write(tmp_path / "d", [])


def test_no_datasets_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlaif.errors import ConfigError

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'rlaif\[train\]'"):
        _write(tmp_path / "d", _verdicts())
    assert not (tmp_path / "d").exists()
