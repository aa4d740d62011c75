"""The server: uvicorn, with clients that never finish the head of a request shown out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LISTENING = 2048
_GOODBYE_S = 10
"""Seconds that answers under way have when the server is told to stop."""


class _Joined:
    """A transport that sends the head of an answer together with what follows at once.

    uvicorn writes them one after the other, each a call of the system that wakes the client.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines([head, data])
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n"):
            self._head = data
            self._loop.call_soon(self._flush)  # where nothing follows in this turn of the loop
        else:
            self._transport.write(data)

    def _flush(self) -> None:
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 where the head of each request arrives within `head_s` seconds.

    uvicorn waits for it without end, so a few clients that send a byte a minute would hold every
    connection there is.
    """

    head_s = 10.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _Joined(transport, self.loop)))
        self._start()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._timer is None:
            self._start()

    def on_headers_complete(self) -> None:
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._timer = self.loop.call_later(self.head_s, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    """A server that says when it listens, and where."""

    begun: Callable[[str], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self.begun(f"http://{f'[{host}]' if ':' in host else host}:{port}")


def build_server(
    app: ASGIApp, host: str, port: int, *, head_s: float, begun: Callable[[str], None]
) -> uvicorn.Server:
    """A server of `app`, not yet listening.

    Args:
        app: The application.
        host: The address to listen on.
        port: The port; 0 for any that is free.
        head_s: Longest time that a client may take to send the head of a request.
        begun: Told the URL once it listens.
    """
    protocol: Any = type("Protocol", (_Protocol,), {"head_s": head_s})
    server = _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=protocol,
            ws="none",
            backlog=_LISTENING,
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            # what a proxy says about the client is believed of nobody
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_GOODBYE_S,
        )
    )
    server.begun = begun
    return server
