"""What is valid in a rubric or constitution and still likely to mislead a judge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from rlaif.specs.constitution import Constitution, Principle
from rlaif.specs.constitution_lint import constitution_doubts
from rlaif.specs.rubric import PLACEHOLDER, Criterion, Rubric, Scale
from rlaif.specs.wording import is_double_barrelled, likeness, shared_meaning, telling, words

NEAR_DUPLICATE = 0.75
"""Share of common words (Jaccard) from which two texts count as near-duplicates. Of neighboring
levels in 368 published five-level rubrics (BiGGen-Bench) one in a hundred is that alike."""
OVERLAP = 0.6
"""Share of the smaller criterion's telling words that the other has too, question and anchors
together, from which two criteria count as one. It is at most 0.27 in the rubrics of rlaif."""
LEAST_WORDS = 5
"""Telling words below which overlap says nothing."""
SMALL_SHARE = 0.05
"""A criterion with less of the weight than this, and than half of an equal share, hardly counts."""
LARGE_SHARE = 0.8
"""Beside a criterion with more of the weight than this the others hardly count."""
MANY_LEVELS = 11
"""Levels beyond which neither people nor judges tell neighbours apart."""
WIDEST_GAP = 3
"""Most steps from one anchored level to the next: with more, what lies between is anyone's guess.
Both ends and the middle of 1..5 or 1..7 keep it, and four anchors on 1..10."""
_PAIR = 2
_FEW_LEVELS = 3
"""Levels that words of degree (partly, fully) still tell apart."""

_DEGREE = re.compile(
    r"\w+ly|very|quite|rather|somewhat|more|most|less|much|too|well|good|great|high|low|strong|weak"
    r"|moderate|perfect|slight|a|an|the|while|yet|still|and"
)
"""Words that only say how much, or nothing."""
_REFERENCE = re.compile(r"\breference\b|\bgold answer\b|\bmodel answer\b", re.IGNORECASE)


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
    found += _overlapping(rubric.criteria)
    found += _reference_warnings(rubric)
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
    found += [Warned(*doubt) for doubt in constitution_doubts(constitution)]
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
    yield from _unanchored(scale, (*at, "anchors"))
    many = len(scale.levels) > _FEW_LEVELS
    for (low, first), (high, second) in combinations(scale.anchors.items(), 2):
        if (why := _indistinct(first, second, many and high - low == 1)) is not None:
            yield Warned(
                (*at, "anchors", high), f"{why} level {low}: a judge cannot tell them apart"
            )


def _unanchored(scale: Scale, at: tuple[str | int, ...]) -> Iterator[Warned]:
    """Levels that are left to the judge's own reading."""
    if not scale.anchors:
        yield Warned(at, "are missing: each judge will read the levels its own way")
        return
    missing = [level for level in (scale.min, scale.max) if level not in scale.anchors]
    if missing:
        yield Warned(at, f"leave out an end of the scale: {' and '.join(map(str, missing))}")
    for low, high in pairwise(sorted(scale.anchors)):
        if high - low > WIDEST_GAP:
            message = (
                f"leave out levels {low + 1} to {high - 1}: say at least what the middle means"
            )
            yield Warned(at, message)


def _indistinct(first: str, second: str, by_degree: bool) -> str | None:
    """In what two anchors are alike, as the beginning of a warning; `None` where they differ."""
    if (alike := likeness(first, second)) == 1:
        return "says the same as"
    if by_degree and _without_degree(first) == _without_degree(second) != []:
        return "differs only in words of degree from"
    return "says nearly the same as" if alike >= NEAR_DUPLICATE else None


def _without_degree(text: str) -> list[str]:
    return [word for word in words(text) if not _DEGREE.fullmatch(word)]


def _shares(criteria: Sequence[Criterion]) -> Iterator[Warned]:
    for index, criterion in enumerate(criteria):
        share, place = criterion.weight, ("criteria", index, "weight")
        if share < min(SMALL_SHARE, 0.5 / len(criteria)):
            message = f"leaves {criterion.name} {share:.1%} of the score: it hardly counts"
            yield Warned(place, message)
        elif share > LARGE_SHARE and len(criteria) > 1:
            message = f"gives {criterion.name} {share:.1%} of the score: nothing else counts"
            yield Warned(place, message)


def _overlapping(criteria: Sequence[Criterion]) -> Iterator[Warned]:
    meanings = [telling(" ".join([c.question, *c.scale.anchors.values()])) for c in criteria]
    if len(meanings) > _PAIR:  # what all criteria say sets none of them apart
        everywhere = frozenset.intersection(*meanings)
        meanings = [meaning - everywhere for meaning in meanings]
    for (i, first), (j, second) in combinations(enumerate(criteria), 2):
        if likeness(first.question, second.question) >= NEAR_DUPLICATE:
            message = f"says nearly the same as {first.name!r}"
            yield Warned(("criteria", j, "question"), message)
            continue
        share = shared_meaning(meanings[i], meanings[j])
        if share >= OVERLAP and min(len(meanings[i]), len(meanings[j])) >= LEAST_WORDS:
            message = f"shares {share:.0%} of its words with {first.name!r}: one fault costs twice"
            yield Warned(("criteria", j), message)


def _reference_warnings(rubric: Rubric) -> Iterator[Warned]:
    said = [
        (index, _REFERENCE.search(" ".join([c.question, *c.scale.anchors.values()])) is not None)
        for index, c in enumerate(rubric.criteria)
    ]
    if rubric.reference == "none":
        for index, speaks in said:
            if speaks:
                message = "speaks of a reference, which the rubric never shows: it says none"
                yield Warned(("criteria", index), message)
    elif rubric.reference == "required" and not any(speaks for _, speaks in said):
        yield Warned(("reference",), "is required, and no criterion says what it is for")


def _near_duplicates(
    group: str, key: str, names: Sequence[str], texts: Sequence[str]
) -> Iterator[Warned]:
    for (i, first), (j, second) in combinations(enumerate(texts), 2):
        if likeness(first, second) >= NEAR_DUPLICATE:
            yield Warned((group, j, key), f"says nearly the same as {names[i]!r}")


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
    if likeness(principle.critique, principle.revision) >= NEAR_DUPLICATE:
        message = "says nearly the same as the critique: it should ask for a rewriting"
        yield Warned(("principles", index, "revision"), message)
