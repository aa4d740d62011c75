"""A verdict as a line of `verdicts.jsonl`, in half the time that plain dicts of it would take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any

import orjson

from rlaif.canonical import json_bytes, json_line
from rlaif.types import JudgeRef, Message, Verdict, as_dict

Names = tuple[str, ...]


def verdict_line(verdict: Verdict) -> str:
    """`verdict.as_dict()` as one line of JSON that ends in a newline, to the letter.

    Raises:
        ValueError: it holds NaN or an infinity.
        TypeError: it holds something else that JSON has not.
    """
    plain = {"schema": verdict.schema, **_fields(verdict)}
    try:
        line = orjson.dumps(plain, _plain, orjson.OPT_PASSTHROUGH_DATACLASS)
    except orjson.JSONEncodeError:
        return json_line(verdict.as_dict())
    # it may stand for NaN, which only a walk through all values tells
    if b"null" in line:
        return json_line(verdict.as_dict())
    return line.decode() + "\n"


def _plain(value: Any) -> Any:
    """What stands for a value that orjson does not know: orjson asks again for what is inside."""
    kind = type(value)
    if kind is Message:
        return {"role": value.role, "content": value.content}
    if kind is JudgeRef:
        return _judge(value)
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} is for the careful way")
    return _fields(value)


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a frozen value but those that are `None`."""
    kind: Any = type(value)
    names, values = _shape(kind)
    return {
        name: inner for name, inner in zip(names, values(value), strict=True) if inner is not None
    }


@lru_cache(maxsize=256)
def _judge(judge: JudgeRef) -> orjson.Fragment:
    """A judge, written once: a run has a million verdicts of one."""
    return orjson.Fragment(json_bytes(as_dict(judge)))


@cache
def _shape(kind: Any) -> tuple[Names, Callable[[Any], tuple[Any, ...]]]:
    """The public fields of a dataclass and what gets all their values at once."""
    names = tuple(field.name for field in fields(kind) if not field.name.startswith("_"))
    if len(names) == 1:  # of a single name `attrgetter` gets no tuple
        return names, lambda value: (getattr(value, names[0]),)
    return names, attrgetter(*names)
