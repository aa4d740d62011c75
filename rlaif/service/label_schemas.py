"""The API by which people judge: its operations, and what OpenAPI is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlaif.service import label_files, labelling
from rlaif.service.openapi import Operation
from rlaif.service.queues import QUEUES
from rlaif.service.schemas import LISTED, Schema, described

_REASON: Schema = {"type": ["string", "null"], "maxLength": 4000}
_PLACE: Schema = {"type": "integer", "minimum": 1}
_LEVEL: Schema = {"type": "integer"}
_SHARE: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_MAYBE: Schema = {"type": ["number", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_CHOICES = ["first", "second", "tie", "bad", "skip"]

LABEL: Schema = {
    "oneOf": [
        {
            "type": "object",
            "required": ["n", "choice"],
            "properties": {"n": _PLACE, "choice": {"enum": _CHOICES}, "reason": _REASON},
            "additionalProperties": False,
        },
        {
            "type": "object",
            "required": ["n", "grades"],
            "properties": {
                "n": _PLACE,
                "grades": {"type": "object", "minProperties": 1, "additionalProperties": _LEVEL},
                "reason": _REASON,
            },
            "additionalProperties": False,
        },
    ]
}
KEPT: Schema = {
    "type": "object",
    "required": ["n"],
    "properties": {
        "n": _PLACE,
        "choice": {"enum": ["A", "B", "tie", "bad", "skip"]},
        "shown": {"enum": ["AB", "BA"]},
        "score": {"type": "number"},
    },
}
UNDONE: Schema = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"type": ["integer", "null"], "minimum": 1}},
}
TASK: Schema = {
    "type": "object",
    "required": ["n", "left"],
    "properties": {
        "n": {"type": ["integer", "null"], "minimum": 1},
        "left": _COUNT,
        "kind": {"enum": ["comparison", "score"]},
        "prompt": {"type": "array", "items": {"type": "object"}},
        "reference": {"type": "string"},
        "responses": {"type": "array", "items": {"type": "array", "items": {"type": "object"}}},
        "criteria": {"type": "array", "items": {"type": "object"}},
    },
}
CAMPAIGN: Schema = {
    "type": "object",
    "properties": {
        "overlap": {"type": ["integer", "null"], "minimum": 1, "maximum": 1000},
        "gold_every": {"type": ["integer", "null"], "minimum": 2, "maximum": 1000},
    },
    "additionalProperties": False,
}
_ANNOTATOR: Schema = {
    "type": "object",
    "required": ["name", "n", "others_n", "others_agreement", "others_kappa"],
    "properties": {
        "name": {"type": "string"},
        "n": _COUNT,
        **{f"{with_whom}_n": _COUNT for with_whom in ("judge", "others", "gold")},
        "judge_agreement": _SHARE,
        "others_agreement": _SHARE,
        "gold_accuracy": _SHARE,
        "judge_kappa": _MAYBE,
        "others_kappa": _MAYBE,
    },
}
PEOPLE: Schema = {
    "type": "object",
    "required": ["level", "annotators"],
    "properties": {
        "level": {"type": "number"},
        "annotators": {"type": "array", "items": _ANNOTATOR},
        "items": _COUNT,
        "overlapping": _COUNT,
        "alpha": {"type": ["object", "null"]},
    },
}
BROUGHT: Schema = {
    "type": "object",
    "required": ["kept", "same"],
    "properties": {"kept": _COUNT, "same": _COUNT},
}
_BINARY: Schema = {"type": "string", "format": "binary", "minLength": 1}
_SURE: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.8}


def _with(told: dict[str, Any], **query: Schema) -> dict[str, Any]:
    """`told` of an operation that takes parameters in its query."""
    told["parameters"] = [
        {"name": name, "in": "query", "schema": schema} for name, schema in query.items()
    ]
    return told


def _files() -> tuple[dict[str, Any], dict[str, Any]]:
    """What is told of labels that go out as a file, and of those that come in."""
    out = _with(
        described({}, failures=(409,)),
        format={"enum": list(label_files.FORMATS), "default": "jsonl"},
    )
    out["responses"]["200"]["content"] = {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in ("application/x-ndjson", "text/csv")
    } | {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}}
    brought = _with(
        described(BROUGHT, {}, failures=(409,)),
        format={"enum": list(label_files.BROUGHT), "default": "csv"},
        replace={"enum": ["yes", "no"], "default": "no"},
    )
    content = {"application/octet-stream": {"schema": _BINARY}}
    brought["requestBody"] = {"required": True, "content": content}
    return out, brought


def operations() -> Iterator[Operation]:
    """What people, and whoever collects their labels, may ask."""
    one, conflict = "/v1/runs/{run_id}", (409,)
    name: Schema = {"type": "string"}
    task = _with(
        described(TASK, failures=conflict),
        queue={"enum": list(QUEUES), "default": "random"},
        sure=_SURE,
        other=name,
    )
    sizes = _with(described(LISTED, failures=conflict), sure=_SURE, other=name)
    out, brought = _files()
    for method, path, handler, told in (
        ("POST", "labels", labelling.put_label, described(KEPT, LABEL, failures=conflict)),
        ("GET", "labels", label_files.labels, out),
        ("GET", "labels/next", labelling.next_label, task),
        ("POST", "labels/undo", labelling.undo_label, described(UNDONE, failures=conflict)),
        ("POST", "labels/import", label_files.bring_labels, brought),
        ("GET", "queues", labelling.label_queues, sizes),
        (
            "POST",
            "labelling",
            labelling.put_campaign,
            described(CAMPAIGN, CAMPAIGN, failures=conflict),
        ),
        ("GET", "annotators", labelling.annotators, described(PEOPLE, failures=conflict)),
    ):
        yield Operation(method, f"{one}/{path}", handler, "people", told)
