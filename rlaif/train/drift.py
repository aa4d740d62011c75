"""How far a policy has moved from the one that training began with, as measures for alarms.

Everything here is a pure function of texts and numbers. Where it can be, a measure has a 95 %
interval by prompt: responses to one prompt rise and fall together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.constitutional.drift import near_duplicates
from rlaif.constitutional.faults import is_refusal
from rlaif.errors import DataError
from rlaif.stats.clusters import cluster_numbers, finite_vector, t_quantile
from rlaif.stats.means import mean_interval
from rlaif.stats.text import distinct_n, echo, ngram_count, ngrams, repetition, words
from rlaif.train.alarms import Measure

Floats = NDArray[np.float64]
_GROUPS = 20
"""Of prompts, each left out once."""


@dataclass(frozen=True, slots=True)
class Responses:
    """What one policy said to the same prompts as another."""

    prompts: Sequence[str]
    """The prompt of each response, length n; the unit of evidence."""
    texts: Sequence[str]
    """The responses, length n."""

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.texts):
            raise DataError(f"{len(self.prompts)} prompts for {len(self.texts)} responses")


Compare = Callable[[Responses, Responses], float | None]
"""A figure of the policy's responses against the start's; `None` where there is none."""


def kl_measures(
    ratios: Sequence[Sequence[float]], prompts: Sequence[Hashable] | None = None
) -> list[Measure]:
    """`kl` and `kl_k3` of the policy from the start, nats a response.

    Args:
        ratios: For each response of the policy the log ratio log p(token) - log p_start(token) of
            each of its tokens, nats.
        prompts: The prompt of each response.

    k1 is the mean log ratio: unbiased, and may come out negative. k3 sums exp(-d) - 1 + d over the
    tokens: never negative, and of less variance where d is small.

    Raises:
        DataError: there are no responses, or a ratio is not finite.

    Reference:
        Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html.
    """
    k1 = finite_vector([math.fsum(tokens) for tokens in ratios])
    # beyond 50 nats the ratio is as good as infinite; unbounded, one token would overflow
    k3 = [math.fsum(math.exp(min(-d, 50.0)) - 1 + d for d in tokens) for tokens in ratios]
    return [mean_measure("kl", k1, prompts), mean_measure("kl_k3", k3, prompts)]


def entropy_measure(
    logprobs: Sequence[Sequence[float]], start: Sequence[Sequence[float]]
) -> Measure:
    """`entropy`: nats a token of the policy over those of the start.

    Each is the mean of -log p over the tokens that the model sampled itself, which is its entropy
    where it samples at temperature 1.

    Args:
        logprobs: Log-probability of each token of each of the policy's responses, under the policy.
        start: The same of the start's responses, under the start.

    Raises:
        DataError: there are no tokens, or the start's entropy is 0.
    """
    now, before = (_nats_a_token(rows) for rows in (logprobs, start))
    if before <= 0:
        raise DataError("the start's entropy is 0: it always says the same")
    return Measure("entropy", now / before)


def _nats_a_token(rows: Sequence[Sequence[float]]) -> float:
    tokens = sum(map(len, rows))
    if not tokens:
        raise DataError("there are no tokens")
    return -math.fsum(value for row in rows for value in row) / tokens


def length_measures(policy: Responses, start: Responses) -> list[Measure]:
    """`length_mean` and `length_p95`: words a response over the start's; the mean with interval.

    Raises:
        DataError: the start's responses have no words.
    """
    now, before = (_lengths(side) for side in (policy, start))
    if before.mean() == 0:
        raise DataError("the start's responses have no words")
    tails = [float(np.quantile(side, 0.95)) for side in (now, before)]
    found = [_ratio("length_mean", policy.prompts, now, start.prompts, before)]
    if tails[1] > 0:
        found.append(Measure("length_p95", tails[0] / tails[1]))
    return found


def _lengths(side: Responses) -> Floats:
    return np.array([len(words(text)) for text in side.texts], dtype=np.float64)


def _ratio(
    name: str, prompts: Sequence[str], now: Floats, prompts_before: Sequence[str], before: Floats
) -> Measure:
    """A ratio of means over prompts; its error is that of the linearized ratio."""
    ours, theirs = (_by_prompt(p, v) for p, v in ((prompts, now), (prompts_before, before)))
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        raise DataError("the two policies have no prompt in common")
    above, below = (np.array([side[p] for p in common]) for side in (ours, theirs))
    value = float(above.mean() / below.mean())
    if len(common) < 2:
        return Measure(name, value)
    rest = mean_interval(above - value * below)
    half = (rest.high - rest.value) / float(below.mean())
    return Measure(name, value, value - half, value + half)


def _by_prompt(prompts: Sequence[str], values: ArrayLike) -> dict[str, float]:
    vector = finite_vector(values)
    numbers = cluster_numbers(prompts, vector.size)
    sums, sizes = np.bincount(numbers, weights=vector), np.bincount(numbers)
    return dict(zip(dict.fromkeys(prompts), (sums / sizes).tolist(), strict=True))


def text_measures(policy: Responses, start: Responses) -> list[Measure]:
    """Variety, repetition, echo of the prompt and refusals of a policy against the start's.

    Distinct-n are ratios at an equal number of n-grams, the rest are differences. A figure that
    the texts cannot give (no n-gram long enough) is left out. Intervals leave out a twentieth of
    the prompts at a time: sampled with replacement, texts would look alike that are the same.

    Reference:
        Kott 2001, "The delete-a-group jackknife", J. Official Statistics 17(4).
    """
    rises: list[tuple[str, Callable[[Responses], float | None]]] = [
        ("self_similarity", lambda side: self_similarity(side.texts)),
        ("near_duplicates", lambda side: near_duplicates(side.texts)),
        ("repetition", lambda side: repetition(side.texts)),
        ("echo", _echo),
    ]
    figures: list[tuple[str, Compare]] = [
        *((f"distinct_{n}", partial(_distinct, n)) for n in (1, 2, 3)),
        *((name, partial(_difference, figure)) for name, figure in rises),
    ]
    made = (_jackknifed(name, compare, policy, start) for name, compare in figures)
    refused = [[float(is_refusal(text)) for text in side.texts] for side in (policy, start)]
    return [*(m for m in made if m is not None), *_refusals(policy, start, *refused)]


def _jackknifed(name: str, compare: Compare, policy: Responses, start: Responses) -> Measure | None:
    """A figure of both with the interval of the delete-a-group jackknife over prompts."""
    value = compare(policy, start)
    if value is None:
        return None
    prompts = list(dict.fromkeys([*policy.prompts, *start.prompts]))
    groups = min(_GROUPS, len(prompts))
    parts = []
    for k in range(groups):
        left = frozenset(prompts[k::groups])
        sides = [_without(side, left) for side in (policy, start)]
        part = compare(sides[0], sides[1]) if all(side.texts for side in sides) else None
        if part is None:
            return Measure(name, value)
        parts.append(part)
    if groups < 2:
        return Measure(name, value)
    spread = float(np.var(parts))
    half = t_quantile(0.95, groups) * math.sqrt((groups - 1) * spread)
    return Measure(name, value, value - half, value + half)


def _without(side: Responses, left: frozenset[str]) -> Responses:
    pairs = zip(side.prompts, side.texts, strict=True)
    kept = [(prompt, text) for prompt, text in pairs if prompt not in left]
    return Responses([prompt for prompt, _ in kept], [text for _, text in kept])


def _difference(
    figure: Callable[[Responses], float | None], policy: Responses, start: Responses
) -> float | None:
    now, before = figure(policy), figure(start)
    return None if now is None or before is None else now - before


def _refusals(
    policy: Responses, start: Responses, now: list[float], before: list[float]
) -> list[Measure]:
    """The rise by prompt where both answered the same prompts; else that of two samples."""
    if len(set(policy.prompts) & set(start.prompts)) > 1:
        return [rise("refusals", policy.prompts, now, start.prompts, before)]
    ends = change(before, now)
    return [] if ends is None else [Measure("refusals", *ends)]


def change(first: Sequence[float], latest: Sequence[float]) -> tuple[float, float, float] | None:
    """The difference of the means of two samples with its 95 % interval; `None` under two values.

    Reference:
        Welch 1947, "The generalization of Student's problem when several different population
        variances are involved", Biometrika 34.
    """
    if len(first) < 2 or len(latest) < 2:
        return None
    from scipy.stats import t

    one, other = mean_interval(list(first)), mean_interval(list(latest))
    parts = [one.se**2, other.se**2]
    difference, variance = other.value - one.value, sum(parts)
    if variance == 0:
        return difference, difference, difference
    sizes = (len(first) - 1, len(latest) - 1)
    degrees = variance**2 / sum(part**2 / n for part, n in zip(parts, sizes, strict=True))
    half = float(t.ppf(0.975, degrees)) * math.sqrt(variance)
    return difference, difference - half, difference + half


def _echo(side: Responses) -> float | None:
    try:
        return echo(side.prompts, side.texts)
    except DataError:  # no response has a word
        return None


def _distinct(n: int, policy: Responses, start: Responses) -> float | None:
    size = min(ngram_count(side.texts, n) for side in (policy, start))
    if not size:
        return None
    now, before = (distinct_n(side.texts, n, size=size) for side in (policy, start))
    return now / before


def rise(
    name: str,
    prompts: Sequence[str],
    now: ArrayLike,
    prompts_before: Sequence[str],
    before: ArrayLike,
) -> Measure:
    """The difference of two means over the prompts that both have, with its paired interval.

    Raises:
        DataError: there is no such prompt.
    """
    ours, theirs = _by_prompt(prompts, now), _by_prompt(prompts_before, before)
    gains = [ours[p] - theirs[p] for p in ours if p in theirs]
    if not gains:
        raise DataError("the two policies have no prompt in common")
    return mean_measure(name, gains)


def mean_measure(
    name: str, values: ArrayLike, prompts: Sequence[Hashable] | None = None
) -> Measure:
    """A mean with its 95 % interval by prompt; without one where there is one prompt."""
    vector = finite_vector(values)
    if (len(set(prompts)) if prompts is not None else vector.size) < 2:
        return Measure(name, float(vector.mean()))
    found = mean_interval(vector, prompts)
    return Measure(name, found.value, found.low, found.high)


def self_similarity(texts: Sequence[str], order: int = 4) -> float | None:
    """Self-BLEU in [0, 1]: the mean BLEU of each text against all others; `None` under two texts.

    An n-gram is matched as often as it occurs in the other text that has most of it. 1 where one
    text answers everything, near 0 where no two have a phrase in common. Orders that a text is too
    short for are left out of its mean, and no brevity penalty is taken: the nearest length among
    many others is its own.

    Reference:
        Zhu et al. 2018, "Texygen" (1802.01886), section 3.2; BLEU: Papineni et al. 2002, eq. (2).
    """
    if len(texts) < 2:
        return None
    precisions: list[list[float]] = [[] for _ in texts]
    for n in range(1, order + 1):
        counts = [Counter(ngrams(text, n)) for text in texts]
        most = _two_largest(counts)
        for place, own in enumerate(counts):
            if total := own.total():
                matched = sum(min(c, _elsewhere(most[gram], place)) for gram, c in own.items())
                precisions[place].append(matched / total)
    scores = [_geometric(found) for found in precisions]
    return sum(scores) / len(scores)


_Largest = tuple[int, int, int]


def _two_largest(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], _Largest]:
    """Of each n-gram its largest count in a text, which text that is, and its second largest."""
    found: dict[tuple[str, ...], _Largest] = {}
    for place, own in enumerate(counts):
        for gram, count in own.items():
            first, holder, second = found.get(gram, (0, -1, 0))
            if count > first:
                found[gram] = (count, place, first)
            elif count > second:
                found[gram] = (first, holder, count)
    return found


def _elsewhere(largest: _Largest, place: int) -> int:
    first, holder, second = largest
    return second if holder == place else first


def _geometric(values: Sequence[float]) -> float:
    if not values or min(values) == 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, values)) / len(values))
