"""Canonical JSON and digests: one spelling for equal values, whatever made them.

orjson writes what it can, which is nearly everything; the rest (a lone surrogate, an integer
of more than 64 bits) goes through the standard library. Which of the two writes a value depends on
the value alone, and neither spells a value as the other spells another.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson

T = TypeVar("T")
R = TypeVar("R")

_REMEMBERED = 256
_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""Only what JSON has: dataclasses go through `rlaif.types.as_dict`, which drops absent fields."""
_LEAVES = frozenset({str, int, bool, type(None)})
_SORTED = _STRICT | orjson.OPT_SORT_KEYS


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text, which UTF-8 can carry.

    Raises:
        ValueError: `value` holds NaN or an infinity, which have no JSON spelling.
        TypeError: `value` holds something else that JSON has not.
    """
    return _canonical(value).decode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, 64 hex digits."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def spelled(value: Any) -> Any:
    """The canonical JSON of `value`, to stand in values that `quick_digest` is asked of.

    `value` itself where its spelling depends on what is around it: `quick_digest` cannot tell.

    Raises:
        ValueError: it holds NaN or an infinity.
    """
    written = _orjson(value, _SORTED)
    return value if written is None else orjson.Fragment(written)


def quick_digest(value: Any) -> str | None:
    """`digest` of what may hold parts that were `spelled` before, in half the time.

    `None` where only `digest`, of a value without such parts, can tell.

    Args:
        value: What JSON has. Every number in it outside those parts is known to be finite.
    """
    try:
        return hashlib.sha256(orjson.dumps(value, option=_SORTED)).hexdigest()
    except orjson.JSONEncodeError:
        return None


def remembered(make: Callable[[T], R]) -> Callable[[T], R]:
    """`make`, asked once for each of the last objects; equal ones may be spelled in two ways."""
    kept: dict[int, tuple[T, R]] = {}

    def get(value: T) -> R:
        # what is kept is alive, so that nothing else has its id
        if (found := kept.get(id(value))) is not None:
            return found[1]
        made = make(value)
        if len(kept) >= _REMEMBERED:
            kept.clear()
        kept[id(value)] = (value, made)
        return made

    return get


def json_bytes(value: Any) -> bytes:
    """Compact JSON in UTF-8, keys in the order given.

    Text that UTF-8 cannot carry (a lone surrogate in a model's reply) is escaped, not lost.

    Raises:
        ValueError: `value` holds NaN or an infinity.
        TypeError: `value` holds something else that JSON has not.
    """
    written = _orjson(value, _STRICT)
    if written is not None:
        return written
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def json_line(value: Any) -> str:
    """One line of JSONL, readable UTF-8, ending in a newline; else as `json_bytes`."""
    return json_bytes(value).decode() + "\n"


def _canonical(value: Any) -> bytes:
    written = _orjson(value, _SORTED)
    if written is not None:
        return written
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def _orjson(value: Any, option: int) -> bytes | None:
    """`value` as orjson writes it, or None where it cannot.

    Raises:
        ValueError: `value` holds NaN or an infinity.
    """
    try:
        written = orjson.dumps(value, _plain, option)
    except orjson.JSONEncodeError:
        try:
            written = orjson.dumps(value, _plain, option | orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError:
            return None
    # orjson writes null for NaN; looking for one costs more than writing, and there is none to find
    # where no null was written
    if b"null" in written:
        _check_finite(value)
    return written


def _plain(value: object) -> Any:
    """What JSON has for a value that orjson does not know and the standard library does."""
    if isinstance(value, float):  # numpy's, say
        return float(value)
    if isinstance(value, tuple):  # a named one
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _check_finite(value: object) -> None:
    """Raise `ValueError` if `value` holds NaN or an infinity, as the standard library does."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no JSON spelling")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if type(key) is not str:
                _check_finite(key)
            if type(inner) not in _LEAVES:
                _check_finite(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            if type(inner) not in _LEAVES:
                _check_finite(inner)
