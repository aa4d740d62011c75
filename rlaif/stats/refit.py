"""Bradley-Terry strengths of many tables of counts that differ little from one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_LEFT = 1e-7
"""A refit stops where what is left is smaller, nats, as far as its last two steps tell."""
_CHORD_STEPS = 12
"""Steps with the full fit's curvature before the round's own is computed."""
_NEWTON_STEPS = 40
_FARTHEST = 15.0
"""A refit this far from the full fit, in nats, is on its way to infinity: some group of models won
or lost all against the rest, and where it halts is only where rounding ends."""


class Refit:
    """Refits many tables of counts at once, from a common start.

    Steps first use the inverse curvature of the full fit; they shrink by the same factor each
    time, small where resamples differ little. Rounds where that is too slow go on by Newton's
    method with their own curvature.

    Args:
        start: Shape (n,), strengths of the full fit.
        inverse: Shape (n, n), its inverse information.
        ridge: Precision of the prior on strengths.
    """

    def __init__(self, start: Floats, inverse: Floats, ridge: float) -> None:
        self._start = start
        self._inverse = inverse
        self._ridge = ridge

    def __call__(self, met: Floats, won: Floats, slope: Floats) -> Floats:
        """Strengths, shape (rounds, n), of `met` (rounds, n, n) and `won` (rounds, n).

        Rows are NaN where no finite optimum was found.

        Args:
            met: How often each two models met.
            won: How often each model won.
            slope: Shape (rounds, n): wins less those expected at the full fit.
        """
        step = (slope - self._ridge * self._start) @ self._inverse
        at = self._moved(self._start, step)
        last = np.abs(step).max(axis=1)
        finite = np.ones(len(won), dtype=bool)
        if self._ridge == 0:
            # Quick to see: who won or lost all, and groups that did not meet.
            played = met.sum(axis=2)
            finite = ((won > 1e-12 * played) & (won < (1 - 1e-12) * played)).all(axis=1)
            finite &= _connected(met)
        todo = np.flatnonzero(finite)
        slow = self._walk(at, last, met, won, todo, _CHORD_STEPS, newton=False)
        finite[self._walk(at, last, met, won, slow, _NEWTON_STEPS, newton=True)] = False
        if self._ridge == 0:
            finite &= np.abs(at - self._start).max(axis=1) < _FARTHEST
        at[~finite] = np.nan
        return at

    def _moved(self, here: Floats, step: Floats) -> Floats:
        """`here + step` with mean zero; at most twice as far as any that counts, so that odds
        cannot overflow.
        """
        moved = np.clip(here + step, self._start - 2 * _FARTHEST, self._start + 2 * _FARTHEST)
        return np.asarray(moved - moved.mean(axis=1, keepdims=True))

    def _walk(
        self,
        at: Floats,
        last: Floats,
        met: Floats,
        won: Floats,
        todo: Ints,
        steps: int,
        *,
        newton: bool,
    ) -> Ints:
        """Improve rows `todo` of `at` in place; which of them have not arrived after `steps`.

        `last` is the size of the step before, and is kept up to date.
        """
        for _ in range(steps):
            if not todo.size:
                break
            every = todo.size == len(at)  # then without copies
            here, games = (at, met) if every else (at[todo], met[todo])
            odds = np.exp(here)
            rate = odds[:, :, None] + odds[:, None, :]
            np.divide(games, rate, out=rate)  # n_ij / (a_i + a_j): times a_i, i's expected wins
            slope = (won if every else won[todo]) - odds * rate.sum(axis=2) - self._ridge * here
            step = slope @ self._inverse
            if newton:
                step = self._newton_step(games, rate, odds, slope)
            at[todo] = self._moved(here, step)
            size = np.abs(step).max(axis=1)
            # Steps that shrink by r each time leave r / (1 - r) of the last one.
            shrink = np.minimum(size / np.maximum(last[todo], 1e-300), 1.0)
            arrived = size * shrink < _LEFT * (1 - shrink)
            last[todo] = size
            todo = todo[~arrived]
        return todo

    def _newton_step(self, games: Floats, rate: Floats, odds: Floats, slope: Floats) -> Floats:
        n = odds.shape[1]
        # n_ij p_ij p_ji; both rates of a pair that never met are 0.
        curve = rate**2 * odds[:, :, None] * odds[:, None, :] / np.where(games > 0, games, 1.0)
        diagonal = curve.sum(axis=2)
        information = -curve
        # Weight on the sum of strengths, which no comparison informs.
        information += (diagonal.mean(axis=1) / n)[:, None, None]
        information[:, np.arange(n), np.arange(n)] += diagonal + self._ridge
        try:
            step = np.linalg.solve(information, slope[:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:  # a round without curvature stops none of the others
            step = slope @ self._inverse
        # Far from the optimum a full step overshoots.
        size = np.abs(step).max(axis=1, keepdims=True)
        return np.asarray(step * np.minimum(1.0, 2.0 / np.maximum(size, 2.0)))


def _connected(met: Floats) -> NDArray[np.bool_]:
    """Whether each table's models all hang together by comparisons; `met` is (rounds, n, n)."""
    reached = met[:, 0] > 0
    reached[:, 0] = True
    size = -1
    while not reached.all() and reached.sum() > size:
        size = reached.sum()
        reached |= (reached[:, :, None] & (met > 0)).any(axis=1)
    return np.asarray(reached.all(axis=1))
