"""What the providers that answer over HTTP share: keys, URLs, and errors that name no secret."""

from __future__ import annotations

import json
import math
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from rlaif.errors import BackendError, ConfigError, Failure, suggestion

_LONGEST_QUOTE = 300
"""Characters of a server's own words that an error repeats."""
_MOST_NAMES = 20
"""Models that an error about an unknown one lists."""
_SHARED_WITH_KEY = 6
"""A word that shares this many characters in a row with the key is not repeated."""
_RETRYABLE = frozenset({408, 409, 425, 429})
_PASSING: dict[int, Failure] = {
    408: "timeout",
    429: "rate_limit",
    503: "overload",
    504: "timeout",
    524: "timeout",
    529: "overload",
}
"""What the statuses that may pass mean; of the others the server failed."""
_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error"})
"""Codes of providers for an account that is out of money: waiting does not help."""
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
"""What OpenSSL says of an answer that is not TLS at all."""
_SPENT_MESSAGE = "Your credit balance is too low"
"""How Anthropic's API says so, without a code of its own."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who is asked, for error messages."""

    provider: str
    """As a sentence would name it: "OpenAI", "the server"."""
    url: str
    model: str
    key_variable: str
    key: str | None = field(default=None, repr=False)
    proxy: str = ""
    """Host and port of the proxy that calls go through, where there is one."""

    def redact(self, text: str) -> str:
        """`text` on one line, short, and without any word that shows a part of the key.

        Servers do repeat keys in their errors, whole or with the middle starred out.
        """
        printable = "".join(c if c.isprintable() else " " for c in text[: 20 * _LONGEST_QUOTE])
        words = ["[redacted]" if self._tells_key(word) else word for word in printable.split()]
        line = " ".join(words)
        return line if len(line) <= _LONGEST_QUOTE else line[: _LONGEST_QUOTE - 1] + "…"

    def _tells_key(self, word: str) -> bool:
        if not self.key:
            return False
        size = min(_SHARED_WITH_KEY, len(self.key))
        parts = (self.key[i : i + size] for i in range(len(self.key) - size + 1))
        return "***" in word or any(part in word for part in parts)


def clean_key(key: str | None, variable: str) -> str | None:
    """`key` without the line end or spaces that copying leaves around it; None for an empty one.

    Raises:
        ConfigError: it holds anything that no key holds; `variable` is named, never the value.
    """
    cleaned = (key or "").strip()
    if not all("!" <= character <= "~" for character in cleaned):
        raise ConfigError(
            f"{variable} is not a key: it holds a space, a control character or a non-ASCII one"
        )
    return cleaned or None


def clean_url(url: str) -> str:
    """`url` without a slash at its end; `http://` is added where no scheme is given.

    Raises:
        ConfigError: it is not the plain http or https address of a server.
    """
    full = url.strip() if "://" in url else f"http://{url.strip()}"
    try:
        parts = urlsplit(full)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("the base URL is not a URL") from None
    if "@" in parts.netloc:
        # not shown: what precedes the @ is a secret
        raise ConfigError("the base URL holds a user or a password; pass a key instead")
    if parts.scheme not in {"http", "https"} or not host or any(c.isspace() for c in full):
        raise ConfigError(f"the base URL {url!r} is not like http://localhost:8000/v1")
    if parts.query or parts.fragment:
        raise ConfigError("the base URL holds a query or a fragment; give it without")
    return full.rstrip("/")


def clean_proxy(url: str | None) -> str | None:
    """`url` of a proxy, with `http://` where no scheme is given; None for an empty one.

    Raises:
        ConfigError: it is not the address of an HTTP proxy. A user and a password in it are fine,
            and never shown.
    """
    if not (url or "").strip():
        return None
    full = str(url).strip()
    full = full if "://" in full else f"http://{full}"
    try:
        parts = urlsplit(full)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"}:
        raise ConfigError("the proxy is not like http://localhost:8080")
    return full


def proxy_place(url: str | None) -> str:
    """Host and port of a proxy, for messages: without its user and password.

    Raises:
        ConfigError: as `clean_proxy`.
    """
    return urlsplit(clean_proxy(url) or "").netloc.rpartition("@")[2]


def api_root(url: str) -> str:
    """`url` up to the version that OpenAI-compatible servers put in front of their paths.

    Where the URL has no path at all, that is `/v1`.

    Raises:
        ConfigError: as `clean_url`.
    """
    root = clean_url(url).removesuffix("/chat/completions")
    return root if urlsplit(root).path else f"{root}/v1"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait: its `retry-after-ms`, or its `Retry-After` of any kind.

    Args:
        headers: With names that compare without case, as HTTP libraries give them.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def status_error(
    endpoint: Endpoint, status: int, headers: Mapping[str, str], body: str
) -> BackendError:
    """The error for an HTTP answer that is not a success."""
    # about a rejected key the server's own words are left out: they tend to show it
    said = endpoint.redact(error_text(body)) if status != 401 else ""
    detail = f"(HTTP {status}): {said}" if said else f"(HTTP {status})"
    hopeless = _hopeless(endpoint, status, body)
    if hopeless is not None:
        kind: Failure = "request" if status == 404 or 300 <= status < 400 else "access"
        return BackendError(f"{endpoint.provider} {hopeless} {detail}", fatal=True, kind=kind)
    if status in _RETRYABLE or status >= 500:
        trouble = "is limiting the rate of calls" if status == 429 else "failed"
        return BackendError(
            f"{endpoint.provider} {trouble} {detail}",
            retryable=True,
            retry_after=retry_after(headers),
            kind=_PASSING.get(status, "server"),
        )
    return BackendError(f"{endpoint.provider} rejected the request {detail}", kind="request")


