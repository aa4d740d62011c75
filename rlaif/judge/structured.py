"""Replies as JSON objects: the schema that is asked for, and the object in a reply. Pure.

A backend that cannot hold its model to a schema still shows it the ending, so its reply is read as
JSON where it is JSON, and by its marks where it is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from rlaif.judge.parsing import without_thinking
from rlaif.specs.rubric import Criterion, Reasoning
from rlaif.types import Completion

_FENCED = re.compile(r"^```\w*[ \t]*\n(.*?)\n?^```[ \t]*$", re.MULTILINE | re.DOTALL)
_MOST_STARTS = 64
"""Places where an object is looked for: a reply full of braces is no reason to read it a hundred
times over."""


@lru_cache
def pair_schema(labels: tuple[str, ...], reasoning: Reasoning) -> dict[str, Any]:
    """The schema of a verdict on a pair."""
    return _schema({"verdict": {"type": "string", "enum": list(labels)}}, reasoning)


@lru_cache
def ranking_schema(reasoning: Reasoning) -> dict[str, Any]:
    """The schema of an order of labels, which is one text: `C > A > B`."""
    return _schema({"ranking": {"type": "string"}}, reasoning)


def score_schema(criteria: Sequence[Criterion], reasoning: Reasoning) -> dict[str, Any]:
    """The schema of a grade on each criterion."""
    grades = {c.name: {"type": "integer", "enum": list(c.scale.levels)} for c in criteria}
    return _schema({"grades": _object(grades)}, reasoning)


def _schema(verdict: dict[str, Any], reasoning: Reasoning) -> dict[str, Any]:
    reasons = {"rationale": {"type": "string"}}
    # a model held to a schema writes its fields in their order
    order = {"before": {**reasons, **verdict}, "after": {**verdict, **reasons}, "none": verdict}
    return _object(order[reasoning])


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def parse_object(completion: Completion) -> tuple[Mapping[str, Any], int] | None:
    """The JSON object that a reply ends with, and its offset; `None` where it ends otherwise.

    The object is the whole reply, or its last part, or all there is in its last fenced block.
    An object in the middle may be a quotation.
    """
    text = without_thinking(completion.text)
    stop = len(text.rstrip())
    start = 0
    if text[:stop].endswith("```"):
        blocks = list(_FENCED.finditer(text, 0, stop))
        if not blocks or blocks[-1].end() != stop:
            return None
        start, stop = blocks[-1].span(1)
    body = text[:stop].rstrip()
    if not body.endswith("}"):
        return None
    for _ in range(_MOST_STARTS):
        start = body.find("{", start)
        if start < 0:
            return None
        try:
            found, end = _DECODER.raw_decode(body, start)
        except (ValueError, RecursionError):
            found, end = None, -1
        if isinstance(found, dict) and end == len(body):
            return found, start
        start += 1
    return None


_DECODER = json.JSONDecoder()


def value_offset(completion: Completion, start: int, key: str) -> int | None:
    """Where the value of `key` begins in the object at `start`: its first character or digit."""
    opening = re.compile(rf'"{re.escape(key)}"\s*:\s*"?')
    found = list(opening.finditer(completion.text, start))
    return found[-1].end() if found else None
