"""How often a judge agrees with people, or with another judge, on the same comparisons.

    judge, people = VoteTable(shared := SharedNames()), VoteTable(shared)
    for verdict in verdicts:
        judge.add(verdict)
    for vote in votes:
        people.add(vote)
    agreement_table(judge, people)["setups"]["S1"]["kappa"]

Two verdicts meet when prompt, turn and the two models are the same; the models stand in sorted
order, so it does not matter which was called A. Every verdict meets every vote (people among
themselves: every unordered pair of votes). S1 takes a tie as a third class, S2 leaves out what
either side calls a tie.

Reference:
    Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena" (2306.05685),
    section 4.2: agreement is pooled over votes, not averaged over pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from rlaif.errors import ConfigError, DataError
from rlaif.evals.reading import column
from rlaif.evals.vote_table import LABELS, SharedNames, Votes, VoteTable, causes_among
from rlaif.stats.raters import fleiss_kappa, krippendorff_alpha
from rlaif.stats.votes import (
    LabelPairs,
    against_majority,
    agreement,
    among_voters,
    between_groups,
    same_votes_ceiling,
)
from rlaif.stats.win_rate import WinRate

_FIGURES = (
    "agreement",
    "kappa",
    "low",
    "high",
    "se",
    "agreed",
    "prompts",
    "kappa_low",
    "kappa_high",
)
_NOTHING_SHARED = "the two share no comparison: no prompt, turn and pair of models is in both"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the figures of a table are made."""

    majority: bool = False
    """Compare with the most frequent vote of each key, a split counting 1/k for each of k."""
    consistent_only: bool = False
    """Count the judge's verdicts whose two orders disagree as none."""
    level: float = 0.95
    """Confidence of the intervals."""
    rounds: int = 2000
    """Resamples behind the interval of kappa."""
    seed: int = 0


def agreement_table(
    judge: VoteTable,
    people: VoteTable,
    *,
    judges: Sequence[str] | None = None,
    voters: Sequence[str] | None = None,
    settings: Settings = Settings(),
) -> dict[str, Any]:
    """Agreement of a judge with votes in both setups, over all and by stratum.

    `setups` holds S1 and S2, each with `n` comparisons, `agreement` and its interval `low` to
    `high` (a score interval clustered by prompt), `kappa` (Cohen's, models in sorted order) and
    `kappa_low` to `kappa_high` (prompts resampled). `coverage` is the share of possible comparisons
    for which both sides have a verdict, `causes` why the others lack one. `by` repeats them for
    each turn, category or other stratum. `ceiling` is what naming the most frequent vote of each
    key would score on the same votes: no judge that gives one verdict a key can do better. `raters`
    holds how far the voters agree among themselves beyond chance (S1): Krippendorff's alpha, which
    takes any number of votes a key, and Fleiss' kappa, which needs the same number everywhere.

    Args:
        judge: The verdicts under examination.
        people: The votes. The same table as `judge` holds its votes against one another.
        judges: Names of `judge` to keep; all by default.
        voters: Names of `people` to keep; all by default. Of one table, those that are also
            `judges` are not held against themselves.
        settings: Majority, consistency, level, resamples and seed.

    Raises:
        DataError: the two share no comparison, no comparison has two votes, or the level or the
            number of resamples is out of range.
        ConfigError: a majority of a table against itself, or against several judges at once.
    """
    chosen = list(judges or judge.judges.all())
    others = list(voters or people.judges.all())
    among = judge is people and set(others) == set(chosen)
    if judge is people and not among:
        others = [name for name in others if name not in chosen]
    first = judge.votes(chosen, consistent_only=settings.consistent_only)
    second = people.votes(others)
    if settings.majority and among:
        raise ConfigError("the majority of the voters themselves: hold them against another run")
    frame = _Frame(judge.shared, first, second, settings)
    figures = _majority_setups if settings.majority else _pooled_setups
    return {
        "level": settings.level,
        "interval_of": "agreement",
        "seed": settings.seed,
        "majority": settings.majority,
        "consistent_only": settings.consistent_only,
        **figures(frame, among=among),
        "ceiling": _ceilings(second, settings.level),
        "raters": _among_raters(frame),
        "verdicts": first.counts(),
        "votes": second.counts(),
        "unmatched": frame.unmatched(),
    }


