from __future__ import annotations

import asyncio
import multiprocessing
import threading

import pytest

from rlaif.background import bridged, run_blocking


async def where() -> tuple[str, asyncio.AbstractEventLoop]:
    await asyncio.sleep(0)
    return threading.current_thread().name, asyncio.get_running_loop()


def test_it_runs_on_one_loop_with_and_without_a_loop_around_it() -> None:
    async def inside() -> list[object]:
        # as in a notebook: a loop runs here, and the call blocks all the same
        return [run_blocking(where()), await bridged(where())]

    found = {run_blocking(where()), *asyncio.run(inside())}
    assert len(found) == 1
    assert next(iter(found))[0] == "rlaif-background"


def test_work_on_the_loop_awaits_and_may_not_block() -> None:
    async def inner() -> tuple[object, str]:
        try:
            run_blocking(where())
        except RuntimeError as error:
            return await bridged(where()), str(error)
        raise AssertionError

    found, said = run_blocking(inner())
    assert found == run_blocking(where())
    assert "await it" in said


def test_errors_come_through() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_blocking(fail())
    with pytest.raises(ZeroDivisionError):
        asyncio.run(bridged(fail()))


def test_a_cancelled_caller_cancels_the_work() -> None:
    ended = threading.Event()

    async def long() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    async def impatient() -> None:
        await asyncio.wait_for(bridged(long()), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())
    assert ended.wait(5)


def test_an_interruption_ends_the_work_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import Future

    ended = threading.Event()

    async def long() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            ended.set()

    def interrupted(self: Future[None], timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_blocking(long())
    assert ended.wait(5)


def _in_child(queue: multiprocessing.Queue[str]) -> None:
    queue.put(run_blocking(where())[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_a_loop_of_its_own() -> None:
    run_blocking(where())
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[str] = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=30) == "rlaif-background"
    child.join(30)
