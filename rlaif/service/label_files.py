"""Labels as files: what people said of a run, and labels brought from elsewhere, all or none."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from rlaif.canonical import json_bytes
from rlaif.errors import SpecError
from rlaif.evals.formats import ImportReport, import_verdicts
from rlaif.evals.formats.argilla import write as argilla_records
from rlaif.evals.formats.exports import ExportReport
from rlaif.evals.formats.labels import flat, person
from rlaif.evals.people import score_of, vote_of
from rlaif.service.bodies import JSON
from rlaif.service.errors import Problem
from rlaif.service.files import csv_parts
from rlaif.service.index import VerdictIndex
from rlaif.service.judging import NDJSON
from rlaif.service.labelling import Desk, desk_of, labels_given, told
from rlaif.service.labels import Label, checked_reason, record
from rlaif.specs.rubric import Criterion
from rlaif.types import Candidate, Score, Shown, Verdict

FORMATS = ("jsonl", "csv", "argilla")
"""How labels go out: verdict records, a flat table, Argilla's records."""
BROUGHT = ("csv", "tsv", "jsonl", "argilla")
"""How they come in: flat rows of the format `labels`, or Argilla's records."""

_FLIPPED = {"A": "B", "B": "A"}


async def labels(request: Request) -> Response:
    """What people said of a run, as verdict records by `human/NAME`, a CSV table, or Argilla's."""
    desk = desk_of(request, own=True)
    form = request.query_params.get("format", "jsonl")
    if form not in FORMATS:
        raise SpecError(f"is one of {', '.join(FORMATS)}", field="format")
    given = labels_given(desk)

    def records() -> Iterator[Verdict]:
        with VerdictIndex(desk.folder) as index:
            for one in given:
                judged = index.verdict(one.n)
                if judged is not None:
                    yield record(judged, one)

    if form == "jsonl":
        lines = (json_bytes(one.as_dict()) + b"\n" for one in records())
        return StreamingResponse(lines, media_type=NDJSON)
    name = f"{desk.run.id}-labels.{'csv' if form == 'csv' else 'json'}"
    said = {"Content-Disposition": f'attachment; filename="{name}"'}
    if form == "csv":
        return StreamingResponse(_table(records), media_type="text/csv", headers=said)
    made = await asyncio.to_thread(lambda: list(argilla_records(records(), ExportReport())))
    return Response(json_bytes(made), headers=said, media_type=JSON)


def _table(records: Callable[[], Iterable[Verdict]]) -> Iterator[str]:
    """The flat rows as CSV, in parts."""
    columns = list(dict.fromkeys(name for one in records() for name in flat(one)))
    return csv_parts(columns, (map(flat(one).get, columns) for one in records()))


async def bring_labels(request: Request) -> Response:
    """Keep labels of a file, all of them or none: each row must fit an item of the run.

    A label that is there already is left as it is where the file says the same; where it says
    otherwise the whole file is refused, or with `replace=yes` the file's is kept.
    """
    desk = desk_of(request, own=True)
    form = request.query_params.get("format", "csv")
    if form not in BROUGHT:
        raise SpecError(f"is one of {', '.join(BROUGHT)}", field="format")
    replacing = request.query_params.get("replace", "no")
    if replacing not in ("yes", "no"):
        raise SpecError("is yes or no", field="replace")
    content = await request.body()
    if not content:
        raise Problem(400, "the body is empty")
    kept = await asyncio.to_thread(_bring, desk, content, form, replacing == "yes")
    return told(kept)


def _bring(desk: Desk, content: bytes, form: str, replacing: bool) -> dict[str, int]:
    """How many labels of a file are kept, and how many were there already."""
    found = _read(desk, content, form)
    with desk.book.transaction():
        before = {(one.n, one.name): one for one in desk.book.of(desk.run.id)}
        fresh = [one for one in found if not _same(before.get((one.n, one.name)), one)]
        other = next((one for one in fresh if (one.n, one.name) in before), None)
        if other is not None and not replacing:
            message = f"{other.name} said otherwise of item {other.n}; replace=yes replaces it"
            raise Problem(409, message)
        for one in fresh:
            desk.book.keep(desk.run.id, one)
    return {"kept": len(fresh), "same": len(found) - len(fresh)}


