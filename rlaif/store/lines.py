"""A verdict as a line of `verdicts.jsonl`, in half the time that plain dicts of it would take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any

import orjson

from rlaif.canonical import json_bytes, remembered
from rlaif.types import Call, Candidate, JudgeRef, Message, Usage, Verdict, as_dict

Names = tuple[str, ...]


def verdict_line(verdict: Verdict) -> str:
    """`verdict.as_dict()` as one line of JSON that ends in a newline, to the letter.

    Raises:
        ValueError: it holds NaN or an infinity.
        TypeError: it holds something else that JSON has not.
    """
    return verdict_bytes(verdict).decode() + "\n"


def verdict_bytes(verdict: Verdict) -> bytes:
    """`verdict.as_dict()` as JSON, to the letter.

    Raises:
        ValueError: it holds NaN or an infinity.
        TypeError: it holds something else that JSON has not.
    """
    plain = {"schema": verdict.schema, **_fields(verdict)}
    try:
        line = orjson.dumps(plain, _plain, orjson.OPT_PASSTHROUGH_DATACLASS)
    except orjson.JSONEncodeError:
        return json_bytes(verdict.as_dict())
    # it may stand for NaN, which only a walk through all values tells
    if b"null" in line:
        return json_bytes(verdict.as_dict())
    return line


def _plain(value: Any) -> Any:
    """What stands for a value that orjson does not know: orjson asks again for what is inside."""
    kind = type(value)
    if (usual := _USUAL.get(kind)) is not None:
        return usual(value)
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


def _call(call: Call) -> dict[str, Any]:
    plain = {
        "digest": call.digest,
        "reply": call.reply,
        "usage": call.usage,
        "latency_s": call.latency_s,
        "cached": call.cached,
    }
    if call.shown is not None:
        plain["shown"] = call.shown
    if call.cost_usd is not None:
        plain["cost_usd"] = call.cost_usd
    return plain


def _candidate(candidate: Candidate) -> dict[str, Any]:
    plain: dict[str, Any] = {"id": candidate.id, "response": candidate.response}
    if candidate.model is not None:
        plain["model"] = candidate.model
    return plain


_USUAL: dict[type, Callable[[Any], Any]] = {
    Message: lambda message: {"role": message.role, "content": message.content},
    Usage: lambda usage: {
        "input": usage.input,
        "cached_input": usage.cached_input,
        "output": usage.output,
    },
    Call: _call,
    Candidate: _candidate,
    # a run has a million verdicts of one judge
    JudgeRef: remembered(lambda judge: orjson.Fragment(json_bytes(as_dict(judge)))),
}
"""What most of a verdict is made of, written out by hand: their fields in order, but for `None`."""


@cache
def _shape(kind: Any) -> tuple[Names, Callable[[Any], tuple[Any, ...]]]:
    """The public fields of a dataclass and what gets all their values at once."""
    names = tuple(field.name for field in fields(kind) if not field.name.startswith("_"))
    if len(names) == 1:  # of a single name `attrgetter` gets no tuple
        return names, lambda value: (getattr(value, names[0]),)
    return names, attrgetter(*names)
