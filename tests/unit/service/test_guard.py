"""Who gets in, from where, with how much, and what every answer carries."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from rlaif.service.accounts import TokenBook
from rlaif.service.guard import hosts_of, is_loopback
from tests.unit.service.conftest import Running, Serve

ONE = {"prompt": "Capital of France?", "response": "Paris."}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def raw(running: Running, data: bytes, wait_s: float = 5.0) -> bytes:
    """What the server sends back before it closes, or before `wait_s` is over."""
    parts = urlsplit(running.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=wait_s) as line:
        line.sendall(data)
        found = b""
        while part := line.recv(65536):
            found += part
        return found


def test_without_tokens_this_machine_may_ask(serve: Serve) -> None:
    assert serve().post("/v1/score", ONE).status_code == 200


def test_the_first_token_shuts_an_open_door_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlaif.cli import serve as command

    doors = []
    monkeypatch.setattr(command, "_serve", lambda *given: doors.append(given))
    command.serve(model="scripted/x", root=tmp_path / "root", host="127.0.0.1", port=0)
    _, _, (database, _), door, _, _ = doors[0]
    assert door.open()
    TokenBook(database).add("first", ["judge"])
    assert not door.open()
    database.close()


def test_with_tokens_nobody_gets_in_without_one(serve: Serve) -> None:
    running = serve(token=True)
    token = running.tokens.add("trainer", ["judge"])
    for path in ("/v1/models", "/v1/runs", "/metrics", "/openapi.json", "/v1/nothing", "/"):
        answer = running.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
    wrong = [token[:-1] + "x", token + "x", "x", "rlaif_1_", token.upper(), "rlaif_2_" + token[8:]]
    for text in wrong:
        assert running.get("/v1/models", headers=bearer(text)).status_code == 401, text
    assert running.get("/v1/models", headers={"authorization": token}).status_code == 401
    assert running.get("/v1/models", headers=bearer(token)).status_code == 200
    for path in ("/healthz", "/readyz"):
        assert running.get(path).status_code == 200


def test_a_revoked_token_is_worth_nothing_at_once(serve: Serve) -> None:
    running = serve(token=True)
    token = running.tokens.add("trainer", ["judge"])
    assert running.get("/v1/models", headers=bearer(token)).status_code == 200
    running.tokens.revoke("trainer")
    assert running.get("/v1/models", headers=bearer(token)).status_code == 401


def test_a_wrong_token_is_refused_even_where_none_is_needed(serve: Serve) -> None:
    assert serve().get("/v1/models", headers=bearer("nonsense")).status_code == 401


def test_a_token_s_rate_is_kept(serve: Serve) -> None:
    running = serve(token=True)
    token = running.tokens.add("slow", ["judge"], per_minute=3)
    statuses = [running.get("/v1/models", headers=bearer(token)).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    answer = running.get("/v1/models", headers=bearer(token))
    assert 1 <= int(answer.headers["retry-after"]) <= 20


def test_another_name_for_this_machine_is_refused(serve: Serve) -> None:
    running = serve(hosts=["judge.example"])
    for name in ("evil.example", "127.0.0.1.evil.example", "evil.example:80", ""):
        assert running.get("/v1/models", headers={"host": name}).status_code == 421, name
    for name in ("localhost", "127.0.0.1:8000", "[::1]:8000", "judge.example"):
        assert running.get("/v1/models", headers={"host": name}).status_code == 200, name


def test_hosts_of_an_outer_address_are_checked_where_they_are_named() -> None:
    assert hosts_of("0.0.0.0", []) == frozenset()
    assert "judge.example" in hosts_of("0.0.0.0", ["judge.example"])


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "localhost", "LocalHost", "::1"])
def test_whatever_only_this_machine_reaches_is_asked_by_its_names_alone(address: str) -> None:
    # a page of a name that was pointed to this machine later could ask it otherwise
    assert is_loopback(address)
    assert hosts_of(address, []) >= {"127.0.0.1", "localhost", "[::1]"}


def test_a_long_address_of_this_machine_is_asked_by_its_names_alone() -> None:
    assert is_loopback("0:0:0:0:0:0:0:1")
    assert hosts_of("0:0:0:0:0:0:0:1", []) == {"127.0.0.1", "localhost", "[::1]"}
    for address in ("0.0.0.0", "::", "10.0.0.1", "judge.example", "localhost.evil.example", ""):
        assert not is_loopback(address)


def test_hosts_are_named_as_browsers_ask_for_them() -> None:
    named = hosts_of("FE80:0::1", ["Judge.Example", "[2001:DB8::0:1]", "2001:db8::2", "x:8000"])
    asked = {"[fe80::1]", "judge.example", "[2001:db8::1]", "[2001:db8::2]", "x"}
    assert named == asked | {"127.0.0.1", "localhost", "[::1]"}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_s_page_may_change_nothing(serve: Serve, headers: dict[str, str]) -> None:
    assert serve().post("/v1/score", ONE, headers=headers).status_code == 403


def test_the_service_s_own_page_may(serve: Serve) -> None:
    running = serve()
    own = {"origin": running.url, "sec-fetch-site": "same-origin"}
    assert running.post("/v1/score", ONE, headers=own).status_code == 200


def test_every_answer_has_its_headers(serve: Serve) -> None:
    running = serve()
    for answer in (
        running.get("/healthz"),
        running.get("/nothing"),
        running.post("/v1/score", {}),
        running.get("/healthz", headers={"host": "evil"}),
    ):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_unknown_paths_and_methods_are_problems(serve: Serve) -> None:
    running = serve()
    for path in ("/nothing", "/v1/", "/v1/../../etc/passwd", "/%2e%2e/%00", "//v1/score"):
        answer = running.get(path)
        assert answer.status_code in (404, 405), path
        assert answer.headers["content-type"] == "application/problem+json"
    answer = running.client.put("/v1/score")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    allowed = running.client.delete("/v1/runs").headers["allow"]
    assert set(allowed.split(", ")) == {"GET", "HEAD", "POST"}


def test_a_request_names_one_host(serve: Serve) -> None:
    two = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n"
    assert raw(serve(), two).startswith(b"HTTP/1.1 400")


def test_a_body_over_the_limit_is_refused_declared_or_not(serve: Serve) -> None:
    running = serve(limits={"body_mb": 0.001})
    body = b'{"prompt": "' + b"x" * 3000 + b'"}'
    json_type = {"content-type": "application/json"}
    assert running.client.post("/v1/score", content=body, headers=json_type).status_code == 413
    parts = (body[i : i + 100] for i in range(0, len(body), 100))
    assert running.client.post("/v1/score", content=parts, headers=json_type).status_code == 413


def test_who_shows_no_token_may_send_no_more_than_one(serve: Serve) -> None:
    # a form of a million fields takes seconds to read, in which nobody else is answered
    running = serve(token=True)
    form = {"content-type": "application/x-www-form-urlencoded"}
    sent = b"token=x&" + b"a=b&" * 3000
    for content in (sent, iter([sent])):
        assert running.client.post("/login", content=content, headers=form).status_code == 413
    for path in ("/healthz", "/static/page.css"):
        assert running.client.post(path, content=sent).status_code in (405, 413)
    assert running.client.post("/v1/score", content=sent).status_code == 401
    token = running.tokens.add("anna", ["judge"])
    assert running.client.post("/login", data={"token": token}).status_code == 303


def test_a_client_that_never_ends_the_head_is_shown_out(serve: Serve) -> None:
    running = serve(limits={"header_s": 0.3})
    started = time.monotonic()
    assert raw(running, b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nX: ") == b""
    assert raw(running, b"") == b""
    assert time.monotonic() - started < 4
    assert running.get("/healthz").status_code == 200


def test_a_client_that_never_ends_the_body_is_shown_out(serve: Serve) -> None:
    running = serve(limits={"body_s": 0.3})
    head = (
        b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\nConnection: close\r\n\r\n{"
    )
    assert raw(running, head).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("request_line", "kind", "route"),
    [
        ("POST /v1/score", "application/json", "/v1/score"),
        ("POST /v1/uploads", "application/octet-stream", "/v1/uploads"),
        ("POST /login", "application/x-www-form-urlencoded", "/login"),
    ],
)
def test_a_client_that_goes_away_amid_its_body_is_no_failure_of_the_service(
    serve: Serve, caplog: pytest.LogCaptureFixture, request_line: str, kind: str, route: str
) -> None:
    running = serve()
    leave(running, f"{request_line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}")
    counted(running, f'rlaif_requests_total{{route="{route}",status="400"}} 1.0')
    assert caplog.text == ""


def test_a_client_that_goes_away_amid_a_stream_is_none_either(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlaif.service.running.ENDED", ())  # so that the stream goes on
    running = serve()
    data = {"upload": running.client.post("/v1/uploads", content=b"{}").json()["upload"]}
    name = running.post("/v1/runs", {"kind": "score", "data": data}).json()["id"]
    leave(running, f"GET /v1/runs/{name}/events HTTP/1.1\r\nHost: localhost", wait_s=0.3)
    counted(running, 'route="/v1/runs/{run_id}/events",status="200"} 1.0')
    ours = [record for record in caplog.records if record.name != "rlaif.runner"]
    assert [record.getMessage() for record in ours] == []


def leave(running: Running, head: str, wait_s: float = 0.1) -> None:
    """Send a head that tells of 100 bytes, and one of them, and be gone."""
    parts = urlsplit(running.url)
    with socket.create_connection((parts.hostname, parts.port)) as line:
        line.sendall(f"{head}\r\nContent-Length: 100\r\n\r\n{{".encode())
        time.sleep(wait_s)


def counted(running: Running, line: str, longest_s: float = 5.0) -> None:
    until_s = time.monotonic() + longest_s
    while line not in (text := running.get("/metrics").text):
        assert time.monotonic() < until_s, text
        time.sleep(0.02)


def test_requests_that_are_no_http_do_no_harm(serve: Serve) -> None:
    running = serve()
    assert b"400" in raw(running, b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
    smuggled = (
        b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"
        b"GET /healthz HTTP/1.1\r\n\r\n"
    )
    assert raw(running, smuggled).count(b"HTTP/1.1 200") == 0
    assert running.get("/healthz").status_code == 200


def test_more_requests_than_are_allowed_at_once_are_told_to_wait(serve: Serve) -> None:
    running = serve(limits={"in_flight": 1, "body_s": 3.0})
    parts = urlsplit(running.url)
    with socket.create_connection((parts.hostname, parts.port)) as held:
        held.sendall(
            b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10\r\n\r\n"
        )
        time.sleep(0.3)
        answer = running.get("/healthz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


def test_a_judge_that_hangs_is_a_504(serve: Serve) -> None:
    running = serve(limits={"request_s": 0.3})

    async def hang(*_: object) -> None:
        import asyncio

        await asyncio.sleep(30)

    seat = running.service.bench.seat("default", None, 0, running.service.budget(_local()))
    seat.__dict__["pointwise"] = type("Hanging", (), {"score": staticmethod(hang)})()
    answer = running.post("/v1/score", ONE)
    assert answer.status_code == 504


def test_a_bug_is_a_500_whose_log_holds_no_text(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    running = serve()

    async def fail(*_: object) -> None:
        raise RuntimeError("the secret prompt")

    seat = running.service.bench.seat("default", None, 0, running.service.budget(_local()))
    seat.__dict__["pointwise"] = type("Failing", (), {"score": staticmethod(fail)})()
    with caplog.at_level(logging.DEBUG):
        answer = running.post("/v1/score", {**ONE, "prompt": "another secret"})
    assert answer.status_code == 500
    assert "RuntimeError at test_guard.py" in caplog.text
    assert "secret" not in caplog.text + answer.text


def test_nothing_judged_reaches_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    running = serve(token=True)
    token = running.tokens.add("trainer", ["judge"])
    with caplog.at_level(logging.DEBUG):
        running.post("/v1/score", {**ONE, "prompt": "SECRET"}, headers=bearer(token))
        running.post("/v1/score", {"prompt": "SECRET"}, headers=bearer(token))
    ours = [record for record in caplog.records if record.name.startswith(("rlaif", "uvicorn"))]
    told = " ".join(record.getMessage() for record in ours)
    assert "SECRET" not in told
    assert token not in told


def _local() -> object:
    from rlaif.service.accounts import LOCAL

    return LOCAL


def test_websockets_are_refused(serve: Serve) -> None:
    running = serve()
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
    }
    assert httpx.get(f"{running.url}/v1/runs", headers=upgrade).status_code == 200
