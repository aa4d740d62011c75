"""What goes wrong with calls to the test server."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one call, instead of its reply."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | bytes | dict[str, Any] | None = None
    """Sent as it is; an object as JSON. None for the right answer."""
    hang: bool = False
    """Never answer."""
    drop: bool = False
    """Close the connection without an answer."""
    cut: bool = False
    """Announce the whole answer, send half of it and close the connection."""


def html(status: int = 200) -> Fault:
    """A page where JSON should be, as proxies send."""
    return Fault(status, {"Content-Type": "text/html"}, "<!DOCTYPE html><html><p>Hello</p></html>")


def api_error(
    status: int, message: str, headers: dict[str, str] | None = None, **more: Any
) -> Fault:
    """An error as OpenAI's and Anthropic's APIs write it."""
    error = {"message": message, "type": "invalid_request_error", **more}
    return Fault(status, headers or {}, {"type": "error", "error": error})


def refuse(*names: str, model: str = "this model") -> Callable[[Recorded], Fault | None]:
    """A fault for every call that holds one of the parameters `names`, as OpenAI's API refuses."""

    def fault(request: Recorded) -> Fault | None:
        for name in names:
            if name in request.body:
                text = f"Unsupported parameter: '{name}' is not supported with {model}."
                return api_error(400, text, param=name, code="unsupported_parameter")
        return None

    return fault


@dataclass(frozen=True)
class Recorded:
    """One call that came in."""

    path: str
    headers: dict[str, str]
    """By lower-case name."""
    body: dict[str, Any]


Faults = Iterable[Fault | None] | Callable[[Recorded], Fault | None]


def in_order(faults: Iterable[Fault | None]) -> Callable[[Recorded], Fault | None]:
    """One fault per call, in order; none once they are used up."""
    left = deque(faults)
    return lambda _: left.popleft() if left else None
