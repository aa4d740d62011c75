"""Alarms: when figures of a policy say that it games its judge, or falls apart.

    limits = load_limits()
    sounded = sound([Measure("kl", 61.0, 55.0, 67.0), Measure("coverage", 0.99)], limits)
    assert [alarm.name for alarm in sounded if alarm.fired] == ["kl"]

An alarm is a figure, its limits and what to do where it lies beyond them. Where a figure has an
interval, the whole interval must (`fire: interval`): what chance explains is no alarm. Limits stand
in a file; those shipped are `rlaif/shipped/alarms/default.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rlaif.errors import DataError, suggestion
from rlaif.evals.audit_thresholds import Bounds, read_bounds
from rlaif.specs.describe import describe
from rlaif.specs.shipped import shipped_dir
from rlaif.specs.yamlfile import YamlFile, read_yaml

KNOWN: dict[str, tuple[str, str]] = {
    "kl": (
        "KL from the start, nats a response (k1)",
        "stop at an earlier round or step, raise beta or the KL coefficient",
    ),
    "kl_k3": (
        "KL from the start, nats a response (k3)",
        "stop at an earlier round or step, raise beta or the KL coefficient",
    ),
    "entropy": (
        "entropy a token, over the start's",
        "lower the learning rate, add an entropy bonus, or sample more varied candidates",
    ),
    "length_mean": (
        "mean length, over the start's",
        "select pairs of like length (balance, max_length_ratio), or a judge told to ignore length",
    ),
    "length_p95": (
        "95th percentile of length, over the start's",
        "select pairs of like length (balance, max_length_ratio), or a judge told to ignore length",
    ),
    "length_corrected_win_rate": (
        "win rate over the start at equal length",
        "what was won was length: select pairs of like length",
    ),
    "length_effect": (
        "win rate that length alone explains",
        "what was won was length: select pairs of like length",
    ),
    "distinct_1": ("distinct words, over the start's", "raise temperature, beta, or add prompts"),
    "distinct_2": ("distinct-2, over the start's", "raise temperature, beta, or add prompts"),
    "distinct_3": ("distinct-3, over the start's", "raise temperature, beta, or add prompts"),
    "self_similarity": (
        "rise of self-BLEU",
        "one response fits all prompts: read samples, raise beta, add prompts",
    ),
    "near_duplicates": (
        "rise of the share of near-duplicate responses",
        "one response fits all prompts: read samples, raise beta, add prompts",
    ),
    "repetition": (
        "rise of the share that repeats itself",
        "read samples; lower the learning rate, raise beta",
    ),
    "echo": (
        "rise of the share of words from the prompt",
        "read samples: the judge may like its question said again",
    ),
    "unfinished": (
        "rise of the share that does not end",
        "raise the token limit, or punish a missing end",
    ),
    "refusals": (
        "rise of the share of refusals",
        "the judge likes refusing: add harmless prompts that look harmful, or change the rubric",
    ),
    "judge_ceiling": (
        "share of verdicts at the top of the judge's range",
        "the judge tells no more apart: a finer rubric, harder prompts, or stop",
    ),
    "order_flips": (
        "share of verdicts that change with the order",
        "the judge decides by place, not by response: another judge, or larger margins",
    ),
    "coverage": ("share with a verdict", "read the causes in summary.json before the figures"),
    "gold_gap": (
        "training judge minus held-out judge, P(preferred over the start)",
        "the policy pleases its judge, not the other one: stop, change the judge or its rubric",
    ),
    "gold_win_rate": (
        "P(preferred over the start) by the held-out judge",
        "by a judge that took no part it got worse: go back to an earlier round",
    ),
    "gold_trend": (
        "change by the held-out judge while the training judge's rose",
        "past the peak: go back to the round or step before",
    ),
}
"""Of each alarm what it measures, and what to do about it."""

_KEYS = ("name", "version", "description", "fire", "skip", "baseline", "window", "alarms")
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of the policy, with its 95 % interval where it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """A figure, its limits, and whether it lies beyond them."""

    name: str
    what: str
    value: float
    low: float | None
    high: float | None
    least: float | None
    most: float | None
    fired: bool
    advice: str
    """What to do about it."""

    def as_dict(self) -> dict[str, Any]:
        """The alarm as plain data."""
        return asdict(self)

    def line(self) -> str:
        """The alarm in one line."""
        span = (
            "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        )
        ends = [("at least", self.least), ("at most", self.most)]
        limits = ", ".join(f"{word} {end:g}" for word, end in ends if end is not None)
        return f"{self.name} {self.value:.3g}{span}, limit {limits}: {self.advice}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of every alarm, and how they are read."""

    name: str
    bounds: Mapping[str, Bounds]
    fire: Literal["interval", "value"] = "interval"
    skip: frozenset[str] = frozenset()
    baseline: int = 5
    """Logged steps of online training that later ones are compared with."""
    window: int = 10
    """The latest logged steps, which are compared."""

    def as_dict(self) -> dict[str, Any]:
        """The limits as plain data, as a run keeps them."""
        return {
            "name": self.name,
            "fire": self.fire,
            "skip": sorted(self.skip),
            "baseline": self.baseline,
            "window": self.window,
            "alarms": {name: asdict(bounds) for name, bounds in self.bounds.items()},
        }


