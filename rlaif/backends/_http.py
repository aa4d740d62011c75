"""What the providers that answer over HTTP share: keys, URLs, and errors that name no secret."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from rlaif.errors import BackendError, ConfigError

_LONGEST_QUOTE = 300
"""Characters of a server's own words that an error repeats."""
_SHARED_WITH_KEY = 6
"""A word that shares this many characters in a row with the key is not repeated."""
_RETRYABLE = frozenset({408, 409, 425, 429})
_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error"})
"""Codes of providers for an account that is out of money: waiting does not help."""
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
        return BackendError(f"{endpoint.provider} {hopeless} {detail}", fatal=True)
    if status in _RETRYABLE or status >= 500:
        trouble = "is limiting the rate of calls" if status == 429 else "failed"
        return BackendError(
            f"{endpoint.provider} {trouble} {detail}",
            retryable=True,
            retry_after=retry_after(headers),
        )
    return BackendError(f"{endpoint.provider} rejected the request {detail}")


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
    if _is_html(body):
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
        return BackendError(f"{who} did not answer within {timeout_s:g} s", retryable=True)
    if isinstance(error, UnicodeError):
        return BackendError("the messages hold text that UTF-8 cannot carry (a lone surrogate)")
    said = endpoint.redact(str(error)) or type(error).__name__
    return BackendError(f"no connection to {who} at {endpoint.url}: {said}", retryable=True)


def read_json(endpoint: Endpoint, text: str) -> dict[str, Any]:
    """The JSON object in the body of a success.

    Raises:
        BackendError: it is something else; worth another try, as proxies do this in passing.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        what = "HTML" if _is_html(text) else "no JSON"
        quote = endpoint.redact(text[:80]) or "nothing at all"
        hint = f"is the base URL right? {endpoint.url}"
        raise unreadable(endpoint, f"{what} ({quote}); {hint}") from None
    if not isinstance(found, dict):
        raise unreadable(endpoint, f"JSON that is a {type(found).__name__}, not an object")
    return found


def unreadable(endpoint: Endpoint, what: str) -> BackendError:
    """The error for a success whose body is not what the protocol says."""
    return BackendError(f"{endpoint.provider} answered {what}", retryable=True)


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


class Corrections:
    """Which optional parameters a model turned out not to take.

    Models differ in what they accept and change from version to version, so what a table of
    families does not foresee is learned from the refusal, once for all later calls.

    Args:
        optional: Parameters that may be left out.
        renames: Parameters that have another name for the same thing.
    """

    def __init__(self, optional: frozenset[str], renames: Mapping[str, str] | None = None) -> None:
        self._optional = optional
        self._renames = renames or {}
        self._dropped: set[str] = set()
        self._renamed: dict[str, str] = {}

    def apply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """`body` as the model takes it, as far as is known."""
        kept = {self._renamed.get(k, k): v for k, v in body.items() if k not in self._dropped}
        if "logprobs" not in kept:
            kept.pop("top_logprobs", None)
        return kept

    def learn(self, sent: Mapping[str, Any], status: int, answer: str) -> bool:
        """Whether the refusal named a parameter of `sent` that `apply` will now change."""
        if status not in {400, 403, 422}:
            return False
        said = error_text(answer)
        if not _NOT_TAKEN.search(said):
            return False
        for name, other in self._renames.items():
            if name in sent and _names(name, said) and name not in self._renamed.values():
                self._renamed[name] = other
                return True
        # backwards, so that of `temperature` and `top_p`, refused together, the first one stays
        for name in sorted(self._optional & sent.keys(), reverse=True):
            if _names(name, said):
                self._dropped.add(name)
                return True
        return False


_NOT_TAKEN = re.compile(
    r"unsupported|not support|n.t support|deprecated|cannot both|not allowed|not permitted"
    r"|unrecognized|unknown (?:parameter|argument|field)",
    re.IGNORECASE,
)


def _names(parameter: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(parameter)}(?![\w-])", text) is not None


def _is_html(text: str) -> bool:
    return text[:200].lstrip().lower().startswith(("<!doctype", "<html", "<head", "<body", "<?xml"))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None
