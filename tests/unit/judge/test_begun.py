from __future__ import annotations

import asyncio

import pytest

from rlaif.judge.begun import Begun, all_of


async def _told(word: str, signal: asyncio.Event, said: list[str]) -> str:
    said.append(f"{word} began")
    await signal.wait()
    await asyncio.sleep(0)
    said.append(f"{word} ended")
    return word


async def _failed(word: str) -> str:
    await asyncio.sleep(0)
    raise ValueError(word)


def test_all_are_under_way_before_the_first_is_waited_for() -> None:
    async def run() -> tuple[list[str], list[str]]:
        said: list[str] = []
        signal = asyncio.Event()
        begun = [Begun(_told(word, signal, said)) for word in ("one", "two")]
        assert said == ["one began", "two began"]
        signal.set()
        return await all_of(begun), said

    words, said = asyncio.run(run())
    assert words == ["one", "two"]
    assert said[2:] == ["one ended", "two ended"]


def test_what_need_not_wait_is_done_at_once() -> None:
    async def at_once(value: int) -> int:
        return value

    async def broken() -> int:
        raise KeyError("at once")

    async def run() -> int:
        with pytest.raises(KeyError, match="at once"):
            await Begun(broken())
        return await Begun(at_once(7))

    assert asyncio.run(run()) == 7


def test_the_first_error_is_raised_once_all_have_ended() -> None:
    async def run() -> list[str]:
        said: list[str] = []
        signal = asyncio.Event()
        signal.set()
        begun = [Begun(_failed("first")), Begun(_failed("second")), Begun(_told("x", signal, said))]
        with pytest.raises(ValueError, match="first"):
            await all_of(begun)
        return said

    assert asyncio.run(run()) == ["x began", "x ended"]


def test_whoever_is_cancelled_ends_them_all() -> None:
    async def run() -> list[str]:
        ended: list[str] = []

        async def waits(word: str) -> str:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(word)
            return word

        async def both() -> list[str]:
            return await all_of([Begun(waits("one")), Begun(waits("two"))])

        task = asyncio.create_task(both())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return ended

    assert asyncio.run(run()) == ["one", "two"]


def test_an_error_thrown_in_reaches_the_coroutine() -> None:
    async def run() -> str:
        async def survives() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "survived"
            return "waited"

        async def awaits() -> str:
            return await Begun(survives())

        task = asyncio.create_task(awaits())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(run()) == "survived"
