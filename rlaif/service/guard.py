"""What every request passes before anything reads it, and every response on its way out.

The host must be one by which this service is reached, so that a name that was pointed here later
gets nothing; a browser may change things only from the service's own pages; a token is needed
unless the service listens on this machine alone and has none; sizes and times are bounded.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import math
import re
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlaif.report.text import escape
from rlaif.service.accounts import LOCAL, Caller, Rates
from rlaif.service.accounts import Scope as Granted
from rlaif.service.config import Limits
from rlaif.service.deadline import Deadline
from rlaif.service.errors import TITLES, Problem
from rlaif.service.layout import link_to, page_of
from rlaif.service.metrics import Metrics
from rlaif.service.sessions import Sessions

PUBLIC = frozenset({"/healthz", "/readyz", "/login", "/static/page.css", "/static/page.js"})
PUBLIC |= {"/static/icon.svg"}
"""Paths that need no token: they tell nothing but that the service runs."""
CODE = "x-rlaif-code"
"""The header by which a change shows that it comes from a page of ours."""
UPLOADS = "/v1/uploads"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_PUBLIC_BYTES = 8192
"""Largest body of somebody who showed no token: enough to show one."""
_LENGTH = re.compile(r"[0-9]{1,18}")
_PORT = re.compile(r":\d*\Z")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # `no-referrer` would make browsers send the origin of our own forms as "null"
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
_NAMES = frozenset(name for name, _ in _HEADERS)

_log = logging.getLogger("rlaif.service")


@dataclass(frozen=True, slots=True)
class Door:
    """Where a service is reached, and by whom."""

    hosts: frozenset[str]
    """Names by which it is reached, without ports; empty where any will do."""
    open: Callable[[], bool]
    """Whether no token is needed now: it listens on this machine alone, and has none."""
    caller: Callable[[str], Caller | None]
    """Whose token a text is."""
    sessions: Sessions
    """The browsers that signed in."""


class Guard:
    """The outermost part of the service.

    Args:
        app: What answers.
        door: Where it is reached, and by whom.
        limits: What a request may take.
        metrics: What counts requests.
    """

    def __init__(self, app: ASGIApp, door: Door, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._door = door
        self._limits = limits
        self._metrics = metrics
        self._rates = Rates()
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        started_s, answer = time.monotonic(), _Answer(send)
        self._in_flight += 1
        try:
            await self._answered(scope, receive, answer)
        except Problem as problem:
            await answer.instead(scope, receive, problem)
        except Exception as error:
            if answer.status != 500:  # else it was logged before it was answered
                log_bug(scope["path"], error)
            await answer.instead(scope, receive, Problem(500, "the service failed; see its log"))
        finally:
            self._in_flight -= 1
            route = scope.get("state", {}).get("route", "other")
            self._metrics.answered(route, answer.status, time.monotonic() - started_s)

    async def _answered(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        headers = Headers(scope=scope)
        self._check_place(scope, headers)
        limits = self._limits
        if self._in_flight > limits.in_flight:
            raise Problem(503, "too many requests are under way", retry_after_s=1)
        most = int(1e6 * (limits.upload_mb if scope["path"] == UPLOADS else limits.body_mb))
        if scope["path"] in PUBLIC:
            most = min(most, _PUBLIC_BYTES)
        else:
            state = scope.setdefault("state", {})
            state["caller"] = self._caller(scope, headers, state)
        declared = headers.get("content-length", "0")
        if not _LENGTH.fullmatch(declared):
            raise Problem(400, "the length of the body is no number")
        if int(declared) > most:
            raise Problem(413, f"the body may have {most:,} bytes")
        has_body = declared != "0" or "transfer-encoding" in headers
        body = _Body(receive, most, limits.request_s, ended=not has_body)
        try:
            with Deadline(limits.body_s if has_body else limits.request_s) as deadline:
                body.deadline, answer.body = deadline, body
                await self._app(scope, body, answer)
        except TimeoutError:
            if not body.ended:
                raise Problem(408, "the body did not arrive in time") from None
            raise Problem(504, "the answer took too long") from None

    def _check_place(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) > 1:
            raise Problem(400, "a request names one host")
        host = hosts[0] if hosts else ""
        name = _PORT.sub("", host).lower()
        if self._door.hosts and name not in self._door.hosts:
            raise Problem(421, "this service is not reached by that name")
        if scope["method"] in _SAFE:
            return
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site not in (None, "same-origin", "none"):
            raise Problem(403, "another site's page may not ask this service")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Problem(403, "another site's page may not ask this service")

    def _caller(self, scope: Scope, headers: Headers, state: dict[str, Any]) -> Caller:
        kind, _, text = headers.get("authorization", "").partition(" ")
        found = self._door.caller(text.strip()) if kind.lower() == "bearer" else None
        if found is None and not kind and "cookie" in headers:
            found = self._browser(scope, headers, state)
        if found is None and not kind and self._door.open():
            return LOCAL
        if found is None:
            raise Problem(401, "a token is needed: send Authorization: Bearer TOKEN")
        if wait_s := self._rates.wait_s(found, time.monotonic()):
            raise Problem(429, "the token's rate is used up", retry_after_s=wait_s)
        return found

    def _browser(self, scope: Scope, headers: Headers, state: dict[str, Any]) -> Caller | None:
        """Who is signed in; what a browser sends by itself is not enough to change anything."""
        known = self._door.sessions.caller(headers["cookie"])
        if known is None:
            return None
        caller, cookie = known
        code = self._door.sessions.code(cookie)
        given = headers.get(CODE, "")
        changes = scope["method"] not in _SAFE and scope["path"] != "/logout"
        if changes and not hmac.compare_digest(code.encode(), given.encode()):
            raise Problem(403, "a change needs the code of its page")
        state["code"], state["who"] = code, caller.name
        return caller


class _Answer:
    """What sends a response, with the headers that every one has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.body: _Body | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            own = _NAMES.intersection([name for name, _ in headers])
            more = [pair for pair in _HEADERS if pair[0] not in own] if own else _HEADERS
            message["headers"] = headers + more
            if self.body is not None:
                self.body.leave()
        await self._send(message)

    async def instead(self, scope: Scope, receive: Receive, problem: Problem) -> None:
        """Answer with `problem`, unless an answer has begun: that one is then cut off."""
        if self.status:
            return
        self.body = None
        await told(problem, scope)(scope, receive, self)


