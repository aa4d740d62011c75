"""The service as an ASGI application.

app = build_app(service, door)
uvicorn.run(app)
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from rlaif import __version__
from rlaif.canonical import json_bytes
from rlaif.errors import RlaifError
from rlaif.service import (
    about,
    judging,
    labelling,
    pages,
    rewarding,
    running,
    schemas,
    signing_in,
    uploads,
)
from rlaif.service.bodies import JSON
from rlaif.service.errors import Problem, problem_of
from rlaif.service.guard import Door, Guard, log_bug, told
from rlaif.service.indexing import Indexer
from rlaif.service.judging import NDJSON
from rlaif.service.rewarding import Remembered
from rlaif.service.runs import RunBook
from rlaif.service.state import Service
from rlaif.service.working import Worker
from rlaif.store.locks import Claims

Handler = Callable[[Request], Awaitable[Response]]

_WHAT = (
    "Verdicts and rewards of the judges that this server offers. The body of an answer is the "
    "verdict record; what has no verdict says why, and is never a number."
)


def build_app(service: Service, door: Door) -> ASGIApp:
    """The application of `service`, closed with its own end.

    Args:
        service: What it serves.
        door: Where it is reached, and by whom.
    """

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        worker = Worker(service, book, indexer.ready)
        work = asyncio.create_task(worker.work())
        try:
            yield
        finally:
            worker.stop()
            await work
            await indexer.stop()
            claims.close()
            await service.aclose()

    claims = Claims(service.root / "claims")
    book = RunBook(service.database, claims, service.config.limits)
    indexer = Indexer(service.root)
    app = Starlette(
        routes=[_route(one) for one in OPERATIONS],
        exception_handlers=_FAILURES,
        lifespan=life,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.book = book
    app.state.indexer = indexer
    app.state.sessions = door.sessions
    app.state.remembered = Remembered()
    return Guard(app, door, service.config.limits, service.metrics)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API."""

    method: str
    path: str
    handler: Handler
    tag: str
    told: Mapping[str, Any] | None
    """What OpenAPI is told of it; None where it is no part of that."""


_PAGES: dict[str, Handler] = {
    "/": pages.home,
    "/login": signing_in.login,
    "/static/{name}": pages.static,
    "/flips": pages.flips,
    "/runs/{run_id}": pages.run,
    "/runs/{run_id}/label": labelling.label,
    "/runs/{run_id}/report": pages.report,
    "/runs/{run_id}/verdicts": pages.verdicts,
    "/runs/{run_id}/verdicts/{n:int}": pages.verdict,
}


def _operations() -> Iterator[Operation]:
    """Every operation; those that are asked most often come first."""
    described = schemas.described
    paid = (402, 502, 504)
    for work in ("score", "compare", "rank"):
        answer = {"oneOf": [schemas.VERDICT, schemas.VERDICTS]}
        judged = described(answer, schemas.items_of(work), failures=paid, also=(NDJSON,))
        yield Operation("POST", f"/v1/{work}", getattr(judging, work), "judge", judged)
    for path, handler, answer, body in (
        ("/get_reward", rewarding.get_reward, schemas.REWARD_GOT, schemas.GET_REWARD),
        ("/v1/rewards", rewarding.rewards, schemas.REWARDS_GIVEN, schemas.REWARDS),
        ("/compare", rewarding.compare_group, schemas.GROUP_COMPARED, schemas.COMPARE_GROUP),
    ):
        yield Operation("POST", path, handler, "train", described(answer, body, failures=paid))
    made = described(schemas.RUN, schemas.NEW_RUN, status="201")
    yield Operation("POST", "/v1/uploads", uploads.upload, "runs", schemas.UPLOAD)
    yield Operation("POST", "/v1/runs", running.make, "runs", made)
    yield Operation("GET", "/v1/runs", running.listed, "runs", schemas.RUN_LIST)
    one, changed = "/v1/runs/{run_id}", described(schemas.RUN, failures=(409,))
    anew = described(schemas.RUN, schemas.AGAIN, failures=(409,))
    yield Operation("GET", one, running.show, "runs", described(schemas.RUN))
    yield Operation("POST", f"{one}/cancel", running.cancel, "runs", changed)
    yield Operation("POST", f"{one}/rerun", running.again, "runs", anew)
    yield Operation("GET", f"{one}/events", running.events, "runs", schemas.EVENTS)
    yield Operation("GET", f"{one}/verdicts", running.verdicts, "runs", schemas.TABLE)
    put = described({"type": "object"}, schemas.LABEL, failures=(409,))
    people = described(schemas.LISTED, failures=(409,))
    forgotten = described({"type": "object"}, failures=(409,))
    yield Operation("POST", f"{one}/labels", labelling.put_label, "people", put)
    yield Operation("GET", f"{one}/labels", labelling.labels, "people", schemas.LINES)
    yield Operation("POST", f"{one}/labels/undo", labelling.undo_label, "people", forgotten)
    yield Operation("GET", f"{one}/annotators", labelling.annotators, "people", people)
    for name in ("models", "rubrics", "constitutions"):
        listed = described(schemas.LISTED)
        yield Operation("GET", f"/v1/{name}", getattr(about, name), "about", listed)
    for name in ("healthz", "readyz"):
        alive = described({"type": "object"})
        yield Operation("GET", f"/{name}", getattr(about, name), "about", alive)
    yield Operation("GET", "/metrics", about.metrics, "about", None)
    yield Operation("GET", "/openapi.json", _openapi, "about", None)
    for path, shown in _PAGES.items():
        yield Operation("GET", path, shown, "pages", None)
    yield Operation("POST", "/login", signing_in.login, "pages", None)
    yield Operation("POST", "/logout", signing_in.logout, "pages", None)


def _route(one: Operation) -> Route:
    async def answer(request: Request) -> Response:
        request.scope.setdefault("state", {})["route"] = one.path  # for the counts
        return await one.handler(request)

    return Route(one.path, answer, methods=[one.method])


async def _openapi(_: Request) -> Response:
    """The API in OpenAPI's own words."""
    return Response(_described(), media_type=JSON)


@cache
def _described() -> bytes:
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        if one.told is None:
            continue
        said = (one.handler.__doc__ or "").strip()
        named = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", one.path)
        ]
        paths.setdefault(one.path, {})[one.method.lower()] = {
            "operationId": one.handler.__name__,
            "summary": said.partition("\n")[0],
            "tags": [one.tag],
            **one.told,
            "parameters": [*named, *one.told.get("parameters", ())],
        }
    return json_bytes(
        {
            "openapi": "3.1.0",
            "info": {"title": "rlaif", "version": __version__, "description": _WHAT},
            "paths": paths,
            "components": {
                "schemas": schemas.components(),
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"token": []}, {}],
        }
    )


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return told(error, request.scope)


async def _failure(request: Request, error: Exception) -> Response:
    assert isinstance(error, RlaifError)
    return told(problem_of(error), request.scope)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = told(Problem(error.status_code, str(error.detail)), request.scope)
    response.headers.update(error.headers or {})
    return response


async def _bug(request: Request, error: Exception) -> Response:
    log_bug(request.url.path, error)
    return told(Problem(500, "the service failed; see its log"), request.scope)


_FAILURES: Mapping[Any, Any] = {
    Problem: _problem,
    RlaifError: _failure,
    HTTPException: _refusal,
    Exception: _bug,
}
OPERATIONS = tuple(_operations())
"""The whole API."""
