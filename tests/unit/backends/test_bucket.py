"""Caps a minute: never passed in any minute, and used up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends._bucket import Bucket, TokenMeter, mean
from rlaif.types import Message, Request, Sampling, Usage
from tests.unit.backends.simulated import most_in


@given(per_minute=st.integers(1, 6000), idle_s=st.floats(0, 1000))
def test_no_minute_holds_more_calls_than_the_cap_nor_many_fewer(
    per_minute: int, idle_s: float
) -> None:
    bucket, now, times = Bucket(per_minute, 1.0), idle_s, []
    while now < idle_s + 150 and len(times) < 20_000:
        wait_s = bucket.wait_s(1.0, now)
        if wait_s > 0:
            now += wait_s
            continue
        bucket.take(1.0)
        times.append(now)
    assert most_in(60.0, times) <= per_minute
    assert len(times) >= 0.95 * 2.5 * per_minute * (1 - 1 / 60) - 1


@given(
    amounts=st.lists(st.integers(1, 100), min_size=200, max_size=400),
    per_minute=st.integers(6000, 9000),
)
def test_no_minute_holds_more_tokens_than_the_cap(amounts: list[int], per_minute: int) -> None:
    bucket, now, sent = Bucket(per_minute), 0.0, []
    for amount in amounts:
        while (wait_s := bucket.wait_s(amount, now)) > 0:
            now += wait_s
        bucket.take(amount)
        sent.append((now, amount))
    for start, _ in sent:
        assert sum(a for at, a in sent if start <= at < start + 60) <= per_minute + 1


def test_an_amount_larger_than_the_bucket_waits_its_time_and_leaves_a_debt() -> None:
    bucket = Bucket(600)
    assert bucket.wait_s(300, 0.0) == 0.0
    bucket.take(300)
    assert 25 < bucket.wait_s(1, 0.0) < 31
    bucket.take(-300)
    assert bucket.wait_s(1, 0.0) == 0.0


def request(characters: int) -> Request:
    return Request((Message("user", "x" * characters),), Sampling(max_tokens=500))


def test_tokens_are_estimated_from_the_calls_before() -> None:
    meter = TokenMeter(60_000)
    assert meter.estimate(request(400)) == 100 + 500
    for _ in range(200):
        meter.correct(request(400), Usage(input=200, output=20), meter.estimate(request(400)))
    assert meter.estimate(request(400)) == pytest.approx(220, abs=1)
    before = meter.estimate(request(400))
    meter.correct(request(400), Usage(), before)
    meter.correct(request(0), Usage(input=5, output=20), before)
    assert meter.estimate(request(400)) == pytest.approx(before)


def test_what_a_call_took_replaces_its_estimate() -> None:
    meter = TokenMeter(60_000)
    meter.bucket.wait_s(1, 0.0)
    meter.bucket.take(1000)
    meter.correct(request(400), Usage(input=100, output=100), 1000)
    assert meter.bucket.wait_s(800, 0.0) == 0.0
    assert meter.bucket.wait_s(801, 0.0) > 0.0


def test_a_running_mean_begins_with_the_first_value() -> None:
    assert mean(None, 8.0) == 8.0
    assert mean(0.0, 16.0) == 1.0
