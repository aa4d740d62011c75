"""What the API's OpenAPI document says of bodies: plain JSON Schema, true to what is checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter

from rlaif.service.bodies import JSON
from rlaif.service.given import PEOPLE
from rlaif.service.runs import MOST_LISTED
from rlaif.service.uploads import FORMATS
from rlaif.types import Verdict

Schema = dict[str, Any]

_ROLES = {"enum": ["system", "user", "assistant"]}
_MESSAGES: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": _ROLES, "content": {"type": "string"}},
        "additionalProperties": False,
    },
}
_WORDS: Schema = {"anyOf": [{"type": "string"}, _MESSAGES]}
_SAID: Schema = {"type": "string", "pattern": r"\S"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_ID: Schema = {
    "anyOf": [
        _SAID,
        {"type": "integer", "minimum": -(2**63), "maximum": 2**64 - 1},
        {"type": "null"},
    ]
}
NAME: Schema = {"type": "string", "minLength": 1}
MAYBE_NAME: Schema = {"type": ["string", "null"], "minLength": 1}
_ITEM: Schema = {
    "prompt": {"anyOf": [_SAID, _MESSAGES]},
    "reference": _MAYBE_TEXT,
    "id": _ID,
    "meta": {"type": ["object", "null"]},
}
BESIDE: Schema = {
    "judge": {"$ref": "#/components/schemas/JudgeName"},
    "rubric": {"$ref": "#/components/schemas/RubricName"},
}
_RESPONSES = {
    "score": {"response": _WORDS, "model": _MAYBE_TEXT},
    "compare": {
        "response_a": _WORDS,
        "response_b": _WORDS,
        "model_a": _MAYBE_TEXT,
        "model_b": _MAYBE_TEXT,
    },
    "rank": {
        "responses": {
            "type": "array",
            "minItems": 2,
            "items": {
                "anyOf": [
                    *_WORDS["anyOf"],
                    {
                        "type": "object",
                        "required": ["response"],
                        "properties": {
                            "id": MAYBE_NAME,
                            "model": MAYBE_NAME,
                            "response": _WORDS,
                        },
                        "additionalProperties": False,
                    },
                ]
            },
        }
    },
}
PROBLEM: Schema = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
    },
}
SUMMARY: Schema = {
    "type": "object",
    "required": ["n", "ok", "coverage", "causes", "calls", "cost_usd"],
    "properties": {
        "n": {"type": "integer"},
        "ok": {"type": "integer"},
        "coverage": {"type": "number", "minimum": 0, "maximum": 1},
        "causes": {"type": "object", "additionalProperties": {"type": "integer"}},
        "calls": {"type": "integer"},
        "cost_usd": {"type": "number"},
    },
}
RUN: Schema = {
    "type": "object",
    "required": ["id", "state", "title", "kind", "judge", "rubric", "done", "ok", "cost_usd"],
    "properties": {
        "id": {"type": "string"},
        "state": {"enum": ["queued", "running", "done", "failed", "cancelled"]},
        "title": {"type": "string"},
        "kind": {"enum": ["score", "compare", "rank"]},
        "judge": {"type": "string"},
        "rubric": {"type": "string"},
        "total": {"type": ["integer", "null"]},
        "done": {"type": "integer"},
        "ok": {"type": "integer"},
        "coverage": {"type": "number", "minimum": 0, "maximum": 1},
        "cost_usd": {"type": "number"},
        "summary": {"type": "object"},
        "error": {"type": "string"},
    },
}
RUNS: Schema = {
    "type": "object",
    "required": ["runs"],
    "properties": {"runs": {"type": "array", "items": RUN}},
}
_USD: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1e9}
NEW_RUN: Schema = {
    "type": "object",
    "required": ["kind", "data"],
    "properties": {
        "kind": {"enum": ["score", "compare", "rank", "verdicts"]},
        "data": {
            "oneOf": [
                {
                    "type": "object",
                    "required": [name],
                    "properties": {name: {"type": "string", "pattern": pattern}},
                    "additionalProperties": False,
                }
                for name, pattern in (("upload", "^[0-9a-f]{32}$"), ("path", "."))
            ]
        },
        "limit": {"$ref": "#/components/schemas/RowLimit"},
        "pairs": {
            "type": ["string", "null"],
            "pattern": "^(all|adjacent|0*[1-9][0-9]*)$",
            "maxLength": 9,
            "description": "For kind compare.",
        },
        "budget_usd": _USD,
        "title": MAYBE_NAME,
        **BESIDE,
        "judge": {"anyOf": [BESIDE["judge"], {"const": PEOPLE}]},
    },
    "additionalProperties": False,
}
AGAIN: Schema = {
    "type": "object",
    "properties": {"budget_usd": _USD},
    "additionalProperties": False,
}
LISTED: Schema = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": {"type": "object"}},
}


def items_of(work: str) -> Schema:
    """The body of `/v1/score`, `/v1/compare` or `/v1/rank`: an item, or `items`."""
    fields = {**_ITEM, **_RESPONSES[work]}
    required = ["prompt", *(name for name in _RESPONSES[work] if name.startswith("response"))]
    item = {"type": "object", "required": required, "properties": fields}
    return {
        "oneOf": [
            {**item, "properties": {**fields, **BESIDE}, "not": {"required": ["items"]}},
            {
                "type": "object",
                "required": ["items"],
                "properties": {
                    "items": {"type": "array", "minItems": 1, "items": item},
                    **BESIDE,
                },
                "additionalProperties": False,
            },
        ]
    }


@cache
def _record() -> Schema:
    return TypeAdapter(Verdict).json_schema(ref_template="#/components/schemas/{model}")


def verdict() -> Schema:
    """The verdict record."""
    return {name: value for name, value in _record().items() if name != "$defs"}


def components(judges: Iterable[str], rubrics: Iterable[str], rows: int) -> dict[str, Schema]:
    """The parts that schemas refer to, of a service with these judges and rubrics.

    Args:
        judges: The names of its judges.
        rubrics: The names of its rubrics.
        rows: Most rows of a run.
    """
    return {
        **_record().get("$defs", {}),
        "Verdict": verdict(),
        "Problem": PROBLEM,
        "JudgeName": {"enum": [*judges, None]},
        "RubricName": {"enum": [*rubrics, None]},
        "RowLimit": {"type": ["integer", "null"], "minimum": 1, "maximum": rows},
    }


VERDICT: Schema = {"$ref": "#/components/schemas/Verdict"}
VERDICTS: Schema = {
    "type": "object",
    "required": ["verdicts", "summary"],
    "properties": {"verdicts": {"type": "array", "items": VERDICT}, "summary": SUMMARY},
}


def described(
    answer: Schema | None,
    body: Schema | None = None,
    *,
    status: str = "200",
    failures: tuple[int, ...] = (),
    media: Mapping[str, Schema] = MappingProxyType({}),
    query: Mapping[str, Schema] = MappingProxyType({}),
    sent: str = JSON,
) -> dict[str, Any]:
    """What OpenAPI is told of one operation.

    Args:
        answer: The schema of its answer in JSON, where it gives one.
        body: The schema of its body, where it has one.
        status: The status of its answer.
        failures: Statuses that it may answer besides those that any operation may.
        media: The schemas of its answer in other media types.
        query: Those of the parameters in its query.
        sent: The media type of its body.
    """
    codes = {400, 401, 403, 404, 408, 413, 421, 422, 429, 500, 503, 504, 507, *failures}
    if body is not None:
        codes.add(415)
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    answers = {**({} if answer is None else {JSON: answer}), **media}
    told: dict[str, Any] = {
        "responses": {
            status: {
                "description": "What was asked for.",
                "content": {kind: {"schema": schema} for kind, schema in answers.items()},
            },
            **{
                str(code): {
                    "description": "Why not.",
                    "content": {"application/problem+json": problem},
                }
                for code in sorted(codes)
            },
        }
    }
    if body is not None:
        told["requestBody"] = {"required": True, "content": {sent: {"schema": body}}}
    if query:
        told["parameters"] = [
            {"name": name, "in": "query", "schema": schema} for name, schema in query.items()
        ]
    return told


BINARY: Schema = {"type": "string", "format": "binary"}
FILE: Schema = {**BINARY, "minLength": 1}
OCTETS = "application/octet-stream"
_EVENT: Schema = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["progress", "end"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "The run as it stands; of `end` an empty object.",
        },
    },
    "description": "One event of the stream.",
}
EVENTS = described(None, failures=(409,), media={"text/event-stream": _EVENT})
_TABLES = ("application/x-ndjson", "text/csv", "application/vnd.apache.parquet")
TABLE = described(
    None,
    failures=(409,),
    media=dict.fromkeys(_TABLES, BINARY),
    query={"format": {"enum": ["jsonl", "csv", "parquet"], "default": "jsonl"}},
)
UPLOAD = described(
    {
        "type": "object",
        "required": ["upload", "bytes", "sha256"],
        "properties": {
            "upload": {"type": "string"},
            "bytes": {"type": "integer"},
            "sha256": {"type": "string"},
        },
    },
    FILE,
    status="201",
    query={"format": {"enum": list(FORMATS), "default": "jsonl"}},
    sent=OCTETS,
)
RUN_LIST = described(
    RUNS,
    query={
        "limit": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED},
        "before_s": {"type": "number", "minimum": 1, "maximum": 1e18},
    },
)
