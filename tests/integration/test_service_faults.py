"""What people do to a service, and what happens to it: nothing is lost, and nobody gets in."""

from __future__ import annotations

import gzip
import json
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration import disks
from tests.integration.test_service import served, until
from tests.unit.service.conftest import Running, Serve, script, serve
from tests.wire import WireServer

__all__ = ["script", "serve"]

EVIL = "<x-evil onclick=e()>\"'><script>evil()</script>"
SPACE = 1 << 20


def raw(url: str, data: bytes, wait_s: float = 5.0) -> bytes:
    """What a server sends back before it closes, or before `wait_s` is over."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=wait_s) as line:
        line.sendall(data)
        found = b""
        while part := line.recv(65536):
            found += part
        return found


def sent(url: str, rows: list[dict[str, Any]], **body: Any) -> str:
    """The id of a run of `rows`."""
    content = "".join(json.dumps(row) + "\n" for row in rows)
    upload = httpx.post(f"{url}/v1/uploads", content=content).json()["upload"]
    made = httpx.post(f"{url}/v1/runs", json={"data": {"upload": upload}, **body})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


class Elements(HTMLParser):
    """The elements of a page, and all their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.names |= {"inline script" for name, _ in attrs if name.startswith("on")}


def test_markup_in_any_field_is_text_on_every_page(serve: Serve) -> None:
    running = serve({"match": "", "reply": f"{EVIL} [[A]] [[4]]"})
    candidate = {"id": f"1{EVIL}", "model": f"m{EVIL}", "response": EVIL}
    fields = {
        "score": {"response": EVIL, "model": EVIL},
        "compare": {"response_a": EVIL, "response_b": "b", "model_a": EVIL, "model_b": f"b{EVIL}"},
        "rank": {"responses": [candidate, {**candidate, "id": f"2{EVIL}"}]},
    }
    names = []
    for kind in ("score", "rank", "compare", "compare"):
        row = {"prompt": EVIL, "category": EVIL, "reference": EVIL, "meta": {EVIL: EVIL}}
        rows = [{**row, **fields[kind], "id": f"{n}{EVIL}"} for n in range(2)]
        names.append(sent(running.url, rows, kind=kind, title=EVIL))
    for name in names:
        assert until(running.url, name, lambda run: run["state"] == "done")["title"] == EVIL
        _indexed(running, name)
    labelled = {"n": 1, "choice": "first", "reason": EVIL}
    assert running.post(f"/v1/runs/{names[2]}/labels", labelled).status_code == 200
    pages = ["/", f"/flips?a={names[2]}&b={names[3]}", f"/runs/{EVIL}", f"/{EVIL}"]
    for name in names:
        here = f"/runs/{name}"
        pages += [here, f"{here}/report", f"{here}/verdicts", f"{here}/verdicts/1"]
        pages += [f"{here}/verdicts?q={EVIL}&category={EVIL}&model={EVIL}&reading={EVIL}"]
        pages += [f"{here}/label", f"{here}/label?queue={EVIL}", f"{here}/people"]
    shown = 0
    for path in pages:
        answer = running.get(path, headers={"accept": "text/html"})
        assert answer.status_code < 500, path
        found = Elements(answer.text)
        assert "x-evil" not in found.names, path
        assert "inline script" not in found.names, path
        assert "<script>evil" not in answer.text, path
        shown += "&lt;x-evil" in answer.text
    assert shown >= len(names) * 4


def _indexed(running: Running, name: str) -> None:
    end_s = time.monotonic() + 30
    while "being indexed" in running.get(f"/runs/{name}/verdicts").text:
        assert time.monotonic() < end_s
        time.sleep(0.05)


TRICKS = [
    b"GET /static/..%2fpage.css HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /static/..%2f..%2fapp.py HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /static/%2e%2e/page.css HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /static//etc/passwd HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /v1/runs/..%2f..%2f..%2fetc%2fpasswd/verdicts HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /v1/runs/%00/verdicts HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /healthz/..;/v1/runs HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /healthz%2f..%2fv1%2fruns HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /static/page.css/../../v1/runs HTTP/1.1\r\nHost: localhost\r\n",
    b"GET //v1/runs HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /V1/RUNS HTTP/1.1\r\nHost: localhost\r\n",
    b"GET http://localhost/v1/runs HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n",
    b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nX-Original-URL: /healthz\r\n",
    b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer\r\n",
    b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic cm9vdDpyb290\r\n",
    b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n",
    b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nCookie: rlaif_session=0.9999999999.0\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost@evil.example\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost:80:evil.example\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost evil.example\r\n",
    b"GET /healthz HTTP/1.1\r\n",
    b"GET /health\x00z HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n",
    b"GET /v1/runs\r\nX: y HTTP/1.1\r\nHost: localhost\r\n",
    b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n",
    b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n",
    b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nContent-Length: 0\r\n",
]


@pytest.mark.parametrize("request_head", TRICKS, ids=range(len(TRICKS)))
def test_no_path_and_no_header_gets_in(shut: Running, request_head: bytes) -> None:
    answer = raw(shut.url, request_head + b"Connection: close\r\n\r\n")
    status = int(answer.split(b" ")[1])
    assert 400 <= status < 500, answer
    assert b"root:" not in answer
    assert b"evil.example" not in answer
    assert b"Set-Cookie" not in answer


