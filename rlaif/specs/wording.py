"""What the wording of a question or an anchor gives away: its likeness, and two questions in one.

Lexical and therefore a guess: the thresholds stand beside the checks that use them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_QUESTION = re.compile(r"[^.?!]*\?")
_SECOND_CLAUSE = re.compile(
    r", and (is|are|does|do|has|have|how|what|which|can|could|should)\b", re.IGNORECASE
)
_JOIN = re.compile(r"(?:,\s*)?\b(?:and/or|and|or|as well as|but also)\b|&|(?<=\w)/(?=\w)")
_QUALITY = re.compile(
    r"\w{3,}(?:ness|ity|acy|ency|ancy|ously|fully|ently|ately|ively|cally)"
    r"|accura(?:te|cy)|adequa(?:te|cy)|appropriate|brief|clear|clever|coherent|complete|concise"
    r"|consistent|convincing|correct(?:ly)?|creative|deep|detailed|direct|empathetic|engaging"
    r"|exact|factual|fair|faithful|fluent|formal|friendly|grammatical|harmless|helpful|honest(?:y)?"
    r"|impartial|informative|interesting|kind|logical|natural|objective|original|persuasive"
    r"|polite|precise|professional|readable|realistic|reasonable|relevan(?:t|ce)|respectful"
    r"|right|safe|sensible|simple|sound|specific|structured|succinct|thorough|tone|tru(?:e|th)"
    r"|truthful|understandable|unbiased|useful|valid|vivid|warm|well[ -]\w+",
    re.IGNORECASE,
)
"""What a response is said to be, or the name of such a property."""

_EMPTY = re.compile(
    r"a|an|and|any|are|as|at|be|been|but|by|can|could|did|do|does|doing|done|each|either|for|from"
    r"|had|has|have|how|i|if|in|into|is|it|its|may|might|of|on|or|our|own|should|so|such|than|that"
    r"|the|their|them|then|there|these|they|this|those|to|was|were|what|when|where|which|while|who"
    r"|whose|will|with|would|you|your|responses?|answers?|text|reply|judge|user|person|level|one"
)
"""Words that carry no property, or stand in every question about a response."""


def words(text: str) -> list[str]:
    """The words of `text` in lower case, in order."""
    return _WORD.findall(text.casefold())


def likeness(first: str, second: str) -> float:
    """Jaccard similarity of the two sets of words, 0..1; small words count, as "not" does."""
    return _jaccard(frozenset(words(first)), frozenset(words(second)))


def shared_meaning(first: frozenset[str], second: frozenset[str]) -> float:
    """How much of the smaller set of telling words the other has too, 0..1.

    The overlap coefficient: a short question that another repeats inside a long one is wholly
    shared.
    """
    return len(first & second) / max(min(len(first), len(second)), 1)


@lru_cache(maxsize=512)
def telling(text: str) -> frozenset[str]:
    """The stems of the words in `text` that carry meaning."""
    return frozenset(_stem(word) for word in words(text) if not _EMPTY.fullmatch(word))


def _stem(word: str) -> str:
    for ending in ("ations", "ation", "ness", "ing", "ies", "ity", "ed", "es", "ly", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(len(a | b), 1)


def is_double_barrelled(question: str) -> bool:
    """Whether some sentence of `question` seems to ask two things.

    A guess by what the sentence joins: a second clause that asks anew, two properties (`clear and
    correct`, `accuracy and/or depth`), or anything by an "and" that ends no list. An "or" between
    two things that are no properties, such as two places to look, is one question.
    """
    return any(map(_asks_twice, _QUESTION.findall(question)))


def _asks_twice(sentence: str) -> bool:
    if _SECOND_CLAUSE.search(sentence) or _joins_properties(sentence):
        return True
    return " and " in sentence and "," not in sentence.partition(" and ")[0]


def _joins_properties(sentence: str) -> bool:
    """Whether an "and" or "or" stands between two words that each name a property."""
    for join in _JOIN.finditer(sentence):
        before, after = words(sentence[: join.start()])[-1:], words(sentence[join.end() :])[:1]
        if _are_qualities((*before, *after)) == 2:
            return True
    return False


def _are_qualities(found: Iterable[str]) -> int:
    return sum(_QUALITY.fullmatch(word) is not None for word in found)
