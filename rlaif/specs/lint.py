"""What is valid in a rubric or constitution and still likely to mislead a judge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from rlaif.specs.constitution import Constitution, Principle
from rlaif.specs.rubric import PLACEHOLDER, Criterion, Rubric

NEAR_DUPLICATE = 0.75
"""Share of common words (Jaccard) from which two texts count as near-duplicates."""
SMALL_SHARE = 0.05
"""A criterion with less of the weight than this hardly counts."""
MANY_LEVELS = 11
"""Levels beyond which neither people nor judges tell neighbours apart."""

_QUESTION = re.compile(r"[^.?!]*\?")
_SECOND_CLAUSE = re.compile(
    r", and (is|are|does|do|has|have|how|what|which|can|could|should)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning about one field."""

    field: tuple[str | int, ...]
    message: str


def lint_rubric(rubric: Rubric) -> list[Warned]:
    """Warnings about a valid rubric, in the order of its fields."""
    found = [*_unsourced(rubric.source)]
    for index, criterion in enumerate(rubric.criteria):
        found += _criterion_warnings(criterion, ("criteria", index))
    found += _shares(rubric.criteria)
    questions = [criterion.question for criterion in rubric.criteria]
    names = [criterion.name for criterion in rubric.criteria]
    found += _near_duplicates("criteria", "question", names, questions)
    for kind, template in rubric.prompts.items():
        found += _template_warnings(rubric, kind, template)
    return found


def lint_constitution(constitution: Constitution) -> list[Warned]:
    """Warnings about a valid constitution, in the order of its fields."""
    found = [*_unsourced(constitution.source)]
    for index, principle in enumerate(constitution.principles):
        found += _principle_warnings(principle, index)
    names = [principle.name for principle in constitution.principles]
    for key in ("critique", "revision", "comparison"):
        texts = [getattr(principle, key) for principle in constitution.principles]
        found += _near_duplicates("principles", key, names, texts)
    return found


def _unsourced(source: str) -> Iterator[Warned]:
    if not source:
        yield Warned(("source",), "is missing: say where the ideas and the wording come from")


def _criterion_warnings(criterion: Criterion, place: tuple[str | int, ...]) -> Iterator[Warned]:
    if is_double_barrelled(criterion.question):
        message = "seems to ask two things at once: a grade could mean either; split the criterion"
        yield Warned((*place, "question"), message)
    scale, at = criterion.scale, (*place, "scale")
    if len(scale.levels) > MANY_LEVELS:
        yield Warned(at, f"has {len(scale.levels)} levels, more than a judge can tell apart")
    missing = [level for level in (scale.min, scale.max) if level not in scale.anchors]
    if not scale.anchors:
        yield Warned((*at, "anchors"), "are missing: each judge will read the levels its own way")
    elif missing:
        levels = " and ".join(map(str, missing))
        yield Warned((*at, "anchors"), f"leave out an end of the scale: {levels}")
    texts = list(scale.anchors.items())
    for (low, first), (high, second) in combinations(texts, 2):
        if _overlap(first, second) == 1:
            yield Warned((*at, "anchors", high), f"says the same as level {low}")


def is_double_barrelled(question: str) -> bool:
    """Whether some sentence of `question` seems to ask two things.

    A guess by the word "and": one behind a comma is taken for the end of a list, unless a new
    question begins there.
    """
    for sentence in _QUESTION.findall(question):
        if _SECOND_CLAUSE.search(sentence):
            return True
        if " and " in sentence and "," not in sentence.partition(" and ")[0]:
            return True
    return False


def _shares(criteria: Sequence[Criterion]) -> Iterator[Warned]:
    for index, criterion in enumerate(criteria):
        if criterion.weight < SMALL_SHARE:
            message = (
                f"leaves {criterion.name} {criterion.weight:.1%} of the score: it hardly counts"
            )
            yield Warned(("criteria", index, "weight"), message)


def _near_duplicates(
    group: str, key: str, names: Sequence[str], texts: Sequence[str]
) -> Iterator[Warned]:
    for (i, first), (j, second) in combinations(enumerate(texts), 2):
        if _overlap(first, second) >= NEAR_DUPLICATE:
            yield Warned((group, j, key), f"says nearly the same as {names[i]!r}")


def _overlap(first: str, second: str) -> float:
    """Jaccard similarity of the two sets of words, 0..1."""
    a, b = (set(re.findall(r"\w+", text.casefold())) for text in (first, second))
    return len(a & b) / max(len(a | b), 1)


def _template_warnings(rubric: Rubric, kind: str, template: str) -> Iterator[Warned]:
    used = set(PLACEHOLDER.findall(template))
    place = ("prompts", kind)
    for name, loss in (
        ("prompt", "the judge does not see what was asked"),
        ("criteria", "the judge does not see the criteria"),
        ("verdict", "the judge is not told how to write its verdict"),
    ):
        if name not in used:
            yield Warned(place, f"has no {{{name}}}: {loss}")
    if rubric.reference == "required" and "reference" not in used:
        yield Warned(place, "has no {reference}, which the rubric requires")
    if rubric.reference == "none" and "reference" in used:
        yield Warned(place, "has {reference}, which is never filled: the rubric says none")


def _principle_warnings(principle: Principle, index: int) -> Iterator[Warned]:
    if _overlap(principle.critique, principle.revision) >= NEAR_DUPLICATE:
        message = "says nearly the same as the critique: it should ask for a rewriting"
        yield Warned(("principles", index, "revision"), message)
