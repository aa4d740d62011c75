"""The frame of a page, and the pieces that pages share. Every text that goes in is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.types import Scope

from rlaif.report.text import escape

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HTML = "text/html; charset=utf-8"


def page(title: str, body: str, *, code: str = "", who: str = "", status: int = 200) -> Response:
    """A whole page.

    Args:
        title: What it is.
        body: Its HTML.
        code: What its script sends along with every change.
        who: Who looks at it, where somebody is signed in.
        status: The HTTP status.
    """
    end = ""
    if who:
        end = (
            f'<form class="end" method="post" action="/logout"><span>{escape(who)}</span> '
            "<button>Sign out</button></form>"
        )
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="code" content="{escape(code)}">
<title>{escape(title)} · rlaif</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/static/page.css">
<script src="/static/page.js" defer></script>
</head>
<body class="app">
<nav class="bar" aria-label="Main"><a href="/">rlaif</a><a href="/">Runs</a>{end}</nav>
<main>
{body}
</main>
</body>
</html>
"""
    data = text.encode("utf-8", "backslashreplace")
    return Response(data, status, {"Content-Security-Policy": POLICY}, media_type=HTML)


def page_of(scope: Scope, title: str, body: str, status: int = 200) -> Response:
    """A whole page for whoever sent a request."""
    state = scope.get("state", {})
    code, who = state.get("code", ""), state.get("who", "")
    return page(title, body, code=code, who=who, status=status)


@cache
def style() -> bytes:
    """The style sheet of all pages."""
    folder = files("rlaif.service").joinpath("static")
    report = files("rlaif.report")
    parts = [report.joinpath(name).read_bytes() for name in ("style.css", "drawn.css")]
    return b"".join([*parts, folder.joinpath("page.css").read_bytes()])


@cache
def script() -> bytes:
    """The script of all pages."""
    return files("rlaif.service").joinpath("static").joinpath("page.js").read_bytes()


def link_to(path: str, **query: object) -> str:
    """The address of a page; what is empty in its query is left out."""
    told = {name: str(value) for name, value in query.items() if value not in ("", None, 0)}
    return f"{path}?{urlencode(told)}" if told else path


def link(path: str, **query: object) -> str:
    """The same, escaped."""
    return escape(link_to(path, **query))


def choice(name: str, label: str, values: Iterable[tuple[str, str]], chosen: str = "") -> str:
    """A labelled list to choose from: (value, what is shown)."""
    options = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>'
        f"{escape(shown)}</option>"
        for value, shown in values
    )
    return f'<label>{escape(label)}<select name="{escape(name)}">{options}</select></label>'


def figures(shown: Mapping[str, tuple[str, str]]) -> str:
    """Large numbers: by the name that keeps them live, (label, value)."""
    parts = "".join(
        f'<div><dt>{escape(label)}</dt><dd class="value" data-live="{escape(name)}">'
        f"{escape(value)}</dd></div>"
        for name, (label, value) in shown.items()
    )
    return f'<dl class="figures">{parts}</dl>'


def paging(path: str, number: int, last: int, **query: object) -> str:
    """Links to the pages before and after; the keys j and k follow them."""
    parts = []
    if number > 1:
        before = link(path, **query, page=min(number - 1, last))
        parts.append(f'<a rel="prev" href="{before}">Previous</a>')
    parts.append(f"<span>Page {number:,} of {last:,}</span>")
    if number < last:
        parts.append(f'<a rel="next" href="{link(path, **query, page=number + 1)}">Next</a>')
    return f'<nav class="pages" aria-label="Pages">{"".join(parts)}</nav>'
