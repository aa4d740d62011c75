"""`rlaif doctor`: what is installed, which keys are set, what is kept, what answers.

It tells of keys only whether they are set. It makes and changes nothing.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, say, table

if TYPE_CHECKING:
    from rlaif.backends._http import Endpoint

app = typer.Typer(add_completion=False)

PACKAGES = (
    *("aiohttp", "anthropic", "httpx", "numpy", "openai", "orjson", "pydantic", "pyyaml", "rich"),
    *("scipy", "tenacity", "typer", "uvloop", "zstandard"),
)
"""What rlaif needs whatever it is used for."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "local": ("torch", "transformers", "accelerate", "gguf", "safetensors"),
    "train": ("datasets", "peft", "trl"),
    "service": ("starlette", "uvicorn", "httptools", "prometheus-client"),
    "postgres": ("psycopg",),
}
"""The packages that each extra brings; `train` brings those of `local` too."""

_TIMEOUT_S = 5.0
_MOST_MODELS = 50


@app.command()
def doctor(
    base_url: options.BaseUrl = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Longest wait for the server, in seconds.")
    ] = _TIMEOUT_S,
    as_json: options.AsJson = False,
) -> None:
    """Say what is installed, which keys are set, what is kept, and whether a server answers.

    Exits 1 if the reply store is damaged, prices.yaml is wrong, or the server does not answer.
    """
    home = options.home()
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "rlaif": _rlaif_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": extras(),
        "keys": keys(),
        "home": str(home),
        "store": check_store(home / "replies.sqlite"),
        "models": _models(home),
        "prices": check_prices(home / "prices.yaml"),
        "device": _device(),
        "dtype": _measured(home),
    }
    if base_url is not None:
        found["server"] = check_server(base_url, timeout)
    found["problems"] = _problems(found)
    if as_json:
        emit(found)
    else:
        table("rlaif doctor", ("", ""), _lines(found))
    for problem in found["problems"]:
        say(f"error: {problem}")
    if found["problems"]:
        raise typer.Exit(1)


def _rlaif_version() -> str:
    from rlaif import __version__

    return __version__


def _version(package: str) -> str | None:
    """The installed version of a package, or `None`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def extras() -> dict[str, dict[str, Any]]:
    """For each extra the versions of its packages, and whether all are there."""
    own = {name: {p: _version(p) for p in packages} for name, packages in EXTRAS.items()}
    complete = {name: None not in versions.values() for name, versions in own.items()}
    complete["train"] = complete["train"] and complete["local"]  # it builds on local
    return {name: {"complete": complete[name], "packages": own[name]} for name in own}


def keys() -> dict[str, bool]:
    """Environment variable of each provider's key to whether it is set."""
    from rlaif.backends.registry import PROVIDERS

    names = [provider.key for provider in PROVIDERS.values() if provider.key]
    return {name: bool(os.environ.get(name, "").strip()) for name in names}


def check_store(path: Path) -> dict[str, Any]:
    """Rows and bytes of the reply store, and its `error` if it cannot be used.

    A store that is not there yet is in order. Nothing is made, and nothing is changed.
    """
    facts: dict[str, Any] = {"path": str(path), "exists": path.exists(), "rows": 0, "bytes": 0}
    if not facts["exists"]:
        return facts
    from rlaif.errors import StoreError
    from rlaif.store.replies import ReplyStore

    try:
        facts["bytes"] = path.stat().st_size
        if facts["bytes"]:  # opening an empty file would make a store of it
            _check_pages(path)
            with ReplyStore(path) as store:
                facts["rows"] = len(store)
    except (StoreError, OSError) as error:
        facts["error"] = str(error)
    return facts


def check_prices(own: Path) -> dict[str, Any]:
    """The date of the shipped prices, whose list prices change, and how many are in a file `own`.

    The `error` is of a file that cannot be read.
    """
    from rlaif.backends.prices import read_price_file, shipped_prices
    from rlaif.errors import SpecError

    facts: dict[str, Any] = {"date": read_price_file(shipped_prices()).date, "own": 0}
    try:
        if own.is_file():
            facts["own"] = len(read_price_file(own).models)
    except SpecError as error:
        facts["error"] = str(error)
    return facts


