"""OpenAI's API, and Azure's of the same models, through the official SDK: `openai/NAME`.

Models are asked through chat completions or, those that always reason, through the responses API,
as the table of families says (`rlaif.backends.families`). A base URL that ends in
`/chat/completions` or `/responses` decides for itself; other addresses than OpenAI's are asked
through chat completions, which all of them speak.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlaif.backends._chat import MOST_TOP_LOGPROBS, chat_messages, parse_chat
from rlaif.backends._http import Endpoint, api_root, clean_key, clean_url, proxy_place
from rlaif.backends._prefix import shared_parts
from rlaif.backends._responses import LEAST_TOKENS, parse_response, with_logprobs
from rlaif.backends._sdk import Answer, Asking, Sdk, http_client, wait_times
from rlaif.backends.base import BackendOptions
from rlaif.backends.families import Family, Lessons
from rlaif.backends.registry import AZURE_KEY
from rlaif.errors import ConfigError
from rlaif.types import Completion, Request

if TYPE_CHECKING:
    from rlaif.backends._openai_batch import OpenAIBatches

URL = "https://api.openai.com/v1"
KEY = "OPENAI_API_KEY"

_REFUSAL_WORDS = {
    "top_p": "top_p",
    "temperature": "temperature",
    "seed": "seed",
    "top_logprobs": "logprobs",
    "logprobs": "logprobs",
    "response_format": "json_schema",
    "text.format": "json_schema",
    "json_schema": "json_schema",
    "prompt_cache_breakpoint": "cache_marks",
    "prompt_cache_options": "cache_marks",
    "max_completion_tokens": "max_completion_tokens",
}
"""By the words of a refusal, what the model then does not take."""
_MARK = {"prompt_cache_breakpoint": {"mode": "explicit"}}


class OpenAIBackend(Asking):
    """One model of OpenAI's API, of an Azure resource, or of another address that speaks it.

    Models that reason draw as they please: `temperature`, `top_p` and log-probabilities are not
    sent to them, so their completions have no `tokens`; their bound on tokens is `max_tokens` and
    room for thinking. A parameter that the API refuses by name is left out from then on, and
    `corrections` says so. `Request.choices` is not used: the API holds replies only to JSON.

    Args:
        name: The model's name at the provider; on Azure that of the deployment.
        options: `api_key` is required; `base_url` is OpenAI's when not given.

    Raises:
        ConfigError: the key, the URL or the proxy cannot be one.
    """

    def __init__(self, name: str, options: BackendOptions) -> None:
        import openai

        variable = AZURE_KEY if options.azure else KEY
        key = clean_key(options.api_key, variable)
        if key is None:
            raise ConfigError(f"openai/ needs a key: set {variable}")
        url, api = _address(options)
        self._endpoint = Endpoint(
            provider="Azure" if options.azure else "OpenAI",
            url=url,
            model=name,
            key_variable=variable,
            key=key,
            proxy=proxy_place(options.proxy),
        )
        lessons = Lessons("openai", name, _REFUSAL_WORDS)
        api = api or ("chat" if url != URL and not options.azure else lessons.family.api)
        marks = lessons.family.cache_marks and api == lessons.family.api
        lessons.family = replace(lessons.family, api=api, cache_marks=marks)
        timeouts, theirs = wait_times(options)
        settings: dict[str, Any] = {
            "api_key": key,
            "base_url": url,
            "max_retries": 0,
            "timeout": theirs,
            "http_client": http_client(openai, options),
        }
        self._azure = options.azure
        versioned = options.azure and options.api_version
        client: Any = (
            openai.AsyncAzureOpenAI(api_version=options.api_version, **settings)
            if versioned
            else openai.AsyncOpenAI(**settings)
        )
        # what Azure lists is all that can be deployed, not what is
        models = None if options.azure else "/models"
        self._sdk = Sdk(openai, client, self._endpoint, lessons, timeouts, models)

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
            ConfigError: the request wants given text scored, which the API does not do, or a number
                of tokens for thinking, where it takes a word.
        """
        self._check(request)
        started = time.perf_counter()
        answer = await self._sdk.ask(lambda family: self._request(request, family))
        return self._completion(answer, time.perf_counter() - started)

    def batches(self) -> OpenAIBatches:
        """The batch API for this model.

        Raises:
            ConfigError: the model is one of an Azure resource, whose batches are others.
        """
        from rlaif.backends._openai_batch import OpenAIBatches

        if self._azure:
            raise ConfigError("batches of Azure resources are not supported: ask without --batch")
        return OpenAIBatches(self._sdk, self._endpoint, self._check, self._request)

    def _check(self, request: Request) -> None:
        """Raise `ConfigError` as `complete` does."""
        if request.task != "reply":
            raise ConfigError(
                f"{self.model} cannot score given text; use local/… or a vLLM server/…"
            )
        if (request.sampling.reasoning or "").isdigit():
            words = ", ".join(self.family.reasoning or ("low", "medium", "high"))
            raise ConfigError(f"{self.model} takes a word for reasoning ({words}), not a number")

    def _request(self, request: Request, family: Family) -> tuple[str, dict[str, Any]]:
        if family.api == "responses":
            return "/responses", response_body(self._endpoint.model, request, family)
        return "/chat/completions", chat_body(self._endpoint.model, request, family)

    def _completion(self, answer: Answer, latency_s: float) -> Completion:
        if answer.declined:
            name = self._endpoint.model
            return Completion(answer.declined, "refusal", model=name, latency_s=latency_s)
        if answer.family.api == "responses":
            return parse_response(self._endpoint, answer.text, latency_s)
        return parse_chat(self._endpoint, answer.body, latency_s)


