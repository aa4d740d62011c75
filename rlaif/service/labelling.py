"""People judge pairs blind: one page, five keys, and what they said as verdict records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from rlaif.canonical import json_bytes
from rlaif.errors import SpecError
from rlaif.report.run_entries import conversation
from rlaif.report.text import escape, said
from rlaif.service.bodies import JSON, only, read_json
from rlaif.service.errors import Problem
from rlaif.service.guard import caller_of
from rlaif.service.index import NAME, Queue, VerdictIndex
from rlaif.service.judging import NDJSON
from rlaif.service.labels import Label, LabelBook, agreement, gold_of, record, shown_order
from rlaif.service.layout import choice, page
from rlaif.service.running import book_of
from rlaif.service.runs import Run
from rlaif.service.state import service_of
from rlaif.service.working import folder_of
from rlaif.specs.rubric import Rubric
from rlaif.types import Verdict, Winner

_KEYS = (
    ("first", "1", "First is better"),
    ("second", "2", "Second is better"),
    ("tie", "0", "Equally good"),
    ("bad", "x", "Both bad"),
    ("skip", "s", "Skip"),
)
_QUEUES = [
    ("random", "a random sample"),
    ("unsure", "where the judge was least sure"),
    ("failed", "where the judge gave no verdict"),
]


async def label(request: Request) -> Response:
    """The next pair for whoever looks, without its models and in a random order."""
    found, caller = _run(request), caller_of(request, "annotate")
    queue = request.query_params.get("queue", "random")
    if queue not in get_args(Queue):
        raise SpecError(f"is one of {', '.join(get_args(Queue))}", field="queue")
    book, folder = _labels(request), folder_of(service_of(request).root, found.id)
    given = book.of(found.id, caller.name)
    done = {one.n for one in given}

    def look() -> tuple[int | None, Verdict | None, list[dict[str, Any]]]:
        with VerdictIndex(folder) as index:
            n = next((n for n in index.queue(queue) if n not in done), None)  # type: ignore[arg-type]
            return n, index.verdict(n) if n else None, _agreement(index, given)

    n, judged, mine = await asyncio.to_thread(look)
    told = mine[0] if mine else None
    counted = f"{told['n'] if told else 0:,} judged"
    if told and told["judge_n"]:
        counted += f", {told['judge_agreement']:.0%} as the judge ({told['judge_n']:,})"
    queues = choice("queue", "Queue", _QUEUES, queue)
    form = f'<form class="panel">{queues}<button>Go</button></form>'
    if judged is None or n is None:
        body = f"<h1>Nothing is left</h1><p>{counted}.</p>{form}"
    else:
        rubric = service_of(request).bench.rubrics.get(found.work["rubric"])
        body = _task(found, n, judged, shown_order(found.id, n, caller.name), rubric, counted)
        body += form
    state = request.scope["state"]
    return page("Judge pairs", body, code=state.get("code", ""), who=state.get("who", ""))


async def put_label(request: Request) -> Response:
    """Keep one choice: `n`, `choice` (first, second, tie, bad or skip) and perhaps a `reason`."""
    found, caller = _run(request), caller_of(request, "annotate")
    body = await read_json(request)
    only(body, "n", "choice", "reason")
    n = body.get("n")
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= found.done:
        raise SpecError(f"is a place in the run, 1 to {found.done:,}", field="n")
    made = _labels(request).put(
        found.id, n, caller.name, body.get("choice"), body.get("reason") or ""
    )
    return _told({"n": made.n, "choice": made.choice, "shown": made.shown})


async def undo_label(request: Request) -> Response:
    """Forget the caller's last choice in the run."""
    found, caller = _run(request), caller_of(request, "annotate")
    return _told({"n": _labels(request).undo(found.id, caller.name)})


async def labels(request: Request) -> Response:
    """What people said of a run, as verdict records by `human/NAME`, one a line."""
    found = _run(request)
    given = [one for one in _labels(request).of(found.id) if one.choice != "skip"]
    folder = folder_of(service_of(request).root, found.id)

    def lines() -> Iterator[bytes]:
        with VerdictIndex(folder) as index:
            for one in given:
                judged = index.verdict(one.n)
                if judged is not None:
                    yield json_bytes(record(judged, one).as_dict()) + b"\n"

    return StreamingResponse(lines(), media_type=NDJSON)


async def annotators(request: Request) -> Response:
    """Of each person how many pairs they judged, and how often as the judge and as others did."""
    found = _run(request)
    given = _labels(request).of(found.id)
    folder = folder_of(service_of(request).root, found.id)

    def look() -> list[dict[str, Any]]:
        with VerdictIndex(folder) as index:
            return _agreement(index, given)

    return _told({"annotators": await asyncio.to_thread(look)})


def _task(
    run: Run, n: int, judged: Verdict, shown: str, rubric: Rubric | None, counted: str
) -> str:
    pair = judged.candidates if shown == "AB" else judged.candidates[::-1]
    sides = "".join(
        f"<section><h2>{title}</h2>{said(one.text)}</section>"
        for title, one in zip(("First", "Second"), pair, strict=True)
    )
    buttons = "".join(
        f'<button data-choice="{name}" data-key="{key}"><kbd>{key}</kbd> {text}</button>'
        for name, key, text in _KEYS
    )
    asked = "".join(f"<li>{escape(one.question)}</li>" for one in rubric.criteria) if rubric else ""
    return (
        f'<h1>Which response is better?</h1><p class="subtitle">{counted}</p>'
        f'<ul>{asked}</ul><div data-label="{escape(run.id)}" data-n="{n}">'
        f"<h2>Prompt</h2>{said(conversation(judged.item.prompt))}"
        f'<div class="entry"><div class="sides two">{sides}</div></div>'
        '<label>Why, if you like<input name="reason" maxlength="4000"></label>'
        f'<div class="actions">{buttons}<button data-undo data-key="u"><kbd>u</kbd> Undo</button>'
        '</div><p class="message" role="alert"></p></div>'
    )


def _agreement(index: VerdictIndex, given: list[Label]) -> list[dict[str, Any]]:
    """How far people agree with the judge, with each other, and with what is known."""
    winners: dict[int, Winner] = {}
    gold: dict[int, Winner] = {}
    for n in {one.n for one in given}:
        judged = index.verdict(n)
        if judged is None:
            continue
        if judged.preference is not None:
            winners[n] = judged.preference.winner
        if (known := gold_of(judged)) is not None:
            gold[n] = known
    return list(agreement(given, winners, gold))


def _run(request: Request) -> Run:
    """A run of comparisons that is done and indexed, the caller's own or for anybody's judgment."""
    caller = caller_of(request)
    found = book_of(request).shown(request.path_params["run_id"], caller)
    if found.state != "done" or found.work["kind"] != "compare":
        raise Problem(409, "people judge the pairs of a comparison that is done")
    if not (folder_of(service_of(request).root, found.id) / NAME).is_file():
        request.app.state.indexer.ready(found.id)
        raise Problem(409, "the run is being indexed: come back in a moment", retry_after_s=5)
    return found


def _labels(request: Request) -> LabelBook:
    return LabelBook(service_of(request).database)


def _told(value: dict[str, object]) -> Response:
    return Response(json_bytes(value), media_type=JSON)
