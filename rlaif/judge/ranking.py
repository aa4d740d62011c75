"""From outcomes to a ranking: order, strengths, intervals, cycles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from statistics import NormalDist

import numpy as np

from rlaif.canonical import digest
from rlaif.errors import DataError
from rlaif.stats.pair_choice import Floats, Standing, Whole
from rlaif.types import Candidate, Item, PairOutcome, Ranking, Verdict, as_dict


@dataclass(frozen=True, slots=True)
class Played:
    """One comparison that was made."""

    verdict: Verdict

    def outcome(self) -> PairOutcome:
        """The pair as a ranking keeps it."""
        a, b = (c.id for c in self.verdict.candidates)
        p_a = self.verdict.preference.p_a if self.verdict.preference else None
        return PairOutcome(a, b, p_a, self.verdict.cause, self._members())

    def _members(self) -> tuple[float | None, ...] | None:
        """What each judge of a panel said, in the order of `judge.members`."""
        if self.verdict.members is None:
            return None
        said: list[float | None] = [None] * len(self.verdict.judge.members or ())
        for one in self.verdict.members:
            said[one.judge] = one.preference.p_a if one.preference else None
        return tuple(said)


def distinct_players(item: Item, candidates: Sequence[Candidate]) -> list[Candidate]:
    """One candidate of each distinct response, in an order that only their texts decide.

    Raises:
        DataError: there are fewer than two candidates, or two share an id.
    """
    if len(candidates) < 2:
        count = len(candidates)
        raise DataError(f"item {item.id!r} has {count} candidate: a ranking needs two or more")
    if len({c.id for c in candidates}) < len(candidates):
        raise DataError(f"item {item.id!r} has two candidates of one id")
    distinct = {digest(as_dict(c.response)): c for c in reversed(candidates)}
    return [distinct[key] for key in sorted(distinct)]


def drawn(seed: int, item: Item, players: Sequence[Candidate]) -> np.random.Generator:
    """Chance that depends on the seed, the prompt and the responses, and on no name."""
    what = [seed, as_dict(item.prompt), [as_dict(c.response) for c in players]]
    return np.random.default_rng(int(digest(what)[:16], 16))


def shared_place(candidates: Sequence[Candidate]) -> Ranking:
    """The ranking of candidates whose responses are all the same: nobody has to be asked."""
    names = tuple(c.id for c in candidates)
    return Ranking(names, dict.fromkeys(names, 0.0), 0, settled=True, pairs=())


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
    triples, cycles = count_cycles(standing.wins, standing.met)
    return replace(
        _ordered(standing.strengths, standing.covariance, players, candidates, level),
        comparisons=sum(one.verdict.preference is not None for one in played),
        settled=standing.risk(settle) <= 1 - level,
        triples=triples,
        cycles=cycles,
        pairs=tuple(one.outcome() for one in played),
    )


def pooled_ranking(
    wins: Floats,
    trials: float,
    players: Sequence[Candidate],
    candidates: Sequence[Candidate],
    level: float,
    *,
    lists: bool = True,
) -> Ranking:
    """The ranking of all candidates by how often each stood before each other one.

    Strengths are Bradley and Terry's, of the table with half a win added to each side of every
    pair: a response that always came first is not infinitely better. A list of N fixes N - 1
    choices and not N (N - 1) / 2, so the variances of lists are N / 2 times those of as many
    separate comparisons. It is settled where every neighbor in the order is told from the next.

    Args:
        wins: Shape (n, n), share of the lists (or of P) in which the row stood before the column, a
            tie half; with its transpose it sums to 1 off the diagonal.
        trials: How many lists there are.
        players: One candidate of each distinct response, in the order of the table.
        candidates: All of them; those with a player's response share its strength.
        level: Confidence of the intervals, all together (Sidak), and of `settled`.
        lists: Whether the table comes of whole lists, or of comparisons made by themselves.

    Reference:
        Bradley and Terry 1952, Biometrika 39(3/4); pairs pooled as in the composite likelihood of
        Varin, Reid and Firth 2011, Statistica Sinica 21(1), of which this is the information with
        the most dependence that a list can have.
    """
    from rlaif.stats.bradley_terry import strengths_of_table

    n = len(players)
    others = 1.0 - np.eye(n)
    strengths, covariance = strengths_of_table((trials * wins + 0.5) * others, 0.0)
    covariance = covariance * (n / 2 if lists else 1.0)
    triples, cycles = count_cycles(wins * others, others)
    found = _ordered(strengths, covariance, players, candidates, level)
    return replace(
        found,
        comparisons=n * (n - 1) // 2,
        settled=not found.unsettled,
        triples=triples,
        cycles=cycles,
        pairs=tuple(
            PairOutcome(players[i].id, players[j].id, float(wins[i, j]))
            for i, j in combinations(range(n), 2)
        ),
    )


def _ordered(
    strengths: Floats,
    covariance: Floats,
    players: Sequence[Candidate],
    candidates: Sequence[Candidate],
    level: float,
) -> Ranking:
    """Order, strengths and intervals of all candidates; equal strengths stand as the players do."""
    place = {player.response: k for k, player in enumerate(players)}
    number = np.array([place[c.response] for c in candidates])
    order = np.argsort(-np.round(strengths, 9), kind="stable")
    centered = strengths - strengths[number].mean()
    error = np.sqrt(np.diag(covariance).clip(min=0.0))
    half = NormalDist().inv_cdf((1 + level ** (1 / len(players))) / 2) * error
    by_place = {int(k): at for at, k in enumerate(order)}
    best_first = sorted(range(len(candidates)), key=lambda c: by_place[int(number[c])])
    names = [c.id for c in candidates]

    def each(values: Floats) -> dict[str, float]:
        return {name: float(values[k]) for name, k in zip(names, number, strict=True)}

    return Ranking(
        order=tuple(names[c] for c in best_first),
        strengths=each(centered),
        comparisons=0,
        low=each(centered - half),
        high=each(centered + half),
        level=level,
        unsettled=tuple(
            (players[i].id, players[j].id) for i, j in _close(strengths, covariance, order, level)
        ),
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


def _close(
    strengths: Floats, covariance: Floats, order: Sequence[int] | Whole, level: float
) -> list[tuple[int, int]]:
    """Neighbors whose difference in strength is less sure than `level`, all together."""
    least = NormalDist().inv_cdf(level ** (1 / max(1, len(strengths) - 1)))
    found = []
    for i, j in pairwise(order):
        variance = max(0.0, float(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]))
        if strengths[i] - strengths[j] < least * variance**0.5:
            found.append((int(i), int(j)))
    return found
