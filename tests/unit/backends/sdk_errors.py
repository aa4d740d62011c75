"""Every error class of a provider's SDK, and an instance of each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import httpx2


def subclasses(root: type[Exception]) -> list[type[Exception]]:
    """`root` and all classes below it, by name."""

    def walk(kind: type[Exception]) -> Iterator[type[Exception]]:
        yield kind
        for child in kind.__subclasses__():
            yield from walk(child)

    return sorted(set(walk(root)), key=lambda kind: kind.__name__)


def instance(kind: type[Exception], status: int, said: str, **more: Any) -> Exception:
    """An error of the class `kind` about an answer that says `said`."""
    request = httpx2.Request("POST", "http://x/v1/call")
    body = {"error": {"message": said}}
    answer = httpx2.Response(getattr(kind, "status_code", status), request=request, json=body)
    known = {"message": said, "request": request, "response": answer, "body": body, **more}
    if not inspect.isfunction(kind.__init__):
        return kind(said)
    wanted = [p for p in inspect.signature(kind).parameters.values() if p.kind is not p.VAR_KEYWORD]
    args = [known.get(p.name, "x") for p in wanted if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = {p.name: known.get(p.name, "x") for p in wanted if p.kind is p.KEYWORD_ONLY}
    return kind(*args, **named)


_KINDS = {
    **dict.fromkeys((401, 402, 403), "access"),
    **dict.fromkeys((408, 504, 524), "timeout"),
    **dict.fromkeys((503, 529), "overload"),
    **dict.fromkeys((409, 425), "server"),
    429: "rate_limit",
}


def expected_kind(error: Exception) -> str:
    """The kind of ours that an SDK's error is, told by its name and its HTTP status."""
    status = getattr(error, "status_code", None)
    name = type(error).__name__
    if name == "APIResponseValidationError":
        return "bad_reply"
    if isinstance(status, int):
        return _KINDS.get(status, "server" if status >= 500 else "request")
    if ("Connection" in name and "WebSocket" not in name) or name == "APITimeoutError":
        return "connection"
    return "request"
