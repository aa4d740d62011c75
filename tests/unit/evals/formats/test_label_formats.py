"""People's labels as flat rows and as Argilla's records: in, out, and what does not fit."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rlaif.cli.main import app
from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.evals.formats import ImportOptions, ImportReport, export_rows, import_verdicts
from rlaif.evals.formats.exports import ExportReport
from rlaif.evals.formats.files import guarded, unguarded, write_rows
from rlaif.evals.people import by, rating, score_of, vote, vote_of
from rlaif.types import Item, Message, Verdict
from tests.builders import candidate, criterion, item, verdict

FORMULA = "=HYPERLINK(0)"
PAIR = {
    "id": "q1", "annotator": "anna", "prompt": "Name a river.", "model_a": "m1", "model_b": "m2",
    "response_a": "The Nile.", "response_b": FORMULA, "winner": "B", "reason": "-shorter",
}  # fmt: skip
GRADES = {
    "id": "q1", "annotator": "human/ben", "prompt": "Name a river.", "model": "m1",
    "response": "The Nile.", "grade.clarity": 4, "scale.clarity": "1 to 5", "weight.clarity": 3,
    "grade.depth": 0, "scale.depth": "0-10", "weight.depth": 1,
}  # fmt: skip


def people() -> list[Verdict]:
    talk = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "A river?"))
    pair = (candidate("m1", "The Nile.", "m1"), candidate("x2", FORMULA, "m2"))
    first = vote(Item("q1", talk, "Nile", {"turn": 2, "question_id": 81}), pair, by("anna"), "bad")
    second = vote(item("q2", "=1+1"), pair, by("anna"), "A", "BA", "@why")
    return [first, second, vote(item("q2", "=1+1"), pair, by("ben"), "tie")]


def ratings() -> list[Verdict]:
    criteria = (criterion("clarity", weight=0.75), criterion("depth", 0, 10, 0.25))
    score = score_of({"clarity": 4, "depth": 10}, criteria)
    one = (candidate("m1", "The Nile.", "m1"),)
    return [
        rating(item("q1", "A river?"), one, by(who), score, "Short.") for who in ("anna", "ben")
    ]


def told(one: Verdict) -> tuple[Any, ...]:
    """What a label says, however it was made."""
    shown = one.preference.orders[0].shown if one.preference else None
    texts = [(c.id, c.model, c.text) for c in one.candidates]
    said = (vote_of(one), one.score and (one.score.value, one.score.criteria))
    return (one.kind, one.item, one.judge.model, texts, said, shown, one.rationale)


def read(name: str, path: Path, **options: Any) -> list[Verdict]:
    return list(import_verdicts(name, [path], ImportOptions(**options)))


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("made", [people, ratings])
def test_labels_come_back_as_they_went(tmp_path: Path, ending: str, made: Any) -> None:
    path = tmp_path / f"labels.{ending}"
    before = made()
    assert write_rows(path, lambda: export_rows("labels", before), guard=True) == len(before)
    after = read("labels", path)
    if ending in ("csv", "tsv"):  # a table has no numbers
        after_meta = [{k: str(v) for k, v in one.item.meta.items()} for one in before]
        assert [one.item.meta for one in after] == after_meta
        before = [_without_meta(one) for one in before]
        after = [_without_meta(one) for one in after]
    assert [told(one) for one in after] == [told(one) for one in before]


def _without_meta(one: Verdict) -> Verdict:
    from dataclasses import replace

    return replace(one, item=replace(one.item, meta={}))


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    write_rows(path, lambda: export_rows("labels", people()), guard=True)
    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert f"'{FORMULA}" in cells


@given(st.text())
def test_what_is_guarded_is_read_back(text: str) -> None:
    cell = guarded(text)
    assert unguarded(cell) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))


@pytest.mark.parametrize("made", [people, ratings])
def test_argilla_records_come_back_as_they_went(tmp_path: Path, made: Any) -> None:
    path = tmp_path / "records.json"
    report = ExportReport()
    assert write_rows(path, lambda: export_rows("argilla", made(), report)) == len(
        {one.item.id for one in made()}
    )
    after = sorted(read("argilla", path), key=lambda one: (one.item.id, one.judge.model))
    before = sorted(made(), key=lambda one: (one.item.id, one.judge.model))
    assert [told(one)[:5] for one in after] == [told(one)[:5] for one in before]
    assert [one.rationale for one in after] == [one.rationale for one in before]
    assert ("preference.orders" in report.lost) == (made is people)


def record(**more: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "fields": {"instruction": "A river?", "response-1": "Nile", "response-2": "Rhine"},
        "metadata": {"model_a": "m1", "topic": "geography"},
        "responses": {"best": [{"value": "response-2", "user_id": "u1"}]},
    } | more


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("response-2", "B"),
        ("A", "A"),
        ("m1", "A"),
        (["response-2", "response-1"], "B"),
        ([{"value": "response-1", "rank": 1}, {"value": "response-2", "rank": 1}], "tie"),
        ([{"value": "response-1", "rank": 2}, {"value": "response-2", "rank": 1}], "B"),
    ],
)
def test_argilla_answers_name_a_winner(tmp_path: Path, value: Any, said: str) -> None:
    row = record(responses={"best": [{"value": value, "user_id": "u1", "status": "submitted"}]})
    (one,) = read("argilla", written(tmp_path / "r.jsonl", row))
    assert (vote_of(one), one.judge.model) == (said, "human/u1")
    assert (one.item.id, one.item.meta) == ("r1", {"topic": "geography"})


def test_argilla_answers_by_person_and_drafts_are_counted(tmp_path: Path) -> None:
    fields = {"prompt": [{"role": "user", "content": "A river?"}], "response": "Nile"}
    by_person = [
        {"user_id": "u1", "status": "submitted", "values": {"clarity": {"value": 4}}},
        {"user_id": "u2", "status": "draft", "values": {"clarity": {"value": 1}}},
    ]
    path = written(tmp_path / "r.jsonl", record(fields=fields, responses=by_person))
    report = ImportReport()
    (one,) = import_verdicts("argilla", [path], ImportOptions(scale=(1, 5)), report)
    assert one.score is not None
    assert (one.score.value, one.score.min, one.score.max) == (4, 1, 5)
    assert report.notes == ["1 drafts and discarded answers were skipped"]
    assert read("argilla", written(tmp_path / "n.jsonl", record(responses=None))) == []


@pytest.mark.parametrize(
    ("name", "row", "field", "message"),
    [
        ("labels", PAIR | {"winner": "C"}, "winner", "A, B, tie, bad"),
        ("labels", PAIR | {"winner": True}, "winner", "A, B, tie"),
        ("labels", PAIR | {"annotator": ""}, "annotator", "text"),
        ("labels", PAIR | {"annotator": "x" * 65}, "annotator", "64"),
        ("labels", {k: v for k, v in PAIR.items() if k != "id"}, "id", "missing"),
        ("labels", PAIR | {"shown": "first"}, "shown", "AB"),
        ("labels", PAIR | {"prompt": 5}, "prompt", "text"),
        ("labels", GRADES | {"grade.clarity": 9}, "grade.clarity", "1 to 5"),
        ("labels", GRADES | {"grade.clarity": "many"}, "grade.clarity", "number"),
        ("labels", GRADES | {"scale.depth": "low to high"}, "scale.depth", "1 to 5"),
        ("labels", GRADES | {"scale.depth": "0 to 1000"}, "scale.depth", "levels"),
        ("labels", GRADES | {"scale.depth": None}, "scale.depth", "--scale"),
        ("labels", GRADES | {"weight.depth": 0}, "weight.depth", "above 0"),
        ("labels", {"id": 1, "annotator": "a", "score": 4}, "score", "no scale"),
        ("labels", {"id": 1, "annotator": "a", "score": 9, "min": 1, "max": 5}, "score", "1 to 5"),
        ("labels", {"id": 1, "annotator": "a", "score": 9, "min": 5, "max": 5}, "max", "above"),
        ("argilla", record(id=None), "id", "null"),
        ("argilla", record(fields={"prompt": "x"}), "fields", "no response"),
        ("argilla", record(responses={"best": "A"}), "responses.best", "list"),
        (
            "argilla",
            record(responses={"q": [{"value": "dunno", "user_id": "u"}]}),
            "responses",
            "names no winner",
        ),
        (
            "argilla",
            record(responses={"p": [{"value": "A", "user_id": "u"}] * 2}),
            "responses.p.1.user_id",
            "twice",
        ),
        (
            "argilla",
            record(responses={q: [{"value": "A", "user_id": "u"}] for q in ("one", "two")}),
            "responses",
            "more than once",
        ),
        (
            "argilla",
            record(fields={"prompt": "x", "response": "y"}),
            "responses",
            "no question with a number",
        ),
        (
            "argilla",
            record(responses=[{"user_id": "u", "values": {}}] * 2),
            "responses.1.user_id",
            "twice",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named(
    tmp_path: Path, name: str, row: dict[str, Any], field: str, message: str
) -> None:
    good = PAIR | {"id": "other"} if name == "labels" else record(id="other")
    path = written(tmp_path / "rows.jsonl", good, row)
    with pytest.raises(SpecError, match=message) as error:
        read(name, path)
    assert (error.value.path, error.value.line, error.value.field) == (str(path), 2, field)


def test_one_person_labels_an_item_once_and_empty_rows_wait(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", PAIR, PAIR | {"reason": "again"})
    with pytest.raises(SpecError, match=":1"):
        read("labels", path)
    report = ImportReport()
    path = written(tmp_path / "rows.jsonl", PAIR, PAIR | {"annotator": "ben", "winner": ""})
    assert len(list(import_verdicts("labels", [path], None, report))) == 1
    assert report.notes == ["1 rows hold no label yet and were skipped"]


def test_what_no_person_said_is_no_label() -> None:
    with pytest.raises(DataError, match="not by a person"):
        list(export_rows("labels", [verdict()]))
    nothing = verdict(p_a=None)
    from dataclasses import replace

    with pytest.raises(DataError, match="no label"):
        list(export_rows("argilla", [replace(nothing, judge=by("anna"))]))


def test_labels_go_through_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    rows = ["id,annotator,prompt,response,score", "q1,anna,A river?,'=Nile,4"]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    run, out = tmp_path / "run", tmp_path / "again.csv"
    asked = ["import", "labels", str(path), "-o", str(run), "--json"]
    refused = CliRunner().invoke(app, asked).exception
    assert isinstance(refused, SpecError)
    assert (refused.path, refused.line, refused.field) == (str(path), 2, "score")
    assert not run.exists()
    wrong = CliRunner().invoke(app, [*asked, "--scale", "1"]).exception
    assert isinstance(wrong, ConfigError)
    assert CliRunner().invoke(app, [*asked, "--scale", "1-5"]).exit_code == 0
    assert CliRunner().invoke(app, ["export", "labels", str(run), "-o", str(out)]).exit_code == 0
    header, row = csv.reader(out.read_text(encoding="utf-8").splitlines())
    found = dict(zip(header, row, strict=True))
    assert found["response"] == "'=Nile"
    assert (found["score"], found["min"], found["max"]) == ("4.0", "1.0", "5.0")
