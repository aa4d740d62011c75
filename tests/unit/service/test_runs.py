"""Runs: made, followed, fetched, cancelled, repeated; fair, bounded, and never done twice."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from rlaif.service.accounts import LOCAL, Caller
from rlaif.service.config import Limits
from rlaif.service.database import Database
from rlaif.service.errors import Problem
from rlaif.service.runs import ENDED, RunBook
from rlaif.store.locks import Claims
from rlaif.types import Verdict
from tests.unit.service.conftest import CHOICE, Running, Serve

ROWS = [{"prompt": f"What is {n} and {n}?", "response": f"{2 * n}."} for n in range(20)]
PAIRS = [{"prompt": "Capital?", "response_a": "Paris.", "response_b": "Lyon.", "id": "p"}]

PRICES = "date: 2026-01-01\nsource: a test\nmodels:\n  MODEL: {input: 1000, output: 1000}\n"


def send(running: Running, rows: list[dict[str, Any]], **headers: str) -> str:
    body = "".join(json.dumps(row) + "\n" for row in rows)
    answer = running.client.post("/v1/uploads?format=jsonl", content=body.encode(), headers=headers)
    assert answer.status_code == 201
    assert answer.json()["bytes"] == len(body.encode())
    return str(answer.json()["upload"])


def ended(running: Running, name: str, longest_s: float = 20.0) -> dict[str, Any]:
    until_s = time.monotonic() + longest_s
    while time.monotonic() < until_s:
        run: dict[str, Any] = running.get(f"/v1/runs/{name}").json()
        if run["state"] in ENDED:
            return run
        time.sleep(0.05)
    raise AssertionError(f"the run is still {run['state']}")


def test_an_upload_is_judged_and_its_verdicts_fetched(serve: Serve, tmp_path: Path) -> None:
    running = serve()
    data = {"upload": send(running, ROWS)}
    made = running.post("/v1/runs", {"kind": "score", "data": data, "title": "first"})
    assert made.status_code == 201
    assert made.json()["state"] == "queued"
    run = ended(running, made.json()["id"])
    assert run["state"] == "done"
    assert (run["total"], run["done"], run["ok"], run["coverage"]) == (20, 20, 20, 1.0)
    assert run["summary"]["n"] == 20
    got = running.get(f"/v1/runs/{run['id']}/verdicts")
    verdicts = [Verdict.from_dict(json.loads(line)) for line in got.text.splitlines()]
    assert [v.item.prompt[0].content for v in verdicts] == [row["prompt"] for row in ROWS]
    assert (tmp_path / "root" / "runs" / run["id"] / "config.json").is_file()
    (listed,) = running.get("/v1/runs").json()["runs"]
    assert listed["title"] == "first"
    assert running.get("/v1/runs?before_s=1").json()["runs"] == []


def test_a_data_set_below_the_configured_folder_is_compared(serve: Serve, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs" / "sets"
    inputs.mkdir(parents=True)
    (inputs / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    (tmp_path / "outside.jsonl").write_text(json.dumps(ROWS[0]))
    (inputs / "link.jsonl").symlink_to(tmp_path / "outside.jsonl")
    running = serve(CHOICE)
    body = {"kind": "compare", "data": {"path": "sets/pairs.jsonl"}, "pairs": "adjacent"}
    run = ended(running, running.post("/v1/runs", body).json()["id"])
    assert run["state"] == "done"
    assert run["summary"]["calls"] == 2
    outside = str(tmp_path / "outside.jsonl")
    for path in (
        "../outside.jsonl",
        outside,
        "sets/link.jsonl",
        "nothing",
        ".",
        "a\0b",
        "x" * 5000,
    ):
        answer = running.post("/v1/runs", {"kind": "score", "data": {"path": path}})
        assert answer.status_code == 422, path


def test_responses_are_ranked_in_a_run(serve: Serve) -> None:
    running = serve({"match": "", "reply": "[[tie]]"})
    data = {"upload": send(running, [{"prompt": "Capital?", "responses": ["a", "b", "c"]}])}
    run = ended(running, running.post("/v1/runs", {"kind": "rank", "data": data}).json()["id"])
    assert run["state"] == "done"
    assert run["ok"] == 1


def test_progress_is_told_as_events(serve: Serve) -> None:
    running = serve()
    data = {"upload": send(running, ROWS)}
    name = running.post("/v1/runs", {"kind": "score", "data": data}).json()["id"]
    with running.client.stream("GET", f"/v1/runs/{name}/events") as got:
        assert got.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in got.iter_lines() if line]
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert told[-2]["state"] == "done"
    assert told[-2]["done"] == 20
    assert lines[-2:] == ["event: end", "data: {}"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "kind"),
        ({"kind": "grade"}, "kind"),
        ({"kind": "score"}, "data"),
        ({"kind": "score", "data": {}}, "data"),
        ({"kind": "score", "data": {"upload": "a", "path": "b"}}, "data"),
        ({"kind": "score", "data": {"upload": "0" * 32}}, "data.upload"),
        ({"kind": "score", "data": {"upload": "../../x"}}, "data.upload"),
        ({"kind": "score", "data": {"upload": 5}}, "upload"),
        ({"kind": "score", "judge": "x"}, None),
        ({"kind": "score", "limit": 0}, "limit"),
        ({"kind": "score", "limit": True}, "limit"),
        ({"kind": "score", "url": "http://elsewhere"}, "url"),
        ({"kind": "score", "data": {"path": "x"}, "budget_usd": -1}, None),
    ],
)
def test_a_run_that_does_not_fit_is_refused(
    serve: Serve, body: dict[str, Any], field: str | None
) -> None:
    answer = serve().post("/v1/runs", body)
    assert answer.status_code == 422
    assert answer.json().get("field") == field


def test_odd_options_of_a_run_are_refused(serve: Serve) -> None:
    running = serve()
    data = {"upload": send(running, ROWS)}
    for more, field in (({"pairs": "all"}, "pairs"), ({"budget_usd": "5"}, "budget_usd")):
        answer = running.post("/v1/runs", {"kind": "score", "data": data, **more})
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert (
        running.post("/v1/runs", {"kind": "compare", "data": data, "pairs": "x"}).status_code == 422
    )
    for query in ("limit=0", "limit=x", "before_s=nan"):
        assert running.get(f"/v1/runs?{query}").status_code == 422


def test_uploads_that_do_not_fit_are_refused(serve: Serve, tmp_path: Path) -> None:
    running = serve(limits={"upload_mb": 0.001})
    client = running.client
    assert client.post("/v1/uploads?format=exe", content=b"x").status_code == 422
    assert client.post("/v1/uploads?format=../x", content=b"x").status_code == 422
    assert client.post("/v1/uploads", content=b"").status_code == 400
    parts = (b"x" * 600 for _ in range(3))
    assert client.post("/v1/uploads", content=parts).status_code == 413
    left = [path for path in (tmp_path / "root" / "uploads").rglob("*") if path.is_file()]
    assert left == []


def test_data_that_cannot_be_read_fails_the_run_and_says_where(serve: Serve) -> None:
    running = serve()
    data = {"upload": send(running, [{"prompt": "x"}])}
    run = ended(running, running.post("/v1/runs", {"kind": "score", "data": data}).json()["id"])
    assert run["state"] == "failed"
    assert run["error"] == "row 1: field 'response': is missing; the row has 'prompt'"
    assert running.get(f"/v1/runs/{run['id']}/verdicts").status_code == 409


def test_a_run_is_seen_by_its_own_token_and_by_admins(serve: Serve) -> None:
    running = serve(token=True)
    owner, other, boss = (
        {"authorization": f"Bearer {running.tokens.add(name, [scope])}"}
        for name, scope in (("owner", "judge"), ("other", "judge"), ("boss", "admin"))
    )
    upload = send(running, ROWS, **owner)
    body = {"kind": "score", "data": {"upload": upload}}
    assert running.post("/v1/runs", body, headers=other).status_code == 422
    name = running.post("/v1/runs", body, headers=owner).json()["id"]
    for path in ("", "/events", "/verdicts"):
        assert running.get(f"/v1/runs/{name}{path}", headers=other).status_code == 404
    assert running.post(f"/v1/runs/{name}/cancel", {}, headers=other).status_code == 404
    assert running.get("/v1/runs", headers=other).json()["runs"] == []
    assert running.get("/v1/runs", headers=boss).json()["runs"][0]["id"] == name
    assert running.get(f"/v1/runs/{name}", headers=boss).status_code == 200


def test_a_budget_ends_spending_and_a_larger_one_goes_on(serve: Serve) -> None:
    running = serve(prices=PRICES)
    data = {"upload": send(running, ROWS)}
    one = running.post("/v1/score", ROWS[0]).json()["calls"][0]["cost_usd"]
    body = {"kind": "score", "data": data, "budget_usd": 8 * one}
    run = ended(running, running.post("/v1/runs", body).json()["id"])
    assert run["state"] == "done"
    assert 0 < run["ok"] < 20
    assert run["summary"]["causes"] == {"budget": 20 - run["ok"]}
    assert run["cost_usd"] <= 8 * one
    again = running.post(f"/v1/runs/{run['id']}/rerun", {"budget_usd": 1000 * one}).json()
    assert again["state"] in ("queued", "running")
    whole = ended(running, run["id"])
    assert whole["ok"] == 20
    assert whole["summary"]["calls_cached"] == run["ok"]


def test_cells_that_begin_a_formula_are_quoted(serve: Serve) -> None:
    running = serve()
    text = '=HYPERLINK("http://evil","x")'
    rows = [{"prompt": "+1", "response": text, "id": "-2", "model": "@x"}]
    run = ended(
        running,
        running.post("/v1/runs", {"kind": "score", "data": {"upload": send(running, rows)}}).json()[
            "id"
        ],
    )
    got = running.get(f"/v1/runs/{run['id']}/verdicts?format=csv")
    assert "attachment" in got.headers["content-disposition"]
    (row,) = csv.DictReader(io.StringIO(got.text))
    assert row["responses"] == "'" + text
    assert (row["prompt"], row["item"], row["models"]) == ("'+1", "'-2", "'@x")
    assert float(row["score"]) == 4.0
    assert running.get(f"/v1/runs/{run['id']}/verdicts?format=xls").status_code == 422


def test_verdicts_are_had_as_parquet(serve: Serve) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    running = serve(CHOICE)
    data = {"upload": send(running, PAIRS)}
    run = ended(running, running.post("/v1/runs", {"kind": "compare", "data": data}).json()["id"])
    for _ in range(2):
        got = running.get(f"/v1/runs/{run['id']}/verdicts?format=parquet")
        (row,) = parquet.read_table(io.BytesIO(got.content)).to_pylist()
    assert row["p_a"] == 0.5
    assert row["consistent"] is False
    assert row["responses"] == "Paris.\n\n---\n\nLyon."


@pytest.fixture
def book(tmp_path: Path) -> RunBook:
    database = Database(tmp_path / "service.sqlite")
    limits = Limits(queued_runs=6, queued_runs_a_token=4)
    return RunBook(database, Claims(tmp_path / "claims"), limits)


def token(number: int) -> Caller:
    return Caller(number, f"t{number}", frozenset({"judge"}))


def test_many_runs_of_one_token_do_not_hold_up_another(book: RunBook) -> None:
    for _ in range(4):
        book.add(token(1), "one", {})
    book.add(token(2), "two", {})
    taken = [run.token for _ in range(3) if (run := book.claim())]
    assert taken == [1, 2, 1]


def test_whoever_waited_longest_comes_next(book: RunBook) -> None:
    for number in (1, 1, 2, 2):
        book.add(token(number), "x", {})
    order = []
    for _ in range(4):
        run = book.claim()
        assert run is not None
        order.append(run.token)
        book.end(run.id, "done")
        time.sleep(0.01)
    assert order == [1, 2, 1, 2]
    assert book.claim() is None


def test_a_look_for_runs_where_none_waits_is_cheap(
    book: RunBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, asked = book._db.rows, list[str]()
    run = book.add(token(1), "x", {})
    book.cancel(run)
    monkeypatch.setattr(
        book._db, "rows", lambda text, values=(): asked.append(text) or rows(text, values)
    )
    assert book.claim() is None
    assert [text for text in asked if "JOIN" in text] == []
    assert len(asked) == 1


def test_waiting_runs_are_bounded(book: RunBook) -> None:
    for _ in range(4):
        book.add(token(1), "x", {})
    with pytest.raises(Problem, match="of this token") as mine:
        book.add(token(1), "x", {})
    assert mine.value.status == 429
    book.add(token(2), "x", {})
    book.add(token(2), "x", {})
    with pytest.raises(Problem, match="too many runs wait") as all_:
        book.add(token(3), "x", {})
    assert all_.value.status == 503


def test_two_servers_never_take_one_run_and_a_dead_one_leaves_it(
    book: RunBook, tmp_path: Path
) -> None:
    claims = Claims(tmp_path / "claims")
    other = RunBook(Database(tmp_path / "service.sqlite"), claims, Limits())
    made = [book.add(token(1), "x", {}).id for _ in range(4)]
    taken = [(one.claim(), one) for one in (book, other, book, other)]
    assert sorted(run.id for run, _ in taken if run) == sorted(made)
    assert book.claim() is None
    assert other.claim() is None
    claims.close()  # what the system does when a process dies
    left = {run.id for _ in range(2) if (run := book.claim())}
    assert left == {run.id for run, by in taken if run and by is other}
    assert book.claim() is None


def test_a_waiting_run_is_cancelled_at_once_and_an_ended_one_is_not(book: RunBook) -> None:
    run = book.add(LOCAL, "x", {})
    assert book.cancel(run).state == "cancelled"
    with pytest.raises(Problem, match="cancelled"):
        book.cancel(run)
    assert book.again(run, None).state == "queued"
    with pytest.raises(Problem, match="queued"):
        book.again(run, None)
    taken = book.claim()
    assert taken is not None
    assert not book.advance(run.id, 5, 1, 1, 0.5)
    assert book.cancel(run).cancel
    assert book.advance(run.id, None, 2, 2, 0.5)
    assert book.get(run.id, LOCAL).total == 5
    assert book.counts()["running"] == 1


@pytest.mark.parametrize("value", ["x", "", "1_0", "inf", "nan", "0x1", "9" * 5000, "5.5", "0"])
def test_odd_counts_of_runs_are_refused(serve: Serve, value: str) -> None:
    answer = serve().get("/v1/runs", params={"limit": value})
    assert (answer.status_code, answer.json()["field"]) == (422, "limit")


def test_lists_of_runs_take_the_numbers_that_json_has(serve: Serve) -> None:
    running = serve()
    for query in ({"limit": "5.0"}, {"before_s": "1e9"}, {"limit": "1e2", "before_s": "2.5"}):
        assert running.get("/v1/runs", params=query).status_code == 200, query
    for before in ("0", "1e19", "-5"):
        answer = running.get("/v1/runs", params={"before_s": before})
        assert (answer.status_code, answer.json()["field"]) == (422, "before_s")


def test_a_number_of_pairs_of_any_length_is_refused(serve: Serve) -> None:
    running = serve()
    body = {"kind": "compare", "data": {"upload": send(running, ROWS)}, "pairs": "9" * 5000}
    answer = running.post("/v1/runs", body)
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) < 200
