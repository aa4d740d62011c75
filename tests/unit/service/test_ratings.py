"""People grade single responses, and their ratings meet a judge's scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rlaif.cli.main import app
from rlaif.errors import ConfigError, SpecError
from rlaif.evals.people import score_of
from rlaif.service.database import Database
from rlaif.service.labels import LabelBook, criteria_of, record
from rlaif.types import JudgeRef, RubricRef, Sampling, Score, Verdict
from tests.builders import candidate, criterion, item, rubric
from tests.unit.service.conftest import GRADE, Serve
from tests.unit.service.test_pages import PAGE, judged, shown

EVIL = "<script>alert(1)</script>"
ROWS = [
    {
        "prompt": f"Question {n}?",
        "response": f"Answer {n}. {EVIL}",
        "model": "secret-model",
        "reference": "The answer.",
        "gold": 2 if n == 0 else None,
    }
    for n in range(4)
]


def scored(value: float | None = 4.0, **more: Any) -> Verdict:
    judge = JudgeRef("scripted/judge", "verdict", Sampling())
    if value is None:
        return Verdict(
            "v", "score", item(), (candidate("1", "Paris."),), judge, "no_verdict", "refused"
        )
    score = Score(value, 1, 5, **more)
    return Verdict("v", "score", item(), (candidate("1", "Paris."),), judge, "ok", score=score)


def test_responses_are_graded_blind_and_come_back_as_scores(serve: Serve, tmp_path: Path) -> None:
    running = serve(GRADE)
    name = judged(running, ROWS, "score")
    shown(running, f"/runs/{name}/verdicts")
    path = f"/v1/runs/{name}/labels"
    page = running.get(f"/runs/{name}/label", headers=PAGE).text
    assert "secret-model" not in page
    assert "<script>alert" not in page
    assert 'data-level="5"' in page
    assert "As useful as one could wish" in page
    for _ in ROWS:
        task = running.get(f"{path}/next").json()
        assert "secret-model" not in json.dumps(task)
        assert (task["kind"], task["reference"]) == ("score", "The answer.")
        (asked,) = task["criteria"]
        assert (asked["name"], asked["min"], asked["max"]) == ("helpfulness", 1, 5)
        text = task["responses"][0][0]["content"]
        level = 2 + int(re.findall(r"\d", text)[0]) % 4
        body = {"n": task["n"], "grades": {"helpfulness": level}, "reason": "=1+1"}
        kept = running.post(path, body)
        assert kept.json() == {"n": task["n"], "score": float(level)}, kept.text
    assert running.get(f"{path}/next").json() == {"n": None, "left": 0}
    records = [Verdict.from_dict(json.loads(line)) for line in running.get(path).text.splitlines()]
    assert [one.score and one.score.value for one in records] == [2, 3, 4, 5]
    assert {one.judge.model for one in records} == {"human/local"}
    (told,) = running.get(f"/v1/runs/{name}/annotators").json()["annotators"]
    assert (told["gold_n"], told["gold_accuracy"], told["judge_agreement"]) == (1, 1.0, 0.25)
    assert "Annotators" in running.get(f"/runs/{name}/people", headers=PAGE).text
    _held_against_the_judge(running.get(path).text, running, name, tmp_path)


def _held_against_the_judge(labels: str, running: Any, name: str, folder: Path) -> None:
    people, judge = folder / "people.jsonl", folder / "judge.jsonl"
    people.write_text(labels, encoding="utf-8")
    judge.write_text(running.get(f"/v1/runs/{name}/verdicts").text, encoding="utf-8")
    done = CliRunner().invoke(app, ["agreement", str(judge), "--with", str(people), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["scores"]
    assert (found["n"], found["agreement"], found["difference"]) == (4, 0.25, 0.5)
    assert found["absolute_difference"] == 1.0
    assert found["spearman"] is None
    refused = CliRunner().invoke(
        app, ["agreement", str(judge), "--with", str(people), "--majority"]
    )
    assert isinstance(refused.exception, ConfigError)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"n": 1, "grades": {"helpfulness": 6}}, "grades.helpfulness"),
        ({"n": 1, "grades": {"helpfulness": True}}, "grades.helpfulness"),
        ({"n": 1, "grades": {}}, "grades.helpfulness"),
        ({"n": 1, "grades": {"helpfulness": 1, "other": 2}}, "grades"),
        ({"n": 1, "grades": [4]}, "grades"),
        ({"n": 1, "grades": {"helpfulness": 1}, "choice": "skip"}, "choice"),
        ({"n": 1, "choice": "first"}, "choice"),
        ({"n": 9, "grades": {"helpfulness": 1}}, "n"),
    ],
)
def test_grades_that_do_not_fit_are_refused(
    rated_run: tuple[Any, str], body: dict[str, Any], field: str
) -> None:
    running, name = rated_run
    answer = running.post(f"/v1/runs/{name}/labels", body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


@pytest.fixture(scope="module")
def rated_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from rlaif.service.config import JudgeConfig, ServiceConfig
    from tests.unit.service.conftest import listening

    folder = tmp_path_factory.mktemp("rated")
    script = folder / "script.jsonl"
    script.write_text(json.dumps(GRADE) + "\n", encoding="utf-8")
    config = ServiceConfig(judges={"default": JudgeConfig(model=f"scripted/{script}")})
    with listening(config, folder / "root") as running:
        name = judged(running, ROWS, "score")
        shown(running, f"/runs/{name}/verdicts")
        yield running, name


def test_a_skip_of_a_response_is_none(rated_run: tuple[Any, str]) -> None:
    running, name = rated_run
    path = f"/v1/runs/{name}/labels"
    assert running.post(path, {"n": 2, "choice": "skip"}).json()["choice"] == "skip"
    assert running.get(path).text == ""
    assert running.post(f"{path}/undo", {}).json() == {"n": 2}


def test_several_criteria_make_one_score(tmp_path: Path) -> None:
    criteria = (criterion("clarity", weight=0.75), criterion("depth", weight=0.25))
    database = Database(tmp_path / "service.sqlite")
    book = LabelBook(database)
    made = book.rate("run", 3, "anna", {"clarity": 5, "depth": 1.0}, criteria, "half")
    assert made.score is not None
    assert made.score.value == 4.0
    (kept,) = book.of("run")
    assert kept == made
    said = record(scored(), kept)
    assert (said.judge.model, said.rationale) == ("human/anna", "half")
    assert Verdict.from_dict(json.loads(json.dumps(said.as_dict()))) == said
    assert book.counts("run") == {3: 1}
    database.close()


def test_a_rubric_that_is_not_known_is_read_off_the_score() -> None:
    known = rubric(criterion("clarity"))
    ref = RubricRef(known.name, known.version, known.digest)
    by_rubric = scored()
    with_ref = Verdict(
        "v", "score", by_rubric.item, by_rubric.candidates,
        JudgeRef("j", "verdict", Sampling(), ref), "ok", score=by_rubric.score,
    )  # fmt: skip
    assert criteria_of(with_ref, {known.name: known}) == known.criteria
    (plain,) = criteria_of(scored(), {})
    assert (plain.name, plain.scale.min, plain.scale.max) == ("overall", 1, 5)
    told = {"clarity": {"value": 4, "min": 0, "max": 10, "weight": 1.0}}
    (one,) = criteria_of(scored(criteria=told), {})
    assert (one.name, one.scale.max) == ("clarity", 10)
    for bad in ({"min": 0, "max": 0.5}, {"min": 0, "max": 500}, {"min": "a", "max": 5}, {}):
        with pytest.raises(SpecError, match="levels"):
            criteria_of(scored(criteria={"clarity": bad}), {})
    with pytest.raises(SpecError, match="weight"):
        criteria_of(scored(criteria={"clarity": {"min": 1, "max": 5, "weight": 0}}), {})
    with pytest.raises(SpecError, match="scale"):
        criteria_of(scored(None), {})


def test_pass_or_fail_is_a_score_from_0_to_1() -> None:
    assert score_of({"safe": 1}, [criterion("safe", 0, 1)]).value == 1.0
