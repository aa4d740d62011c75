"""Answers that do not end, or are too large, and connections that never come about."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from rlaif.backends import _connection
from rlaif.backends._connection import Connection
from rlaif.backends._http import Endpoint, transport_error
from rlaif.backends.timeouts import Timeouts
from rlaif.errors import BackendError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def serving(*parts: bytes, again: bytes = b"") -> AsyncIterator[Connection]:
    """A connection to a server that answers `parts` and then `again`, again and again."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.writelines(parts)
            while again:
                writer.write(again)
                await writer.drain()
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    connection = Connection(Endpoint("the server", url, "m", "K"), Timeouts(total_s=10))
    try:
        yield connection
    finally:
        await connection.aclose()
        server.close()
        await server.wait_closed()


async def fetched(*parts: bytes, again: bytes = b"") -> bytes:
    async with serving(*parts, again=again) as connection:
        return (await connection.post("/x", {})).body


@pytest.mark.parametrize(
    ("parts", "again"),
    [
        ([HEAD, b"Content-Length: 2000001\r\n\r\n"], b"x" * 10_000),
        ([HEAD, b"Content-Length: 99999999999999\r\n\r\n"], b"x" * 10_000),
        ([HEAD, b"Transfer-Encoding: chunked\r\n\r\n"], b"2710\r\n" + b"x" * 10_000 + b"\r\n"),
        ([HEAD, b"Connection: close\r\n\r\n"], b"x" * 10_000),
        (
            [
                HEAD,
                b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
                % len(gzip.compress(b"x" * 2_000_000)),
                gzip.compress(b"x" * 2_000_000),
            ],
            b"",
        ),
    ],
    ids=["announced", "absurd", "chunked", "until it closes", "compressed"],
)
def test_an_answer_without_end_is_cut_off(
    parts: list[bytes], again: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connection, "_MOST_BYTES", 2**20)
    with pytest.raises(BackendError, match="the server answered more than 1 MB") as caught:
        asyncio.run(fetched(*parts, again=again))
    assert (caught.value.retryable, caught.value.kind) == (False, "bad_reply")


def test_answers_of_any_framing_are_read_whole() -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    packed = gzip.compress(b"abcde")
    assert asyncio.run(fetched(HEAD, chunked)) == b"abcde"
    assert asyncio.run(fetched(HEAD, b"Content-Length: 5\r\n\r\nabcde")) == b"abcde"
    encoded = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    assert asyncio.run(fetched(HEAD, encoded, packed)) == b"abcde"


def test_a_host_that_takes_no_connection_is_no_slow_one() -> None:
    endpoint = Endpoint("the server", "http://10.0.0.1/v1", "m", "K")
    unreached = transport_error(endpoint, aiohttp.ConnectionTimeoutError(), 10.0)
    assert unreached.kind == "connection"
    assert str(unreached) == "no connection to the server at http://10.0.0.1/v1 in time"
    slow = transport_error(endpoint, aiohttp.SocketTimeoutError(), 10.0)
    assert slow.kind == "timeout"
    assert unreached.retryable
    assert slow.retryable
