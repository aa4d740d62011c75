"""Judging by the rubrics that items bring, and by checklists, from the command line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlaif.cli.judge import app
from rlaif.errors import ConfigError, SpecError

KIND = {
    "criteria": "Is it kind?",
    **{f"score{n}_description": f"Level {n} of kindness." for n in range(1, 6)},
}
ROW = {"id": "1", "input": "Q?", "system_prompt": "Be kind.", "reference_answer": "Dear you."}
LIST = "QUESTION (3): Is it a?\nQUESTION (1): Is it b?\nQUESTION (1): Is it c?"


def _write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "rows.jsonl", {**ROW, "score_rubric": KIND, "response": "Hi."})
    _write(
        tmp_path / "judge.jsonl",
        {"match": "You write checklists", "reply": LIST},
        {"match": "question: Is it a?", "reply": "Yes"},
        {"match": "question: Is it", "reply": "No"},
        {"match": "Is it kind?", "reply": "quality: [[4]]"},
        {"match": "", "reply": "helpfulness: [[2]]"},
    )
    return tmp_path


def _judge(*words: str, command: str = "score", data: str = "rows.jsonl") -> Result:
    given = [command, data, "-m", "scripted/judge.jsonl", "-o", "run", "--json", *words]
    return CliRunner().invoke(app, given)


def _verdicts() -> list[dict[str, object]]:
    return [json.loads(line) for line in Path("run/verdicts.jsonl").read_text().splitlines()]


def test_items_are_judged_by_their_own_rubrics_only_where_that_is_asked_for(files: Path) -> None:
    done = _judge()
    assert done.exit_code == 0, done.output
    [verdict] = _verdicts()
    assert verdict["judge"]["rubric"]["name"] == "helpfulness"  # type: ignore[index]
    assert verdict["score"]["value"] == 2  # type: ignore[index]
    done = _judge("-r", "item", "-o", "run2")
    assert done.exit_code == 0, done.output
    verdict = json.loads((files / "run2" / "verdicts.jsonl").read_text())
    assert verdict["score"]["value"] == 4  # type: ignore[index]
    assert verdict["score"]["max"] == 5  # type: ignore[index]
    assert verdict["item"]["reference"] == "Dear you."  # type: ignore[index]
    assert [m["role"] for m in verdict["item"]["prompt"]] == ["system", "user"]  # type: ignore[index]
    assert json.loads((files / "run2" / "config.json").read_text())["rubric"] == "item"


def test_comparisons_take_them_too(files: Path) -> None:
    pair = {"id": "1", "prompt": "Q?", "response_a": "Hi.", "response_b": "Go.", "rubric": KIND}
    _write(files / "rows.jsonl", pair)
    _write(files / "judge.jsonl", {"match": "Is it kind?", "reply": "[[A]]"})
    done = _judge("-r", "item", command="compare")
    assert done.exit_code == 0, done.output
    [verdict] = _verdicts()
    assert verdict["judge"]["rubric"]["name"].startswith("rubric-")  # type: ignore[index]
    assert json.loads(Path("run/config.json").read_text())["rubric"] == "item"


def test_a_folder_of_rubrics_may_be_named(files: Path) -> None:
    from rlaif.specs.rubric import load_rubric

    (files / "own").mkdir()
    text = Path(str(load_rubric("conciseness").path)).read_text()
    (files / "own" / "brief.yaml").write_text(text.replace("name: conciseness", "name: brief"))
    _write(files / "rows.jsonl", {"prompt": "Q?", "response": "Hi.", "rubric": "brief"})
    _write(files / "judge.jsonl", {"match": "", "reply": "economy: [[5]]\nsufficiency: [[3]]"})
    assert _judge("-r", "item:own").exit_code == 0
    [verdict] = _verdicts()
    assert verdict["judge"]["rubric"]["name"] == "brief"  # type: ignore[index]


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        (
            [{**ROW, "response": "Hi.", "rubric": KIND}, {"prompt": "Q?", "response": "Hi."}],
            ("-r", "item"),
            "brings no rubric",
        ),
        (
            [{"prompt": "Q?", "response": "Hi.", "rubric": KIND | {"score3_description": None}}],
            ("-r", "item"),
            "should describe the level",
        ),
        (
            [
                {"prompt": "Q?", "response": "Hi.", "reference": "Ho."},
                {"id": "lacking", "prompt": "R?", "response": "Hi."},
            ],
            ("-r", "correctness"),
            "item 'lacking' has none, and rubric 'correctness' needs one",
        ),
    ],
)
def test_a_fault_of_the_last_row_is_found_before_the_first_is_paid_for(
    files: Path, rows: list[object], words: tuple[str, ...], message: str
) -> None:
    _write(files / "rows.jsonl", *rows)
    done = _judge(*words)
    assert isinstance(done.exception, SpecError)
    assert message in str(done.exception)
    assert (done.exception.path or "").endswith("rows.jsonl")
    assert not Path("run/verdicts.jsonl").exists()


def test_a_checklist_scores_by_its_questions(files: Path) -> None:
    done = _judge("--method", "checklist")
    assert done.exit_code == 0, done.output
    [verdict] = _verdicts()
    assert verdict["judge"]["method"] == "checklist"  # type: ignore[index]
    assert verdict["score"]["value"] == pytest.approx(0.6)  # type: ignore[index]
    assert list(verdict["score"]["criteria"]) == ["Is it a?", "Is it b?", "Is it c?"]  # type: ignore[index]


def test_another_model_writes_the_questions(files: Path) -> None:
    _write(files / "writer.jsonl", {"match": "", "reply": LIST.replace("Is it c", "Is it b not")})
    done = _judge("--method", "checklist", "--questions-by", "scripted/writer.jsonl", "-r", "item")
    assert done.exit_code == 0, done.output
    [verdict] = _verdicts()
    assert verdict["judge"]["method"] == "checklist, questions by scripted/writer.jsonl"  # type: ignore[index]
    assert len(json.loads(Path("run/config.json").read_text())["backend"]) == 2
    plan = json.loads(_judge("--method", "checklist", "--questions-by", "scripted/writer.jsonl",
                             "-o", "other", "--dry-run").output)  # fmt: skip
    assert {row["model"] for row in plan["rows"]} == {
        "scripted/judge.jsonl",
        "scripted/writer.jsonl",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "checklist", "--draws", "3"), "the method checklist takes no --draws"),
        (
            ("--method", "checklist", "--structured", "auto", "--aggregate", "mode"),
            "the method checklist takes no --structured, --aggregate",
        ),
        (
            ("--questions-by", "scripted/judge.jsonl"),
            "the method verdict (chosen by auto) takes no --questions-by",
        ),
    ],
)
def test_options_that_do_not_fit(files: Path, words: tuple[str, ...], message: str) -> None:
    done = _judge(*words)
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == message


def test_published_rows_are_judged_as_they_are(files: Path, shared_data: Path) -> None:
    source = shared_data / "rubrics" / "biggen_rubrics.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) | {"response": "A plan."} for line in lines][:40]
    _write(files / "rows.jsonl", *rows)
    _write(files / "judge.jsonl", {"match": "", "reply": "[[3]]"})
    assert _judge("-r", "item").exit_code == 0
    verdicts = _verdicts()
    assert len(verdicts) == 40
    assert len({v["judge"]["rubric"]["digest"] for v in verdicts}) >= 39  # type: ignore[index]
    assert all(v["score"]["value"] == 3 for v in verdicts)  # type: ignore[index]
