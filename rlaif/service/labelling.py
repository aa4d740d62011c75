"""People judge blind: the next item, what they said of it, and how far they can be relied on.

A pair is shown in an order drawn for each person, a single response with its rubric; who wrote it,
what the judge said and which items are checks is never told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rlaif.canonical import json_bytes
from rlaif.errors import SpecError
from rlaif.service.accounts import Caller
from rlaif.service.bodies import JSON, count_of, only, read_json
from rlaif.service.errors import Problem
from rlaif.service.guard import caller_of
from rlaif.service.index import NAME, VerdictIndex
from rlaif.service.labels import Label, LabelBook, criteria_of, shown_order
from rlaif.service.queues import Queue
from rlaif.service.reliability import judge_share, reliability
from rlaif.service.running import book_of
from rlaif.service.runs import Run
from rlaif.service.state import service_of
from rlaif.service.tasks import Campaign, Turn, Wanted, campaign_from, wanted_from
from rlaif.service.working import folder_of
from rlaif.specs.rubric import Criterion, Rubric
from rlaif.types import Verdict, as_dict

_KINDS = ("compare", "score")
_GOLD = ("gold", "judge")
"""How the figures begin that only whoever made the run is told."""


@dataclass(frozen=True, slots=True)
class Desk:
    """A run that people judge, and who sits before it."""

    run: Run
    caller: Caller
    folder: Path
    book: LabelBook
    campaign: Campaign
    rubrics: Mapping[str, Rubric]

    @property
    def owns(self) -> bool:
        """Whether the caller may see what the judge said."""
        return self.run.is_of(self.caller)

    @property
    def graded(self) -> bool:
        """Whether single responses are graded, not pairs compared."""
        return bool(self.run.work["kind"] == "score")

    def criteria(self, judged: Verdict, index: VerdictIndex) -> tuple[Criterion, ...]:
        """What one item is judged by; of a pair for reading, and none where that is not known.

        Raises:
            SpecError: a response is to be graded, and nothing in the run tells on which scale.
        """
        if not self.graded:
            rubric = self.rubrics.get(self.run.work["rubric"])
            return rubric.criteria if rubric else ()
        try:
            return criteria_of(judged, self.rubrics)
        except SpecError:
            first = index.queues.first_with_verdict()
            other = index.verdict(first) if first else None
            if other is None:
                raise
            return criteria_of(other, self.rubrics)


@dataclass(frozen=True, slots=True)
class Task:
    """What a person is to judge next."""

    n: int | None
    judged: Verdict | None
    criteria: tuple[Criterion, ...]
    left: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a person is, and how long the queues are."""

    sizes: Mapping[Queue, int]
    done: int
    judge_n: int
    judge_agreement: float | None


def desk_of(request: Request, *, own: bool = False) -> Desk:
    """The run of a request as people judge it.

    Args:
        request: The request.
        own: Whether only who made the run, or an admin, may go on.

    Raises:
        Problem: the caller may not, or the run is not done, not indexed, or a ranking.
    """
    caller = caller_of(request)
    found = book_of(request).shown(request.path_params["run_id"], caller)
    if own and not found.is_of(caller):
        raise Problem(403, "this is for whoever made the run")
    if found.state != "done" or found.work["kind"] not in _KINDS:
        raise Problem(409, "people judge the pairs or the responses of a run that is done")
    service = service_of(request)
    if not request.app.state.indexer.ready(found.id):
        raise Problem(409, "the run is being indexed: come back in a moment", retry_after_s=5)
    campaign = Campaign(**found.work.get("people", {}))
    folder, book = folder_of(service.root, found.id), LabelBook(service.database)
    return Desk(found, caller, folder, book, campaign, service.bench.rubrics)


async def task_of(request: Request, desk: Desk, wanted: Wanted) -> Task:
    """What the caller is to judge next.

    Raises:
        Problem: the other run that the caller names is not to be had.
    """
    other = _other(request, desk, wanted.other) if wanted.other else None
    given = desk.book.of(desk.run.id, desk.caller.name)
    counts = desk.book.counts(desk.run.id) if desk.campaign.overlap else {}
    turn = Turn(desk.run.id, desk.caller.name, [one.n for one in given], counts, desk.campaign)

    def look() -> Task:
        with VerdictIndex(desk.folder) as index:
            found = turn.next(index.queues, wanted, other)
            judged = index.verdict(found.n) if found.n else None
            criteria = desk.criteria(judged, index) if judged else ()
            return Task(found.n, judged, criteria, found.left)

    return await asyncio.to_thread(look)


async def standing_of(request: Request, desk: Desk, wanted: Wanted) -> Standing:
    """How far the caller is.

    Raises:
        Problem: as `task_of`.
    """
    other = _other(request, desk, wanted.other) if wanted.other else None
    given = desk.book.of(desk.run.id, desk.caller.name)

    def look() -> Standing:
        with VerdictIndex(desk.folder) as index:
            said = index.queues.said(one.n for one in given) if desk.owns else {}
            done = sum(one.choice != "skip" for one in given)
            return Standing(index.queues.sizes(wanted.sure, other), done, *judge_share(given, said))

    return await asyncio.to_thread(look)


