"""A browser of single verdicts that needs no script: filters are radio buttons that CSS reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlaif.report.drawn import Drawn
from rlaif.report.text import escape, inline, said, short

Reading = Literal["failed", "inconsistent", "tie", "decided"]

MAX_CHARACTERS = 4000
"""Of a longer text the end is left out: the whole is in `verdicts.jsonl`."""
MAX_CHARACTERS_ALONE = 500_000
"""The same on a page that shows one verdict alone."""
MAX_FILTERS = 12
"""Most values of a category or model filter: as many as the style sheet has rules for."""

_FEW = 8
"""So many entries need no filter."""

READINGS: dict[Reading, str] = {
    "failed": "no verdict",
    "inconsistent": "orders disagree",
    "tie": "tie",
    "decided": "decided",
}
"""What the readings of verdicts are called."""
_MARK = re.compile(r"\[\[[^\[\]\n<>]{1,40}\]\]")


@dataclass(frozen=True, slots=True)
class Reply:
    """One call behind a verdict."""

    title: str
    """Which order was shown."""
    text: str
    """The judge's reply, raw."""
    read: str
    """How it was read, where that is told of it alone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One verdict to read."""

    reading: Reading
    badge: str
    """The verdict in a few words: who won, or why there is none."""
    color: Literal["fail", "a", "b", "plain"]
    """Of the badge: a failure, the side that won, or neither."""
    title: str
    """Whose response it is, or who is compared."""
    figure: str
    """P(A) or the score."""
    prompt: str
    sides: Sequence[tuple[str, str]]
    """(title, text) of the one or two responses."""
    replies: Sequence[Reply]
    facts: Sequence[tuple[str, str]] = ()
    """(name, value) of what else is known."""
    category: str = ""
    models: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class VerdictBrowser(Drawn):
    """Verdicts to open one by one, filtered by how they were read, by category and by model."""

    entries: Sequence[Entry]
    note: str
    """What part of all verdicts these are, and how they were drawn."""

    def html(self, ident: str) -> str:
        """Filters and entries; without a style sheet all entries are shown."""
        note = f'<p class="note">{inline(self.note)}</p>' if self.note else ""
        if not self.entries:
            return f'<div class="browser">{note}</div>'
        categories = _values(entry.category for entry in self.entries)
        models = _values(model for entry in self.entries for model in entry.models)
        rows = "".join(_entry(entry, categories, models) for entry in self.entries)
        filters = "".join(
            [
                _readings(ident, self.entries),
                _filter(ident, "category", "g", categories, len(self.entries)),
                _filter(ident, "model", "m", models, len(self.entries)),
            ]
        )
        ending = '<p class="note ending">End of the sample. Filters combine.</p>'
        few = len(self.entries) <= _FEW
        return (
            f'<div class="browser">{"" if few else f"""<div class="filters">{filters}</div>"""}'
            f'{note}<div class="entries">{rows}</div>{"" if few else ending}</div>'
        )


def _values(values: object) -> dict[str, int]:
    """The most common values that are not empty, in order of name, with their counts."""
    counts = Counter(value for value in values if value)  # type: ignore[attr-defined]
    return dict(sorted(counts.most_common(MAX_FILTERS)))


def _readings(ident: str, entries: Sequence[Entry]) -> str:
    counts = Counter(entry.reading for entry in entries)
    options = [("all", f"all {len(entries)}")]
    options += [
        (f"v-{reading}", f"{name} {counts[reading]}")
        for reading, name in READINGS.items()
        if counts[reading]
    ]
    return _radios(ident, "reading", options) if len(options) > 2 else ""


def _filter(ident: str, name: str, letter: str, values: dict[str, int], total: int) -> str:
    if len(values) < 2:
        return ""
    options = [("all", f"all {total}")]
    options += [(f"{letter}{i}", f"{value} {n}") for i, (value, n) in enumerate(values.items())]
    return _radios(ident, name, options)


def _radios(ident: str, name: str, options: Sequence[tuple[str, str]]) -> str:
    parts = [
        f'<label><input type="radio" name="{ident}-{name}" value="{value}"'
        f"{' checked' if value == 'all' else ''}><span>{escape(_clipped(text, 40))}</span></label>"
        for value, text in options
    ]
    return f"<fieldset><legend>{name}</legend>{''.join(parts)}</fieldset>"


def _entry(entry: Entry, categories: dict[str, int], models: dict[str, int]) -> str:
    kinds = [f"v-{entry.reading}"]
    kinds += [f"g{i}" for i, value in enumerate(categories) if value == entry.category]
    kinds += [f"m{i}" for i, value in enumerate(models) if value in entry.models]
    badge = f'<span class="badge {entry.color}">{escape(entry.badge)}</span>'
    return (
        f'<details class="entry {" ".join(kinds)}"><summary>{badge} '
        f'<span class="entry-title" dir="auto">{escape(_clipped(entry.title, 120))}</span> '
        f'<span class="entry-figure">{escape(entry.figure)}</span> '
        f'<span class="entry-prompt" dir="auto">{escape(_one_line(entry.prompt, 110))}</span>'
        f"</summary>{_inside(entry)}</details>"
    )


def _inside(entry: Entry, most: int = MAX_CHARACTERS) -> str:
    sides = "".join(_side(title, text, most) for title, text in entry.sides)
    replies = "".join(_reply(reply, most) for reply in entry.replies)
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(_clipped(value, 300))}</dd></div>"
        for name, value in entry.facts
        if value
    )
    several = " two" if len(entry.sides) > 1 else ""
    shown = f'<div class="sides{several}">{sides}</div>'
    if replies:
        two = " two" if len(entry.replies) > 1 else ""
        shown += '<h3 class="label">What the judge said</h3>'
        shown += f'<div class="sides{two}">{replies}</div>'
    return (
        f'<div class="inside"><h3 class="label">Prompt</h3>{_text(entry.prompt, most)}{shown}'
        f'<dl class="facts">{facts}</dl></div>'
    )


def _side(title: str, text: str, most: int) -> str:
    return f'<section><h4 dir="auto">{short(title)}</h4>{_text(text, most)}</section>'


def _reply(reply: Reply, most: int) -> str:
    body = _MARK.sub(lambda match: f"<mark>{match[0]}</mark>", _text(reply.text, most))
    read = f'<p class="read">{inline(reply.read)}</p>' if reply.read else ""
    return f'<section class="reply"><h4 dir="auto">{short(reply.title)}</h4>{body}{read}</section>'


def _text(text: str, most: int) -> str:
    if len(text) <= most:
        return said(text)
    left_out = f"{len(text) - most:,} characters are left out here."
    return f'{said(text[:most])}<p class="note">{left_out}</p>'


def _one_line(text: str, most: int) -> str:
    return _clipped(" ".join(text[: 4 * most].split()), most)


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most].rstrip() + "…"


def entry_inside(entry: Entry) -> str:
    """The HTML of an opened entry, for a page that shows one alone, and all of it."""
    return f'<div class="entry">{_inside(entry, MAX_CHARACTERS_ALONE)}</div>'
