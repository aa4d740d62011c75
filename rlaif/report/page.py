"""A report as one HTML file: blocks in, text out; it opens anywhere and loads nothing else.

    from rlaif.report.page import Heading, Page, Paragraph, render_page

    page = Page("Judging run", "64 prompts", [Heading("Results"), Paragraph("It went **well**.")])
    assert "<strong>well</strong>" in render_page(page)

All text is escaped, judged text above all: a response can hold any markup and any character. The
page carries no script, and its content security policy forbids scripts, requests and any style
but its own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from rlaif.errors import DataError
from rlaif.report.charts import (
    Chart,
    Histogram,
    IntervalChart,
    LineChart,
    format_number,
    render_chart,
)
from rlaif.report.drawn import Drawn
from rlaif.report.text import escape, inline, said, short
from rlaif.store.runs import whole_file

__all__ = [
    "Block",
    "Callout",
    "Example",
    "Examples",
    "Files",
    "Heading",
    "Histogram",
    "IntervalChart",
    "KeyFigures",
    "LineChart",
    "Page",
    "Paragraph",
    "Step",
    "Steps",
    "Table",
    "render_page",
    "write_page",
]

Cell = str | int | float | None
_NUMERIC = re.compile(r"[+\-−±<>≤≥~]?\s?\$?\d")
_ABSENT = ("", "–", "—", "n/a")


@dataclass(frozen=True, slots=True)
class Heading:
    """Opens a section, with an introduction in a sentence or two."""

    text: str
    intro: str = ""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text; `code` and **bold** are marked up, a blank line parts paragraphs."""

    text: str


@dataclass(frozen=True, slots=True)
class KeyFigures:
    """The few numbers that matter, large."""

    figures: Sequence[tuple[str, str, str]]
    """(label, value, note)."""


@dataclass(frozen=True, slots=True)
class Callout:
    """One conclusion that a reader must not miss."""

    kind: Literal["good", "warning", "neutral"]
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a caption; the first column names the row, columns of numbers align right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    """Cells; None is shown as a dash, text may hold `code` and **bold**."""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """Two texts side by side and what was said of them."""

    heading: str
    left_title: str
    left_text: str
    right_title: str
    right_text: str
    verdict_line: str


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts to read: long ones are folded."""

    examples: Sequence[Example]


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do next, with the command that does it."""

    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Steps:
    """Numbered next steps."""

    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Files:
    """What a run left behind; a path inside the page's folder becomes a link."""

    files: Sequence[tuple[str, str]]
    """(path, what it holds)."""


Block = (
    Heading | Paragraph | KeyFigures | Callout | Table | Chart | Examples | Steps | Files | Drawn
)


def files_beside(folder: Path, known: Mapping[str, str]) -> list[Block]:
    """The files of a run folder that are there, under a heading; nothing where there are none.

    Args:
        folder: The run folder.
        known: Its files by name, and what each holds.
    """
    there = [(name, what) for name, what in known.items() if (folder / name).is_file()]
    return [Heading("What lies beside this page"), Files(there)] if there else []


@dataclass(frozen=True, slots=True)
class Page:
    """A report."""

    title: str
    subtitle: str
    blocks: Sequence[Block]
    footer: str = ""


def write_page(page: Page, path: str | Path) -> Path:
    """Where the page now is: `path`, written whole or not at all.

    Raises:
        DataError: a table or chart contradicts itself (see `render_page`).
        StoreError: the disk is full or the folder is missing or cannot be written.
    """
    text = render_page(page)
    with whole_file(Path(path)) as file:
        file.write(text)
    return Path(path)


