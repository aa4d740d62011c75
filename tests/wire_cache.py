"""A prompt cache as providers have them, for the test server: what was read is not read again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile


def tokenize(text: str) -> list[str]:
    """The toy tokens of `text`; joined they are `text` again."""
    return re.findall(r"\s*\S+|\s+$", text)


@dataclass(frozen=True)
class Part:
    """A piece of a conversation."""

    role: str
    text: str
    opens: bool
    """Whether a message begins with it."""
    marked: bool
    """Whether the prompt up to its end is marked for the cache."""

    @property
    def tokens(self) -> list[str]:
        return [*([f"<{self.role}>"] if self.opens else []), *tokenize(self.text)]


class PrefixCache:
    """Counts the tokens that are read, and those that the cache spares.

    A prompt is there only once its answer was given: two calls sent at once are both read whole.

    Args:
        automatic: Whether the longest beginning that an earlier prompt shares is found without
            marks, in steps of 128 tokens, as OpenAI's API does. Otherwise only what is marked is
            kept and looked for, as Anthropic's does.
        least: Tokens below which nothing is kept.
    """

    def __init__(self, *, automatic: bool, least: int = 1024) -> None:
        self._automatic = automatic
        self._least = least
        self._prompts: list[list[str]] = []
        self._marked: set[tuple[str, ...]] = set()
        self.read = 0
        """Tokens that the model read, over all calls."""
        self.spared = 0
        """Tokens that the cache had."""
        self.most_marks = 0

    def look(self, parts: list[Part]) -> tuple[int, int]:
        """Tokens of a prompt that are there, and those that its marks add."""
        tokens = [token for part in parts for token in part.tokens]
        marks = self._marks(parts)
        self.most_marks = max(self.most_marks, sum(part.marked for part in parts))
        if self._automatic:
            found = max((_shared(tokens, p) for p in self._prompts), default=0) // 128 * 128
            cached = found if found >= self._least else 0
        else:
            cached = max((m for m in marks if tuple(tokens[:m]) in self._marked), default=0)
        self.read += len(tokens) - cached
        self.spared += cached
        return cached, 0 if self._automatic else max(marks, default=cached) - cached

    def keep(self, parts: list[Part]) -> None:
        """Note that a prompt was read."""
        tokens = [token for part in parts for token in part.tokens]
        self._prompts.append(tokens)
        self._marked |= {tuple(tokens[:mark]) for mark in self._marks(parts)}

    def _marks(self, parts: list[Part]) -> list[int]:
        """Where marked parts end that are long enough, in tokens."""
        ends, end = [], 0
        for part in parts:
            end += len(part.tokens)
            if part.marked and end >= self._least:
                ends.append(end)
        return ends


def _shared(one: list[str], other: list[str]) -> int:
    """How many tokens two prompts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
