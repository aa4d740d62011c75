"""Heads and bodies of answers leave together, and none is lost or held back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from rlaif.service.serving import _Joined

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Recorded:
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.sent.append(b"".join(parts))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


def joined() -> tuple[_Joined, Recorded]:
    under = Recorded()
    return _Joined(cast("Any", under), asyncio.get_running_loop()), under


def test_a_head_leaves_with_its_body_in_one_write() -> None:
    async def scene() -> None:
        transport, under = joined()
        for body in (b"ab", b"cd"):
            transport.write(HEAD)
            transport.write(body)
        assert under.sent == [HEAD + b"ab", HEAD + b"cd"]
        await asyncio.sleep(0)
        assert len(under.sent) == 2
        transport.write(b"more of a stream")
        assert under.sent[2] == b"more of a stream"
        assert transport.get_extra_info("peername") == "the peername"

    asyncio.run(scene())


def test_a_head_that_nothing_follows_leaves_at_the_next_turn() -> None:
    async def scene() -> None:
        transport, under = joined()
        transport.write(HEAD)
        assert under.sent == []
        await asyncio.sleep(0)
        assert under.sent == [HEAD]

    asyncio.run(scene())


def test_a_head_leaves_before_the_connection_is_closed_and_not_after() -> None:
    async def scene() -> None:
        transport, under = joined()
        transport.write(HEAD)
        transport.close()
        assert (under.sent, under.closed) == ([HEAD], True)
        transport.write(HEAD)
        await asyncio.sleep(0)
        assert under.sent == [HEAD]

    asyncio.run(scene())
