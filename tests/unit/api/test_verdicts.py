from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlaif.api.table import Table
from rlaif.api.verdicts import Verdicts
from rlaif.errors import ConfigError, DataError
from rlaif.runner import Tally
from rlaif.types import Verdict
from tests.builders import verdict


def counted(*verdicts: Verdict) -> Verdicts:
    tally = Tally()
    for one in verdicts:
        tally.add(one)
    return Verdicts(verdicts, tally.summary())


def some() -> Verdicts:
    return counted(
        *(
            verdict(f"v{n}", p, item_id=f"i{n}", prompt=f"p{n}")
            for n, p in enumerate((0.9, 0.8, None))
        )
    )


def test_it_is_a_sequence() -> None:
    verdicts = some()
    assert len(verdicts) == 3
    assert [one.id for one in verdicts] == ["v0", "v1", "v2"]
    assert verdicts[0].id == "v0"
    assert [one.id for one in verdicts[1:]] == ["v1", "v2"]


def test_the_table_has_one_row_a_model_with_its_coverage() -> None:
    table = some().table()
    assert [row["model"] for row in table.rows] == ["m1", "m2"]
    assert table.rows[0]["win_rate"] == pytest.approx(0.85)
    assert table.rows[0]["coverage"] == pytest.approx(2 / 3)
    assert table.rows[0]["n"] == 3
    against = some().table("m2")
    assert against.title.endswith("against m2")
    with pytest.raises(ConfigError, match="m1"):
        some().table("m3")


def test_a_run_folder_for_the_commands_that_follow(tmp_path: Path) -> None:
    folder = some().save(tmp_path / "run")
    read = [
        Verdict.from_dict(json.loads(line))
        for line in (folder / "verdicts.jsonl").read_text().splitlines()
    ]
    assert read == list(some())
    assert json.loads((folder / "summary.json").read_text())["coverage"] == pytest.approx(2 / 3)
    some().save(folder)  # the same again is no conflict
    with pytest.raises(ConfigError, match="another"):
        counted(verdict("other", 0.4, prompt="other")).save(folder)


def test_judged_text_stays_text_in_a_notebook() -> None:
    evil = "<script>alert(1)</script>"
    html = counted(verdict("v", 0.9, item_id=evil))._repr_html_()
    assert evil not in html
    assert "&lt;script&gt;" in html
    assert "coverage 100.0%" in html
    assert html.count("<table>") == 2
    assert evil not in Table(evil, [{evil: evil}], evil)._repr_html_()


def test_a_model_against_itself_has_rows_but_no_table() -> None:
    from dataclasses import replace

    one = verdict("v", 0.9)
    same = counted(replace(one, candidates=tuple(replace(c, model="m") for c in one.candidates)))
    with pytest.raises(DataError, match="of a model with itself"):
        same.table()
    assert same._repr_html_().count("<table>") == 1


def test_the_text_of_a_table_is_aligned_and_safe_for_a_terminal() -> None:
    rows = [{"model": "a\x1b[31m", "n": 5, "x": 0.25}, {"model": "long name", "n": 12, "x": None}]
    assert str(Table("title", rows, "a note")) == (
        "title\n"
        "model       n      x\n"
        "────────────────────\n"
        "a [31m      5  0.250\n"
        "long name  12\n"
        "a note"
    )
    assert "…" in str(Table("", [{"x": "y" * 99}]))
    assert str(Table("nothing", [])).startswith("nothing")
