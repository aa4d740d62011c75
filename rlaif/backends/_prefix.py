"""Where the shared part of a prompt ends, for the prompt caches of providers."""

from __future__ import annotations

from rlaif.backends.families import Family
from rlaif.types import Request

_CHARACTERS_PER_TOKEN = 3
"""At least: a shorter prefix is not worth a mark, and a mark that is ignored costs nothing."""


def cacheable(characters: int, family: Family) -> bool:
    """Whether a prefix of so many characters may be long enough for the provider's cache."""
    return characters >= family.cache_min * _CHARACTERS_PER_TOKEN


def shared_parts(request: Request, family: Family) -> tuple[str, str]:
    """The last message, cut where the prefix ends that further requests share.

    The first part is empty where a mark is not worth it, the second where all of it is shared.
    """
    text = request.messages[-1].content
    head, rest = text[: request.shared], text[request.shared :]
    before = sum(len(m.content) for m in request.messages[:-1])
    if not head.strip() or not cacheable(before + len(head), family):
        return "", text
    # a part of white space alone is refused
    return (head, rest) if rest.strip() else (text, "")
