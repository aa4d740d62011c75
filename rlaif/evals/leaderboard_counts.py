"""Judgments that differ in nothing a leaderboard shows, counted together as they come.

A run may hold millions of verdicts on a thousand prompts. What scores, win rates and strengths
need of them is how often each outcome occurred between the same models on the same prompt, and the
sum of their values; that is all that is kept, so memory grows with prompts times models and not
with verdicts. Prompts are known by a 64-bit digest of their id, not by its text.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import Cause
from rlaif.evals.reading import ABSENT, column
from rlaif.types import CAUSES, Winner

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
Strata = dict[str, tuple[list[str], Ints]]
"""By name: the values that occur, and a column of places among them or `ABSENT`."""

_HARD: dict[Winner, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}
_WINNERS = list(_HARD)
SCORED = 2 * len(_HARD)
"""The outcome of a score. Before it stand the winners of comparisons, inconsistent and consistent,
behind it the causes of no verdict."""
_NO_WINNER = 1 + len(CAUSES)
_HARD_OF = np.array([v for v in _HARD.values() for _ in range(2)] + [math.nan] * _NO_WINNER)
_CAUSE_OF = np.array([ABSENT] * (SCORED + 1) + list(range(len(CAUSES))), dtype=np.int8)
_CONSISTENT = np.array([False, True] * len(_HARD) + [True] * _NO_WINNER)
_OTHER_SIDE = np.array([4, 5, 2, 3, 0, 1, *range(SCORED, SCORED + _NO_WINNER)], dtype=np.int8)

_TYPES = (np.int32, np.int64, np.int32, np.int32, np.int8)
"""Of the columns judge, question, a, b and outcome; strata are as judges."""
_FEWEST_WAITING = 65_536
_MIX = np.uint64(0x9E3779B97F4A7C15)


def outcome_of(winner: Winner, *, consistent: bool) -> int:
    """The outcome of a comparison as a small number."""
    return 2 * _WINNERS.index(winner) + consistent


def without_verdict(cause: Cause) -> int:
    """The outcome of a judgment without a verdict as a small number."""
    return SCORED + 1 + CAUSES.index(cause)


@lru_cache(maxsize=4096)
def question_key(name: str) -> int:
    """A prompt's id as a signed 64-bit number, the same in every process.

    Two of a million prompts share one with a chance of 3 in 10^8, and would then be one cluster.
    """
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One entry for all judgments that are alike; a score has no b."""

    models: list[str]
    a: Ints
    b: Ints
    question: Ints
    """A number of each prompt, from 0."""
    outcome: Ints
    n: Ints
    """How many judgments."""
    total: Floats
    """Sum of their scores, or of P(a preferred)."""
    length_a: Floats
    """Sum of the characters of their responses by a; NaN where one is unknown."""
    length_b: Floats
    strata: Strata

    @property
    def ok(self) -> Mask:
        """Which entries have a verdict."""
        return self.outcome <= SCORED

    @property
    def hard(self) -> Floats:
        """1 where a won, 0.5 for a tie, 0 where b won, NaN elsewhere."""
        return _HARD_OF[self.outcome]

    @property
    def consistent(self) -> Mask:
        """Where the orders asked do not disagree."""
        return _CONSISTENT[self.outcome]

    @property
    def cause(self) -> Ints:
        """Place in `CAUSES`, `ABSENT` where there is a verdict."""
        return _CAUSE_OF[self.outcome]

    def present(self) -> list[str]:
        """The models that occur."""
        numbers = np.union1d(self.a, self.b)
        return [self.models[n] for n in numbers.tolist() if n != ABSENT]


class Entries(NamedTuple):
    """The judgments of one model, from its side."""

    n: Ints
    total: Floats
    outcome: Ints
    question: Ints
    length: Floats
    opponent_length: Floats
    strata: Strata

    @property
    def ok(self) -> Mask:
        """Which entries have a verdict."""
        return self.outcome <= SCORED

    @property
    def hard(self) -> Floats:
        """1 where the model won, 0.5 for a tie, 0 where it lost, NaN elsewhere."""
        return _HARD_OF[self.outcome]

    @property
    def consistent(self) -> Mask:
        """Where the orders asked do not disagree."""
        return _CONSISTENT[self.outcome]

    @property
    def cause(self) -> Ints:
        """Place in `CAUSES`, `ABSENT` where there is a verdict."""
        return _CAUSE_OF[self.outcome]

    def where(self, rows: NDArray[Any]) -> Entries:
        """The entries that a mask, a slice or places name."""
        return Entries(
            n=self.n[rows],
            total=self.total[rows],
            outcome=self.outcome[rows],
            question=self.question[rows],
            length=self.length[rows],
            opponent_length=self.opponent_length[rows],
            strata={name: (known, codes[rows]) for name, (known, codes) in self.strata.items()},
        )

    def by_question(self) -> tuple[Ints, Floats, Floats]:
        """The prompts with a verdict, and for each the sum and the number of its values."""
        ok = self.ok
        questions, where = np.unique(self.question[ok], return_inverse=True)
        sums, sizes = (
            np.bincount(where, values[ok], questions.size).astype(np.float64)
            for values in (self.total, self.n)
        )
        return questions, sums, sizes


