"""What both batch APIs have in common: values, calls through an SDK's client, and patience."""

from __future__ import annotations

import asyncio
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
)
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from rlaif.backends._body import Body, read_json, unreadable
from rlaif.backends._http import Endpoint, status_error, transport_error
from rlaif.backends._sdk import Sdk, failure
from rlaif.backends.families import Family
from rlaif.errors import BackendError
from rlaif.store.batches import SentBatch
from rlaif.types import Completion, Request

Sleep = Callable[[float], Awaitable[None]]
T = TypeVar("T")

_RAW = {"X-Stainless-Raw-Response": "stream"}
"""Tells the SDKs' clients to hand over an answer before its body was read."""
_SLOWEST = 256 * 1024
"""Bytes a second below which an upload is given up."""
_LONGEST_ANSWER_S = 600.0
"""For a provider to look through a batch of the largest size."""
_LONGEST_LINE = 64 * 2**20
_ATTEMPTS = 6
_LONGEST_WAIT_S = 60.0


class Straggler(BackendError):  # noqa: N818
    """A request that a batch left unanswered, and nobody bills: it may be asked again.

    Args:
        message: What became of it.
        cancelled: Whether somebody cancelled the batch, so that it is not sent in another one.
    """

    def __init__(self, message: str, *, cancelled: bool = False) -> None:
        super().__init__(message, retryable=True, kind="overload")
        self.cancelled = cancelled


@dataclass(frozen=True, slots=True)
class Chunk:
    """Requests that go out together."""

    digests: tuple[str, ...]
    lines: tuple[bytes, ...]
    """Each request as JSON, in the same order."""
    family: Family
    """What the model accepts, as they were made for."""


@dataclass(frozen=True, slots=True)
class Look:
    """How far a batch is."""

    ended: bool
    done: int
    size: int
    """Requests in it, as the provider counts them."""
    results: tuple[str, ...] = ()
    """Paths of its results."""
    refused: BackendError | None = None
    """Why the provider did not take it on, where it did not."""
    cancelled: bool = False
    """Whether somebody ended it."""


class BatchApi(Protocol):
    """A provider's batch API for one model."""

    most_requests: int
    """In a batch."""
    most_bytes: int

    def check(self, request: Request) -> None:
        """Raise `ConfigError` if the API cannot answer `request`."""
        ...

    @property
    def family(self) -> Family:
        """What the model accepts, as far as is known now."""
        ...

    def line(self, digest: str, request: Request, family: Family) -> bytes:
        """`request` as JSON on one line.

        Raises:
            BackendError: JSON cannot carry it.
        """
        ...

    async def upload(self, chunk: Chunk) -> str:
        """What `create` needs to know of a chunk that is now with the provider, if anything."""
        ...

    async def create(self, chunk: Chunk, uploaded: str, token: str) -> str:
        """The provider's name for a batch that it has now begun.

        Raises:
            BackendError: it refused or failed. Unless the error is about the rate of calls, access
                or the request, the batch may have been begun all the same.
        """
        ...

    async def find(
        self, batch: SentBatch, known: Collection[str], digests: Collection[str]
    ) -> str | None:
        """The provider's name for `batch`, if it was begun.

        Args:
            batch: A batch that may have been begun, though nobody noted its name.
            known: Names of batches that are other ones.
            digests: Some of the requests in it.
        """
        ...

    async def look(self, batch_id: str) -> Look:
        """How far a batch is."""
        ...

    def results(self, look: Look) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """The digest and the result of each request that ended, in any order."""
        ...

    def read(self, result: Mapping[str, Any], sent: Family, latency_s: float) -> Completion:
        """The completion in one result.

        Args:
            result: As `results` gave it.
            sent: What the request was made for.
            latency_s: How long it took.

        Raises:
            Straggler: there is none, and the request may be asked again, perhaps in another form.
            BackendError: the provider refused the request.
        """
        ...


