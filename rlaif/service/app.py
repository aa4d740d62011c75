"""The service as an ASGI application.

app = build_app(service, door)
uvicorn.run(app)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rlaif.canonical import json_bytes
from rlaif.errors import RlaifError
from rlaif.service import (
    about,
    judging,
    label_pages,
    label_schemas,
    pages,
    reward_schemas,
    rewarding,
    running,
    schemas,
    signing_in,
    uploads,
    verdict_pages,
)
from rlaif.service.bodies import JSON
from rlaif.service.errors import Problem, problem_of
from rlaif.service.guard import Door, Guard, log_bug, told
from rlaif.service.indexing import Indexer
from rlaif.service.judging import NDJSON
from rlaif.service.openapi import Handler, Operation, document
from rlaif.service.rewarding import Remembered
from rlaif.service.runs import RunBook
from rlaif.service.state import Service, service_of
from rlaif.service.working import Worker


def build_app(service: Service, door: Door) -> ASGIApp:
    """The application of `service`, closed with its own end.

    Args:
        service: What it serves.
        door: Where it is reached, and by whom.
    """

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        worker = Worker(service, book, indexer.renew)
        work = asyncio.create_task(worker.work())
        try:
            yield
        finally:
            worker.stop()
            await work
            await indexer.stop()
            claims.close()
            await service.aclose()

    claims = service.database.held(service.root)
    book = RunBook(service.database, claims, service.config.limits)
    indexer = Indexer(service.root)
    app = Starlette(
        routes=list(_routes()),
        exception_handlers=_FAILURES,
        lifespan=life,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.book = book
    app.state.indexer = indexer
    app.state.sessions = door.sessions
    app.state.open = door.open
    app.state.remembered = Remembered()
    return Guard(_Direct(app), door, service.config.limits, service.metrics)


_PAGES: dict[str, Handler] = {
    "/": pages.home,
    "/login": signing_in.login,
    "/static/{name}": pages.static,
    "/flips": pages.flips,
    "/runs/{run_id}": pages.run,
    "/runs/{run_id}/label": label_pages.label,
    "/runs/{run_id}/people": label_pages.people,
    "/runs/{run_id}/report": pages.report,
    "/runs/{run_id}/verdicts": verdict_pages.verdicts,
    "/runs/{run_id}/verdicts/{n}": verdict_pages.verdict,
}


def _operations() -> Iterator[Operation]:
    """Every operation; those that are asked most often come first."""
    described = schemas.described
    paid = (402, 502, 504)
    for work in ("score", "compare", "rank"):
        answer = {"oneOf": [schemas.VERDICT, schemas.VERDICTS]}
        judged = described(answer, schemas.items_of(work), failures=paid, media={NDJSON: {}})
        yield Operation("POST", f"/v1/{work}", getattr(judging, work), "judge", judged)
    for path, handler, answer, body in (
        ("/get_reward", rewarding.get_reward, reward_schemas.REWARD_GOT, reward_schemas.GET_REWARD),
        ("/v1/rewards", rewarding.rewards, reward_schemas.REWARDS_GIVEN, reward_schemas.REWARDS),
        (
            "/compare",
            rewarding.compare_group,
            reward_schemas.GROUP_COMPARED,
            reward_schemas.COMPARE_GROUP,
        ),
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
    yield from label_schemas.operations()
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


def _routes() -> Iterator[Route]:
    """One for each path, so that a wrong method is told all that are right."""
    by_path: dict[str, dict[str, Handler]] = {}
    for one in OPERATIONS:
        by_path.setdefault(one.path, {})[one.method] = one.handler
    for path, handlers in by_path.items():
        yield _route(path, handlers)


def _route(path: str, handlers: Mapping[str, Handler]) -> Route:
    async def answer(request: Request) -> Response:
        request.scope.setdefault("state", {})["route"] = path  # for the counts
        method = "GET" if request.method == "HEAD" else request.method
        return await handlers[method](request)

    return Route(path, answer, methods=[*handlers])


class _Direct:
    """Takes requests to paths that are the same for all straight to what answers them.

    Trainers ask those thousands of times a second, and the way through the router and its layers
    takes as long as to read an item. All else goes that way.
    """

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._handlers = {
            (one.method, one.path): one.handler for one in OPERATIONS if "{" not in one.path
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handlers.get((scope.get("method", ""), scope.get("path", "")))
        if handler is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        scope.setdefault("state", {})["route"] = scope["path"]
        request = Request(scope, receive, send)
        try:
            response = await handler(request)
        except Problem as problem:
            response = told(problem, scope)
        except RlaifError as error:
            response = told(problem_of(error), scope)
        await response(scope, receive, send)


async def _openapi(request: Request) -> Response:
    """The API in OpenAPI's own words."""
    service = service_of(request)
    told = document(
        OPERATIONS,
        judges=service.bench.configs,
        rubrics=service.bench.rubrics,
        rows=service.config.limits.rows,
        open_to_all=request.app.state.open(),
    )
    return Response(json_bytes(told), media_type=JSON)


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
