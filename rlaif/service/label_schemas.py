"""The API by which people judge: its operations, and what OpenAPI is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from rlaif.service import label_files, labelling
from rlaif.service.judging import NDJSON
from rlaif.service.labels import LONGEST_REASON, Pressed
from rlaif.service.openapi import Operation
from rlaif.service.queues import QUEUES, SURE
from rlaif.service.schemas import BINARY, FILE, LISTED, OCTETS, Schema, described
from rlaif.service.tasks import MOST

_REASON: Schema = {"type": ["string", "null"], "maxLength": LONGEST_REASON}
_PLACE: Schema = {"type": "integer", "minimum": 1}
_LEVEL: Schema = {"type": "integer"}
_SHARE: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_MAYBE: Schema = {"type": ["number", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}

LABEL: Schema = {
    "oneOf": [
        {
            "type": "object",
            "required": ["n", "choice"],
            "properties": {
                "n": _PLACE,
                "choice": {"enum": list(get_args(Pressed))},
                "reason": _REASON,
            },
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
        "overlap": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST},
        "gold_every": {"type": ["integer", "null"], "minimum": 2, "maximum": MOST},
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
_SURE: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": SURE}


_OUT = described(
    {"type": "array", "items": {"type": "object"}},
    failures=(409,),
    media=dict.fromkeys((NDJSON, "text/csv"), BINARY),
    query={"format": {"enum": list(label_files.FORMATS), "default": "jsonl"}},
)
_BROUGHT = described(
    BROUGHT,
    FILE,
    failures=(409,),
    query={
        "format": {"enum": list(label_files.BROUGHT), "default": "csv"},
        "replace": {"enum": ["yes", "no"], "default": "no"},
    },
    sent=OCTETS,
)


def operations() -> Iterator[Operation]:
    """What people, and whoever collects their labels, may ask."""
    one, conflict = "/v1/runs/{run_id}", (409,)
    against: dict[str, Schema] = {"sure": _SURE, "other": {"type": "string"}}
    queue: Schema = {"enum": list(QUEUES), "default": "random"}
    task = described(TASK, failures=conflict, query={"queue": queue, **against})
    sizes = described(LISTED, failures=conflict, query=against)
    for method, path, handler, told in (
        ("POST", "labels", labelling.put_label, described(KEPT, LABEL, failures=conflict)),
        ("GET", "labels", label_files.labels, _OUT),
        ("GET", "labels/next", labelling.next_label, task),
        ("POST", "labels/undo", labelling.undo_label, described(UNDONE, failures=conflict)),
        ("POST", "labels/import", label_files.bring_labels, _BROUGHT),
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
