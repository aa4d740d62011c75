"""Anthropic's API, through its official SDK: the address `anthropic/NAME`."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from rlaif.backends._chat import chat_messages
from rlaif.backends._http import (
    Body,
    Corrections,
    Endpoint,
    clean_key,
    clean_url,
    read_json,
    status_error,
    transport_error,
)
from rlaif.backends.base import BackendOptions
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, FinishReason, Request, Usage

URL = "https://api.anthropic.com"
KEY = "ANTHROPIC_API_KEY"

NOT_TAKEN = re.compile(r"claude-(opus-4-[789]|mythos|[a-z]+-([5-9]|\d\d))(-.*)?")
"""Models, by whole name, that refuse `temperature` and `top_p`: those after Claude Opus 4.6."""
_REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicBackend:
    """Messages of one model of Anthropic's API, or of another address that speaks it.

    System messages become the API's `system` text. The API takes no seed and gives no
    log-probabilities: `seed` and `top_logprobs` are ignored. Models that draw as they please are
    not sent `temperature` and `top_p`; one that refuses them by name is not from then on.

    Args:
        name: The model's name at the provider.
        options: `api_key` is required; `base_url` is Anthropic's when not given.

    Raises:
        ConfigError: the key or the URL cannot be one.
    """

    def __init__(self, name: str, options: BackendOptions) -> None:
        import anthropic

        key = clean_key(options.api_key, KEY)
        if key is None:
            raise ConfigError(f"anthropic/ needs a key: set {KEY}")
        url = _without_version(clean_url(options.base_url)) if options.base_url else URL
        self._endpoint = Endpoint("Anthropic", url, name, KEY, key)
        self._timeout_s = options.timeout_s
        self._corrections = Corrections(frozenset({"temperature", "top_p"}))
        self._client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=url,
            max_retries=0,
            timeout=options.timeout_s,
            # a redirect could carry the key to another host
            http_client=anthropic.DefaultAioHttpClient(follow_redirects=False),
        )

    @property
    def model(self) -> str:
        return f"anthropic/{self._endpoint.model}"

    @property
    def identity(self) -> str:
        url = self._endpoint.url
        return self.model if url == URL else f"{self.model}@{url}"

    async def complete(self, request: Request) -> Completion:
        """The model's reply.

        Raises:
            BackendError: the provider failed or refused the request.
            ConfigError: the request wants given text scored, which the API does not do.
        """
        if request.task == "likelihood":
            raise ConfigError(
                f"{self.model} cannot score given text; use local/… or a vLLM server/…"
            )
        started = time.perf_counter()
        answer = await self._ask(message_body(self._endpoint.model, request))
        return parse_message(self._endpoint, answer, time.perf_counter() - started)

    async def aclose(self) -> None:
        await self._client.close()

    async def _ask(self, body: dict[str, Any]) -> str:
        """The body of a success; asks again while a refusal teaches what to leave out."""
        import aiohttp
        import anthropic

        while True:
            sent = self._corrections.apply(body)
            try:
                async with asyncio.timeout(self._timeout_s):
                    # not `messages.create`: it lost the `temperature` that older models take
                    return await self._client.post("/v1/messages", body=sent, cast_to=str)
            except anthropic.APIStatusError as error:
                if not self._corrections.learn(sent, error.status_code, error.response.text):
                    # `from None`: the SDK's error repeats the body, where servers repeat keys
                    raise anthropic_failure(self._endpoint, error, self._timeout_s) from None
            except (anthropic.AnthropicError, aiohttp.ClientError, OSError, UnicodeError) as error:
                raise anthropic_failure(self._endpoint, error, self._timeout_s) from error


def message_body(model: str, request: Request) -> dict[str, Any]:
    """The JSON to send for `request`."""
    sampling = request.sampling
    system = "\n\n".join(m.content for m in request.messages if m.role == "system")
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": sampling.max_tokens,
        "messages": chat_messages(tuple(m for m in request.messages if m.role != "system")),
    }
    if system:
        body["system"] = system
    if NOT_TAKEN.fullmatch(model):
        return body
    body["temperature"] = sampling.temperature
    if sampling.top_p != 1:
        body["top_p"] = sampling.top_p
    return body


def parse_message(endpoint: Endpoint, answer: str, latency_s: float) -> Completion:
    """The completion in the body of a success.

    Raises:
        BackendError: the body is not a message; retryable.
    """
    body = Body(endpoint, read_json(endpoint, answer))
    if body.get("content") is None:
        raise body.missing("content")
    blocks = body.parts("content")
    usage = body.part("usage")
    read = usage.count("cache_read_input_tokens")
    written = usage.count("cache_creation_input_tokens")
    return Completion(
        text="".join(b.text("text") for b in blocks if b.text("type") == "text"),
        finish_reason=_REASONS.get(body.text("stop_reason"), "stop"),
        model=body.text("model"),
        thinking="".join(b.text("thinking") for b in blocks if b.text("type") == "thinking"),
        usage=Usage(
            input=usage.count("input_tokens") + read + written,
            cached_input=read,
            output=usage.count("output_tokens"),
        ),
        latency_s=latency_s,
    )


def anthropic_failure(endpoint: Endpoint, error: Exception, timeout_s: float) -> BackendError:
    """What an error of the SDK, or of what it stands on, means for us."""
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        answer = error.response
        return status_error(endpoint, error.status_code, answer.headers, answer.text)
    if isinstance(error, anthropic.APIConnectionError):
        return transport_error(endpoint, error, timeout_s)
    if isinstance(error, anthropic.AnthropicError):
        unreadable = isinstance(error, anthropic.APIResponseValidationError)
        said = endpoint.redact(str(error))
        return BackendError(f"the anthropic package failed: {said}", retryable=unreadable)
    return transport_error(endpoint, error, timeout_s)


def _without_version(url: str) -> str:
    """The SDK adds the version itself."""
    return url.removesuffix("/v1")
