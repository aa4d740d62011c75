"""The API in OpenAPI's own words, as one service offers it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rlaif import __version__
from rlaif.service import schemas

Handler = Callable[[Request], Awaitable[Response]]

_WHAT = (
    "Verdicts and rewards of the judges that this server offers. The body of an answer is the "
    "verdict record; what has no verdict says why, and is never a number."
)
_PUBLIC = frozenset({"healthz", "readyz"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API."""

    method: str
    path: str
    handler: Handler
    tag: str
    told: Mapping[str, Any] | None
    """What OpenAPI is told of it; None where it is no part of that."""


def document(
    operations: Iterable[Operation],
    *,
    judges: Iterable[str],
    rubrics: Iterable[str],
    rows: int,
    open_to_all: bool,
) -> dict[str, Any]:
    """The OpenAPI document of a service.

    Args:
        operations: What it does.
        judges: The names of its judges.
        rubrics: The names of its rubrics.
        rows: Most rows of a run.
        open_to_all: Whether it needs no token.
    """
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        if one.told is not None:
            paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, one.told)
    return {
        "openapi": "3.1.0",
        "info": {"title": "rlaif", "version": __version__, "description": _WHAT},
        "paths": paths,
        "components": {
            "schemas": schemas.components(judges, rubrics, rows),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}] if open_to_all else [{"token": []}],
    }


def _operation(one: Operation, told: Mapping[str, Any]) -> dict[str, Any]:
    name = one.handler.__name__
    said = (one.handler.__doc__ or "").strip()
    inside = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", one.path)
    ]
    return {
        "operationId": name,
        "summary": said.partition("\n")[0],
        "tags": [one.tag],
        **told,
        "parameters": [*inside, *told.get("parameters", ())],
        **({"security": []} if name in _PUBLIC else {}),
    }
