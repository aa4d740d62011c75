"""What the service says of itself; its configuration; its command."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlaif.cli.main import app
from rlaif.errors import ConfigError, RlaifError, SpecError
from rlaif.service.config import JudgeConfig, ServiceConfig, allowed_rubrics, known, load_config
from rlaif.service.errors import STATUSES, problem_of
from rlaif.service.runs import RunBook
from tests.unit.service.conftest import Serve

RUBRIC = """
name: mine
version: 1.0.0
criteria:
  - {name: clarity, question: Is it clear, scale: {min: 1, max: 5}}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_health_and_lists(serve: Serve) -> None:
    running = serve()
    assert running.get("/healthz").json() == {"status": "ok"}
    assert running.get("/readyz").json() == {"status": "ready"}
    (model,) = running.get("/v1/models").json()["models"]
    assert (model["judge"], model["rubric"]) == ("default", "helpfulness")
    names = [rubric["name"] for rubric in running.get("/v1/rubrics").json()["rubrics"]]
    assert "correctness" in names
    assert names == sorted(names)
    assert running.get("/v1/constitutions").json()["constitutions"][0]["principles"]


def test_it_is_not_ready_when_its_database_is_gone(serve: Serve) -> None:
    running = serve()
    running.service.database.close()
    assert running.get("/readyz").status_code == 503
    assert running.get("/healthz").status_code == 200
    assert running.get("/v1/runs").status_code == 507


def test_requests_are_counted_by_route_and_not_by_path(serve: Serve) -> None:
    running = serve()
    running.post("/v1/score", {"prompt": "x", "response": "y"})
    for n in range(3):
        running.get(f"/v1/nothing-{n}")
        running.get(f"/v1/runs/{n}")
    text = running.get("/metrics").text
    assert 'rlaif_requests_total{route="/v1/score",status="200"} 1.0' in text
    assert 'rlaif_requests_total{route="/v1/runs/{run_id}",status="404"} 3.0' in text
    assert 'rlaif_requests_total{route="other",status="404"} 3.0' in text
    assert 'rlaif_calls_total{cached="no"} 1.0' in text
    assert 'rlaif_runs{state="queued"} 0.0' in text


def test_runs_are_counted_when_somebody_asks(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, asked = RunBook.counts, []
    monkeypatch.setattr(RunBook, "counts", lambda book: asked.append(1) or counts(book))
    running = serve()
    time.sleep(0.1)
    assert asked == []
    assert 'rlaif_runs{state="done"} 0.0' in running.get("/metrics").text
    assert asked == [1]
    running.service.database.close()
    text = running.get("/metrics").text
    assert "rlaif_runs{" not in text
    assert 'rlaif_requests_total{route="/metrics",status="200"} 1.0' in text


def test_every_operation_is_described(serve: Serve) -> None:
    told = serve().get("/openapi.json").json()
    assert {"/v1/score", "/v1/runs/{run_id}/events", "/get_reward", "/compare"} <= set(
        told["paths"]
    )
    assert "Verdict" in told["components"]["schemas"]
    text = json.dumps(told)
    for name in ("Score", "Preference", "Ranking", "JudgeRef"):
        assert f'"#/components/schemas/{name}"' in text
    refs = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert refs <= set(told["components"]["schemas"])
    for path in told["paths"].values():
        for operation in path.values():
            assert operation["summary"]


def test_every_error_has_its_status() -> None:
    from rlaif import errors

    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, RlaifError)]
    assert set(kinds) - {RlaifError} == set(STATUSES)
    assert problem_of(errors.BudgetError("spent")).status == 402
    assert problem_of(errors.BackendError("busy", retry_after=7)).retry_after_s == 7
    located = problem_of(SpecError("is wrong", path="row", line=3, field="prompt"))
    assert (located.detail, located.field) == ("row 3: is wrong", "prompt")


def test_a_configuration_is_read_with_files_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "mine.yaml", RUBRIC)
    path = write(
        tmp_path / "service.yaml",
        "judges:\n  default: {model: scripted/x, rubric: ./mine.yaml}\n"
        "rubrics: [./mine.yaml, code]\n"
        "inputs: sets\nreward: {judge: default, neutral: 0.0}\nlimits: {batch: 7}\n",
    )
    config = load_config(path)
    assert config.limits.batch == 7
    assert config.inputs == str(tmp_path / "sets")
    assert list(allowed_rubrics(config)) == ["code", "mine"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("judges: {}\n", "judges"),
        ("judge: {}\n", "is not a known field"),
        ("judges:\n  default: {}\n", "model"),
        ("judges:\n  default: {model: a/b, api_key: x}\n", "is not a known field"),
        ("judges:\n  'a b': {model: a/b}\n", "should be letters"),
        ("judges:\n  default: {model: a/b, temperature: -1}\n", "0 or more"),
        ("judges:\n  one: {model: a/b}\nreward: {judge: two}\n", "no judge 'two'"),
        ("judges:\n  default: {model: a/b}\nlimits: {batch: 0}\n", "above 0"),
    ],
)
def test_a_configuration_that_is_wrong_says_where(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        load_config(write(tmp_path / "service.yaml", text))


def test_two_rubrics_of_one_name_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", RUBRIC)
    second = write(tmp_path / "b.yaml", RUBRIC.replace("1.0.0", "2.0.0"))
    judges = {"default": JudgeConfig(model="scripted/x")}
    config = ServiceConfig(judges=judges, rubrics=[str(first), str(second)])
    with pytest.raises(ConfigError, match="two rubrics are called 'mine'"):
        allowed_rubrics(config)
    with pytest.raises(ConfigError, match="did you mean"):
        known("defualt", {"default": 1}, "judge")


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["serve", *arguments])
    error = str(done.exception) if isinstance(done.exception, RlaifError) else ""
    return done.exit_code, done.output + error


def test_tokens_are_made_listed_and_ended_on_the_command_line(tmp_path: Path) -> None:
    root = ("--root", str(tmp_path / "root"))
    code, text = run(*root, "--add-token", "trainer", "--budget-usd", "5", "--json")
    assert code == 0
    token = json.loads(text)["token"]
    assert token.startswith("rlaif_1_")
    assert run(*root, "--add-token", "other", "--scope", "admin")[1].startswith("rlaif_2_")
    _, text = run(*root, "--tokens", "--json")
    assert [row["name"] for row in json.loads(text)["tokens"]] == ["trainer", "other"]
    assert token not in text
    assert "trainer" in run(*root, "--tokens")[1]
    assert run(*root, "--revoke-token", "trainer")[0] == 0
    assert "no token" in run(*root, "--revoke-token", "trainer")[1]


def test_an_address_others_reach_needs_a_token(tmp_path: Path) -> None:
    root = ("--root", str(tmp_path / "root"))
    for host in ("0.0.0.0", "::", "192.168.1.2", "judge.example"):
        assert "make a token first" in run(*root, "--host", host, "-m", "scripted/x")[1]


def test_one_source_of_judges_is_needed(tmp_path: Path) -> None:
    root = ("--root", str(tmp_path / "root"))
    assert "say what is to judge" in run(*root)[1]
    assert "say what is to judge" in run(*root, "-m", "scripted/x", "-c", "x.yaml")[1]
    assert "no such file" in run(*root, "-m", "scripted/nothing")[1].lower()
