"""Data sets that clients send, kept below the service's own folder under names of our making."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from contextlib import suppress
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from rlaif.canonical import json_bytes
from rlaif.errors import SpecError, StoreError
from rlaif.service.accounts import Caller
from rlaif.service.bodies import JSON
from rlaif.service.errors import Problem
from rlaif.service.guard import caller_of
from rlaif.service.state import service_of

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "json.gz", "csv.gz", "tsv.gz")
_ID = re.compile(r"[0-9a-f]{32}")


async def upload(request: Request) -> Response:
    """Keep the body as a data set, and say under which id a run may name it."""
    service, caller = service_of(request), caller_of(request, "judge")
    form = request.query_params.get("format", "jsonl")
    if form not in FORMATS:
        raise SpecError(f"is one of {', '.join(FORMATS)}", field="format")
    name = secrets.token_hex(16)
    folder = service.root / "uploads" / str(caller.id) / name
    path = folder / f"data.{form}"
    whole, size = hashlib.sha256(), 0
    try:
        folder.mkdir(parents=True)
        with path.open("xb") as file:
            async for part in request.stream():
                size += len(part)
                whole.update(part)
                await asyncio.to_thread(file.write, part)
    except OSError as error:
        _remove(path)
        raise StoreError(f"the upload cannot be kept: {error.strerror}") from error
    except BaseException:
        _remove(path)
        raise
    if not size:
        _remove(path)
        raise Problem(400, "the body is empty")
    kept = {"upload": name, "bytes": size, "sha256": whole.hexdigest()}
    return Response(json_bytes(kept), 201, media_type=JSON)


def uploaded(root: Path, caller: Caller, name: str) -> str:
    """The name of the file of an upload.

    Raises:
        SpecError: the caller has no such upload.
    """
    folder = root / "uploads" / str(caller.id) / name
    found = sorted(folder.glob("data.*")) if _ID.fullmatch(name) else []
    if not found:
        raise SpecError("there is no such upload", field="data.upload")
    return found[0].name


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()
