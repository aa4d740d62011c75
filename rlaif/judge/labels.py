"""Probabilities of the labels that a judge chooses among, read from token probabilities. Pure.

A label may be spelled with and without a space, and may share its token with a bracket or a quote:
all spellings of one label are summed. What lies on no label is the missing mass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rlaif.types import Completion, TokenLogprob

LEAST_MASS = 0.5
"""Least probability that must lie on the labels for token probabilities to be a verdict."""


@dataclass(frozen=True, slots=True)
class Spread:
    """P(label) over the labels, summing to 1, and the probability that lay on none of them."""

    p: Mapping[str, float]
    missing_mass: float

    def holds(self, least_mass: float = LEAST_MASS) -> bool:
        """Whether at least so much of the probability lies on the labels, and any does."""
        return bool(self.p) and 1.0 - self.missing_mass >= least_mass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a label begins in a reply's tokens."""

    tokens: Sequence[TokenLogprob]
    """From the token that holds the label's first character on."""
    before: str
    """What that token holds before the label: a bracket, a quote, spaces."""


def place_of(completion: Completion, offset: int) -> Place | None:
    """The tokens at the character `offset` of a reply; `None` without alternatives there."""
    position = 0
    for index, token in enumerate(completion.tokens):
        length = len(token.token)
        if position + length > offset:
            if not token.top:
                return None
            return Place(completion.tokens[index:], token.token[: offset - position])
        position += length
    return None


def first_place(completion: Completion) -> Place | None:
    """The first token of a reply that says something; `None` without alternatives there."""
    for index, token in enumerate(completion.tokens):
        if token.token.strip():
            return Place(completion.tokens[index:], "") if token.top else None
    return None


def label_spread(place: Place, label: str, names: Mapping[str, str]) -> Spread:
    """The spread over labels of which each is one token, or is known by its first.

    Args:
        place: Where the label that was drawn begins.
        label: That label, as it was spelled; "" where the token holds nothing else.
        names: The label that each spelling means.
    """
    token, before = place.tokens[0], place.before.strip()
    drawn = token.token[len(place.before) :]
    after = drawn[len(label) :].strip() if label and drawn.startswith(label) else ""
    mass: dict[str, float] = {}
    for text, logprob in token.top:
        core = _core(text, before, after)
        if core is not None and (name := names.get(core)) is not None:
            mass[name] = mass.get(name, 0.0) + math.exp(logprob)
    return _spread(mass)


def _core(text: str, before: str, after: str) -> str | None:
    """A token's text without what stands around the label; `None` where it differs there."""
    text = text.strip()
    if before:
        if not text.startswith(before):
            return None
        text = text[len(before) :].lstrip()
    if after:
        if not text.endswith(after):
            return None
        text = text[: -len(after)].rstrip()
    return text


def level_spread(place: Place, levels: tuple[str, ...], *, ended: bool = True) -> Spread:
    """The spread over whole numbers, of which one may begin another, such as 1 and 10.

    A tokenizer may have 10 as one token or as two. The second token of what was drawn tells
    P(0 | 1), so P(10) = P(1) P(0 | 1). Where a token could begin two levels and nothing tells
    which, its probability counts as missing. Lee et al. 2023 (arXiv 2309.00267), section on direct
    RLAIF, for the expectation over a scale's tokens.

    Args:
        place: Where the number that was drawn begins.
        levels: The levels, as they are spelled.
        ended: Whether the reply ended by itself, so that its last token ended the number.
    """
    mass: dict[str, float] = {}
    _follow(place.tokens, place.before.strip(), "", 1.0, levels, mass, ended)
    return _spread(mass)


def _follow(
    tokens: Sequence[TokenLogprob],
    before: str,
    said: str,
    weight: float,
    levels: tuple[str, ...],
    mass: dict[str, float],
    ended: bool,
) -> None:
    """Add to `mass` what the first of `tokens` says, where `said` stands already."""
    known, prefixes = _vocabulary(levels)
    words = [(_word(text, before, said), text, weight * math.exp(lp)) for text, lp in tokens[0].top]
    whole = {word for word, _, _ in words if word in known}
    for word, text, p in words:
        if word is None:
            if said in known:  # something else follows: the number was whole
                mass[said] = mass.get(said, 0.0) + p
        elif word in known and word not in prefixes:
            mass[word] = mass.get(word, 0.0) + p
        elif word in prefixes:
            drawn = text == tokens[0].token
            if drawn and len(tokens) > 1 and tokens[1].top:
                _follow(tokens[1:], "", word, p, levels, mass, ended)
            elif word in known and (
                (drawn and ended and len(tokens) == 1)
                or any(w != word and w.startswith(word) for w in whole)
            ):
                mass[word] = mass.get(word, 0.0) + p


def _word(text: str, before: str, said: str) -> str | None:
    """The number that a token makes of what was said; `None` where it adds no digit."""
    if said:
        digits = _leading_digits(text)
        return said + digits if digits else None
    core = _core(text, before, "")
    if core is None or core == "-":
        return core
    digits = _leading_digits(core[1:] if core[:1] == "-" else core)
    return core[: len(digits) + (core[:1] == "-")] if digits else None


def _leading_digits(text: str) -> str:
    length = 0
    while length < len(text) and "0" <= text[length] <= "9":
        length += 1
    return text[:length]


@lru_cache
def _vocabulary(levels: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """The levels, and everything that a longer level begins with."""
    prefixes = {level[:n] for level in levels for n in range(1, len(level))}
    return frozenset(levels), frozenset(prefixes)


def longest_level(levels: tuple[str, ...]) -> int:
    """Most tokens that tell a level from every other: 1 where none begins another.

    A sign counts as a token of its own.
    """
    known, prefixes = _vocabulary(levels)
    if prefixes & known or any(level.startswith("-") for level in levels):
        return max(map(len, levels))
    return 1


def _spread(mass: Mapping[str, float]) -> Spread:
    total = sum(mass.values())
    if total <= 0.0:
        return Spread({}, 1.0)
    return Spread({k: v / total for k, v in mass.items()}, max(0.0, 1.0 - total))
