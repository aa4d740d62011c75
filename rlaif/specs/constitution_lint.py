"""What makes a valid constitution misleading: missing parts, contradictions, undecidable questions.

All by the words alone: a guess with its reason, for a person to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from rlaif.specs.constitution import Constitution, Principle

Doubt = tuple[tuple[str | int, ...], str]
"""The field, and what is doubtful about it."""


class _Scale(NamedTuple):
    """A quality that one principle may push up and another down."""

    name: str
    up: str
    down: str


_SCALES = (
    _Scale(
        "length",
        r"longer|lengthier|more (?:detail(?:ed)?|thorough|elaborate|exhaustive|background)|expand",
        r"shorter|briefer|more (?:concise|brief|terse)|fewer words|less (?:detail|background)",
    ),
    _Scale(
        "refusing",
        r"(?:that|which|always|should) (?:refuses?|declines?)|refuse more|more (?:often|readily) "
        r"(?:refuses|declines)|^refuse\b|^decline\b",
        r"(?:never|not|without) (?:refus\w*|declin\w*)|always answers?|answers? everything",
    ),
    _Scale("formality", r"more formal(?:ly)?\b", r"less formal|more (?:casual|informal)"),
    _Scale(
        "warnings",
        r"more (?:warnings?|caveats?|disclaimers?|hedg\w+)",
        r"(?:fewer|less|no|without) (?:warnings?|caveats?|disclaimers?|hedg\w+)",
    ),
    _Scale(
        "agreeing",
        r"agrees? with the (?:person|user|human)|more agreeable",
        r"disagrees? with the (?:person|user|human)|less agreeable",
    ),
    _Scale(
        "confidence",
        r"more (?:confident|assertive|certain)",
        r"less (?:confident|assertive|certain)|more (?:tentative|hesitant|cautious in tone)",
    ),
    _Scale(
        "opinions",
        r"(?:gives?|states?|takes?) (?:a |its )?(?:clear )?(?:opinion|stance|side)",
        r"(?:gives?|states?|takes?) no (?:opinion|stance|side)|neutral on",
    ),
)
_CONDITION = re.compile(
    r"\b(?:if|unless|except|where|when|while|without being|as long as|equally|otherwise|whose)\b",
    re.IGNORECASE,
)
_MORE = re.compile(r"\bmore ([a-z]{4,})", re.IGNORECASE)
_LESS = re.compile(r"\b(?:less|fewer) ([a-z]{4,})", re.IGNORECASE)

_UNDECIDABLE = (
    (
        r"\b(?:long[- ]term|in the long run|eventually|future (?:effects?|consequences))\b",
        "what comes of a response later does not stand in its text",
    ),
    (
        r"\b(?:actually|really) (?:satisf\w+|happy|pleased|helped|convinced)\b|\bwill be "
        r"(?:satisfied|happy|pleased)\b",
        "how the person felt about a response does not stand in its text",
    ),
    (
        r"\b(?:sincer\w+|genuinely (?:believes?|feels?|means?|wants?)|truly (?:believes?|means?)"
        r"|intend(?:s|ed) to|(?:true|real|hidden) (?:motives?|intentions?))\b",
        "what an author means or feels cannot be read from the text",
    ),
    (
        r"\b(?:up[- ]to[- ]date|latest|most recent|current (?:events|price|law|version)s?)\b",
        "a judge does not know today's facts",
    ),
    (
        r"\b(?:(?:company|our|internal) (?:policy|policies|guidelines|database|records)"
        r"|house style)\b",
        "the judge is not shown what it refers to: write it into the principle",
    ),
    (
        r"\b(?:earlier|previous|past|other) (?:sessions?|conversations?|chats)\b",
        "a judge sees this conversation and no other",
    ),
    (
        r"\b(?:most|average|usual|typical|other) (?:assistants?|models?|chatbots?)\b",
        "the judge does not see the others it is to be compared with",
    ),
    (
        r"\b(?:took|takes) (?:less|more) (?:time|effort)\b|\bfaster to (?:write|generate)\b",
        "how a response came about does not stand in its text",
    ),
)


@dataclass(frozen=True, slots=True)
class _Pull:
    """What a principle asks for on one scale."""

    up: bool
    down: bool


def constitution_doubts(constitution: Constitution) -> list[Doubt]:
    """What is doubtful in a valid constitution, beside duplicates, in the order of its fields."""
    found: list[Doubt] = []
    for index, principle in enumerate(constitution.principles):
        found += _missing(principle, index)
        found += _undecidable(principle, index)
    found += _contradictions(constitution)
    criticizes = any(p.critique for p in constitution.principles)
    if criticizes and not constitution.critique_examples:
        message = "show no critique: a model without examples confuses critique with revision"
        found.append((("examples",), message))
    return found


def _missing(principle: Principle, index: int) -> Iterator[Doubt]:
    if not principle.critique:
        message = "is missing, and the revision: the principle serves to compare by alone"
        yield ("principles", index, "critique"), message
    if not principle.comparison:
        message = "is missing: the principle serves to criticize and revise by alone"
        yield ("principles", index, "comparison"), message


def _undecidable(principle: Principle, index: int) -> Iterator[Doubt]:
    for key in ("critique", "comparison"):
        text: str = getattr(principle, key)
        for pattern, reason in _UNDECIDABLE:
            if (match := re.search(pattern, text, re.IGNORECASE)) is not None:
                message = f"may not be decidable from the text alone ({match[0]!r}): {reason}"
                yield ("principles", index, key), message
                break


def _contradictions(constitution: Constitution) -> Iterator[Doubt]:
    asked = [
        (index, key, text)
        for index, principle in enumerate(constitution.principles)
        for key, text in (("revision", principle.revision), ("comparison", principle.comparison))
        if text and not _CONDITION.search(text)
    ]
    told: set[tuple[int, int]] = set()
    for (i, _, first), (j, key, second) in combinations(asked, 2):
        if i == j or (i, j) in told or (what := _opposed(first, second)) is None:
            continue
        told.add((i, j))
        other = constitution.principles[i].name
        message = f"may contradict {other!r} ({what}): say which gives way, or when each holds"
        yield ("principles", j, key), message


def _opposed(first: str, second: str) -> str | None:
    """What two texts want the opposite of, if anything."""
    for scale in _SCALES:
        one, other = _pull(first, scale), _pull(second, scale)
        if (one.up and other.down) or (one.down and other.up):
            return scale.name
    more = [{m[1].lower() for m in _MORE.finditer(text)} for text in (first, second)]
    less = [{m[1].lower() for m in _LESS.finditer(text)} for text in (first, second)]
    both = (more[0] & less[1]) | (less[0] & more[1])
    return f"more and less {min(both)}" if both else None


def _pull(text: str, scale: _Scale) -> _Pull:
    up, down = (re.search(p, text, re.IGNORECASE) is not None for p in (scale.up, scale.down))
    # a text that names both ends weighs them itself
    return _Pull(up and not down, down and not up)