class Calls:
    """Calls to the batch API through an SDK's client; every failure is a `BackendError`."""

    def __init__(self, sdk: Sdk, endpoint: Endpoint) -> None:
        import httpx2

        self.endpoint = endpoint
        self._sdk = sdk
        self._errors = (*sdk.errors, httpx2.HTTPError)

    async def get(self, path: str) -> Body:
        """The JSON object at `path`."""
        answer = self._sdk.client.get(path, cast_to=self._sdk.response)
        return await self._call(answer, self._sdk.timeouts.total_s)

    async def post(self, path: str, size: int = 0, **sent: Any) -> Body:
        """The JSON object that comes back for what is sent.

        Args:
            path: Where to.
            size: Bytes of it, for how long it may take.
            sent: What: `body`, `content` or `files`, and `headers`.
        """
        import httpx2

        wait_s = self._sdk.timeouts.total_s
        if size:
            wait_s = max(wait_s, size / _SLOWEST) + _LONGEST_ANSWER_S
        longest = httpx2.Timeout(wait_s, connect=self._sdk.timeouts.connect_s, pool=None)
        options: dict[str, Any] = {"timeout": longest}
        if (headers := sent.pop("headers", None)) is not None:
            options["headers"] = headers
        answer = self._sdk.client.post(path, cast_to=self._sdk.response, options=options, **sent)
        return await self._call(answer, wait_s)

    async def lines(self, path: str) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON objects of a JSONL file, as they arrive; what is no object is left out.

        Raises:
            BackendError: the file is not there, or its end did not arrive.
        """
        try:
            answer = await self._sdk.client.get(
                path, cast_to=self._sdk.response, options={"headers": _RAW}
            )
            try:
                async with aclosing(_split(self.endpoint, answer.aiter_bytes())) as found:
                    async for line in found:
                        try:
                            row = orjson.loads(line)
                        except ValueError:
                            continue
                        if isinstance(row, dict):
                            yield row
            finally:
                await answer.aclose()
        except self._errors as error:
            raise self._failed(error) from None

    async def _call(self, answer: Awaitable[Any], longest_s: float) -> Body:
        try:
            async with asyncio.timeout(longest_s):
                got = await answer
        except self._errors as error:
            raise self._failed(error) from None
        return Body(self.endpoint, read_json(self.endpoint, got.text))

    def _failed(self, error: Exception) -> BackendError:
        # `from None`: the SDK's error repeats the body, where servers repeat keys
        return failure(self._sdk.module, self.endpoint, error, self._sdk.timeouts.total_s)


async def _split(endpoint: Endpoint, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The lines in a stream of bytes: text in JSON may hold other characters that end lines."""
    left = b""
    async for chunk in chunks:
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(left) > _LONGEST_LINE:
            raise unreadable(endpoint, "a file of results without ends of lines")
    if left.strip():
        yield left


def safe_name(made: Body, field: str = "id") -> str:
    """The provider's name for something, fit for a path.

    Raises:
        BackendError: there is none, or it is not.
    """
    name = made.text(field)
    if not name or not all(c.isascii() and (c.isalnum() or c in "-_") for c in name):
        raise made.missing(field)
    return name


def result_error(
    endpoint: Endpoint, status: int, error: object, *, learned: Callable[[str], bool]
) -> BackendError:
    """The error for one request of a batch that the provider answered with an error.

    Args:
        endpoint: Who is asked.
        status: The HTTP status that a live call would have had.
        error: The body that it would have had.
        learned: Whether the refusal, that body as JSON, is heeded when it is asked again.
    """
    body = json.dumps(error)
    found = status_error(endpoint, status, {}, body)
    if learned(body) or (found.retryable and not found.fatal):
        return Straggler(str(found))
    return found


async def patiently(attempt: Callable[[], Awaitable[T]], sleep: Sleep = asyncio.sleep) -> T:
    """What `attempt` brings, tried again as `RetryingBackend` does after failures that may pass.

    Raises:
        BackendError: the last failure.
    """
    spread = wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_S)

    def wait_s(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_for = error.retry_after if isinstance(error, BackendError) else None
        return spread(state) if asked_for is None else asked_for

    retrying = AsyncRetrying(
        retry=retry_if_exception(may_pass),
        wait=wait_s,
        stop=stop_after_attempt(_ATTEMPTS),
        sleep=sleep,
        reraise=True,
    )

    async def once() -> T:  # tenacity would not await what a plain function gives
        return await attempt()

    return await retrying(once)


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(error, BackendError) and error.retryable and not error.fatal


def next_chunk(
    api: BatchApi, requests: Mapping[str, Request], most: int, failed: dict[str, BackendError]
) -> Chunk | None:
    """As many of `requests`, from the first on, as a batch can take; `None` where none can go.

    Args:
        api: For the lines and the limits.
        requests: By their digests.
        most: Most requests of a chunk; the API's own limit holds too.
        failed: Gets the requests that no line can carry.
    """
    family = api.family
    most = min(most, api.most_requests)
    lines: dict[str, bytes] = {}
    size = 0
    for digest, request in requests.items():
        try:
            line = api.line(digest, request, family)
        except BackendError as error:
            failed[digest] = error
            continue
        size += len(line) + 1
        if lines and size > api.most_bytes:
            break
        lines[digest] = line
        if len(lines) >= most:
            break
    return Chunk(tuple(lines), tuple(lines.values()), family) if lines else None


class BatchEnd:
    """What both ends of batches are made of: who is asked, how, and what may be asked.

    Args:
        sdk: How it is reached.
        endpoint: Who is asked.
        check: Raises `ConfigError` for a request that the API cannot answer.
    """

    def __init__(self, sdk: Sdk, endpoint: Endpoint, check: Callable[[Request], None]) -> None:
        self.check = check
        self._sdk = sdk
        self._endpoint = endpoint
        self._calls = Calls(sdk, endpoint)

    @property
    def family(self) -> Family:
        """What the model accepts, as far as is known now."""
        return self._sdk.lessons.family

    def _encoded(self, row: Mapping[str, Any]) -> bytes:
        """A request of a batch as JSON.

        Raises:
            BackendError: UTF-8 cannot carry its messages.
        """
        try:
            return orjson.dumps(row)
        except orjson.JSONEncodeError as error:
            raise transport_error(self._endpoint, UnicodeError(str(error)), 0.0) from None
