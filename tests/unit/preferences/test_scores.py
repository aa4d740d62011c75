"""Scores of one prompt's responses as comparisons, and from there as training rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rlaif.cli.main import app
from rlaif.errors import SpecError
from rlaif.evals.people import by, rating
from rlaif.preferences.scores import compared_by_score
from rlaif.types import JudgeRef, Sampling, Score, Verdict
from tests.builders import candidate, item, verdict

JUDGE = JudgeRef("judge", "verdict", Sampling())


def scored(name: str, value: float | None, text: str, judge: JudgeRef = JUDGE) -> Verdict:
    one = (candidate("1", text, name),)
    if value is None:
        return Verdict(name, "score", item(name), one, judge, "no_verdict", "refused")
    return replace(rating(item(name), one, judge, Score(value, 1, 5)), id=name)


def test_the_higher_score_is_preferred() -> None:
    rows = [scored("x", 2, "Lyon."), scored("y", 5, "Paris."), scored("z", None, "?")]
    first, second, third = compared_by_score([*rows, scored("w", 4, "Nice.", by("anna"))])
    assert first.preference is not None
    assert (first.preference.winner, first.preference.p_a) == ("B", 0.0)
    assert [one.id for one in first.candidates] == ["x/1", "y/1"]
    assert first.judge.method == "scores, verdict"
    assert (second.cause, third.cause) == ("refused", "refused")
    assert Verdict.from_dict(json.loads(json.dumps(first.as_dict()))) == first


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(SpecError, match="a comparison among scores"):
        list(compared_by_score([verdict()]))
    with pytest.raises(SpecError, match="nothing to prefer"):
        list(compared_by_score([scored("x", 2, "Lyon.")]))
    other = rating(item(), (candidate("1", "?"),), JUDGE, Score(2, 1, 10))
    with pytest.raises(SpecError, match="another scale"):
        list(compared_by_score([scored("x", 2, "Lyon."), other]))


def test_ratings_by_people_become_training_rows(tmp_path: Path) -> None:
    run, out = tmp_path / "people.jsonl", tmp_path / "pairs"
    texts = {"Paris.": 5, "Lyon, I believe.": 2, "Nice": 2}
    given = [scored(f"r{n}", v, t, by("anna")) for n, (t, v) in enumerate(texts.items())]
    run.write_text("".join(json.dumps(one.as_dict()) + "\n" for one in given), encoding="utf-8")
    done = CliRunner().invoke(app, ["prefer", str(run), "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    made: dict[str, Any] = json.loads(done.stdout)
    assert sum(made["rows"].values()) == 2
    assert made["held_back"] == {"tie": 1}
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(run.read_text() + json.dumps(verdict().as_dict()) + "\n", encoding="utf-8")
    refused = CliRunner().invoke(app, ["prefer", str(mixed), "-o", str(out)]).exception
    assert isinstance(refused, SpecError)
    assert refused.path == str(mixed)
