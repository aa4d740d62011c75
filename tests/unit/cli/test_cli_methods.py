"""How a judge is asked, from the options to the judge's name and its requests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlaif.cli.judge import app
from rlaif.cli.methods import PairOptions, ScoreOptions
from rlaif.errors import ConfigError
from rlaif.judge.methods import METHODS, check_used
from rlaif.types import Sampling

GOOD = "A full and careful answer."
JUDGE = [
    {"match": f"response_a>\n{GOOD}", "reply": "First.\n[[A]]"},
    {"match": f"response_b>\n{GOOD}", "reply": "Second.\n[[B]]"},
    {"match": f"response>\n{GOOD}", "reply": "helpfulness: [[4]]"},
    {"match": "response>\nNo idea.", "reply": "helpfulness: [[2]]"},
    {"match": "", "reply": "Paris."},
]


def _write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pair = {"id": "1", "prompt": "Q?", "response_a": GOOD, "response_b": "No idea."}
    _write(tmp_path / "pairs.jsonl", pair)
    _write(tmp_path / "scores.jsonl", {"id": "1", "prompt": "Q?", "response": GOOD})
    _write(tmp_path / "judge.jsonl", *JUDGE)
    return tmp_path


def _call(command: str, *words: str, judge: str = "judge.jsonl") -> Result:
    data = "pairs.jsonl" if command == "compare" else "scores.jsonl"
    return CliRunner().invoke(app, [command, data, "-m", f"scripted/{judge}", "-o", "run", *words])


def _verdict(command: str, *words: str, judge: str = "judge.jsonl") -> dict[str, object]:
    done = _call(command, *words, judge=judge)
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(Path("run/verdicts.jsonl").read_text())
    return found


@pytest.mark.parametrize(
    ("words", "method", "calls"),
    [
        ((), "verdict", 2),
        (("--method", "verdict", "--levels", "3"), "verdict", 2),
        (("--ties", "forced", "--no-reask"), "verdict, ties forced, asked once", 2),
        (("--orders", "AB"), "verdict, order AB", 1),
        (("--orders", "random", "--seed", "4"), "verdict, random order, seed 4", 1),
        (("--draws", "2", "--temperature", "1"), "verdict, 2 draws", 4),
        (("--reference-by-judge",), "verdict, own reference", 3),
        (("--structured", "auto"), "verdict, structured", 2),
        (("--too-long", "cut", "--max-chars", "500"), "verdict, cut at 500 characters", 2),
        (("--on-injection", "no_verdict"), "verdict, injections refused", 2),
        (("--method", "score"), "scores, verdict", 2),
        (("--method", "score", "--aggregate", "mode"), "scores, verdict, mode", 2),
        (
            ("--method", "score", "--criteria-calls", "each"),
            "scores, verdict, one criterion a call",
            2,
        ),
        (("--method", "score", "--reference-by-judge"), "scores, verdict, own reference", 4),
    ],
)
def test_options_of_compare_reach_the_judge(
    files: Path, words: tuple[str, ...], method: str, calls: int
) -> None:
    verdict = _verdict("compare", *words)
    assert verdict["judge"]["method"] == method  # type: ignore[index]
    assert len(verdict["calls"]) == calls  # type: ignore[arg-type]
    assert verdict["preference"]["winner"] == "A"  # type: ignore[index]


def test_one_token_and_five_levels(files: Path) -> None:
    top = [["1", -0.2], ["2", -2.0], ["5", -3.0]]
    line = {"match": "digit", "reply": "1", "logprobs": [{"token": "1", "logprob": -0.2}]}
    line["logprobs"][0]["top"] = top  # type: ignore[index]
    _write(files / "token.jsonl", line)
    verdict = _verdict("compare", "--method", "token", "--levels", "5", judge="token.jsonl")
    assert verdict["judge"]["method"] == "token, 5 levels"  # type: ignore[index]
    orders = verdict["preference"]["orders"]  # type: ignore[index]
    assert [(o["level"], o["source"]) for o in orders] == [("A>>B", "tokens"), ("B>>A", "tokens")]


@pytest.mark.parametrize(
    ("words", "method", "calls"),
    [
        ((), "verdict", 1),
        (("--aggregate", "mode"), "verdict, mode", 1),
        (("--criteria-calls", "each"), "verdict, one criterion a call", 1),
        (("--draws", "3", "--temperature", "1"), "verdict, 3 draws", 3),
        (("--reference-by-judge", "--no-reask"), "verdict, own reference, asked once", 2),
        (("--structured", "auto"), "verdict, structured", 1),
    ],
)
def test_options_of_score_reach_the_judge(
    files: Path, words: tuple[str, ...], method: str, calls: int
) -> None:
    verdict = _verdict("score", *words)
    assert verdict["judge"]["method"] == method  # type: ignore[index]
    assert len(verdict["calls"]) == calls  # type: ignore[arg-type]
    assert verdict["score"]["value"] == 4.0  # type: ignore[index]


def test_an_expectation_without_probabilities_takes_draws(files: Path) -> None:
    _write(files / "level.jsonl", {"match": "", "reply": "4"})
    verdict = _verdict("score", "--method", "expectation", "--draws", "3", judge="level.jsonl")
    assert len(verdict["calls"]) == 4  # type: ignore[arg-type]
    assert verdict["judge"]["method"] == "expectation, or 3 draws"  # type: ignore[index]


def test_a_checklist_compares_too_and_another_model_writes_it(files: Path) -> None:
    asked = (
        "QUESTION (2): Is it full?\nQUESTION (1): Is it careful?\nQUESTION (1): Is it an answer?"
    )
    _write(files / "writer.jsonl", {"match": "", "reply": asked})
    yes = {"match": f"response>\n{GOOD}", "reply": "Yes"}
    _write(files / "answers.jsonl", yes, {"match": "", "reply": "No"})
    words = ("--method", "checklist", "--questions-by", "scripted/writer.jsonl")
    plan = _call("compare", *words, "--dry-run", "--json", judge="answers.jsonl")
    rows = {row["model"]: row["requests"] for row in json.loads(plan.output)["rows"]}
    assert rows["scripted/writer.jsonl"] == 1
    assert rows["scripted/answers.jsonl"] > 6
    verdict = _verdict("compare", *words, judge="answers.jsonl")
    assert verdict["judge"]["method"] == "checklist, questions by scripted/writer.jsonl"  # type: ignore[index]
    assert verdict["preference"]["winner"] == "A"  # type: ignore[index]
    assert len(verdict["calls"]) == 7  # type: ignore[arg-type]


def test_a_panel_may_compare_by_scores(files: Path) -> None:
    _write(files / "other.jsonl", *JUDGE)
    words = ("--method", "score", "-m", "scripted/other.jsonl")
    verdict = _verdict("compare", *words)
    assert verdict["preference"]["p_a"] == 1.0  # type: ignore[index]
    members = verdict["judge"]["members"]  # type: ignore[index]
    assert [member["method"] for member in members] == ["scores, verdict"] * 2


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("compare", ("--draws", "2"), "raise the temperature"),
        ("compare", ("--method", "token", "--structured", "auto"), "no JSON object"),
        ("compare", ("--method", "likelihood", "--levels", "5"), "takes no --levels"),
        ("compare", ("--method", "likelihood", "--draws", "2"), "takes no --draws"),
        ("score", ("--method", "expectation", "--criteria-calls", "one"), "one level a call"),
        ("compare", ("--least-mass", "0.2"), "least_mass is for the method token"),
        ("score", ("--least-mass", "0.2"), "least_mass is for the method expectation"),
        ("score", ("--method", "expectation", "--structured", "auto"), "no JSON object"),
        ("compare", ("--aggregate", "mode"), "verdict (chosen by auto) takes no --aggregate"),
        ("compare", ("--criteria-calls", "each"), "takes no --criteria-calls"),
        (
            "compare",
            ("--method", "token", "--questions-by", "scripted/judge.jsonl"),
            "--questions-by",
        ),
        ("compare", ("--method", "likelihood", "--aggregate", "mode"), "takes no --aggregate"),
        ("compare", ("--method", "score", "--ties", "forced"), "score takes no --ties"),
        ("compare", ("--method", "expectation", "--levels", "5"), "expectation takes no --levels"),
        ("compare", ("--method", "checklist", "--orders", "AB"), "checklist takes no --orders"),
        ("compare", ("--method", "checklist", "--draws", "2"), "checklist takes no --draws"),
        (
            "compare",
            ("--method", "score", "--questions-by", "scripted/judge.jsonl"),
            "score takes no --questions-by",
        ),
    ],
)
def test_an_option_that_does_not_fit_is_an_error(
    files: Path, command: str, words: tuple[str, ...], message: str
) -> None:
    done = _call(command, *words)
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("compare", ("--levels", "4")),
        ("compare", ("--ties", "never")),
        ("compare", ("--aggregate", "median")),
        ("compare", ("--criteria-calls", "two")),
        ("score", ("--ties", "forced")),
        ("score", ("--levels", "5")),
        ("score", ("--method", "likelihood")),
        ("score", ("--draws", "0")),
        ("score", ("--max-chars", "99")),
    ],
)
def test_an_option_of_another_command_is_bad_usage(
    files: Path, command: str, words: tuple[str, ...]
) -> None:
    assert _call(command, *words).exit_code == 2


def test_what_was_chosen_is_said_where_nobody_chose_it() -> None:
    sampling = Sampling()
    likelihood = METHODS["likelihood"]
    with pytest.raises(ConfigError, match=r"likelihood \(chosen by auto\) takes no --ties"):
        check_used(PairOptions(ties="forced").how(sampling), likelihood, likelihood.pair_uses)
    check_used(PairOptions().how(sampling), likelihood, likelihood.pair_uses)
    check_used(ScoreOptions(method="verdict").how(sampling), likelihood, likelihood.grade_uses)


def test_a_response_that_is_too_long_is_planned_as_no_call(files: Path) -> None:
    done = _call("score", "--max-chars", "100", "--dry-run", "--json")
    assert done.exit_code == 0
    assert json.loads(done.output)["rows"][0]["requests"] == 1
    _write(files / "scores.jsonl", {"id": "1", "prompt": "Q?", "response": "x" * 101})
    verdict_less = _call("score", "--max-chars", "100", "--max-failures", "1")
    assert verdict_less.exit_code == 0, verdict_less.output
    found = json.loads(Path("run/verdicts.jsonl").read_text())
    assert (found["cause"], found["calls"]) == ("truncated", [])
