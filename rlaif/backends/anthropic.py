"""Anthropic's API, through its official SDK: the address `anthropic/NAME`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rlaif.backends._body import Body, read_json
from rlaif.backends._chat import chat_messages
from rlaif.backends._http import Endpoint, clean_key, clean_url, proxy_place
from rlaif.backends._prefix import cacheable, shared_parts
from rlaif.backends._sdk import Asking, Sdk, http_client, wait_times
from rlaif.backends.base import BackendOptions
from rlaif.backends.families import Family, Lessons
from rlaif.errors import ConfigError
from rlaif.types import Completion, FinishReason, Request, Usage

if TYPE_CHECKING:
    from rlaif.backends._anthropic_batch import AnthropicBatches

URL = "https://api.anthropic.com"
KEY = "ANTHROPIC_API_KEY"

_REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_REFUSAL_WORDS = {
    "top_p": "top_p",
    "temperature": "temperature",
    "output_config.format": "json_schema",
    "output_format": "json_schema",
    "structured outputs": "json_schema",
    "cache_control": "cache_marks",
}
"""By the words of a refusal, what the model then does not take."""
_MARK = {"cache_control": {"type": "ephemeral"}}


class AnthropicBackend(Asking):
    """Messages of one model of Anthropic's API, or of another address that speaks it.

    System messages become the API's `system` text. It and the shared part of the last message are
    marked for the prompt cache where they are long enough. The API takes no seed and gives no
    log-probabilities: `seed` and `top_logprobs` are ignored, as are `choices`. While a model thinks
    it draws as it pleases: `temperature` and `top_p` are not sent, and its bound on tokens is
    `max_tokens` and room for thinking. A parameter that the API refuses by name is left out from
    then on, and `corrections` says so.

    Args:
        name: The model's name at the provider.
        options: `api_key` is required; `base_url` is Anthropic's when not given.

    Raises:
        ConfigError: the key, the URL or the proxy cannot be one.
    """

    def __init__(self, name: str, options: BackendOptions) -> None:
        import anthropic

        key = clean_key(options.api_key, KEY)
        if key is None:
            raise ConfigError(f"anthropic/ needs a key: set {KEY}")
        # the SDK adds the version itself
        url = clean_url(options.base_url).removesuffix("/v1") if options.base_url else URL
        self._endpoint = Endpoint("Anthropic", url, name, KEY, key, proxy_place(options.proxy))
        timeouts, theirs = wait_times(options)
        client: Any = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=url,
            max_retries=0,
            timeout=theirs,
            http_client=http_client(anthropic, options),
        )
        lessons = Lessons("anthropic", name, _REFUSAL_WORDS)
        self._sdk = Sdk(
            anthropic, client, self._endpoint, lessons, timeouts, "/v1/models?limit=1000"
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
            ConfigError: the request wants given text scored, which the API does not do, or a number
                of tokens for thinking of a model that takes a word.
        """
        self._check(request)
        started = time.perf_counter()
        answer = await self._sdk.ask(
            lambda family: ("/v1/messages", message_body(self._endpoint.model, request, family))
        )
        latency_s = time.perf_counter() - started
        if answer.declined:
            name = self._endpoint.model
            return Completion(answer.declined, "refusal", model=name, latency_s=latency_s)
        return parse_message(self._endpoint, answer.text, latency_s)

    def batches(self) -> AnthropicBatches:
        """The batch API for this model."""
        from rlaif.backends._anthropic_batch import AnthropicBatches

        return AnthropicBatches(self._sdk, self._endpoint, self._check)

    def _check(self, request: Request) -> None:
        """Raise `ConfigError` as `complete` does."""
        if request.task != "reply":
            raise ConfigError(
                f"{self.model} cannot score given text; use local/… or a vLLM server/…"
            )
        thinking_fields(self._endpoint.model, request, self.family)


def message_body(model: str, request: Request, family: Family) -> dict[str, Any]:
    """The JSON to send for `request`, without what the model does not take.

    Raises:
        ConfigError: as `thinking_fields`.
    """
    sampling = request.sampling
    system = "\n\n".join(m.content for m in request.messages if m.role == "system")
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": family.most_output(sampling),
        "messages": _messages(request, family),
        **thinking_fields(model, request, family),
    }
    if system:
        marked = family.takes("cache_marks", sampling) and cacheable(len(system), family)
        body["system"] = [{"type": "text", "text": system, **_MARK}] if marked else system
    if family.takes("temperature", sampling):
        body["temperature"] = sampling.temperature
    if sampling.top_p != 1 and family.takes("top_p", sampling):
        body["top_p"] = sampling.top_p
    if request.json_schema is not None and family.takes("json_schema", sampling):
        wanted = {"type": "json_schema", "schema": request.json_schema}
        body["output_config"] = {**body.get("output_config", {}), "format": wanted}
    return body


def thinking_fields(model: str, request: Request, family: Family) -> dict[str, Any]:
    """How much to think, as the model wants to be told; empty where it is left to the model.

    Raises:
        ConfigError: a number of tokens was given for a model that takes only a word.
    """
    wanted = family.effort(request.sampling)
    if wanted is None or family.thinking == "none":
        return {}
    if wanted in {"none", "0"}:
        # models that do not think unless told to need not be told
        return {} if family.default == "none" else {"thinking": {"type": "disabled"}}
    if family.thinking == "adaptive" and wanted.isdigit():
        words = ", ".join(family.reasoning or ())
        raise ConfigError(f"anthropic/{model} takes a word for reasoning ({words}), not a number")
    if family.thinking == "budget" or wanted.isdigit():
        budget = family.room(request.sampling)
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}
    thinking = {"type": "adaptive", "display": "summarized"}
    return {"thinking": thinking, "output_config": {"effort": wanted}}


def _messages(request: Request, family: Family) -> list[dict[str, Any]]:
    """The messages without those of the system; the shared part of the last one is marked."""
    kept = tuple(m for m in request.messages if m.role != "system")
    messages: list[dict[str, Any]] = [*chat_messages(kept)]
    if not request.shared or not family.takes("cache_marks", request.sampling):
        return messages
    head, rest = shared_parts(request, family)
    if head and messages:
        tail = [{"type": "text", "text": rest}] if rest else []
        messages[-1]["content"] = [{"type": "text", "text": head, **_MARK}, *tail]
    return messages


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
