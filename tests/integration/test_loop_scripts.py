"""The experiments with loops, on a tiny model: they run, and tell a good end from a bad one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.integration.command import script

pytest.importorskip("trl")

SMALL = ["--rounds", "1", "--prompts", "3", "--held-out", "3", "--candidates", "2", "--tokens", "8"]


def test_the_verifiable_objective_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    made = script("loop_verifiable", monkeypatch)
    plain, long = "We use a cup. It is hot.", "First, if you can, use a cup. It is hot."
    assert made.few_commas(plain) == 0.0
    assert made.few_commas(long) == pytest.approx(-40 * 2 / 10)
    assert made.few_commas("...") == -40.0
    assert made.plain_sentences(plain) == 4.0
    assert made.plain_sentences(long) == 2.0
    assert made.plain_sentences("") == 0.0


def test_the_hackable_judge_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    made = script("loop_hackable", monkeypatch)
    assert made.much_detail("one, two, three four") == pytest.approx(20)
    assert made.much_detail(",,,") == 0.0


def test_an_experiment_ends_with_its_table_and_report(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = script("loop_hackable", monkeypatch)
    words = ["x", *SMALL, "-o", str(tmp_path / "out"), "--model", f"local/{tiny_model}"]
    monkeypatch.setattr(sys, "argv", words)
    # a model without training writes no commas
    monkeypatch.setattr(made, "much_detail", lambda text: len(text) / 4)
    code = made.main()
    out = capsys.readouterr().out
    pleased, told = out.splitlines()[-2:]
    assert "held-out judge" in out
    assert code == (0 if pleased.endswith("yes") and not told.endswith("none") else 1)
    assert (tmp_path / "out" / "loop" / "report.html").exists()