class _Body:
    """What receives a body, of no more than `most` bytes.

    Once all of it is there, the answer has `answer_s` seconds.

    Raises:
        Problem: it is larger, or the client goes away amid it.
    """

    def __init__(self, receive: Receive, most: int, answer_s: float, *, ended: bool) -> None:
        self._receive = receive
        self._left = most
        self._most = most
        self._answer_s = answer_s
        self.ended = ended
        self.deadline: Deadline | None = None

    async def __call__(self) -> Message:
        message = await self._receive()
        if not self.ended and message["type"] == "http.disconnect":
            raise Problem(400, "the client went away amid the body")
        if not self.ended:
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise Problem(413, f"the body may have {self._most:,} bytes")
            if not message.get("more_body", False):
                self.ended = True
                if self.deadline is not None:
                    self.deadline.move(self._answer_s)
        return message

    def leave(self) -> None:
        """Note that the answer has begun, whatever of the body is still to come.

        It may go on: a stream of verdicts takes as long as it does.
        """
        self.ended = True
        if self.deadline is not None:
            self.deadline.move(math.inf)


def told(problem: Problem, scope: Scope) -> Response:
    """The response that says `problem`: a page to whoever reads pages, else an object."""
    accepted = Headers(scope=scope).get("accept", "")
    if "text/html" not in accepted or scope["path"].startswith("/v1/"):
        return problem.response()
    if problem.status == 401:
        return RedirectResponse(link_to("/login", to=scope["path"].removesuffix("/")), 303)
    title, wait_s = TITLES.get(problem.status, "The request failed"), problem.retry_after_s
    waits = f' data-waits="{max(1.0, wait_s):g}"' if wait_s and scope["method"] == "GET" else ""
    body = f"<h1>{escape(title)}</h1><p{waits}>{escape(problem.detail)}</p>"
    return page_of(scope, title, body, problem.status)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def hosts_of(address: str, more: Iterable[str]) -> frozenset[str]:
    """The names by which a service that listens on `address` is reached; empty for any."""
    named = list(more)
    if not named and not is_loopback(address):
        return frozenset()
    return frozenset(_as_asked(name) for name in (*_LOOPBACK, address, *named))


def _as_asked(host: str) -> str:
    """A host as browsers ask for it: in small letters, an IPv6 address short and in brackets."""
    try:
        found = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return _PORT.sub("", host).lower()
    return f"[{found}]" if found.version == 6 else str(found)


def caller_of(request: Request, scope: Granted | None = None) -> Caller:
    """Who asks, where the caller may; with no `scope`, whoever has any.

    Raises:
        Problem: the caller's token lacks `scope`.
    """
    caller: Caller = request.scope["state"]["caller"]
    if scope is not None and not caller.may(scope):
        raise Problem(403, f"the token lacks the scope {scope}")
    return caller


def log_bug(path: str, error: BaseException) -> None:
    """Log that a request failed, and where; nothing that somebody wrote."""
    _log.error("a request to %s failed: %s", path, _where(error))


def _where(error: BaseException) -> str:
    """What failed and where, without its message, which may hold what somebody wrote."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"
