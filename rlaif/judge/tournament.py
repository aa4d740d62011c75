"""N responses ranked by comparing them in pairs: as many pairs as the order needs, and no more.

    tournament = Tournament(PairwiseJudge(backend, rubric), "active", comparisons=60, settle="top3")
    verdict = await tournament.rank(item, candidates)
    verdict.ranking.order           # candidate ids, best first
    verdict.ranking.settled         # whether the best three are known at the confidence asked for

Any judge that compares will do. Pairs of one round share no response and are asked at once; no pair
is asked twice. Which pairs are asked depends on the responses and the seed, not on the ids, the
models or the order in which the candidates come.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, Protocol, get_args

import numpy as np

from rlaif.errors import Cause, ConfigError, DataError
from rlaif.judge.common import no_verdict, verdict_id
from rlaif.judge.ranking import Played, build_ranking, distinct_players, drawn, shared_place
from rlaif.stats.pair_choice import Pair, Standing, top
from rlaif.types import Candidate, Comparison, Item, JudgeRef, Ranking, Request, Verdict

Strategy = Literal["round-robin", "merge-sort", "swiss", "active"]
"""All pairs; a sort by halves; neighbors in the standing, round by round; the pairs that promise to
settle most."""


class Comparer(Protocol):
    """A judge that compares two responses."""

    ref: JudgeRef

    def requests(self, comparison: Comparison) -> list[Request]:
        """What comparing would ask."""
        ...

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses is better."""
        ...


