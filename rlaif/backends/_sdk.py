"""What asking through OpenAI's and Anthropic's SDKs has in common: one loop, one map of failures.

Of the SDKs their clients are used, with connections, authentication and addresses. Bodies are
built and answers read by our own code: the SDKs' models take any type in any field, so every
answer would have to be checked all the same, and a call costs half as much processor time.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from rlaif.backends._body import Body, read_json
from rlaif.backends._http import (
    Endpoint,
    clean_proxy,
    error_text,
    nothing_there,
    proxy_place,
    status_error,
    transport_error,
    unknown_model,
)
from rlaif.backends._limits import read_limits
from rlaif.backends.base import BackendOptions
from rlaif.backends.families import Family, Lessons
from rlaif.backends.pace import OnLimits
from rlaif.backends.timeouts import Timeouts
from rlaif.errors import BackendError

_CONNECTIONS = 4096
"""More than calls are ever in flight: their limit is set elsewhere."""
_KEPT_S = 60.0
"""How long a connection is kept without a call."""
_LEARNABLE = frozenset({400, 403, 404, 405, 422})
_DECLINED = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "invalid_prompt",
        "bio_policy",
        "misalignment_policy_violation",
    }
)
"""Codes of errors by which a provider declines what the messages are about."""

Build = Callable[[Family], tuple[str, dict[str, Any]]]
"""From what the model accepts to the path and the body of a request."""


class Asking:
    """What a backend that asks through an SDK tells of itself."""

    _sdk: Sdk

    @property
    def family(self) -> Family:
        """What the model accepts, as far as is known now."""
        return self._sdk.lessons.family

    @property
    def corrections(self) -> tuple[str, ...]:
        """What the model turned out not to take, in words for the user."""
        return tuple(self._sdk.lessons.corrections)

    @property
    def timeouts(self) -> Timeouts:
        return self._sdk.timeouts

    @property
    def on_limits(self) -> OnLimits | None:
        """Told what the headers of every answer say is left of the provider's limits."""
        return self._sdk.on_limits

    @on_limits.setter
    def on_limits(self, told: OnLimits | None) -> None:
        self._sdk.on_limits = told

    async def aclose(self) -> None:
        await self._sdk.client.close()


class _Client(Protocol):
    """What both SDKs' clients can do."""

    async def post(self, path: str, *, cast_to: Any, **sent: Any) -> Any: ...

    async def get(self, path: str, *, cast_to: Any, **how: Any) -> Any: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request."""

    body: bytes
    family: Family
    """What the request was built for."""
    declined: str = ""
    """The provider's words, where it declined what the messages are about."""

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


def http_client(sdk: ModuleType, options: BackendOptions) -> Any:
    """The HTTP client for an SDK: aiohttp below, as that keeps its pace with many calls in flight.

    Raises:
        ConfigError: the proxy is no URL of one.
    """
    import httpx2

    return sdk.DefaultAioHttpClient(
        # a redirect could carry the key to another host
        follow_redirects=False,
        limits=httpx2.Limits(
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
            keepalive_expiry=_KEPT_S,
        ),
        proxy=_proxy(options.proxy),
        # the proxy is in the options, whatever the environment says
        trust_env=False,
        # of the environment only SSL_CERT_FILE and SSL_CERT_DIR count
        verify=httpx2.create_ssl_context(trust_env=True),
    )


def _proxy(url: str | None) -> Any:
    """The proxy at `url`; its user and password go in a header, as aiohttp wants them."""
    import httpx2

    full = clean_proxy(url)
    if full is None:
        return None
    parts = urlsplit(full)
    secret = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    coded = b64encode(secret.encode()).decode()
    headers = {"Authorization": f"Basic {coded}"} if parts.username else {}
    return httpx2.Proxy(f"{parts.scheme}://{proxy_place(full)}", headers=headers)


def wait_times(options: BackendOptions) -> tuple[Timeouts, Any]:
    """The longest waits, as we say them and as the SDKs' HTTP library does.

    Raises:
        ConfigError: one is not a positive number.
    """
    import httpx2

    total_s = options.timeout_s
    timeouts = Timeouts(connect_s=min(Timeouts().connect_s, total_s), total_s=total_s)
    theirs = httpx2.Timeout(timeouts.read_s, connect=timeouts.connect_s, pool=None)
    return timeouts, theirs


