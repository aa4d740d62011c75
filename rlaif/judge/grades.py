"""What a reply says about one response: a grade on each criterion. Pure.

The value of a grade is the mean of P(level) where the level's token has probabilities, as in Liu
et al. 2023 (arXiv 2303.16634), eq. (1), else the level that was given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rlaif.judge.labels import LEAST_MASS, Spread, first_place, level_spread, place_of
from rlaif.judge.parsing import (
    SCORE_MARK,
    blank_quoted,
    check_ended,
    no_mark,
    unreadable,
    without_thinking,
)
from rlaif.judge.structured import parse_object, value_offset
from rlaif.specs.rubric import Criterion, Scale
from rlaif.types import Completion

_WHOLE_NUMBER = re.compile(r"[^\w-]*(-?\d{1,9})(?:\s*/\s*(\d{1,9}))?\W*")


@dataclass(frozen=True, slots=True)
class Grade:
    """A grade on one criterion."""

    level: int
    """The level that was given."""
    value: float
    """The mean of `distribution` where there is one, else `level`."""
    distribution: Mapping[str, float] | None = None
    """P(level), summing to 1."""
    missing_mass: float | None = None
    """Probability on no level, before `distribution` was normalized."""


def parse_grades(completion: Completion, criteria: Sequence[Criterion]) -> dict[str, Grade]:
    """The last grade mark of each criterion, by its name.

    With several criteria a mark belongs to the criterion named last before it on its line.

    Raises:
        VerdictError: the reply was refused, cut off, or lacks a grade inside a criterion's scale.
    """
    check_ended(completion)
    text = blank_quoted(completion.text)
    marks = list(SCORE_MARK.finditer(text))
    if len(criteria) == 1:
        found = {criteria[0].name: marks}
    else:
        found = _by_name(text, marks, tuple(c.name for c in criteria))
    grades = {}
    for criterion in criteria:
        said = found.get(criterion.name)
        if not said:
            one = f" for {criterion.name!r}" if len(criteria) > 1 else ""
            raise no_mark(completion, text, f"no verdict mark{one} in the reply")
        last = said[-1]
        line = text.rfind("\n", 0, last.start())
        if len({m[1] for m in said if m.start() > line}) > 1:
            raise unreadable(completion, f"two different grades on one line: {_line(text, last)}")
        grades[criterion.name] = _grade(completion, criterion, last[1], last.start(1))
    return grades


def _by_name(
    text: str, marks: Sequence[re.Match[str]], names: tuple[str, ...]
) -> dict[str, list[re.Match[str]]]:
    """The marks of each criterion, in order.

    A mark without a name goes with the one before it on its line, so that a line which grades twice
    is noticed.
    """
    pattern, spelled = _naming(names)
    found: dict[str, list[re.Match[str]]] = {}
    name, end = None, 0
    for mark in marks:
        line = text.rfind("\n", 0, mark.start()) + 1
        if line > end:
            name = None
        for named in pattern.finditer(text, max(line, end), mark.start()):
            name = spelled[_plain(named[0])]
        if name is not None:
            found.setdefault(name, []).append(mark)
        end = mark.end()
    return found


@lru_cache
def _naming(names: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """What finds any of the names, and the name that each spelling means.

    Judges write a name's underscores and hyphens as spaces.
    """
    longest_first = sorted(names, key=len, reverse=True)
    spellings = "|".join(re.sub(r"_|\\?-", "[ _-]", re.escape(name)) for name in longest_first)
    pattern = re.compile(rf"(?<![\w-])(?:{spellings})(?![\w-])", re.IGNORECASE)
    return pattern, {_plain(name): name for name in names}


def _plain(name: str) -> str:
    return re.sub("[ _-]", " ", name).casefold()


def _line(text: str, mark: re.Match[str]) -> str:
    start = text.rfind("\n", 0, mark.start()) + 1
    return text[start : mark.end()].strip()[-60:]


def parse_structured_grades(
    completion: Completion, criteria: Sequence[Criterion]
) -> dict[str, Grade]:
    """The grades of the JSON object that the reply is, else of its last marks.

    Raises:
        VerdictError: the reply was refused, cut off, or lacks a grade inside a criterion's scale.
    """
    check_ended(completion)
    found = parse_object(completion)
    grades = found[0].get("grades") if found else None
    if found is None or not isinstance(grades, dict):
        return parse_grades(completion, criteria)
    read = {}
    for criterion in criteria:
        said = grades.get(criterion.name)
        if isinstance(said, bool) or not isinstance(said, int):
            raise unreadable(completion, f'"grades" has no whole number for {criterion.name!r}')
        offset = value_offset(completion, found[1], criterion.name)
        read[criterion.name] = _grade(completion, criterion, str(said), offset)
    return read


def _grade(completion: Completion, criterion: Criterion, said: str, offset: int | None) -> Grade:
    level, scale = float(said), criterion.scale
    where = f"{scale.min}..{scale.max}"
    if not level.is_integer():
        raise unreadable(completion, f"grade {said} of {criterion.name!r} is no level of {where}")
    if not scale.min <= level <= scale.max:
        raise unreadable(completion, f"grade {said} is outside {where}")
    place = place_of(completion, offset) if completion.tokens and offset is not None else None
    spread = level_spread(place, level_names(scale)) if place is not None else None
    return _from_spread(int(level), spread if spread and spread.holds() else None)


def _from_spread(level: int, spread: Spread | None) -> Grade:
    if spread is None:
        return Grade(level, float(level))
    value = sum(float(name) * p for name, p in spread.p.items())
    return Grade(level, value, spread.p, spread.missing_mass)


def parse_level(
    completion: Completion, criterion: Criterion, *, least_mass: float = LEAST_MASS
) -> Grade:
    """The grade of a reply that is a level and nothing else, by the probabilities of all levels.

    Without token probabilities it is the level that was given; see `has_probabilities`. The reply
    ends at its length as a rule, so that is no fault.

    Raises:
        VerdictError: the reply was refused, is no level, or less of the probability than
            `least_mass` lies on levels.
    """
    if completion.finish_reason == "refusal":
        check_ended(completion)
    scale = criterion.scale
    place = first_place(completion)
    if place is None:
        text = without_thinking(completion.text)
        said = _WHOLE_NUMBER.fullmatch(text.strip())
        if said is None or (said[2] is not None and int(said[2]) != scale.max):
            check_ended(completion)
            raise no_mark(completion, text, "the reply is not a whole number")
        return _grade(completion, criterion, said[1], None)
    ended = completion.finish_reason == "stop"
    spread = level_spread(place, level_names(scale), ended=ended)
    if not spread.holds(least_mass):
        held = 1 - spread.missing_mass
        message = f"only {held:.0%} of the probability lies on levels that can be told apart"
        raise unreadable(completion, message)
    return _from_spread(int(max(spread.p, key=lambda name: spread.p[name])), spread)


def has_probabilities(completion: Completion) -> bool:
    """Whether the backend gave the probabilities that a level is read from."""
    return first_place(completion) is not None


def level_names(scale: Scale) -> tuple[str, ...]:
    """The levels of a scale as they are spelled, worst first."""
    return _level_names(scale.min, scale.max)


@lru_cache
def _level_names(low: int, high: int) -> tuple[str, ...]:
    return tuple(map(str, range(low, high + 1)))
