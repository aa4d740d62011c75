"""When a run is stopped, and when not: a hopeless one soon, a passing outage never."""

from __future__ import annotations

import asyncio
import random

import pytest

from rlaif.backends.circuit import ASK_AGAIN_S, Circuit
from rlaif.backends.limited import LimitedBackend
from rlaif.backends.pace import Pace
from rlaif.backends.retrying import RetryingBackend
from rlaif.backends.timeouts import Timeouts
from rlaif.errors import BackendError, Failure
from rlaif.types import Completion, Message, Request
from tests.unit.backends.simulated import Endpoint, now, refusal, simulate

REQUEST = Request((Message("user", "hi"),))


def error(kind: Failure, **more: bool) -> BackendError:
    return BackendError(f"it was {kind}", kind=kind, **({"retryable": True} | more))


async def run(
    endpoint: Endpoint, calls: int, concurrency: int = 64, total_s: float = 30.0
) -> tuple[float, list[BackendError]]:
    """Ask as a runner does, until done or a fatal error; seconds, and the errors."""
    limited = LimitedBackend(endpoint, Pace(concurrency), timeouts=Timeouts(total_s=total_s))
    backend = RetryingBackend(limited)
    errors: list[BackendError] = []
    started, left = now(), iter(range(calls))

    async def worker() -> None:
        for number in left:
            try:
                await backend.complete(Request((Message("user", f"hi {number}"),)))
            except BackendError as failed:
                errors.append(failed)
                if failed.fatal:
                    return

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return now() - started, errors


def test_a_bad_key_costs_one_call() -> None:
    endpoint = Endpoint(fault=lambda *_: error("access", retryable=False, fatal=True))
    took_s, errors = simulate(run(endpoint, 10_000, 1024))
    assert endpoint.calls == 1
    assert took_s < 1
    assert len(errors) == 1024
    assert all(e.fatal and e.kind == "access" and str(e) == "it was access" for e in errors)
    assert len({id(e) for e in errors}) == 1024, "one exception in many tasks mixes tracebacks"


def test_a_key_that_goes_bad_costs_the_calls_in_flight() -> None:
    endpoint = Endpoint(
        fault=lambda number, _: error("access", fatal=True) if number > 500 else None
    )
    simulate(run(endpoint, 10_000))
    assert endpoint.calls <= 500 + 64


@pytest.mark.parametrize(
    ("kind", "patience_s", "tries"), [("server", 30, 30), ("connection", 3, 6), ("bad_reply", 3, 6)]
)
def test_when_everything_fails_it_stops_and_says_why(
    kind: Failure, patience_s: int, tries: int
) -> None:
    endpoint = Endpoint(fault=lambda *_: error(kind))
    took_s, errors = simulate(run(endpoint, 10_000, 1024))
    assert patience_s <= took_s < 1.3 * patience_s
    assert 5 <= endpoint.calls <= tries
    last = errors[-1]
    assert last.fatal
    assert last.kind == kind
    said = str(last)
    assert said.startswith(f"stopped asking simulated/x: {endpoint.calls} calls in a row failed")
    assert f"{endpoint.calls} x {kind.replace('_', ' ')}" in said
    assert said.endswith(f"and none ever succeeded; the last one: it was {kind}")


def test_when_everything_fails_from_some_moment_on_it_stops_too() -> None:
    endpoint = Endpoint(fault=lambda number, _: error("server") if number > 1000 else None)
    took_s, errors = simulate(run(endpoint, 10_000))
    assert took_s < 1000 / 64 * 0.2 + 45
    assert endpoint.calls < 1000 + 64 + 40
    assert errors[-1].fatal
    assert "since the last success" in str(errors[-1])


def test_a_server_that_never_answers_is_given_up() -> None:
    endpoint = Endpoint(fault=lambda *_: 1e9)
    took_s, errors = simulate(run(endpoint, 10_000, 64, total_s=10.0))
    assert took_s < 90
    assert endpoint.calls < 200
    assert errors[-1].kind == "timeout"
    assert errors[-1].fatal