class Tournament:
    """A judge that ranks N responses by comparing pairs of them.

    Args:
        judge: Who compares.
        strategy: Which pairs are asked.
        comparisons: Most pairs to ask; by default all for `round-robin`, as many as it takes for
            `merge-sort`, ceil(log2 N) + 1 rounds for `swiss` and N log2 N for `active`.
        settle: Which part of the order is wanted: `all`, or `topK`. `swiss` and `active` stop once
            it is known.
        confidence: How sure that must be, and the level of the intervals.
        seed: Draws who meets first.

    Raises:
        ConfigError: an option is wrong.

    Reference:
        Strengths and choice of pairs: `rlaif.stats.pair_choice`. Merge sort over a judge: Liu et
        al. 2024, "Aligning with Human Judgement" (2403.16950), section 4, the greedy form.
    """

    def __init__(
        self,
        judge: Comparer,
        strategy: Strategy = "active",
        *,
        comparisons: int | None = None,
        settle: str = "all",
        confidence: float = 0.95,
        seed: int = 0,
    ) -> None:
        if strategy not in get_args(Strategy):
            known = ", ".join(get_args(Strategy))
            raise ConfigError(f"strategy is {strategy!r}, not one of {known}")
        if comparisons is not None and comparisons < 1:
            raise ConfigError(f"comparisons is a count from 1 up, not {comparisons}")
        if not 0 < confidence < 1:
            raise ConfigError(f"confidence lies between 0 and 1, not at {confidence}")
        try:
            top(settle, 1 << 30)
        except DataError as error:
            raise ConfigError(str(error)) from None
        self._judge = judge
        self._strategy: Strategy = strategy
        self._most = comparisons
        self._settle = settle
        self._confidence = confidence
        self._seed = seed
        budget = [] if comparisons is None else [f"at most {comparisons} comparisons"]
        goal = [f"settle {settle} at {confidence:g}"] if strategy in ("swiss", "active") else []
        drawn = [f"seed {seed}"] if seed else []
        name = ", ".join([strategy, *budget, *goal, *drawn])
        self.ref = replace(judge.ref, method=f"{name}; {judge.ref.method}")

    def requests(self, item: Item, candidates: Sequence[Candidate]) -> list[Request]:
        """What ranking would ask at most, as far as it is known before any reply.

        The pairs that will be met depend on the outcomes, so these stand for as many.

        Raises:
            DataError: there are fewer than two candidates, or two share an id.
        """
        players = distinct_players(item, candidates)
        pairs = _all_pairs(len(players), drawn(self._seed, item, players))
        return [
            request
            for i, j in pairs[: self._budget(len(players))]
            for request in self._judge.requests(_comparison(item, players, i, j))
        ]

    async def rank(self, item: Item, candidates: Sequence[Candidate]) -> Verdict:
        """The order of the candidates, best first, with their strengths.

        Identical responses share a place without a call. A pair without a verdict is recorded and
        is no outcome; where the outcomes leave candidates that cannot be held against the others,
        there is no verdict, for the cause that was most frequent.

        Raises:
            DataError: there are fewer than two candidates, or two share an id.
            BackendError: a fatal failure of the provider.
        """
        field = tuple(candidates)
        players = distinct_players(item, field)
        if len(players) == 1:
            return self._verdict(item, field, shared_place(field), ())
        standing, played = await self._play(item, players)
        calls = tuple(call for one in played for call in one.verdict.calls)
        if len(set(standing.groups.tolist())) > 1:
            cause, why = _why(played)
            return no_verdict("ranking", item, field, self.ref, cause, calls, why)
        ranking = build_ranking(
            standing, players, field, played, self._wanted(len(players)), self._confidence
        )
        return self._verdict(item, field, ranking, played)

    async def _play(
        self, item: Item, players: Sequence[Candidate]
    ) -> tuple[Standing, list[Played]]:
        """The outcomes, and the comparisons they came from, in the order they were asked."""
        standing, played = Standing(len(players)), list[Played]()
        most = self._budget(len(players))
        for proposed in self._rounds(standing, drawn(self._seed, item, players)):
            pairs = proposed[: most - len(played)]
            if not pairs:
                break
            verdicts = await asyncio.gather(
                *(self._judge.compare(_comparison(item, players, i, j)) for i, j in pairs)
            )
            for (i, j), verdict in zip(pairs, verdicts, strict=True):
                standing.add(i, j, verdict.preference.p_a if verdict.preference else None)
                played.append(Played(verdict))
        return standing, played

    def _verdict(
        self,
        item: Item,
        candidates: tuple[Candidate, ...],
        ranking: Ranking,
        played: Sequence[Played],
    ) -> Verdict:
        flags: dict[str, tuple[str, ...]] = {}
        for one in played:
            for name, found in (one.verdict.flags or {}).items():
                flags[name] = tuple(sorted({*flags.get(name, ()), *found}))
        return Verdict(
            id=verdict_id("ranking", item, candidates, self.ref),
            kind="ranking",
            item=item,
            candidates=candidates,
            judge=self.ref,
            status="ok",
            ranking=ranking,
            calls=tuple(call for one in played for call in one.verdict.calls),
            flags=flags or None,
        )

    def _wanted(self, n: int) -> str:
        """What to settle among the distinct responses: the best K of K are all of them."""
        wanted = top(self._settle, 1 << 30)
        return "all" if wanted is not None and wanted >= n else self._settle

    def _budget(self, n: int) -> int:
        everything = n * (n - 1) // 2
        if self._most is not None:
            return min(self._most, everything)
        if self._strategy == "active":
            return min(everything, math.ceil(n * math.log2(max(n, 2))))
        if self._strategy == "swiss":
            return min(everything, (math.ceil(math.log2(n)) + 1) * (n // 2)) if n > 1 else 0
        return everything

    def _rounds(self, standing: Standing, rng: np.random.Generator) -> Iterator[list[Pair]]:
        if self._strategy == "round-robin":
            return iter([_all_pairs(standing.n, rng)])
        if self._strategy == "merge-sort":
            return merge_sort_rounds(standing, rng)
        chosen = _swiss if self._strategy == "swiss" else active_rounds
        return self._until_settled(standing, chosen(standing, rng))

    def _until_settled(
        self, standing: Standing, rounds: Iterator[list[Pair]]
    ) -> Iterator[list[Pair]]:
        wanted = self._wanted(standing.n)
        for pairs in rounds:
            if standing.met.any() and standing.risk(wanted) <= 1 - self._confidence:
                return
            yield pairs


def _comparison(item: Item, players: Sequence[Candidate], i: int, j: int) -> Comparison:
    return Comparison(item, players[i], players[j])


def _all_pairs(n: int, rng: np.random.Generator) -> list[Pair]:
    """Every pair once, so that any first part of them is as balanced as it can be.

    The circle method: one stays, the others go round.
    """
    seats = [int(k) for k in rng.permutation(n)] + ([-1] if n % 2 else [])
    pairs: list[Pair] = []
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        met = zip(seats[:half], reversed(seats[half:]), strict=True)
        pairs += [(i, j) for i, j in met if i >= 0 and j >= 0]
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return pairs


def active_rounds(standing: Standing, rng: np.random.Generator) -> Iterator[list[Pair]]:
    """A first round of all, then an eighth of N pairs at a time, those that promise most."""
    pairs = standing.choose(standing.n // 2, rng)
    while pairs:
        yield pairs
        pairs = standing.choose(max(1, standing.n // 8), rng)


def _swiss(standing: Standing, rng: np.random.Generator) -> Iterator[list[Pair]]:
    """Rounds in which neighbors in the standing meet who have not met yet."""
    places = [int(k) for k in rng.permutation(standing.n)]
    met: set[frozenset[int]] = set()
    while True:
        pairs: list[Pair] = []
        left = list(places)
        while left:
            first = left.pop(0)
            other = next((k for k in left if frozenset((first, k)) not in met), None)
            if other is not None:
                left.remove(other)
                pairs.append((first, other))
                met.add(frozenset((first, other)))
        if not pairs:
            return
        yield pairs
        places = [int(k) for k in standing.order()]


def merge_sort_rounds(standing: Standing, rng: np.random.Generator) -> Iterator[list[Pair]]:
    """Runs merged two by two; all merges of a level take their next step together.

    Where a pair has no verdict, the strengths so far decide.
    """
    runs = [[int(k)] for k in rng.permutation(standing.n)]
    while len(runs) > 1:
        merges = [_Merge(*runs[k : k + 2]) for k in range(0, len(runs) - 1, 2)]
        odd = runs[-1:] if len(runs) % 2 else []
        while pairs := [one.heads() for one in merges if one.open]:
            yield pairs
            for one in merges:
                if one.open:
                    one.take(_beats(standing, *one.heads()))
        runs = [one.done for one in merges] + odd


class _Merge:
    """Two sorted runs on their way to one."""

    def __init__(self, first: list[int], second: list[int]) -> None:
        self._first, self._second = list(first), list(second)
        self.done: list[int] = []

    @property
    def open(self) -> bool:
        return bool(self._first and self._second)

    def heads(self) -> Pair:
        return self._first[0], self._second[0]

    def take(self, first_won: bool) -> None:
        self.done.append((self._first if first_won else self._second).pop(0))
        if not self.open:
            self.done += self._first + self._second


def _beats(standing: Standing, i: int, j: int) -> bool:
    if standing.met[i, j]:
        return bool(standing.wins[i, j] >= 0.5)
    return bool(standing.strengths[i] >= standing.strengths[j])


def _why(played: Sequence[Played]) -> tuple[Cause, str]:
    """The most frequent cause among the pairs without a verdict, and what that did."""
    causes = [one.verdict.cause for one in played if one.verdict.cause is not None]
    if not causes:
        return "budget", "too few comparisons were allowed to hold every candidate against another"
    most = max(sorted(set(causes)), key=causes.count)
    return most, f"{len(causes)} of {len(played)} pairs have no verdict: candidates fall apart"
