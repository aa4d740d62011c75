"""What the service is and has: health, counts, judges, rubrics, constitutions."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rlaif.canonical import json_bytes
from rlaif.errors import RlaifError, StoreError
from rlaif.service.bodies import JSON
from rlaif.service.errors import Problem
from rlaif.service.guard import caller_of
from rlaif.service.metrics import CONTENT_TYPE
from rlaif.service.running import book_of
from rlaif.service.state import service_of


async def healthz(request: Request) -> Response:
    """That the process answers."""
    return _said({"status": "ok"})


async def readyz(request: Request) -> Response:
    """That it can work: its database and its reply store answer."""
    service = service_of(request)
    try:
        service.database.row("SELECT count(*) FROM tokens")
        service.store.kept(["0" * 64])
    except RlaifError as error:
        raise Problem(503, f"not ready: {type(error).__name__}", retry_after_s=5) from None
    return _said({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Counts for Prometheus."""
    caller_of(request, "judge")
    counts = service_of(request).metrics
    try:
        runs = book_of(request).counts()
    except StoreError:  # the others are still worth having
        runs = {}
    return Response(counts.text(runs), media_type=CONTENT_TYPE)


async def models(request: Request) -> Response:
    """The judges that requests may name: their models, rubrics and methods."""
    caller_of(request, "judge")
    bench = service_of(request).bench
    listed = [
        {
            "judge": name,
            "model": config.model,
            "rubric": bench.check(name),
            "method": config.method,
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
        }
        for name, config in bench.configs.items()
    ]
    return _said({"models": listed})


async def rubrics(request: Request) -> Response:
    """The rubrics that requests may name."""
    caller_of(request, "judge")
    listed = [
        {
            "name": rubric.name,
            "version": rubric.version,
            "digest": rubric.digest,
            "description": rubric.description,
            "source": rubric.source,
            "reference": rubric.reference,
            "criteria": [
                {
                    "name": criterion.name,
                    "weight": criterion.weight,
                    "question": criterion.question,
                    "scale": {"min": criterion.scale.min, "max": criterion.scale.max},
                }
                for criterion in rubric.criteria
            ],
        }
        for rubric in service_of(request).bench.rubrics.values()
    ]
    return _said({"rubrics": listed})


async def constitutions(request: Request) -> Response:
    """The constitutions that come with rlaif."""
    from rlaif.specs.constitution import load_constitution
    from rlaif.specs.shipped import shipped_files

    caller_of(request, "judge")
    listed = [
        {
            "name": one.name,
            "version": one.version,
            "digest": one.digest,
            "description": one.description,
            "source": one.source,
            "principles": [principle.name for principle in one.principles],
        }
        for one in map(load_constitution, shipped_files("constitutions"))
    ]
    return _said({"constitutions": listed})


def _said(value: dict[str, Any]) -> Response:
    return Response(json_bytes(value), media_type=JSON)
