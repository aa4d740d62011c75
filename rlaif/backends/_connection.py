"""HTTP to one server: one session that keeps its connections, and no call without an end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rlaif.backends._http import Endpoint, transport_error
from rlaif.backends.timeouts import Timeouts, Watchdog
from rlaif.canonical import json_bytes
from rlaif.errors import BackendError

if TYPE_CHECKING:
    import aiohttp

_KEPT_S = 60.0
"""Seconds that an idle connection is kept."""
_MOST_BYTES = 64 * 2**20
"""Of an answer; the log-probabilities of the longest prompts take a tenth of that."""


class Answer(NamedTuple):
    """What came back, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Names compare without case."""
    body: bytes

    @property
    def text(self) -> str:
        """The body; what is no UTF-8 in it is marked as such."""
        return self.body.decode(errors="replace")


class Connection:
    """Calls to one server over aiohttp, which costs an eighth of an SDK's processor time.

    Args:
        endpoint: Who is asked.
        timeouts: Longest waits of one call.
        proxy: The HTTP proxy that calls go through.
    """

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts, proxy: str | None = None) -> None:
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._proxy = proxy
        secret = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        # the headers of a session are sent to the proxy, too, which must not see the key
        self._every: dict[str, str] = {} if proxy else secret
        self._each: dict[str, str] | None = secret if proxy else None
        # a timer for each call costs more processor time than writing and reading its JSON
        self._watchdog = Watchdog(timeouts.total_s)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """The answer to `body` sent as JSON to `path`, below the endpoint's URL.

        Raises:
            BackendError: there was none in time.
        """
        return await self._call("POST", self._endpoint.url + path, json_bytes(body))

    async def get(self, url: str) -> Answer:
        """What is at `url`.

        Raises:
            BackendError: there was no answer in time.
        """
        return await self._call("GET", url, None)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _call(self, method: str, url: str, data: bytes | None) -> Answer:
        import aiohttp

        session = self._session
        if session is None or session.closed:
            session = self._session = self._open()
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # a coroutine that awaits is in a task
        self._watchdog.watch(task, loop, loop.time())
        try:
            async with session.request(
                method,
                url,
                data=data,
                headers=self._each,
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                body = await self._read(response)
                answer = Answer(response.status, response.headers, body)
        except asyncio.CancelledError:
            if not self._watchdog.forget(task):
                raise
            raise transport_error(self._endpoint, TimeoutError(), self._timeouts.total_s) from None
        except (aiohttp.ClientError, OSError) as error:
            self._watchdog.forget(task)
            raise transport_error(self._endpoint, error, self._timeouts.read_s) from error
        except BaseException:
            self._watchdog.forget(task)
            raise
        self._watchdog.forget(task)
        return answer

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of an answer, unless it is absurdly large: it need not even end.

        Raises:
            BackendError: it is.
        """
        size = response.content_length
        if size is not None and size <= _MOST_BYTES and "Content-Encoding" not in response.headers:
            return await response.read()
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _MOST_BYTES:
                message = f"{self._endpoint.provider} answered more than {_MOST_BYTES >> 20} MB"
                raise BackendError(message, kind="bad_reply")
        return bytes(body)

    def _open(self) -> aiohttp.ClientSession:
        """A session; it belongs to the running event loop."""
        import aiohttp

        kind = "application/json"
        headers = {"Content-Type": kind, "Accept": kind, **self._every}
        first_byte_s = self._timeouts.first_byte_s
        return aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_S),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._timeouts.connect_s, sock_read=first_byte_s
            ),
            # cookies of one call have no place in another
            cookie_jar=aiohttp.DummyCookieJar(),
        )
