"""`/v1/score`, `/v1/compare`, `/v1/rank`: one item or a batch, at once or as verdicts come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from rlaif.canonical import json_bytes
from rlaif.errors import RlaifError
from rlaif.runner import Tally
from rlaif.service.bodies import JSON, asked, read_json
from rlaif.service.errors import problem_of
from rlaif.service.guard import caller_of
from rlaif.service.judges import Seat
from rlaif.service.state import Service, service_of
from rlaif.specs.items import read_data
from rlaif.store.lines import verdict_bytes
from rlaif.types import Candidate, Comparison, Item, Verdict

NDJSON = "application/x-ndjson"
Work = Literal["score", "compare", "rank"]
Judged = tuple[Item, tuple[Candidate, ...]]

_AT_ONCE = 1024
"""Items of one request that are worked on together; each judge's pace is kept beside that."""


async def score(request: Request) -> Response:
    """The grade of one response, or of a batch."""
    return await _answer(request, "score")


async def compare(request: Request) -> Response:
    """Which of two responses is better, asked in both orders; or of a batch of pairs."""
    return await _answer(request, "compare")


async def rank(request: Request) -> Response:
    """The order of the responses to a prompt, by comparing pairs of them; or of a batch."""
    return await _answer(request, "rank")


async def _answer(request: Request, work: Work) -> Response:
    service, caller = service_of(request), caller_of(request, "judge")
    wanted = asked(await read_json(request), service.config.limits.batch)
    items = list(read_data(wanted.rows, work))
    seat = service.bench.seat(wanted.judge, wanted.rubric, caller.id, service.budget(caller))
    judge = asker(seat, work)
    if wanted.single:
        verdict = await judge(items[0])
        service.judged([verdict])
        return Response(verdict_bytes(verdict), media_type=JSON)
    if NDJSON in request.headers.get("accept", ""):
        return StreamingResponse(_lines(service, judge, items), media_type=NDJSON)
    return await _batch(service, judge, items)


def asker(seat: Seat, work: Work) -> Callable[[Judged], Awaitable[Verdict]]:
    """What judges one item with its candidates.

    Raises:
        ConfigError: the judge does no such work.
    """
    if work == "score":
        grader = seat.pointwise
        return lambda pair: grader.score(pair[0], pair[1][0])
    if work == "compare":
        comparer = seat.pairwise
        return lambda pair: comparer.compare(Comparison(pair[0], *pair[1]))
    ranker = seat.tournament
    return lambda pair: ranker.rank(*pair)


async def _batch(
    service: Service,
    judge: Callable[[Judged], Awaitable[Verdict]],
    items: Sequence[Judged],
) -> Response:
    found: dict[int, Verdict] = {}
    tally = Tally()
    async for place, verdict in as_they_come(items, judge):
        found[place] = verdict
        tally.add(verdict)
    service.judged(found.values())
    verdicts = [orjson.Fragment(verdict_bytes(found[place])) for place in range(len(items))]
    summary = tally.summary()
    return Response(json_bytes({"verdicts": verdicts, "summary": summary}), media_type=JSON)


async def _lines(
    service: Service, judge: Callable[[Judged], Awaitable[Verdict]], items: Sequence[Judged]
) -> AsyncIterator[bytes]:
    """Verdict records as they come, one a line; a failure that ends them all is the last line."""
    try:
        async for _, verdict in as_they_come(items, judge):
            service.judged([verdict])
            yield verdict_bytes(verdict) + b"\n"
    except RlaifError as error:
        problem = problem_of(error)
        yield json_bytes({"error": {"status": problem.status, "detail": problem.detail}}) + b"\n"


async def as_they_come(
    items: Sequence[Judged], judge: Callable[[Judged], Awaitable[Verdict]]
) -> AsyncIterator[tuple[int, Verdict]]:
    """The place and the verdict of each item, as they are done.

    Raises:
        BackendError: a fatal one; what was under way is then cancelled.
    """
    waiting = iter(enumerate(items))
    running: dict[asyncio.Future[Verdict], int] = {}

    def begin() -> None:
        for place, item in waiting:
            running[asyncio.ensure_future(judge(item))] = place
            if len(running) >= _AT_ONCE:
                return

    try:
        begin()
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                yield running.pop(one), one.result()
            begin()
    finally:
        left: list[asyncio.Future[Any]] = list(running)
        for one in left:
            one.cancel()
        await asyncio.gather(*left, return_exceptions=True)
