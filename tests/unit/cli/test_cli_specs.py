import json

import pytest
from typer.testing import CliRunner

from rlaif.cli import specs
from rlaif.errors import ConfigError, SpecError
from rlaif.specs.rubric import shipped_rubrics

WARNED = """\
name: mine
version: 1.0.0
source: our own
criteria:
  - name: a
    question: Is it clear and right?
    scale: {min: 1, max: 3, anchors: {1: no, 3: yes}}
"""
GOOD = WARNED.replace("no,", "'no',").replace("yes}", "'yes'}")


def invoke(app, *arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("app", "kind", "parts"),
    [
        (specs.rubrics, "rubrics", "criteria"),
        (specs.constitutions, "constitutions", "principles"),
    ],
)
def test_list(app, kind, parts):
    table = invoke(app, "list")
    assert table.exit_code == 0
    assert "helpfulness" in table.output
    assert parts in table.output
    rows = json.loads(invoke(app, "list", "--json").output)[kind]
    assert {"harmlessness", "helpfulness"} <= {row["name"] for row in rows}
    assert all(row[parts] and row["version"] for row in rows)


def test_show_prints_the_file_or_what_was_read():
    path = shipped_rubrics()["helpfulness"]
    assert invoke(specs.rubrics, "show", "helpfulness").output == path.read_text()
    assert invoke(specs.rubrics, "show", str(path)).output == path.read_text()
    shown = json.loads(invoke(specs.rubrics, "show", "helpfulness", "--json").output)
    assert (shown["name"], shown["criteria"][0]["weight"]) == ("helpfulness", 1.0)
    shown = json.loads(invoke(specs.constitutions, "show", "harmlessness", "--json").output)
    assert len(shown["digest"]) == 64
    assert invoke(specs.constitutions, "show", "harmlessness").output.startswith("name: harmless")


def test_show_of_an_unknown_name_is_a_spec_error():
    result = invoke(specs.rubrics, "show", "helpfulnes")
    assert isinstance(result.exception, SpecError)
    assert "did you mean 'helpfulness'" in str(result.exception)


def test_lint_of_warnings_alone_passes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    result = invoke(specs.rubrics, "lint", str(path), "helpfulness")
    assert result.exit_code == 0
    [line] = result.output.splitlines()
    assert line.startswith(f"{path}:6: field 'criteria.0.question': seems to ask two things")
    assert line.endswith("[warning]")


def test_lint_of_an_error_exits_2_and_still_reads_the_other_files(tmp_path):
    wrong, warned = tmp_path / "wrong.yaml", tmp_path / "warned.yaml"
    wrong.write_text(WARNED)
    warned.write_text(GOOD)
    result = invoke(specs.rubrics, "lint", str(wrong), str(warned), "--json")
    assert result.exit_code == 2
    found = json.loads(result.output)
    assert not found["passed"]
    error, warning = found["findings"]
    assert error == {
        "level": "error",
        "path": str(wrong),
        "line": 7,
        "field": "criteria.0.scale.anchors.1",
        "message": "should be text, found false; put it in quotes",
    }
    assert (warning["level"], warning["path"], warning["line"]) == ("warning", str(warned), 6)
    lines = invoke(specs.rubrics, "lint", str(wrong)).output
    assert lines.startswith(f"{wrong}:7: field 'criteria.0.scale.anchors.1': should be text")


def test_lint_of_constitutions(tmp_path):
    assert invoke(specs.constitutions, "lint", "harmlessness", "helpfulness").exit_code == 0
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nversion: 1.0.0\nprinciples: []\n")
    result = invoke(specs.constitutions, "lint", str(path))
    assert result.exit_code == 2
    assert result.output == f"{path}:3: field 'principles': is empty [error]\n"


BIGGEN = {
    "id": "kind/1",
    "input": "Q?",
    "score_rubric": {
        "criteria": "Is it kind?",
        "score1_description": "It mocks the person.",
        "score2_description": "It greets the person.",
    },
}


def test_import_writes_files_that_lint_and_load(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(BIGGEN) + "\n")
    folder = tmp_path / "deep" / "rubrics"
    result = invoke(specs.rubrics, "import", "biggen", str(rows), "-o", str(folder))
    assert result.exit_code == 0, result.output
    assert "wrote 1 rubrics" in result.output
    made = folder / "kind-1.yaml"
    before = made.read_text()
    assert invoke(specs.rubrics, "lint", str(made)).output == ""
    again = invoke(specs.rubrics, "import", "biggen", str(rows), "-o", str(folder), "--json")
    assert json.loads(again.output) == {
        "rubrics": [{"name": "kind-1", "path": str(made), "criteria": ["quality"]}]
    }
    assert made.read_text() == before


def test_import_changes_no_file_that_is_there(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(BIGGEN) + "\n")
    (tmp_path / "kind-1.yaml").write_text("mine")
    result = invoke(specs.rubrics, "import", "biggen", str(rows), "-o", str(tmp_path))
    assert isinstance(result.exception, ConfigError)
    assert "kind-1.yaml is there and holds something else" in str(result.exception)
    assert (tmp_path / "kind-1.yaml").read_text() == "mine"


def test_import_into_a_file_is_a_config_error(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(BIGGEN) + "\n")
    result = invoke(specs.rubrics, "import", "biggen", str(rows), "-o", str(rows / "folder"))
    assert isinstance(result.exception, ConfigError)
    assert "cannot write" in str(result.exception)
