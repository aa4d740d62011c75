"""`rlaif cache`: what the reply store holds, and how to take replies out of it or elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, say, table
from rlaif.errors import ConfigError

if TYPE_CHECKING:
    from rlaif.store.replies import ReplyStore

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Look into the reply store, make it smaller, or move replies between stores.",
)

Store = Annotated[
    Path | None,
    typer.Option("--store", help="The store's file; $RLAIF_HOME/replies.sqlite by default."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="Only models this pattern fits (gpt-5*), as their providers name them."
    ),
]

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@app.command()
def stats(store: Store = None, as_json: options.AsJson = False) -> None:
    """What the store holds: replies, tokens and cost by model."""
    from rlaif.store.upkeep import file_bytes, shares

    path = _path(store)
    facts: dict[str, Any] = {"path": str(path), "bytes": 0, "replies": 0, "rows": []}
    if path.exists():
        with _opened(path) as replies:
            facts["bytes"] = file_bytes(replies)
            facts["rows"] = [_told(asdict(share)) for share in shares(replies)]
            facts["replies"] = sum(row["n"] for row in facts["rows"])
    if as_json:
        emit(facts)
        return
    columns = ("model", "replies", "input", "output", "US dollars", "unpriced", "oldest", "newest")
    keys = ("model", "n", "input", "output", "cost_usd", "n_unpriced", "oldest", "newest")
    rows = [[row[key] for key in keys] for row in facts["rows"]]
    size = f"{facts['replies']} replies, {_size(facts['bytes'])} in {path}"
    table(size if path.exists() else f"no reply store yet in {path}", columns, rows)


@app.command()
def prune(
    older_than: Annotated[
        str | None, typer.Option(help="Replies kept longer ago than this: 12h, 30d, 8w.")
    ] = None,
    model: Model = None,
    max_size: Annotated[
        str | None, typer.Option(help="The oldest, until the file is this small: 500MB, 2GB.")
    ] = None,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Replies that cannot be read.")
    ] = False,
    store: Store = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and take nothing out.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Take out the replies that meet every condition given, and make the file smaller.

    What is taken out is asked, and paid, again when a run needs it.
    """
    from rlaif.store.upkeep import prune as take_out

    if older_than is None and model is None and max_size is None and not damaged:
        raise ConfigError("say what to prune: --older-than, --model, --max-size or --damaged")
    older_than_s = None if older_than is None else _seconds(older_than)
    most_bytes = None if max_size is None else _bytes(max_size)
    with _opened(_existing(store)) as replies:
        done = take_out(
            replies,
            older_than_s=older_than_s,
            model=model,
            damaged=damaged,
            most_bytes=most_bytes,
            dry_run=dry_run,
        )
        left = len(replies)
    if as_json:
        emit({"dry_run": dry_run, **asdict(done), "left": left})
        return
    freed = _size(done.freed_bytes)
    if dry_run:
        typer.echo(f"would take out {done.n} of {left} replies, about {freed}")
    else:
        typer.echo(f"took out {done.n} replies, {left} are left; freed {freed}")


@app.command()
def export(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file; standard output by default.")
    ] = None,
    model: Model = None,
    store: Store = None,
) -> None:
    """Write replies as lines of JSON, oldest first. No prompt and no key is among them."""
    from rlaif.canonical import json_line
    from rlaif.store.upkeep import export_rows

    n = 0
    with _opened(_existing(store)) as replies, _written(output) as file:
        for row in export_rows(replies, model=model):
            file.write(json_line(row))
            n += 1
    say(f"wrote {n} replies{f' to {output}' if output else ''}")


@app.command("import")
def import_(
    files: Annotated[
        list[str], typer.Argument(help="Files of `rlaif cache export`; - reads stdin.")
    ],
    store: Store = None,
) -> None:
    """Take replies in that another store's `export` wrote; those already here stay as they are."""
    from rlaif.errors import SpecError
    from rlaif.store.runs import read_rows
    from rlaif.store.upkeep import import_rows

    with _opened(_path(store)) as replies:
        for name in files:
            path = options.spooled(name)
            try:
                new = import_rows(replies, read_rows(path))
            except SpecError as error:
                if error.path is not None:
                    raise
                raise SpecError(
                    error.message, path=path, line=error.line, field=error.field
                ) from error
            say(f"{name}: {new} new replies")


def _path(store: Path | None) -> Path:
    path = store or options.home() / "replies.sqlite"
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder, and no reply store")
    except OSError as error:
        raise ConfigError(f"{path} is no reply store: {error.strerror or error}") from error
    return path


def _existing(store: Path | None) -> Path:
    path = _path(store)
    if not path.exists():
        raise ConfigError(f"there is no reply store in {path}")
    return path


def _opened(path: Path) -> ReplyStore:
    from rlaif.store.replies import ReplyStore

    return ReplyStore(path)


@contextmanager
def _written(output: Path | None) -> Iterator[TextIO]:
    from rlaif.store.runs import whole_file

    if output is None:
        yield sys.stdout
        return
    with whole_file(output) as file:
        yield file


def _told(share: dict[str, Any]) -> dict[str, Any]:
    """A row of the report: times as people read them, money without the noise of adding."""
    share["cost_usd"] = round(share["cost_usd"], 9)
    for name in ("oldest", "newest"):
        moment = datetime.fromtimestamp(share.pop(f"{name}_s"), UTC)
        share[name] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return share


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if not found:
        raise ConfigError(f"--older-than {text}: write a number and a unit, such as 12h, 30d or 8w")
    return float(found[1]) * _SECONDS[found[2]]


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if not found:
        raise ConfigError(f"--max-size {text}: write a number and a unit, such as 500MB or 2GB")
    return round(float(found[1]) * _BYTES[found[2]])


def _size(n: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} B"