@pytest.fixture(scope="module")
def shut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that needs a token."""
    from rlaif.service.config import JudgeConfig, ServiceConfig
    from tests.unit.service.conftest import listening

    folder = tmp_path_factory.mktemp("shut")
    (folder / "script.jsonl").write_text('{"match": "", "reply": "[[4]]"}\n')
    judges = {"default": JudgeConfig(model=f"scripted/{folder / 'script.jsonl'}")}
    with listening(ServiceConfig(judges=judges), folder / "root", token=True) as running:
        yield running


def test_hundreds_of_slow_clients_hold_up_nobody(serve: Serve) -> None:
    running = serve(limits={"header_s": 1.0, "body_s": 1.0, "in_flight": 64})
    parts = urlsplit(running.url)
    head = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with ExitStack() as held:
        for n in range(300):
            line = held.enter_context(socket.create_connection((parts.hostname, parts.port)))
            # two in three never end the head; the others never end the body
            line.sendall(head if n % 3 else head + b"Content-Length: 1000\r\n\r\n{")
        end_s = time.monotonic() + 20
        while running.get("/healthz").status_code != 200:  # the bodies take all places a while
            assert time.monotonic() < end_s
            time.sleep(0.1)
    one = {"prompt": "Capital?", "response": "Paris."}
    assert running.post("/v1/score", one).status_code == 200


def test_a_client_that_leaves_amid_a_stream_leaves_the_service_whole(serve: Serve) -> None:
    running = serve()
    items = [{"prompt": f"What is {n}?", "response": "x"} for n in range(200)]
    ndjson = {"accept": "application/x-ndjson"}
    for _ in range(5):
        with running.client.stream("POST", "/v1/score", json={"items": items}, headers=ndjson) as s:
            next(s.iter_lines())
    assert running.post("/v1/score", items[0]).status_code == 200


def test_packed_data_that_unpacks_without_end_fails_its_run_alone(serve: Serve) -> None:
    running = serve()
    bomb = gzip.compress(b'{"prompt": "' + bytes(100 << 20), 1)
    upload = running.client.post("/v1/uploads?format=jsonl.gz", content=bomb).json()["upload"]
    made = running.post("/v1/runs", {"kind": "score", "data": {"upload": upload}}).json()
    run = until(running.url, made["id"], lambda run: run["state"] == "failed")
    assert "is longer than" in run["error"]


@pytest.mark.slow
def test_a_judge_that_hangs_holds_up_neither_the_service_nor_its_end(tmp_path: Path) -> None:
    asked = threading.Event()

    def hang(_: Any) -> str:
        asked.set()
        time.sleep(0.2)
        return "[[4]]"

    with WireServer(hang, delay_s=30.0) as model:
        config = tmp_path / "service.yaml"
        config.write_text(
            f"judges:\n  default: {{model: server/judge, base_url: '{model.url}', timeout_s: 60}}\n"
            "limits: {request_s: 1}\n"
        )
        with served(tmp_path, "-c", config) as (process, url):
            one = {"prompt": "x", "response": "y"}
            name = sent(url, [one] * 3, kind="score")
            assert httpx.post(f"{url}/v1/score", json=one, timeout=20).status_code == 504
            assert httpx.get(f"{url}/healthz").status_code == 200
            assert httpx.get(f"{url}/v1/runs/{name}").json()["state"] == "running"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM)
        with served(tmp_path, "-c", config) as (_, url):
            run = until(url, name, lambda run: run["state"] == "running")
            assert run["done"] == 0  # and no verdict was made up for it


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with disks.small_disk(str(SPACE)) as folder:
        yield folder


@pytest.mark.slow
def test_a_full_disk_under_the_service(small_disk: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n}?", "response": "x"} for n in range(300)]
    letters, asked = random.Random(0), list[int]()

    def grade(_: Any) -> str:
        asked.append(1)
        return f"{letters.randbytes(2000).hex()} [[4]]"

    config = tmp_path / "service.yaml"
    with WireServer(grade) as model:
        config.write_text(f"judges:\n  default: {{model: server/judge, base_url: '{model.url}'}}\n")
        with served(small_disk, "-c", config) as (process, url):
            name = sent(url, rows, kind="score")
            _at_rest(asked)
            before = len(asked)
            assert 0 < before < len(rows)
            answer = httpx.post(f"{url}/v1/uploads", content=bytes(SPACE))
            assert (answer.status_code, answer.json()["status"]) == (507, 507)
            answer = httpx.post(f"{url}/v1/score", json={"prompt": "new", "response": "x"})
            assert answer.status_code in (200, 507)  # one small reply may still have had room
            assert httpx.get(f"{url}/healthz").status_code == 200
            time.sleep(3.0)
            assert len(asked) <= before + 1  # what cannot be kept is not asked over and over
            assert disks.mounted(small_disk, "remount,size=64m")
            run = until(url, name, lambda run: run["state"] != "running")
            assert run["state"] == "failed"
            assert "the disk is full" in run["error"] or "No space left" in run["error"]
            assert httpx.post(f"{url}/v1/runs/{name}/rerun", json={}).status_code == 200
            run = until(url, name, lambda run: run["state"] in ("failed", "done"))
            assert (run["state"], run["ok"]) == ("done", len(rows))
            assert run["summary"]["calls_cached"] > 0
            assert process.poll() is None


def _at_rest(asked: list[int]) -> None:
    """Wait until a model has been asked, and is not asked any more."""
    end_s, known, since_s = time.monotonic() + 60, 0, time.monotonic()
    while not known or time.monotonic() - since_s < 3:
        assert time.monotonic() < end_s
        if len(asked) != known:
            known, since_s = len(asked), time.monotonic()
        time.sleep(0.05)
