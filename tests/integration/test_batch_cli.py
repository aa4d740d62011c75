"""`--batch`: the verdicts of live calls at half the price, and no batch sent twice."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.batch_wire import BatchFault, BatchServer
from tests.integration.command import Result, rlaif, rows, running, start, write_rows

PRICES = (
    "models:\n"
    "  openai/judge: {input: 2, output: 10, batch_discount: 0.5}\n"
    "  anthropic/judge: {input: 3, output: 15, batch_discount: 0.5}\n"
)
PROVIDERS = ("openai", "anthropic")
KEYS = {"OPENAI_API_KEY": "sk-one-key", "ANTHROPIC_API_KEY": "sk-another-key"}
MANY = 40


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    Path("prices.yaml").write_text(PRICES)


@pytest.fixture
def data() -> Path:
    made = (
        {"id": f"q{n}", "prompt": f"Question {n}?", "response_a": "Yes.", "response_b": f"No {n}."}
        for n in range(MANY)
    )
    return write_rows(Path("d.jsonl"), *made)


def opinion(messages: list[dict[str, str]]) -> str:
    """The longer one, wherever it stands."""
    text = messages[-1]["content"]
    first = text.index("No ") < text.index("Yes.") if "Yes." in text else True
    return f"It says more.\n[[{'A' if first else 'B'}]]"


def words(name: str, data: Path, server: BatchServer, *more: object) -> tuple[object, ...]:
    url = server.url if name == "openai" else server.origin
    return (
        *("judge", "compare", data, "-m", f"{name}/judge", "--base-url", url),
        *("--prices", "prices.yaml", "-o", "run", *more),
    )


BATCH = ("--batch", "--batch-poll", 0.05)


def verdicts(folder: str = "run") -> list[dict[str, Any]]:
    """The verdicts without what differs from one call to another: time, cost, and the store."""
    found = rows(Path(folder) / "verdicts.jsonl")
    for row in found:
        for call in row["calls"]:
            for name in ("latency_s", "cached", "cost_usd"):
                call.pop(name, None)
    return found


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_batch_gives_the_verdicts_of_live_calls_at_half_the_price(
    name: str, data: Path, home: Path
) -> None:
    with BatchServer(opinion) as server:
        live = rlaif(*words(name, data, server, "-o", "live", "--json"))
        assert (live.code, server.calls) == (0, 2 * MANY)
        for file in home.glob("replies.sqlite*"):  # the markers' secret stays, so prompts do
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        done = rlaif(*words(name, data, server, "--json", *BATCH))
        assert (done.code, server.calls) == (0, 2 * MANY)
        [batch] = server.batches
        assert len(batch.requests) == 2 * MANY
        assert verdicts() == verdicts("live")
        assert live.json["cost_usd"] > 0
        assert done.json["cost_usd"] == pytest.approx(live.json["cost_usd"] / 2, rel=1e-9)
        assert done.json["calls_unpriced"] == 0

        # what a batch brought answers live calls
        again = rlaif(*words(name, data, server, "--json"))
        assert (again.json["calls_cached"], server.calls) == (2 * MANY, 2 * MANY)
        assert len(server.batches) == 1


def test_a_judge_that_asks_again_takes_two_batches(data: Path) -> None:
    """Replies that hold no verdict are answered with what is wrong, all of them in one round."""

    def unsure(messages: list[dict[str, str]]) -> str:
        roles = [message["role"] for message in messages]
        first = messages[: roles.index("user") + 1]
        return opinion(first) if "assistant" in roles else "Both have merits."

    with BatchServer(unsure) as server:
        done = rlaif(*words("openai", data, server, "--json", "--reask", *BATCH))
        assert (done.code, done.json["coverage"]) == (0, 1.0)
        assert [len(batch.requests) for batch in server.batches] == [2 * MANY, 2 * MANY]


def test_what_a_batch_leaves_goes_into_the_next(data: Path) -> None:
    with BatchServer(opinion) as server:
        server._outcome = lambda digest, body, number: (
            "expired" if number == 0 and "No 7." in str(body) else "answered"
        )
        done = rlaif(*words("openai", data, server, "--json", *BATCH))
        assert (done.code, done.json["coverage"]) == (0, 1.0)
        assert [len(batch.requests) for batch in server.batches] == [2 * MANY, 2]


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def _age(home: Path) -> None:
    """As if everything in the book were two minutes older: what is younger is waited for."""
    with closing(sqlite3.connect(home / "replies.sqlite-batches")) as db, db:
        db.execute("UPDATE batches SET created_s = created_s - 120")


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("moment", ["sent", "sending", "uploading"])
def test_a_killed_process_leaves_its_batch_to_the_next(
    name: str, moment: str, data: Path, home: Path
) -> None:
    """Killed while the batch is under way, before its name was heard, and before it was begun."""
    step = {"sent": "look", "sending": "create", "uploading": "upload"}[moment]
    if (name, moment) == ("anthropic", "uploading"):
        step = "create"  # the upload is the same call: it hangs, and nothing is begun

    def hang(asked: str, before: int) -> BatchFault | None:
        if moment == "sent" or asked != step or before:
            return None
        return BatchFault(hang=True, after=moment == "sending")

    with BatchServer(opinion, fault=hang, stay=True) as server:
        told = words(name, data, server, "--json", *BATCH)
        with running(start(*told, home=home, **KEYS)) as process:
            _wait_for(lambda: server.steps[step] > 0)
            _wait_for(lambda: moment == "uploading" or bool(server.batches))
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=10)
        _age(home)
        server.stay = False
        done = rlaif(*told)
        assert (done.code, done.json["coverage"], done.json["calls"]) == (0, 1.0, 2 * MANY)
        assert len(server.batches) == 1
        assert set(server.requests_sent.values()) == {1}
        assert done.json["cost_usd"] > 0


def test_an_interruption_leaves_the_batch_and_says_so(data: Path, home: Path) -> None:
    with BatchServer(opinion, stay=True) as server:
        told = words("openai", data, server, *BATCH)
        with running(start(*told, home=home, **KEYS)) as process:
            _wait_for(lambda: server.steps["look"] > 1)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
            assert process.returncode == 130
        lines = err.decode().splitlines()
        assert lines[0] == f"batch batch_0: {2 * MANY} requests sent to openai/judge"
        assert (
            "a batch goes on at the provider: the same command collects what comes of it" in lines
        )
        assert lines[-1] == "interrupted: finished work is kept; run the same command to go on"
        server.stay = False
        done = rlaif(*told, "--json")
        assert (done.code, done.json["coverage"], len(server.batches)) == (0, 1.0, 1)


def test_stragglers_go_live_at_the_full_price(data: Path) -> None:
    with BatchServer(opinion, outcome=lambda *_: "expired") as server:
        done = rlaif(*words("openai", data, server, "--json", *BATCH, "--stragglers", "live"))
        assert (done.code, done.json["coverage"]) == (0, 1.0)
        assert (len(server.batches), server.calls) == (1, 2 * MANY)
        usage = done.json["tokens"]
        assert done.json["cost_usd"] == pytest.approx(
            (2 * usage["input"] + 10 * usage["output"]) / 1e6
        )


def test_a_budget_bounds_a_batch(data: Path) -> None:
    Path("prices.yaml").write_text(
        "models: {openai/judge: {per_call_usd: 0.001, batch_discount: 0.5}}\n"
    )
    with BatchServer(opinion) as server:
        told = words("openai", data, server, "--json", *BATCH)
        done = rlaif(*told, "--budget-usd", 0.02)
        assert done.code == 3
        assert done.json["cost_usd"] == 0.02
        assert sum(server.requests_sent.values()) == 40
        done = rlaif(*told, "--budget-usd", 1)
        assert (done.code, done.json["cost_usd"]) == (0, 0.02)
        assert set(server.requests_sent.values()) == {1}


def test_only_providers_with_a_batch_api_take_it(data: Path) -> None:
    done = rlaif(
        *("judge", "compare", data, "-m", "server/judge", "--base-url", "http://localhost:1/v1"),
        "--batch",
    )
    assert done.code == 2
    assert done.error == "server/judge has no batch API; openai/… and anthropic/… have"


def test_a_dry_run_shows_the_price_of_batches(data: Path) -> None:
    def price(*more: object) -> float:
        with BatchServer(opinion) as server:
            done: Result = rlaif(*words("openai", data, server, "--dry-run", "--json", *more))
            assert not server.steps
        return float(json.loads(done.out)["rows"][0]["cost_usd_at_most"])

    assert price("--batch") == pytest.approx(price() / 2, rel=1e-4)
