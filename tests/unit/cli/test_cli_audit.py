"""`rlaif audit` and `rlaif report` from end to end on scripted replies."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rlaif.cli.audit import app as audit
from rlaif.cli.report import app as report
from rlaif.errors import ConfigError, SpecError
from rlaif.evals.audit import probe_path


def invoke(app, *arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def judge(tmp_path):
    """The address of a judge that says A to everything."""
    path = tmp_path / "judge.jsonl"
    path.write_text('{"match": "", "reply": "Read. [[A]]"}\n')
    return f"scripted/{path}"


@pytest.fixture
def ask(judge, tmp_path):
    def asked(*more):
        return invoke(audit, "-m", judge, "-o", tmp_path / "run", "--limit", 4, *more)

    return asked


def test_a_failed_audit_exits_1_and_leaves_all_its_files(ask, tmp_path) -> None:
    done = ask()
    assert done.exit_code == 1
    assert "position_flipped" in done.output
    assert "FAILED" in done.output
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.json", "verdicts.jsonl", "summary.json", "audit.json", "audit.html"}
    assert "Fails" in (tmp_path / "run" / "audit.html").read_text(encoding="utf-8")


def test_json_is_one_object_in_the_contracts_shape(ask, tmp_path) -> None:
    done = ask("--json")
    made = json.loads(done.stdout)
    assert done.exit_code == 1
    assert made["passed"] is False
    assert made["run"] == str(tmp_path / "run")
    first = made["checks"][0]
    assert (first["name"], first["n"], first["effect"], first["threshold"]) == (
        "position_flipped",
        4,
        1.0,
        0.25,
    )
    saved = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert saved["checks"] == made["checks"]


def test_a_rerun_asks_nothing_and_other_bounds_decide_anew(ask, tmp_path) -> None:
    ask()
    lenient = tmp_path / "lenient.yaml"
    checks = json.loads((tmp_path / "run" / "audit.json").read_text())["checks"]
    bounds = "".join(f"  {check['name']}: {{least: 0, most: 1}}\n" for check in checks)
    lenient.write_text(f"name: lenient\nchecks:\n{bounds}")
    done = ask("--thresholds", lenient, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["thresholds"] == "lenient"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["calls_cached"] == summary["calls"] > 0


def test_a_dry_run_asks_and_writes_nothing(ask, tmp_path) -> None:
    done = ask("--dry-run", "--json")
    made = json.loads(done.stdout)
    assert done.exit_code == 0
    assert made["rows"][0]["requests"] == made["rows"][0]["to_ask"] == 4 * 2 * 9
    assert not (tmp_path / "run").exists()


def test_a_judge_without_verdicts_fails_whatever_the_share_allowed(tmp_path) -> None:
    path = tmp_path / "mute.jsonl"
    path.write_text('{"match": "", "reply": "no idea"}\n')
    options = ("-m", f"scripted/{path}", "-o", tmp_path / "mute", "--limit", 2, "--json")
    done = invoke(audit, *options, "--max-failures", 1.0)
    assert done.exit_code == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["format_failures"]["passed"]
    assert checks["format_failures"]["threshold"] == 1.0
    assert checks["accuracy"]["effect"] is None
    assert not checks["accuracy"]["passed"]


def test_own_pairs_and_a_second_judge(judge, tmp_path) -> None:
    data = tmp_path / "pairs.jsonl"
    row = {"prompt": "Why?", "response_a": "So.", "response_b": "Because of it."}
    data.write_text(json.dumps(row | {"model_a": "gpt-4", "model_b": "claude-2"}) + "\n")
    options = ("-m", judge, "--data", data, "--json")
    first = invoke(audit, *options, "-o", tmp_path / "one")
    assert json.loads(first.stdout)["n"] > 0
    second = invoke(audit, *options, "-o", tmp_path / "two", "--with", tmp_path / "one")
    told = {entry["name"]: entry["why"] for entry in json.loads(second.stdout)["skipped"]}
    assert "two known families" in told["preference_leakage"]


def test_a_run_of_generate_is_audited_by_its_pairs(judge, tmp_path) -> None:
    made = tmp_path / "candidates"
    made.mkdir()
    response = [{"role": "assistant", "content": "It is so."}]
    row = {
        "id": "p",
        "prompt": [{"role": "user", "content": "Why?"}],
        "candidates": [
            {"id": f"c{k}", "response": [response[0] | {"content": f"Answer {k}."}], "model": "m"}
            for k in range(3)
        ],
        "draws": [],
    }
    (made / "candidates.jsonl").write_text(json.dumps(row) + "\n")
    done = invoke(audit, "-m", judge, "--data", made, "-o", tmp_path / "run", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["position_flipped"]["n"] == 3


def test_bad_input_is_told(ask, judge, tmp_path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("checks:\n  accurasy: {least: 1}\n")
    done = ask("--thresholds", bad)
    assert isinstance(done.exception, SpecError)
    assert done.exception.line == 2
    for option in ("--thresholds", "--data", "--with"):
        assert isinstance(ask(option, tmp_path / "nowhere").exception, SpecError)
    ask()
    other = invoke(audit, "-m", judge, "-o", tmp_path / "run", "--limit", 3)
    assert isinstance(other.exception, ConfigError)
    assert "limit was 4, is 3" in str(other.exception)


def test_a_likelihood_judge_is_asked_what_fits_it(tmp_path) -> None:
    tokens = [{"token": "x", "logprob": -1.0}]
    path = tmp_path / "likely.jsonl"
    path.write_text(json.dumps({"match": "", "reply": "x", "logprobs": tokens}) + "\n")
    options = ("-m", f"scripted/{path}", "--method", "likelihood", "-o", tmp_path / "run")
    done = invoke(audit, *options, "--limit", 2, "--json")
    made = json.loads(done.stdout)
    assert "position_flipped" not in {check["name"] for check in made["checks"]}
    assert made["judge"]["method"].startswith("likelihood")


def test_a_judge_by_scores_is_audited_without_orders_but_with_draws(tmp_path) -> None:
    path = tmp_path / "grades.jsonl"
    path.write_text('{"match": "", "reply": "[[4]]"}\n')
    options = ("-m", f"scripted/{path}", "--method", "score", "-o", tmp_path / "run")
    plan = json.loads(invoke(audit, *options, "--limit", 2, "--dry-run", "--json").stdout)
    made = json.loads(invoke(audit, *options, "--limit", 2, "--json").stdout)
    checks = {check["name"]: check for check in made["checks"]}
    told = {one["name"]: one["why"] for one in made["skipped"]}
    for name in ("position_flipped", "position_first", "identical_responses"):
        assert told[name] == "this judge reads each response alone"
    assert checks["repeatability"]["n"] > 0
    assert made["judge"]["method"] == "scores, verdict"
    written = (tmp_path / "run" / "verdicts.jsonl").read_text(encoding="utf-8")
    drawn = [json.loads(line) for line in written.splitlines()]
    asked = {call["digest"] for verdict in drawn for call in verdict["calls"]}
    assert len(asked) == plan["rows"][0]["to_ask"]
    # a pair's responses are asked about anew in each draw
    pair = {call["digest"] for call in drawn[0]["calls"]}
    again = [v for v in drawn if v["item"]["meta"]["audit"]["trial"] == "repeat"]
    assert again
    assert all(pair.isdisjoint(call["digest"] for call in v["calls"]) for v in again)


def test_a_checklist_that_another_model_writes_is_audited(tmp_path) -> None:
    path, writer = tmp_path / "yes.jsonl", tmp_path / "writer.jsonl"
    path.write_text('{"match": "", "reply": "Yes"}\n')
    asked = "".join(f"QUESTION (1): Is it {what}?\n" for what in ("full", "short", "true"))
    writer.write_text(json.dumps({"match": "", "reply": asked}) + "\n")
    options = ("-m", f"scripted/{path}", "--questions-by", f"scripted/{writer}", "--limit", 1)
    options = (*options, "-o", tmp_path / "run", "--json")
    made = json.loads(invoke(audit, *options, "--method", "checklist").stdout)
    assert made["coverage"] == 1.0
    assert made["judge"]["method"].startswith("checklist, questions by scripted/")
    plan = json.loads(invoke(audit, *options, "--method", "checklist", "--dry-run").stdout)
    assert {row["model"] for row in plan["rows"]} == {f"scripted/{path}", f"scripted/{writer}"}
    stray = invoke(audit, *options, "--method", "token")
    assert "the method token takes no --questions-by" in str(stray.exception)


def test_the_shipped_pairs_are_the_default(ask, tmp_path) -> None:
    ask()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    from rlaif.cli.options import data_digest

    assert config["data_sha256"] == data_digest(probe_path())


def test_a_report_is_written_beside_the_run_or_where_told(ask, tmp_path) -> None:
    ask()
    done = invoke(report, tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "report.html").exists()
    there = tmp_path / "there.html"
    made = json.loads(
        invoke(report, tmp_path / "run" / "verdicts.jsonl", "-o", there, "--json").stdout
    )
    assert made == {"report": str(there), "bytes": there.stat().st_size}


def test_a_report_needs_its_run(tmp_path) -> None:
    assert isinstance(invoke(report, tmp_path / "nowhere").exception, SpecError)
    assert isinstance(invoke(report, tmp_path).exception, SpecError)
