r"""How judges' replies are read: by our rule with each format's marks, and by the old tools' rules.

Ours is one rule everywhere, `rlaif.judge.parsing.last_mark`: the last mark outside quoted text
counts, and a reply without one, cut off or refused has no verdict. Only the mark differs.

The old rules are kept to show what they do to the same replies:

    FastChat, pointwise   the first [[n]], else the first [n]
    FastChat, pairwise    [[A]] anywhere, else [[B]], else [[C]]: a mention is taken for a verdict
    Arena-Hard v2         the last [[label]] of the reply in capitals, else the last [label]
    Arena-Hard v0.1       valid only if every [[label]] is the same one; so in JudgeBench
    LLMBar                the first of "Output (a) is better", "Output (b) is better" found anywhere
    AlpacaEval            the probabilities of the labels m and M of the first token

Sources: fastchat/llm_judge/common.py, arena-hard-auto, LLMBar, JudgeBench, alpaca_eval as published
by their authors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol, TypeVar

from rlaif.errors import VerdictError
from rlaif.judge.parsing import Label, as_label, last_mark, parse_label, parse_winner
from rlaif.types import Completion, Winner

T_co = TypeVar("T_co", covariant=True)

FAILED = "$ERROR$"
"""What FastChat writes in place of a reply that the provider never gave."""

TIE_DELTA = 0.1
"""FastChat: two scores no further apart are a tie."""

_RATING = re.compile(r"\[\[\s*(-?\d+(?:\.\d+)?)\s*\]\]")
_RATING_LEGACY = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))
_LABEL_LEGACY = (re.compile(r"\[\[([AB<>=]+)\]\]"), re.compile(r"\[([AB<>=]+)\]"))
_BETTER = re.compile(r"\bOutput \((a|b)\) is better\b", re.IGNORECASE)
_BETTER_LEGACY: tuple[tuple[str, Winner], ...] = (
    ("Output (a) is better", "A"),
    ("Output (b) is better", "B"),
)
_GRADE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:/\s*\d+\s*)?\.?\s*$")
_WINNERS: dict[str, Winner] = {
    "A>>B": "A", "A>B": "A", "A=B": "tie", "B>A": "B", "B>>A": "B",
    "B<<A": "A", "B<A": "A", "B=A": "tie", "A<B": "B", "A<<B": "B",
}  # fmt: skip


class Reading(Protocol[T_co]):
    """What a judge's reply says."""

    def __call__(self, reply: Completion, /) -> T_co:
        """The verdict; raises `VerdictError` where there is none."""
        ...


def read_winner(reply: Completion) -> Winner:
    """The winner by the last of [[A]], [[B]], [[C]], as shown."""
    _refuse_failed(reply)
    return parse_winner(reply)[0]


def read_rating(reply: Completion) -> float:
    """The last [[n]] of a grade from 1 to 10."""
    _refuse_failed(reply)
    value = float(last_mark(reply, _RATING)[1])
    if not 1 <= value <= 10:
        raise _unreadable(reply, f"rating {value:g} is outside 1..10")
    return value


def read_label(reply: Completion) -> Label:
    """The last [[label]] of Arena-Hard's five."""
    return parse_label(reply)


def read_better(reply: Completion) -> Winner:
    """The winner by the last "Output (a|b) is better", as shown."""
    return "A" if last_mark(reply, _BETTER)[1].lower() == "a" else "B"


def read_grade(reply: Completion) -> float:
    """A reply that is a number and nothing else."""
    if reply.finish_reason == "refusal":
        raise VerdictError("the judge refused", cause="refused", reply=reply.text)
    if (found := _GRADE.match(reply.text)) is None:
        raise _unreadable(reply, "the reply is not a number")
    return float(found[1])


def legacy_winner(reply: Completion) -> Winner:
    """FastChat's pairwise rule: [[A]] anywhere, else [[B]], else [[C]]."""
    _refuse_failed(reply)
    marks: tuple[tuple[str, Winner], ...] = (("[[A]]", "A"), ("[[B]]", "B"), ("[[C]]", "tie"))
    return _first_in(reply, marks)


def legacy_rating(reply: Completion) -> float:
    """FastChat's pointwise rule: the first [[n]], else the first [n]. Any number passes."""
    _refuse_failed(reply)
    for pattern in _RATING_LEGACY:
        if found := pattern.search(reply.text):
            return float(found[1])
    raise _unreadable(reply, "no rating in the reply")


def legacy_last_label(reply: Completion) -> Label:
    """Arena-Hard v2's rule: the last label in capitals; in single brackets where none is in two."""
    for pattern in _LABEL_LEGACY:
        if found := pattern.findall(reply.text.upper()):
            return as_label(found[-1], reply)
    raise _unreadable(reply, "no label in the reply")


def legacy_only_label(reply: Completion) -> Label:
    """Arena-Hard v0.1's and JudgeBench's rule: valid only if every label is the same one."""
    found = set(_LABEL_LEGACY[0].findall(reply.text))
    if len(found) != 1:
        raise _unreadable(reply, f"{len(found)} different labels in the reply")
    return as_label(found.pop(), reply)


def legacy_better(reply: Completion) -> Winner:
    """LLMBar's rule: the first phrase of its list that is found anywhere."""
    return _first_in(reply, _BETTER_LEGACY)


def label_winner(label: str) -> Winner | None:
    """Who a label such as `A>B` names, however strongly; `None` for no label."""
    return _WINNERS.get(label)


def scores_winner(first: float, second: float, *, delta: float = 0.0) -> Winner:
    """The higher of two scores; a tie where they are no more than `delta` apart."""
    if abs(first - second) <= delta:
        return "tie"
    return "A" if first > second else "B"


def label_share(logprobs: Mapping[str, float], first: str = "m", second: str = "M") -> float | None:
    """P(first) / (P(first) + P(second)) from log-probabilities in nats; `None` if both are missing.

    A label that is not among the likeliest tokens counts 0, as in AlpacaEval.
    """
    if first not in logprobs:
        return 0.0 if second in logprobs else None
    if second not in logprobs:
        return 1.0
    ahead = logprobs[first] - logprobs[second]
    if ahead >= 0:
        return 1 / (1 + math.exp(-ahead))
    return math.exp(ahead) / (1 + math.exp(ahead))


def nearer_preference(share: float, preference: float) -> float:
    """AlpacaEval's preference, 1..2, that a label share gives: the order shown is not recorded.

    The labels were dealt to the outputs at random, so the share is the first output's or the
    second's; of 1 + x and 2 - x the one nearer to the recorded `preference` is meant.
    """
    return min((1 + share, 2 - share), key=lambda value: abs(value - preference))


def _first_in(reply: Completion, marks: tuple[tuple[str, Winner], ...]) -> Winner:
    for mark, winner in marks:
        if mark in reply.text:
            return winner
    raise _unreadable(reply, "no verdict in the reply")


def _refuse_failed(reply: Completion) -> None:
    if reply.text.strip() == FAILED:
        raise VerdictError("the provider failed", cause="provider_error", reply=reply.text)


def _unreadable(reply: Completion, message: str) -> VerdictError:
    return VerdictError(message, cause="unreadable", reply=reply.text)