def _check_pages(path: Path) -> None:
    """Raise `StoreError` if a page of the database is damaged; its contents are not read."""
    from rlaif.errors import StoreError

    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)
        try:
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            database.close()
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        reason = " ".join(said.split())
        raise StoreError(f"{path} is damaged ({reason}); move it away to start a new one")


def _models(home: Path) -> dict[str, bool]:
    """Address of each embedded model to whether it is fetched."""
    from rlaif.backends.embedded import EMBEDDED, embedded_path

    return {
        f"local/{name}": (embedded_path(name, home) / "config.json").exists() for name in EMBEDDED
    }


def _device() -> str | None:
    """What local models run on, or `None` without torch."""
    try:
        import torch
    except (ImportError, OSError):  # OSError: a library that torch needs is missing
        return None
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def _measured(home: Path) -> dict[str, str]:
    """The dtype chosen for each machine that was measured; empty before the first time."""
    try:
        found = json.loads((home / "measured.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def check_server(base_url: str, timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
    """The models that an OpenAI-compatible server lists, or the `error` that kept it from it.

    Raises:
        ConfigError: `base_url` is not the address of a server, or the key cannot be one.
    """
    import asyncio

    from rlaif.backends._http import Endpoint, api_root, clean_key
    from rlaif.backends.server import KEY
    from rlaif.errors import BackendError

    key = clean_key(os.environ.get(KEY), KEY)
    endpoint = Endpoint("the server", api_root(base_url), "", KEY, key)
    try:
        names = asyncio.run(_listed(endpoint, timeout_s))
    except BackendError as error:
        return {"url": endpoint.url, "error": str(error)}
    return {"url": endpoint.url, "models": names}


async def _listed(endpoint: Endpoint, timeout_s: float) -> list[str]:
    """The names that `/models` gives.

    Raises:
        BackendError: the server does not answer, or not as it should.
    """
    from rlaif.backends._body import Body, read_json
    from rlaif.backends._connection import Connection
    from rlaif.backends._http import status_error
    from rlaif.backends.timeouts import Timeouts

    connection = Connection(endpoint, Timeouts(connect_s=timeout_s, total_s=timeout_s))
    try:
        answer = await connection.get(endpoint.url + "/models")
    finally:
        await connection.aclose()
    if answer.status != 200:
        raise status_error(endpoint, answer.status, answer.headers, answer.text)
    models = Body(endpoint, read_json(endpoint, answer.text)).parts("data")
    return [endpoint.redact(model.text("id")) for model in models]


def _problems(found: dict[str, Any]) -> list[str]:
    checked = (found["store"], found["prices"], found.get("server", {}))
    return [part["error"] for part in checked if "error" in part]


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of the table."""
    store = found["store"]
    lines = [
        ("python", found["python"]),
        ("rlaif", found["rlaif"]),
        *((f"package {name}", version or "MISSING") for name, version in found["packages"].items()),
        *((f"extra {name}", _extra(facts)) for name, facts in found["extras"].items()),
        *((name, "set" if is_set else "not set") for name, is_set in found["keys"].items()),
        ("RLAIF_HOME", found["home"]),
        ("reply store", _store(store)),
        *((name, "fetched" if there else "not fetched") for name, there in found["models"].items()),
        ("prices", _prices(found["prices"])),
        ("device", found["device"] or "no torch"),
        *(("dtype", f"{dtype} ({machine})") for machine, dtype in found["dtype"].items()),
    ]
    if (server := found.get("server")) is not None:
        names = ", ".join(server.get("models", [])[:_MOST_MODELS]) or "no models"
        lines.append((server["url"], "no answer" if "error" in server else f"answers: {names}"))
    return lines


def _extra(facts: dict[str, Any]) -> str:
    missing = [name for name, version in facts["packages"].items() if version is None]
    if missing:
        return f"needs {', '.join(missing)}"
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return versions if facts["complete"] else f"needs rlaif[local]; {versions}"


def _prices(prices: dict[str, Any]) -> str:
    if "error" in prices:
        return "your prices.yaml cannot be read"
    own = f", {prices['own']} of your own" if prices["own"] else ""
    return f"of {prices['date']}{own}"


def _store(store: dict[str, Any]) -> str:
    if "error" in store:
        return "damaged"
    if not store["exists"]:
        return "none yet"
    return f"{store['rows']} replies, {store['bytes'] / 1e6:.1f} MB"
