"""Hard caps on what is sent in a minute, spread evenly."""

from __future__ import annotations

from rlaif.types import Request, Usage

_MINUTE_S = 60.0
_MEMORY = 1 / 16
"""Weight of the newest call in running means."""
_TOKENS_PER_CHARACTER = 0.25
"""Until usage tells."""


class Bucket:
    """How long to wait so that no minute holds more than `per_minute`, of requests or of tokens.

    A token bucket that starts full, holds about a second's worth and fills at the rate that is
    left: what can be sent in any 60 seconds is one full bucket and what flows in meanwhile, so the
    two together are the cap. A single amount larger than the bucket waits until it is full, and
    leaves a debt; only then can a minute hold more, by the excess of that amount.
    """

    def __init__(self, per_minute: float, unit: float = 0.0) -> None:
        """Start full.

        Args:
            per_minute: The cap, above 0.
            unit: What every amount is, where all are equal: a window of 60 seconds that begins
                with one then ends before the one that would be too many.
        """
        self._size = max(min(unit, per_minute), per_minute / _MINUTE_S)
        self._per_s = (per_minute - self._size + unit) / _MINUTE_S
        self._level = self._size
        self._at: float | None = None

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be sent; 0 for at once."""
        self._flow(now)
        missing = min(amount, self._size) - self._level
        # what the clock cannot resolve would be waited for forever
        return missing / self._per_s if missing > 1e-6 * self._size else 0.0

    def take(self, amount: float) -> None:
        """Count `amount` as sent; a negative one was counted too much."""
        self._level = min(self._size, self._level - amount)

    def _flow(self, now: float) -> None:
        if self._at is not None:
            self._level = min(self._size, self._level + (now - self._at) * self._per_s)
        self._at = now


class TokenMeter:
    """A cap on tokens a minute, of which a call's are known only afterwards.

    They are estimated from the calls before: the tokens in a character of their prompts, and the
    tokens of their replies. What a call really took then corrects the count.
    """

    def __init__(self, per_minute: float) -> None:
        self.bucket = Bucket(per_minute)
        self._per_character = _TOKENS_PER_CHARACTER
        self._reply: float | None = None

    def estimate(self, request: Request) -> float:
        """Tokens of prompt and reply; before the first reply, the longest it may be."""
        reply = self._reply
        if reply is None:
            reply = float(request.sampling.max_tokens)
        return _characters(request) * self._per_character + reply

    def correct(self, request: Request, usage: Usage, estimate: float) -> None:
        """Count what a call took in place of its estimate, unless it reports nothing."""
        if not usage.input + usage.output:
            return
        self.bucket.take(usage.input + usage.output - estimate)
        self._reply = mean(self._reply, usage.output)
        characters = _characters(request)
        if characters:
            self._per_character = mean(self._per_character, usage.input / characters)


def mean(before: float | None, value: float) -> float:
    """A running mean that `value` now counts in."""
    return value if before is None else before + _MEMORY * (value - before)


def _characters(request: Request) -> int:
    return sum(len(message.content) for message in request.messages)
