"""Replies with token probabilities, for tests of judges."""

from __future__ import annotations

import math
import re

from rlaif.types import Completion, FinishReason, Request, TokenLogprob


def token(text: str, **top: float) -> TokenLogprob:
    """A token that was drawn, with the probabilities of its alternatives by their text."""
    return spread(text, top)


def spread(text: str, top: dict[str, float]) -> TokenLogprob:
    """As `token`, for alternatives whose text is no name."""
    ranked = sorted(top.items(), key=lambda pair: -pair[1])
    logprobs = tuple((alternative, math.log(p)) for alternative, p in ranked)
    return TokenLogprob(text, math.log(top.get(text, 1.0)), logprobs)


def spoken(*tokens: TokenLogprob, finish: FinishReason = "stop") -> Completion:
    """A reply made of tokens."""
    return Completion("".join(t.token for t in tokens), finish, tokens=tokens)


def shown(request: Request) -> tuple[str, str]:
    """The two responses that a request shows, as they stand in it."""
    return tagged(request, "response_a"), tagged(request, "response_b")


def tagged(request: Request, tag: str) -> str:
    """What stands between our tags of this name in the first message that has them last."""
    for message in reversed(request.messages):
        found = re.search(rf"<\w+:{tag}>\n(.*?)\n</\w+:{tag}>", message.content, re.DOTALL)
        if found:
            return found[1]
    raise AssertionError(f"no {tag} in the request")
