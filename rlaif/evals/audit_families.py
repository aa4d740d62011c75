"""Does a judge favor its own kind? Families of models, self-preference and preference leakage.

Self-preference needs labels: a judge may prefer its own family because that family is better.
Preference leakage needs a second judge instead: what both judges see in the other's family is
taken for its quality, and what only the own judge sees in it for favor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import cluster_numbers
from rlaif.types import Verdict

FAMILIES: dict[str, tuple[str, ...]] = {
    "openai": ("gpt", "openai", "o1", "o3", "o4", "davinci", "chatgpt"),
    "anthropic": ("claude", "anthropic"),
    "google": ("gemini", "gemma", "palm", "bard"),
    "llama": ("llama", "vicuna", "alpaca", "koala"),
    "qwen": ("qwen", "qwq"),
    "mistral": ("mistral", "mixtral", "ministral", "magistral"),
    "deepseek": ("deepseek",),
    "phi": ("phi",),
    "smollm": ("smollm",),
    "command": ("command", "aya"),
    "grok": ("grok",),
    "glm": ("glm", "chatglm"),
    "yi": ("yi",),
}
"""What a model's name holds, as a word of it, when the model belongs to a family."""

_ROUNDS = 1000


@dataclass(frozen=True, slots=True)
class Judged:
    """The outcome of one comparison between named models, for the first of them."""

    prompt: str
    model_a: str
    model_b: str
    outcome: float
    """1 where A won, 0.5 for a tie, 0 where B won; a mean over orders lies between."""


def family_of(model: str | None, own: Mapping[str, Sequence[str]] | None = None) -> str | None:
    """The family that a model's name tells, or None. `own` is looked at before `FAMILIES`."""
    if not model:
        return None
    for families in (own or {}, FAMILIES):
        for family, marks in families.items():
            if any(_holds(model, mark) for mark in marks):
                return family
    return None


def _holds(model: str, mark: str) -> bool:
    # "phi" is in "phi-3" and "phi3" but not in "dolphin", "o1" not in "qwen2.5-pro1"
    return re.search(rf"(?<![a-z0-9]){re.escape(mark.lower())}(?![a-z])", model.lower()) is not None


def judged(verdict: Verdict, prompt: str) -> Judged | None:
    """The outcome of a comparison, or None where it has no verdict or its models no names."""
    a, b = verdict.candidates
    if verdict.preference is None or a.model is None or b.model is None:
        return None
    return Judged(prompt, a.model, b.model, outcome_of_a(verdict))


def outcome_of_a(verdict: Verdict) -> float:
    """How often A won over the orders asked, in [0, 1]; a tie counts half."""
    assert verdict.preference is not None
    values = [{"A": 1.0, "tie": 0.5, "B": 0.0}[o.winner] for o in verdict.preference.orders]
    if not values:  # identical responses: a tie that was not asked
        return 0.5
    return sum(values) / len(values)


def preference_leakage(
    first: Sequence[Judged],
    second: Sequence[Judged],
    families: tuple[str, str],
    own: Mapping[str, Sequence[str]] | None = None,
    *,
    seed: int = 0,
) -> tuple[float, float, float, int]:
    """How much two judges favor their own families: (value, low, high, n), 0 for not at all.

    PLS(i, j) = 1/2 [(WR(i,i) - AVG(i,j)) / AVG(i,j) + (WR(j,j) - AVG(j,i)) / AVG(j,i)] with
    AVG(i,j) = (WR(i,i) + WR(i,j)) / 2 and WR(x,y) the win rate that judge x gives family y. The
    interval holds 95 % of the resamples of prompts, both judges of a prompt together.

    Args:
        first: What judge i said.
        second: What judge j said of the same comparisons, in the same order.
        families: The families of i and j.
        own: Families of the user's own.
        seed: Seed of the resampling.

    Raises:
        DataError: the comparisons differ, or a judge gives both families no win at all.

    Reference:
        Li et al. 2025 (arXiv 2502.01534), eq. (2) and (3).
    """
    key = [(j.prompt, j.model_a, j.model_b) for j in first]
    if key != [(j.prompt, j.model_a, j.model_b) for j in second] or not key:
        raise DataError("two judges compare only over the same comparisons")
    sides = np.array([[_side(j, family, own) for j in first] for family in families])
    wins = np.array([[j.outcome for j in judge] for judge in (first, second)])
    numbers = cluster_numbers([j.prompt for j in first], len(first))
    value = _leakage(wins, sides, np.ones(len(first)))
    rng = np.random.default_rng(seed)
    clusters = int(numbers.max()) + 1
    drawn = []
    for _ in range(_ROUNDS):
        weight = np.bincount(rng.integers(clusters, size=clusters), minlength=clusters)[numbers]
        one = _leakage(wins, sides, weight.astype(float))
        if np.isfinite(one):
            drawn.append(one)
    if not np.isfinite(value):
        raise DataError("a judge gives both families no win at all: leakage is undefined")
    low, high = np.quantile(drawn, [0.025, 0.975])
    # leakage lies in [-1, 1], and rounding must not put its value outside its interval
    return value, min(float(low), value), max(float(high), value), len(first)


def _side(one: Judged, family: str, own: Mapping[str, Sequence[str]] | None) -> int:
    """1 where only A is of the family, -1 where only B is, else 0: it then says nothing of it."""
    return int(family_of(one.model_a, own) == family) - int(family_of(one.model_b, own) == family)


def _leakage(
    wins: NDArray[np.float64], sides: NDArray[np.int_], weight: NDArray[np.float64]
) -> float:
    """PLS of weighted comparisons; NaN where a family or both judges' wins are missing."""
    terms = []
    for judge, (mine, other) in enumerate(((0, 1), (1, 0))):
        rates = [_rate(wins[judge], sides[family], weight) for family in (mine, other)]
        average = sum(rates) / 2
        terms.append((rates[0] - average) / average if average > 0 else float("nan"))
    return sum(terms) / 2


def _rate(wins: NDArray[np.float64], side: NDArray[np.int_], weight: NDArray[np.float64]) -> float:
    total = float(weight[side != 0].sum())
    if total == 0:
        return float("nan")
    won = np.where(side > 0, wins, 1 - wins)
    return float((won * weight)[side != 0].sum() / total)


def common(first: Iterable[Judged], second: Iterable[Judged]) -> tuple[list[Judged], list[Judged]]:
    """The comparisons that both judges made, in the order of `first`, both from the same side."""
    other: dict[tuple[str, str, str], Judged] = {}
    for one in second:
        other[one.prompt, one.model_a, one.model_b] = one
        turned = Judged(one.prompt, one.model_b, one.model_a, 1 - one.outcome)
        other.setdefault((turned.prompt, turned.model_a, turned.model_b), turned)
    mine, theirs = [], []
    for one in first:
        if (match := other.get((one.prompt, one.model_a, one.model_b))) is not None:
            mine.append(one)
            theirs.append(match)
    return mine, theirs