def _other(request: Request, desk: Desk, name: str) -> Path:
    """The index of another run of the same kind."""
    other = book_of(request).shown(name, desk.caller)
    if other.state != "done" or other.work["kind"] != desk.run.work["kind"]:
        raise Problem(409, "the other run is of another kind, or not done")
    if not request.app.state.indexer.ready(other.id):
        raise Problem(409, "the other run is being indexed: come back soon", retry_after_s=5)
    return folder_of(service_of(request).root, other.id) / NAME


async def next_label(request: Request) -> Response:
    """The next item for whoever asks, without its models, and of a pair in a random order."""
    caller_of(request, "annotate")
    desk, wanted = desk_of(request), wanted_from(request.query_params)
    task = await task_of(request, desk, wanted)
    if task.judged is None or task.n is None:
        return told({"n": None, "left": task.left})
    judged = task.judged
    pair = judged.candidates
    if shown_order(desk.run.id, task.n, desk.caller.name) == "BA":
        pair = pair[::-1]
    shown = {
        "n": task.n,
        "left": task.left,
        "kind": judged.kind,
        "prompt": as_dict(judged.item.prompt),
        "responses": [as_dict(one.response) for one in pair],
        "criteria": [
            {
                "name": one.name,
                "question": one.question,
                "min": one.scale.min,
                "max": one.scale.max,
                "anchors": {str(level): text for level, text in one.scale.anchors.items()},
            }
            for one in task.criteria
        ],
    }
    reference = judged.item.reference
    return told(shown if reference is None else shown | {"reference": reference})


async def put_label(request: Request) -> Response:
    """Keep what a person said of the item `n`: a `choice`, or of one response its `grades`."""
    caller_of(request, "annotate")
    desk, body = desk_of(request), await read_json(request)
    only(body, "n", "choice", "grades", "reason")
    n = count_of(body, "n", desk.run.done, "a place in the run")
    if n is None:
        raise SpecError(f"is a place in the run, 1 to {desk.run.done:,}", field="n")
    reason = "" if body.get("reason") is None else body["reason"]
    if not desk.graded or "grades" not in body:
        if "grades" in body or (desk.graded and body.get("choice") != "skip"):
            wanted = "grades, or the choice skip" if desk.graded else "a choice"
            raise SpecError(f"this run takes {wanted}", field="choice")
        made = desk.book.put(desk.run.id, n, desk.caller.name, body.get("choice"), reason)
        return told({"n": made.n, "choice": made.choice, "shown": made.shown})
    if "choice" in body:
        raise SpecError("goes without grades", field="choice")
    criteria = await asyncio.to_thread(_criteria_at, desk, n)
    made = desk.book.rate(desk.run.id, n, desk.caller.name, body["grades"], criteria, reason)
    assert made.score is not None
    return told({"n": made.n, "score": made.score.value})


def _criteria_at(desk: Desk, n: int) -> tuple[Criterion, ...]:
    with VerdictIndex(desk.folder) as index:
        judged = index.verdict(n)
        if judged is None:
            raise SpecError("the run has no such place", field="n")
        return desk.criteria(judged, index)


async def undo_label(request: Request) -> Response:
    """Forget what the caller said last in the run."""
    caller_of(request, "annotate")
    desk = desk_of(request)
    return told({"n": desk.book.undo(desk.run.id, desk.caller.name)})


async def label_queues(request: Request) -> Response:
    """How many items are in each queue of a run; `against` where another run is named."""
    desk = desk_of(request)
    asked = request.query_params
    wanted = wanted_from({name: asked[name] for name in ("sure", "other") if name in asked})
    other = _other(request, desk, wanted.other) if wanted.other else None

    def look() -> Mapping[Queue, int]:
        with VerdictIndex(desk.folder) as index:
            return index.queues.sizes(wanted.sure, other)

    sizes = await asyncio.to_thread(look)
    listed = [{"queue": name, "size": size} for name, size in sizes.items()]
    return told({"queues": listed})


async def put_campaign(request: Request) -> Response:
    """Say how a run is labelled: by how many each item, and how often a check is mixed in."""
    desk, body = desk_of(request, own=True), await read_json(request)
    only(body, "overlap", "gold_every")
    campaign = campaign_from(body)
    book_of(request).labelled(desk.run, campaign.as_dict())
    return told(campaign.as_dict())


async def annotators(request: Request) -> Response:
    """How far each person agrees with the judge, the others and what is known; and all together.

    Who did not make the run is told of themselves alone, and nothing of the judge or of checks.
    """
    return told(await figures_of(desk_of(request)))


async def figures_of(desk: Desk) -> dict[str, Any]:
    """The reliability of the people of a run, as far as the caller may know it."""
    given = desk.book.of(desk.run.id)

    def look() -> dict[str, Any]:
        with VerdictIndex(desk.folder) as index:
            return reliability(given, index.queues.said({one.n for one in given}))

    found = await asyncio.to_thread(look)
    if desk.owns:
        return found
    mine = [one for one in found["annotators"] if one["name"] == desk.caller.name]
    told_of = [
        {key: value for key, value in one.items() if not key.startswith(_GOLD)} for one in mine
    ]
    return {"level": found["level"], "annotators": told_of}


def labels_given(desk: Desk) -> list[Label]:
    """What everybody said of a run, what was skipped left out."""
    return [one for one in desk.book.of(desk.run.id) if one.choice != "skip"]


def told(value: Mapping[str, object]) -> Response:
    """An answer in JSON."""
    return Response(json_bytes(value), media_type=JSON)
