from __future__ import annotations

import json
import re
import socket
import sqlite3
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from rlaif.cli import doctor
from rlaif.store.replies import ReplyStore
from rlaif.types import Completion
from tests.integration.command import REPOSITORY, rlaif
from tests.wire import WireServer

SECRET = "sk-secret-0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _fill(home: Path, n: int = 500) -> Path:
    path = home / "replies.sqlite"
    with ReplyStore(path) as store:
        store.put_many((f"{i:064}", Completion(f"reply {i} " * 20)) for i in range(n))
    return path


def test_a_new_installation_is_in_order_and_nothing_is_made(home: Path) -> None:
    done = rlaif("doctor", "--json")
    assert (done.code, done.err) == (0, "")
    found = done.json
    assert found["problems"] == []
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert found["store"] == {
        "path": str(home / "replies.sqlite"),
        "exists": False,
        "rows": 0,
        "bytes": 0,
    }
    assert found["models"] == {"local/smollm2-135m": False}
    assert found["dtype"] == {}
    assert "server" not in found
    assert not home.exists()


def test_a_table_says_the_same() -> None:
    done = rlaif("doctor")
    assert done.code == 0
    for line in (r"OPENAI_API_KEY\s+not set", r"reply store\s+none yet", r"package typer\s+\d"):
        assert re.search(line, done.out)


def test_keys_are_told_of_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "  ")
    found = rlaif("doctor", "--json")
    assert found.json["keys"] == {
        "OPENAI_API_KEY": True,
        "ANTHROPIC_API_KEY": False,
        "RLAIF_SERVER_API_KEY": False,
    }
    table = rlaif("doctor")
    assert re.search(r"OPENAI_API_KEY\s+set", table.out)
    assert "secret" not in found.out + found.err + table.out + table.err


def test_the_lists_of_packages_are_the_projects_own() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        found = {re.split(r"[\[<>=]", line)[0] for line in requirements}
        return found - {"rlaif"}

    assert set(doctor.PACKAGES) == names(project["dependencies"])
    declared = project["optional-dependencies"]
    assert {k: set(v) for k, v in doctor.EXTRAS.items()} == {
        name: names(declared[name]) for name in declared if name != "all"
    }


def test_versions_are_those_installed() -> None:
    found = rlaif("doctor", "--json").json
    assert found["packages"]["typer"] == metadata.version("typer")
    for extra in found["extras"].values():
        assert extra["complete"] == all(extra["packages"].values())


def test_an_extra_with_a_package_missing_is_not_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name in {"gguf", "aiohttp"}:
            raise metadata.PackageNotFoundError(name)
        return real(name) if name in doctor.PACKAGES else "1.0"

    monkeypatch.setattr(doctor.metadata, "version", version)
    done = rlaif("doctor", "--json")
    assert done.code == 0  # nothing that was asked for is broken
    extras = done.json["extras"]
    assert extras["local"] == {
        "complete": False,
        "packages": {
            "torch": "1.0",
            "transformers": "1.0",
            "accelerate": "1.0",
            "gguf": None,
            "safetensors": "1.0",
        },
    }
    assert not extras["train"]["complete"]  # it builds on local
    table = rlaif("doctor").out
    assert re.search(r"extra local\s+needs gguf", table)
    assert re.search(r"extra train\s+needs rlaif\[local\]; datasets 1\.0", table)
    assert re.search(r"package aiohttp\s+MISSING", table)


def test_without_torch_there_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert rlaif("doctor", "--json").json["device"] is None
    assert re.search(r"device\s+no torch", rlaif("doctor").out)


