"""Pages for people: runs with live progress, verdicts one by one, two runs side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from rlaif.preferences.pairs import HeldBack, Rules, pairs_from
from rlaif.report.browser import entry_inside
from rlaif.report.run_entries import entry_of
from rlaif.report.text import escape, inline
from rlaif.service import given, layout
from rlaif.service.errors import Problem
from rlaif.service.guard import caller_of
from rlaif.service.index import PAGE, Filter, Flip, Row, VerdictIndex
from rlaif.service.indexing import Indexer
from rlaif.service.label_pages import to_judge
from rlaif.service.layout import choice, figures, link, page, paging
from rlaif.service.running import book_of
from rlaif.service.runs import ENDED, Run
from rlaif.service.state import service_of
from rlaif.service.working import folder_of
from rlaif.types import Verdict

_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox allow-top-navigation-by-user-activation"
)
"""The report's own policy, which is stricter, stands in the report."""
_READINGS = {
    "failed": "no verdict",
    "inconsistent": "orders disagree",
    "tie": "tie",
    "decided": "decided",
}
_ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    b'<path fill="#0067a3" d="M2 13h12v1H2zM7.5 2h1v10h-1zM3 4h10v1H3z"/>'
    b'<path fill="#0067a3" d="M1 9l2.5-4L6 9zm9 0 2.5-4L15 9z"/></svg>'
)


async def static(request: Request) -> Response:
    """The style sheet, the script and the icon of all pages."""
    kinds: dict[str, tuple[Callable[[], bytes], str]] = {
        "page.css": (layout.style, "text/css; charset=utf-8"),
        "page.js": (layout.script, "text/javascript; charset=utf-8"),
        "icon.svg": (lambda: _ICON, "image/svg+xml"),
    }
    found = kinds.get(request.path_params["name"])
    if found is None:
        raise Problem(404, "there is no such file")
    return Response(found[0](), media_type=found[1])


async def home(request: Request) -> Response:
    """The runs, newest first, and a form for a new one."""
    caller, bench = caller_of(request), service_of(request).bench
    if not caller.may("judge"):
        return to_judge(request)
    runs = book_of(request).listed(caller, 200)
    rows = "".join(_run_row(run) for run in runs)
    listed = f'<ul class="list">{rows}</ul>' if runs else "<p>There are none yet.</p>"
    rubrics = [("", "the judge's own"), *((name, name) for name in bench.rubrics)]
    kinds = [
        ("score", "grade each response"),
        ("compare", "compare pairs"),
        ("rank", "rank"),
        (given.VERDICTS, "take verdicts made elsewhere"),
    ]
    judges = [*((name, name) for name in bench.configs), (given.PEOPLE, "nobody: for people")]
    others = [(run.id, f"{run.title} ({run.id[:6]})") for run in runs if run.state == "done"]
    form = (
        '<h2 id="new">New run</h2><form class="panel new-run" aria-labelledby="new">'
        '<label>Data set<input type="file" name="file" required></label>'
        f"{choice('kind', 'What to do', kinds)}"
        f"{choice('judge', 'Judge', judges)}"
        f"{choice('rubric', 'Rubric', rubrics)}"
        '<label>Most US dollars<input name="budget" type="number" min="0" step="any"></label>'
        '<label>Title<input name="title" maxlength="200"></label>'
        '<button class="main">Make the run</button></form><p class="message" role="alert"></p>'
    )
    against = ""
    if len(others) > 1:
        one = choice("a", "One", others)
        other = choice("b", "The other", others, others[1][0])
        against = (
            '<h2 id="two">Two runs side by side</h2><form class="panel" action="/flips" '
            f'aria-labelledby="two">{one}{other}<button>Compare</button></form>'
        )
    return _page(request, "Runs", f"<h1>Runs</h1>{listed}{form}{against}")


