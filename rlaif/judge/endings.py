"""What a judge is told to answer with: the last block of its prompt. Pure.

An ending names the marks that `rlaif.judge.pairs` and `rlaif.judge.grades` read. The same words
serve to ask again: a reply that could not be read is answered with the fault and an ending that
asks for the verdict alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from rlaif.errors import VerdictError
from rlaif.specs.rubric import Criterion, Reasoning
from rlaif.types import Candidate, Item

Levels = Literal[3, 5]
"""Verdicts on a pair: A, tie, B; or A>>B, A>B, A=B, B>A, B>>A."""

_THREE = {
    "A": "if response A is better",
    "B": "if response B is better",
    "tie": "if they are equal",
}
_FIVE = {
    "A>>B": "if response A is much better",
    "A>B": "if response A is slightly better",
    "A=B": "if they are equal",
    "B>A": "if response B is slightly better",
    "B>>A": "if response B is much better",
}
_TIES = frozenset({"tie", "A=B"})


def pair_labels(ties: bool, levels: Levels) -> tuple[str, ...]:
    """The verdicts that a judge may give on a pair, as they stand in its marks."""
    return tuple(_meanings(ties, levels))


def pair_tokens(ties: bool, levels: Levels) -> dict[str, str]:
    """The one-token answers that stand for the verdicts on a pair, and the verdict of each.

    Letters for three verdicts; digits, worst to best for B, for five: `A>>B` is no single token.
    """
    if levels == 3:
        return {"A": "A", "B": "B", "C": "tie"} if ties else {"A": "A", "B": "B"}
    return {str(place): label for place, label in enumerate(pair_labels(ties, levels), 1)}


def _meanings(ties: bool, levels: Levels) -> dict[str, str]:
    meanings = _THREE if levels == 3 else _FIVE
    return {k: v for k, v in meanings.items() if ties or k not in _TIES}


@lru_cache
def pair_ending(reasoning: Reasoning, *, ties: bool = True, levels: Levels = 3) -> str:
    """The ending that asks for a verdict mark on a pair."""
    marks = ", ".join(f"[[{label}]] {text}" for label, text in _meanings(ties, levels).items())
    marks += "" if ties else ". You must choose one, however close they are"
    if reasoning == "before":
        return (
            "Compare the two responses criterion by criterion in a few sentences. Then end with "
            f"your verdict alone on the last line: {marks}."
        )
    if reasoning == "after":
        return (
            f"Give your verdict alone on the first line: {marks}. Then give your reasons in a few "
            "sentences, without repeating a verdict mark."
        )
    return f"Answer with your verdict and nothing else: {marks}."


@lru_cache
def pair_token_ending(*, ties: bool = True, levels: Levels = 3) -> str:
    """The ending that asks for one token on a pair."""
    meanings = _meanings(ties, levels)
    tokens = pair_tokens(ties, levels)
    what = "letter" if levels == 3 else "digit"
    choices = ", ".join(f"{token} {meanings[label]}" for token, label in tokens.items())
    must = "" if ties else " You must choose one, however close they are."
    return f"Answer with one {what} and nothing else: {choices}.{must}"


@lru_cache
def pair_json_ending(reasoning: Reasoning, *, ties: bool = True, levels: Levels = 3) -> str:
    """The ending that asks for a JSON object on a pair."""
    meanings = _meanings(ties, levels)
    verdict = '"verdict": ' + ", ".join(f'"{label}" {text}' for label, text in meanings.items())
    return _json_ending(verdict, reasoning)


def score_ending(reasoning: Reasoning, criteria: Sequence[Criterion]) -> str:
    """The ending that asks for a grade mark on each criterion."""
    lines = "\n".join(
        f"{c.name}: [[n]]   (n a whole number from {c.scale.min} to {c.scale.max})"
        for c in criteria
    )
    each = f"one line for each criterion, in exactly this form:\n{lines}"
    if reasoning == "before":
        return f"Weigh the response on each criterion in a few sentences. Then end with {each}"
    if reasoning == "after":
        return f"Begin with {each}\nThen give your reasons, without repeating a grade in brackets."
    return f"Answer with nothing but {each}"


def score_token_ending(criterion: Criterion) -> str:
    """The ending that asks for a grade on one criterion and nothing else."""
    low, high = criterion.scale.min, criterion.scale.max
    choice = f"{low} or {high}" if high - low == 1 else f"a whole number from {low} to {high}"
    return f"Answer with your grade for {criterion.name} and nothing else: {choice}."


def score_json_ending(reasoning: Reasoning, criteria: Sequence[Criterion]) -> str:
    """The ending that asks for a JSON object with a grade on each criterion."""
    grades = ", ".join(
        f'"{c.name}": a whole number from {c.scale.min} to {c.scale.max}' for c in criteria
    )
    return _json_ending(f'"grades": {{{grades}}}', reasoning)


def _json_ending(verdict: str, reasoning: Reasoning) -> str:
    reasons = '"rationale": your reasons in a few sentences'
    fields = {
        "before": f"{reasons}; {verdict}",
        "after": f"{verdict}; {reasons}",
        "none": verdict,
    }[reasoning]
    return f"Answer with one JSON object and nothing else, with the fields {fields}."


def turn_note(item: Item, candidates: Sequence[Candidate]) -> str:
    """Which turn of a longer conversation is judged, as a paragraph before the ending; else "".

    It is the turn that `item.meta["turn"]` names, counted from 1 in messages of the user, and the
    last one where there is no such turn.
    """
    if len(item.prompt) == 1 and all(
        len(c.response) == 1 and c.response[0].role != "user" for c in candidates
    ):
        return ""  # one turn, as nearly always
    before = sum(m.role == "user" for m in item.prompt)
    after = max(sum(m.role == "user" for m in c.response) for c in candidates)
    turns = before + after
    if turns < 2:
        return ""
    meant = item.meta.get("turn")
    if not isinstance(meant, int) or not max(before, 1) <= meant <= turns:
        meant = turns
    which = "the last one" if meant == turns else f"not the later ones up to turn {turns}"
    return (
        f"The conversation has {turns} turns. Judge what the assistant says in turn {meant}, "
        f"{which}; the turns before it are there so that you know what it refers to.\n\n"
    )


def correction(error: VerdictError, ending: str) -> str:
    """What a judge is told whose reply could not be read: the fault, and how to answer.

    It never says which verdict would do: a judge that is contradicted gives in.
    """
    if error.cause == "truncated":
        return f"Your reply was cut off before its verdict. Do not repeat your reasons. {ending}"
    return f"Your reply could not be read: {error}. Your judgment may stand. {ending}"
