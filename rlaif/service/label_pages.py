"""The pages where people judge, and where whoever made the run sees how far they can be relied on.

Everything goes by keyboard: a key for each choice or level, Enter to save several grades, s to
skip, u to undo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rlaif.report.run_entries import conversation
from rlaif.report.text import escape, inline, said
from rlaif.service.guard import caller_of
from rlaif.service.labelling import Desk, Standing, Task, desk_of, figures_of, standing_of, task_of
from rlaif.service.labels import LONGEST_REASON, shown_order
from rlaif.service.layout import choice, page_of
from rlaif.service.queues import Queue
from rlaif.service.running import book_of
from rlaif.service.tasks import MOST, Wanted, wanted_from
from rlaif.specs.rubric import Criterion
from rlaif.types import Verdict

_KEYS = (
    ("first", "1", "First is better"),
    ("second", "2", "Second is better"),
    ("tie", "0", "Equally good"),
    ("bad", "x", "Both bad"),
    ("skip", "s", "Skip"),
)
_QUEUES: dict[Queue, str] = {
    "random": "a random sample",
    "unsure": "where the judge was unsure",
    "split": "where judges of a panel disagree",
    "against": "where another run says otherwise",
    "escalated": "what a cascade left to people",
    "failed": "where the judge gave no verdict",
}
_MOST_KEYS = 10
"""Levels that have a key each; of more, the level is typed."""
_CHECKS = (
    "A check is an item whose data has `gold`: A, B or tie for a pair; for a response the right "
    "level, a list of right levels, or either by the name of a criterion."
)
_FILES = {"jsonl": "verdict records", "csv": "CSV", "argilla": "Argilla records"}


def to_judge(request: Request) -> Response:
    """What people may judge, for those who may do nothing else."""
    caller_of(request, "annotate")
    kinds = {"compare": "pairs", "score": "responses"}
    rows = "".join(
        f'<li><a href="/runs/{one.id}/label"><span class="badge">{kinds[one.work["kind"]]}</span>'
        f'<span class="name" dir="auto">{escape(one.title)}</span>'
        f'<span class="side">{one.done:,}</span></a></li>'
        for one in book_of(request).for_people(200)
    )
    listed = f'<ul class="list">{rows}</ul>' if rows else "<p>There are none yet.</p>"
    return page_of(request.scope, "To judge", f"<h1>To judge</h1>{listed}")


async def label(request: Request) -> Response:
    """The next item for whoever looks, without its models, and of a pair in a random order."""
    caller_of(request, "annotate")
    desk, wanted = desk_of(request), wanted_from(request.query_params)
    task, standing = await task_of(request, desk, wanted), await standing_of(request, desk, wanted)
    told = f"{standing.done:,} judged"
    if standing.judge_agreement is not None:
        told += f", {standing.judge_agreement:.0%} as the judge ({standing.judge_n:,})"
    told += f", {task.left:,} left"
    if task.judged is None:
        body = f"<h1>Nothing is left</h1><p>{told}.</p>"
    elif desk.graded:
        body = _rating(desk, task, task.judged, told)
    else:
        body = _pair(desk, task, task.judged, told)
    body += _chooser(request, desk, wanted, standing)
    return page_of(request.scope, "Rate responses" if desk.graded else "Judge pairs", body)


async def people(request: Request) -> Response:
    """How far the people of a run can be relied on, and how it is labelled."""
    desk = desk_of(request, own=True)
    found = await figures_of(desk)
    run = desk.run
    body = (
        f'<p class="crumb"><a href="/runs/{run.id}">{escape(run.title)}</a></p>'
        f"<h1>People</h1>{_together(found)}{_table(found)}{_campaign(desk)}{_files(desk)}"
    )
    return page_of(request.scope, f"People of {run.title}", body)


def _pair(desk: Desk, task: Task, judged: Verdict, told: str) -> str:
    pair = judged.candidates
    if shown_order(desk.run.id, task.n or 0, desk.caller.name) == "BA":
        pair = pair[::-1]
    sides = "".join(
        f"<section><h2>{title}</h2>{said(one.text)}</section>"
        for title, one in zip(("First", "Second"), pair, strict=True)
    )
    asked = "".join(f"<li>{escape(one.question)}</li>" for one in task.criteria)
    buttons = "".join(
        f'<button data-choice="{name}" data-key="{key}"><kbd>{key}</kbd> {text}</button>'
        for name, key, text in _KEYS
    )
    return (
        f'<h1>Which response is better?</h1><p class="subtitle">{told}</p><ul>{asked}</ul>'
        f'<div data-label="{escape(desk.run.id)}" data-n="{task.n}">{_prompt(judged)}'
        f'<div class="entry"><div class="sides two">{sides}</div></div>{_end(buttons)}</div>'
    )


def _rating(desk: Desk, task: Task, judged: Verdict, told: str) -> str:
    fields = "".join(_criterion(place, one) for place, one in enumerate(task.criteria))
    buttons = (
        '<button class="main" data-save data-key="Enter"><kbd>Enter</kbd> Save</button>'
        '<button data-choice="skip" data-key="s"><kbd>s</kbd> Skip</button>'
    )
    return (
        f'<h1>How good is the response?</h1><p class="subtitle">{told}</p>'
        f'<div data-label="{escape(desk.run.id)}" data-n="{task.n}" data-rating="yes">'
        f'{_prompt(judged)}<h2>Response</h2><div class="entry response">'
        f"{said(judged.candidates[0].text)}</div><h2>Grades</h2>{fields}{_end(buttons)}</div>"
    )


def _prompt(judged: Verdict) -> str:
    shown = f"<h2>Prompt</h2>{said(conversation(judged.item.prompt))}"
    if judged.item.reference:
        shown += f"<details><summary>Reference</summary>{said(judged.item.reference)}</details>"
    return shown


def _end(buttons: str) -> str:
    return (
        '<label>Why, if you like<input name="reason" '
        f'maxlength="{LONGEST_REASON}"></label>'
        f'<div class="actions">{buttons}<button data-undo data-key="u"><kbd>u</kbd> Undo</button>'
        '</div><p class="message" role="alert"></p>'
    )


def _criterion(place: int, one: Criterion) -> str:
    levels = list(one.scale.levels)
    name = f'<span class="name">{escape(one.name)}</span>'
    asked = f"<p>{escape(one.question)}</p>" if one.question else ""
    if len(levels) > _MOST_KEYS:
        anchors = "".join(
            f"<li><b>{level}</b> {escape(text)}</li>" for level, text in one.scale.anchors.items()
        )
        inside = (
            f'<label>A whole number from {levels[0]} to {levels[-1]}<input type="number" '
            f'name="grade-{place}" min="{levels[0]}" max="{levels[-1]}" step="1"></label>'
        )
        inside = (f"<ul>{anchors}</ul>" if anchors else "") + inside
    else:
        inside = "".join(
            f'<label class="level"><input type="radio" name="grade-{place}" value="{level}" '
            f'data-level="{key}"><kbd>{key}</kbd><span>'
            f"{escape(_meaning(one, level, key))}</span></label>"
            for level, key in zip(levels, _level_keys(levels), strict=True)
        )
    return (
        f'<fieldset data-criterion="{escape(one.name)}"><legend>{name}</legend>{asked}{inside}'
        "</fieldset>"
    )


def _meaning(one: Criterion, level: int, key: str) -> str:
    anchor = one.scale.anchors.get(level, "")
    if key == str(level):
        return anchor or "\u00a0"
    return f"{level}: {anchor}" if anchor else str(level)


def _level_keys(levels: list[int]) -> list[str]:
    """A digit for each of ten levels at most: the level itself where all of them are digits."""
    if all(0 <= level <= 9 for level in levels):
        return [str(level) for level in levels]
    return [str(place % _MOST_KEYS) for place in range(1, len(levels) + 1)]


def _chooser(request: Request, desk: Desk, wanted: Wanted, standing: Standing) -> str:
    """A form to choose the queue: each with its size, and the runs to hold this one against."""
    caller, book = desk.caller, book_of(request)
    runs = book.listed(caller, 200) if caller.may("judge") else book.for_people(200)
    kind = desk.run.work["kind"]
    others = [
        (run.id, run.title)
        for run in runs
        if run.id != desk.run.id and run.state == "done" and run.work["kind"] == kind
    ]
    named = []
    for name, text in _QUEUES.items():
        if name == "against" and not others:
            continue
        size = standing.sizes.get(name)
        named.append((str(name), text if size is None else f"{text} ({size:,})"))
    parts = [choice("queue", "Queue", named, wanted.queue)]
    if others:
        parts.append(choice("other", "The other run", [("", "none"), *others], wanted.other))
    parts.append(
        '<label>Unsure below<input name="sure" type="number" min="0.01" max="1" step="any" '
        f'value="{wanted.sure:g}"></label>'
    )
    return f'<form class="panel chooser">{"".join(parts)}<button>Go</button></form>'


def _share(value: float | None, low: float | None, high: float | None, n: int) -> str:
    """A share of `n`, and its interval on a line of its own."""
    if value is None:
        return "–"
    ends = "" if low is None or high is None else f"{100 * low:.0f}–{high:.0%}"
    return f"{value:.0%} of {n:,}{_below(ends)}"


def _beyond(value: float | None, low: float | None, high: float | None) -> str:
    """A coefficient, and its interval on a line of its own."""
    if value is None:
        return "–"
    return _signed(f"{value:.2f}") + _below(_interval(low, high))


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else _signed(f"{low:.2f} to {high:.2f}")


def _signed(text: str) -> str:
    return text.replace("-", "\u2212")


def _below(text: str) -> str:
    return f'<br><span class="note">{text}</span>' if text else ""


def _together(found: Mapping[str, Any]) -> str:
    if not found["items"]:
        return ""
    alpha = found["alpha"]
    shared = f"{found['overlapping']:,} of {found['items']:,} items were judged by several people."
    if alpha is None:
        return f"<p>{shared}</p>"
    value, ends = _signed(f"{alpha['value']:.2f}"), _interval(alpha["low"], alpha["high"])
    return f"<p>{shared} Krippendorff's alpha is {value} ({ends}).</p>"


def _table(found: Mapping[str, Any]) -> str:
    if not found["annotators"]:
        return "<p>Nobody has judged anything yet.</p>"
    heads = (
        ("who", ""),
        ("judged", "number"),
        ("right on checks", "number"),
        ("as the others", "number"),
        ("kappa with them", "number"),
        ("as the judge", "number"),
        ("kappa with it", "number"),
    )
    head = "".join(f'<th scope="col" class="{kind}">{escape(text)}</th>' for text, kind in heads)
    rows = []
    for one in found["annotators"]:

        def ends(name: str, one: Mapping[str, Any] = one) -> tuple[Any, Any]:
            return one[f"{name}_low"], one[f"{name}_high"]

        cells = [
            f"{one['n']:,}",
            _share(one["gold_accuracy"], *ends("gold"), one["gold_n"]),
            _share(one["others_agreement"], *ends("others"), one["others_n"]),
            _beyond(one["others_kappa"], *ends("others_kappa")),
            _share(one["judge_agreement"], *ends("judge"), one["judge_n"]),
            _beyond(one["judge_kappa"], *ends("judge_kappa")),
        ]
        shown = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        rows.append(f'<tr><th scope="row" dir="auto">{escape(one["name"])}</th>{shown}</tr>')
    return (
        '<div class="table"><div class="scroll" tabindex="0" role="region" '
        'aria-label="Annotators"><table><caption><span>Annotators</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="note">{found["level"]:.0%} intervals. Two ratings agree within half a level; '
        "kappa of ratings is weighted by the squared difference.</p></div>"
    )


def _campaign(desk: Desk) -> str:
    told = desk.campaign.as_dict()
    fields = "".join(
        f'<label>{text}<input type="number" name="{name}" min="{least}" max="{MOST}" step="1" '
        f'value="{told[name] or ""}"></label>'
        for name, text, least in (
            ("overlap", "People for each item (empty: everybody)", 1),
            ("gold_every", "One check in so many items (empty: none added)", 2),
        )
    )
    return (
        '<h2 id="how">How it is labelled</h2><form class="panel campaign" aria-labelledby="how" '
        f'data-run-id="{escape(desk.run.id)}">{fields}<button>Keep</button></form>'
        f'<p class="note">{inline(_CHECKS)}</p>'
    )


def _files(desk: Desk) -> str:
    here = f"/v1/runs/{desk.run.id}/labels"
    links = "".join(
        f'<a class="button" href="{here}?format={form}">{text}</a>' for form, text in _FILES.items()
    )
    return (
        f'<h2 id="files">Label files</h2><div class="actions">{links}</div>'
        '<form class="panel bring" aria-labelledby="files" '
        f'data-run-id="{escape(desk.run.id)}"><label>Bring labels (CSV, JSONL, Argilla JSON)'
        '<input type="file" name="file" required accept=".csv,.tsv,.jsonl,.json"></label>'
        "<button>Bring them</button></form>"
        '<p class="message" role="alert"></p>'
    )
