"""Which HTTP status each error becomes, and the body that says why.

The body is a problem object (RFC 9457): `type`, `title`, `status`, `detail`, and `field` where one
is at fault. It never holds prompt text beyond a short quotation of what could not be read.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from rlaif.canonical import json_bytes
from rlaif.errors import (
    BackendError,
    BudgetError,
    ConfigError,
    DataError,
    RlaifError,
    SpecError,
    StoreError,
    VerdictError,
)
from rlaif.store.postgres import UnreachableError

STATUSES: dict[type[RlaifError], int] = {
    SpecError: 422,
    ConfigError: 422,
    DataError: 422,
    BudgetError: 402,
    BackendError: 502,
    VerdictError: 503,
    StoreError: 507,
}
"""The status of each error; a subclass stands before its base."""

TITLES = {
    400: "The request cannot be read",
    401: "A token is needed",
    402: "The budget is spent",
    403: "Not allowed",
    404: "There is no such thing",
    405: "The method is not allowed",
    406: "That format is not to be had",
    408: "The request took too long to arrive",
    409: "It is in another state",
    413: "The request is too large",
    415: "The type of the body is not known",
    421: "The host is not this one",
    422: "The request does not fit",
    429: "Too many requests",
    500: "The service failed",
    502: "The judge's provider failed",
    503: "Not now",
    504: "The judge took too long",
    507: "Nothing can be kept",
}
_LONGEST = 600
_BACK_S = 5.0
"""Seconds after which to ask again where the database was away."""


class Problem(Exception):  # noqa: N818
    """An answer that is not the one that was asked for.

    Args:
        status: The HTTP status.
        detail: What is wrong, in one line.
        field: The field at fault.
        retry_after_s: Seconds after which to try again.
        more: Further members of the body.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.retry_after_s = retry_after_s
        self.more = more

    def response(self) -> Response:
        """The response that says so."""
        body = {
            "type": "about:blank",
            "title": TITLES.get(self.status, "The request failed"),
            "status": self.status,
            "detail": self.detail[:_LONGEST],
            **({"field": self.field[:200]} if self.field else {}),
            **self.more,
        }
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after_s)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(
            json_bytes(body), self.status, headers, media_type="application/problem+json"
        )


def problem_of(error: RlaifError) -> Problem:
    """What the client is told of `error`."""
    if isinstance(error, UnreachableError):
        return Problem(503, str(error), retry_after_s=_BACK_S)
    status = next((code for kind, code in STATUSES.items() if isinstance(error, kind)), 500)
    if isinstance(error, SpecError):
        row = f"row {error.line}: " if error.line is not None else ""
        return Problem(status, row + error.message, field=error.field)
    retry_after = error.retry_after if isinstance(error, BackendError) else None
    return Problem(status, str(error), retry_after_s=retry_after)
