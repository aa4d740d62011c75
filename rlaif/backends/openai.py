"""OpenAI's API, through its official SDK: the address `openai/NAME`."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from rlaif.backends._chat import chat_body, parse_chat
from rlaif.backends._http import (
    Corrections,
    Endpoint,
    api_root,
    clean_key,
    status_error,
    transport_error,
)
from rlaif.backends.base import BackendOptions
from rlaif.errors import BackendError, ConfigError
from rlaif.types import Completion, Request

URL = "https://api.openai.com/v1"
KEY = "OPENAI_API_KEY"

_SAMPLING = frozenset({"temperature", "top_p", "logprobs", "top_logprobs"})
NOT_TAKEN: dict[str, frozenset[str]] = {
    r"o\d": _SAMPLING,
    r"gpt-5-chat": frozenset(),
    r"gpt-5": _SAMPLING,
    r"gpt-5\.\d+-(pro|codex)": _SAMPLING,
}
"""Parameters that are not sent to a family of models, as they always reason and refuse them.

The first pattern that fits the whole name up to a hyphen counts. Models of which only some settings
reason (gpt-5.1 and later) are asked, and a refusal is learned from.
"""


class OpenAIBackend:
    """Chat completions of one model of OpenAI's API, or of another address that speaks it.

    Reasoning models draw as they please: `temperature`, `top_p` and log-probabilities are not sent
    to them, so their completions have no `tokens`. A parameter that the API refuses by name is
    left out (or `max_completion_tokens` called `max_tokens`) from then on.

    Args:
        name: The model's name at the provider.
        options: `api_key` is required; `base_url` is OpenAI's when not given.

    Raises:
        ConfigError: the key or the URL cannot be one.
    """

    def __init__(self, name: str, options: BackendOptions) -> None:
        import openai

        key = clean_key(options.api_key, KEY)
        if key is None:
            raise ConfigError(f"openai/ needs a key: set {KEY}")
        url = api_root(options.base_url) if options.base_url else URL
        self._endpoint = Endpoint("OpenAI", url, name, KEY, key)
        self._timeout_s = options.timeout_s
        self._corrections = Corrections(
            frozenset({"temperature", "top_p", "seed", "logprobs", "top_logprobs"}),
            {"max_completion_tokens": "max_tokens"},
        )
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=url,
            max_retries=0,
            timeout=options.timeout_s,
            # a redirect could carry the key to another host
            http_client=openai.DefaultAioHttpClient(follow_redirects=False),
        )

    @property
    def model(self) -> str:
        return f"openai/{self._endpoint.model}"

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
        body = chat_body(self._endpoint.model, request, max_tokens_name="max_completion_tokens")
        body = {k: v for k, v in body.items() if k not in _not_taken(self._endpoint.model)}
        started = time.perf_counter()
        answer = await self._ask(body)
        return parse_chat(self._endpoint, answer, time.perf_counter() - started)

    async def aclose(self) -> None:
        await self._client.close()

    async def _ask(self, body: dict[str, Any]) -> str:
        """The body of a success; asks again while a refusal teaches which parameter to change."""
        import aiohttp
        import openai

        while True:
            sent = self._corrections.apply(body)
            try:
                async with asyncio.timeout(self._timeout_s):
                    # `str` hands over the answer as it came: the SDK's own models take any type in
                    # any field, so it would have to be checked all the same
                    return await self._client.post("/chat/completions", body=sent, cast_to=str)
            except openai.APIStatusError as error:
                if not self._corrections.learn(sent, error.status_code, error.response.text):
                    # `from None`: the SDK's error repeats the body, where servers repeat keys
                    raise openai_failure(self._endpoint, error, self._timeout_s) from None
            except (openai.OpenAIError, aiohttp.ClientError, OSError, UnicodeError) as error:
                raise openai_failure(self._endpoint, error, self._timeout_s) from error


def openai_failure(endpoint: Endpoint, error: Exception, timeout_s: float) -> BackendError:
    """What an error of the SDK, or of what it stands on, means for us."""
    import openai

    if isinstance(error, openai.APIStatusError):
        answer = error.response
        return status_error(endpoint, error.status_code, answer.headers, answer.text)
    if isinstance(error, openai.APIConnectionError):
        return transport_error(endpoint, error, timeout_s)
    if isinstance(error, openai.OpenAIError):
        unreadable = isinstance(error, openai.APIResponseValidationError)
        said = endpoint.redact(str(error))
        return BackendError(f"the openai package failed: {said}", retryable=unreadable)
    return transport_error(endpoint, error, timeout_s)


def _not_taken(name: str) -> frozenset[str]:
    """Parameters not to send to the model called `name`."""
    fits = (taken for family, taken in NOT_TAKEN.items() if re.fullmatch(f"{family}(-.*)?", name))
    return next(fits, frozenset())
