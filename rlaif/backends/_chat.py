"""The chat completions format that OpenAI's API and the servers compatible with it speak."""

from __future__ import annotations

from typing import Any

from rlaif.backends._http import Body, Endpoint, read_json, status_error, unreadable
from rlaif.types import Completion, FinishReason, Messages, Request, TokenLogprob, Usage

MOST_TOP_LOGPROBS = 20
"""Alternatives per token that the format allows; more are not asked for."""
_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "refusal"}
_TEXT_PARTS = frozenset({"text", "output_text"})


def chat_body(model: str, request: Request, *, max_tokens_name: str) -> dict[str, Any]:
    """The JSON to send for `request`.

    Draws of one request get seeds of their own (`seed + draw`), as one seed gives one reply.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": chat_messages(request.messages),
        "temperature": sampling.temperature,
        max_tokens_name: sampling.max_tokens,
    }
    if sampling.top_p != 1:
        body["top_p"] = sampling.top_p
    if sampling.seed is not None:
        body["seed"] = sampling.seed + request.draw
    if request.top_logprobs:
        body["logprobs"] = True
        body["top_logprobs"] = min(request.top_logprobs, MOST_TOP_LOGPROBS)
    return body


def chat_messages(messages: Messages) -> list[dict[str, str]]:
    """Messages as the format writes them."""
    return [{"role": m.role, "content": m.content} for m in messages]


def parse_chat(endpoint: Endpoint, answer: str, latency_s: float) -> Completion:
    """The completion in the body of a success.

    Raises:
        BackendError: the body is not a chat completion; retryable.
    """
    body = Body(endpoint, read_json(endpoint, answer))
    choices = body.parts("choices")
    if not choices:
        raise _no_choices(endpoint, body, answer)
    choice = choices[0]
    if choice.get("message") is None:
        raise choice.missing("message")
    message = choice.part("message")
    text, refusal = _content(message), message.text("refusal")
    return Completion(
        text=text or refusal,
        finish_reason="refusal" if refusal else _REASONS.get(choice.text("finish_reason"), "stop"),
        model=body.text("model"),
        tokens=_tokens(choice.part("logprobs")),
        thinking=message.text("reasoning_content") or message.text("reasoning"),
        usage=parse_usage(body),
        latency_s=latency_s,
    )


def parse_usage(body: Body) -> Usage:
    """What the call took; zeros where the server does not say."""
    usage = body.part("usage")
    return Usage(
        input=usage.count("prompt_tokens"),
        cached_input=usage.part("prompt_tokens_details").count("cached_tokens"),
        output=usage.count("completion_tokens"),
    )


def _content(message: Body) -> str:
    """The text of a message; some servers send it in parts."""
    if not isinstance(message.get("content"), list):
        return message.text("content")
    parts = message.parts("content")
    return "".join(part.text("text") for part in parts if part.text("type") in _TEXT_PARTS)


def _tokens(logprobs: Body) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(token.text("token"), token.logprob("logprob"), _alternatives(token))
        for token in logprobs.parts("content")
    )


def _alternatives(token: Body) -> tuple[tuple[str, float], ...]:
    top = [(t.text("token"), t.logprob("logprob")) for t in token.parts("top_logprobs")]
    return tuple(sorted(top, key=lambda pair: -pair[1]))


def _no_choices(endpoint: Endpoint, body: Body, answer: str) -> Exception:
    """Gateways pass an upstream failure on with status 200 and the real status in the body."""
    if body.get("error") is None:
        return body.missing("choices")
    error = body.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 600:
        return status_error(endpoint, code, {}, answer)
    said = endpoint.redact(str(error.get("message", "") if isinstance(error, dict) else error))
    return unreadable(endpoint, f"with an error and no choices: {said}")
