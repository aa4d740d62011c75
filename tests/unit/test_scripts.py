from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SCRIPTS = sorted(
    path
    for path in (*(REPOSITORY / "scripts").iterdir(), REPOSITORY / ".ci" / "run")
    if path.suffix == ""
)


def test_there_are_the_scripts_that_people_are_told_of() -> None:
    assert {"setup", "test", "check", "quickstart", "run"} <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_bash_that_parses_runs_and_stops_at_the_first_failure(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert os.access(path, os.X_OK)
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_runs_from_any_folder(path: Path) -> None:
    assert 'cd "$(dirname "$0")/.."' in path.read_text(encoding="utf-8")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    last = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    command = last.removeprefix("exec ")
    assert re.search(rf"^(?:\$ )?{re.escape(command)}(?: +#.*)?$", readme, re.MULTILINE)


def test_check_runs_every_tool_that_is_configured() -> None:
    text = (REPOSITORY / "scripts" / "check").read_text(encoding="utf-8")
    for command in ("ruff format --check", "ruff check", "mypy", "pytest"):
        assert command in text
    assert "scripts/check" in (REPOSITORY / "scripts" / "test").read_text(encoding="utf-8")


def test_the_versions_of_the_tests_are_exact_and_accepted() -> None:
    lines = (REPOSITORY / "scripts" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert all(f'"{pin.split("==")[0]}' in project for pin in pins)
