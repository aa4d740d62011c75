"""Options that commands share, and how the environment becomes backends."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from rlaif.backends.base import Backend, BackendOptions
from rlaif.backends.budgeted import Budget
from rlaif.backends.cached import CachedBackend
from rlaif.backends.opening import Terms, connect
from rlaif.backends.pace import PaceBook
from rlaif.backends.prices import PriceTable, load_prices
from rlaif.backends.registry import resolve_options
from rlaif.canonical import canonical_json
from rlaif.errors import ConfigError, SpecError
from rlaif.store.replies import ReplyStore
from rlaif.store.runs import read_candidates
from rlaif.types import as_dict

CANDIDATES = "candidates.jsonl"

Output = Annotated[Path, typer.Option("-o", "--output", help="The run folder.")]
Models = Annotated[
    list[str], typer.Option("-m", "--model", help="A model's address, provider/name. Repeatable.")
]
Rubric = Annotated[str, typer.Option("-r", "--rubric", help="A shipped rubric, or a file.")]
Limit = Annotated[int | None, typer.Option(min=1, max=10**12, help="Most prompts to take.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Most calls in flight.")]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", help="The address of a server, such as http://localhost:8000/v1."),
]
Timeout = Annotated[float, typer.Option(min=0.1, help="Longest wait for one call, in seconds.")]
MaxFailures = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="Share without a verdict above which the exit code is 1."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be asked, and ask nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Temperature = Annotated[float, typer.Option(min=0.0, max=2.0, help="Sampling temperature.")]
TopP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Nucleus mass.")]
MaxTokens = Annotated[int, typer.Option(min=1, max=10_000_000, help="Most tokens of a reply.")]


def home() -> Path:
    """`$RLAIF_HOME`, or `~/.cache/rlaif`."""
    return Path(os.environ.get("RLAIF_HOME") or Path.home() / ".cache" / "rlaif").expanduser()


def backend_options(address: str, base_url: str | None, timeout_s: float) -> BackendOptions:
    """What the environment and the command line say about the provider of `address`."""
    return resolve_options(address, os.environ, base_url=base_url, timeout_s=timeout_s, home=home())


def price_table(given: Path | None = None) -> PriceTable:
    """The prices in a file, then `prices.yaml` in the home folder, then those shipped with rlaif.

    Raises:
        SpecError: a file is missing or malformed: names its line and field.
    """
    own = home() / "prices.yaml"
    return load_prices(*([given] if given else []), *([own] if own.is_file() else []))


def open_backend(
    address: str,
    store: ReplyStore,
    *,
    concurrency: int | None = None,
    base_url: str | None = None,
    timeout_s: float = 120.0,
    terms: Terms | None = None,
) -> CachedBackend:
    """The backend of `address`: from the reply store, else within the budget, retried and paced.

    Args:
        address: `provider/name`. A model in this process is neither paced nor retried.
        store: Where replies are kept.
        concurrency: Most calls in flight, where `terms` has no paces; found by itself where None.
        base_url: The address of a server.
        timeout_s: Longest wait for one call.
        terms: What it shares with the other backends of the command; its own by default.

    Raises:
        ConfigError: the address is wrong, a key, a URL or an installed package is missing, or the
            budget has a limit and nobody knows the model's price.
        SpecError: a script or a file of prices is malformed.
    """
    terms = terms or Terms(price_table(), Budget(), PaceBook(concurrency))
    return connect(address, backend_options(address, base_url, timeout_s), store, terms)


@asynccontextmanager
async def opened(*backends: Backend) -> AsyncIterator[None]:
    """Close `backends` when the block ends, however it ends."""
    try:
        yield
    finally:
        for backend in backends:
            await backend.aclose()


def open_store() -> ReplyStore:
    """The store that all runs of this user share."""
    return ReplyStore(home() / "replies.sqlite")


def one_model(models: list[str]) -> str:
    """The only address in `models`.

    Raises:
        ConfigError: there are more.
    """
    if len(models) != 1:
        raise ConfigError(f"give one judge with -m, not {len(models)}")
    return models[0]


def distinct(models: list[str]) -> None:
    """Raise `ConfigError` if an address is given twice: its draws would be the same ones."""
    for place, address in enumerate(models):
        if address in models[:place]:
            raise ConfigError(f"-m {address} is given twice; for more draws of a model raise -n")


def spooled(source: str | Path) -> Path:
    """`source` as a file that can be read twice: `-`, for standard input, and pipes are copied.

    The copy goes when the process ends.

    Raises:
        SpecError: there is no such file or folder, or it cannot be read.
    """
    if str(source) == "-":
        return _copied(sys.stdin.buffer, "stdin.jsonl")
    path = Path(source)
    try:
        if path.is_fifo():
            with path.open("rb") as pipe:
                return _copied(pipe, path.name if path.suffix else f"{path.name}.jsonl")
        there = path.exists()
    except OSError as error:
        raise SpecError(error.strerror or str(error), path=path) from error
    if not there:
        raise SpecError("no such file or folder", path=path)
    return path


def _copied(source: BinaryIO, name: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rlaif-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / name
    with path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    return path


def data_digest(path: Path) -> str:
    """SHA-256 of a file, of a folder's data files, or of the candidates that `generate` made.

    Of candidates only what is judged counts: whether a reply came from the store is told beside
    them, and changes when the command is run again.
    """
    whole = hashlib.sha256()
    if path.name == CANDIDATES or (path / CANDIDATES).is_file():
        for item, candidates in read_candidates(path):
            whole.update(canonical_json([as_dict(item), as_dict(candidates)]).encode())
        return whole.hexdigest()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for one in files:
        with one.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
