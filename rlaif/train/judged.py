"""What judges say of a policy over the one that training began with, as measures for alarms.

Pure functions of P(preferred): the judge that training follows, one that it never sees, and how
much of what was won is length.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from rlaif.errors import DataError
from rlaif.stats.length_control import length_only_win_rate
from rlaif.stats.win_rate import win_rate
from rlaif.train.alarms import Measure
from rlaif.train.drift import mean_measure, rise

BINS = 10
"""Of the histogram of P(preferred)."""
CEILING = 0.99
"""P(preferred) from which a verdict is at the top of the judge's range."""


def judge_measures(
    preferred: Sequence[float], prompts: Sequence[Hashable], consistent: Sequence[bool], asked: int
) -> list[Measure]:
    """`judge_ceiling`, `order_flips` and `coverage` of one judge.

    Args:
        preferred: P(policy preferred) of each verdict, in [0, 1].
        prompts: The prompt of each.
        consistent: Whether both orders gave the same winner.
        asked: How many were asked for, verdict or none.

    Raises:
        DataError: nothing was asked.
    """
    if not asked:
        raise DataError("no verdict was asked for")
    covered = Measure("coverage", len(preferred) / asked)
    if not preferred:
        return [covered]
    top = [float(p >= CEILING) for p in preferred]
    flips = [float(not same) for same in consistent]
    return [
        _share("judge_ceiling", top, prompts),
        _share("order_flips", flips, prompts),
        covered,
    ]


def _share(name: str, outcomes: Sequence[float], prompts: Sequence[Hashable]) -> Measure:
    found = win_rate(outcomes, list(prompts))
    return Measure(name, found.value, found.low, found.high)


def judge_histogram(preferred: Sequence[float]) -> list[int]:
    """How many P(preferred) lie in each tenth of [0, 1], the last with its upper end; length 10."""
    counts, _ = np.histogram(np.asarray(preferred, dtype=np.float64), bins=BINS, range=(0.0, 1.0))
    return [int(count) for count in counts]


def length_corrected(
    outcomes: Sequence[float],
    policy_words: Sequence[float],
    start_words: Sequence[float],
    prompts: Sequence[Hashable],
    *,
    seed: int = 0,
) -> list[Measure]:
    """`length_corrected_win_rate`, and `length_effect`: how much of the win rate length explains.

    Args:
        outcomes: P(policy preferred) or win 1, tie 0.5, loss 0, length n.
        policy_words: Words of the policy's response, length n.
        start_words: Words of the start's, length n.
        prompts: The prompt of each comparison.
        seed: Seed of the bootstrap over prompts.

    Nothing where the fit has no answer: one side won everything.
    """
    try:
        found = length_only_win_rate(
            outcomes, start_words, policy_words, prompts=list(prompts), rounds=400, seed=seed
        )
    except DataError:
        return []
    raw = float(np.mean(outcomes))
    low, high = found.low, found.high
    spans = low is not None and high is not None
    return [
        Measure("length_corrected_win_rate", found.value, low, high),
        Measure(
            "length_effect",
            raw - found.value,
            raw - high if spans and high is not None else None,
            raw - low if spans and low is not None else None,
        ),
    ]


def gold_measures(judge: Mapping[str, float], gold: Mapping[str, float]) -> list[Measure]:
    """`gold_gap` and `gold_win_rate`: what a judge that training never sees thinks of the policy.

    Args:
        judge: Mean P(policy preferred over the start) of each prompt, by the training judge.
        gold: The same by the held-out judge.

    Raises:
        DataError: they have no prompt in common.
    """
    common = sorted(judge.keys() & gold.keys())
    if not common:
        raise DataError("the two judges have no prompt in common")
    rate = win_rate([gold[p] for p in common], common)
    return [
        mean_measure("gold_gap", [judge[p] - gold[p] for p in common]),
        Measure("gold_win_rate", rate.value, rate.low, rate.high),
    ]


def gold_trend(
    judge: Mapping[str, float],
    judge_before: Mapping[str, float],
    gold: Mapping[str, float],
    gold_before: Mapping[str, float],
) -> Measure | None:
    """`gold_trend`: what the held-out judge's P(preferred) changed by since the round before.

    `None` unless the training judge's went up by more than its interval: a policy that got worse by
    both does not game its judge.

    Raises:
        DataError: a judge has no prompt in both rounds.
    """
    sides = ((judge, judge_before), (gold, gold_before))
    ours, theirs = (
        rise("gold_trend", [*now], [*now.values()], [*before], [*before.values()])
        for now, before in sides
    )
    return theirs if ours.low is not None and ours.low > 0 else None
