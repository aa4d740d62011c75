"""What is wrong with a critique or a revision, before it is used. Pure.

A revision that is the response over again, holds the critique, or was never written is no revision:
it is named for what it is, and the response before it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from rlaif.errors import RlaifError
from rlaif.judge.parsing import without_thinking
from rlaif.stats.text import ngrams, words
from rlaif.types import Completion

Fault = Literal[
    "empty_response",
    "refused_response",
    "empty_critique",
    "refused_critique",
    "copied_critique",
    "revision_in_critique",
    "empty_revision",
    "refused_revision",
    "truncated_revision",
    "unchanged",
    "leaked_critique",
    "provider_error",
    "budget",
]
"""Why a chain has no first response, or a round no revision."""
FAULTS: tuple[Fault, ...] = get_args(Fault)

LEAK = 8
"""Words in a row that a revision and a critique share, and the response has not: one from the
other."""
_COPIED = 0.8
"""Share of a critique's 4-grams that stand in the response, from which on it only repeats it."""

_NEXT_PART = re.compile(
    r"^\s*[*#_ ]*(?:Human|User|CritiqueRequest|Critique Request|RevisionRequest|Revision Request)"
    r"[*_]*:",
    re.MULTILINE,
)
_REVISION_MARK = re.compile(
    r"^\s*[*#_ ]*(?:(?:Here(?:'|’)?s|Here is) (?:the|a|my) (?:\w+ )?"
    r"(?:revised|rewritten|improved|corrected|new|better) "
    r"(?:\w+ )?(?:response|version|answer|reply)\b[^\n]*"
    r"|(?:Revision|(?:Revised|Rewritten|Improved|Corrected|New) (?:response|version|answer|reply))"
    r"[*_]*\s*:)",
    re.MULTILINE | re.IGNORECASE,
)
_CRITIQUE_LABEL = re.compile(r"\A\s*[*#_ ]*Critique[*_]*\s*:[*_ ]*", re.IGNORECASE)
_REVISION_LABEL = re.compile(
    r"\A\s*[*#_ ]*(?:(?:Here(?:'|’)?s|Here is) (?:the|a|my) (?:\w+ )?"
    r"(?:revised|rewritten|improved|corrected|new|better) "
    r"(?:\w+ )?(?:response|version|answer|reply)\b[^\n:]*:"
    r"|(?:Revision|(?:Revised|Rewritten) (?:response|version|answer|reply))[*_]*\s*:)[*_ ]*\s*",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"\b(?:the|its|this) (?:assistant(?:'s|’s)?|(?:previous|original|initial|last|first|above)) "
    r"(?:\w+ )?(?:response|answer|reply)\b|^\s*[*#_ ]*Critique[*_]*\s*:",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSAL = re.compile(
    r"\A\W*(?:(?:I(?:'|’)m|I am) (?:very |really |truly |so )?(?:sorry|afraid)|sorry\b|apologies\b|"
    r"I apologi[sz]e|(?:unfortunately, )?I (?:can(?:'|’)?t|cannot|can not|won(?:'|’)t|will not|"
    r"must decline|have to decline|decline)\b|"
    r"(?:I(?:'|’)m|I am) (?:not able|unable|not comfortable|not willing)\b)",
    re.IGNORECASE,
)
"""How a refusal may open, in English."""
_UNABLE = re.compile(
    r"\b(?:can(?:'|’)?t|cannot|can not|won(?:'|’)t|will not|unable|not able|not capable|decline"
    r"|not (?:comfortable|willing|allowed|appropriate)|(?:don(?:'|’)t|do not) have the ability"
    r"|against my)\b",
    re.IGNORECASE,
)
_OPENING = 240
"""Characters in which a refusal says that it is one."""
_SHORT = 8
"""Words of an apology that can be nothing but a refusal."""


def is_refusal(text: str) -> bool:
    """Whether `text` opens as a refusal, in English.

    An apology alone is none: "I'm sorry for the confusion, but here is …" goes on to answer.
    """
    if _REFUSAL.match(text) is None:
        return False
    return _UNABLE.search(text[:_OPENING]) is not None or len(words(text)) <= _SHORT


class FaultError(RlaifError):
    """A reply that cannot be used, and why."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault


@dataclass(frozen=True, slots=True)
class Text:
    """A text that can be used, and what was done to the reply for it."""

    text: str
    flags: tuple[str, ...] = ()
    """`label_removed`, `cut_at_next_part`, `cut_at_revision`, `truncated`."""


def read_response(completion: Completion) -> Text:
    """The first response. A refusal in words is one; a provider's is not.

    Raises:
        FaultError: there is none.
    """
    if completion.finish_reason == "refusal":
        raise FaultError("refused_response", "the provider refused to answer")
    return _filled(completion, without_thinking(completion.text), (), "empty_response")


def read_critique(completion: Completion, response: str) -> Text:
    """What the critic says of `response`.

    Where the critic goes on to rewrite the response, the critique ends there.

    Raises:
        FaultError: it is empty, a refusal, a copy of the response, or nothing but a revision.
    """
    text, flags = _labelless(without_thinking(completion.text), _CRITIQUE_LABEL)
    text, flags = _up_to(text, _NEXT_PART, flags, "cut_at_next_part")
    if (found := _REVISION_MARK.search(text)) is not None:
        text, flags = text[: found.start()], (*flags, "cut_at_revision")
        if not words(text):
            raise FaultError("revision_in_critique", "the critic wrote a revision and no critique")
    if completion.finish_reason == "refusal" or is_refusal(text):
        raise FaultError("refused_critique", "the critic refused")
    read = _filled(completion, text, flags, "empty_critique")
    if _is_copy(read.text, response):
        raise FaultError("copied_critique", "the critique repeats the response")
    return read


def read_revision(completion: Completion, response: str, critique: str) -> Text:
    """The response rewritten.

    Raises:
        FaultError: it is empty, cut off, the response over again, or holds what the critique says.
    """
    if completion.finish_reason == "refusal":
        raise FaultError("refused_revision", "the provider refused to revise")
    if completion.finish_reason == "length":
        raise FaultError("truncated_revision", "the revision was cut off")
    text, flags = _labelless(without_thinking(completion.text), _REVISION_LABEL)
    text, flags = _up_to(text, _NEXT_PART, flags, "cut_at_next_part")
    read = _filled(completion, text, flags, "empty_revision")
    if read.text.split() == response.split():
        raise FaultError("unchanged", "the revision is the response over again")
    if (leak := leaked(read.text, response, critique)) is not None:
        raise FaultError("leaked_critique", f"the revision holds critique: {leak!r}")
    return read


def leaked(revision: str, response: str, critique: str) -> str | None:
    """The words of a critique that stand in a revision, or its talk about "the response"; if any.

    Words that the response has too are no leak, and neither is talk that it begins with itself.
    """
    known = set(ngrams(response, LEAK))
    shared = set(ngrams(critique, LEAK)) - known
    for gram in ngrams(revision, LEAK):
        if gram in shared:
            return " ".join(gram)
    found = _ABOUT.search(revision)
    return found[0].strip() if found is not None and not _ABOUT.search(response) else None


def _labelless(text: str, label: re.Pattern[str]) -> tuple[str, tuple[str, ...]]:
    found = label.match(text)
    return (text[found.end() :], ("label_removed",)) if found else (text, ())


def _up_to(
    text: str, mark: re.Pattern[str], flags: tuple[str, ...], flag: str
) -> tuple[str, tuple[str, ...]]:
    """`text` up to where its writer began to play the next part."""
    found = mark.search(text)
    return (text, flags) if found is None else (text[: found.start()], (*flags, flag))


def _filled(completion: Completion, text: str, flags: tuple[str, ...], fault: Fault) -> Text:
    if not text.strip():
        raise FaultError(fault, f"{fault.replace('_', ' ')}: {completion.text[:80]!r}")
    cut = ("truncated",) if completion.finish_reason == "length" else ()
    return Text(text.strip(), (*flags, *cut))


def _is_copy(critique: str, response: str) -> bool:
    grams = list(ngrams(critique, 4))
    if not grams:
        return words(critique) == words(response)
    known = set(ngrams(response, 4))
    return sum(gram in known for gram in grams) >= _COPIED * len(grams)
