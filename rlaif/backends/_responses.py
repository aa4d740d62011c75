"""The responses format of OpenAI's API, which its reasoning models are asked through."""

from __future__ import annotations

import json
from typing import Any

from rlaif.backends._body import Body, read_json, unreadable
from rlaif.backends._chat import MOST_TOP_LOGPROBS, token_logprobs
from rlaif.backends._http import Endpoint, status_error
from rlaif.backends._sdk import declines
from rlaif.types import Completion, FinishReason, TokenLogprob, Usage

LEAST_TOKENS = 16
"""Of `max_output_tokens`; the API takes no fewer."""
_REASONS: dict[str, FinishReason] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "content_filter": "refusal",
}
_STATUSES = {"rate_limit_exceeded": 429, "server_error": 500, "vector_store_timeout": 504}
"""HTTP statuses that mean the same as the codes of a failed response; others are the request's."""


def with_logprobs(body: dict[str, Any], top: int) -> None:
    """Ask in `body` for the log-probabilities of `top` tokens at every place."""
    body["include"] = ["message.output_text.logprobs"]
    body["top_logprobs"] = min(top, MOST_TOP_LOGPROBS)


def parse_response(endpoint: Endpoint, answer: str, latency_s: float) -> Completion:
    """The completion in the body of a success.

    Raises:
        BackendError: the body is not a response, or says that the model failed.
    """
    body = Body(endpoint, read_json(endpoint, answer))
    if body.get("error") is not None:
        return _failed(endpoint, body, latency_s)
    if body.get("output") is None:
        raise body.missing("output")
    text, refusal, thinking = [], [], []
    tokens: list[TokenLogprob] = []
    for item in body.parts("output"):
        kind = item.text("type")
        if kind == "reasoning":
            parts = [*item.parts("summary"), *item.parts("content")]
            thinking += [part.text("text") for part in parts]
        elif kind == "message":
            for part in item.parts("content"):
                text.append(part.text("text"))
                refusal.append(part.text("refusal"))
                tokens += token_logprobs(part, "logprobs")
    said, refused = "".join(text), "".join(refusal)
    reason = body.part("incomplete_details").text("reason")
    return Completion(
        text=said or refused,
        finish_reason="refusal" if refused else _REASONS.get(reason, "stop"),
        model=body.text("model"),
        tokens=tuple(tokens),
        thinking="\n\n".join(filter(None, thinking)),
        usage=_usage(body),
        latency_s=latency_s,
    )


def _usage(body: Body) -> Usage:
    usage = body.part("usage")
    return Usage(
        input=usage.count("input_tokens"),
        cached_input=usage.part("input_tokens_details").count("cached_tokens"),
        output=usage.count("output_tokens"),
    )


def _failed(endpoint: Endpoint, body: Body, latency_s: float) -> Completion:
    """A refusal, where that is what failed the response; otherwise the error is raised."""
    if not isinstance(body.get("error"), dict):
        raise unreadable(endpoint, "JSON where error is not an object")
    error = body.part("error")
    code, said = error.text("code"), error.text("message")
    if declines(code):
        text = endpoint.redact(said)
        model, usage = body.text("model"), _usage(body)
        return Completion(text, "refusal", model, usage=usage, latency_s=latency_s)
    words = json.dumps({"error": {"code": code, "message": said}})
    raise status_error(endpoint, _STATUSES.get(code, 400), {}, words)
