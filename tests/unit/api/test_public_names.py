"""The public names: their types, and the examples in their docstrings."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import rlaif

HERE = Path(__file__).parent


def test_types_are_as_a_checker_sees_them() -> None:
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(HERE / "typing_api.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["rlaif.api.judging", "rlaif.rewards.judge_reward"])
def test_the_example_of_a_module_runs(module: str) -> None:
    said = importlib.import_module(module).__doc__ or ""
    lines = [line for line in said.splitlines() if line.startswith("    ")]
    example = textwrap.dedent("\n".join(lines))
    assert "assert" in example
    exec(compile(example, module, "exec"), {})


def test_there_are_few_of_them_and_each_says_what_it_is() -> None:
    assert len(rlaif.__all__) <= 26
    for name in set(rlaif.__all__) - {"__version__"}:
        said = (getattr(rlaif, name).__doc__ or "").strip()
        assert said.splitlines()[0].endswith("."), name
