"""Answers of providers, read field by field: what does not fit the protocol raises."""

from __future__ import annotations

import json
import math
from typing import Any

from rlaif.backends._http import Endpoint, is_html
from rlaif.errors import BackendError


def read_json(endpoint: Endpoint, text: str) -> dict[str, Any]:
    """The JSON object in the body of a success.

    Raises:
        BackendError: it is something else; worth another try, as proxies do this in passing.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        what = "HTML" if is_html(text) else "no JSON"
        quote = endpoint.redact(text[:80]) or "nothing at all"
        hint = f"is the base URL right? {endpoint.url}"
        raise unreadable(endpoint, f"{what} ({quote}); {hint}") from None
    if not isinstance(found, dict):
        raise unreadable(endpoint, f"JSON that is a {type(found).__name__}, not an object")
    return found


def unreadable(endpoint: Endpoint, what: str) -> BackendError:
    """The error for a success whose body is not what the protocol says."""
    return BackendError(f"{endpoint.provider} answered {what}", retryable=True, kind="bad_reply")


class Body:
    """A JSON object from outside, read field by field; what does not fit raises `BackendError`."""

    def __init__(self, endpoint: Endpoint, fields: object, path: str = "") -> None:
        self._endpoint = endpoint
        self._path = path
        if not isinstance(fields, dict):
            raise self._wrong(path, "is not an object")
        self._fields: dict[str, Any] = fields

    def text(self, name: str) -> str:
        """A string; empty where it is absent or null."""
        value = self._fields.get(name)
        if not isinstance(value, str | None):
            raise self._wrong(self._at(name), "is not text")
        return value or ""

    def count(self, name: str) -> int:
        """A number of tokens; 0 where it is absent or null."""
        value = self._fields.get(name)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(self._at(name), "is not a count")
        return value

    def logprob(self, name: str) -> float:
        """A log-probability in nats; servers write -9999 for minus infinity, and so do we."""
        value = self._fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            raise self._wrong(self._at(name), "is not a log-probability")
        return min(0.0, max(-9999.0, float(value)))

    def part(self, name: str) -> Body:
        """An object; empty where it is absent or null."""
        value = self._fields.get(name)
        return Body(self._endpoint, {} if value is None else value, self._at(name))

    def parts(self, name: str) -> list[Body]:
        """A list of objects; empty where it is absent or null."""
        at = self._at(name)
        return [Body(self._endpoint, v, f"{at}[{i}]") for i, v in enumerate(self.items(name))]

    def items(self, name: str) -> list[Any]:
        """A list; empty where it is absent or null."""
        value = self._fields.get(name)
        if not isinstance(value, list | None):
            raise self._wrong(self._at(name), "is not a list")
        return value or []

    def get(self, name: str) -> Any:
        """Whatever is there, or None."""
        return self._fields.get(name)

    def missing(self, name: str) -> BackendError:
        """The error for a field that cannot be done without."""
        return self._wrong(self._at(name), "is missing")

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _wrong(self, path: str, what: str) -> BackendError:
        return unreadable(self._endpoint, f"JSON where {path or 'it'} {what}")
