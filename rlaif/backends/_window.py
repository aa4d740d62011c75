"""How many calls an endpoint bears at a time, found from which calls it refuses.

Additive up, multiplicative down, as congestion control does for a network: Chiu and Jain 1989,
"Analysis of the increase and decrease algorithms for congestion avoidance", section 3; the doubling
start and one cut for each round of calls as in RFC 5681, sections 3.1 and 3.2.
"""

from __future__ import annotations

import math

_CUT = 0.8
"""What a cut leaves. Half, as in RFC 5681, is for queues; an endpoint refuses without one."""
_RISE = 1 / 32
"""Growth in a round of successes, as a share; at least one call."""
_SMALLEST = 0.05
"""A window below 1 is one call at a time with pauses between."""
_NEAR_LIMIT = 0.95
"""From this share of the size that was too large, growth waits."""
_HOLD = 20.0
"""It waits this many times what finding the limit again would cost."""
_LONGEST_HOLD_S = 120.0
_NEAR_CALLS = 200
"""A refusal so few calls after a cut counts as frequent."""
_ENOUGH = 5
"""Cuts in a row that did not make refusals rarer, before it is tried to live with them."""
_MEMORY_CALLS = 32
"""Calls over which the share of refused ones is counted; twice the window where that is more."""
_SHARE_AT_FIRST = 0.15
_MOST_SHARE = 0.3
"""Share of refused calls above which they are not chance."""


class Window:
    """The number of calls in flight that an endpoint is trusted with: `allowed`, 1 to `most`.

    - It starts at `start` and doubles with each round of successes until the first trouble.
    - Trouble cuts it to 80 %, once for each round: calls sent before the cut do not cut again. Each
      further one of that round that is refused takes a place, so that an endpoint that bears 40
      of 1,024 is found in one round.
    - Then it grows by a 32nd, or by one call if that is more, with each round of successes. Just
      under the size that was too large it waits, twenty times as long as being refused costs,
      before it tries more.
    - If a whole round was refused, or fewer calls were in flight than half the window, there is no
      limit to be learned: it doubles again afterwards, up to what was borne before.
    - Below one call at a time there are pauses between calls (`allowed` is 1, `size` less).
    - If refusals stay as frequent through five cuts while most calls succeed, they may have nothing
      to do with the load. Then they are let pass without cut or pause, and the window grows. When
      more than 30 % are refused, that was wrong: it cuts again, and waits twice as long before
      it believes so once more.

    Calls are told apart by their number in the order of sending, from 1.
    """

    def __init__(self, start: int, most: int) -> None:
        self.most = most
        self.size = float(start)
        self.allowed = start
        self.lenient = False
        """Whether refusals are taken for chance at present."""
        self._doubling = start < most
        self._goal = float(most)
        """Size at which doubling ends."""
        self._cut_at = 0
        """Number of the last call sent before the last cut."""
        self._cut_from = self.size
        self._refused = 0
        """Calls refused in the round of the last cut."""
        self._succeeded = 0
        """Calls that succeeded since the last cut."""
        self._frequent = 0
        self._enough = _ENOUGH
        self._size_before = self.size
        """Size before the refusals became frequent."""
        self._hold_from = math.inf
        self._hold_until = 0.0
        self._recent = 0.0
        """Calls refused of late, where refusals are taken for chance; older ones count less."""
        self._recent_at = 0

    def succeeded(self, number: int, now: float, in_flight: int) -> None:
        """Call `number` succeeded; it is still counted in `in_flight`."""
        if number > self._cut_at:
            if not self._succeeded:
                self._doubling = True
            # a window that is not filled shows nothing about a larger one
            if self.size < self.most and 2 * in_flight >= self.size:
                self._grow(now)
        self._succeeded += 1

    def troubled(
        self, number: int, now: float, in_flight: int, sent: int, *, refused: bool, cost_s: float
    ) -> bool:
        """Whether all calls should hold back, as call `number` met a limit or came to no end.

        Args:
            number: The call's number.
            now: Seconds on a clock that never goes back.
            in_flight: Calls in flight, this one included.
            sent: Number of the last call that was sent.
            refused: Whether it was refused, not just never answered.
            cost_s: What being refused costs: the pause that was asked for, or a call's time.
        """
        if self.lenient:
            if self._count_recent(sent) <= _MOST_SHARE:
                return False
            self.lenient = False
            self._frequent = 0
            self._enough *= 2
        elif number <= self._cut_at:
            if refused:
                self._take_place()
            return True
        elif self._is_chance(number):
            self.lenient = True
            self._recent = _SHARE_AT_FIRST * self._memory_calls()
            self._recent_at = sent
            self._doubling = True
            self._goal = self._size_before
            return False
        self._cut(now, in_flight, sent, cost_s)
        return True

    def _is_chance(self, number: int) -> bool:
        """Whether refusals came on at the same rate whatever the size."""
        mostly_fine = self._succeeded > 2 * self._refused
        if number - self._cut_at < _NEAR_CALLS and mostly_fine:
            self._frequent += 1
        else:
            self._frequent = 0
            self._size_before = self.size
        return self._frequent >= self._enough

    def _count_recent(self, sent: int) -> float:
        """The share of calls refused of late, this one included.

        It is counted against calls sent: refusals come back sooner than replies, all together.
        """
        calls = self._memory_calls()
        self._recent = self._recent * math.exp((self._recent_at - sent) / calls) + 1
        self._recent_at = sent
        return self._recent / calls

    def _memory_calls(self) -> int:
        return max(_MEMORY_CALLS, 2 * self.allowed)

    def _cut(self, now: float, in_flight: int, sent: int, cost_s: float) -> None:
        filled = 2 * in_flight >= self.size
        borne = min(self.size, max(1, in_flight))
        if self._succeeded or not filled:
            self._goal = (borne if filled else self.size) * _CUT
        self._cut_at = sent
        self._cut_from = borne
        self._succeeded = 0
        self._refused = 1
        # few calls show nothing about many: back up fast, to see
        self._doubling = not filled
        self._hold_from = borne * _NEAR_LIMIT
        self._hold_until = now + min(_LONGEST_HOLD_S, _HOLD * cost_s)
        self._set(max(_SMALLEST, borne * _CUT))

    def _take_place(self) -> None:
        self._refused += 1
        fewer = max(1.0, self._cut_from - self._refused)
        if fewer < self.size:
            self._set(fewer)
            self._hold_from = fewer

    def _grow(self, now: float) -> None:
        if self._doubling and self.size < self._goal:
            self._set(min(self.size + min(1.0, self.size), self._goal))
            return
        self._doubling = False
        if self.size >= self._hold_from and now < self._hold_until:
            return
        a_round = max(self.size * _RISE, min(1.0, self.size / 16))
        self._set(self.size + a_round / max(self.size, 1.0))

    def _set(self, size: float) -> None:
        self.size = min(size, float(self.most))
        self.allowed = max(1, int(self.size))