async def run(request: Request) -> Response:
    """One run: how far it is, what came of it, and where to look closer."""
    found = _run(request)
    live = "" if found.state in ENDED else ' data-live="yes"'
    total = f" of {found.total:,}" if found.total is not None else ""
    shown = {
        "state": ("state", found.state),
        "done": ("judged", f"{found.done:,}{total}"),
        "coverage": ("coverage", f"{found.ok / found.done if found.done else 1.0:.1%}"),
        "cost": ("cost", f"${found.cost_usd:.4f}"),
    }
    bar = ""
    if live:
        most = found.total or max(1, found.done)
        bar = f'<progress aria-label="judged" value="{found.done}" max="{most}"></progress>'
    here = f"/runs/{found.id}"
    actions = []
    if found.state == "done":
        actions += [f'<a class="button" href="{here}/verdicts">Verdicts</a>']
        actions += [f'<a class="button" href="{here}/report">Report</a>']
        if found.work["kind"] in ("compare", "score"):
            if caller_of(request).may("annotate"):
                ask = "Judge pairs" if found.work["kind"] == "compare" else "Rate responses"
                actions += [f'<a class="button" href="{here}/label">{ask}</a>']
            actions += [f'<a class="button" href="{here}/people">People</a>']
        actions += [
            f'<a class="button" href="/v1{here}/verdicts?format={form}">{form.upper()}</a>'
            for form in ("jsonl", "csv")
        ]
    actions.append(
        '<button data-do="rerun">Run again</button>'
        if found.state in ENDED
        else '<button data-do="cancel">Cancel</button>'
    )
    work = found.work
    told = f"{work['kind']} by `{work['judge']}`, rubric `{work['rubric']}`, run {found.id}"
    causes = (found.summary or {}).get("causes") or {}
    why = ", ".join(f"{count:,} {cause.replace('_', ' ')}" for cause, count in causes.items())
    body = (
        f'<div data-run="{escape(found.id)}"{live}><h1 dir="auto">{escape(found.title)}</h1>'
        f'<p class="subtitle">{inline(told)}</p>{figures(shown)}{bar}'
        f"{f'<p>Without a verdict: {escape(why)}.</p>' if why else ''}"
        f'<p class="message" role="alert">{escape(found.error or "")}</p>'
        f'<div class="actions">{"".join(actions)}</div></div>'
    )
    return _page(request, found.title, body)


async def report(request: Request) -> Response:
    """The report of a run: its leaderboard, its biases, its coverage and cost."""
    found = _done(request)
    if not _indexer(request).ready(found.id):
        return _waiting(request, found)
    path = folder_of(service_of(request).root, found.id) / "report.html"
    if not path.is_file():
        if _indexer(request).busy(found.id):
            return _waiting(request, found)
        raise Problem(409, "the run has no report: it holds no verdicts of one kind")
    content = await asyncio.to_thread(path.read_bytes)
    policy = {"Content-Security-Policy": _REPORT_POLICY}
    return Response(content, 200, policy, media_type=layout.HTML)