class Sdk:
    """One model, asked through an SDK's client.

    Args:
        module: The SDK.
        client: Its client; retries are off.
        endpoint: Who is asked.
        lessons: What the model accepts.
        timeouts: Longest waits for one answer.
        models: Path of the list of models; `None` where the list would not help.
    """

    def __init__(
        self,
        module: ModuleType,
        client: _Client,
        endpoint: Endpoint,
        lessons: Lessons,
        timeouts: Timeouts,
        models: str | None,
    ) -> None:
        import aiohttp
        import httpx2

        self.lessons = lessons
        self.client = client
        self.module = module
        self._endpoint = endpoint
        self.timeouts = timeouts
        self.on_limits: OnLimits | None = None
        """Told what the headers of every answer say is left of the provider's limits."""
        self._models = models
        self.response = httpx2.Response
        self.errors = (base_error(module), aiohttp.ClientError, OSError, UnicodeError)

    async def ask(self, build: Build) -> Answer:
        """The answer to what `build` makes; a refusal that teaches something is asked again.

        Raises:
            BackendError: the provider failed or refused the request.
        """
        while True:
            sent = self.lessons.family
            path, body = build(sent)
            try:
                async with asyncio.timeout(self.timeouts.total_s):
                    answer = await self.client.post(path, body=body, cast_to=self.response)
                self._watch(answer.headers)
                return Answer(answer.content, sent)
            except self.module.APIStatusError as error:
                answer = error.response
            except self.errors as error:
                raise failure(self.module, self._endpoint, error, self.timeouts.total_s) from error
            self._watch(answer.headers)
            if declined(answer.status_code, answer.text):
                said = self._endpoint.redact(error_text(answer.text)) or "declined"
                return Answer(answer.content, sent, declined=said)
            if not self.learns(sent, answer.status_code, answer.text):
                # outside the `except`: the SDK's error repeats the body, where servers repeat keys
                raise await self._refusal(answer.status_code, answer.headers, answer.text)

    def _watch(self, headers: Mapping[str, str]) -> None:
        if self.on_limits is not None and (limits := read_limits(headers)) is not None:
            self.on_limits(limits)

    def learns(self, sent: Family, status: int, body: str) -> bool:
        """Whether the refusal is one that another body, or another API, avoids."""
        if status not in _LEARNABLE:
            return False
        said = error_text(body)
        if sent.api == "chat" and "only supported in v1/responses" in said:
            return self.lessons.switch(sent, "responses")
        if sent.api == "responses" and _no_responses(self._endpoint.model, status, body, said):
            return self.lessons.switch(sent, "chat")
        return status not in {404, 405} and self.lessons.learn(sent, said)

    async def _refusal(self, status: int, headers: Mapping[str, str], body: str) -> BackendError:
        """The error for an answer that is no success; of a missing model, with those there are."""
        error = status_error(self._endpoint, status, headers, body)
        if status != 404 or self._models is None:
            return error
        try:
            async with asyncio.timeout(self.timeouts.total_s):
                listing = await self.client.get(self._models, cast_to=self.response)
            found = Body(self._endpoint, read_json(self._endpoint, listing.text)).parts("data")
            listed = [model.text("id") for model in found]
        except (*self.errors, BackendError):
            return nothing_there(self._endpoint, error)
        if not listed or self._endpoint.model in listed:
            return error
        return unknown_model(self._endpoint, listed)


def _no_responses(model: str, status: int, body: str, said: str) -> bool:
    """Whether a refusal means that there is no responses API, at all or for this model."""
    if "Responses API" in said:
        return True
    return status in {404, 405} and "model_not_found" not in body and model not in body


def base_error(module: ModuleType) -> type[Exception]:
    """The class that all of an SDK's own errors come from."""
    root: type[Exception] = module.APIError.__mro__[1]
    return root


def failure(
    module: ModuleType, endpoint: Endpoint, error: Exception, timeout_s: float
) -> BackendError:
    """What an error of an SDK, or of what it stands on, means for us."""
    if isinstance(error, module.APIStatusError):
        answer = error.response
        return status_error(endpoint, error.status_code, answer.headers, answer.text)
    if isinstance(error, module.APIConnectionError) or not isinstance(error, base_error(module)):
        return transport_error(endpoint, error, timeout_s)
    said = f"the {module.__name__} package failed: {endpoint.redact(str(error))}"
    unreadable = isinstance(error, module.APIResponseValidationError)
    return BackendError(said, retryable=unreadable, kind="bad_reply" if unreadable else "request")


def declined(status: int, body: str) -> bool:
    """Whether an error says that the provider declines what the messages are about."""
    if status not in {400, 403}:
        return False
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return any(error.get("code") in _DECLINED for error in _errors(found))


def declines(code: str) -> bool:
    """Whether an error's code says that the provider declines what the messages are about."""
    return code in _DECLINED


def _errors(found: object) -> Iterator[dict[str, Any]]:
    """The error object in a body, and those inside it."""
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, dict):
        yield {**error, "code": str(error.get("code"))}
        yield from _errors({"error": error.get("innererror")})
