"""`rlaif judge rank` on scripted replies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlaif.cli.main import app
from rlaif.errors import ConfigError, SpecError
from rlaif.store.runs import read_verdicts


@pytest.fixture
def judge(tmp_path: Path) -> str:
    """A judge that always prefers what comes later in the alphabet: gamma, beta, alpha."""
    path = tmp_path / "judge.jsonl"
    rows = [
        {"match": f"response_{side}>\n{word}", "reply": f"[[{said}]]"}
        for word, side, said in (
            ("gamma", "a", "A"),
            ("gamma", "b", "B"),
            ("alpha", "a", "B"),
            ("alpha", "b", "A"),
        )
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"scripted/{path}"


def data(tmp_path: Path, *responses: str) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"id": "q", "prompt": "Say.", "responses": responses}) + "\n")
    return path


@pytest.mark.parametrize("method", ["round-robin", "merge-sort", "swiss", "active"])
def test_each_method_ranks(tmp_path: Path, judge: str, method: str) -> None:
    source, run = data(tmp_path, "beta", "gamma", "alpha"), tmp_path / "run"
    command = ["judge", "rank", str(source), "-m", judge, "-o", str(run), "--method", method]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    (verdict,) = read_verdicts(run)
    assert verdict.ranking is not None
    assert verdict.ranking.order == ("2", "1", "3")
    assert verdict.judge.method.startswith(method)


def test_a_dry_run_counts_and_asks_nothing(tmp_path: Path, judge: str) -> None:
    source, run = data(tmp_path, "beta", "gamma", "alpha"), tmp_path / "run"
    command = ["judge", "rank", str(source), "-m", judge, "-o", str(run), "--dry-run", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"][0]["requests"] == 6
    assert not run.exists()


def test_one_response_is_refused(tmp_path: Path, judge: str) -> None:
    done = CliRunner().invoke(
        app, ["judge", "rank", str(data(tmp_path, "beta")), "-m", judge, "-o", str(tmp_path / "r")]
    )
    assert isinstance(done.exception, SpecError)


def test_a_run_with_one_candidate_a_prompt_is_refused(tmp_path: Path, judge: str) -> None:
    made = tmp_path / "made"
    made.mkdir()
    message = {"role": "assistant", "content": "beta"}
    row = {
        "id": "q",
        "prompt": [{"role": "user", "content": "Say."}],
        "candidates": [{"id": "1", "response": [message]}],
    }
    (made / "candidates.jsonl").write_text(json.dumps(row) + "\n")
    command = ["judge", "rank", str(made), "-m", judge, "-o", str(tmp_path / "r")]
    assert isinstance(CliRunner().invoke(app, command).exception, SpecError)


def test_a_part_of_the_order_that_is_none_is_refused(tmp_path: Path, judge: str) -> None:
    source = data(tmp_path, "beta", "gamma")
    command = ["judge", "rank", str(source), "-m", judge, "-o", str(tmp_path / "r")]
    done = CliRunner().invoke(app, [*command, "--settle", "best"])
    assert isinstance(done.exception, ConfigError)


@pytest.mark.parametrize(
    ("by", "method"), [("score", "scores, verdict"), ("checklist", "checklist, questions by")]
)
def test_pairs_may_be_judged_by_each_response_alone(tmp_path: Path, by: str, method: str) -> None:
    asked = "".join(f"QUESTION (1): Is it {what}?\n" for what in ("full", "short", "true"))
    grades = [("gamma", "[[5]]", "Yes"), ("beta", "[[3]]", "Yes"), ("alpha", "[[1]]", "No")]
    lines = [
        {"match": f"response>\n{word}", "reply": yes if by == "checklist" else grade}
        for word, grade, yes in grades
    ]
    (tmp_path / "judge.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    writer = tmp_path / "writer.jsonl"
    writer.write_text(json.dumps({"match": "", "reply": asked}) + "\n")
    source, run = data(tmp_path, "beta", "gamma", "alpha"), tmp_path / "run"
    command = ["judge", "rank", str(source), "-m", f"scripted/{tmp_path}/judge.jsonl"]
    command += ["-o", str(run), "--method", "round-robin", "--compare-by", by]
    stray = CliRunner().invoke(app, [*command, "--levels", "5"])
    assert isinstance(stray.exception, ConfigError)
    assert "takes no --levels" in str(stray.exception)
    if by == "checklist":
        command += ["--questions-by", f"scripted/{writer}"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (verdict,) = read_verdicts(run)
    assert verdict.ranking is not None
    assert verdict.ranking.order[-1] == "3"
    assert verdict.ranking.order[0] == "2" or by == "checklist"
    assert f"; {method}" in verdict.judge.method


@pytest.mark.parametrize("option", ["--questions-by", "--aggregate", "--criteria-calls"])
def test_a_list_takes_no_options_of_grades(tmp_path: Path, judge: str, option: str) -> None:
    value = {"--aggregate": "mode", "--criteria-calls": "each"}.get(option, judge)
    command = ["judge", "rank", str(data(tmp_path, "a", "b")), "-m", judge, option, value]
    done = CliRunner().invoke(app, [*command, "--method", "listwise"])
    assert isinstance(done.exception, ConfigError)
    assert f"it takes no {option}" in str(done.exception)
