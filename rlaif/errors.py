"""Every error that rlaif raises on purpose.

    RlaifError
    ├── SpecError(ValueError)    a file the user gave is wrong: `.path`, `.line`, `.field`
    ├── ConfigError(ValueError)  a setting is wrong: an address, an option, a missing key or extra
    ├── BackendError             a provider failed: `.retryable`, `.retry_after` (seconds), `.fatal`
    │   └── BudgetError          the budget is spent, so the call was not sent
    ├── VerdictError             a judge's reply holds no verdict: `.cause`, `.reply`
    ├── DataError(ValueError)    the data cannot support the computation
    └── StoreError               the reply store or a run folder cannot be read or written

Anything else that escapes is a bug and stays an ordinary exception.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

Cause = Literal["unreadable", "refused", "truncated", "provider_error", "budget", "injection"]
"""Why an item has no verdict."""
Failure = Literal[
    "rate_limit", "overload", "timeout", "connection", "server", "bad_reply", "access", "request"
]
"""What went wrong with a call: the provider limits calls or is overloaded, did not answer in time,
could not be reached, failed by itself, answered something unreadable, refuses us, or refuses the
request."""


class RlaifError(Exception):
    """Base of every error that rlaif raises on purpose."""


class SpecError(RlaifError, ValueError):
    """A file is missing, malformed or does not fit its schema.

    Args:
        message: What is wrong, in one line.
        path: The file at fault.
        line: Line in that file, counted from 1.
        field: Name of the field at fault, dotted for a nested one.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        self.message = message
        self.path = str(path) if path is not None else None
        self.line = line
        self.field = field
        super().__init__(message)

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.path, self.line) if part is not None)
        field = f"field '{self.field}': " if self.field else ""
        return f"{where}: {field}{self.message}" if where else f"{field}{self.message}"


class ConfigError(RlaifError, ValueError):
    """A setting is wrong: an unknown provider, a missing key, a package that is not installed."""


class BackendError(RlaifError):
    """A provider failed to answer.

    Args:
        message: What happened, without any secret.
        retryable: Whether the same call may succeed later (rate limit, overload, time-out).
        retry_after: Seconds the provider asked us to wait, if it did.
        fatal: Whether every further call would fail the same way (bad key, unknown model).
        kind: What went wrong, for the counts of a run and for the pace of further calls.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        fatal: bool = False,
        kind: Failure = "server",
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after
        self.fatal = fatal
        self.kind: Failure = kind


class BudgetError(BackendError):
    """The budget is spent: the call was not sent, and neither will any further one be."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="request")


class VerdictError(RlaifError):
    """A judge's reply holds no verdict. It is never read as a tie, a zero or a loss."""

    def __init__(self, message: str, *, cause: Cause, reply: str = "") -> None:
        super().__init__(message)
        self.cause: Cause = cause
        self.reply = reply


class DataError(RlaifError, ValueError):
    """The data cannot support the computation that was asked for."""


class StoreError(RlaifError):
    """The reply store or a run folder cannot be read or written."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown `name`: nearest names, or all that are known."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    return f"known: {', '.join(names)}" if names else "none are known"
