"""Agreement of one verdict a comparison with many people's votes on it, and among those people.

A *key* names a comparison (question, turn, the two models in one fixed order); the label of a
verdict or vote is stated in that order ("A", "B", "tie"). Agreement is the chance that two
different raters agree on a comparison drawn at random: pooled over votes, not averaged over keys.
Setup S1 keeps ties as a third class; S2 is `pairs.without("tie")`.

    from rlaif.stats.votes import against_votes, agreement

    verdicts = {"q1": "A", "q2": "tie"}
    pairs = against_votes(verdicts, keys=["q1", "q1", "q2", "q3"], labels=["A", "B", "tie", "A"])
    assert (len(pairs), pairs.unmatched) == (3, 1)
    assert round(agreement(pairs).share.value, 3) == 0.667

Setups as in Zheng et al. 2023, "Judging LLM-as-a-judge with MT-Bench and Chatbot Arena", arXiv
2306.05685, section 4.2.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from rlaif.errors import DataError
from rlaif.stats.clusters import cluster_numbers
from rlaif.stats.coefficients import Coefficient, kappa
from rlaif.stats.win_rate import WinRate, win_rate


@dataclass(frozen=True, slots=True)
class LabelPairs:
    """Two labels for each of n things, by two different raters."""

    first: tuple[Hashable, ...]
    second: tuple[Hashable, ...]
    clusters: tuple[Hashable, ...]
    """The prompt of each pair."""
    unmatched: int = 0
    """Votes that have no verdict to be held against."""

    def __len__(self) -> int:
        return len(self.first)

    @property
    def coverage(self) -> float:
        """Share of the votes that had a verdict, in [0, 1]; 0 where there are none."""
        total = len(self) + self.unmatched
        return len(self) / total if total else 0.0

    def without(self, label: Hashable) -> LabelPairs:
        """The pairs in which neither side is `label`: setup S2 with "tie"."""
        kept = [i for i in range(len(self)) if label not in (self.first[i], self.second[i])]
        return replace(
            self,
            first=tuple(self.first[i] for i in kept),
            second=tuple(self.second[i] for i in kept),
            clusters=tuple(self.clusters[i] for i in kept),
        )

    def both_ways(self) -> LabelPairs:
        """Each pair twice, once each way round: for kappa where neither side has a role."""
        return replace(
            self,
            first=self.first + self.second,
            second=self.second + self.first,
            clusters=self.clusters * 2,
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two raters agree, and how much of that chance would give."""

    share: WinRate
    """The share of pairs with equal labels, with its interval."""
    kappa: Coefficient | None
    """Cohen's kappa; None where both sides gave one label throughout and it is 0 / 0."""
    coverage: float
    """Share of the votes that had a verdict."""


def agreement(
    pairs: LabelPairs, *, level: float = 0.95, rounds: int = 10_000, seed: int = 0
) -> Agreement:
    """Raw and chance-corrected agreement of `pairs`, with intervals clustered by prompt.

    The share has the score interval of `rlaif.stats.win_rate`, which keeps its width near 1;
    kappa has the resampled one of `rlaif.stats.coefficients`.

    Args:
        pairs: What to compare.
        level: Confidence of both intervals.
        rounds: Resamples for kappa.
        seed: Seed of the resamples.

    Raises:
        DataError: there are no pairs, `level` lies outside (0, 1) or `rounds` is not positive.
    """
    if len(pairs) == 0:
        raise DataError("no pair of labels to compare")
    equal = [float(a == b) for a, b in zip(pairs.first, pairs.second, strict=True)]
    share = win_rate(equal, pairs.clusters, level=level)
    one_label = len({*pairs.first, *pairs.second}) == 1
    beyond_chance = (
        None
        if one_label
        else kappa(pairs.first, pairs.second, pairs.clusters, level=level, rounds=rounds, seed=seed)
    )
    return Agreement(share, beyond_chance, pairs.coverage)


def against_votes(
    verdicts: Mapping[Hashable, Hashable],
    keys: Sequence[Hashable],
    labels: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
) -> LabelPairs:
    """One verdict a key against every vote on that key; the verdict is `first`.

    Args:
        verdicts: The label of each key that has a verdict.
        keys: The key of each vote, length n.
        labels: The label of each vote, length n.
        clusters: The prompt of each vote, length n; None takes its key.

    Raises:
        DataError: the lengths differ.
    """
    clusters = _checked(keys, labels, clusters)
    rows = [i for i, key in enumerate(keys) if key in verdicts]
    return LabelPairs(
        tuple(verdicts[keys[i]] for i in rows),
        tuple(labels[i] for i in rows),
        tuple(clusters[i] for i in rows),
        len(keys) - len(rows),
    )


def among_voters(
    keys: Sequence[Hashable],
    labels: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
) -> LabelPairs:
    """Every unordered pair of votes on a key.

    Args:
        keys: The key of each vote, length n.
        labels: The label of each vote, length n.
        clusters: The prompt of each vote, length n; None takes its key.

    Raises:
        DataError: the lengths differ.
    """
    clusters = _checked(keys, labels, clusters)
    found = [pair for rows in _by_key(keys).values() for pair in combinations(rows, 2)]
    return LabelPairs(
        tuple(labels[i] for i, _ in found),
        tuple(labels[j] for _, j in found),
        tuple(clusters[i] for i, _ in found),
    )


