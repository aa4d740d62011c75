from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rlaif.cli.cache import app
from rlaif.errors import ConfigError, SpecError, StoreError
from rlaif.store.replies import ReplyStore
from rlaif.types import Completion, Usage

DAY_S = 86_400.0


def key(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def cache(*words: object, stdin: bytes | None = None) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def told(*words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cache(*words, "--json").stdout)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The user's own store: ten replies of 40 days ago, five of today."""
    path = tmp_path / "home" / "replies.sqlite"
    with ReplyStore(path) as store:
        for model, n, days in (("gpt-5.1", 10, 40), ("claude", 5, 0)):
            rows = [
                (
                    key((model, i)),
                    Completion(f"reply {i}", model=model, usage=Usage(9, 0, 2), cost_usd=0.1),
                )
                for i in range(n)
            ]
            store.put_many(rows, created_s=time.time() - days * DAY_S)
    return path


def test_stats_tell_what_is_there(path: Path) -> None:
    found = told("stats")
    assert (found["path"], found["replies"]) == (str(path), 15)
    assert found["bytes"] >= path.stat().st_size
    first, second = found["rows"]
    assert first | {"oldest": 0, "newest": 0} == {
        "model": "gpt-5.1",
        "n": 10,
        "input": 90,
        "cached_input": 0,
        "output": 20,
        "cost_usd": 1.0,
        "n_unpriced": 0,
        "oldest": 0,
        "newest": 0,
    }
    assert first["oldest"] == first["newest"] < second["oldest"] < "3"
    shown = cache("stats").stdout
    assert "15 replies" in shown
    assert "claude" in shown


def test_stats_make_no_store(tmp_path: Path) -> None:
    assert told("stats") == {
        "path": str(tmp_path / "home" / "replies.sqlite"),
        "bytes": 0,
        "replies": 0,
        "rows": [],
    }
    assert "no reply store yet" in cache("stats").stdout
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", ["prune", "export"])
def test_without_a_store_there_is_nothing_to_do(command: str, tmp_path: Path) -> None:
    words = ["--model", "*"] if command == "prune" else []
    with pytest.raises(ConfigError, match="there is no reply store"):
        cache(command, *words)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", ["stats", "export"])
def test_a_foreign_file_is_an_error_and_stays(command: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("not a database at all, just some text" * 50)
    with pytest.raises(StoreError, match="not a readable reply store"):
        cache(command, "--store", path)
    assert path.read_text().startswith("not a database")


def test_pruning_says_what_it_would_do_and_what_it_did(path: Path) -> None:
    assert told("prune", "--older-than", "30d", "--dry-run") | {"freed_bytes": 0} == {
        "dry_run": True,
        "n": 10,
        "freed_bytes": 0,
        "left": 15,
    }
    shown = cache("prune", "--older-than", "30d", "--model", "g*", "--dry-run").stdout
    assert shown.startswith("would take out 10 of 15 replies, about ")
    assert cache("prune", "--older-than", "30d").stdout.startswith(
        "took out 10 replies, 5 are left; freed "
    )
    assert told("prune", "--max-size", "1 GB")["n"] == 0
    assert told("prune", "--damaged")["n"] == 0
    assert told("prune", "--max-size", "0")["left"] == 0
    assert told("stats")["replies"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to prune"),
        (["--older-than", "30"], "write a number and a unit"),
        (["--older-than", "-3d"], "write a number and a unit"),
        (["--max-size", "big"], "write a number and a unit"),
    ],
)
def test_a_condition_that_makes_no_sense_is_said(
    path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        cache("prune", *words)
    assert told("stats")["replies"] == 15


def test_replies_go_out_and_come_in_again(path: Path, tmp_path: Path) -> None:
    done = cache("export")
    assert len(done.stdout.splitlines()) == 15
    cache("export", "-o", tmp_path / "r.jsonl", "--model", "claude")
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert [json.loads(line)["completion"]["text"] for line in lines] == [
        f"reply {i}" for i in range(5)
    ]
    other = tmp_path / "other.sqlite"
    said = cache("import", tmp_path / "r.jsonl", "-", "--store", other, stdin=done.stdout_bytes)
    assert "r.jsonl: 5 new replies" in said.stderr
    assert "-: 10 new replies" in said.stderr
    mine, theirs = told("stats"), told("stats", "--store", other)
    assert theirs["rows"] == mine["rows"]


def test_a_file_that_is_no_export_names_its_line(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(cache("export").stdout + '{"digest": "x"}\n')
    with pytest.raises(SpecError, match=rf"{file}:16: not a reply"):
        cache("import", file)
    file.write_text("{")
    with pytest.raises(SpecError, match=r"x\.jsonl:1: not JSON"):
        cache("import", file)


@pytest.mark.parametrize(("n", "said"), [(10, "10 B"), (2000, "2.0 kB"), (3 * 10**9, "3.0 GB")])
def test_sizes_are_told_as_people_read_them(n: int, said: str) -> None:
    from rlaif.cli.cache import _size

    assert _size(n) == said


def test_no_prompt_and_no_key_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from rlaif.backends.cached import CachedBackend
    from rlaif.backends.scripted import ScriptedBackend
    from rlaif.types import Message, Request

    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
    path = tmp_path / "home" / "replies.sqlite"
    with ReplyStore(path) as store:
        backend = CachedBackend(ScriptedBackend(["fine"]), store)
        asyncio.run(backend.complete(Request((Message("user", "my private prompt"),))))
        files = [p for p in (tmp_path / "home").rglob("*") if p.is_file()]
        assert {p.name for p in files} >= {"replies.sqlite", "replies.sqlite-wal"}
        for file in files:
            assert b"private" not in file.read_bytes()
            assert b"secret" not in file.read_bytes()
    assert os.environ["OPENAI_API_KEY"] not in cache("export").stdout
