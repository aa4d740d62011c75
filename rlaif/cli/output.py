"""What people see: progress on a terminal, plain lines elsewhere, tables, one JSON object."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

KEPT = "finished work is kept; run the same command to go on"

_PLAIN_EVERY_S = 15.0
_WIDEST = 240
"""Columns of a table off a terminal, at most."""
_DRAWN_EVERY_S = 0.1
"""A bar that is drawn at every step of a fast run takes as long as the run."""


class Bar:
    """The progress of one piece of work; `advance` it, with a note such as the coverage."""

    def __init__(
        self, label: str, total: int | None, progress: Progress | None, task: TaskID | None
    ) -> None:
        self._label = label
        self._total = total
        self._progress = progress
        self._task = task
        self._done = 0
        self._note = ""
        self._told = time.monotonic()
        self._told_done = 0

    def reach(self, done: int, total: int, note: str = "") -> None:
        """Set how much is done, and of how much."""
        self._total = total
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=total)
        self.advance(done - self._done, note)

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more as done."""
        self._done += steps
        self._note = note
        drawn = self._progress is not None
        now = time.monotonic()
        if now - self._told >= (_DRAWN_EVERY_S if drawn else _PLAIN_EVERY_S):
            rate = (self._done - self._told_done) / (now - self._told)
            self._told, self._told_done = now, self._done
            if drawn:
                self.draw()
            else:
                print(self._line(rate), file=sys.stderr, flush=True)

    def draw(self) -> None:
        """Show on the terminal what is done by now."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, note=self._note)

    def _line(self, rate: float) -> str:
        """The plain line; `rate` is of the time since the last one."""
        of = f"/{self._total:,}" if self._total else ""
        parts = [f"{self._done:,}{of}", f"{rate:.1f}/s"]
        if self._total and rate > 0:
            parts.append(f"{_duration(max(0, self._total - self._done) / rate)} left")
        return f"{self._label}: {', '.join([*parts, *([self._note] if self._note else [])])}"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


@contextmanager
def progress_bar(
    label: str, total: int | None, *, quiet: bool = False, transient: bool = False
) -> Iterator[Bar]:
    """A bar on a terminal, a plain line every so often elsewhere, always on standard error.

    Either shows how much is done, how fast, the note (coverage and cost), and the time left.

    Args:
        label: What is being done.
        total: How much there is, where that is known.
        quiet: Whether to show nothing.
        transient: Whether the bar goes from the terminal when the work is done.
    """
    if quiet or not sys.stderr.isatty():
        yield Bar(label, total, None, None)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        _rate_column(),
        TextColumn("{task.fields[note]}", style="dim"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=transient) as progress:
        task = progress.add_task(label, total=total, note="")
        bar = Bar(label, total, progress, task)
        try:
            yield bar
        finally:
            bar.draw()


def counted(items: Iterable[object], *, quiet: bool = False) -> int:
    """How many items there are; they are read for it, and so found fit before any is worked on."""
    found = 0
    with progress_bar("reading", None, quiet=quiet, transient=True) as bar:
        for _ in items:
            found += 1
            bar.advance()
    return found


def _rate_column() -> ProgressColumn:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        """Steps a second, lately."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.1f}/s" if speed else "")

    return Rate()


def emit(value: Mapping[str, Any]) -> None:
    """Print one JSON object; text that UTF-8 cannot carry (in a file's name) is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, allow_nan=False)
    typer.echo(text)


def say(line: str) -> None:
    """Print one line to standard error: it never mixes with a command's result."""
    typer.echo(printable(" ".join(line.split())), err=True)


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal would obey instead of showing."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, note: str | None = None
) -> None:
    """Print a table; cells that look like numbers stand to the right.

    Off a terminal it is as wide as it needs to be: what reads it has no edge to fold it at.
    """
    from rich.box import SIMPLE_HEAD, Box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    headed = any(columns)
    ruled = Box("\n".join([" ── ", *["    "] * 7]) + "\n")  # a rule stands for the header
    # Text: a name in brackets is not markup
    told = [None if text is None else Text(_lines(text)) for text in (title, note)]
    shown = Table(title=told[0], box=SIMPLE_HEAD if headed else ruled, caption=told[1])
    shown.show_header, shown.title_justify, shown.caption_justify = headed, "left", "left"
    cells = [[_cell(value) for value in row] for row in rows]
    console = Console()
    least = [
        _least_width(name, [row[place] for row in cells]) for place, name in enumerate(columns)
    ]
    fits = sum(least) + 3 * len(columns) + 1 <= console.width
    for place, name in enumerate(columns):
        numeric = bool(cells) and all(_numeric(row[place]) for row in cells)
        shown.add_column(
            Text(printable(name)),
            justify="right" if numeric else "left",
            overflow="fold",
            min_width=least[place] if fits else None,
        )
    for row in cells:
        shown.add_row(*(Text(cell) for cell in row))
    if console.is_terminal:
        console.print(shown)
    else:
        if "COLUMNS" not in os.environ:
            room = console.options.update(max_width=_WIDEST)
            console.width = max(console.width, console.measure(shown, options=room).maximum)
        with console.capture() as drawn:
            console.print(shown)
        typer.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()))
    if note:
        typer.echo()  # or the next table's title would seem to be of it


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _least_width(head: str, cells: Sequence[str]) -> int:
    """Columns that no word of a header, and no number, needs to be broken in."""
    words = [*head.split(), *(cell for cell in cells if _numeric(cell))]
    return max(map(len, words), default=1)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else printable(str(value))


