"""Providers that hang, lie, or answer what nobody asked for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from rlaif.backends import circuit
from rlaif.backends.retrying import RetryingBackend
from rlaif.store.runs import read_verdicts
from rlaif.types import Verdict
from tests.integration.command import Result, rlaif
from tests.wire import Fault, Recorded, WireServer

ADDRESSES = ["server/judge", "openai/judge", "anthropic/judge"]
every_provider = pytest.mark.parametrize("address", ADDRESSES)


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-0123456789")


def _compare(pairs: Path, address: str, server: WireServer, *more: object) -> Result:
    words = ("judge", "compare", pairs, "-m", address, "--base-url", server.url, "-o", "run")
    return rlaif(*words, "--json", *more)


def _verdicts() -> list[Verdict]:
    return list(read_verdicts(Path("run")))


def _chat(message: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    return {"model": "judge", "choices": [choice], "usage": usage} | more


def test_nobody_there_is_said_within_seconds(pairs: Path) -> None:
    began = time.monotonic()
    with WireServer() as server:
        url = server.url
    done = rlaif("judge", "compare", pairs, "-m", "server/judge", "--base-url", url, "-o", "run")
    assert time.monotonic() - began < 8
    assert done.code == 1
    assert done.error.startswith("stopped asking server/judge: ")
    assert "none ever succeeded; the last one: no connection to the server at " in done.error


@every_provider
def test_a_server_that_hangs_for_ever_is_given_up(
    address: str, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "PATIENCE_S", 0.2)
    monkeypatch.setattr(circuit, "FEWEST_TRIES", 2)
    with WireServer(faults=lambda _: Fault(hang=True)) as server:
        done = _compare(pairs, address, server, "--timeout", 0.2)
        assert server.calls <= 12
    assert done.code == 1
    assert done.error.startswith(f"stopped asking {address}: ")
    assert "x timeout) and none ever succeeded" in done.error
    assert done.error.endswith("did not answer within 0.2 s")
    assert not Path("run/verdicts.jsonl").exists()


def test_a_call_that_hangs_costs_its_verdict_and_no_other(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = RetryingBackend.__init__.__kwdefaults__
    monkeypatch.setitem(waits, "first_wait_s", 0.001)
    hung = 0

    def fault(call: Recorded) -> Fault | None:
        nonlocal hung
        if "Question 3?" not in json.dumps(call.body):
            return None
        hung += 1
        return Fault(hang=True)

    with WireServer(lambda _: "[[A]]", faults=fault) as server:
        done = _compare(pairs, "server/judge", server, "--timeout", 0.1, "--max-failures", 0.2)
    assert (done.code, done.json["causes"]) == (0, {"provider_error": 1})
    assert hung == 12
    third = _verdicts()[3]
    assert third.rationale == "the server did not answer within 0.1 s (after 6 tries)"


@every_provider
def test_ten_megabytes_of_garbage_are_one_line(
    address: str, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "PATIENCE_WHEN_ABSENT_S", 0.05)
    monkeypatch.setattr(circuit, "FEWEST_TRIES", 2)
    garbage = bytes(range(1, 256)) * 41_000
    with WireServer(faults=lambda _: Fault(body=garbage)) as server:
        done = _compare(pairs, address, server)
    assert done.code == 1
    assert done.error.startswith(f"stopped asking {address}: ")
    assert "bad reply) and none ever succeeded" in done.error
    assert len(done.error) < 1000
    assert done.error.isprintable()


def test_a_reply_without_text_is_no_verdict(pairs: Path) -> None:
    answer = _chat({"role": "assistant", "content": None, "refusal": None})
    with WireServer(faults=lambda _: Fault(body=answer)) as server:
        done = _compare(pairs, "server/judge", server)
    assert done.code == 1
    assert done.json["causes"] == {"unreadable": 6}
    assert all(call.reply == "" for verdict in _verdicts() for call in verdict.calls)


@pytest.mark.parametrize(
    "answer",
    [
        _chat(None),
        _chat({}) | {"choices": []},
        _chat({}) | {"choices": None},
        _chat({"role": "assistant", "content": {"winner": "A"}}),
        _chat({"role": "assistant", "content": "[[A]]"}, usage={"prompt_tokens": -1}),
        _chat({"role": "assistant", "content": "[[A]]"}, usage=[]),
        _chat({"role": "assistant", "content": "[[A]]"}, model=["judge"]),
    ],
)
def test_an_answer_that_lacks_its_parts_is_asked_for_again(
    answer: dict[str, Any], pairs: Path
) -> None:
    with WireServer(lambda _: "[[A]]", faults=[None, Fault(body=answer)]) as server:
        done = _compare(pairs, "server/judge", server)
        assert server.calls == 13
    assert (done.code, done.json["ok"], done.json["retries"]) == (0, 6, {"bad_reply": 1})


def test_what_a_provider_says_of_itself_changes_no_verdict(pairs: Path) -> None:
    """Another model's name and absurd counts are its own account; whom we asked stays ours."""
    lies = {"prompt_tokens": 0, "completion_tokens": 10**15}
    answer = _chat({"role": "assistant", "content": "[[A]]"}, model="other-7b\x1b[2J", usage=lies)
    with WireServer(faults=lambda _: Fault(body=answer)) as server:
        done = _compare(pairs, "server/judge", server)
    assert (done.code, done.json["ok"]) == (0, 6)
    assert done.json["tokens"]["output"] == 12 * 10**15
    assert {verdict.judge.model for verdict in _verdicts()} == {"server/judge"}
    assert "\x1b" not in done.out + done.err
