"""Values of a user's file in the words of an error message."""

from __future__ import annotations

from collections.abc import Mapping

_LONGEST = 60
_KINDS: dict[type, str] = {dict: "a mapping", list: "a list", tuple: "a list", bytes: "bytes"}


def describe(value: object) -> str:
    """What `value` is, briefly: `the number 3`, `the text 'on'`, `a list`, `nothing`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        shown = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
        return f"the text {shown!r}" if value else "empty text"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**18):
        return f"the number {value}"
    kind = type(value)
    return _KINDS.get(kind) or ("a mapping" if isinstance(value, Mapping) else f"a {kind.__name__}")