def test_a_server_that_is_busy_is_given_more_time() -> None:
    def loading(until: float) -> Endpoint:
        return Endpoint(fault=lambda _, at: error("overload") if at < 1000 + until else None)

    patient = loading(120.0)
    took_s, errors = simulate(run(patient, 2000))
    assert not [e for e in errors if e.fatal]
    assert took_s < 160
    never = loading(1e9)
    took_s, errors = simulate(run(never, 2000))
    assert 300 <= took_s < 330
    assert never.calls < 400
    assert errors[-1].fatal


def test_requests_that_are_all_rejected_are_not_all_sent() -> None:
    endpoint = Endpoint(fault=lambda *_: error("request", retryable=False))
    _, errors = simulate(run(endpoint, 10_000))
    assert endpoint.calls <= 200 + 64
    assert "200 x request" in str(errors[-1])
    some = Endpoint(
        fault=lambda number, _: error("request", retryable=False) if number > 1 else None
    )
    simulate(run(some, 1000))
    assert some.calls == 1000


def test_requests_that_nobody_can_answer_are_no_outage() -> None:
    """The last ones of a run that go on failing, the others being done, are to blame themselves."""
    bad = [Request((Message("user", f"bad {n}"),)) for n in range(30)]
    good = [Request((Message("user", f"good {n}"),)) for n in range(200)]

    class Picky(Endpoint):
        async def complete(self, request: Request) -> Completion:
            completion = await super().complete(request)
            if request in bad:
                raise error("server")
            return completion

    async def ask(down: bool) -> tuple[list[BackendError], int, bool]:
        endpoint = Picky()
        backend = RetryingBackend(LimitedBackend(endpoint, Pace(64)))
        mixed = [*good[:50], *bad[:15], *good[50:100], *bad[15:], *good[100:]]
        outcomes = await asyncio.gather(*map(backend.complete, mixed), return_exceptions=True)
        if down:  # and an outage is one still, whatever failed before
            endpoint.fault = lambda *_: error("server")
            more = [Request((Message("user", f"more {n}"),)) for n in range(64)]
            outcomes = await asyncio.gather(
                *map(backend.complete, [*bad, *more]), return_exceptions=True
            )
        failed = [o for o in outcomes if isinstance(o, BackendError)]
        return failed, endpoint.calls, any(f.fatal for f in failed)

    failed, calls, fatal = simulate(ask(down=False))
    assert (len(failed), calls, fatal) == (30, 200 + 6 * 30, False)
    assert all("(after 6 tries)" in str(f) for f in failed)
    failed, _, fatal = simulate(ask(down=True))
    assert (len(failed), fatal) == (94, True)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_faults_by_chance_do_not_stop_it(share: float) -> None:
    chance = random.Random(3)
    kinds: list[Failure] = ["server", "connection", "bad_reply"]
    endpoint = Endpoint(
        fault=lambda *_: error(chance.choice(kinds)) if chance.random() < share else None
    )
    _, errors = simulate(run(endpoint, 5000))
    assert not [e for e in errors if e.fatal]
    assert len(errors) <= 2 * 5000 * share**6 + 5
    assert endpoint.calls <= 5000 / (1 - share) * 1.05


def test_a_provider_that_was_there_or_fails_by_itself_is_waited_for_longer() -> None:
    """Only where nobody ever answered is the address to blame."""
    late = Endpoint(fault=lambda number, _: error("connection") if number > 1 else None)
    took_s, _ = simulate(run(late, 2000))
    assert took_s >= 30
    mixed = Endpoint(fault=lambda number, _: error("server" if number == 2 else "connection"))
    took_s, _ = simulate(run(mixed, 2000))
    assert took_s >= 30


@pytest.mark.parametrize(
    ("kind", "begins", "outage_s"),
    [
        *(("connection", 5.0, outage_s) for outage_s in (3.0, 12.0, 25.0)),
        *(("server", 0.0, outage_s) for outage_s in (3.0, 12.0, 25.0)),
        ("connection", 0.0, 2.5),
    ],
)
def test_an_outage_costs_a_few_calls_and_no_verdict(
    kind: Failure, begins: float, outage_s: float
) -> None:
    endpoint = Endpoint(
        fault=lambda _, at: error(kind) if begins <= at - 1000 < begins + outage_s else None
    )
    took_s, errors = simulate(run(endpoint, 5000))
    assert errors == []
    assert endpoint.calls <= 5000 + 64 + 30
    assert took_s <= 5000 / 64 * 0.2 + outage_s + 10