def entries_by_model(columns: Columns, opponent: int | None = None) -> dict[str, Entries]:
    """The judgments of each model that has some: a comparison gives one to each side.

    Args:
        columns: The verdicts.
        opponent: Keep comparisons with this model only, and leave out its own side.
    """
    n = columns.a.size
    model, other = np.concatenate([columns.a, columns.b]), np.concatenate([columns.b, columns.a])
    order = np.argsort(model, kind="stable")
    order = order[model[order] != ABSENT]
    if opponent is not None:
        order = order[other[order] == opponent]
    numbers, starts = np.unique(model[order], return_index=True)
    parts = zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)
    return {columns.models[number]: _side(columns, rows % n, rows >= n) for number, rows in parts}


def _side(columns: Columns, rows: Ints, second: Mask) -> Entries:
    """Entries of one model: `rows` of the columns, in which it is the `second` of the pair."""
    n, total, outcome = columns.n[rows], columns.total[rows], columns.outcome[rows]
    first_length, second_length = columns.length_a[rows], columns.length_b[rows]
    lost = second & (outcome < SCORED)
    return Entries(
        n=n,
        total=np.where(lost, n - total, total),
        outcome=np.where(second, _OTHER_SIDE[outcome], outcome),
        question=columns.question[rows],
        length=np.where(second, second_length, first_length),
        opponent_length=np.where(second, first_length, second_length),
        strata={name: (known, codes[rows]) for name, (known, codes) in columns.strata.items()},
    )


class JudgmentCounts:
    """How often each kind of judgment occurred, and the sums of its values.

    Args:
        strata: Names of what else tells judgments apart.
    """

    def __init__(self, strata: Sequence[str]) -> None:
        self._strata = tuple(strata)
        types = _TYPES + (np.int32,) * len(strata)
        self._keys: list[Ints] = [np.empty(0, dtype=kind) for kind in types]
        self._n: Ints = np.empty(0, dtype=np.int32)
        self._sums: list[Floats] = [np.empty(0) for _ in range(3)]
        self._new_keys, self._new_values = array("q"), array("d")
        self._waiting, self._most_waiting = 0, _FEWEST_WAITING

    def add(
        self,
        judge: int,
        question: int,
        pair: tuple[int, int],
        outcome: int,
        strata: Sequence[int],
        values: tuple[float, float, float],
    ) -> None:
        """Count one judgment.

        Args:
            judge: Its judge's number.
            question: Of `question_key`.
            pair: Numbers of the models; the second is `ABSENT` for a score.
            outcome: Of `outcome_of` or `without_verdict`, or `SCORED`.
            strata: A number or `ABSENT` for each of the strata.
            values: Score or P(first preferred), 0 without a verdict; characters of both responses,
                NaN where unknown.
        """
        self._new_keys.extend((judge, question, *pair, outcome, *strata))
        self._new_values.extend(values)
        self._waiting += 1
        if self._waiting >= self._most_waiting:
            self._fold()

    def columns(
        self, judges: Sequence[int], models: list[str], values: Mapping[str, list[str]]
    ) -> Columns:
        """The counts of some judges' verdicts.

        Args:
            judges: Their numbers.
            models: The name of each model.
            values: The value of each number of each of the strata.
        """
        self._fold()
        kept = np.isin(self._keys[0], judges)
        rows: NDArray[Any] | slice = slice(None) if kept.all() else kept
        _, question, a, b, outcome, *strata = (keys[rows] for keys in self._keys)
        total, length_a, length_b = (sums[rows] for sums in self._sums)
        return Columns(
            models=models,
            a=a,
            b=b,
            question=np.unique(question, return_inverse=True)[1].astype(np.int32),
            outcome=outcome,
            n=self._n[rows],
            total=total,
            length_a=length_a,
            length_b=length_b,
            strata={
                name: (values[name], codes)
                for name, codes in zip(self._strata, strata, strict=True)
            },
        )

    def _fold(self) -> None:
        """Add what waits to the counts."""
        if not self._waiting:
            return
        new_keys = column(self._new_keys).reshape(self._waiting, -1)
        new_values = column(self._new_values).reshape(self._waiting, -1)
        keys = [
            np.concatenate([old, new_keys[:, place].astype(old.dtype)])
            for place, old in enumerate(self._keys)
        ]
        order = np.argsort(_mixed(keys), kind="stable")
        starts = _starts([values[order] for values in keys])
        self._keys = [values[order[starts]] for values in keys]
        n = np.concatenate([self._n, np.ones(self._waiting, dtype=np.int32)])
        self._n = np.add.reduceat(n[order], starts).astype(np.int32)
        self._sums = [
            np.add.reduceat(np.concatenate([old, new_values[:, place]])[order], starts)
            for place, old in enumerate(self._sums)
        ]
        self._new_keys, self._new_values = array("q"), array("d")
        self._waiting, self._most_waiting = 0, max(_FEWEST_WAITING, self._n.size // 4)


def _mixed(keys: Sequence[Ints]) -> NDArray[np.uint64]:
    """One number of each row: rows that are alike share it, and hardly any others do."""
    mixed = np.zeros(keys[0].size, dtype=np.uint64)
    for values in keys:
        mixed ^= values.astype(np.uint64)
        mixed *= _MIX
        mixed ^= mixed >> np.uint64(32)
    return mixed


def _starts(keys: Sequence[Ints]) -> NDArray[np.intp]:
    """Where a row differs from the one before it; rows of one mixed number may differ too, and are
    then counted apart, which changes no sum.
    """
    differs = np.ones(keys[0].size, dtype=bool)
    if differs.size > 1:
        differs[1:] = np.logical_or.reduce([values[1:] != values[:-1] for values in keys])
    return np.flatnonzero(differs)
