"""What the README shows in Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_python_example_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})


def test_the_python_example_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.findall(
        r"```python\n(.*?)```\n\n```\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found
    for block, printed in found:
        exec(compile(block, str(README), "exec"), {})
        assert capsys.readouterr().out == printed


def test_every_command_that_is_shown_exists() -> None:
    from rlaif.cli.main import COMMANDS

    shown = set(re.findall(r"^\$ rlaif (\S+)", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert shown
    assert shown <= set(COMMANDS)
