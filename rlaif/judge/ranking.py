"""From the outcomes of pairs to a ranking: order, strengths, intervals, cycles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from rlaif.stats.pair_choice import Floats, Standing
from rlaif.types import Candidate, PairOutcome, Ranking, Verdict


@dataclass(frozen=True, slots=True)
class Played:
    """One comparison that was made."""

    verdict: Verdict

    def outcome(self) -> PairOutcome:
        """The pair as a ranking keeps it."""
        a, b = (c.id for c in self.verdict.candidates)
        p_a = self.verdict.preference.p_a if self.verdict.preference else None
        return PairOutcome(a, b, p_a, self.verdict.cause)


def build_ranking(
    standing: Standing,
    players: Sequence[Candidate],
    candidates: Sequence[Candidate],
    played: Sequence[Played],
    settle: str,
    level: float,
) -> Ranking:
    """The ranking of all candidates by what the players' comparisons say.

    Args:
        standing: The outcomes among the players.
        players: One candidate of each distinct response.
        candidates: All of them; those with a player's response share its strength.
        played: The comparisons.
        settle: Which part of the order is wanted.
        level: Confidence of the intervals, all together (Sidak), and of `settled`.
    """
    place = {player.response: k for k, player in enumerate(players)}
    number = np.array([place[c.response] for c in candidates])
    shift = standing.strengths[number].mean()
    strengths = standing.strengths - shift
    error = np.sqrt(np.diag(standing.covariance).clip(min=0.0))
    half = NormalDist().inv_cdf((1 + level ** (1 / len(players))) / 2) * error
    by_place = {int(k): at for at, k in enumerate(standing.order())}
    best_first = sorted(range(len(candidates)), key=lambda c: by_place[int(number[c])])
    names = [c.id for c in candidates]
    triples, cycles = count_cycles(standing.wins, standing.met)

    def each(values: Floats) -> dict[str, float]:
        return {name: float(values[k]) for name, k in zip(names, number, strict=True)}

    return Ranking(
        order=tuple(names[c] for c in best_first),
        strengths=each(strengths),
        comparisons=sum(one.verdict.preference is not None for one in played),
        low=each(strengths - half),
        high=each(strengths + half),
        level=level,
        settled=standing.risk(settle) <= 1 - level,
        unsettled=tuple((players[i].id, players[j].id) for i, j in _close(standing, level)),
        triples=triples,
        cycles=cycles,
        pairs=tuple(one.outcome() for one in played),
    )


def count_cycles(wins: Floats, met: object) -> tuple[int, int]:
    """How many triples all met, and in how many of those each beats the next.

    Args:
        wins: Shape (n, n), P(row preferred to column).
        met: Shape (n, n), whether there is an outcome.
    """
    joined = np.asarray(met, dtype=np.float64)
    beats = (wins > wins.T).astype(np.float64)
    # tr(M^3) walks each triangle 3 times in each of 2 directions; a cycle goes in one
    triples = round(float(np.trace(joined @ joined @ joined)) / 6)
    return triples, round(float(np.trace(beats @ beats @ beats)) / 3)


def _close(standing: Standing, level: float) -> list[tuple[int, int]]:
    """Neighbors whose difference in strength is less sure than `level`, all together."""
    order, covariance = standing.order(), standing.covariance
    strengths = standing.strengths
    least = NormalDist().inv_cdf(level ** (1 / max(1, standing.n - 1)))
    found = []
    for i, j in pairwise(order):
        variance = max(0.0, float(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]))
        if strengths[i] - strengths[j] < least * variance**0.5:
            found.append((int(i), int(j)))
    return found
