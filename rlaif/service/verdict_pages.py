"""The pages of a run's verdicts: a list that is searched and filtered, and one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rlaif.preferences.pairs import HeldBack, Rules, pairs_from
from rlaif.report.browser import READINGS, entry_inside
from rlaif.report.run_entries import entry_of
from rlaif.report.text import escape
from rlaif.service.errors import Problem
from rlaif.service.index import PAGE, Filter, Row, VerdictIndex
from rlaif.service.layout import choice, link, page_of, paging
from rlaif.service.pages import done_run, indexer_of, number_of, page_number, waiting
from rlaif.service.state import service_of
from rlaif.service.working import folder_of
from rlaif.types import Verdict

_FACETS = ("reading", "category", "model")


async def verdicts(request: Request) -> Response:
    """The verdicts of a run, 25 a page, searched and filtered."""
    found = done_run(request)
    if not indexer_of(request).ready(found.id):
        return waiting(request, found)
    query = _query(request)
    wanted, number = Filter(*query.values()), page_number(request)
    here = f"/runs/{found.id}/verdicts"

    def look() -> tuple[int, list[Row], dict[str, list[tuple[str, int]]]]:
        with VerdictIndex(folder_of(service_of(request).root, found.id)) as index:
            facets = {name: index.facet(name) for name in _FACETS}
            return index.count(wanted), index.listed(wanted, PAGE * (number - 1)), facets

    count, rows, facets = await asyncio.to_thread(look)
    filters = "".join(
        choice(name, name, _facet_values(name, values), query[name])
        for name, values in facets.items()
        if values
    )
    listed = "".join(_verdict_row(link(f"{here}/{row.n}", **query), row) for row in rows)
    last = max(1, -(-count // PAGE))
    body = (
        f'<p class="crumb"><a href="/runs/{found.id}">{escape(found.title)}</a></p>'
        f'<h1>Verdicts</h1><form class="panel" role="search" action="{here}"><label>Words'
        f'<input type="search" name="q" value="{escape(query["q"])}"></label>{filters}'
        f"<button>Show</button></form><p>{count:,} verdict{'' if count == 1 else 's'}</p>"
        f'<ul class="list">{listed}</ul>{paging(here, number, last, **query)}'
    )
    return page_of(request.scope, f"Verdicts of {found.title}", body)


async def verdict(request: Request) -> Response:
    """One verdict: both orders side by side, the raw replies, the training rows it gives.

    Those before and after it are the next ones of the list that it was opened from.
    """
    found = done_run(request)
    if not indexer_of(request).ready(found.id):
        return waiting(request, found)
    number, query = number_of(request.path_params["n"]), _query(request)

    def look() -> tuple[Verdict | None, tuple[int | None, int | None]]:
        with VerdictIndex(folder_of(service_of(request).root, found.id)) as index:
            return index.verdict(number), index.beside(Filter(*query.values()), number)

    record, beside = await asyncio.to_thread(look)
    if record is None:
        raise Problem(404, "the run has no such verdict")
    entry = entry_of(record)
    here = f"/runs/{found.id}/verdicts"
    before, after = (
        f'<a rel="{rel}" href="{link(f"{here}/{n}", **query)}">{text}</a>' if n else ""
        for rel, text, n in zip(("prev", "next"), ("Previous", "Next"), beside, strict=True)
    )
    body = (
        f'<p class="crumb"><a href="/runs/{found.id}">{escape(found.title)}</a> · '
        f'<a href="{link(here, **query)}">Verdicts</a></p>'
        f'<h1 dir="auto">{escape(entry.title[:300])}</h1>'
        f'<p class="subtitle"><span class="badge {entry.color}">{escape(entry.badge)}</span> '
        f'{escape(entry.figure)}</p><h2 class="spoken">What was judged</h2>{entry_inside(entry)}'
        f"{_training_rows(record)}"
        f'<nav class="pages" aria-label="Verdicts">{before}'
        f"<span>{number:,} of {found.total or found.done:,}</span>{after}</nav>"
    )
    return page_of(request.scope, entry.title[:100], body)


def _query(request: Request) -> dict[str, str]:
    """Which verdicts a request wants, as its query says it: the fields of a filter in order."""
    return {name: request.query_params.get(name, "")[:400] for name in ("q", *_FACETS)}


def _verdict_row(there: str, row: Row) -> str:
    return (
        f'<li><a href="{there}"><span class="badge {escape(row.color)}">'
        f'{escape(row.badge)}</span><span class="name" dir="auto">{escape(row.title)}</span>'
        f'<span class="side">{escape(row.figure)}</span>'
        f'<span class="below" dir="auto">{escape(row.snippet)}</span></a></li>'
    )


def _facet_values(name: str, values: list[tuple[str, int]]) -> list[tuple[str, str]]:
    called: Mapping[Any, str] = READINGS if name == "reading" else {}
    return [("", "all"), *((one, f"{called.get(one, one)} ({count:,})") for one, count in values)]


def _training_rows(record: Verdict) -> str:
    """The preference rows that a verdict gives, or why it gives none."""
    if record.kind == "score":
        return ""
    parts = []
    for row in pairs_from([record], Rules()):
        if isinstance(row, HeldBack):
            parts.append(f"<p>Held back: {escape(row.reason.replace('_', ' '))}.</p>")
        else:
            chosen, rejected = (_name(record, text) for text in (row.chosen, row.rejected))
            parts.append(
                f"<p>Chosen {escape(chosen)}, rejected {escape(rejected)}; P(chosen) "
                f"{row.p_chosen:.2f}, margin {row.margin:.2f}.</p>"
            )
    return f"<h2>Training rows</h2>{''.join(parts)}"


def _name(record: Verdict, response: object) -> str:
    for letter, candidate in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", record.candidates, strict=False):
        if candidate.response == response:
            return f"{letter} ({candidate.model or candidate.id})"
    return "another"
