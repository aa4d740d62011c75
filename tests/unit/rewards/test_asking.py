"""What an outage of the judge comes to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import pytest

from rlaif.errors import BackendError, Cause, DataError
from rlaif.rewards.asking import Asker
from rlaif.types import Verdict
from tests.builders import candidate, item
from tests.unit.rewards.judges import Grader

DOWN = BackendError("stopped asking: connection refused", fatal=True, kind="connection")


class Waits:
    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


def ask(
    asker: Asker, grade: Callable[[str], float | Cause | BackendError], *texts: str
) -> tuple[dict[str, str | None], Grader]:
    """The status, cause or nothing that came of each text."""
    judge = Grader(grade)
    jobs = {text: partial(judge.score, item(), candidate("c", text)) for text in texts}
    found: dict[str, Verdict | None] = asyncio.run(asker.verdicts(jobs))
    return {k: v and (v.cause or "ok") for k, v in found.items()}, judge


def recovering(failures: int, failure: Cause | BackendError) -> Callable[[str], object]:
    """A judge that fails so many calls, then grades."""
    left = iter(range(failures))
    return lambda text: 3.0 if next(left, None) is None else failure


def test_training_waits_for_the_end_of_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    sleep = Waits()
    asker = Asker(sleep=sleep)
    with caplog.at_level(logging.WARNING):
        found, _ = ask(asker, recovering(6, DOWN), "a", "b")  # type: ignore[arg-type]
    assert found == {"a": "ok", "b": "ok"}
    assert sleep.waits == [1, 2, 4]
    assert asker.paused_s == 7
    assert [r.message for r in caplog.records] == [
        "the judge does not answer, training waits: stopped asking: connection refused"
    ]


def test_what_was_answered_is_not_asked_again() -> None:
    sleep = Waits()
    answers: dict[str, list[object]] = {"a": [3.0], "b": [DOWN, 3.0]}
    found, judge = ask(Asker(sleep=sleep), lambda text: answers[text].pop(0), "a", "b")  # type: ignore[arg-type,return-value]
    assert found == {"a": "ok", "b": "ok"}
    assert judge.asked == ["a", "b", "b"]


def test_nothing_answered_is_an_outage_too_and_waits_grow_to_a_minute() -> None:
    sleep = Waits()
    found, _ = ask(Asker(sleep=sleep), recovering(18, "provider_error"), "a", "b")  # type: ignore[arg-type]
    assert found == {"a": "ok", "b": "ok"}
    assert sleep.waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_one_failure_among_answers_is_no_outage() -> None:
    sleep = Waits()
    found, _ = ask(Asker(sleep=sleep), lambda t: "provider_error" if t == "b" else 3.0, "a", "b")
    assert found == {"a": "ok", "b": "provider_error"}
    assert sleep.waits == []


def test_a_single_request_that_always_fails_is_given_up() -> None:
    sleep = Waits()
    found, judge = ask(Asker(sleep=sleep), lambda t: "provider_error", "a")
    assert found == {"a": "provider_error"}
    assert len(judge.asked) == 4


def test_masking_goes_on_without() -> None:
    asker = Asker("mask", sleep=Waits())
    found, _ = ask(asker, lambda t: DOWN if t == "b" else 3.0, "a", "b")
    assert found == {"a": "ok", "b": None}
    found, _ = ask(asker, lambda t: "provider_error", "a", "b")
    assert found == {"a": "provider_error", "b": "provider_error"}
    assert asker.paused_s == 0


def test_an_outage_that_lasts_too_long_is_raised() -> None:
    with pytest.raises(BackendError, match="did not answer for 7 s: stopped asking") as caught:
        ask(Asker(longest_pause_s=10, sleep=Waits()), lambda t: DOWN, "a", "b")
    assert caught.value.fatal
    with pytest.raises(BackendError, match="did not answer for 0 s: it said nothing"):
        ask(Asker(longest_pause_s=0, sleep=Waits()), lambda t: "provider_error", "a", "b")


@pytest.mark.parametrize("on_outage", ["pause", "mask"])
def test_what_no_waiting_cures_is_raised(on_outage: str) -> None:
    wrong_key = BackendError("the key was refused", fatal=True, kind="access")
    asker = Asker(on_outage, sleep=Waits())  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="the key was refused"):
        ask(asker, lambda t: wrong_key if t == "b" else 3.0, "a", "b")

    def broken(text: str) -> float:
        raise DataError("the rubric needs a reference")

    with pytest.raises(DataError, match="needs a reference"):
        ask(asker, broken, "a")
