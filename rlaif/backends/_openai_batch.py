"""OpenAI's batch API: a file of requests goes up, files of answers and of errors come down."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import Any

import orjson

from rlaif.backends._batch_calls import (
    BatchEnd,
    Chunk,
    Look,
    Straggler,
    result_error,
    safe_name,
)
from rlaif.backends._body import Body, unreadable
from rlaif.backends._chat import parse_chat
from rlaif.backends._http import Endpoint, error_text, status_error
from rlaif.backends._responses import parse_response
from rlaif.backends._sdk import Sdk, declined
from rlaif.backends.families import Family
from rlaif.errors import BackendError
from rlaif.store.batches import SentBatch
from rlaif.types import Completion, Request

_MARK = "rlaif"
"""Under it the metadata of a batch holds our name for it."""
_ENDED = frozenset({"completed", "expired", "cancelled", "failed"})
_SKEW_S = 3600.0
"""How far the provider's clock and this machine's may be apart."""
_PAGE = 100
_MOST_PAGES = 100
_TOO_MUCH = frozenset({"token_limit_exceeded", "request_limit_exceeded"})
"""Why a batch fails that may go through later, or in parts."""
_NOT_REACHED = {"batch_expired": False, "batch_cancelled": True}
"""Codes of requests that were not answered in time; whether that was somebody's wish."""


class OpenAIBatches(BatchEnd):
    """Batches of one model.

    Args:
        sdk: How it is reached.
        endpoint: Who is asked.
        check: Raises `ConfigError` for a request that the API cannot answer.
        build: The path and the body of a live call.
    """

    most_requests = 50_000
    most_bytes = 200_000_000

    def __init__(
        self,
        sdk: Sdk,
        endpoint: Endpoint,
        check: Callable[[Request], None],
        build: Callable[[Request, Family], tuple[str, dict[str, Any]]],
    ) -> None:
        super().__init__(sdk, endpoint, check)
        self._build = build

    def line(self, digest: str, request: Request, family: Family) -> bytes:
        """`request` as a line of the file that goes up.

        Raises:
            BackendError: UTF-8 cannot carry its messages.
        """
        path, body = self._build(request, family)
        row = {"custom_id": digest, "method": "POST", "url": f"/v1{path}", "body": body}
        return self._encoded(row)

    async def upload(self, chunk: Chunk) -> str:
        """The provider's name for the file of a chunk."""
        content = b"\n".join(chunk.lines) + b"\n"
        made = await self._calls.post(
            "/files",
            size=len(content),
            body={"purpose": "batch"},
            files=[("file", ("requests.jsonl", content, "application/jsonl"))],
            headers={"Content-Type": "multipart/form-data"},
        )
        return safe_name(made)

    async def create(self, chunk: Chunk, uploaded: str, token: str) -> str:
        """The provider's name for the batch of a file, which it has now begun."""
        responses = chunk.family.api == "responses"
        body = {
            "input_file_id": uploaded,
            "endpoint": "/v1/responses" if responses else "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {_MARK: token},
        }
        return safe_name(await self._calls.post("/batches", body=body))

    async def find(
        self, batch: SentBatch, known: Collection[str], digests: Collection[str]
    ) -> str | None:
        """The name of the batch whose metadata has our name for it."""
        del known, digests
        after = ""
        for _ in range(_MOST_PAGES):
            page = await self._calls.get(f"/batches?limit={_PAGE}{after}")
            listed = page.parts("data")
            for one in listed:
                if one.part("metadata").get(_MARK) == batch.token:
                    return safe_name(one)
            # newest first: what was begun long before ours ends the search
            if not listed or page.get("has_more") is not True:
                return None
            if listed[-1].count("created_at") < batch.created_s - _SKEW_S:
                return None
            after = f"&after={safe_name(listed[-1])}"
        return None

    async def look(self, batch_id: str) -> Look:
        """How far a batch is."""
        batch = await self._calls.get(f"/batches/{batch_id}")
        counts = batch.part("request_counts")
        status = batch.text("status")
        if not status:
            raise batch.missing("status")
        files = ("output_file_id", "error_file_id")
        return Look(
            ended=status in _ENDED,
            done=counts.count("completed") + counts.count("failed"),
            size=counts.count("total"),
            results=tuple(
                f"/files/{safe_name(batch, field)}/content" for field in files if batch.text(field)
            ),
            refused=self._refused(batch) if status == "failed" else None,
            cancelled=status == "cancelled",
        )

    def _refused(self, batch: Body) -> BackendError:
        """Why the provider did not take the batch on."""
        errors = batch.part("errors").parts("data")
        codes = {error.text("code") for error in errors}
        words = (f"line {e.count('line')}: " if e.get("line") else "" for e in errors)
        said = "; ".join(w + e.text("message") for w, e in zip(words, errors[:3], strict=False))
        message = f"OpenAI did not take the batch: {self._endpoint.redact(said) or 'no reason'}"
        if codes & _TOO_MUCH:
            return BackendError(message, retryable=True, kind="rate_limit")
        return BackendError(message, fatal=True, kind="request")

    async def results(self, look: Look) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """The digest and the result of each request that ended: answers first, then errors."""
        for path in look.results:
            async for row in self._calls.lines(path):
                if isinstance(digest := row.get("custom_id"), str):
                    yield digest, row

    def read(self, result: Mapping[str, Any], sent: Family, latency_s: float) -> Completion:
        """The completion in a line of the files that come down.

        Raises:
            Straggler: there is none, and the request may be asked again.
            BackendError: the provider refused the request.
        """
        line = Body(self._endpoint, dict(result))
        if line.get("response") is None:
            raise self._unanswered(line)
        response = line.part("response")
        status, body = response.count("status_code"), response.part("body")
        found = response.get("body")
        if status != 200:
            return self._failed(status, found, sent, latency_s)
        if not isinstance(found, dict):
            raise unreadable(self._endpoint, "a batch with a result that has no body")
        if body.text("object") == "response" or "output" in found:
            return parse_response(self._endpoint, orjson.dumps(found).decode(), latency_s)
        return parse_chat(self._endpoint, orjson.dumps(found), latency_s)

    def _failed(self, status: int, body: object, sent: Family, latency_s: float) -> Completion:
        """The refusal of a model to answer, where the error is one; else it is raised."""
        text = orjson.dumps(body).decode()
        if declined(status, text):
            said = self._endpoint.redact(error_text(text)) or "declined"
            return Completion(said, "refusal", model=self._endpoint.model, latency_s=latency_s)
        raise result_error(
            self._endpoint,
            status,
            body,
            learned=lambda said: self._sdk.learns(sent, status, said),
        )

    def _unanswered(self, line: Body) -> BackendError:
        error = line.part("error")
        code = error.text("code")
        said = self._endpoint.redact(error.text("message")) or code or "no reason"
        message = f"the batch left the request unanswered: {said}"
        if code in _NOT_REACHED:
            return Straggler(message, cancelled=_NOT_REACHED[code])
        return status_error(self._endpoint, 500, {}, orjson.dumps(line.get("error")).decode())