@dataclass(frozen=True, slots=True)
class _Frame:
    """Two columns of votes, and what turns a part of them into figures."""

    shared: SharedNames
    judge: Votes
    people: Votes
    settings: Settings

    def strata(self) -> dict[str, dict[str, set[int]]]:
        """The items of each value of each stratum, values in order."""
        found: dict[str, dict[str, set[int]]] = {}
        for name, values in self.shared.strata.items():
            stratum = column(self.shared.stratum_of_item[name])
            found[name] = {
                value: set(np.flatnonzero(stratum == number).tolist())
                for number, value in sorted(enumerate(values.all()), key=lambda pair: pair[1])
            }
        return found

    def unmatched(self) -> dict[str, int]:
        """How many of each side have no counterpart."""
        judge, people = set(self.judge.keys), set(self.people.keys)
        return {
            "verdicts": sum(key not in people for key in self.judge.keys),
            "votes": sum(key not in judge for key in self.people.keys),
        }


def _pooled_setups(frame: _Frame, *, among: bool) -> dict[str, Any]:
    """`setups` and `by` with every verdict held against every vote."""
    first, second = frame.judge, frame.people
    if among:
        pairs = among_voters(first.keys, first.labels, first.items)
    else:
        pairs = between_groups(first.keys, first.labels, second.keys, second.labels, first.items)
    if not len(pairs):
        raise DataError(
            "no comparison has two votes: there is nothing to agree on"
            if among
            else _NOTHING_SHARED
        )
    return _divided(frame, lambda items: _pooled(pairs, items, frame, among=among))


def _divided(
    frame: _Frame, figures: Callable[[set[int] | None], dict[str, Any] | None]
) -> dict[str, Any]:
    """Figures of everything and of each stratum; a stratum without comparisons is left out."""
    by: dict[str, Any] = {}
    for name, values in frame.strata().items():
        made = {value: figures(items) for value, items in values.items()}
        by[name] = {value: setups for value, setups in made.items() if setups is not None}
    return {"setups": figures(None), "by": by}


def _pooled(
    pairs: LabelPairs, items: set[int] | None, frame: _Frame, *, among: bool
) -> dict[str, Any] | None:
    """S1 and S2 of the pairs of some items, or of all; None where there are no pairs."""
    kept = [i for i, item in enumerate(pairs.clusters) if items is None or item in items]
    if not kept:
        return None
    ok = [i for i in kept if pairs.first[i] in LABELS and pairs.second[i] in LABELS]
    lost = Counter(
        next(str(x) for x in (pairs.first[i], pairs.second[i]) if x not in LABELS)
        for i in set(kept) - set(ok)
    )
    question = frame.shared.question_of_item
    readable = LabelPairs(
        tuple(pairs.first[i] for i in ok),
        tuple(pairs.second[i] for i in ok),
        tuple(question[cast("int", pairs.clusters[i])] for i in ok),
    )
    coverage = {"coverage": len(ok) / len(kept), "causes": causes_among(lost)}
    return {
        "S1": _setup(readable, frame.settings, among=among) | coverage,
        "S2": _setup(readable.without("tie"), frame.settings, among=among) | coverage,
    }


def _setup(pairs: LabelPairs, settings: Settings, *, among: bool) -> dict[str, Any]:
    """n, agreement and kappa of one setup with their intervals."""
    if not len(pairs):
        return {"n": 0} | dict.fromkeys(_FIGURES)
    found = agreement(pairs, level=settings.level, rounds=settings.rounds, seed=settings.seed)
    kappa = found.kappa
    if among:  # neither side has a role, so each pair is entered both ways
        both = pairs.both_ways()
        kappa = agreement(
            both, level=settings.level, rounds=settings.rounds, seed=settings.seed
        ).kappa
    return _figures(found.share) | {
        "kappa": kappa.value if kappa else None,
        "kappa_low": kappa.low if kappa else None,
        "kappa_high": kappa.high if kappa else None,
    }


