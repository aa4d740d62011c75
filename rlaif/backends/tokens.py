"""How many tokens a request has: bounds that hold for any model, counts and estimates.

most_input_tokens(request)             # never too few: what a budget reserves for
TokenCounter.estimating().count(request)             # about right: what a dry run shows
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from rlaif.backends import families
from rlaif.canonical import canonical_json
from rlaif.types import Request

_PER_MESSAGE = 32
"""Most tokens that a chat template adds to a message."""
_PER_REQUEST = 64
_PER_SCHEMA = 1024
"""Most tokens of the instructions that a provider adds where it holds a reply to a schema."""

_EXACT = 1000
"""Requests that are counted with a tokenizer; the rest are estimated in the same proportion."""
_TEMPLATE = 4
"""Tokens that a chat template usually adds to a message."""

_CLAUDE = 1.25
"""Claude's tokenizers make more of the same text than the ones the estimate was fitted to."""


def most_input_tokens(request: Request) -> int:
    """A number of tokens that no tokenizer exceeds: its UTF-8 bytes, and room for a template.

    The vocabularies of language models are made of bytes or of longer pieces, so a token is one
    byte or more.
    """
    total = _PER_REQUEST
    for message in request.messages:
        text = message.content
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        total += size + _PER_MESSAGE
    if request.json_schema is not None:
        total += 2 * len(canonical_json(request.json_schema)) + _PER_SCHEMA
    return total


def most_output_tokens(model: str, request: Request) -> int:
    """The most tokens that the model at an address can reply with, its thinking among them."""
    return families.most_output_tokens(model, request.sampling) if request.task == "reply" else 1


def estimate_tokens(text: str) -> float:
    """About how many tokens `text` is, from its characters alone.

    Fitted to OpenAI's o200k vocabulary on published chat data, source code and program messages in
    22 languages. Totals come out within 12 % for English prose, mathematics and code, and within
    35 % for European languages, Arabic script and East Asia; they are 40 % to 90 % too high for
    Thai, Vietnamese, Georgian and the scripts of India. Older and smaller vocabularies make up to
    three times as many tokens of scripts other than Latin.
    """
    ascii_only = text.isascii()
    tokens = 0.15 * text.count(" ") + 1.1 * text.count("\n")
    if ascii_only:
        return tokens + 0.19 * len(text)
    plain = len(text.encode("ascii", "ignore"))
    size = len(text.encode("utf-8", "surrogatepass"))
    other = len(text) - plain
    # of the other characters so many have three bytes or more, the rest two
    wide = min(other, max(0, size - plain - 2 * other))
    narrow = other - wide
    # a few accents: a language in Latin letters, whose plain letters make more tokens than English
    accents = 0.005 * plain <= narrow <= 0.25 * plain
    return tokens + 0.19 * plain + (2.5 if accents else 0.38) * narrow + 0.8 * wide


class TokenCounter:
    """Counts or estimates the input tokens of one model's requests.

    Args:
        exact: Tokens of a text by the model's own tokenizer, where there is one. The first
            thousand requests are counted with it, and show how far off the estimate is for the
            rest: counting a million would take longer than anybody waits for a plan.
        factor: What to multiply the estimate with, where there is none.
    """

    def __init__(self, exact: Callable[[str], int] | None = None, factor: float = 1.0) -> None:
        self._exact = exact
        self._factor = factor
        self._requests = 0
        self._counted = 0
        self._estimated = 0.0

    @property
    def source(self) -> str:
        """`tokenizer` or `estimate`."""
        return "tokenizer" if self._exact is not None else "estimate"

    def count(self, request: Request) -> int:
        """Tokens of the messages, with the few that a chat template adds."""
        texts = [message.content for message in request.messages]
        estimate = sum(map(estimate_tokens, texts))
        template = _TEMPLATE * len(texts)
        if self._exact is None:
            return round(self._factor * estimate) + template
        if self._requests < _EXACT:
            counted = sum(map(self._exact, texts))
            self._requests += 1
            self._counted += counted
            self._estimated += estimate
            return counted + template
        return round(estimate * self._counted / max(self._estimated, 1.0)) + template


def token_counter(
    model: str, *, tokenizer: Path | None = None, tiktoken_cache: Path | None = None
) -> TokenCounter:
    """The best counter there is for the model at an address, without asking anybody.

    Args:
        model: The address.
        tokenizer: The `tokenizer.json` of a local model.
        tiktoken_cache: Where tiktoken keeps its vocabularies. It counts for OpenAI's models if it
            is installed and has theirs there; it would fetch one that is missing.
    """
    provider, _, name = model.partition("/")
    if tokenizer is not None:
        return TokenCounter(_from_file(tokenizer))
    if provider == "openai" and tiktoken_cache is not None:
        return TokenCounter(_from_tiktoken(name, tiktoken_cache))
    return TokenCounter(factor=_CLAUDE if provider == "anthropic" else 1.0)


def _from_file(path: Path) -> Callable[[str], int] | None:
    try:
        from tokenizers import Tokenizer

        made = Tokenizer.from_file(str(path))
    except Exception:  # it raises plain exceptions for whatever is wrong with the file
        return None

    def count(text: str) -> int:
        return len(made.encode(_valid(text), add_special_tokens=False))

    return count


def _from_tiktoken(name: str, cache: Path) -> Callable[[str], int] | None:
    try:
        tiktoken = import_module("tiktoken")
        encoding = tiktoken.encoding_name_for_model(name)
        address = f"https://openaipublic.blob.core.windows.net/encodings/{encoding}.tiktoken"
        kept = cache / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()
        if not kept.is_file():
            return None
        made = tiktoken.get_encoding(encoding)
    except (ImportError, KeyError, OSError, ValueError):
        return None

    def count(text: str) -> int:
        return len(made.encode(_valid(text), disallowed_special=()))

    return count


def _valid(text: str) -> str:
    """`text` without the lone surrogates that tokenizers refuse."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
