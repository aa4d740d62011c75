"""Published judgments imported once a session, and the commands as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from tests.conftest import SHARED_DATA

Command = Callable[..., dict[str, Any]]


def _command(app: Typer) -> Command:
    def run(*words: object, code: int = 0) -> dict[str, Any]:
        """The JSON object that the command prints."""
        done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
        assert done.exit_code == code, done.output
        made: dict[str, Any] = json.loads(done.stdout)
        return made

    return run


@pytest.fixture(scope="session")
def leaderboard() -> Command:
    from rlaif.cli.leaderboard import app

    return _command(app)


@pytest.fixture(scope="session")
def agreement() -> Command:
    from rlaif.cli.agreement import app

    return _command(app)


@pytest.fixture(scope="session")
def published() -> Path:
    """Published evaluation data beside the project, where there is any."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no published data in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The run folder of an import; the same import is made once."""
    from rlaif.cli.importing import imports

    runs: dict[tuple[str, ...], Path] = {}

    def run(*words: object) -> Path:
        key = tuple(map(str, words))
        if key not in runs:
            runs[key] = tmp_path_factory.mktemp("imported") / "run"
            _command(imports)("--max-failures", 0.1, *words, "-o", runs[key])
        return runs[key]

    return run