def _figures(share: WinRate) -> dict[str, Any]:
    return {
        "n": share.n,
        "agreement": share.value,
        "kappa": None,
        "low": share.low,
        "high": share.high,
        "se": share.se,
        "agreed": share.value * share.n,
        "prompts": share.n_clusters,
        "kappa_low": None,
        "kappa_high": None,
    }


def _majority_setups(frame: _Frame, *, among: bool) -> dict[str, Any]:
    """`setups` and `by` with every verdict held against the most frequent vote on its key."""
    if among or len(set(frame.judge.keys)) < len(frame.judge.keys):
        raise ConfigError("several judges at once against a majority: name one with --judge")
    if not set(frame.judge.keys) & set(frame.people.readable()[0]):
        raise DataError(
            "the two share no comparison: no prompt, turn and pair of models is in both"
        )
    return _divided(frame, lambda items: _majority(frame, items))


def _majority(frame: _Frame, items: set[int] | None) -> dict[str, Any] | None:
    votes = frame.people
    kept = [
        i
        for i, label in enumerate(votes.labels)
        if label in LABELS and (items is None or votes.items[i] in items)
    ]
    keys, labels = [votes.keys[i] for i in kept], [votes.labels[i] for i in kept]
    prompts = [frame.shared.question_of_item[votes.items[i]] for i in kept]
    voted = set(keys)
    asked = dict(zip(frame.judge.keys, frame.judge.labels, strict=True))
    asked = {key: label for key, label in asked.items() if key in voted}
    if not asked:
        return None
    verdicts: dict[Hashable, Hashable] = {k: v for k, v in asked.items() if v in LABELS}
    lost = Counter(label for label in asked.values() if label not in LABELS)
    coverage = {"coverage": len(verdicts) / len(asked), "causes": causes_among(lost)}
    setups: dict[str, Any] = {}
    for name, left_out in (("S1", None), ("S2", "tie")):
        try:
            share = against_majority(
                verdicts, keys, labels, prompts, leave_out=left_out, level=frame.settings.level
            )
        except DataError:  # nothing is left of this stratum
            setups[name] = {"n": 0} | dict.fromkeys(_FIGURES) | coverage
        else:
            setups[name] = _figures(share) | coverage
    return setups


def _ceilings(votes: Votes, level: float) -> dict[str, Any]:
    """What naming the most frequent vote of each key would score on the same votes."""
    keys, labels = votes.readable()
    if not keys:
        return {"S1": None}
    return {"S1": same_votes_ceiling(keys, labels, level=level).value}


def _among_raters(frame: _Frame) -> dict[str, Any]:
    """How far the voters of `people` agree among themselves beyond chance, prompts resampled."""
    votes, settings = frame.people, frame.settings
    kept = [i for i, label in enumerate(votes.labels) if label in LABELS]
    several = Counter(votes.keys[i] for i in kept)
    kept = [i for i in kept if several[votes.keys[i]] > 1]
    labels, keys = [votes.labels[i] for i in kept], [votes.keys[i] for i in kept]
    prompts = [frame.shared.question_of_item[votes.items[i]] for i in kept]
    options: dict[str, Any] = {
        "level": settings.level,
        "rounds": settings.rounds,
        "seed": settings.seed,
    }
    found: dict[str, Any] = {"n": len(set(keys)), "votes": len(keys)}
    measures = {"krippendorff_alpha": krippendorff_alpha, "fleiss_kappa": fleiss_kappa}
    for name, measure in measures.items():
        try:
            value = measure(labels, keys, prompts, **options)
        except DataError as error:
            found[name] = {"unavailable": str(error)}
        else:
            found[name] = {"value": value.value, "low": value.low, "high": value.high}
    return found
