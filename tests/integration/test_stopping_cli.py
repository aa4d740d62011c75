"""Ctrl-C: once drains, twice stops at once; all that was answered is kept either way."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif.store.replies import ReplyStore
from tests.integration.command import rlaif, rows, running, start, write_rows
from tests.wire import WireServer

DRAINING = "finishing what is in flight, beginning nothing new; Ctrl-C again stops at once"
KEPT = "finished work is kept; run the same command to go on"


@pytest.fixture
def data() -> Path:
    pair = {"response": "Yes.", "response_a": "Yes.", "response_b": "No."}
    return write_rows(
        Path("d.jsonl"), *({"id": f"q{i}", "prompt": f"Question {i}?", **pair} for i in range(30))
    )


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def _words(command: str, data: Path, server: WireServer) -> tuple[object, ...]:
    begin = {
        "score": ("judge", "score", data),
        "compare": ("judge", "compare", data),
        "generate": ("generate", data, "-n", 2),
    }
    return (
        *begin[command],
        *("-m", "server/judge", "--base-url", server.url, "-o", "run", "--concurrency", 4),
    )


def _kept(home: Path) -> int:
    with ReplyStore(home / "replies.sqlite") as store:
        return len(store)


@pytest.mark.parametrize("command", ["score", "compare", "generate"])
def test_one_interruption_drains(command: str, data: Path, home: Path) -> None:
    file = "candidates.jsonl" if command == "generate" else "verdicts.jsonl"
    with WireServer(lambda _: "helpfulness: [[4]] [[A]]", delay_s=0.15) as server:
        words = _words(command, data, server)
        with running(start(*words, home=home)) as process:
            _wait_for(lambda: server.calls >= 8 and server.in_flight > 0)
            process.send_signal(signal.SIGINT)
            at_signal = server.calls
            _, err = process.communicate(timeout=20)
            assert process.returncode == 130
        # an item that was begun may have had a call to go
        assert server.calls <= at_signal + 8
        assert _kept(home) == server.calls
        lines = err.decode().splitlines()
        assert lines[0] == DRAINING
        [told] = [line for line in lines if line.startswith("interrupted after ")]
        assert told.endswith(KEPT)

        folder = Path("run")
        assert not (folder / file).exists()
        assert not (folder / "summary.json").exists()
        part = rows(folder / f"{file}.partial")
        summary = json.loads((folder / "interrupted.json").read_text())
        assert summary["interrupted"] is True
        assert summary["calls"] == server.calls == summary["ok"] * (1 + (command == "compare"))
        assert summary["coverage"] == 1.0

        asked = server.calls
        done = rlaif(*words, "--json", "--concurrency", 32)
        assert (done.code, done.json["coverage"]) == (0, 1.0)
        assert done.json["calls_cached"] == asked
        assert server.calls == done.json["calls"] == (30 if command == "score" else 60)
        assert len(rows(folder / file)) == 30
        assert [row["id"] for row in rows(folder / file)[: len(part)]] == [r["id"] for r in part]
        names = sorted(path.name for path in folder.iterdir())
        assert names == sorted(["config.json", "summary.json", file])


@pytest.mark.parametrize(
    "signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)], ids=["^C ^C", "terminate"]
)
def test_the_second_interruption_stops_at_once(
    signals: tuple[signal.Signals, ...], data: Path, home: Path
) -> None:
    slow = False
    with WireServer(lambda _: "helpfulness: [[4]]") as server:
        server._fault = lambda _: _hang() if server.calls > 8 else None
        words = _words("score", data, server)
        with running(start(*words, home=home)) as process:
            _wait_for(lambda: server.in_flight == 4 and server.calls == 12)
            began = time.monotonic()
            for number in signals:
                process.send_signal(number)
                time.sleep(0.3)
            _, err = process.communicate(timeout=10)
            slow = time.monotonic() - began > 5
            assert process.returncode == 130
    assert not slow
    assert err.decode().splitlines()[-1] == f"interrupted: {KEPT}"
    assert (DRAINING in err.decode()) == (len(signals) == 2)
    assert _kept(home) == 8
    assert not Path("run/verdicts.jsonl").exists()


def _hang() -> object:
    from tests.wire import Fault

    return Fault(hang=True)


def test_json_of_a_drained_run_says_that_it_is_a_part(data: Path, home: Path) -> None:
    with (
        WireServer(lambda _: "helpfulness: [[4]]", delay_s=0.1) as server,
        running(start(*_words("score", data, server), "--json", home=home)) as process,
    ):
        _wait_for(lambda: server.calls >= 4)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    found = json.loads(out)
    assert found["interrupted"] is True
    assert 0 < found["n"] < 30


def test_a_run_that_has_ended_is_whole_however_late_the_signal(data: Path, home: Path) -> None:
    """The signal comes while the last calls are in flight: nothing is left to begin."""
    with WireServer(lambda _: "helpfulness: [[4]]", delay_s=0.4) as server:
        words = (*_words("score", data, server), "--limit", 4)
        with running(start(*words, home=home)) as process:
            _wait_for(lambda: server.calls == 4 and server.in_flight > 0)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
            assert process.returncode in {0, 130}
            whole = Path("run/verdicts.jsonl").exists()
            assert whole == (process.returncode == 0)
    assert _kept(home) == 4
