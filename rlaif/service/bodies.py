"""What clients send, as rows to judge.

A body is one item with its fields, or `{"items": [...]}`; beside either stand `judge` and `rubric`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request

from rlaif.errors import SpecError
from rlaif.service.errors import Problem
from rlaif.specs.describe import describe

JSON = "application/json"
_BESIDE = ("judge", "rubric")


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request asks."""

    rows: list[Any]
    judge: str
    rubric: str | None
    single: bool
    """Whether the body was one item, so that the answer is one verdict."""


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in the body.

    Raises:
        Problem: it is of another type, or no JSON object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise Problem(415, f"the body should be {JSON}")
    body = await _whole(request)
    try:
        found = orjson.loads(body)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {str(error)[:120]}") from None
    if not isinstance(found, dict):
        raise Problem(422, f"the body should be an object, found {describe(found)}")
    return found


async def _whole(request: Request) -> bytes:
    """All of the body: nearly always one message, to which Starlette takes four layers."""
    parts = []
    while True:
        message = await request.receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def asked(body: dict[str, Any], most: int) -> Asked:
    """What `body` asks.

    Raises:
        SpecError: a field is of another type, or `items` is empty.
        Problem: there are more than `most` items.
    """
    judge, rubric = (text_of(body, name) for name in _BESIDE)
    if "items" not in body:
        rows = [{key: value for key, value in body.items() if key not in _BESIDE}]
        return Asked(rows, judge or "default", rubric, single=True)
    rows = body["items"]
    if not isinstance(rows, list):
        raise SpecError(f"should be a list, found {describe(rows)}", field="items")
    if len(rows) > most:
        raise Problem(413, f"one request may have {most:,} items; make a run of more")
    if not rows:
        raise SpecError("holds no items", field="items")
    only(body, "items", *_BESIDE)
    return Asked(rows, judge or "default", rubric, single=False)


def text_of(body: Mapping[str, Any], name: str) -> str | None:
    """The text of a field, or None where it is absent.

    Raises:
        SpecError: it is no text.
    """
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise SpecError(f"should be text, found {describe(value)}", field=name)
    return value


def list_of(body: Mapping[str, Any], name: str, length: int | None = None) -> list[Any]:
    """The list of a field.

    Raises:
        SpecError: it is no list, or not of `length` entries.
    """
    value = body.get(name)
    if not isinstance(value, list):
        raise SpecError(f"should be a list, found {describe(value)}", field=name)
    if length is not None and len(value) != length:
        raise SpecError(f"should have {length} entries, has {len(value)}", field=name)
    return value


def count_of(body: Mapping[str, Any], name: str, most: int, what: str) -> int | None:
    """The whole number of a field, or None where it is absent. JSON has 3.0 for one too.

    Args:
        body: What holds it.
        name: The field.
        most: The largest that it may be; the smallest is 1.
        what: What is counted, for errors.

    Raises:
        SpecError: it is none, or out of bounds.
    """
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise SpecError(f"is {what}, 1 to {most:,}, not {describe(value)}", field=name)
    return value


def only(body: Mapping[str, Any], *names: str) -> None:
    """Raise `SpecError` if `body` has a field that is none of `names`."""
    for name in body:
        if name not in names:
            known = ", ".join(names)
            raise SpecError(f"is not a known field; known: {known}", field=name[:64])
