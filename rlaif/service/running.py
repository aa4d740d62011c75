"""`/v1/runs`: make one, see how far it is, fetch its verdicts, cancel it, do it again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from rlaif.candidates import pair_up
from rlaif.canonical import json_bytes
from rlaif.errors import SpecError
from rlaif.service import given, results
from rlaif.service.accounts import Caller
from rlaif.service.bodies import JSON, count_of, only, read_json, text_of
from rlaif.service.config import known
from rlaif.service.errors import Problem
from rlaif.service.guard import caller_of
from rlaif.service.judging import NDJSON
from rlaif.service.runs import ENDED, MOST_LISTED, Run, RunBook
from rlaif.service.state import Service, service_of
from rlaif.service.uploads import uploaded
from rlaif.service.working import folder_of, input_path, source_of
from rlaif.specs.describe import describe
from rlaif.types import Item

_KINDS = ("score", "compare", "rank")
_LOOK_S = 0.5
_ALIVE_S = 15.0
_LONGEST_TITLE = 200
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")


def book_of(request: Request) -> RunBook:
    """The runs of the service that a request came to."""
    found: RunBook = request.app.state.book
    return found


def run_of(request: Request) -> Run:
    """The run that a request names.

    Raises:
        Problem: there is none, it is somebody else's, or the caller may not judge.
    """
    return book_of(request).get(request.path_params["run_id"], caller_of(request, "judge"))


async def make(request: Request) -> Response:
    """Make a run, which waits for its turn."""
    service, caller = service_of(request), caller_of(request, "judge")
    body = await read_json(request)
    only(body, "kind", "judge", "rubric", "data", "limit", "pairs", "budget_usd", "title")
    work = await asyncio.to_thread(_work, service, caller, body)
    title = (text_of(body, "title") or f"{work['kind']} by {work['judge']}")[:_LONGEST_TITLE]
    run = book_of(request).add(caller, title, work)
    return _told(run, 201)


async def listed(request: Request) -> Response:
    """The caller's runs, newest first; an admin's list has everybody's."""
    caller = caller_of(request, "judge")
    asked = {"limit": _number(request, "limit")}
    limit = count_of(asked, "limit", MOST_LISTED, "a count of runs") or 50
    found = book_of(request).listed(caller, limit, before_of(request))
    return Response(json_bytes({"runs": [run.as_dict() for run in found]}), media_type=JSON)


def before_of(request: Request) -> float | None:
    """The time before which the runs of a list were made, where a request names one.

    Raises:
        SpecError: it is no time.
    """
    before = _number(request, "before_s")
    if before is not None and not 1 <= before <= 1e18:
        raise SpecError("is a number from 1 to 1e+18", field="before_s")
    return before


async def show(request: Request) -> Response:
    """How far a run is."""
    return _told(run_of(request))


async def cancel(request: Request) -> Response:
    """End a run early: what is in flight is finished and kept."""
    return _told(book_of(request).cancel(run_of(request)))


async def again(request: Request) -> Response:
    """Do a run again: it asks only for what it has no reply to."""
    body = await read_json(request)
    only(body, "budget_usd")
    return _told(book_of(request).again(run_of(request), _amount(body, "budget_usd")))


async def events(request: Request) -> Response:
    """Server-sent events: `progress` whenever something changed, and `end`."""
    book, caller, run = book_of(request), caller_of(request, "judge"), run_of(request)

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
    run = run_of(request)
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
    if kind == given.VERDICTS:
        return _given(service, caller, body)
    if kind not in _KINDS:
        known_kinds = ", ".join((*_KINDS, given.VERDICTS))
        raise SpecError(f"is one of {known_kinds}, not {describe(kind)}", field="kind")
    judge = text_of(body, "judge") or "default"
    rubric = _rubric(service, judge, text_of(body, "rubric"))
    most = service.config.limits.rows
    limit = count_of(body, "limit", most, "a count of rows")
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


def _rubric(service: Service, judge: str, named: str | None) -> str:
    """The rubric of a run by `judge`, which may be nobody.

    Raises:
        ConfigError: there is no such judge, or the rubric is not allowed.
    """
    if judge != given.PEOPLE:
        return service.bench.check(judge, named)
    if named is None:
        return service.bench.check(next(iter(service.bench.configs)))
    known(named, service.bench.rubrics, "rubric")
    return named


def _given(service: Service, caller: Caller, body: Mapping[str, Any]) -> dict[str, Any]:
    """What a run does that takes verdicts made elsewhere.

    Raises:
        SpecError: a field is wrong, or the data holds no verdicts.
    """
    for name in ("judge", "rubric", "pairs", "budget_usd"):
        if body.get(name) is not None:
            raise SpecError("is for runs that judge", field=name)
    data = _data(service, caller, body.get("data"))
    most = service.config.limits.rows
    limit = count_of(body, "limit", most, "a count of rows") or most
    work = given.work_of(source_of(service, caller.id, data))
    return {**work, "data": data, "limit": limit, "budget_usd": None}


def _data(service: Service, caller: Caller, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) != 1 or not {*value} <= {"upload", "path"}:
        raise SpecError('is {"upload": ID} or {"path": PATH}', field="data")
    if (name := text_of(value, "upload")) is not None:
        return {"upload": name, "name": uploaded(service.root, caller, name)}
    path = text_of(value, "path") or ""
    input_path(service.config.inputs, path)
    return {"path": path}


def _amount(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise SpecError(f"is an amount of US dollars, not {describe(value)}", field=name)
    return float(value)


def _number(request: Request, name: str) -> float | None:
    """The number of a parameter, written as JSON has it; None where it is absent."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise SpecError("is no number", field=name)
    return float(text)


def _told(run: Run, status: int = 200) -> Response:
    return Response(json_bytes(run.as_dict()), status, media_type=JSON)
