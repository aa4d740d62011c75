"""People judge pairs blind, and what they said is verdict records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import SpecError
from rlaif.service.database import Database
from rlaif.service.labels import Label, LabelBook, record, shown_order
from rlaif.service.queues import gold_of
from rlaif.types import Verdict
from tests.builders import verdict
from tests.unit.service.conftest import CHOICE, Running, Serve
from tests.unit.service.test_pages import PAGE, judged, shown

EVIL = "<script>alert(1)</script>"
ROWS = [
    {
        "prompt": f"Question {n}? {EVIL}",
        "response_a": f"Answer {n}. {EVIL}",
        "response_b": "No idea.",
        "model_a": "secret-model-one",
        "model_b": "secret-model-two",
        "gold": "A" if n % 2 else None,
    }
    for n in range(6)
]


def made(running: Running) -> str:
    name = judged(running, ROWS, "compare")
    shown(running, f"/runs/{name}/verdicts")
    return name


def task(running: Running, name: str, query: str = "", **more: Any) -> tuple[str, int]:
    answer = running.get(f"/runs/{name}/label{query}", headers=PAGE | more)
    assert answer.status_code == 200, answer.text
    found = re.search(r'data-n="(\d+)"', answer.text)
    return answer.text, int(found[1]) if found else 0


def test_pairs_are_judged_blind_until_none_is_left(serve: Serve) -> None:
    running = serve(CHOICE)
    name = made(running)
    seen = []
    for k in range(6):
        text, n = task(running, name)
        assert "secret-model" not in text
        assert "<script>alert" not in text
        first = text.index("Answer") < text.index("No idea")
        shown_first = "first" if first else "second"
        body = {"n": n, "choice": shown_first, "reason": "It answers." if k == 0 else ""}
        kept = running.post(f"/v1/runs/{name}/labels", body).json()
        assert kept["choice"] == "A"
        assert (kept["shown"] == "AB") == first
        seen.append(n)
    assert sorted(seen) == [1, 2, 3, 4, 5, 6]
    text, n = task(running, name)
    assert "Nothing is left" in text
    assert n == 0
    lines = running.get(f"/v1/runs/{name}/labels").text.splitlines()
    records = [Verdict.from_dict(json.loads(line)) for line in lines]
    assert {one.judge.model for one in records} == {"human/local"}
    assert {one.preference.winner for one in records if one.preference} == {"A"}
    assert max(one.rationale or "" for one in records) == "It answers."
    (told,) = running.get(f"/v1/runs/{name}/annotators").json()["annotators"]
    assert (
        told.items()
        >= {
            "name": "local",
            "n": 6,
            "judge_n": 6,
            "judge_agreement": 0.0,
            "gold_n": 3,
            "gold_accuracy": 1.0,
            "gold_high": 1.0,
            "others_n": 0,
            "others_agreement": None,
            "others_kappa": None,
        }.items()
    )


def test_the_last_choice_is_undone_and_a_skip_is_no_verdict(serve: Serve) -> None:
    running = serve(CHOICE)
    name = made(running)
    _, n = task(running, name)
    path = f"/v1/runs/{name}/labels"
    running.post(path, {"n": n, "choice": "bad"})
    _, second = task(running, name)
    assert second != n
    assert running.post(f"{path}/undo", {}).json() == {"n": n}
    assert running.post(f"{path}/undo", {}).json() == {"n": None}
    assert task(running, name)[1] == n
    running.post(path, {"n": n, "choice": "skip"})
    assert task(running, name)[1] == second
    assert running.get(path).text == ""
    assert running.get(f"/v1/runs/{name}/annotators").json()["annotators"] == []


def test_queues_show_what_they_say(serve: Serve) -> None:
    lines = [
        {"match": "Question 2?", "reply": "I cannot say."},
        {"match": "Question 4?", "reply": "[[tie]]"},
    ]
    running = serve(*lines, CHOICE)
    name = made(running)
    assert task(running, name, "?queue=failed")[1] == 3
    assert task(running, name, "?queue=unsure")[1] in (1, 2, 4, 5, 6)
    assert running.get(f"/runs/{name}/label?queue=x", headers=PAGE).status_code == 422


def test_annotators_judge_pairs_and_nothing_else(serve: Serve) -> None:
    running = serve(CHOICE, token=True)
    owner, anna, ben = (
        {"authorization": f"Bearer {running.tokens.add(name, [scope])}"}
        for name, scope in (("owner", "judge"), ("anna", "annotate"), ("ben", "annotate"))
    )
    running.client.headers.update(owner)
    name = made(running)
    assert running.get(f"/runs/{name}/label", headers=PAGE).status_code == 403
    assert running.post(f"/v1/runs/{name}/labels", {"n": 1, "choice": "tie"}).status_code == 403
    assert running.get(f"/v1/runs/{name}/labels").text == ""
    assert "Judge pairs" not in running.get(f"/runs/{name}", headers=PAGE).text
    running.client.headers.clear()
    home = running.get("/", headers=PAGE | anna).text
    assert f"/runs/{name}/label" in home
    for path in ("/v1/runs", f"/v1/runs/{name}", f"/runs/{name}/verdicts", "/v1/models"):
        assert running.get(path, headers=anna).status_code == 403, path
    assert running.post("/v1/score", {}, headers=anna).status_code == 403
    for who, choice in ((anna, "tie"), (ben, "tie")):
        body = {"n": 1, "choice": choice}
        assert running.post(f"/v1/runs/{name}/labels", body, headers=who).status_code == 200
    running.post(f"/v1/runs/{name}/labels", {"n": 2, "choice": "bad"}, headers=ben)
    running.client.headers.update(owner)
    told = running.get(f"/v1/runs/{name}/annotators").json()["annotators"]
    assert [(one["name"], one["n"], one["others_agreement"]) for one in told] == [
        ("anna", 1, 1.0),
        ("ben", 2, 1.0),
    ]
    running.client.headers.clear()
    (mine,) = running.get(f"/v1/runs/{name}/annotators", headers=anna).json()["annotators"]
    assert mine["name"] == "anna"
    assert not any(key.startswith(("gold", "judge")) for key in mine)
    assert "as the judge" not in running.get(f"/runs/{name}/label", headers=PAGE | anna).text
    for path in (f"/v1/runs/{name}/labels", f"/runs/{name}/people"):
        assert running.get(path, headers=anna).status_code == 403
    assert running.post(f"/v1/runs/{name}/labelling", {}, headers=anna).status_code == 403


def test_labels_that_do_not_fit_are_refused(serve: Serve) -> None:
    running = serve(CHOICE)
    name = made(running)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "n"),
        ({"n": 0, "choice": "tie"}, "n"),
        ({"n": 7, "choice": "tie"}, "n"),
        ({"n": True, "choice": "tie"}, "n"),
        ({"n": 1, "choice": "A"}, "choice"),
        ({"n": 1, "choice": ["tie"]}, "choice"),
        ({"n": 1, "choice": "tie", "reason": 5}, "reason"),
        ({"n": 1, "choice": "tie", "reason": "x" * 5000}, "reason"),
        ({"n": 1, "choice": "tie", "name": "other"}, "name"),
    ]
    for body, field in wrong:
        answer = running.post(f"/v1/runs/{name}/labels", body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_rankings_are_not_judged_by_people(serve: Serve) -> None:
    running = serve(CHOICE)
    name = judged(running, [{"prompt": "x", "responses": ["y", "z"]}], "rank")
    assert running.get(f"/runs/{name}/label", headers=PAGE).status_code == 409


def test_a_label_is_a_record_with_the_order_that_was_shown() -> None:
    known = verdict("v", 0.9)
    said = record(known, Label(1, "anna", "B", "BA", "shorter"))
    assert said.judge.model == "human/anna"
    assert said.preference is not None
    assert (said.preference.p_a, said.preference.orders[0].shown) == (0.0, "BA")
    assert Verdict.from_dict(json.loads(json.dumps(said.as_dict()))) == said
    bad = record(known, Label(1, "anna", "bad", "AB", ""))
    assert bad.preference is not None
    assert bad.preference.winner == "tie"
    assert bad.flags == {"a": ("both_bad",), "b": ("both_bad",)}
    assert gold_of(known) is None
    with pytest.raises(ValueError, match="says nothing"):
        record(known, Label(1, "anna", "skip", "AB", ""))


def test_orders_are_even_and_stay(tmp_path: Path) -> None:
    orders = [shown_order("run", n, "anna") for n in range(400)]
    assert orders == [shown_order("run", n, "anna") for n in range(400)]
    assert 150 < orders.count("AB") < 250
    assert orders != [shown_order("run", n, "ben") for n in range(400)]
    book = LabelBook(Database(tmp_path / "service.sqlite"))
    with pytest.raises(SpecError, match="is one of"):
        book.put("run", 1, "anna", "A", "")
    assert book.put("run", 1, "anna", "tie", "\ud800\0").reason == "\\ud800\ufffd"
