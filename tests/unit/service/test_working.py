"""What becomes of runs when something is missing: a token, a folder, a package, space."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import ConfigError, StoreError
from rlaif.service import working
from rlaif.service.accounts import LOCAL
from rlaif.service.config import Limits
from rlaif.service.database import Database
from rlaif.service.results import parquet
from rlaif.service.runs import RunBook
from rlaif.service.working import input_path
from rlaif.store.locks import Claims
from rlaif.store.postgres import UnreachableError
from tests.builders import verdict
from tests.unit.service.conftest import Serve
from tests.unit.service.test_runs import ROWS, ended, send


def test_a_run_of_a_token_that_was_revoked_fails(serve: Serve) -> None:
    running = serve(token=True, limits={"runs_at_once": 1})
    owner, boss = (running.tokens.add(name, [s]) for name, s in (("o", "judge"), ("b", "admin")))
    head = {"authorization": f"Bearer {owner}"}
    upload = send(running, ROWS, **head)
    # nothing is taken while the database is held, so the token is gone before its run begins
    with running.service.database.transaction():
        running.service.database.change(
            "INSERT INTO runs (id, token, created_s, state, title, work) VALUES "
            "('r', 1, 0, 'queued', 't', ?)",
            (
                json.dumps(
                    {
                        "kind": "score",
                        "judge": "default",
                        "rubric": "helpfulness",
                        "data": {"upload": upload, "name": "data.jsonl"},
                    }
                ),
            ),
        )
        running.service.database.change("UPDATE tokens SET revoked_s = 1 WHERE id = 1")
    running.client.headers["authorization"] = f"Bearer {boss}"
    run = ended(running, "r")
    assert (run["state"], run["error"]) == ("failed", "the token of this run was revoked")


def test_a_service_without_a_folder_of_data_sets_says_so(serve: Serve, tmp_path: Path) -> None:
    running = serve(inputs=None)
    answer = running.post("/v1/runs", {"kind": "score", "data": {"path": "x"}})
    assert answer.status_code == 422
    assert "upload one" in answer.json()["detail"]
    with pytest.raises(ConfigError, match="no such data set"):
        input_path(str(tmp_path), "nothing")


def test_uploads_that_cannot_be_kept_are_a_507(serve: Serve, tmp_path: Path) -> None:
    running = serve()
    (tmp_path / "root" / "uploads").write_text("in the way")
    answer = running.client.post("/v1/uploads", content=b"{}")
    assert answer.status_code == 507
    assert "cannot be kept" in answer.json()["detail"]


def test_a_run_that_cannot_be_written_fails_and_says_so(serve: Serve, tmp_path: Path) -> None:
    running = serve()
    data = {"upload": send(running, ROWS)}
    (tmp_path / "root" / "runs").write_text("in the way")
    run = ended(running, running.post("/v1/runs", {"kind": "score", "data": data}).json()["id"])
    assert run["state"] == "failed"
    assert "cannot be a folder" in run["error"]
    assert str(tmp_path) not in run["error"]  # where the service keeps its files is its own affair
    (tmp_path / "root" / "runs").unlink()
    running.post(f"/v1/runs/{run['id']}/rerun", {})
    assert ended(running, run["id"])["state"] == "done"


def test_parquet_without_its_package_says_what_to_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text(json.dumps(verdict().as_dict()) + "\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="ask for csv or jsonl"):
        parquet(path)


def test_a_run_that_is_gone_from_the_database_is_an_error(tmp_path: Path) -> None:
    database = Database(tmp_path / "service.sqlite")
    book = RunBook(database, Claims(tmp_path / "claims"), Limits())
    run = book.add(LOCAL, "x", {})
    database.change("UPDATE runs SET state = 'done'")
    database.change("CREATE TRIGGER gone AFTER UPDATE ON runs BEGIN DELETE FROM runs; END")
    with pytest.raises(StoreError, match="is gone"):
        book.again(run, None)


def test_a_bug_amid_a_run_fails_that_run_alone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve()

    def broken(*_: object) -> None:
        raise RuntimeError("the secret prompt")

    monkeypatch.setattr("rlaif.service.working.data_digest", broken)
    data = {"upload": send(running, ROWS)}
    run = ended(running, running.post("/v1/runs", {"kind": "score", "data": data}).json()["id"])
    assert (run["state"], run["error"]) == ("failed", "the service failed; see its log")
    monkeypatch.undo()
    running.post(f"/v1/runs/{run['id']}/rerun", {})
    assert ended(running, run["id"])["state"] == "done"


def test_that_a_run_failed_is_noted_as_soon_as_it_can_be(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlaif.service.working._AGAIN_S", 0.1)
    running = serve()
    tries = []
    ends = RunBook.end

    def full(book: RunBook, name: str, state: str, **more: object) -> None:
        tries.append(state)
        if len(tries) < 3:
            raise StoreError("the disk is full")
        ends(book, name, state, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(RunBook, "end", full)
    data = {"upload": send(running, [{"prompt": "x"}])}
    run = ended(running, running.post("/v1/runs", {"kind": "score", "data": data}).json()["id"])
    assert (run["state"], tries) == ("failed", ["failed"] * 3)


def test_a_run_whose_database_went_away_is_gone_on_with_and_not_failed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, tries = serve(), []
    writes = working.write_verdicts

    async def once_away(*given: Any, **more: Any) -> dict[str, Any]:
        tries.append(1)
        if len(tries) == 1:
            raise UnreachableError("cannot reach the store")
        return await writes(*given, **more)

    monkeypatch.setattr(working, "write_verdicts", once_away)
    data = {"upload": send(running, ROWS)}
    run = ended(running, running.post("/v1/runs", {"kind": "score", "data": data}).json()["id"])
    assert (run["state"], len(tries)) == ("done", 2)


def test_a_run_that_another_server_took_meanwhile_is_left_to_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, left = serve(), threading.Event()
    writes = working.write_verdicts

    async def lost(*given: Any, **more: Any) -> dict[str, Any]:
        summary = await writes(*given, **more)
        monkeypatch.setattr(RunBook, "holds", lambda *_: left.set())
        return summary

    monkeypatch.setattr(working, "write_verdicts", lost)
    data = {"upload": send(running, ROWS)}
    name = running.post("/v1/runs", {"kind": "score", "data": data}).json()["id"]
    assert left.wait(20)
    assert running.get(f"/v1/runs/{name}").json()["state"] == "running"
