"""What an audit holds a judge to: bounds by check, from a YAML file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlaif.errors import DataError, suggestion
from rlaif.specs.describe import describe
from rlaif.specs.shipped import shipped_dir
from rlaif.specs.yamlfile import YamlFile, read_yaml

_KEYS = ("name", "version", "description", "strict", "skip", "families", "checks")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where the effect of a check may lie; both ends included.

    Raises:
        DataError: there is neither end.
    """

    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        if self.least is None and self.most is None:
            raise DataError("bounds need least, most or both")

    def hold(self, low: float, high: float) -> bool:
        """Whether all of [low, high] lies within."""
        return (self.least is None or low >= self.least) and (
            self.most is None or high <= self.most
        )

    def exclude(self, low: float, high: float) -> bool:
        """Whether all of [low, high] lies outside."""
        under = self.least is not None and high < self.least
        return under or (self.most is not None and low > self.most)

    def nearest(self, effect: float | None) -> float:
        """The bound that decides about `effect`: the nearer of two, the upper one for None."""
        ends = [end for end in (self.most, self.least) if end is not None]
        return ends[0] if effect is None else min(ends, key=lambda end: abs(end - effect))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Bounds of every check, and how they are read."""

    name: str
    bounds: Mapping[str, Bounds]
    strict: bool = False
    """Whether a whole interval must lie within its bounds, and not only the effect."""
    skip: frozenset[str] = frozenset()
    families: Mapping[str, tuple[str, ...]] | None = None
    """Texts that mark a member of a family, by family, before the ones that rlaif knows."""

    def with_bounds(self, check: str, bounds: Bounds) -> Thresholds:
        """The same thresholds with other bounds for one check."""
        return replace(self, bounds={**self.bounds, check: bounds})


def load_thresholds(path: Path | None = None) -> Thresholds:
    """The thresholds in a file over the shipped ones, or the shipped ones alone.

    Raises:
        SpecError: the file is no thresholds file: names its line and field.
    """
    shipped = read_yaml(shipped_dir("audit") / "thresholds.yaml")
    defaults = _parse(shipped, tuple(shipped.data["checks"]))
    if path is None:
        return defaults
    own = _parse(read_yaml(path), tuple(defaults.bounds))
    return replace(own, bounds={**defaults.bounds, **own.bounds})


def _parse(document: YamlFile, known: tuple[str, ...]) -> Thresholds:
    for key in document.data:
        if key not in _KEYS:
            message = f"is not a known field; {suggestion(str(key), _KEYS)}"
            raise document.error(message, key)
    strict = document.data.get("strict", False)
    if not isinstance(strict, bool):
        raise document.error(f"should be true or false, found {describe(strict)}", "strict")
    checks = _mapping(document, "checks")
    return Thresholds(
        name=str(document.data.get("name", document.path)),
        bounds={
            name: read_bounds(document, "checks", name, within=1)
            for name in _known(document, checks, known, lambda name: ("checks", name))
        },
        strict=strict,
        skip=_skipped(document, known),
        families=_families(document),
    )


def _known(document: YamlFile, names: Iterable[Any], known: tuple[str, ...], place: Any) -> Any:
    for name in names:
        if name not in known:
            message = f"is not a known check; {suggestion(str(name), known)}"
            raise document.error(message, *place(name))
    return names


def read_bounds(document: YamlFile, section: str, name: str, within: float = math.inf) -> Bounds:
    """The `{least, most}` under `name` in a section of a file.

    Args:
        document: The file.
        section: The mapping that holds it.
        name: Its key there.
        within: Ends lie from minus this to this.

    Raises:
        SpecError: there are no bounds, or they are none.
    """
    place = (section, name)
    given = document.data[section][name]
    wanted = "a number" if within == math.inf else f"a number from {-within:g} to {within:g}"
    if not isinstance(given, Mapping):
        raise document.error(f"should be {{least, most}}, found {describe(given)}", *place)
    for key, value in given.items():
        if key not in ("least", "most"):
            message = f"is not a known field; {suggestion(str(key), ('least', 'most'))}"
            raise document.error(message, *place, key)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (abs(value) <= within and abs(value) < math.inf):
            message = f"should be {wanted}, found {describe(value)}"
            raise document.error(message, *place, key)
    if not given:
        raise document.error("needs least, most or both", *place)
    bounds = Bounds(given.get("least"), given.get("most"))
    if bounds.least is not None and bounds.most is not None and bounds.least > bounds.most:
        message = f"should not be under least, {bounds.least:g}; found {bounds.most:g}"
        raise document.error(message, *place, "most")
    return bounds


def _skipped(document: YamlFile, known: tuple[str, ...]) -> frozenset[str]:
    given = document.data.get("skip", [])
    if not isinstance(given, list):
        raise document.error(f"should be a list of checks, found {describe(given)}", "skip")
    return frozenset(_known(document, given, known, lambda name: ("skip", given.index(name))))


def _families(document: YamlFile) -> dict[str, tuple[str, ...]]:
    found = {}
    for family, marks in _mapping(document, "families").items():
        if not isinstance(marks, list) or not all(isinstance(m, str) and m for m in marks):
            message = f"should be a list of texts, found {describe(marks)}"
            raise document.error(message, "families", family)
        found[str(family)] = tuple(marks)
    return found


def _mapping(document: YamlFile, key: str) -> Mapping[Any, Any]:
    value = document.data.get(key, {})
    if not isinstance(value, Mapping):
        raise document.error(f"should be a mapping (name: value), found {describe(value)}", key)
    return value
