"""What people see: progress on a terminal, plain lines elsewhere, tables, one JSON object."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PLAIN_EVERY_S = 15.0


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
        self._started = self._told = time.monotonic()

    def reach(self, done: int, total: int, note: str = "") -> None:
        """Set how much is done, and of how much."""
        self._total = total
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=total)
        self.advance(done - self._done, note)

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more as done."""
        self._done += steps
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, note=note)
        elif time.monotonic() - self._told >= _PLAIN_EVERY_S:
            self._told = time.monotonic()
            rate = self._done / (self._told - self._started)
            of = f"/{self._total}" if self._total else ""
            line = f"{self._label}: {self._done}{of}, {rate:.1f}/s {note}".rstrip()
            print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(label: str, total: int | None, *, quiet: bool = False) -> Iterator[Bar]:
    """A bar on a terminal, a plain line every so often elsewhere, always on standard error."""
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
        TextColumn("{task.fields[note]}", style="dim"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, note="")
        yield Bar(label, total, progress, task)


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
    """Print a table; cells that look like numbers stand to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, box=SIMPLE_HEAD, title_justify="left", caption=note)
    shown.caption_justify = "left"
    cells = [[_cell(value) for value in row] for row in rows]
    for place, name in enumerate(columns):
        numeric = bool(cells) and all(_numeric(row[place]) for row in cells)
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        shown.add_row(*(Text(cell) for cell in row))  # Text: a name in brackets is not markup
    Console().print(shown)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else printable(str(value))


def _numeric(cell: str) -> bool:
    return not cell or cell.lstrip("-+").replace(".", "", 1).replace("%", "", 1).isdigit()


def summary_table(title: str, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Print the totals of a run, and where its files lie."""
    causes = ", ".join(f"{n} {cause}" for cause, n in summary["causes"].items()) or "none"
    tokens = summary["tokens"]
    rows: list[tuple[str, object]] = [
        ("n", summary["n"]),
        ("coverage", f"{summary['coverage']:.1%}"),
        ("without", causes),
        ("calls", f"{summary['calls']} ({summary['calls_cached']} from the store)"),
        ("tokens", f"{tokens['input']} in, {tokens['output']} out"),
        ("seconds", f"{summary['wall_s']:.1f}"),
        *(("wrote", str(path)) for path in files),
    ]
    table(title, ("", ""), rows)


def fail_over_limit(
    summary: Mapping[str, Any], limit: float, what: str = "items have no verdict"
) -> None:
    """End the command with code 1 where more than `limit` of the work has no verdict.

    Counted in whole numbers: a share that is exactly the limit passes.
    """
    failed, n = summary["n"] - summary["ok"], summary["n"]
    if failed > limit * n + 1e-9 * n:
        say(f"error: {failed / n:.1%} of the {what}, over the limit")
        raise typer.Exit(1)