def test_with_torch_the_device_is_named() -> None:
    torch = pytest.importorskip("torch")
    found = rlaif("doctor", "--json").json["device"]
    assert found == (torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu")


def test_models_and_measurements(home: Path) -> None:
    (home / "models" / "smollm2-135m").mkdir(parents=True)
    (home / "models" / "smollm2-135m" / "config.json").write_text("{}")
    (home / "measured.json").write_text('{"this machine": "bfloat16"}')
    found = rlaif("doctor", "--json").json
    assert found["models"] == {"local/smollm2-135m": True}
    assert found["dtype"] == {"this machine": "bfloat16"}
    table = rlaif("doctor").out
    assert re.search(r"local/smollm2-135m\s+fetched", table)
    assert re.search(r"dtype\s+bfloat16 \(this machine\)", table)


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_measurements_that_cannot_be_read_are_none(content: str, home: Path) -> None:
    home.mkdir()
    (home / "measured.json").write_text(content, encoding="latin-1")
    assert rlaif("doctor", "--json").json["dtype"] == {}


# the store


def test_a_store_is_counted(home: Path) -> None:
    path = _fill(home)
    found = rlaif("doctor", "--json").json["store"]
    assert found == {
        "path": str(path),
        "exists": True,
        "rows": 500,
        "bytes": path.stat().st_size,
    }
    assert re.search(r"reply store\s+500 replies, 0\.\d MB", rlaif("doctor").out)


def test_prices_are_dated_and_own_ones_counted(home: Path) -> None:
    found = rlaif("doctor", "--json")
    date = found.json["prices"]["date"]
    assert (found.code, found.json["prices"]["own"]) == (0, 0)
    home.mkdir()
    (home / "prices.yaml").write_text("models: {server/x: {per_call_usd: 1}}")
    assert rlaif("doctor", "--json").json["prices"] == {"date": date, "own": 1}
    assert f"of {date}, 1 of your own" in rlaif("doctor").out
    (home / "prices.yaml").write_text("models: {server/x: {per_call_usd: much}}")
    wrong = rlaif("doctor")
    assert wrong.code == 1
    assert "prices.yaml:1: field 'models.server/x.per_call_usd': should be a number" in wrong.err
    assert "cannot be read" in wrong.out


def test_an_empty_file_is_left_empty(home: Path) -> None:
    home.mkdir()
    (home / "replies.sqlite").touch()
    assert rlaif("doctor", "--json").json["store"]["rows"] == 0
    assert (home / "replies.sqlite").read_bytes() == b""


def _damage(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\x00\xff" * 2048)


def _foreign(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE theirs (x)")
    database.close()


def _text(path: Path) -> None:
    path.write_bytes(b"not a database at all " * 100)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("break_it", [_damage, _foreign, _text, _folder])
def test_a_store_that_cannot_be_used_is_a_problem(break_it, home: Path) -> None:
    path = _fill(home)
    break_it(path)
    done = rlaif("doctor", "--json")
    assert done.code == 1
    [problem] = done.json["problems"]
    assert str(path) in problem
    assert done.err == f"error: {problem}\n"
    table = rlaif("doctor")
    assert table.code == 1
    assert re.search(r"reply store\s+damaged", table.out)


# a server


def test_a_server_that_answers_names_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer(models=["judge-small", "judge[bold]"]) as server:
        done = rlaif("doctor", "--base-url", server.url, "--json")
        assert done.code == 0
        assert done.json["server"] == {"url": server.url, "models": ["judge-small", "judge[bold]"]}
        monkeypatch.setenv("COLUMNS", "120")
        table = rlaif("doctor", "--base-url", server.origin)
    assert re.search(r"answers: judge-small, judge\[bold\]", table.out)


def test_a_server_that_is_not_there_is_a_problem() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    done = rlaif("doctor", "--base-url", url, "--json")
    assert done.code == 1
    assert done.json["server"]["url"] == url
    assert done.json["problems"][0].startswith(f"no connection to the server at {url}")
    assert "no answer" in rlaif("doctor", "--base-url", url).out


@pytest.fixture
def answering() -> Iterator[object]:
    """A server that gives one fixed answer, or none."""
    import threading

    sockets = []

    def serve(answer: bytes | None) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)

        def work() -> None:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                seen.append(connection.recv(65536))
                if answer is not None:
                    connection.sendall(answer)
                else:
                    connection.recv(1)  # until the client gives up

        threading.Thread(target=work, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/v1"

    seen: list[bytes] = []
    serve.seen = seen  # type: ignore[attr-defined]
    yield serve
    for one in sockets:
        one.close()


def _http(status: str, body: str, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "the server did not answer within 0.2 s"),
        (b"not HTTP at all\r\n\r\n", "no connection to the server at "),
        (_http("200 OK", "<!DOCTYPE html><p>hi</p>"), "the server answered HTML"),
        (_http("200 OK", '{"data": [7]}'), "the server answered JSON where data[0] is not an"),
        (_http("401 Unauthorized", SECRET), "the server rejected the key in RLAIF_SERVER_API_KEY"),
        (_http("302 Found", "", "Location: http://x.example"), "the server redirects elsewhere"),
        (
            _http("500 Oops", f'{{"error": "key {SECRET}"}}'),
            "the server failed (HTTP 500): key [red",
        ),
    ],
)
def test_a_server_that_answers_otherwise_is_a_problem(
    answer: bytes | None, message: str, answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAIF_SERVER_API_KEY", SECRET)
    url = answering(answer)
    done = rlaif("doctor", "--base-url", url, "--timeout", 0.2, "--json")
    assert done.code == 1
    assert done.json["server"]["error"].startswith(message)
    assert SECRET not in done.out + done.err
    assert f"Authorization: Bearer {SECRET}".encode() in answering.seen[0]


def test_an_address_that_is_none_is_bad_usage() -> None:
    done = rlaif("doctor", "--base-url", "ftp://x", "--json")
    assert (done.code, done.error) == (
        2,
        "the base URL 'ftp://x' is not like http://localhost:8000/v1",
    )


def test_json_is_one_object_whatever_is_wrong(home: Path) -> None:
    _text(_fill(home))
    done = rlaif("doctor", "--base-url", "http://127.0.0.1:9", "--json")
    assert done.code == 1
    assert len(done.json["problems"]) == len(done.err.splitlines()) == 2
    assert json.loads(done.out) == done.json
