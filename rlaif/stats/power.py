"""How many more prompts it takes to tell two models apart.

    from rlaif.stats.power import paired_differences, prompts_needed

    mine = {"p1": 0.9, "p2": 0.6, "p3": 0.8, "p4": 0.4}
    other = {"p1": 0.4, "p2": 0.7, "p3": 0.5, "p4": 0.3, "p5": 0.5}
    differences, prompts = paired_differences(
        list(mine.values()), list(mine), list(other.values()), list(other)
    )
    assert prompts == ["p1", "p2", "p3", "p4"]       # p5 was asked of one model only
    result = prompts_needed(differences, prompts)
    assert (result.separated, result.more) == (False, 12)

The difference at hand is itself uncertain, so the answer is a range: see `Separation`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from numpy.typing import ArrayLike

from rlaif.errors import DataError
from rlaif.stats.clusters import finite_vector, upper_tail_point
from rlaif.stats.means import mean_interval


@dataclass(frozen=True, slots=True)
class Separation:
    """A difference of two models, and the prompts it takes to be sure of its sign."""

    difference: float
    """Mean, in the units of the differences."""
    se: float
    low: float
    high: float
    separated: bool
    """Whether [low, high] leaves out 0."""
    n_prompts: int
    """Prompts at hand."""
    needed: int | None
    """Prompts in all that would separate them, were the difference as observed; None at 0."""
    more: int | None
    """Prompts still to ask: `needed` less those at hand, at least 0; 0 where `separated`."""
    needed_if_larger: int | None
    """As `needed`, were the difference at the end of the interval that is farther from 0."""
    needed_if_smaller: int | None
    """As `needed`, at the end nearer to 0; None where the interval holds 0: maybe never."""
    level: float
    power: float


def prompts_needed(
    differences: ArrayLike,
    prompts: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    power: float = 0.8,
) -> Separation:
    """How many prompts separate two models, from their differences on the prompts at hand.

    The spread between prompts is taken as it is now, so a new prompt is one with as many rows.

    Args:
        differences: Shape (n,): outcome of one model less that of the other on the same row.
        prompts: The prompt of each row, length n; None takes each row as its own prompt.
        level: Confidence of the interval that is to leave out 0.
        power: Chance that it then does, inside (0, 1).

    Raises:
        DataError: there are no rows or one prompt, a value is NaN or infinite, `prompts` has
            another length, or `level` or `power` lies outside (0, 1).

    Reference:
        Guenther 1981, "Sample size formulas for normal theory t tests", Am. Stat. 35(4).
    """
    if not 0 < power < 1:
        raise DataError(f"power is {power}, not between 0 and 1")
    found = mean_interval(differences, prompts, level=level)
    spread = found.se * math.sqrt(found.n_clusters)
    needed, larger, smaller = (
        sample_size(effect, spread, level=level, power=power)
        for effect in (
            found.value,
            max(abs(found.low), abs(found.high)),
            0.0 if found.low <= 0 <= found.high else min(abs(found.low), abs(found.high)),
        )
    )
    separated = not found.low <= 0 <= found.high
    more = None if needed is None else max(0, needed - found.n_clusters)
    return Separation(
        difference=found.value,
        se=found.se,
        low=found.low,
        high=found.high,
        separated=separated,
        n_prompts=found.n_clusters,
        needed=needed,
        more=0 if separated else more,
        needed_if_larger=larger,
        needed_if_smaller=smaller,
        level=level,
        power=power,
    )


def sample_size(
    effect: float, spread: float, *, level: float = 0.95, power: float = 0.8
) -> int | None:
    """Independent differences a two-sided t test needs to find `effect`; None where it is 0.

    Args:
        effect: True mean difference.
        spread: Standard deviation of one difference.
        level: 1 less the test's chance of a false alarm.
        power: Chance to find the effect.

    Raises:
        DataError: `spread` is negative, a number is not finite, or `level` or `power` lies outside
            (0, 1).
    """
    if not (math.isfinite(effect) and math.isfinite(spread)) or spread < 0 or not 0 < power < 1:
        raise DataError(f"effect {effect}, spread {spread}, power {power}: no sample size")
    if effect == 0:
        return None
    z = NormalDist().inv_cdf(upper_tail_point(level))
    reach = z + NormalDist().inv_cdf(power)
    # The last term is what Student's t costs over the normal.
    return max(2, math.ceil((reach * spread / effect) ** 2 + z * z / 2))


def paired_differences(
    first: ArrayLike,
    first_prompts: Sequence[Hashable],
    second: ArrayLike,
    second_prompts: Sequence[Hashable],
) -> tuple[list[float], list[Hashable]]:
    """Mean of the first model less mean of the second, on each prompt that both have.

    Args:
        first: Shape (n,), outcomes of one model.
        first_prompts: The prompt of each, length n.
        second: Shape (m,), outcomes of the other.
        second_prompts: The prompt of each, length m.

    Returns:
        The differences, and the prompt of each in the order of `first_prompts`.

    Raises:
        DataError: lengths differ, a value is NaN or infinite, or the models share no prompt.
    """
    a, b = _by_prompt(first, first_prompts), _by_prompt(second, second_prompts)
    shared = [prompt for prompt in a if prompt in b]
    if not shared:
        raise DataError("the two models share no prompt")
    return [fmean(a[prompt]) - fmean(b[prompt]) for prompt in shared], shared


def _by_prompt(values: ArrayLike, prompts: Sequence[Hashable]) -> dict[Hashable, list[float]]:
    vector = finite_vector(values)
    if vector.size != len(prompts):
        raise DataError(f"{len(prompts)} prompts for {vector.size} values")
    found: dict[Hashable, list[float]] = defaultdict(list)
    for value, prompt in zip(vector.tolist(), prompts, strict=True):
        found[prompt].append(value)
    return found
