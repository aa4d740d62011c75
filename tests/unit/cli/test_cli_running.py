"""Signals while work goes on: the first drains, the second ends it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from rlaif.cli.running import run_draining
from rlaif.runner import Stop


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    # a shell that runs the tests in the background hands down a Ctrl-C that is ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ours = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    found = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, before)
    assert found == ours


def _send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_without_a_signal_it_is_what_the_work_returns() -> None:
    async def work(stop: Stop) -> bool:
        await asyncio.sleep(0)
        return stop.is_set()

    assert run_draining(work) is False


def test_errors_of_the_work_pass_through() -> None:
    async def work(_: Stop) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_draining(work)


def test_the_first_interruption_lets_the_work_end(capsys: pytest.CaptureFixture[str]) -> None:
    async def work(stop: Stop) -> str:
        _send(signal.SIGINT)
        await asyncio.sleep(0.05)
        assert stop.is_set()
        return "drained"

    assert run_draining(work) == "drained"
    assert capsys.readouterr().err.startswith("finishing what is in flight")


@pytest.mark.parametrize(
    "signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)], ids=["^C ^C", "terminate"]
)
def test_the_second_ends_it_and_what_it_opened_is_closed(
    signals: tuple[signal.Signals, ...],
) -> None:
    closed = False

    async def work(_: Stop) -> None:
        nonlocal closed
        for number in signals:
            asyncio.get_running_loop().call_later(0.01, _send, number)
        try:
            await asyncio.sleep(20)
        finally:
            await asyncio.sleep(0)
            closed = True

    with pytest.raises(KeyboardInterrupt):
        run_draining(work)
    assert closed


def test_a_third_does_not_wait_for_the_end() -> None:
    async def work(_: Stop) -> None:
        for wait_s in (0.01, 0.02, 0.03):
            asyncio.get_running_loop().call_later(wait_s, _send, signal.SIGINT)
        try:
            await asyncio.sleep(20)
        finally:
            await asyncio.sleep(20)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_draining(work)
    assert time.monotonic() - began < 10


def test_a_cancellation_that_nobody_asked_for_is_none_of_ours() -> None:
    async def work(_: Stop) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_draining(work)


def test_in_another_thread_it_works_without_signals() -> None:
    found: list[int] = []

    async def work(_: Stop) -> int:
        return 3

    thread = threading.Thread(target=lambda: found.append(run_draining(work)))
    thread.start()
    thread.join()
    assert found == [3]


@pytest.mark.parametrize(("hard", "then"), [(20_000, 8192), (4096, 4096)])
def test_more_files_may_be_open_while_calls_are_made(hard: int, then: int) -> None:
    code = (
        "import resource\n"
        "from rlaif.cli.running import run_draining\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n"
        "async def work(stop):\n"
        "    return resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "print(*run_draining(work))\n"
    )
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < hard:
        pytest.skip("this system allows fewer files")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(then), str(hard)]
