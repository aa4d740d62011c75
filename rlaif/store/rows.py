"""A completion as a row of the reply store, and back: by hand, since a rerun reads all of them.

Text is UTF-8, compressed by zstd from 256 bytes on: judges' replies of 760 bytes shrink to 52 % in
6 microseconds, which the smaller writes earn back. A trained dictionary would save another tenth
of a kilobyte a row, and make the file unreadable without it.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from rlaif.types import Completion, FinishReason, TokenLogprob, Usage

COLUMNS = "model, finish, input, cached_input, output, cost_usd, latency_s, packed, text, more"
"""What `pack` gives and `unpack` takes, in this order."""

Row = tuple[Any, ...]

_FINISH: tuple[FinishReason, ...] = ("stop", "length", "refusal")
"""Their places are in users' files: new ones go to the end."""
_FINISH_NUMBER = {name: number for number, name in enumerate(_FINISH)}
_COMPRESS_FROM = 256
"""Bytes below which zstd's frame eats what it saves."""
_LEVEL = 3
_TEXT_PACKED, _MORE_PACKED = 1, 2
_MOST = 2**63 - 1
_to_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def digest_of(key: str) -> bytes:
    """The 32 bytes of a key.

    Raises:
        ValueError: it is no digest of 64 hex digits.
    """
    try:
        digest = bytes.fromhex(key)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ValueError(f"{key!r} is not a digest of 64 hex digits")
    return digest


def pack(completion: Completion) -> Row:
    """The values of `COLUMNS` for a completion.

    Raises:
        ValueError: a count or a number of it cannot be kept.
    """
    usage = completion.usage
    packed, text = _shrunk(completion.text.encode("utf-8", "surrogatepass"), _TEXT_PACKED)
    more = None
    if completion.tokens or completion.thinking:
        tokens = [(t.token, t.logprob, t.top) for t in completion.tokens]
        more_packed, more = _shrunk(_to_json((completion.thinking, tokens)).encode(), _MORE_PACKED)
        packed |= more_packed
    return (
        _model(completion.model),
        _FINISH_NUMBER[completion.finish_reason],
        _count(usage.input),
        _count(usage.cached_input),
        _count(usage.output),
        None if completion.cost_usd is None else _number(completion.cost_usd),
        _number(completion.latency_s),
        packed,
        text,
        more,
    )


def unpack(row: Row) -> Completion:
    """The completion in the values of `COLUMNS`, marked as cached.

    Raises:
        ValueError: the row is not one that `pack` made.
    """
    model, finish, input_, cached_input, output, cost_usd, latency_s, packed, text, more = row
    try:
        if packed & _TEXT_PACKED:
            text = _codec().decompress(text)
        if type(model) is bytes:
            model = model.decode("utf-8", "surrogatepass")
        thinking = ""
        tokens: tuple[TokenLogprob, ...] = ()
        if more is not None:
            thinking, tokens = _more(_codec().decompress(more) if packed & _MORE_PACKED else more)
        sound = (
            type(model) is str
            and type(finish) is int
            and finish >= 0
            and type(input_) is int
            and type(cached_input) is int
            and type(output) is int
            and type(latency_s) is float
            and (cost_usd is None or type(cost_usd) is float)
        )
        if not sound:
            raise ValueError("a column has another type")
        return Completion(
            text.decode("utf-8", "surrogatepass"),
            _FINISH[finish],
            model,
            tokens,
            thinking,
            Usage(input_, cached_input, output),
            latency_s,
            True,
            cost_usd,
        )
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(str(error)) from error


def completion_from(plain: Mapping[str, Any]) -> Completion:
    """The completion in a JSON object that somebody else may have written.

    Raises:
        ValueError: a field is missing, unknown or of the wrong type.
    """
    completion: Completion = _adapter().validate_python(plain)
    return completion


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Completion)


def _more(data: bytes) -> tuple[str, tuple[TokenLogprob, ...]]:
    thinking, tokens = json.loads(data)
    if type(thinking) is not str:
        raise ValueError("the thinking is not text")
    return thinking, tuple(_token(*token) for token in tokens)


def _token(token: Any, logprob: Any, top: Any) -> TokenLogprob:
    pairs = tuple((name, value) for name, value in top)
    if type(token) is not str or not all(type(name) is str for name, _ in pairs):
        raise ValueError("a token is not text")
    if not all(type(value) in {float, int} for value in (logprob, *(v for _, v in pairs))):
        raise ValueError("a log-probability is not a number")
    return TokenLogprob(token, logprob, pairs)


def _shrunk(data: bytes, flag: int) -> tuple[int, bytes]:
    """`flag` and `data` compressed where that pays, else 0 and `data`."""
    if len(data) < _COMPRESS_FROM:
        return 0, data
    smaller = _codec().compress(data)
    return (flag, smaller) if len(smaller) < len(data) else (0, data)


def _model(name: str) -> str | bytes:
    """The name as SQLite takes it: text, or bytes where UTF-8 cannot carry it."""
    if name.isascii():
        return name
    data = name.encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        return data
    return name


def _count(value: Any) -> int:
    if type(value) is not int or not -_MOST <= value <= _MOST:
        raise ValueError(f"{value!r} is no count of tokens")
    return value


def _number(value: Any) -> float:
    if not math.isfinite(value):  # SQLite would keep NaN as NULL
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


class _Codec(threading.local):
    """One thread's zstd contexts: making one for each row costs more than the work."""

    def __init__(self) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self.compress = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress
        self._decompress = zstandard.ZstdDecompressor().decompress

    def decompress(self, data: bytes) -> bytes:
        try:
            return self._decompress(data)
        except (self._error, MemoryError) as error:
            raise ValueError(f"compressed data is damaged: {error}") from error


@cache
def _codec() -> _Codec:
    return _Codec()
