from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

import pytest
import typer
from rich.text import Text

from rlaif import __version__
from rlaif.cli.main import COMMANDS
from rlaif.errors import (
    BackendError,
    ConfigError,
    DataError,
    RlaifError,
    SpecError,
    StoreError,
    VerdictError,
)
from tests.integration.command import REPOSITORY, rlaif


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command_with_what_it_does(flag: str) -> None:
    done = rlaif(flag)
    assert (done.code, done.err) == (0, "")
    shown = " ".join(done.out.replace("│", " ").split())
    for name, (_, line) in COMMANDS.items():
        assert f" {name} " in shown
        assert line in shown
    assert "130 interrupted" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_own_help(name: str) -> None:
    done = rlaif(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert re.search(rf"Usage: .*rlaif {name} ", done.out)


def _helps(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every text that the help of a command, and of those below it, shows as markup."""
    yield name, command.help or ""
    for option in command.params:
        yield f"{name} {option.name}", getattr(option, "help", None) or ""
    for below, one in getattr(command, "commands", {}).items():
        yield from _helps(one, f"{name} {below}")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_bracket_in_a_help_text_is_taken_for_markup(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = typer.main.get_command(getattr(import_module(module), attribute))
    for where, text in _helps(command, name):
        assert (where, Text.from_markup(text).plain) == (where, text)


def test_no_command_is_the_help() -> None:
    done = rlaif()
    assert "quickstart" in done.out + done.err


def test_an_unknown_command_is_bad_usage() -> None:
    done = rlaif("juge")
    assert (done.code, done.out) == (2, "")
    assert "No such command 'juge'" in done.err


def test_version() -> None:
    assert rlaif("--version").out == f"rlaif {__version__}\n"


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rlaif", "--version"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"rlaif {__version__}\n"


def _command_that_raises(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `rlaif fails` a command that raises `error`."""
    module = ModuleType("rlaif_test_fails")
    app = typer.Typer()

    @app.command()
    def fails() -> NoReturn:
        raise error

    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(COMMANDS, "fails", (f"{module.__name__}:app", "Fails."))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            SpecError("is empty", path="a.jsonl", line=3, field="b"),
            2,
            "a.jsonl:3: field 'b': is empty",
        ),
        (ConfigError("set a key"), 2, "set a key"),
        (DataError("too little"), 1, "too little"),
        (BackendError("down"), 1, "down"),
        (VerdictError("no mark", cause="unreadable"), 1, "no mark"),
        (StoreError("full"), 1, "full"),
        (RlaifError("other"), 1, "other"),
        (ConfigError("two\nlines \x1b[2J\ud800"), 2, r"two lines \x1b[2J\ud800"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    error: RlaifError, code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _command_that_raises(error, monkeypatch)
    done = rlaif("fails")
    assert (done.code, done.error) == (code, message)


def test_an_interruption_says_that_work_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    _command_that_raises(KeyboardInterrupt(), monkeypatch)
    done = rlaif("fails")
    assert (done.code, done.out) == (130, "")
    assert done.err == "interrupted: finished work is kept; run the same command to go on\n"


def test_an_interruption_while_starting_does_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlaif.cli.main.app", interrupted)
    done = rlaif("judge")
    assert done.code == 130
    assert "finished work is kept" in done.err


def test_a_bug_stays_an_ordinary_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    _command_that_raises(ZeroDivisionError("a bug"), monkeypatch)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        rlaif("fails")


def test_no_library_looks_for_models_elsewhere_unless_told_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str | None] = []
    monkeypatch.setattr("rlaif.cli.main.app", lambda: seen.append(os.environ.get("HF_HUB_OFFLINE")))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    rlaif()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    rlaif()
    assert seen == ["1", "0"]


@pytest.mark.parametrize(
    ("words", "limit_s"),
    [(("-m", "rlaif", "--help"), 0.5), (("-c", "import rlaif"), 0.3)],
    ids=["help", "import"],
)
def test_starting_is_quick(words: tuple[str, ...], limit_s: float) -> None:
    """Processor time, the best of several: other work on the machine must not count."""
    spent = []
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if spent[-1] < limit_s:
            return
    pytest.fail(f"the quickest of {len(spent)} starts took {min(spent):.2f} s")