async def verdicts(request: Request) -> Response:
    """The verdicts of a run, 25 a page, searched and filtered."""
    found = _done(request)
    if not _indexer(request).ready(found.id):
        return _waiting(request, found)
    asked = request.query_params
    q, reading, category, model = (
        asked.get(name, "")[:400] for name in ("q", "reading", "category", "model")
    )
    wanted = Filter(q, reading, category, model)
    number = _page_number(request)
    here = f"/runs/{found.id}/verdicts"

    def look() -> tuple[int, list[Row], dict[str, list[tuple[str, int]]]]:
        with VerdictIndex(folder_of(service_of(request).root, found.id)) as index:
            facets = {name: index.facet(name) for name in ("reading", "category", "model")}
            return index.count(wanted), index.listed(wanted, PAGE * (number - 1)), facets

    count, rows, facets = await asyncio.to_thread(look)
    chosen = {"reading": reading, "category": category, "model": model}
    filters = "".join(
        choice(name, name, _facet_values(name, values), chosen[name])
        for name, values in facets.items()
        if values
    )
    query = {"q": q, **chosen}
    listed = "".join(_verdict_row(here, row) for row in rows)
    last = max(1, -(-count // PAGE))
    body = (
        f'<p class="crumb"><a href="/runs/{found.id}">{escape(found.title)}</a></p>'
        f'<h1>Verdicts</h1><form class="panel" role="search" action="{here}"><label>Words'
        f'<input type="search" name="q" value="{escape(q)}"></label>{filters}'
        f"<button>Show</button></form><p>{count:,} verdicts</p>"
        f'<ul class="list">{listed}</ul>{paging(here, number, last, **query)}'
    )
    return _page(request, f"Verdicts of {found.title}", body)


async def verdict(request: Request) -> Response:
    """One verdict: both orders side by side, the raw replies, the training rows it gives."""
    found = _done(request)
    if not _indexer(request).ready(found.id):
        return _waiting(request, found)
    number = _number(request.path_params["n"])

    def look() -> Verdict | None:
        with VerdictIndex(folder_of(service_of(request).root, found.id)) as index:
            return index.verdict(number)

    record = await asyncio.to_thread(look)
    if record is None:
        raise Problem(404, "the run has no such verdict")
    entry = entry_of(record)
    here = f"/runs/{found.id}/verdicts"
    before = f'<a rel="prev" href="{here}/{number - 1}">Previous</a>' if number > 1 else ""
    total = found.total or found.done
    after = f'<a rel="next" href="{here}/{number + 1}">Next</a>' if number < total else ""
    body = (
        f'<p class="crumb"><a href="/runs/{found.id}">{escape(found.title)}</a> · '
        f'<a href="{here}">Verdicts</a></p><h1 dir="auto">{escape(entry.title[:300])}</h1>'
        f'<p class="subtitle"><span class="badge {entry.color}">{escape(entry.badge)}</span> '
        f'{escape(entry.figure)}</p><h2 class="spoken">What was judged</h2>{entry_inside(entry)}'
        f"{_training_rows(record)}"
        f'<nav class="pages" aria-label="Verdicts">{before}<span>{number:,} of {total:,}</span>'
        f"{after}</nav>"
    )
    return _page(request, entry.title[:100], body)


async def flips(request: Request) -> Response:
    """Two runs side by side: what came out differently."""
    book, caller = book_of(request), caller_of(request, "judge")
    one, other = (book.get(request.query_params.get(name, ""), caller) for name in "ab")
    indexer = _indexer(request)
    for found in (one, other):
        if found.state != "done":
            raise Problem(409, f"the run {found.id} is {found.state}")
        if not indexer.ready(found.id):
            return _waiting(request, found)
    number, root = _page_number(request), service_of(request).root

    def look() -> tuple[int, int, list[Flip]]:
        with VerdictIndex(folder_of(root, one.id)) as index:
            return index.against(folder_of(root, other.id), PAGE * (number - 1))

    shared, flipped, rows = await asyncio.to_thread(look)
    listed = "".join(
        f'<li><a href="/runs/{one.id}/verdicts/{row.n}"><span class="badge">'
        f"{escape(row.outcome[:60])} → {escape(row.other_outcome[:60])}</span>"
        f'<span class="name" dir="auto">{escape(row.title)}</span>'
        f'<span class="below" dir="auto">{escape(row.snippet)}</span></a></li>'
        for row in rows
    )
    share = f" ({flipped / shared:.1%})" if shared else ""
    last = max(1, -(-flipped // PAGE))
    body = (
        f"<h1>What differs</h1><p>{flipped:,} of {shared:,} that both runs judged{share} came out "
        f'differently: <a href="/runs/{one.id}">{escape(one.title)}</a> → '
        f'<a href="/runs/{other.id}">{escape(other.title)}</a>.</p><ul class="list">{listed}</ul>'
        f"{paging('/flips', number, last, a=one.id, b=other.id)}"
    )
    return _page(request, "What differs", body)


def _page(request: Request, title: str, body: str) -> Response:
    state = request.scope["state"]
    return page(title, body, code=state.get("code", ""), who=state.get("who", ""))


def _waiting(request: Request, found: Run) -> Response:
    body = f'<h1>{escape(found.title)}</h1><p data-waits="yes">The verdicts are being indexed …</p>'
    return _page(request, found.title, body)


def _run(request: Request) -> Run:
    return book_of(request).get(request.path_params["run_id"], caller_of(request, "judge"))


def _done(request: Request) -> Run:
    found = _run(request)
    if found.state != "done":
        raise Problem(409, f"the run is {found.state}: its verdicts are not all there")
    return found


def _indexer(request: Request) -> Indexer:
    found: Indexer = request.app.state.indexer
    return found


def _page_number(request: Request) -> int:
    return max(1, _number(request.query_params.get("page", "1")))


def _number(text: str) -> int:
    """The number that `text` says; 0, which nothing has, where it is none or too long."""
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _run_row(run: Run) -> str:
    total = f" of {run.total:,}" if run.total is not None else ""
    work = run.work
    return (
        f'<li><a href="/runs/{run.id}"><span class="badge {run.state}">{run.state}</span>'
        f'<span class="name" dir="auto">{escape(run.title)}</span>'
        f'<span class="side">{run.done:,}{total}</span><span class="below">'
        f"{escape(work['kind'])} by {escape(work['judge'])}, ${run.cost_usd:.4f}</span></a></li>"
    )


def _verdict_row(here: str, row: Row) -> str:
    return (
        f'<li><a href="{link(f"{here}/{row.n}")}"><span class="badge {escape(row.color)}">'
        f'{escape(row.badge)}</span><span class="name" dir="auto">{escape(row.title)}</span>'
        f'<span class="side">{escape(row.figure)}</span>'
        f'<span class="below" dir="auto">{escape(row.snippet)}</span></a></li>'
    )


def _facet_values(name: str, values: list[tuple[str, int]]) -> list[tuple[str, str]]:
    shown = [
        (value, f"{_READINGS.get(value, value) if name == 'reading' else value} ({count:,})")
        for value, count in values
    ]
    return [("", "all"), *shown]


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