def between_groups(
    keys: Sequence[Hashable],
    labels: Sequence[Hashable],
    other_keys: Sequence[Hashable],
    other_labels: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
) -> LabelPairs:
    """Every vote of one group with every vote of another group on the same key.

    Args:
        keys: The key of each vote of the first group, length n.
        labels: The label of each vote of the first group, length n.
        other_keys: The key of each vote of the second group, length m.
        other_labels: The label of each vote of the second group, length m.
        clusters: The prompt of each vote of the first group, length n; None takes its key.

    Raises:
        DataError: the lengths differ.
    """
    clusters = _checked(keys, labels, clusters)
    _checked(other_keys, other_labels, None)
    others = _by_key(other_keys)
    found = [(i, j) for i, key in enumerate(keys) for j in others.get(key, ())]
    return LabelPairs(
        tuple(labels[i] for i, _ in found),
        tuple(other_labels[j] for _, j in found),
        tuple(clusters[i] for i, _ in found),
    )


def against_majority(
    verdicts: Mapping[Hashable, Hashable],
    keys: Sequence[Hashable],
    labels: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
    *,
    leave_out: Hashable = None,
    level: float = 0.95,
) -> WinRate:
    """How often a verdict is the most frequent vote on its key; one of k equal ones counts 1/k.

    Args:
        verdicts: The label of each key that has a verdict.
        keys: The key of each vote, length n.
        labels: The label of each vote, length n.
        clusters: The prompt of each vote, length n; None takes its key.
        leave_out: A label ("tie") that neither side may have: a key whose verdict it is, or on
            which it alone is the most frequent vote, is left out. None keeps all.
        level: Confidence of the interval.

    Raises:
        DataError: the lengths differ, no key is left, or `level` lies outside (0, 1).
    """
    clusters = _checked(keys, labels, clusters)
    earned: list[float] = []
    prompts: list[Hashable] = []
    for key, rows in _by_key(keys).items():
        if key in verdicts:
            credit = _credit(verdicts[key], Counter(labels[i] for i in rows), leave_out)
            if credit is not None:
                earned.append(credit)
                prompts.append(clusters[rows[0]])
    return _share(earned, prompts, level)


def human_ceiling(
    keys: Sequence[Hashable],
    labels: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
    *,
    leave_out: Hashable = None,
    level: float = 0.95,
) -> WinRate:
    """How often a vote is the most frequent one of the *other* votes on its key (leave one out).

    Split modes count in expectation: one of k equal ones is 1/k. Keys with one vote do not count.

    Args:
        keys: The key of each vote, length n.
        labels: The label of each vote, length n.
        clusters: The prompt of each vote, length n; None takes its key.
        leave_out: As in `against_majority`.
        level: Confidence of the interval.

    Raises:
        DataError: the lengths differ, no key has two votes, or `level` lies outside (0, 1).
    """
    clusters = _checked(keys, labels, clusters)
    earned: list[float] = []
    prompts: list[Hashable] = []
    for rows in _by_key(keys).values():
        counts = Counter(labels[i] for i in rows)
        for i in rows:
            rest = +(counts - Counter([labels[i]]))
            credit = _credit(labels[i], rest, leave_out) if rest else None
            if credit is not None:
                earned.append(credit)
                prompts.append(clusters[i])
    return _share(earned, prompts, level)


def same_votes_ceiling(
    keys: Sequence[Hashable],
    labels: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
) -> WinRate:
    """The agreement with these votes of a judge that knew them all: their own most frequent label.

    No verdict a key can do better, so it caps `against_votes`.

    Args:
        keys: The key of each vote, length n.
        labels: The label of each vote, length n.
        clusters: The prompt of each vote, length n; None takes its key.
        level: Confidence of the interval.

    Raises:
        DataError: the lengths differ, there are no votes, or `level` lies outside (0, 1).
    """
    clusters = _checked(keys, labels, clusters)
    earned: list[float] = []
    prompts: list[Hashable] = []
    for rows in _by_key(keys).values():
        counts = Counter(labels[i] for i in rows)
        earned += [_credit(labels[i], counts, None) or 0.0 for i in rows]
        prompts += [clusters[i] for i in rows]
    return _share(earned, prompts, level)


def _credit(label: Hashable, counts: Counter[Hashable], leave_out: Hashable) -> float | None:
    """1/k where `label` is one of the k most frequent of `counts`; None where it is left out."""
    most = max(counts.values())
    modes = {name for name, count in counts.items() if count == most}
    if leave_out is not None:
        modes.discard(leave_out)
        if label == leave_out or not modes:
            return None
    return float(label in modes) / len(modes)


def _share(earned: list[float], prompts: list[Hashable], level: float) -> WinRate:
    if not earned:
        raise DataError("no pair of labels to compare")
    return win_rate(earned, prompts, level=level)


def _checked(
    keys: Sequence[Hashable], labels: Sequence[Hashable], clusters: Sequence[Hashable] | None
) -> Sequence[Hashable]:
    """The cluster of each vote, its key where none are given."""
    if len(keys) != len(labels):
        raise DataError(f"{len(labels)} labels for {len(keys)} keys")
    cluster_numbers(clusters, len(keys))
    return keys if clusters is None else clusters


def _by_key(keys: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Which rows each key has, keys in order of first appearance."""
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        rows[key].append(i)
    return rows
