"""Blocks that draw themselves: what a page of one kind needs and others do not.

A block made elsewhere derives from `Drawn` and returns its own HTML, all text escaped, styled by
the classes of `drawn.css`; `page.py` needs to know nothing of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlaif.errors import DataError
from rlaif.report.charts import format_number
from rlaif.report.text import escape, inline

SHADES = 5
"""Steps of shade that the style sheet has on either side of none."""


class Drawn(ABC):
    """A block that draws itself."""

    __slots__ = ()

    @abstractmethod
    def html(self, ident: str) -> str:
        """The block's HTML.

        Args:
            ident: Prefix of the element ids, unlike that of any other block on the page.

        Raises:
            DataError: the block contradicts itself.
        """


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a matrix."""

    text: str
    shade: float | None = None
    """From -1 (the far side, orange) over 0 (none) to 1 (the near side, blue); None: no value."""
    title: str = ""
    """Said on hover."""


@dataclass(frozen=True, slots=True)
class Matrix(Drawn):
    """Names against names, each cell shaded by its value; scrolls sideways where it is wide."""

    caption: str
    corner: str
    """What the rows are."""
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    numbered: bool = False
    """Whether columns are the rows again, headed by their numbers."""
    notes: str = ""

    def html(self, ident: str) -> str:
        """A table in a box that scrolls."""
        heads = [str(k) for k in range(1, len(self.columns) + 1)] if self.numbered else self.columns
        head = "".join(
            f'<th scope="col" title="{escape(name)}">{inline(shown)}</th>'
            for name, shown in zip(self.columns, heads, strict=True)
        )
        body = "".join(self._row(k, name, cells) for k, (name, cells) in enumerate(self.rows, 1))
        notes = f'<p class="note">{inline(self.notes)}</p>' if self.notes else ""
        return (
            f'<div class="table matrix"><div class="scroll" role="region" tabindex="0" '
            f'aria-labelledby="{ident}-caption"><table><caption id="{ident}-caption">'
            f"<span>{inline(self.caption)}</span></caption><thead><tr>"
            f'<th scope="col">{inline(self.corner)}</th>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{notes}</div>"
        )

    def _row(self, number: int, name: str, cells: Sequence[Cell]) -> str:
        if len(cells) != len(self.columns):
            raise DataError(
                f"matrix {self.caption!r}: {len(cells)} cells for {len(self.columns)} columns"
            )
        count = f'<span class="count">{number}</span> ' if self.numbered else ""
        return (
            f'<tr><th scope="row"><span class="name">{count}{escape(name)}</span></th>'
            f"{''.join(map(_matrix_cell, cells))}</tr>"
        )


def _matrix_cell(cell: Cell) -> str:
    title = f' title="{escape(cell.title)}"' if cell.title else ""
    if cell.shade is None:
        return f'<td class="none"{title}>{escape(cell.text)}</td>'
    step = round(max(-1.0, min(1.0, cell.shade)) * SHADES)
    kind = f"h{step}" if step >= 0 else f"l{-step}"
    return f'<td class="{kind}"{title}>{escape(cell.text)}</td>'


@dataclass(frozen=True, slots=True)
class Bars(Drawn):
    """Groups of bars on one scale from `least` to `most`, one bar a series."""

    title: str
    series: Sequence[str]
    """Their names, at most six."""
    groups: Sequence[tuple[str, Sequence[float | None]]]
    """(name, one value a series; None where there is none)."""
    least: float
    most: float
    as_percent: bool = False
    notes: str = ""

    def html(self, ident: str) -> str:
        """A grid of groups with a common key."""
        if not self.least < self.most:
            raise DataError(f"bars {self.title!r}: no room from {self.least} to {self.most}")
        groups = "".join(self._group(name, values) for name, values in self.groups)
        notes = f'<p class="note">{inline(self.notes)}</p>' if self.notes else ""
        return (
            f'<figure class="bars"><figcaption id="{ident}-title">{inline(self.title)}</figcaption>'
            f'<div class="bar-groups">{groups}</div>{notes}</figure>'
        )

    def _group(self, name: str, values: Sequence[float | None]) -> str:
        if len(values) != len(self.series):
            raise DataError(f"bars {self.title!r}: {len(values)} values for {len(self.series)}")
        bars = "".join(
            self._bar(i, series, value)
            for i, (series, value) in enumerate(zip(self.series, values, strict=True))
        )
        return f"<section><h3>{escape(name)}</h3><ul>{bars}</ul></section>"

    def _bar(self, i: int, name: str, value: float | None) -> str:
        if value is None:
            shown, width = "–", 0.0
        else:
            if not self.least <= value <= self.most:
                raise DataError(f"bars {self.title!r}: {value} is off the scale")
            shown = format_number(value, percent=self.as_percent)
            width = 100 * (value - self.least) / (self.most - self.least)
        return (
            f'<li class="s{i}"><span class="bar-name">{escape(name)}</span>'
            f'<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="track" width="100" height="8"/>'
            f'<rect class="bar" width="{width:.1f}" height="8"/></svg>'
            f'<span class="bar-value">{shown}</span></li>'
        )