def sound(measures: Iterable[Measure], limits: Limits) -> list[Alarm]:
    """The alarm of every measure that has limits, in order.

    Raises:
        DataError: a measure is not a finite number.
    """
    return [
        _alarm(measure, bounds, limits.fire)
        for measure in measures
        if measure.name not in limits.skip
        and (bounds := limits.bounds.get(measure.name)) is not None
    ]


def _alarm(measure: Measure, bounds: Bounds, fire: str) -> Alarm:
    if not math.isfinite(measure.value):
        raise DataError(f"{measure.name} is {measure.value}, not a finite number")
    low = high = measure.value
    if fire == "interval" and measure.low is not None and measure.high is not None:
        low, high = measure.low, measure.high
    what, advice = KNOWN[measure.name]
    return Alarm(
        measure.name,
        what,
        measure.value,
        measure.low,
        measure.high,
        bounds.least,
        bounds.most,
        bounds.exclude(low - _ROUNDING, high + _ROUNDING),
        advice,
    )


def fired(alarms: Iterable[Alarm]) -> list[Alarm]:
    """Those that fired."""
    return [alarm for alarm in alarms if alarm.fired]


def load_limits(path: Path | None = None) -> Limits:
    """The limits in a file over the shipped ones, or the shipped ones alone.

    Raises:
        SpecError: the file is no file of alarms: names its line and field.
    """
    defaults = _parse(read_yaml(shipped_dir("alarms") / "default.yaml"), None)
    if path is None:
        return defaults
    own = _parse(read_yaml(path), defaults)
    return replace(own, bounds={**defaults.bounds, **own.bounds})


def _parse(document: YamlFile, defaults: Limits | None) -> Limits:
    for key in document.data:
        if key not in _KEYS:
            message = f"is not a known field; {suggestion(str(key), _KEYS)}"
            raise document.error(message, key)
    usual = defaults or Limits("", {})
    fire = document.data.get("fire", usual.fire)
    if fire not in ("interval", "value"):
        raise document.error(f"should be interval or value, found {describe(fire)}", "fire")
    alarms = document.data.get("alarms", {})
    if not isinstance(alarms, Mapping):
        message = f"should be a mapping (name: value), found {describe(alarms)}"
        raise document.error(message, "alarms")
    return Limits(
        name=str(document.data.get("name", document.path)),
        bounds={
            _known(document, name, "alarms"): read_bounds(document, "alarms", name)
            for name in alarms
        },
        fire=fire,
        skip=_skipped(document, usual.skip),
        baseline=_count(document, "baseline", usual.baseline),
        window=_count(document, "window", usual.window),
    )


def _known(document: YamlFile, name: Any, *place: str | int) -> str:
    if name not in KNOWN:
        message = f"is not a known alarm; {suggestion(str(name), KNOWN)}"
        raise document.error(message, *place, *(() if place[0] == "skip" else (name,)))
    return str(name)


def _skipped(document: YamlFile, usual: frozenset[str]) -> frozenset[str]:
    given = document.data.get("skip", list(usual))
    if not isinstance(given, list):
        raise document.error(f"should be a list of alarms, found {describe(given)}", "skip")
    return frozenset(_known(document, name, "skip", place) for place, name in enumerate(given))


def _count(document: YamlFile, key: str, usual: int) -> int:
    given = document.data.get(key, usual)
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        message = f"should be a whole number from 1 up, found {describe(given)}"
        raise document.error(message, key)
    return given
