"""What the API's OpenAPI document says of bodies: plain JSON Schema, true to what is checked."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter

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
_NAME: Schema = {"type": "string", "minLength": 1}
_ITEM: Schema = {
    "prompt": _WORDS,
    "reference": {"type": ["string", "null"]},
    "id": {"type": ["string", "integer", "null"]},
    "meta": {"type": "object"},
}
_BESIDE: Schema = {"judge": _NAME, "rubric": _NAME}
_RESPONSES = {
    "score": {"response": _WORDS},
    "compare": {"response_a": _WORDS, "response_b": _WORDS},
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
                        "properties": {"id": _NAME, "model": _NAME, "response": _WORDS},
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
_MAYBE_NUMBERS = {"type": "array", "items": {"type": ["number", "null"]}}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}

REWARDS: Schema = {
    "type": "object",
    "required": ["prompts", "completions"],
    "properties": {
        "prompts": {"type": "array", "minItems": 1, "items": _WORDS},
        "completions": {"type": "array", "minItems": 1, "items": _WORDS},
        "references": {"type": "array", "items": {"type": ["string", "null"]}},
        "by": {"enum": ["score", "comparison"]},
        "opponents": {"type": ["integer", "null"], "minimum": 1, "maximum": 10_000},
        **_BESIDE,
    },
    "additionalProperties": False,
}
REWARDS_GIVEN: Schema = {
    "type": "object",
    "required": ["rewards", "causes", "cost_usd"],
    "properties": {
        "rewards": _MAYBE_NUMBERS,
        "causes": {"type": "array", "items": {"type": ["string", "null"]}},
        "cost_usd": {"type": "number"},
    },
}
GET_REWARD: Schema = {
    "type": "object",
    "required": ["query", "prompts"],
    "properties": {"query": _TEXTS, "prompts": _TEXTS, "labels": {"type": ["array", "null"]}},
}
REWARD_GOT: Schema = {
    "type": "object",
    "required": ["rewards", "scores", "extra_logs"],
    "properties": {
        "rewards": _NUMBERS,
        "scores": _NUMBERS,
        "extra_logs": {"type": "object", "additionalProperties": _NUMBERS},
    },
}
COMPARE_GROUP: Schema = {
    "type": "object",
    "required": ["conversation_history", "response_objs"],
    "properties": {
        "conversation_history": {"type": "array", "minItems": 1, "items": {"type": "object"}},
        "response_objs": {"type": "array", "minItems": 2, "items": {"type": "object"}},
        "principle": _NAME,
    },
}
GROUP_COMPARED: Schema = {
    "type": "object",
    "required": ["rewards", "comparison_results", "metrics"],
    "properties": {
        "rewards": _NUMBERS,
        "comparison_results": {"type": "array", "items": {"type": "object"}},
        "metrics": {"type": "object", "additionalProperties": {"type": "number"}},
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
        "kind": {"enum": ["score", "compare", "rank"]},
        "data": {
            "oneOf": [
                {
                    "type": "object",
                    "required": [name],
                    "properties": {name: _NAME},
                    "additionalProperties": False,
                }
                for name in ("upload", "path")
            ]
        },
        "limit": {"type": ["integer", "null"], "minimum": 1},
        "pairs": _NAME,
        "budget_usd": _USD,
        "title": _NAME,
        **_BESIDE,
    },
    "additionalProperties": False,
}
AGAIN: Schema = {
    "type": "object",
    "properties": {"budget_usd": _USD},
    "additionalProperties": False,
}
LABEL: Schema = {
    "type": "object",
    "required": ["n", "choice"],
    "properties": {
        "n": {"type": "integer", "minimum": 1},
        "choice": {"enum": ["first", "second", "tie", "bad", "skip"]},
        "reason": {"type": "string", "maxLength": 4000},
    },
    "additionalProperties": False,
}
LISTED: Schema = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": {"type": "object"}},
}


def items_of(work: str) -> Schema:
    """The body of `/v1/score`, `/v1/compare` or `/v1/rank`: an item, or `items`."""
    fields = {**_ITEM, **_RESPONSES[work]}
    required = ["prompt", *_RESPONSES[work]]
    item = {"type": "object", "required": required, "properties": fields}
    return {
        "oneOf": [
            {**item, "properties": {**fields, **_BESIDE}, "not": {"required": ["items"]}},
            {
                "type": "object",
                "required": ["items"],
                "properties": {
                    "items": {"type": "array", "minItems": 1, "items": item},
                    **_BESIDE,
                },
                "additionalProperties": False,
            },
        ]
    }


@cache
def verdict() -> Schema:
    """The verdict record."""
    found = TypeAdapter(Verdict).json_schema(ref_template="#/components/schemas/{model}")
    return {name: value for name, value in found.items() if name != "$defs"}


@cache
def components() -> dict[str, Schema]:
    """The parts that schemas refer to."""
    found = TypeAdapter(Verdict).json_schema(ref_template="#/components/schemas/{model}")
    return {**found.get("$defs", {}), "Verdict": verdict(), "Problem": PROBLEM}


VERDICT: Schema = {"$ref": "#/components/schemas/Verdict"}
VERDICTS: Schema = {
    "type": "object",
    "required": ["verdicts", "summary"],
    "properties": {"verdicts": {"type": "array", "items": VERDICT}, "summary": SUMMARY},
}


def described(
    answer: Schema,
    body: Schema | None = None,
    *,
    status: str = "200",
    failures: tuple[int, ...] = (),
    also: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What OpenAPI is told of one operation.

    Args:
        answer: The schema of its answer.
        body: The schema of its body, where it has one.
        status: The status of its answer.
        failures: Statuses that it may answer besides those that any operation may.
        also: Further media types of its answer.
    """
    codes = {400, 401, 403, 404, 421, 422, 429, 500, 503, *failures}
    if body is not None:
        codes |= {408, 413, 415}
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    told: dict[str, Any] = {
        "responses": {
            status: {
                "description": "What was asked for.",
                "content": {"application/json": {"schema": answer}, **{kind: {} for kind in also}},
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
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return told


def _other(told: dict[str, Any], **media: Schema) -> dict[str, Any]:
    """`told` of an answer in other media types, the names of which have `__` for a slash."""
    content = {kind.replace("__", "/"): {"schema": schema} for kind, schema in media.items()}
    told["responses"]["200"]["content"] = content
    return told


_BINARY: Schema = {"type": "string", "format": "binary"}
EVENTS = _other(described({}, failures=(409,)), **{"text__event-stream": {"type": "string"}})
TABLE = _other(
    described({}, failures=(409,)),
    **{
        "application__x-ndjson": _BINARY,
        "text__csv": _BINARY,
        "application__vnd.apache.parquet": _BINARY,
    },
)
TABLE["parameters"] = [
    {
        "name": "format",
        "in": "query",
        "schema": {"enum": ["jsonl", "csv", "parquet"], "default": "jsonl"},
    }
]
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
    {},
    status="201",
    failures=(507,),
)
UPLOAD["requestBody"] = {
    "required": True,
    "content": {"application/octet-stream": {"schema": _BINARY}},
}
UPLOAD["parameters"] = [
    {"name": "format", "in": "query", "schema": {"type": "string", "default": "jsonl"}}
]
RUN_LIST = described(RUNS)
RUN_LIST["parameters"] = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}},
    {"name": "before_s", "in": "query", "schema": {"type": "number", "minimum": 1}},
]
LINES = _other(described({}, failures=(409,)), **{"application__x-ndjson": _BINARY})
