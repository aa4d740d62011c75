"""`/v1/runs`: make one, see how far it is, fetch its verdicts, cancel it, do it again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from rlaif.candidates import pair_up
from rlaif.canonical import json_bytes
from rlaif.errors import SpecError
from rlaif.service import results
from rlaif.service.accounts import Caller
from rlaif.service.bodies import JSON, only, read_json, text_of
from rlaif.service.errors import Problem
from rlaif.service.guard import caller_of
from rlaif.service.judging import NDJSON
from rlaif.service.runs import ENDED, Run, RunBook
from rlaif.service.state import Service, service_of
from rlaif.service.uploads import uploaded
from rlaif.service.working import folder_of, input_path
from rlaif.specs.describe import describe
from rlaif.types import Item

_KINDS = ("score", "compare", "rank")
_LOOK_S = 0.5
_ALIVE_S = 15.0
_LONGEST_TITLE = 200


def book_of(request: Request) -> RunBook:
    """The runs of the service that a request came to."""
    found: RunBook = request.app.state.book
    return found


async def make(request: Request) -> Response:
    """Make a run, which waits for its turn."""
    service, caller = service_of(request), caller_of(request, "judge")
    body = await read_json(request)
    only(body, "kind", "judge", "rubric", "data", "limit", "pairs", "budget_usd", "title")
    work = _work(service, caller, body)
    title = (text_of(body, "title") or f"{work['kind']} by {work['judge']}")[:_LONGEST_TITLE]
    run = book_of(request).add(caller, title, work)
    return _told(run, 201)


async def listed(request: Request) -> Response:
    """The caller's runs, newest first; an admin's list has everybody's."""
    caller = caller_of(request, "judge")
    limit = _query_number(request, "limit", 50.0, most=1000)
    before = _query_number(request, "before_s", 1e18, most=1e18)
    found = book_of(request).listed(caller, int(limit), before)
    return Response(json_bytes({"runs": [run.as_dict() for run in found]}), media_type=JSON)


async def show(request: Request) -> Response:
    """How far a run is."""
    return _told(_run(request))


async def cancel(request: Request) -> Response:
    """End a run early: what is in flight is finished and kept."""
    return _told(book_of(request).cancel(_run(request)))


async def again(request: Request) -> Response:
    """Do a run again: it asks only for what it has no reply to."""
    body = await read_json(request)
    only(body, "budget_usd")
    return _told(book_of(request).again(_run(request), _amount(body, "budget_usd")))


async def events(request: Request) -> Response:
    """Server-sent events: `progress` whenever something changed, and `end`."""
    book, caller, run = book_of(request), caller_of(request, "judge"), _run(request)

    async def stream() -> AsyncIterator[bytes]:
        told, quiet_s, now = b"", 0.0, run
        while True:
            fresh = json_bytes(now.as_dict())
            if fresh != told:
                told, quiet_s = fresh, 0.0
                yield b"event: progress\ndata: " + fresh + b"\n\n"
            elif quiet_s >= _ALIVE_S:
                quiet_s = 0.0
                yield b": alive\n\n"
            if now.state in ENDED:
                yield b"event: end\ndata: {}\n\n"
                return
            await asyncio.sleep(_LOOK_S)
            quiet_s += _LOOK_S
            now = book.get(run.id, caller)

    return StreamingResponse(stream(), media_type="text/event-stream")


async def verdicts(request: Request) -> Response:
    """The verdicts of a run that is done: JSONL, CSV or Parquet."""
    run = _run(request)
    form = request.query_params.get("format", "jsonl")
    if form not in ("jsonl", "csv", "parquet"):
        raise SpecError("is one of jsonl, csv, parquet", field="format")
    folder = folder_of(service_of(request).root, run.id)
    path = folder / "verdicts.jsonl"
    if run.state != "done" or not path.is_file():
        raise Problem(409, f"the run is {run.state}: its verdicts are not all there")
    name = f"{run.id}.{form}"
    if form == "jsonl":
        return FileResponse(path, media_type=NDJSON, filename=name)
    if form == "parquet":
        made = await asyncio.to_thread(results.parquet, path)
        return FileResponse(made, media_type="application/vnd.apache.parquet", filename=name)
    said = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(results.csv_lines(path), media_type="text/csv", headers=said)


def _work(service: Service, caller: Caller, body: Mapping[str, Any]) -> dict[str, Any]:
    """What a run does, all of it checked.

    Raises:
        SpecError: a field is wrong.
        ConfigError: there is no such judge, rubric or data set, or no such way to pair.
    """
    kind = body.get("kind")
    if kind not in _KINDS:
        raise SpecError(f"is one of {', '.join(_KINDS)}, not {describe(kind)}", field="kind")
    judge = text_of(body, "judge") or "default"
    rubric = service.bench.check(judge, text_of(body, "rubric"))
    limit, most = body.get("limit"), service.config.limits.rows
    if limit is not None and (
        isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= most
    ):
        raise SpecError(f"is a count of rows, 1 to {most:,}", field="limit")
    work: dict[str, Any] = {
        "kind": kind,
        "judge": judge,
        "rubric": rubric,
        "data": _data(service, caller, body.get("data")),
        "limit": limit or most,
        "budget_usd": _amount(body, "budget_usd"),
    }
    if (pairs := text_of(body, "pairs")) is not None:
        if kind != "compare":
            raise SpecError("is for kind compare", field="pairs")
        pair_up(Item("", ()), (), pairs)
        work["pairs"] = pairs
    return work


def _data(service: Service, caller: Caller, given: object) -> dict[str, str]:
    if not isinstance(given, Mapping) or len(given) != 1 or not {*given} <= {"upload", "path"}:
        raise SpecError('is {"upload": ID} or {"path": PATH}', field="data")
    if (name := text_of(given, "upload")) is not None:
        return {"upload": name, "name": uploaded(service.root, caller, name)}
    path = text_of(given, "path") or ""
    input_path(service.config.inputs, path)
    return {"path": path}


def _amount(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise SpecError(f"is an amount of US dollars, not {describe(value)}", field=name)
    return float(value)


def _query_number(request: Request, name: str, usual: float, *, most: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return usual
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value <= most:
        raise SpecError(f"is a number from 1 to {most:g}", field=name)
    return value


def _run(request: Request) -> Run:
    name = request.path_params["run_id"]
    return book_of(request).get(name, caller_of(request, "judge"))


def _told(run: Run, status: int = 200) -> Response:
    return Response(json_bytes(run.as_dict()), status, media_type=JSON)
