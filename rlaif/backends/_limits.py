"""Rate limits as the headers of answers tell them, by OpenAI's names and by Anthropic's."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime

from rlaif.backends.pace import RateLimits

_OPENAI = ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}")
_ANTHROPIC = ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset")
_TOKENS = ("tokens", "input-tokens", "output-tokens")
"""Anthropic limits prompts and replies apart, too; what is used up first counts."""
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def read_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """What is left of the provider's limits; `None` where the headers do not say.

    Args:
        headers: With names that compare without case, as HTTP libraries give them.
    """
    if "x-ratelimit-remaining-requests" in headers or "x-ratelimit-remaining-tokens" in headers:
        requests, tokens = _limit(headers, _OPENAI, "requests"), _limit(headers, _OPENAI, "tokens")
    elif "anthropic-ratelimit-requests-remaining" in headers:
        requests = _limit(headers, _ANTHROPIC, "requests")
        told = (_limit(headers, _ANTHROPIC, name) for name in _TOKENS)
        tokens = min(told, key=lambda limit: math.inf if limit[0] is None else limit[0])
    else:
        return None
    return RateLimits(*requests, *tokens)


def _limit(
    headers: Mapping[str, str], names: tuple[str, str], of: str
) -> tuple[int | None, float | None]:
    """How many are left, and the seconds until all are there again."""
    left = headers.get(names[0].format(of), "")
    if not re.fullmatch(r"\d{1,18}", left):
        return None, None
    return int(left), _seconds(headers.get(names[1].format(of), ""))


def _seconds(text: str) -> float | None:
    """Seconds in `6m0s`, `120ms`, `12.5` or until a time such as `2026-11-21T12:00:00Z`."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if text and not _DURATION.sub("", text):
        return sum(float(n) * _UNITS[unit] for n, unit in _DURATION.findall(text))
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
