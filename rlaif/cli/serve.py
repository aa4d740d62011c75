"""`rlaif serve`: the HTTP service, and the tokens by which others may use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, say, table
from rlaif.errors import ConfigError

if TYPE_CHECKING:
    from rlaif.service.accounts import TokenBook
    from rlaif.service.config import ServiceConfig
    from rlaif.service.database import Tables
    from rlaif.service.guard import Door
    from rlaif.store.postgres import Address

app = typer.Typer(add_completion=False, help="Verdicts and rewards over HTTP.")

_TOKENS = "Tokens"
_PACKAGES = {"starlette", "uvicorn", "httptools", "prometheus_client"}


@app.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="A YAML file of judges, limits and rewards."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", help="Without --config: the model of the one judge."),
    ] = None,
    rubric: Annotated[str, typer.Option("-r", "--rubric", help="Its rubric.")] = "helpfulness",
    base_url: options.BaseUrl = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of tokens, uploads and runs. By default service in RLAIF_HOME. "
            "Servers of one --store share its uploads and runs."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A PostgreSQL database of tokens, runs, labels and replies that servers share.",
        ),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Folder below which runs may read data sets.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="Prices of models, over those that are known.")
    ] = None,
    add_token: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Make a token, print it once, and exit.", rich_help_panel=_TOKENS
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it is good for: judge, annotate, admin.", rich_help_panel=_TOKENS),
    ] = None,
    budget_usd: Annotated[
        float | None,
        typer.Option(
            "--budget-usd",
            min=0.0,
            help="Most US dollars that it may ever spend.",
            rich_help_panel=_TOKENS,
        ),
    ] = None,
    per_minute: Annotated[
        float | None,
        typer.Option(min=0.001, help="Most requests a minute.", rich_help_panel=_TOKENS),
    ] = None,
    revoke_token: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="End a token, and exit.", rich_help_panel=_TOKENS),
    ] = None,
    list_tokens: Annotated[
        bool, typer.Option("--tokens", help="List tokens, and exit.", rich_help_panel=_TOKENS)
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Serve verdicts and rewards over HTTP.

    Without tokens it listens on this machine alone; another --host needs one. Servers with one
    --store and one --root, on however many machines, are one service: each run is done once. The
    password of the database is best left to PGPASSWORD or ~/.pgpass.
    """
    try:
        from rlaif.service.accounts import TokenBook
        from rlaif.service.guard import Door, hosts_of, is_loopback
        from rlaif.service.sessions import Sessions
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        message = (
            f"serving needs {error.name}, which is not installed: pip install 'rlaif[service]'"
        )
        raise ConfigError(message) from error

    folder = (root or options.home() / "service").resolve()
    database, replies = _stores(store, folder)
    tokens = TokenBook(database)
    if add_token is not None or revoke_token is not None or list_tokens:
        limits = {"budget_usd": budget_usd, "per_minute": per_minute}
        _change_tokens(tokens, add_token, scope or ["judge"], limits, revoke_token, as_json)
        database.close()
        return
    alone = is_loopback(host)
    if not alone and not tokens:
        raise ConfigError(
            f"{host} can be reached from elsewhere: make a token first with --add-token NAME"
        )
    chosen = _chosen(config, model, rubric, base_url, inputs)
    sessions = Sessions(database.secret(folder), tokens)
    door = Door(hosts_of(host, chosen.hosts), lambda: alone and not tokens, tokens.caller, sessions)
    _serve(chosen, folder, (database, replies), door, (host, port), prices)


def _stores(url: str | None, folder: Path) -> tuple[Tables, Path | Address]:
    """The service's own database, open, and where its replies are kept.

    Raises:
        ConfigError: the URL is malformed or no PostgreSQL's, or its client is not installed.
        StoreError: the database cannot be reached or used.
    """
    if url is None:
        from rlaif.service.database import Database

        return Database(folder / "service.sqlite"), options.home() / "replies.sqlite"
    from rlaif.service.postgres import PostgresDatabase
    from rlaif.store.postgres import Address

    address = Address.parse(url)
    return PostgresDatabase(address), address


def _change_tokens(
    tokens: TokenBook,
    add: str | None,
    scopes: list[str],
    limits: dict[str, float | None],
    revoke: str | None,
    as_json: bool,
) -> None:
    if add is not None:
        made = tokens.add(
            add, scopes, budget_usd=limits["budget_usd"], per_minute=limits["per_minute"]
        )
        if as_json:
            emit({"name": add, "token": made})
        else:
            typer.echo(made)
            say("this is the only time that the token is shown")
        return
    if revoke is not None:
        tokens.revoke(revoke)
        say(f"the token {revoke} is worth nothing now")
        return
    rows = tokens.listed()
    if as_json:
        emit({"tokens": rows})
    else:
        columns = ("name", "scopes", "budget_usd", "spent_usd", "per_minute")
        table("tokens", columns, [[row[name] for name in columns] for row in rows])


def _chosen(
    path: Path | None, model: str | None, rubric: str, base_url: str | None, inputs: Path | None
) -> ServiceConfig:
    """What the options, or the file, say is offered.

    Raises:
        ConfigError: neither or both are given.
        SpecError: the file is malformed.
    """
    from rlaif.service.config import JudgeConfig, ServiceConfig, load_config

    if (path is None) == (model is None):
        raise ConfigError("say what is to judge: give either -m MODEL or --config FILE")
    if path is not None:
        found = load_config(path)
    else:
        assert model is not None
        judge = JudgeConfig(model=model, rubric=rubric, base_url=base_url)
        named = [rubric] if _is_file(rubric) else None
        found = ServiceConfig(judges={"default": judge}, rubrics=named)
    return found.model_copy(update={"inputs": str(inputs.resolve())}) if inputs else found


def _is_file(rubric: str) -> bool:
    """Whether `-r` means a file: then that one alone is offered."""
    from rlaif.specs.shipped import is_path

    return is_path(rubric)


def _serve(
    config: ServiceConfig,
    folder: Path,
    stores: tuple[Tables, Path | Address],
    door: Door,
    at: tuple[str, int],
    prices: Path | None,
) -> None:
    """Serve until the process is told to stop."""
    import logging

    from rlaif.cli.running import allow_open_files
    from rlaif.runner import run_async
    from rlaif.service.app import build_app
    from rlaif.service.serving import build_server
    from rlaif.service.state import open_service

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    allow_open_files()
    database, replies = stores
    service = open_service(
        config,
        folder,
        database,
        options.price_table(prices),
        lambda judge: options.backend_options(judge.model, judge.base_url, judge.timeout_s),
        replies,
    )
    app = build_app(service, door)
    server = build_server(
        app, *at, head_s=config.limits.header_s, begun=lambda url: say(f"serving on {url}")
    )

    run_async(server.serve())
