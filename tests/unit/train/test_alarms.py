"""Alarms: limits from a file, intervals that have to lie beyond them, one line of advice each."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlaif.errors import DataError, SpecError
from rlaif.evals.audit_thresholds import Bounds
from rlaif.train.alarms import KNOWN, Limits, Measure, fired, load_limits, sound

LIMITS = Limits("test", {"kl": Bounds(most=10.0), "length_mean": Bounds(0.5, 2.0)})


def test_a_figure_beyond_its_limit_fires_and_says_what_to_do() -> None:
    (alarm,) = sound([Measure("kl", 12.0)], LIMITS)
    assert alarm.fired
    assert alarm.advice == KNOWN["kl"][1]
    assert alarm.line() == f"kl 12, limit at most 10: {alarm.advice}"
    assert alarm.as_dict()["most"] == 10.0


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(10.5, 13.0, True), (9.0, 15.0, False), (10.0, 14.0, False)]
)
def test_the_whole_interval_has_to_lie_beyond(low: float, high: float, expected: bool) -> None:
    (alarm,) = sound([Measure("kl", 12.0, low, high)], LIMITS)
    assert alarm.fired is expected
    by_value = Limits("test", LIMITS.bounds, fire="value")
    assert sound([Measure("kl", 12.0, low, high)], by_value)[0].fired


def test_a_figure_may_fall_below_or_rise_above() -> None:
    values = (0.4, 0.5, 1.0, 2.0, 2.1)
    states = [sound([Measure("length_mean", v)], LIMITS)[0].fired for v in values]
    assert states == [True, False, False, False, True]


def test_without_limits_or_skipped_there_is_no_alarm() -> None:
    skipping = Limits("test", LIMITS.bounds, skip=frozenset({"kl"}))
    measures = [Measure("kl", 99.0), Measure("entropy", 0.0), Measure("length_mean", 3.0)]
    assert [a.name for a in fired(sound(measures, skipping))] == ["length_mean"]


def test_a_figure_that_is_no_number_is_an_error() -> None:
    with pytest.raises(DataError, match="kl is nan"):
        sound([Measure("kl", float("nan"))], LIMITS)


def test_the_shipped_limits_cover_every_alarm() -> None:
    limits = load_limits()
    assert set(limits.bounds) == set(KNOWN)
    assert (limits.fire, limits.name) == ("interval", "default")
    assert limits.as_dict()["alarms"]["kl"] == {"least": None, "most": limits.bounds["kl"].most}


def test_a_file_is_laid_over_the_shipped_limits(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("fire: value\nskip: [echo]\nwindow: 3\nalarms:\n  kl: {most: 5}\n")
    limits = load_limits(path)
    assert limits.bounds["kl"] == Bounds(most=5)
    assert limits.bounds["gold_gap"] == load_limits().bounds["gold_gap"]
    assert (limits.fire, limits.skip, limits.window) == ("value", frozenset({"echo"}), 3)
    assert limits.baseline == load_limits().baseline


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alarmz: {}", "field 'alarmz': is not a known field; did you mean 'alarms'"),
        ("fire: often", "field 'fire': should be interval or value, found the text 'often'"),
        ("alarms: [kl]", "field 'alarms': should be a mapping"),
        ("alarms: {kll: {most: 1}}", "field 'alarms.kll': is not a known alarm; did you mean 'kl"),
        ("alarms: {kl: 3}", r"field 'alarms.kl': should be \{least, most\}, found the number 3"),
        ("alarms: {kl: {max: 1}}", "field 'alarms.kl.max': is not a known field"),
        ("alarms: {kl: {most: much}}", "field 'alarms.kl.most': should be a number"),
        ("alarms: {kl: {most: .inf}}", "field 'alarms.kl.most': should be a number"),
        ("alarms: {kl: {}}", "field 'alarms.kl': needs least, most or both"),
        ("alarms: {kl: {least: 2, most: 1}}", "field 'alarms.kl.most': should not be under least"),
        ("skip: kl", "field 'skip': should be a list of alarms"),
        ("skip: [kl, nothing]", "field 'skip.1': is not a known alarm"),
        ("window: 0", "field 'window': should be a whole number from 1 up"),
        ("baseline: true", "field 'baseline': should be a whole number from 1 up"),
    ],
)
def test_a_wrong_file_names_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text + "\n")
    with pytest.raises(SpecError, match=message):
        load_limits(path)
