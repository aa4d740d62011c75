"""Labels that go out of a run and come in, all of a file or none of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

import pytest

from rlaif.service.config import JudgeConfig, ServiceConfig
from tests.unit.service.conftest import Running, listening
from tests.unit.service.test_pages import PAGE, judged, shown

PAIRS = [
    {"prompt": f"Q{n}?", "id": f"q{n}", "response_a": "=1+1", "response_b": "No idea."}
    for n in range(3)
]
ONES = [{"prompt": f"Q{n}?", "id": f"q{n}", "response": "Yes.", "model": "m"} for n in range(3)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str, str]]:
    folder = tmp_path_factory.mktemp("files")
    script = folder / "script.jsonl"
    lines = [{"match": "No idea", "reply": "[[A]]"}, {"match": "", "reply": "Fine. [[4]]"}]
    script.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    config = ServiceConfig(judges={"default": JudgeConfig(model=f"scripted/{script}")})
    with listening(config, folder / "root") as running:
        names = [judged(running, PAIRS, "compare"), judged(running, ONES, "score")]
        for name in names:
            shown(running, f"/runs/{name}/verdicts")
        yield running, *names


@pytest.fixture
def running(service: tuple[Running, str, str]) -> Iterator[Running]:
    yield service[0]
    service[0].service.database.change("DELETE FROM labels")


def bring(running: Running, name: str, content: str, query: str = "") -> Any:
    path = f"/v1/runs/{name}/labels/import{query}"
    return running.client.post(path, content=content.encode())


def table(*rows: dict[str, str]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines)


def test_a_table_goes_out_guarded_and_comes_in_again(
    running: Running, service: tuple[Running, str, str]
) -> None:
    name, path = service[1], f"/v1/runs/{service[1]}/labels"
    for n, choice in ((1, "first"), (2, "bad"), (3, "tie")):
        running.post(path, {"n": n, "choice": choice, "reason": "@home"})
    sent = running.get(f"{path}?format=csv")
    assert "attachment" in sent.headers["content-disposition"]
    rows = list(csv.DictReader(sent.text.splitlines()))
    assert {row["response_a"] for row in rows} == {"'=1+1"}
    assert {row["reason"] for row in rows} == {"'@home"}
    before = running.get(path).text
    assert bring(running, name, sent.text).json() == {"kept": 0, "same": 3}
    running.service.database.change("DELETE FROM labels")
    assert bring(running, name, sent.text).json() == {"kept": 3, "same": 0}
    assert running.get(path).text == before
    argilla = running.get(f"{path}?format=argilla")
    assert len(argilla.json()) == 3
    running.service.database.change("DELETE FROM labels")
    assert bring(running, name, argilla.text, "?format=argilla").json()["kept"] == 3
    assert running.get(f"{path}?format=xml").status_code == 422


def test_a_pair_the_other_way_round_is_turned(
    running: Running, service: tuple[Running, str, str]
) -> None:
    row = {"id": "q0", "annotator": "anna", "winner": "A"}
    texts = {"response_a": "No idea.", "response_b": "'=1+1"}
    assert bring(running, service[1], table(row | texts)).json()["kept"] == 1
    (line,) = running.get(f"/v1/runs/{service[1]}/labels").text.splitlines()
    found = json.loads(line)
    assert found["preference"]["winner"] == "B"
    assert found["judge"]["model"] == "human/anna"


def test_ratings_come_in_by_score_or_by_grade(
    running: Running, service: tuple[Running, str, str]
) -> None:
    rows = [
        {"id": "q0", "annotator": "anna", "model": "m", "score": "4", "min": "1", "max": "5"},
        {
            "id": "q1",
            "annotator": "anna",
            "model": "m",
            "grade.helpfulness": "2",
            "scale.helpfulness": "1 to 5",
        },
    ]
    assert bring(running, service[2], "\n".join(map(json.dumps, rows)), "?format=jsonl").json() == {
        "kept": 2,
        "same": 0,
    }
    lines = running.get(f"/v1/runs/{service[2]}/labels").text.splitlines()
    assert [json.loads(line)["score"]["value"] for line in lines] == [4, 2]


GOOD = {"id": "q0", "annotator": "anna", "winner": "A"}
RATED = {"id": "q0", "annotator": "anna", "model": "m"}


@pytest.mark.parametrize(
    ("kind", "row", "field", "message"),
    [
        (1, GOOD | {"id": "q9"}, "id", "fits no item"),
        (1, GOOD | {"response_a": "Other.", "response_b": "No idea."}, "id", "fits no item"),
        (1, GOOD | {"winner": "C"}, "winner", "A, B, tie"),
        (1, {"id": "q1", "annotator": "anna", "score": "4", "min": "1", "max": "5"}, "id", "score"),
        (2, RATED | {"score": "4", "min": "1", "max": "10"}, "score", "not 1 to 5"),
        (2, RATED | {"grade.depth": "4", "scale.depth": "1 to 5"}, "grades", "no criterion"),
        (2, RATED | {"model": "other", "score": "4", "min": "1", "max": "5"}, "id", "no item"),
    ],
)
def test_a_file_with_one_bad_row_changes_nothing(
    running: Running,
    service: tuple[Running, str, str],
    kind: int,
    row: dict[str, str],
    field: str,
    message: str,
) -> None:
    fine = GOOD if kind == 1 else RATED | {"score": "4", "min": "1", "max": "5"}
    content = table(fine | {"id": "q2"}, row)
    answer = bring(running, service[kind], content)
    told = answer.json()
    assert (answer.status_code, told["field"]) == (422, field), told
    assert message in told["detail"]
    assert told["detail"].startswith("row 3: ")
    assert running.get(f"/v1/runs/{service[kind]}/labels").text == ""


def test_what_somebody_said_otherwise_is_kept_unless_told(
    running: Running, service: tuple[Running, str, str]
) -> None:
    name = service[1]
    bring(running, name, table(GOOD))
    changed = table(GOOD | {"winner": "tie"}, GOOD | {"id": "q1"})
    assert bring(running, name, changed).status_code == 409
    assert len(running.get(f"/v1/runs/{name}/labels").text.splitlines()) == 1
    assert bring(running, name, changed, "?replace=yes").json() == {"kept": 2, "same": 0}
    for query, status in (("?replace=x", 422), ("?format=x", 422)):
        assert bring(running, name, changed, query).status_code == status
    assert bring(running, name, "").status_code == 400


def test_the_page_of_people_shows_who_can_be_relied_on(
    running: Running, service: tuple[Running, str, str]
) -> None:
    name = service[1]
    page = f"/runs/{name}/people"
    assert "Nobody has judged anything yet" in running.get(page, headers=PAGE).text
    rows = [GOOD | {"id": f"q{n}", "annotator": who} for n in range(3) for who in ("anna", "ben")]
    bring(running, name, table(*rows))
    text = running.get(page, headers=PAGE).text
    assert "anna" in text
    assert "3 of 3 items were judged by several people" in text
    kept = running.post(f"/v1/runs/{name}/labelling", {"overlap": 2, "gold_every": None})
    assert kept.json() == {"overlap": 2, "gold_every": None}
    assert (
        'name="overlap" min="1" max="1000" step="1" value="2"'
        in running.get(page, headers=PAGE).text
    )
    assert running.get(f"/v1/runs/{name}/labels/next").json() == {"n": None, "left": 0}
    running.post(f"/v1/runs/{name}/labelling", {})
    assert running.get(f"/v1/runs/{name}/labels/next").json()["left"] == 3
    assert running.post(f"/v1/runs/{name}/labelling", {"overlap": 0}).status_code == 422


def test_queues_are_counted_and_another_run_is_held_against(
    running: Running, service: tuple[Running, str, str]
) -> None:
    name = service[1]
    sizes = running.get(f"/v1/runs/{name}/queues").json()["queues"]
    assert {one["queue"]: one["size"] for one in sizes} == {
        "random": 3, "unsure": 3, "split": 0, "escalated": 0, "failed": 0,
    }  # fmt: skip
    sizes = running.get(f"/v1/runs/{name}/queues?other={name}").json()["queues"]
    assert {"queue": "against", "size": 0} in sizes
    path = f"/v1/runs/{name}/labels/next"
    assert running.get(f"{path}?queue=against&other={name}").json() == {"n": None, "left": 0}
    assert running.get(f"{path}?queue=against&other={service[2]}").status_code == 409
    assert running.get(f"{path}?queue=against&other=none").status_code == 404
    task = running.get(f"{path}?queue=unsure").json()
    assert (task["kind"], task["left"], len(task["responses"])) == ("comparison", 3, 2)
    page = running.get(f"/runs/{name}/label?queue=unsure", headers=PAGE).text
    assert "where the judge was unsure (3)" in page


def test_the_next_item_is_told_without_the_figures_of_its_page(
    running: Running, service: tuple[Running, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nobody asked for figures")

    monkeypatch.setattr("rlaif.service.labelling.judge_share", never)
    monkeypatch.setattr("rlaif.service.queues.Queues.sizes", never)
    assert running.get(f"/v1/runs/{service[1]}/labels/next").json()["n"] in (1, 2, 3)