def test_a_slow_first_answer_does_not_hold_the_rest_for_long() -> None:
    endpoint = Endpoint(latency_s=60.0)
    took_s, errors = simulate(run(endpoint, 128, 64, total_s=600.0))
    assert errors == []
    assert took_s <= 5 + 2 * 60 + 61


def test_a_first_call_that_hangs_in_an_outage_lets_others_try() -> None:
    endpoint = Endpoint(
        fault=lambda number, _: error("connection") if number == 1 else 1e9 if number == 2 else None
    )
    took_s, _ = simulate(run(endpoint, 64))
    assert len([at for at in endpoint.sent_at if at < 1010]) == 65
    assert took_s < 40


def test_a_refusal_of_the_rate_does_not_keep_the_others_waiting() -> None:
    endpoint = Endpoint(fault=lambda number, _: refusal(None) if number == 1 else None)
    took_s, errors = simulate(run(endpoint, 256))
    assert errors == []
    assert took_s < 5


def test_a_cancelled_first_call_is_followed_by_another() -> None:
    async def cancelled() -> list[int]:
        endpoint = Endpoint(fault=lambda number, _: 1e9 if number == 1 else None)
        backend = LimitedBackend(endpoint, 8)
        tasks = [asyncio.create_task(backend.complete(REQUEST)) for _ in range(8)]
        await asyncio.sleep(1.0)
        counts = [endpoint.calls]
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        return [*counts, endpoint.calls, backend.pace.in_flight]

    assert simulate(cancelled()) == [1, 7, 0]


def test_a_wakened_call_that_was_cancelled_wakes_another() -> None:
    async def wakened() -> bool:
        circuit = Circuit("m")
        assert await circuit.turn()
        first, second = (asyncio.create_task(circuit.turn()) for _ in range(2))
        await asyncio.sleep(0)
        circuit.abandoned(now())
        first.cancel()
        async with asyncio.timeout(1):
            return await second

    assert simulate(wakened())


def test_a_bug_in_the_first_call_is_followed_by_another() -> None:
    async def bug() -> int:
        endpoint = Endpoint()

        def fault(number: int, _: float) -> None:
            if number == 1:
                raise KeyError("bug")

        endpoint.fault = fault
        backend = LimitedBackend(endpoint, 8)
        outcomes = await asyncio.gather(
            *(backend.complete(REQUEST) for _ in range(8)), return_exceptions=True
        )
        assert isinstance(outcomes[0], KeyError)
        return sum(isinstance(o, BaseException) for o in outcomes)

    assert simulate(bug()) == 1


def test_after_a_while_one_call_sees_whether_it_was_put_right() -> None:
    async def again() -> list[int]:
        paid = False
        endpoint = Endpoint(
            fault=lambda *_: None if paid else error("access", retryable=False, fatal=True)
        )
        backend = LimitedBackend(endpoint, 8)

        async def some() -> int:
            await asyncio.gather(
                *(backend.complete(REQUEST) for _ in range(8)), return_exceptions=True
            )
            return endpoint.calls

        counts = [await some(), await some()]
        await asyncio.sleep(ASK_AGAIN_S)
        counts.append(await some())
        await asyncio.sleep(ASK_AGAIN_S)
        paid = True
        counts.append(await some())
        return counts

    assert simulate(again()) == [1, 1, 2, 10]


def test_successes_under_way_do_not_open_what_a_fatal_error_closed() -> None:
    async def closed() -> int:
        endpoint = Endpoint(
            fault=lambda number, _: error("access", fatal=True) if number == 20 else None
        )
        backend = LimitedBackend(endpoint, 8)
        outcomes = await asyncio.gather(
            *(backend.complete(REQUEST) for _ in range(100)), return_exceptions=True
        )
        assert isinstance(outcomes[-1], BackendError)
        return endpoint.calls

    assert simulate(closed()) <= 28