def _hopeless(endpoint: Endpoint, status: int, body: str) -> str | None:
    """Why every further call would be answered the same way, if it would."""
    error = _error(body)
    spent = {str(error.get("code")), str(error.get("type"))} & _SPENT
    if spent or error_text(body).startswith(_SPENT_MESSAGE):
        return f"says that the quota of the key in {endpoint.key_variable} is spent"
    if 300 <= status < 400:
        return "redirects elsewhere; is the base URL right?"
    reasons = {
        401: f"rejected the key in {endpoint.key_variable}",
        402: f"wants payment for the key in {endpoint.key_variable}",
        403: f"refused access with the key in {endpoint.key_variable}",
        404: f"has no model {endpoint.model!r}, or nothing at {endpoint.url}",
    }
    if status in {401, 403} and not endpoint.key:
        return f"wants a key: set {endpoint.key_variable}"
    return reasons.get(status)


def error_text(body: str) -> str:
    """What an error body says in words; servers put it in different places."""
    if is_html(body):
        return "an HTML page"
    error = _error(body)
    words = (error.get(name) for name in ("message", "detail", "error"))
    return next((found for found in words if isinstance(found, str)), body)


def _error(body: str) -> dict[str, Any]:
    """The error object in an error body, or the whole body, or an empty one if it is no JSON."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    while isinstance(found, dict) and isinstance(found.get("error"), dict):
        found = found["error"]
    return found if isinstance(found, dict) else {}


def transport_error(endpoint: Endpoint, error: Exception, timeout_s: float) -> BackendError:
    """The error for a call that brought no answer at all.

    What counts is where the chain of errors began: the SDKs' transport calls a dropped connection
    a time-out.
    """
    who = endpoint.provider
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, TimeoutError):
        unreached = type(error).__name__ == "ConnectionTimeoutError"
        message = f"{who} did not answer within {timeout_s:g} s"
        message = f"no connection to {who} at {endpoint.url} in time" if unreached else message
        kind: Failure = "connection" if unreached else "timeout"
        return BackendError(message, retryable=True, kind=kind)
    if isinstance(error, UnicodeError):
        message = "the messages hold text that UTF-8 cannot carry (a lone surrogate)"
        return BackendError(message, kind="request")
    certificate = _certificate_fault(error)
    if certificate is not None:
        return BackendError(
            f"the certificate of {who} at {endpoint.url} is not trusted ({certificate}); "
            "name the file of its authority in SSL_CERT_FILE",
            fatal=True,
            kind="connection",
        )
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        message = f"{who} at {endpoint.url} answers no TLS; does its address begin with http://?"
        return BackendError(message, fatal=True, kind="connection")
    said = endpoint.redact(str(error)) or type(error).__name__
    way = f" through the proxy {endpoint.proxy}" if endpoint.proxy else ""
    message = f"no connection to {who} at {endpoint.url}{way}: {said}"
    return BackendError(message, retryable=True, kind="connection")


def _certificate_fault(error: Exception) -> str | None:
    """What is wrong with the server's certificate, where that is what happened."""
    fault = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if not isinstance(fault, ssl.SSLCertVerificationError):
        return None
    return fault.verify_message or "it does not fit the name of the server"


def unknown_model(endpoint: Endpoint, names: Iterable[str]) -> BackendError:
    """The error for a model that is not among those that the provider lists."""
    listed = sorted({endpoint.redact(name) for name in names if name})
    near = suggestion(endpoint.model, listed)
    if not near.startswith("did you mean"):
        more = f" and {len(listed) - _MOST_NAMES} more" if len(listed) > _MOST_NAMES else ""
        near = f"known: {', '.join(listed[:_MOST_NAMES])}{more}"
    message = f"{endpoint.provider} at {endpoint.url} has no model {endpoint.model!r}; {near}"
    return BackendError(message, fatal=True, kind="request")


def nothing_there(endpoint: Endpoint, error: BackendError) -> BackendError:
    """`error`, a 404, of a server that lists no models either: most likely the URL is wrong."""
    hint = "is the base URL right? most servers' ends in /v1"
    return BackendError(f"{error}; {hint}", fatal=True, kind="request")


def is_html(text: str) -> bool:
    return text[:200].lstrip().lower().startswith(("<!doctype", "<html", "<head", "<body", "<?xml"))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None