def render_page(page: Page) -> str:
    """The whole HTML document of `page`; the same page gives the same text.

    Raises:
        DataError: a table's row has another length than its columns, or a chart cannot be drawn.
    """
    style = _style()
    subtitle = f'<p class="subtitle">{inline(page.subtitle)}</p>' if page.subtitle else ""
    footer = f"<footer>{_paragraphs(page.footer)}</footer>" if page.footer else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(style)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{escape(page.title)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{escape(page.title)}</h1>
{subtitle}
</header>
<main>
{_body(page.blocks)}
</main>
{footer}
</body>
</html>
"""


@cache
def _style() -> str:
    folder = files("rlaif.report")
    sheets = ("style.css", "drawn.css")
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in sheets)


def _policy(style: str) -> str:
    """Nothing may load or run; of styles only the page's own, known by its hash."""
    known = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{known}'; base-uri 'none'; form-action 'none'"


def _body(blocks: Iterable[Block]) -> str:
    """The blocks in order; charts that follow each other share a row where there is room."""
    parts: list[str] = []
    numbered = list(enumerate(blocks, start=1))
    for is_chart, group in groupby(numbered, key=lambda entry: isinstance(entry[1], Chart)):
        rendered = [_block(block, f"b{number}") for number, block in group]
        parts += [f'<div class="charts">{"".join(rendered)}</div>'] if is_chart else rendered
    return "\n".join(parts)


def _block(block: Block, ident: str) -> str:
    match block:
        case Heading():
            intro = f'<p class="intro">{inline(block.intro)}</p>' if block.intro else ""
            html = f'<h2 id="{ident}">{escape(block.text)}</h2>{intro}'
        case Paragraph():
            html = _paragraphs(block.text)
        case KeyFigures():
            html = _key_figures(block)
        case Callout():
            html = _callout(block)
        case Table():
            html = _table(block, ident)
        case Examples():
            html = "\n".join(_example(example) for example in block.examples)
        case Steps():
            html = _steps(block)
        case Files():
            html = _files(block)
        case Drawn():
            html = block.html(ident)
        case _:
            html = _figure(block, ident)
    return html


def _paragraphs(text: str) -> str:
    pieces = re.split(r"\n\s*\n", text.strip())
    return "".join(f"<p>{inline(piece)}</p>" for piece in pieces)


def _key_figures(block: KeyFigures) -> str:
    groups = "".join(
        f'<div><dt>{escape(label)}</dt><dd class="value">{escape(value)}</dd>'
        f'<dd class="note">{inline(note)}</dd></div>'
        for label, value, note in block.figures
    )
    return f'<dl class="figures">{groups}</dl>'


_CALLOUTS = {"good": ("✓", "Good news"), "warning": ("!", "Warning"), "neutral": ("i", "Note")}


def _callout(block: Callout) -> str:
    mark, spoken = _CALLOUTS[block.kind]
    return (
        f'<aside class="callout {block.kind}"><span class="mark" aria-hidden="true">{mark}</span>'
        f'<div><p class="callout-title"><span class="spoken">{spoken}: </span>'
        f"{inline(block.title)}</p>{_paragraphs(block.text)}</div></aside>"
    )


def _table(block: Table, ident: str) -> str:
    for row in block.rows:
        if len(row) != len(block.columns):
            raise DataError(
                f"table {block.caption!r}: {len(row)} cells for {len(block.columns)} columns"
            )
    texts = [[_cell(cell) for cell in row] for row in block.rows]
    numeric = [i > 0 and _is_numeric([row[i] for row in texts]) for i in range(len(block.columns))]
    classes = [' class="number"' if is_numeric else "" for is_numeric in numeric]
    head = "".join(
        f'<th scope="col"{kind}>{inline(name)}</th>'
        for name, kind in zip(block.columns, classes, strict=True)
    )
    body = "".join(f"<tr>{_row(row, classes)}</tr>" for row in texts)
    notes = f'<p class="note">{inline(block.notes)}</p>' if block.notes else ""
    caption = f'<caption id="{ident}-caption"><span>{inline(block.caption)}</span></caption>'
    # The box scrolls sideways, so the keyboard must be able to reach it.
    return (
        f'<div class="table"><div class="scroll" role="region" aria-labelledby="{ident}-caption" '
        f'tabindex="0"><table>{caption}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{notes}</div>"
    )


def _row(cells: Sequence[str], classes: Sequence[str]) -> str:
    parts = [
        f'<th scope="row">{inline(cell)}</th>' if i == 0 else f"<td{kind}>{inline(cell)}</td>"
        for i, (cell, kind) in enumerate(zip(cells, classes, strict=True))
    ]
    return "".join(parts)


def _cell(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}".replace("-", "−")
    return format_number(cell)


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether each cell that is not empty begins with a number, and some cell does."""
    present = [cell for cell in cells if cell not in _ABSENT]
    return bool(present) and all(_NUMERIC.match(cell) for cell in present)


def _figure(chart: Chart, ident: str) -> str:
    notes = [chart.note] if chart.note else []
    if isinstance(chart, IntervalChart) and chart.reference is not None:
        mark = format_number(chart.reference, percent=chart.as_percent).replace(".0%", "%")
        notes.insert(0, f"Filled mark: the interval excludes {mark}; hollow: it does not.")
    note = f'<p class="note">{inline(" ".join(notes))}</p>' if notes else ""
    return (
        f'<figure class="chart"><figcaption>{inline(chart.title)}</figcaption>'
        f"{render_chart(chart, ident)}{note}</figure>"
    )


def _example(example: Example) -> str:
    return (
        f'<article class="example"><h3 dir="auto">{short(example.heading)}</h3>'
        f'<div class="sides">{_side(example.left_title, example.left_text)}'
        f"{_side(example.right_title, example.right_text)}</div>"
        f'<p class="verdict">{inline(example.verdict_line)}</p></article>'
    )


def _side(title: str, text: str) -> str:
    return f'<section><h4 dir="auto">{short(title)}</h4>{said(text)}</section>'


def _steps(block: Steps) -> str:
    items = "".join(
        f"<li><p>{inline(step.text)}</p>"
        + (f"<pre><code>{escape(step.code)}</code></pre>" if step.code else "")
        + "</li>"
        for step in block.steps
    )
    return f'<ol class="steps">{items}</ol>'


def _files(block: Files) -> str:
    items = "".join(
        f"<div><dt>{_file_link(path)}</dt><dd>{inline(what)}</dd></div>"
        for path, what in block.files
    )
    return f'<dl class="files">{items}</dl>'


def _file_link(path: str) -> str:
    name = f"<code>{escape(path)}</code>"
    if path.startswith(("/", "\\", "~")) or ".." in path or re.match(r"[A-Za-z]:", path):
        return name
    # "./" keeps "javascript:x" a file name.
    return f'<a href="./{escape(quote(path, errors="replace"))}">{name}</a>'
