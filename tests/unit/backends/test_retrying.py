"""The retry loop: what is tried again, how long it waits, and when it gives up."""

from __future__ import annotations

import asyncio

import pytest

from rlaif.backends.retrying import RetryingBackend
from rlaif.backends.scripted import Reply, ScriptedBackend
from rlaif.errors import BackendError, ConfigError, Failure
from rlaif.types import Completion, Message, Request
from tests.unit.backends.simulated import Endpoint, most_in, refusal, simulate

REQUEST = Request((Message("user", "hi"),))


class Clock:
    """Time that passes only in `sleep`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def busy(retry_after: float | None = None) -> BackendError:
    return BackendError("busy", retryable=True, retry_after=retry_after)


def run(
    replies: list[Reply], clock: Clock | None = None, **options: float
) -> tuple[Completion | BackendError, RetryingBackend, ScriptedBackend]:
    clock = clock or Clock()
    inner = ScriptedBackend(replies)
    backend = RetryingBackend(inner, sleep=clock.sleep, **options)  # type: ignore[arg-type]
    try:
        return asyncio.run(backend.complete(REQUEST)), backend, inner
    except BackendError as error:
        return error, backend, inner


def test_a_passing_failure_is_tried_again() -> None:
    done, backend, inner = run([busy(), busy(), "fine"])
    assert isinstance(done, Completion)
    assert (done.text, inner.calls, backend.retries.total()) == ("fine", 3, 2)


def test_the_last_failure_is_raised_with_the_number_of_tries() -> None:
    done, _, inner = run([busy(1.0)] * 9, attempts=4)
    assert isinstance(done, BackendError)
    assert str(done) == "busy (after 4 tries)"
    assert (done.retryable, done.retry_after, inner.calls) == (True, 1.0, 4)
    assert isinstance(done.__cause__, BackendError)


@pytest.mark.parametrize(
    "error",
    [
        BackendError("no"),
        BackendError("key", fatal=True),
        BackendError("x", retryable=True, fatal=True),
    ],
)
def test_what_cannot_pass_is_raised_at_once(error: BackendError) -> None:
    done, backend, inner = run([error, "never asked"])
    assert done is error
    assert (inner.calls, backend.retries.total()) == (1, 0)


def test_a_failure_that_turns_hopeless_ends_it() -> None:
    done, _, inner = run([busy(), BackendError("key", fatal=True), "never asked"])
    assert isinstance(done, BackendError)
    assert (str(done), done.fatal, inner.calls) == ("key", True, 2)


def test_retries_are_counted_by_what_went_wrong() -> None:
    kinds: list[Failure] = ["rate_limit", "bad_reply", "bad_reply", "connection"]
    replies: list[Reply] = [BackendError("x", retryable=True, kind=kind) for kind in kinds]
    done, backend, _ = run([*replies, "fine"])
    assert isinstance(done, Completion)
    assert backend.retries == {"rate_limit": 1, "bad_reply": 2, "connection": 1}


def test_the_last_failure_keeps_its_kind() -> None:
    slow = BackendError("slow", retryable=True, kind="timeout")
    done, backend, _ = run([busy(), slow], attempts=2)
    assert isinstance(done, BackendError)
    assert (done.kind, backend.retries) == ("timeout", {"server": 1})


def test_a_single_attempt_is_just_that() -> None:
    error = busy()
    done, backend, inner = run([error, "never asked"], attempts=1)
    assert done is error
    assert (inner.calls, backend.retries.total()) == (1, 0)


def test_calls_that_fail_together_do_not_come_back_together() -> None:
    endpoint = Endpoint(fault=lambda number, _: refusal(5.0) if number <= 100 else None)

    async def together() -> None:
        backend = RetryingBackend(endpoint)
        await asyncio.gather(*(backend.complete(REQUEST) for _ in range(100)))

    simulate(together())
    again = [at - 1000 for at in endpoint.sent_at[100:]]
    assert min(again) >= 5.0
    assert max(again) <= 5.6
    assert most_in(0.05, again) < 30


def test_a_bug_is_not_tried_again() -> None:
    def bug(_: Request) -> str:
        raise KeyError("bug")

    backend = RetryingBackend(ScriptedBackend(bug))
    with pytest.raises(KeyError):
        asyncio.run(backend.complete(REQUEST))


def test_waits_grow_up_to_a_bound_and_are_spread() -> None:
    firsts, lasts = [], []
    for _ in range(200):
        clock = Clock()
        run([busy()] * 9, clock, attempts=9, first_wait_s=1.0, longest_wait_s=8.0, total_s=1e9)
        assert len(clock.waits) == 8
        firsts.append(clock.waits[0])
        lasts.append(clock.waits[-1])
    assert max(firsts) <= 1.0
    assert 4.0 < max(lasts) <= 8.0
    assert len(set(firsts)) > 150


def test_the_provider_says_how_long_to_wait() -> None:
    clock = Clock()
    run([busy(7.0), busy(0.0), "fine"], clock, first_wait_s=0.5)
    assert 7.0 <= clock.waits[0] <= 7.5
    assert 0.0 <= clock.waits[1] <= 0.5


def test_no_wait_goes_past_the_total() -> None:
    clock = Clock()
    done, _, inner = run([busy(40.0)] * 9, clock, attempts=9, total_s=100.0)
    assert isinstance(done, BackendError)
    assert (inner.calls, len(clock.waits)) == (3, 2)
    assert clock.now <= 100.0


def test_one_wait_that_is_too_long_is_not_begun() -> None:
    clock = Clock()
    done, _, inner = run([busy(3600.0), "never asked"], clock)
    assert isinstance(done, BackendError)
    assert (str(done), inner.calls, clock.waits) == ("busy", 1, [])


def test_it_waits_on_the_real_clock() -> None:
    async def timed() -> float:
        backend = RetryingBackend(ScriptedBackend([busy(0.05), "fine"]), first_wait_s=0.001)
        started = asyncio.get_running_loop().time()
        await backend.complete(REQUEST)
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(timed()) >= 0.05


def test_it_passes_the_rest_through() -> None:
    inner = ScriptedBackend([], model="scripted/x", identity="scripted/x#1")
    backend = RetryingBackend(inner)
    assert (backend.model, backend.identity) == ("scripted/x", "scripted/x#1")
    asyncio.run(backend.aclose())
    assert inner.closed
    with pytest.raises(ConfigError, match="attempts"):
        RetryingBackend(inner, attempts=0)
