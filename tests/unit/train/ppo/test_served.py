"""Responses from a server that speaks vLLM's protocol, and adapters that it follows."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import BackendError, ConfigError
from rlaif.train.ppo import ServedPolicy, served
from rlaif.train.ppo.served import episodes_of
from tests.unit.train.ppo.conftest import Build, rows_of

Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A server on this machine, and what it was asked."""
    asked: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(size))
            asked.append((self.path, body | {"key": self.headers.get("Authorization")}))
            status, said = answer(self.path, body)
            text = (said if isinstance(said, str) else json.dumps(said)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None: ...  # a client that gave up is no news

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def vllm(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    if not path.endswith("/completions"):
        return 200, "Success"
    first = body["prompt"][-1]
    tokens = [first, first, body["stop_token_ids"][0]] if first % 2 else [first] * 4
    reason = "stop" if first % 2 else "length"
    return 200, {"choices": [{"token_ids": tokens, "finish_reason": reason, "stop_reason": None}]}


def drawn(url: str, tmp_path: Path, ends: set[int] = {9}, **more: Any) -> Any:  # noqa: B006
    policy = ServedPolicy(url, "base", folder=tmp_path / "served", **more)
    asked = policy.sample([[1, 7], [8]], most=4, ends=ends, temperature=0.7, seed=5)
    return asyncio.run(asked)


def test_prompts_and_responses_travel_as_token_ids(tmp_path: Path) -> None:
    with serving(vllm) as (url, asked):
        assert drawn(url, tmp_path, api_key="secret") == [([7, 7, 9], True), ([8, 8, 8, 8], False)]
    (path, body), _ = sorted(asked, key=lambda pair: pair[1]["seed"])
    assert path == "/v1/completions"
    assert body["prompt"] == [1, 7]
    assert body["max_tokens"] == 4
    assert body["temperature"] == 0.7
    assert body["top_p"] == 1.0
    assert body["return_token_ids"] is True
    assert body["key"] == "Bearer secret"
    assert "secret" not in repr(ServedPolicy(url, "base", folder=tmp_path, api_key="secret"))


def test_a_response_is_cut_at_its_end_however_the_server_tells_it(tmp_path: Path) -> None:
    def told(tokens: list[int], reason: str, stop: Any = None) -> Any:
        choice = {"token_ids": tokens, "finish_reason": reason, "stop_reason": stop}
        with serving(lambda path, body: (200, {"choices": [choice]})) as (url, _):
            return drawn(url, tmp_path, {9, 10})[0]

    assert told([5, 9, 6], "length") == ([5, 9], True)
    assert told([5], "stop") == ([5, 9], True)
    assert told([5], "stop", 10) == ([5, 10], True)


def test_a_server_that_stumbles_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(seconds: float) -> None: ...

    monkeypatch.setattr(served.asyncio, "sleep", at_once)
    left = [503, 429]

    def stumbling(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return (left.pop(), "wait") if left else vllm(path, body)

    with serving(stumbling) as (url, asked):
        assert len(drawn(url, tmp_path)) == 2
        assert len(asked) == 4
    with serving(lambda path, body: (500, "down")) as (url, asked):
        with pytest.raises(BackendError, match="500 down"):
            drawn(url, tmp_path)
        assert len(asked) >= 5
    with pytest.raises(BackendError, match="ConnectError"):
        drawn("http://127.0.0.1:9", tmp_path)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, "no such model"), "404 no such model"),
        ((200, {"choices": [{"text": "hi", "finish_reason": "stop"}]}), "no token_ids"),
        ((200, "hello"), "no token_ids"),
        ((200, {"choices": [{"token_ids": [], "finish_reason": "length"}]}), "drew no token"),
    ],
)
def test_what_asking_again_does_not_mend_is_said(
    tmp_path: Path, answer: tuple[int, Any], words: str
) -> None:
    with serving(lambda path, body: answer) as (url, _), pytest.raises(BackendError, match=words):
        drawn(url, tmp_path)


def test_episodes_are_padded_on_both_sides() -> None:
    made = episodes_of([[1, 2], [3]], [([4], True), ([5, 6], False)], pad=0)
    assert made.tokens.tolist() == [[1, 2, 4, 0], [0, 3, 5, 6]]
    assert made.mask.tolist() == [[1, 1, 1, 0], [0, 1, 1, 1]]
    assert made.ended.tolist() == [True, False]
    assert made.length == 2


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing` is deprecated:FutureWarning")
def test_a_policy_is_trained_on_what_a_server_draws(build: Build, tmp_path: Path) -> None:
    from peft import LoraConfig

    with serving(vllm) as (url, asked):
        policy = ServedPolicy(url, "base", folder=tmp_path / "served")
        lora = LoraConfig(r=2, target_modules="all-linear")
        trainer = build(peft_config=lora, served_policy=policy, kl_coefficient=0.1)
        summary = trainer.train()
    assert summary["last"]["first_ratio"] == 1.0
    assert len(rows_of(tmp_path / "run" / "training.jsonl")) == 3
    models = [body["model"] for path, body in asked if path == "/v1/completions"]
    loaded = [body["lora_name"] for path, body in asked if path == "/v1/load_lora_adapter"]
    assert models == ["base"] * 8 + loaded[:1] * 8 + loaded[1:] * 8
    assert [re.sub("-[0-9a-f]{8}-", "-", name) for name in loaded] == [
        "base-update-1",
        "base-update-2",
    ]
    unloaded = [body["lora_name"] for path, body in asked if path == "/v1/unload_lora_adapter"]
    assert unloaded == loaded[:1]
    assert [path.name for path in (tmp_path / "served").iterdir()] == loaded[1:]


def test_a_server_does_not_follow_whole_weights(build: Build, tmp_path: Path) -> None:
    with serving(vllm) as (url, _):
        policy = ServedPolicy(url, "base", folder=tmp_path / "served")
        with pytest.raises(ConfigError, match="by its adapters"):
            build(served_policy=policy).train()