def _numeric(cell: str) -> bool:
    return not cell or cell.lstrip("-+").replace(".", "", 1).replace("%", "", 1).isdigit()


def summary_table(title: str, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Print the totals of a run, and where its files lie."""
    causes = _counts(summary["causes"]) or "none"
    tokens = summary["tokens"]
    retries = summary.get("retries")
    rows: list[tuple[str, object]] = [
        ("n", summary["n"]),
        ("coverage", f"{summary['coverage']:.1%}"),
        ("without", causes),
        ("calls", f"{summary['calls']} ({summary['calls_cached']} from the store)"),
        *([("asked again", _counts(retries))] if retries else []),
        ("tokens", f"{tokens['input']} in, {tokens['output']} out"),
        *([("cost", cost)] if (cost := _cost(summary)) else []),
        *_several(summary),
        ("seconds", f"{summary['wall_s']:.1f}"),
        *(("wrote", str(path)) for path in files),
    ]
    table(f"{title}, a part" if summary.get("interrupted") else title, ("", ""), rows)


def _several(summary: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What several judges, or rankings, came to."""
    rows: list[tuple[str, object]] = []
    if (panel := summary.get("panel")) is not None:
        worth = panel["effective_judges"]
        told = f"{worth:.1f} by their {panel['basis']}" if worth else f"not known: {panel['why']}"
        rows.append(("judges", f"{panel['judges']}, worth {told}"))
        if panel.get("weights"):
            rows.append(("weights", ", ".join(f"{w:.2f}" for w in panel["weights"])))
        if panel["replaced"]:
            rows.append(("replaced", panel["replaced"]))
    if (cascade := summary.get("cascade")) is not None:
        for stage in cascade["stages"]:
            told = f"asked of {stage['asked']}, sure of {stage['decided']}"
            rows.append((stage["model"], f"{told}, {stage['calls']} calls"))
        rows.append(("for people", cascade["escalated"]))
        spent = cascade["cost_not_spent_usd"]
        saved = "not known" if cascade["calls_saved"] is None else f"{cascade['calls_saved']} calls"
        rows.append(("saved", saved + (f", ${spent:.4f}" if spent else "")))
    if (ranked := summary.get("rankings")) is not None:
        rows += [
            ("settled", f"{ranked['settled']} of {ranked['rankings']} rankings"),
            ("too close to tell", f"{ranked['unsettled_neighbors']} neighbors"),
            ("comparisons", ranked["comparisons"]),
            ("cycles", f"{ranked['cycles']} of {ranked['triples']} triples"),
        ]
    return rows


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def _cost(summary: Mapping[str, Any]) -> str:
    """What a run cost, as far as that is known; nothing to say of one that cost nothing."""
    paid, unpriced = summary.get("cost_usd", 0.0), summary.get("calls_unpriced", 0)
    parts = [f"${paid:.4f}"] if paid else []
    if saved := summary.get("cost_saved_usd"):
        parts.append(f"${saved:.4f} saved by the store")
    if presumed := summary.get("cost_presumed_usd"):
        parts.append(f"up to ${presumed:.4f} for calls that got no answer")
    if unpriced:
        parts.append(f"{unpriced} calls at a price that is not known")
    return ", ".join(parts)


def cut_short(summary: Mapping[str, Any]) -> bool:
    """Whether a run was interrupted, or its budget spent: what it made is not all there is."""
    return bool(summary.get("interrupted") or summary["causes"].get("budget"))


def fail_over_limit(
    summary: Mapping[str, Any], limit: float, what: str = "items have no verdict"
) -> None:
    """End the command where its summary asks for it; return where all went well.

    130 where it was interrupted, 3 where the budget was spent, 1 where more than `limit` of the
    work has no verdict. That is counted in whole numbers: a share that is exactly the limit passes.
    """
    if summary.get("interrupted"):
        say(f"interrupted after {summary['n']}: {KEPT}")
        raise typer.Exit(130)
    if left := summary["causes"].get("budget"):
        of = f" of ${summary['budget_usd']:g}" if "budget_usd" in summary else ""
        say(f"error: the budget{of} is spent, {left} of the {what}; a larger --budget-usd goes on")
        raise typer.Exit(3)
    failed, n = summary["n"] - summary["ok"], summary["n"]
    if failed > limit * n + 1e-9 * n:
        say(f"error: {failed / n:.1%} of the {what}, over the limit")
        raise typer.Exit(1)
