"""The chat completions format that OpenAI's API and the servers compatible with it speak."""

from __future__ import annotations

from typing import Any

import orjson

from rlaif.backends._body import Body, read_json, unreadable
from rlaif.backends._http import Endpoint, status_error
from rlaif.errors import ConfigError
from rlaif.types import Completion, FinishReason, Messages, Request, TokenLogprob, Usage

MOST_TOP_LOGPROBS = 20
"""Alternatives per token that the format allows; more are not asked for."""
_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "refusal"}
_USUAL_REASONS: dict[str, FinishReason] = {"stop": "stop", **_REASONS}
_TEXT_PARTS = frozenset({"text", "output_text"})


def chat_body(model: str, request: Request) -> dict[str, Any]:
    """The JSON to send for `request` to a server.

    Draws of one request get seeds of their own (`seed + draw`), as one seed gives one reply. Of a
    request with choices all alternatives are asked for that there can be: a choice may be unlikely.

    Raises:
        ConfigError: the sampling asks for a number of tokens to reason with.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": chat_messages(request.messages),
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.top_p != 1:
        body["top_p"] = sampling.top_p
    if sampling.seed is not None:
        body["seed"] = sampling.seed + request.draw
    top_logprobs = MOST_TOP_LOGPROBS if request.choices else request.top_logprobs
    if top_logprobs:
        body["logprobs"] = True
        body["top_logprobs"] = min(top_logprobs, MOST_TOP_LOGPROBS)
    if request.json_schema is not None:
        schema = {"name": "reply", "schema": request.json_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if sampling.reasoning is not None:
        if sampling.reasoning.isdigit():
            raise ConfigError(
                "a server takes a word for how much to reason, not a number of tokens"
            )
        body["reasoning_effort"] = sampling.reasoning
    return body


def chat_messages(messages: Messages) -> list[dict[str, str]]:
    """Messages as the format writes them."""
    return [{"role": m.role, "content": m.content} for m in messages]


def parse_chat(endpoint: Endpoint, answer: str | bytes, latency_s: float) -> Completion:
    """The completion in the body of a success.

    Raises:
        BackendError: the body is not a chat completion; retryable.
    """
    try:
        return _usual(orjson.loads(answer), latency_s)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        # anything else: read with care, field by field, to be understood or told apart
        text = answer if isinstance(answer, str) else answer.decode(errors="replace")
        return _careful(endpoint, text, latency_s)


def _usual(fields: Any, latency_s: float) -> Completion:
    """The completion in an answer that is as nearly all are, at a tenth of the processor time.

    Raises:
        AttributeError, KeyError, IndexError, TypeError, ValueError: it is not.
    """
    choice = fields["choices"][0]
    message = choice["message"]
    text, usage, model = message["content"], fields["usage"], fields["model"]
    thinking = message.get("reasoning_content")
    if thinking is None or thinking == "":
        thinking = message.get("reasoning")
    if thinking is None:
        thinking = ""
    refusal = message.get("refusal")
    if not (type(text) is type(model) is type(thinking) is str) or refusal not in {None, ""}:
        raise TypeError
    details = usage.get("prompt_tokens_details")
    cached = None if details is None else details.get("cached_tokens")
    counts = usage["prompt_tokens"], 0 if cached is None else cached, usage["completion_tokens"]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise TypeError
    logprobs = choice.get("logprobs")
    return Completion(
        text=text,
        finish_reason=_USUAL_REASONS[choice["finish_reason"]],
        model=model,
        tokens=() if logprobs is None else tuple(map(_usual_token, _listed(logprobs["content"]))),
        thinking=thinking,
        usage=Usage(*counts),
        latency_s=latency_s,
    )


def _usual_token(entry: Any) -> TokenLogprob:
    top = tuple([(t["token"], _usual_logprob(t)) for t in _listed(entry["top_logprobs"])])
    if any(type(name) is not str for name, _ in top) or type(entry["token"]) is not str:
        raise TypeError
    return TokenLogprob(
        entry["token"], _usual_logprob(entry), tuple(sorted(top, key=_likeliest_first))
    )


def _listed(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError
    return value


def _usual_logprob(entry: Any) -> float:
    """Nats; orjson reads no NaN."""
    value = entry["logprob"]
    if type(value) is not float and type(value) is not int:
        raise TypeError
    return min(0.0, max(-9999.0, float(value)))


def _likeliest_first(pair: tuple[str, float]) -> float:
    return -pair[1]


def _careful(endpoint: Endpoint, answer: str, latency_s: float) -> Completion:
    """The completion in any answer that holds one, or what is wrong with it."""
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
        tokens=token_logprobs(choice.part("logprobs"), "content"),
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


def token_logprobs(logprobs: Body, name: str) -> tuple[TokenLogprob, ...]:
    """The tokens listed under `name`, each with its alternatives, most likely first."""
    return tuple(
        TokenLogprob(token.text("token"), token.logprob("logprob"), _alternatives(token))
        for token in logprobs.parts(name)
    )


def _alternatives(token: Body) -> tuple[tuple[str, float], ...]:
    top = [(t.text("token"), t.logprob("logprob")) for t in token.parts("top_logprobs")]
    return tuple(sorted(top, key=_likeliest_first))


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
