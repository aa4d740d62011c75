"""Pages for people: runs with live progress, verdicts one by one, two runs side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from rlaif.report.text import escape, inline
from rlaif.service import given, layout
from rlaif.service.errors import Problem
from rlaif.service.guard import caller_of
from rlaif.service.index import PAGE, Flip, VerdictIndex
from rlaif.service.indexing import Indexer
from rlaif.service.label_pages import to_judge
from rlaif.service.layout import choice, figures, link, page_of, paging
from rlaif.service.running import before_of, book_of, run_of
from rlaif.service.runs import ENDED, Run
from rlaif.service.state import service_of
from rlaif.service.working import folder_of

_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox allow-top-navigation-by-user-activation"
)
"""The report's own policy, which is stricter, stands in the report."""
_MOST_RUNS = 200
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
    runs = book_of(request).listed(caller, _MOST_RUNS, before_of(request))
    rows = "".join(_run_row(run) for run in runs)
    listed = f'<ul class="list">{rows}</ul>' if runs else "<p>There are none yet.</p>"
    if len(runs) == _MOST_RUNS:
        older = link("/", before_s=runs[-1].created_s)
        listed += f'<nav class="pages"><a rel="next" href="{older}">Older runs</a></nav>'
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
    return page_of(request.scope, "Runs", f"<h1>Runs</h1>{listed}{form}{against}")


async def run(request: Request) -> Response:
    """One run: how far it is, what came of it, and where to look closer."""
    found = run_of(request)
    live = "" if found.state in ENDED else ' data-live="yes"'
    total = f" of {found.total:,}" if found.total is not None else ""
    shown = {
        "state": ("state", found.state),
        "done": ("judged", f"{found.done:,}{total}"),
        "coverage": ("coverage", f"{found.ok / found.done:.1%}" if found.done else "–"),
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
    if why:
        why = f"Without a verdict: {why}."
    if work["judge"] == given.PEOPLE and not work.get("given"):
        why = "No judge is asked: this is for people to judge."
    body = (
        f'<div data-run="{escape(found.id)}"{live}><h1 dir="auto">{escape(found.title)}</h1>'
        f'<p class="subtitle">{inline(told)}</p>{figures(shown)}{bar}'
        f"{f'<p>{escape(why)}</p>' if why else ''}"
        f'<p class="message" role="alert">{escape(found.error or "")}</p>'
        f'<div class="actions">{"".join(actions)}</div></div>'
    )
    return page_of(request.scope, found.title, body)


async def report(request: Request) -> Response:
    """The report of a run: its leaderboard, its biases, its coverage and cost."""
    found = done_run(request)
    if not indexer_of(request).ready(found.id):
        return waiting(request, found)
    path = folder_of(service_of(request).root, found.id) / "report.html"
    if not path.is_file():
        if indexer_of(request).busy(found.id):
            return waiting(request, found)
        raise Problem(409, "the run has no report: it holds no verdicts of one kind")
    content = await asyncio.to_thread(path.read_bytes)
    policy = {"Content-Security-Policy": _REPORT_POLICY}
    return Response(content, 200, policy, media_type=layout.HTML)


async def flips(request: Request) -> Response:
    """Two runs side by side: what came out differently."""
    book, caller = book_of(request), caller_of(request, "judge")
    one, other = (book.get(request.query_params.get(name, ""), caller) for name in "ab")
    indexer = indexer_of(request)
    for found in (one, other):
        if found.state != "done":
            raise Problem(409, f"the run {found.id} is {found.state}")
        if not indexer.ready(found.id):
            return waiting(request, found)
    number, root = page_number(request), service_of(request).root

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
    both = " → ".join(f'<a href="/runs/{run.id}">{escape(run.title)}</a>' for run in (one, other))
    told = f"{flipped:,} of {shared:,} that both runs judged{share} came out differently: {both}."
    if not shared:
        told = f"There is nothing that both runs judged: {both}."
    body = (
        f'<h1>What differs</h1><p>{told}</p><ul class="list">{listed}</ul>'
        f"{paging('/flips', number, last, a=one.id, b=other.id)}"
    )
    return page_of(request.scope, "What differs", body)


def waiting(request: Request, found: Run) -> Response:
    """What is shown while a run is indexed; it looks again by itself."""
    body = f'<h1>{escape(found.title)}</h1><p data-waits="1.5">The verdicts are being indexed …</p>'
    return page_of(request.scope, found.title, body)


def done_run(request: Request) -> Run:
    """The run that a request names.

    Raises:
        Problem: it is not done, or not to be had.
    """
    found = run_of(request)
    if found.state != "done":
        raise Problem(409, f"the run is {found.state}: its verdicts are not all there")
    return found


def indexer_of(request: Request) -> Indexer:
    """What indexes the runs of the service that a request came to."""
    found: Indexer = request.app.state.indexer
    return found


def page_number(request: Request) -> int:
    """Which page of a list a request wants, from 1."""
    return max(1, number_of(request.query_params.get("page", "1")))


def number_of(text: str) -> int:
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