def chat_body(model: str, request: Request, family: Family) -> dict[str, Any]:
    """The JSON of a chat completion, without what the model does not take.

    Draws of one request get seeds of their own (`seed + draw`), as one seed gives one reply.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": _messages(request, family, "text"),
        family.max_tokens_name: family.most_output(sampling),
        **_sampled(request, family),
    }
    if sampling.seed is not None and family.takes("seed", sampling):
        body["seed"] = sampling.seed + request.draw
    if request.top_logprobs and family.takes("logprobs", sampling):
        body["logprobs"] = True
        body["top_logprobs"] = min(request.top_logprobs, MOST_TOP_LOGPROBS)
    if (effort := family.effort(sampling)) is not None:
        body["reasoning_effort"] = effort
    if request.json_schema is not None and family.takes("json_schema", sampling):
        schema = {"name": "reply", "schema": request.json_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def response_body(model: str, request: Request, family: Family) -> dict[str, Any]:
    """The JSON of a response, without what the model does not take; the API takes no seed."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "input": _messages(request, family, "input_text"),
        "max_output_tokens": max(LEAST_TOKENS, family.most_output(sampling)),
        "store": False,
        **_sampled(request, family),
    }
    if request.top_logprobs and family.takes("logprobs", sampling):
        with_logprobs(body, request.top_logprobs)
    if (effort := family.effort(sampling)) is not None:
        body["reasoning"] = {"effort": effort}
    if request.json_schema is not None and family.takes("json_schema", sampling):
        schema = {"name": "reply", "schema": request.json_schema, "strict": True}
        body["text"] = {"format": {"type": "json_schema", **schema}}
    return body


def _sampled(request: Request, family: Family) -> dict[str, Any]:
    """What both APIs call the same."""
    sampling = request.sampling
    taken: dict[str, Any] = {}
    if family.takes("temperature", sampling):
        taken["temperature"] = sampling.temperature
    if sampling.top_p != 1 and family.takes("top_p", sampling):
        taken["top_p"] = sampling.top_p
    if _marked(request, family):
        taken["prompt_cache_options"] = {"mode": "explicit"}
    return taken


def _marked(request: Request, family: Family) -> bool:
    """Whether the prompt says where its shared part ends: most models find that out themselves."""
    if not request.shared or not family.takes("cache_marks", request.sampling):
        return False
    return bool(shared_parts(request, family)[0])


def _messages(request: Request, family: Family, part: str) -> list[dict[str, Any]]:
    """The messages; the last one in two parts where the shared one is marked."""
    messages: list[dict[str, Any]] = [*chat_messages(request.messages)]
    if _marked(request, family):
        head, rest = shared_parts(request, family)
        marked = {"type": part, "text": head, **_MARK}
        messages[-1]["content"] = [marked, *([{"type": part, "text": rest}] if rest else [])]
    return messages


def _address(options: BackendOptions) -> tuple[str, Any]:
    """The root of the API's paths, and the API that the base URL names, if it does."""
    if not options.base_url:
        return URL, None
    if options.azure:
        root = clean_url(options.base_url).removesuffix("/v1").removesuffix("/openai")
        return f"{root}/openai{'' if options.api_version else '/v1'}", None
    given = clean_url(options.base_url)
    if given.endswith("/responses"):
        return api_root(given.removesuffix("/responses")), "responses"
    return api_root(given), "chat" if given.endswith("/chat/completions") else None
