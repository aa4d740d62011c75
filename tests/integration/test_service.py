"""The service as its users run it: killed amid a run, two beside each other, with TRL, in fuzz."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.command import serving
from tests.wire import ChatMessages, WireServer

ROWS = [{"prompt": f"What is {n} and {n}?", "response": f"{2 * n}."} for n in range(120)]


def served(
    folder: Path, *words: object
) -> AbstractContextManager[tuple[subprocess.Popen[bytes], str]]:
    """A server process with its URL, whose root and home are in `folder`."""
    return serving(*words, "--root", folder / "root", home=folder / "home")


def upload_and_run(url: str, rows: list[dict[str, str]]) -> str:
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    upload = httpx.post(f"{url}/v1/uploads", content=body).json()["upload"]
    made = httpx.post(f"{url}/v1/runs", json={"kind": "score", "data": {"upload": upload}})
    return str(made.json()["id"])


def until(url: str, name: str, ready: Any, longest_s: float = 60.0) -> dict[str, Any]:
    end_s = time.monotonic() + longest_s
    while time.monotonic() < end_s:
        run: dict[str, Any] = httpx.get(f"{url}/v1/runs/{name}").json()
        if ready(run):
            return run
        time.sleep(0.05)
    raise AssertionError(run)


class Asked:
    """A model that counts how often it is asked each thing."""

    def __init__(self, delay_s: float = 0.05) -> None:
        self.counts: dict[str, int] = {}
        self.lock = threading.Lock()
        self.delay_s = delay_s

    def __call__(self, messages: ChatMessages) -> str:
        with self.lock:
            text = messages[-1]["content"]
            self.counts[text] = self.counts.get(text, 0) + 1
        return "Right. [[4]]"


def test_a_run_outlives_a_server_that_is_killed_amid_it(tmp_path: Path) -> None:
    asked = Asked()
    with WireServer(asked, delay_s=0.05) as model:
        words = ("-c", tmp_path / "service.yaml")
        (tmp_path / "service.yaml").write_text(
            "judges:\n  default: {model: server/judge, concurrency: 2, base_url: '"
            + model.url
            + "'}\n"
        )
        with served(tmp_path, *words) as (process, url):
            name = upload_and_run(url, ROWS)
            before = until(url, name, lambda run: run["done"] >= 20)
            assert before["state"] == "running"
            process.send_signal(signal.SIGKILL)
            process.wait(20)
        answered = dict(asked.counts)
        with served(tmp_path, *words) as (_, url):
            run = until(url, name, lambda run: run["state"] == "done")
            assert run["summary"]["n"] == len(ROWS)
            assert run["summary"]["calls_cached"] >= 20
            got = httpx.get(f"{url}/v1/runs/{name}/verdicts").text.splitlines()
            assert len(got) == len(ROWS)
    assert len(asked.counts) == len(ROWS)
    # what was in flight when it died was asked again, nothing else
    twice = [text for text, count in asked.counts.items() if count > 1]
    assert len(twice) <= 2
    assert set(twice) <= set(answered)


def test_two_servers_share_runs_and_do_none_twice(tmp_path: Path) -> None:
    asked = Asked()
    with WireServer(asked, delay_s=0.02) as model:
        words = ("-m", "server/judge", "--base-url", model.url)
        with served(tmp_path, *words) as (one, url), served(tmp_path, *words) as (_, other):
            names = [upload_and_run((url, other)[n % 2], ROWS[n::6]) for n in range(6)]
            for name in names[:3]:
                until(url, name, lambda run: run["state"] == "done")
            one.send_signal(signal.SIGTERM)
            assert one.wait(30) in (0, -signal.SIGTERM)
            for name in names:
                run = until(other, name, lambda run: run["state"] == "done")
                assert run["summary"]["n"] == 20
    assert set(asked.counts.values()) == {1}
    assert len(asked.counts) == len(ROWS)


def test_a_run_that_is_cancelled_ends_soon_and_goes_on_where_it_was(tmp_path: Path) -> None:
    asked = Asked()
    with WireServer(asked, delay_s=0.05) as model:
        words = ("-m", "server/judge", "--base-url", model.url)
        config = tmp_path / "service.yaml"
        config.write_text(
            "judges:\n  default: {model: server/judge, concurrency: 1, base_url: '"
            + model.url
            + "'}\n"
        )
        with served(tmp_path, "-c", config) as (_, url):
            name = upload_and_run(url, ROWS)
            until(url, name, lambda run: run["done"] >= 5)
            assert httpx.post(f"{url}/v1/runs/{name}/cancel").json()["state"] == "running"
            run = until(url, name, lambda run: run["state"] == "cancelled")
            assert 5 <= run["done"] < len(ROWS)
            assert httpx.get(f"{url}/v1/runs/{name}/verdicts").status_code == 409
            assert httpx.post(f"{url}/v1/runs/{name}/cancel").status_code == 409
        with served(tmp_path, *words) as (_, url):
            assert httpx.get(f"{url}/v1/runs/{name}").json()["state"] == "cancelled"
    assert set(asked.counts.values()) == {1}


def graded(messages: ChatMessages) -> str:
    return f"[[{zlib.crc32(messages[-1]['content'].encode()) % 5 + 1}]]"


# transformers' and TRL's own
@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
def test_trl_trains_on_rewards_from_the_running_service(tmp_path: Path, tiny_model: Path) -> None:
    pytest.importorskip("trl")
    from rlaif.service.client import ServiceReward
    from tests.integration.test_judge_reward_trl import trainer, weights

    with (
        WireServer(graded) as model,
        served(tmp_path, "-m", "server/judge", "--base-url", model.url) as (_, url),
        ServiceReward(url) as reward,
    ):
        made = trainer("GRPO", tmp_path / "out", tiny_model, [reward])
        made.args.max_steps = 10
        before = weights(made)
        made.train()
        logs = [log for log in made.state.log_history if "reward" in log]
        counted = httpx.get(f"{url}/metrics").text
    assert len(logs) == 10
    assert all(log["judge/coverage"] == 1.0 for log in logs)
    assert (weights(made) != before).any()
    assert 'route="/v1/rewards",status="200"' in counted


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
_json = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
_NAMES = [
    *("prompt", "response", "response_a", "response_b", "responses", "items", "judge", "rubric"),
    *("prompts", "completions", "query", "labels", "by", "opponents", "kind", "data", "limit"),
    *("pairs", "budget_usd", "title", "conversation_history", "response_objs", "reference"),
    *("references", "id", "meta", "role", "content", "upload", "path", "output"),
]
_bodies = st.dictionaries(st.sampled_from(_NAMES), _json, max_size=6) | _json
_SOUND = {
    "/v1/score": {"prompt": "x", "response": "y"},
    "/v1/compare": {"prompt": "x", "response_a": "y", "response_b": "z"},
    "/v1/rank": {"prompt": "x", "responses": ["y", "z"]},
    "/v1/rewards": {"prompts": ["x"], "completions": ["y"]},
    "/get_reward": {"query": ["xy"], "prompts": ["x"]},
    "/compare": {"conversation_history": [], "response_objs": []},
    "/v1/runs": {"kind": "score", "data": {"path": "x"}},
}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("fuzzed")
    script = folder / "script.jsonl"
    script.write_text('{"match": "", "reply": "[[4]] [[A]]"}\n')
    os.environ.setdefault("NO_PROXY", "*")
    with (
        served(folder, "-m", f"scripted/{script}") as (_, url),
        httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):
        yield client


@pytest.mark.parametrize("path", _SOUND)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=_bodies, keep=st.booleans())
def test_nothing_sent_is_a_5xx_and_every_answer_is_as_described(
    fuzzed: httpx.Client, path: str, body: Any, keep: bool
) -> None:
    if keep and isinstance(body, dict):
        body = _SOUND[path] | body
    try:
        content = json.dumps(body).encode()
    except ValueError:
        return
    answer = fuzzed.post(path, content=content, headers={"content-type": "application/json"})
    described = fuzzed.get("/openapi.json").json()["paths"][path]["post"]["responses"]
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    assert str(answer.status_code) in described
    kinds = described[str(answer.status_code)]["content"]
    assert answer.headers["content-type"] in kinds
    if answer.status_code >= 400:
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["detail"]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    path=st.lists(
        st.sampled_from(
            ["v1", "runs", "..", "%2e%2e", "%00", "etc", "uploads", "verdicts", "~", "\\"]
        )
        | st.text(alphabet="abc/%.?#;=&<>'\"", max_size=8),
        max_size=5,
    ),
    value=st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
)
def test_odd_paths_methods_and_headers_are_4xx(
    fuzzed: httpx.Client, method: str, path: list[str], value: str
) -> None:
    try:
        answer = fuzzed.request(
            method, "/" + "/".join(path), headers={"accept": value, "x-forwarded-host": value}
        )
    except httpx.InvalidURL:
        return
    assert answer.status_code < 500, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
