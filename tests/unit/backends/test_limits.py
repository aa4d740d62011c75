"""Rate limits as the headers tell them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict

from rlaif.backends._limits import read_limits
from rlaif.backends.pace import RateLimits


def headers(**values: str) -> CIMultiDict[str]:
    return CIMultiDict({name.replace("_", "-").upper(): text for name, text in values.items()})


def test_openais_headers() -> None:
    said = headers(
        x_ratelimit_remaining_requests="59",
        x_ratelimit_reset_requests="6m0.5s",
        x_ratelimit_remaining_tokens="149984",
        x_ratelimit_reset_tokens="120ms",
    )
    assert read_limits(said) == RateLimits(59, 360.5, 149984, 0.12)
    assert read_limits(headers(x_ratelimit_remaining_tokens="7")) == RateLimits(remaining_tokens=7)


def test_anthropics_headers_where_what_is_used_up_first_counts() -> None:
    when = datetime.fromtimestamp(time.time() + 30, UTC).isoformat().replace("+00:00", "Z")
    found = read_limits(
        headers(
            anthropic_ratelimit_requests_remaining="3",
            anthropic_ratelimit_requests_reset=when,
            anthropic_ratelimit_tokens_remaining="9000",
            anthropic_ratelimit_input_tokens_remaining="8000",
            anthropic_ratelimit_output_tokens_remaining="100",
            anthropic_ratelimit_output_tokens_reset="2001-01-01T00:00:00Z",
        )
    )
    assert found is not None
    assert (found.remaining_requests, found.remaining_tokens) == (3, 100)
    assert found.reset_requests_s == pytest.approx(30, abs=2)
    assert found.reset_tokens_s == 0.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("1h2m3s", 3723.0), ("2.5", 2.5), ("1d", 86400.0), ("soon", None), ("", None)],
)
def test_times(text: str, seconds: Any) -> None:
    said = headers(x_ratelimit_remaining_requests="1", x_ratelimit_reset_requests=text)
    assert read_limits(said) == RateLimits(1, seconds)


@pytest.mark.parametrize("count", ["-1", "many", "1e9", "", "9" * 40])
def test_a_number_that_is_none_is_not_said(count: str) -> None:
    assert read_limits(headers(x_ratelimit_remaining_requests=count)) == RateLimits()


def test_no_headers_no_limits() -> None:
    assert read_limits(headers(content_type="application/json")) is None