@dataclass(frozen=True, slots=True)
class Held:
    """A figure held to bounds."""

    name: str
    what: str
    """What it measures and what it means, in a sentence or two."""
    low: float | None
    value: float | None
    """None where nothing was measured."""
    high: float | None
    least: float | None
    most: float | None
    passed: bool
    note: str = ""
    start: float = 0.0
    """Where the scale begins: 0 for shares, -1 for differences."""


@dataclass(frozen=True, slots=True)
class HeldList(Drawn):
    """Figures as intervals on a scale whose forbidden part is shaded."""

    held: Sequence[Held]

    def html(self, ident: str) -> str:
        """A list, one figure an entry."""
        return f'<ul class="held">{"".join(map(_held, self.held))}</ul>'


def _held(one: Held) -> str:
    kind: Literal["pass", "fail"] = "pass" if one.passed else "fail"
    note = f'<p class="note">{inline(one.note)}</p>' if one.note else ""
    return (
        f'<li class="{kind}"><div class="held-what"><h3><span class="badge {kind}">'
        f"{'passed' if one.passed else 'failed'}</span> {escape(one.name)}</h3>"
        f"<p>{inline(one.what)}</p>{note}</div>"
        f'<div class="held-figure"><p class="held-value">{_held_value(one)}</p>'
        f"{_scale(one)}</div></li>"
    )


def _held_value(one: Held) -> str:
    limits = []
    if one.least is not None:
        limits.append(f"at least {_percent(one.least)}")
    if one.most is not None:
        limits.append(f"at most {_percent(one.most)}")
    limit = f'<span class="limit">{" and ".join(limits)}</span>'
    if one.value is None or one.low is None or one.high is None:
        return f"<span>not measured</span> {limit}"
    interval = f"[{_percent(one.low, 1).rstrip('%')}, {_percent(one.high, 1).rstrip('%')}]"
    return f"<span><b>{_percent(one.value, 1)}</b> {interval}</span> {limit}"


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f}%".replace("-", "−")


def _scale(one: Held) -> str:
    """The interval on its scale, 400 units wide."""

    def at(value: float) -> float:
        share = (value - one.start) / (1 - one.start)
        return 6 + 388 * max(0.0, min(1.0, share))

    parts = ['<rect class="track" x="6" y="9" width="388" height="10" rx="2"/>']
    for bound, left in ((one.least, True), (one.most, False)):
        if bound is None:
            continue
        end = at(bound)
        x, width = (6.0, end - 6) if left else (end, 394 - end)
        parts.append(f'<rect class="beyond" x="{x:.1f}" y="9" width="{width:.1f}" height="10"/>')
        parts.append(f'<line class="bound" x1="{end:.1f}" x2="{end:.1f}" y1="5" y2="23"/>')
    if one.value is not None and one.low is not None and one.high is not None:
        x1, x2, x = at(one.low), at(one.high), at(one.value)
        parts.append(f'<line class="span" x1="{x1:.1f}" x2="{x2:.1f}" y1="14" y2="14"/>')
        parts.append(f'<circle class="mark" cx="{x:.1f}" cy="14" r="5.5"/>')
    start, middle = _percent(one.start), _percent((one.start + 1) / 2)
    for x, anchor, text in ((6, "start", start), (200, "middle", middle), (394, "end", "100%")):
        parts.append(f'<text x="{x}" y="38" text-anchor="{anchor}">{text}</text>')
    return f'<svg viewBox="0 0 400 42" aria-hidden="true">{"".join(parts)}</svg>'
