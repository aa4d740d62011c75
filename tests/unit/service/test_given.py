"""Runs without a judge of the service: verdicts made elsewhere, and data for people alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import SpecError
from rlaif.service import given
from tests.unit.service.conftest import CHOICE, Running, Serve
from tests.unit.service.test_pages import PAGE, judged, shown
from tests.unit.service.test_queues import several
from tests.unit.service.test_runs import ended, send

ROWS = [{"prompt": "Q?", "response_a": "a", "response_b": "b"}]


def taken(running: Running, *verdicts: Any, **more: Any) -> Any:
    rows = [one if isinstance(one, dict) else one.as_dict() for one in verdicts]
    body = {"kind": "verdicts", "data": {"upload": send(running, rows)}} | more
    return running.post("/v1/runs", body)


def test_a_cascade_of_elsewhere_is_looked_at_and_settled_by_people(serve: Serve) -> None:
    running = serve(CHOICE)
    made = taken(running, several("v1", 0.6, 0.7, at=0.9), several("v2", 0.95, at=0.9)).json()
    assert (made["kind"], made["judge"]) == ("compare", "several")
    name = made["id"]
    done = ended(running, name)
    assert (done["state"], done["summary"]["n"]) == ("done", 2)
    shown(running, f"/runs/{name}/verdicts")
    task = running.get(f"/v1/runs/{name}/labels/next?queue=escalated").json()
    assert (task["n"], task["left"]) == (1, 1)
    kept = running.get(f"/v1/runs/{name}/verdicts").text.splitlines()
    assert json.loads(kept[0]) == several("v1", 0.6, 0.7, at=0.9).as_dict()
    assert running.post(f"/v1/runs/{name}/rerun", {}).status_code == 200
    assert ended(running, name)["state"] == "done"


def test_a_response_without_a_score_is_graded_as_the_others_are(serve: Serve) -> None:
    from tests.unit.service.test_ratings import scored

    running = serve(CHOICE)
    name = taken(running, scored(None), scored()).json()["id"]
    ended(running, name)
    shown(running, f"/runs/{name}/verdicts")
    task = running.get(f"/v1/runs/{name}/labels/next?queue=failed").json()
    assert [(one["name"], one["max"]) for one in task["criteria"]] == [("overall", 5)]
    kept = running.post(f"/v1/runs/{name}/labels", {"n": 1, "grades": {"overall": 2}})
    assert kept.json() == {"n": 1, "score": 2.0}
    none = taken(running, scored(None)).json()["id"]
    ended(running, none)
    shown(running, f"/runs/{none}/verdicts")
    assert running.get(f"/v1/runs/{none}/labels/next").status_code == 422


def test_what_is_no_run_of_verdicts_is_refused(serve: Serve) -> None:
    running = serve(CHOICE)
    first = several("v1", 0.6, 0.7)
    for answer in (
        taken(running, {"prompt": "x"}),
        taken(running, first, judge="default"),
        taken(running, first, budget_usd=1),
    ):
        assert answer.status_code == 422
    from tests.unit.service.test_ratings import scored

    mixed = ended(running, taken(running, first, scored()).json()["id"])
    assert mixed["state"] == "failed"
    assert "a score among verdicts to compare" in mixed["error"]


def test_a_line_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(given, "MAX_ROW_BYTES", 100)
    path = tmp_path / "verdicts.jsonl"
    path.write_text("{}\n" + "x" * 101 + "\n", encoding="utf-8")
    with pytest.raises(SpecError, match="longer than 100") as error:
        given.work_of(path)
    assert error.value.line == 2
    path.write_text("", encoding="utf-8")
    with pytest.raises(SpecError, match="no verdicts"):
        given.work_of(path)


def test_people_judge_data_that_no_judge_has_seen(serve: Serve) -> None:
    running = serve(CHOICE)
    body = {"kind": "compare", "judge": "people", "data": {"upload": send(running, ROWS)}}
    run = ended(running, running.post("/v1/runs", body).json()["id"])
    assert (run["state"], run["rubric"], run["coverage"]) == ("done", "helpfulness", 0.0)
    assert run["summary"]["causes"] == {"budget": 1}
    name = run["id"]
    shown(running, f"/runs/{name}/verdicts")
    assert "How well does the response" in running.get(f"/runs/{name}/label", headers=PAGE).text
    assert running.post(f"/v1/runs/{name}/labels", {"n": 1, "choice": "tie"}).status_code == 200
    (told,) = running.get(f"/v1/runs/{name}/annotators").json()["annotators"]
    assert (told["n"], told["judge_n"], told["judge_agreement"]) == (1, 0, None)
    wrong = running.post("/v1/runs", body | {"rubric": "none"})
    assert wrong.status_code == 422
    graded = judged(running, [{"prompt": "x", "response": "y"}], "score")
    assert running.get(f"/v1/runs/{graded}").json()["judge"] == "default"
