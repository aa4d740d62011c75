from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlaif.backends.budgeted import BudgetedBackend
from rlaif.backends.cached import CachedBackend
from rlaif.backends.limited import LimitedBackend
from rlaif.backends.opening import layers
from rlaif.backends.retrying import RetryingBackend
from rlaif.backends.scripted import ScriptedBackend
from rlaif.cli import options
from rlaif.errors import ConfigError, SpecError
from rlaif.store.replies import ReplyStore
from tests.integration.command import REPOSITORY


@pytest.mark.parametrize(
    ("said", "meant"),
    [("/somewhere", "/somewhere"), ("~/r", "{user}/r"), ("", "{user}/.cache/rlaif")],
)
def test_home(said: str, meant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RLAIF_HOME", said)
    assert options.home() == Path(meant.format(user=tmp_path))
    monkeypatch.delenv("RLAIF_HOME")
    assert options.home() == tmp_path / ".cache" / "rlaif"


def test_the_store_lies_in_the_home(tmp_path: Path) -> None:
    with options.open_store() as store:
        assert store.path == tmp_path / "home" / "replies.sqlite"


@pytest.mark.parametrize(
    ("address", "variable"),
    [
        ("openai/x", "OPENAI_API_KEY"),
        ("anthropic/x", "ANTHROPIC_API_KEY"),
        ("server/x", "RLAIF_SERVER_API_KEY"),
    ],
)
def test_a_key_comes_from_its_own_variable_and_no_other(
    address: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert options.backend_options(address, None, 5.0).api_key is None
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "RLAIF_SERVER_API_KEY"):
        monkeypatch.setenv(name, f"secret of {name}")
    found = options.backend_options(address, None, 5.0)
    assert found.api_key == f"secret of {variable}"
    assert found.timeout_s == 5.0
    assert "secret" not in repr(found)


def test_providers_without_a_key_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    for address in ("local/x", "scripted/x"):
        assert options.backend_options(address, None, 5.0).api_key is None


def test_the_base_url_of_the_command_line_beats_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://openai.example/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "")

    def url(address: str, given: str | None = None) -> str | None:
        return options.backend_options(address, given, 5.0).base_url

    assert url("openai/x") == "http://openai.example/v1"
    assert url("openai/x", "http://mine.example") == "http://mine.example"
    assert url("anthropic/x") is None  # empty is not set
    assert url("server/x") is None  # another provider's variable is not read


def test_a_provider_is_cached_priced_retried_and_paced(tmp_path: Path) -> None:
    script = tmp_path / "s.jsonl"
    script.write_text('{"match": "", "reply": "x"}\n')
    with options.open_store() as store:
        cached = options.open_backend(f"scripted/{script}", store, concurrency=3)
        kinds = (CachedBackend, BudgetedBackend, RetryingBackend, LimitedBackend, ScriptedBackend)
        found = list(layers(cached))
        assert tuple(map(type, found)) == kinds
        assert found[3].concurrency == 3  # type: ignore[attr-defined]


def test_a_local_model_is_only_cached_and_priced(tiny_model: Path) -> None:
    from rlaif.backends.base import GroupBackend
    from rlaif.backends.local import LocalBackend

    with options.open_store() as store:
        cached = options.open_backend(f"local/{tiny_model}", store)
        assert isinstance(cached.inner, BudgetedBackend)
        assert isinstance(cached.inner, GroupBackend)
        assert isinstance(cached.inner.inner, LocalBackend)
        assert cached.group_size == cached.inner.inner.group_size


def test_backends_are_closed_however_the_block_ends() -> None:
    backends = [ScriptedBackend([]), ScriptedBackend([])]

    async def fail() -> None:
        async with options.opened(*backends):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(fail())
    assert [b.closed for b in backends] == [True, True]


def test_one_model_is_one() -> None:
    assert options.one_model(["a/b"]) == "a/b"
    with pytest.raises(ConfigError, match="give one judge with -m, not 2"):
        options.one_model(["a/b", "c/d"])


def test_models_are_distinct() -> None:
    options.distinct(["a/b", "a/c"])
    with pytest.raises(ConfigError, match="-m a/b is given twice"):
        options.distinct(["a/b", "a/c", "a/b"])


def test_a_file_is_itself_and_must_exist(tmp_path: Path) -> None:
    assert options.spooled(str(tmp_path)) == tmp_path
    with pytest.raises(SpecError, match="x: no such file or folder"):
        options.spooled(str(tmp_path / "x"))
    with pytest.raises(SpecError, match="File name too long"):
        options.spooled("x" * 300)


def test_standard_input_is_kept_until_the_process_ends(tmp_path: Path) -> None:
    code = (
        "from rlaif.cli.options import spooled; p = spooled('-'); "
        "print(p.name, p.parent.stat().st_mode & 0o77, p.read_text())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="a line\nand another",
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "stdin.jsonl 0 a line\nand another\n"  # 0: nobody else may look
    assert list(tmp_path.iterdir()) == []


def test_a_digest_is_of_what_is_read(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.jsonl", tmp_path / "folder"
    file.write_text("x")
    folder.mkdir()
    (folder / "data.arrow").write_text("x")
    before = [options.data_digest(p) for p in (file, folder)]
    (folder / "data.arrow").write_text("y")
    assert options.data_digest(file) == before[0]
    assert options.data_digest(folder) != before[1]


def test_the_digest_of_a_run_is_of_its_candidates_and_not_of_how_they_came(tmp_path: Path) -> None:
    row = {"id": "1", "prompt": [], "candidates": [], "draws": [{"cached": False}]}
    path = tmp_path / "candidates.jsonl"
    path.write_text(json.dumps(row))
    before = options.data_digest(tmp_path)
    path.write_text(json.dumps(row | {"draws": [{"cached": True}]}))
    (tmp_path / "summary.json").write_text("1")
    assert options.data_digest(tmp_path) == options.data_digest(path) == before
    path.write_text(json.dumps(row | {"id": "2"}))
    assert options.data_digest(tmp_path) != before


def test_no_key_reaches_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
    with ReplyStore(tmp_path / "r.sqlite") as store:
        backend = options.open_backend("openai/gpt-5.1", store, concurrency=1)
        assert "secret" not in backend.identity + backend.model + repr(vars(backend))
        asyncio.run(backend.aclose())
