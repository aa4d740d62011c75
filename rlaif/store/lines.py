"""A verdict as a line of `verdicts.jsonl`, in half the time that plain dicts of it would take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any

import orjson

from rlaif.canonical import json_bytes, remembered
from rlaif.types import Call, Candidate, JudgeRef, Messages, OrderVerdict, Verdict, as_dict

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
    try:
        line = orjson.dumps(_verdict(verdict), _plain, orjson.OPT_PASSTHROUGH_DATACLASS)
    except (orjson.JSONEncodeError, AttributeError):
        return json_bytes(verdict.as_dict())
    # it may stand for NaN, which only a walk through all values tells
    if not _surely_finite(verdict) and b"null" in line:
        return json_bytes(verdict.as_dict())
    return line


def _surely_finite(verdict: Verdict) -> bool:
    """Whether no number of it is NaN or an infinity, as far as that is seen at a glance.

    To look through its texts for what would stand for one takes longer than to write them.
    """
    preference, item = verdict.preference, verdict.item
    if preference is None or item.meta:
        return False
    if any(x is not None for x in (verdict.score, verdict.ranking, verdict.members)):
        return False
    total = preference.p_a
    for order in preference.orders:
        total += order.p_a + (order.missing_mass or 0.0)
    for call in verdict.calls:
        total += call.latency_s + (call.cost_usd or 0.0)
    return math.isfinite(total)


def _plain(value: Any) -> Any:
    """What stands for a value that orjson does not know: orjson asks again for what is inside."""
    kind = type(value)
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


# What most of a verdict is made of is written out by hand, the fields in their order: to be asked
# for each value costs orjson more than to write it.


def _verdict(verdict: Verdict) -> dict[str, Any]:
    plain = {"schema": verdict.schema, **_fields(verdict)}
    item = {**_fields(verdict.item), "prompt": _messages(verdict.item.prompt)}
    plain["item"] = item
    plain["candidates"] = [_candidate(candidate) for candidate in verdict.candidates]
    if (preference := verdict.preference) is not None:
        orders = [_order(order) for order in preference.orders]
        plain["preference"] = {**_fields(preference), "orders": orders}
    plain["calls"] = [_call(call) for call in verdict.calls]
    return plain


def _messages(messages: Messages) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _candidate(candidate: Candidate) -> dict[str, Any]:
    plain: dict[str, Any] = {"id": candidate.id, "response": _messages(candidate.response)}
    if candidate.model is not None:
        plain["model"] = candidate.model
    return plain


def _order(order: OrderVerdict) -> dict[str, Any]:
    plain: dict[str, Any] = {"shown": order.shown, "winner": order.winner, "p_a": order.p_a}
    if order.draws is not None:
        plain["draws"] = order.draws
    if order.level is not None:
        plain["level"] = order.level
    if order.source is not None:
        plain["source"] = order.source
    if order.missing_mass is not None:
        plain["missing_mass"] = order.missing_mass
    return plain


def _call(call: Call) -> dict[str, Any]:
    used = call.usage
    plain = {
        "digest": call.digest,
        "reply": call.reply,
        "usage": {"input": used.input, "cached_input": used.cached_input, "output": used.output},
        "latency_s": call.latency_s,
        "cached": call.cached,
    }
    if call.shown is not None:
        plain["shown"] = call.shown
    if call.cost_usd is not None:
        plain["cost_usd"] = call.cost_usd
    return plain


@remembered
def _judge(judge: JudgeRef) -> Any:
    """A judge as lines have it: a run has a million verdicts of one."""
    return orjson.Fragment(json_bytes(as_dict(judge)))


@cache
def _shape(kind: Any) -> tuple[Names, Callable[[Any], tuple[Any, ...]]]:
    """The public fields of a dataclass and what gets all their values at once."""
    names = tuple(field.name for field in fields(kind) if not field.name.startswith("_"))
    if len(names) == 1:  # of a single name `attrgetter` gets no tuple
        return names, lambda value: (getattr(value, names[0]),)
    return names, attrgetter(*names)