def _same(before: Label | None, now: Label) -> bool:
    if before is None or (before.choice, before.reason) != (now.choice, now.reason):
        return False
    one, other = (x.score and (x.score.value, x.score.criteria) for x in (before, now))
    return one == other


def _read(desk: Desk, content: bytes, form: str) -> list[Label]:
    """The labels in a file.

    Raises:
        SpecError: a row does not fit the format, or no item of the run.
    """
    name, ending = ("argilla", "json") if form == "argilla" else ("labels", form)
    with tempfile.TemporaryDirectory() as folder, VerdictIndex(desk.folder) as index:
        path = Path(folder, f"labels.{ending}")
        path.write_bytes(content)
        report = ImportReport()
        given = import_verdicts(name, [path], report=report)
        try:
            return [_placed(desk, index, one) for one in given]
        except SpecError as error:
            line = error.line or report.line
            raise SpecError(error.message, line=line, field=error.field) from None


def _placed(desk: Desk, index: VerdictIndex, given: Verdict) -> Label:
    """A label of the run: that item of it which the record is about."""
    who = person(given)
    wanted = f"item {given.item.id!r} by {who}"
    if given.kind != ("score" if desk.graded else "comparison"):
        raise SpecError(f"{wanted} is a {given.kind}, which this run is not of", field="id")
    turn = str(given.item.meta.get("turn", ""))
    matches = []
    for n in index.queues.of_item(given.item.id):
        judged = index.verdict(n)
        if judged is None or (turn and str(judged.item.meta.get("turn", "")) != turn):
            continue
        turned = _turned(given.candidates, judged.candidates)
        if turned is not None:
            matches.append((n, judged, turned))
    if len(matches) != 1:
        many = "several items of the run" if matches else "no item of the run"
        raise SpecError(f"{wanted} fits {many}", field="id")
    n, judged, turned = matches[0]
    reason = checked_reason(given.rationale or "")
    if given.score is not None:
        score = _score(given.score, desk.criteria(judged, index), wanted)
        return Label(n, who, "rated", "AB", reason, score)
    said = vote_of(given)
    assert said is not None
    shown: Shown = given.preference.orders[0].shown if given.preference else "AB"
    if turned:
        said = cast("Any", _FLIPPED.get(said, said))
        shown = "BA" if shown == "AB" else "AB"
    return Label(n, who, cast("Any", said), shown, reason)


def _turned(given: Sequence[Candidate], judged: Sequence[Candidate]) -> bool | None:
    """Whether candidates are the same the other way round; None where they are others."""
    if all(_fits(one, other) for one, other in zip(given, judged, strict=True)):
        return False
    if len(given) == 2 and all(_fits(a, b) for a, b in zip(given[::-1], judged, strict=True)):
        return True
    return None


def _fits(given: Candidate, judged: Candidate) -> bool:
    """Whether a label is about a response: what it tells of it must be so."""
    if given.response and given.response != judged.response:
        return False
    named = given.model or given.id
    return named in (judged.model, judged.id) or bool(given.response)


def _score(given: Score, criteria: Sequence[Criterion], wanted: str) -> Score:
    """A score in the run's own criteria."""
    grades = {name: grade.get("value") for name, grade in (given.criteria or {}).items()}
    if not grades and len(criteria) == 1:
        scale = criteria[0].scale
        passed = scale.max - scale.min == 1 and (given.min, given.max) == (0, 1)
        if not passed and (given.min, given.max) != (scale.min, scale.max):
            ends = f"{given.min:g} to {given.max:g}, not {scale.min} to {scale.max}"
            raise SpecError(f"{wanted} is on a scale from {ends}", field="score")
        grades = {criteria[0].name: given.value + (scale.min if passed else 0)}
    try:
        return score_of(grades, criteria)
    except SpecError as error:
        raise SpecError(f"{wanted}: {error.message}", field=error.field) from None
