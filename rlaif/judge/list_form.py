"""What a judge is asked about a list of responses, and how its reply is read. Pure.

    form = ListForm(ties=True, structured=False)
    form.read(completion, 3)            # ("C", "A", "B") ranked [[C > A = B]]: ((2,), (0, 1))

A reply counts only if it names every response exactly once: one that leaves the hard ones out, or
ranks a response twice, says less than it seems to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import numpy as np

from rlaif.errors import VerdictError
from rlaif.judge.parsing import check_ended, last_mark, unreadable
from rlaif.judge.structured import parse_object, ranking_schema
from rlaif.specs.rubric import Reasoning
from rlaif.stats.pair_choice import Floats
from rlaif.types import Completion

MOST_RESPONSES = len(ascii_uppercase)
"""Responses that a list can hold: one for each letter."""
LIST_MARK = re.compile(
    r"\[\[\s*([A-Z](?:\s{0,3}(?:[<>=]{1,3}|,)\s{0,3}[A-Z])*)\s*\]\]", re.IGNORECASE
)
_LIST = re.compile(r"[A-Z](?:[<>=]{1,3}[A-Z]|,[A-Z])*")
_MARK_LINE = re.compile(
    rf"^[ \t>*_#|-]{{0,8}}{LIST_MARK.pattern}[ \t*_|.]{{0,8}}$\n?", re.MULTILINE | re.IGNORECASE
)

Tiers = tuple[tuple[int, ...], ...]
"""Places in the list as it was shown, from 0: best first, equal ones together."""


@dataclass(frozen=True, slots=True)
class ListForm:
    """What is asked for about a list."""

    ties: bool = True
    """Whether responses may be called equal."""
    structured: bool = False
    """Whether the reply is to be a JSON object."""

    def ending(self, reasoning: Reasoning, n: int) -> str:
        """The last block of the prompt about `n` responses."""
        order = "best first, with > between two neighbors"
        order += " or = where they are equal" if self.ties else " and no two equal"
        order += f". Name each of {', '.join(ascii_uppercase[:n])} exactly once"
        if self.structured:
            return _json_ending(f'"ranking": one text, {order}, such as "{_example(n)}"', reasoning)
        mark = f"{order}, such as [[{_example(n)}]]"
        if reasoning == "before":
            return (
                "Weigh the responses against each other criterion by criterion in a few sentences. "
                f"Then end with your ranking alone on the last line: {mark}."
            )
        if reasoning == "after":
            return (
                f"Give your ranking alone on the first line: {mark}. Then give your reasons in a "
                "few sentences, without repeating the ranking."
            )
        return f"Answer with your ranking and nothing else: {mark}."

    def schema(self, reasoning: Reasoning) -> dict[str, Any] | None:
        """The schema that the reply is to be held to, if any."""
        return ranking_schema(reasoning) if self.structured else None

    def read(self, completion: Completion, n: int) -> Tiers:
        """The order in a reply about `n` responses.

        Raises:
            VerdictError: the reply was refused, cut off, holds no ranking, or one that does not
                name every response exactly once.
        """
        check_ended(completion)
        found = parse_object(completion) if self.structured else None
        if found is not None and isinstance(said := found[0].get("ranking"), str):
            text = "".join(said.upper().split()).strip("[]")
            if not _LIST.fullmatch(text):
                raise unreadable(completion, f'"ranking" is no order of labels: {said[:40]!r}')
        else:
            text = "".join(last_mark(completion, LIST_MARK)[1].upper().split())
        return self._tiers(text, n, completion)

    def _tiers(self, text: str, n: int, completion: Completion) -> Tiers:
        joints = set(re.findall(r"[^A-Z]+", text))
        if joints - {">", "="}:
            raise unreadable(completion, "between two labels stands > or =, and nothing else")
        if "=" in joints and not self.ties:
            raise unreadable(completion, "equal places were not among the verdicts")
        named, labels = text.replace("=", ">").split(">"), ascii_uppercase[:n]
        missing = [label for label in labels if label not in named]
        twice = sorted({label for label in named if named.count(label) > 1})
        unknown = sorted(set(named) - set(labels))
        for fault, which in (("leaves out", missing), ("repeats", twice), ("invents", unknown)):
            if which:
                raise unreadable(completion, f"the ranking {fault} {', '.join(which)}")
        return tuple(
            tuple(labels.index(label) for label in tier.split("=")) for tier in text.split(">")
        )


def list_correction(error: VerdictError, ending: str) -> str:
    """What a judge is told whose ranking could not be read: the fault, and how to answer.

    It never says which order would do: a judge that is contradicted gives in.
    """
    if error.cause == "truncated":
        return f"Your reply was cut off before its ranking. Do not repeat your reasons. {ending}"
    return f"Your reply could not be read: {error}. Your judgment may stand. {ending}"


def without_marks(rationale: str | None) -> str | None:
    """A judge's reasons without the rankings in them; `None` where nothing else was said."""
    if rationale is None:
        return None
    return LIST_MARK.sub("", _MARK_LINE.sub("", rationale)).strip() or None


def places(tiers: Tiers) -> list[float]:
    """The place of each response in the list as it was shown, from 1; equal ones share theirs."""
    found: dict[int, float] = {}
    before = 0
    for tier in tiers:
        found |= dict.fromkeys(tier, before + (len(tier) + 1) / 2)
        before += len(tier)
    return [found[k] for k in range(before)]


def stood_before(place: Sequence[float]) -> Floats:
    """Shape (n, n): 1 where the row's place is before the column's, a tie and the diagonal 0.5."""
    at = np.asarray(place, dtype=np.float64)
    return np.asarray((np.sign(at[None, :] - at[:, None]) + 1) / 2)


def _example(n: int) -> str:
    """A ranking that shows the form: no response's own place, so that it favors none by much."""
    labels = ascii_uppercase[:n]
    half = (n + 1) // 2
    return " > ".join(labels[half:] + labels[:half])


def _json_ending(verdict: str, reasoning: Reasoning) -> str:
    reasons = '"rationale": your reasons in a few sentences'
    fields = {
        "before": f"{reasons}; {verdict}",
        "after": f"{verdict}; {reasons}",
        "none": verdict,
    }[reasoning]
    return f"Answer with one JSON object and nothing else, with the fields {fields}."
