"""Anthropic's message batches: one call takes all requests up, one stream brings the results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any

import orjson

from rlaif.backends._batch_calls import (
    BatchEnd,
    Chunk,
    Look,
    Sleep,
    Straggler,
    result_error,
    safe_name,
)
from rlaif.backends._body import Body
from rlaif.backends._http import Endpoint, error_text
from rlaif.backends._sdk import Sdk, declined
from rlaif.backends.anthropic import message_body, parse_message
from rlaif.backends.families import Family
from rlaif.store.batches import SentBatch
from rlaif.types import Completion, Request

_PATH = "/v1/messages/batches"
_SKEW_S = 600.0
"""How far the provider's clock and this machine's may be apart."""
_PAGE = 1000
_MOST_PAGES = 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_OUTCOMES = ("succeeded", "errored", "canceled", "expired")
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""HTTP statuses of live calls that have errors of these types; any other is 500."""


class AnthropicBatches(BatchEnd):
    """Batches of one model.

    Args:
        sdk: How it is reached.
        endpoint: Who is asked.
        check: Raises `ConfigError` for a request that the API cannot answer.
        sleep: Waits the given seconds; tests pass their own.
    """

    most_requests = 100_000
    most_bytes = 256_000_000

    def __init__(
        self,
        sdk: Sdk,
        endpoint: Endpoint,
        check: Callable[[Request], None],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(sdk, endpoint, check)
        self.sleep = sleep

    def line(self, digest: str, request: Request, family: Family) -> bytes:
        """`request` as an element of the list that goes up.

        Raises:
            BackendError: UTF-8 cannot carry its messages.
        """
        params = message_body(self._endpoint.model, request, family)
        return self._encoded({"custom_id": digest, "params": params})

    async def upload(self, chunk: Chunk) -> str:
        """Nothing: the requests go with the call that makes the batch."""
        del chunk
        return ""

    async def create(self, chunk: Chunk, uploaded: str, token: str) -> str:
        """The provider's name for a batch of the chunk, which it has now begun."""
        del uploaded, token
        content = b'{"requests":[' + b",".join(chunk.lines) + b"]}"
        made = await self._calls.post(
            _PATH,
            size=len(content),
            content=content,
            headers={"Content-Type": "application/json"},
        )
        return safe_name(made)

    async def find(
        self, batch: SentBatch, known: Collection[str], digests: Collection[str]
    ) -> str | None:
        """The name of the batch that holds our requests.

        Batches carry no name of ours, so it is told by its time, its size and, once it has ended,
        by the first result in it.
        """
        for name in await self._alike(batch, known):
            look = await self._ended(name)
            async with aclosing(self.results(look)) as results:
                async for digest, _ in results:
                    if digest in digests:
                        return name
                    break
        return None

    async def _ended(self, batch_id: str) -> Look:
        """A batch once it has ended: until then nobody is told what is in it."""
        pause_s = _FIRST_PAUSE_S
        while not (look := await self.look(batch_id)).ended:
            await self.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)
        return look

    async def _alike(self, batch: SentBatch, known: Collection[str]) -> list[str]:
        """The names of batches of the same size that were begun since, and are not known."""
        found: list[str] = []
        after = ""
        for _ in range(_MOST_PAGES):
            page = await self._calls.get(f"{_PATH}?limit={_PAGE}{after}")
            listed = page.parts("data")
            for one in listed:
                if _created_s(one) < batch.created_s - _SKEW_S:  # newest first
                    return found
                if _size(one) == batch.size and (name := safe_name(one)) not in known:
                    found.append(name)
            if not listed or page.get("has_more") is not True:
                break
            after = f"&after_id={safe_name(listed[-1])}"
        return found

    async def look(self, batch_id: str) -> Look:
        """How far a batch is."""
        batch = await self._calls.get(f"{_PATH}/{batch_id}")
        counts, size = batch.part("request_counts"), _size(batch)
        if not (status := batch.text("processing_status")):
            raise batch.missing("processing_status")
        return Look(
            ended=status == "ended",
            done=size - counts.count("processing"),
            size=size,
            # not `results_url`: an address that came in an answer could lead the key elsewhere
            results=(f"{_PATH}/{batch_id}/results",),
        )

    async def results(self, look: Look) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """The digest and the result of each request, in any order."""
        for path in look.results:
            async with aclosing(self._calls.lines(path)) as rows:
                async for row in rows:
                    if isinstance(digest := row.get("custom_id"), str):
                        yield digest, row

    def read(self, result: Mapping[str, Any], sent: Family, latency_s: float) -> Completion:
        """The completion in a line of the results.

        Raises:
            Straggler: there is none, and the request may be asked again.
            BackendError: the provider refused the request.
        """
        outcome = Body(self._endpoint, dict(result)).part("result")
        kind = outcome.text("type")
        if kind == "succeeded":
            message = orjson.dumps(outcome.get("message")).decode()
            return parse_message(self._endpoint, message, latency_s)
        if kind == "errored":
            return self._failed(outcome.get("error"), sent, latency_s)
        if kind in {"expired", "canceled"}:
            message = f"the batch left the request unanswered: it {kind}"
            raise Straggler(message, cancelled=kind == "canceled")
        raise outcome.missing("type")

    def _failed(self, error: object, sent: Family, latency_s: float) -> Completion:
        """The refusal of a model to answer, where the error is one; else it is raised."""
        inner = error.get("error") if isinstance(error, dict) else None
        kind = inner.get("type") if isinstance(inner, dict) else None
        status = _STATUSES.get(str(kind), 500)
        text = orjson.dumps(error).decode()
        if declined(status, text):
            said = self._endpoint.redact(error_text(text)) or "declined"
            return Completion(said, "refusal", model=self._endpoint.model, latency_s=latency_s)
        raise result_error(
            self._endpoint,
            status,
            error,
            learned=lambda said: self._sdk.learns(sent, status, said),
        )


def _size(batch: Body) -> int:
    counts = batch.part("request_counts")
    return counts.count("processing") + sum(counts.count(name) for name in _OUTCOMES)


def _created_s(batch: Body) -> float:
    """When it was begun, seconds since 1970; now where nobody can tell."""
    try:
        return datetime.fromisoformat(batch.text("created_at")).timestamp()
    except ValueError:
        return datetime.now().astimezone().timestamp()
