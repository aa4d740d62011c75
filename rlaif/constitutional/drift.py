"""What the texts of chains look like from round to round, without asking any model.

Length, refusals, stock phrases, near-duplicates, leaked critique, which words tell revisions from
first responses, and whether all principles had their turn: guards against a loop that learned one
phrase. Refusals are told apart by `meta.harmful` (true or false) of the prompts, where they have
it: refusing a harmless prompt is evasive.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rlaif.constitutional.faults import is_refusal, leaked
from rlaif.constitutional.records import Chain
from rlaif.errors import DataError
from rlaif.stats.means import mean_interval
from rlaif.stats.separability import separability
from rlaif.stats.text import ngrams, words
from rlaif.stats.win_rate import win_rate

BOILERPLATE = re.compile(
    r"\bas an? (?:AI|artificial intelligence|chatbot)\b|\bas a (?:large )?language model\b"
    r"|\bI(?:'|’)m just an? (?:AI|assistant)\b"
    r"|\bit(?:'|’)?s? (?:is )?important to (?:note|remember)\b"
    r"|\byou are (?:valid|valued|loved|not alone)\b|\bI(?:'|’)m here to (?:help|listen|support)\b"
    r"|\b(?:consult|seek help from|speak (?:to|with)) (?:with )?a (?:qualified |licensed )?"
    r"(?:professional|therapist|lawyer|doctor)\b",
    re.IGNORECASE,
)
"""Stock phrases of assistants, in English."""
NEAR = 0.8
"""Share of common 5-grams (Jaccard) from which two responses are near-duplicates."""
MOST_PAIRS = 20_000
"""Chains whose words are looked at; further ones are counted in all else."""
_GROUPS = {True: "harmful", False: "harmless"}


_Measure = tuple[float, float, float]
"""Of a response: its words, whether it refuses, and whether it holds a stock phrase."""


def _measure(text: str) -> _Measure:
    boilerplate = BOILERPLATE.search(text) is not None
    return len(words(text)), float(is_refusal(text)), float(boilerplate)


@dataclass(slots=True)
class _Texts:
    """Of the responses that stood after one round: what can be counted."""

    words: list[float] = field(default_factory=list)
    refused: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    boilerplate: list[float] = field(default_factory=list)

    def add(self, measure: _Measure, group: str | None) -> None:
        n, refused, boilerplate = measure
        self.words.append(n)
        self.refused["all"].append(refused)
        if group:
            self.refused[group].append(refused)
        self.boilerplate.append(boilerplate)

    def as_dict(self) -> dict[str, Any]:
        return {
            "n": len(self.words),
            "words": _mean(self.words),
            "refusals": {name: share(found) for name, found in sorted(self.refused.items())},
            "boilerplate": share(self.boilerplate),
        }


def drift_of(chains: Iterable[Chain]) -> dict[str, Any]:
    """What `summary.json` says of the texts of `chains`, under `drift`.

    `rounds` holds a row for the first responses (round 0) and for those that stood after each
    round; a chain that ended early stands as it ended. Chains without a first response are left
    out. Shares carry 95 % intervals.
    """
    rows: list[_Texts] = []
    before: list[str] = []
    after: list[str] = []
    seen: Counter[str] = Counter()
    leaks = revised = 0
    measured: list[list[_Measure]] = []
    groups: list[str | None] = []
    for chain in chains:
        seen.update(one.principle for one in chain.rounds if one.principle)
        if chain.first is None:
            continue
        measured.append([_measure(text) for text in chain.standing()])
        groups.append(_group(chain))
        if chain.revised and chain.final is not None:
            revised += 1
            leaks += _leaks(chain)
            if len(before) < MOST_PAIRS:
                before.append(chain.first)
                after.append(chain.final)
    longest = max(map(len, measured), default=0)
    for number in range(longest):
        row = _Texts()
        for found, group in zip(measured, groups, strict=True):
            row.add(found[min(number, len(found) - 1)], group)
        rows.append(row)
    return {
        "rounds": [{"round": number, **row.as_dict()} for number, row in enumerate(rows)],
        "revised": revised,
        "leaked": leaks,
        "near_duplicates": {"first": near_duplicates(before), "final": near_duplicates(after)},
        "separability": _separability(before, after),
        "principles": coverage(seen),
    }


def _group(chain: Chain) -> str | None:
    harmful = chain.item.meta.get("harmful")
    return _GROUPS[harmful] if isinstance(harmful, bool) else None


def _leaks(chain: Chain) -> bool:
    """Whether critique stands in the revision that stands at the end."""
    first = chain.first or ""
    return any(
        leaked(chain.final or "", first, one.critique) is not None
        for one in chain.rounds
        if one.critique
    )


def share(outcomes: Sequence[float]) -> dict[str, float] | None:
    """A share with its 95 % interval; `None` of nothing."""
    if not outcomes:
        return None
    rate = win_rate(outcomes)
    return {"value": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}


def _mean(values: Sequence[float]) -> dict[str, float] | None:
    if len(values) < 2:
        return {"value": values[0], "n": 1} if values else None
    found = mean_interval(values)
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _separability(before: Sequence[str], after: Sequence[str]) -> dict[str, Any]:
    try:
        found = separability(before, after)
    except DataError as error:
        return {"reason": str(error)}
    plain = asdict(found)
    for side in ("first", "second"):
        plain[side] = [[word, round(weight, 4)] for word, weight in plain[side]]
    return plain


def near_duplicates(texts: Sequence[str]) -> float | None:
    """Share of texts that are nearly the same as an earlier one, in [0, 1]; `None` of none.

    Texts that share one of their eight smallest hashed 5-grams are compared in full.
    """
    if not texts:
        return None
    shingles: list[frozenset[int]] = []
    buckets: dict[int, list[int]] = defaultdict(list)
    found = 0
    for place, text in enumerate(texts):
        grams = frozenset(_hashed(gram) for gram in ngrams(text, 5)) or frozenset(
            [_hashed(tuple(words(text)))]
        )
        least = sorted(grams)[:8]
        others = {other for key in least for other in buckets[key]}
        found += any(_jaccard(grams, shingles[other]) >= NEAR for other in others)
        for key in least:
            if len(buckets[key]) < 64:
                buckets[key].append(place)
        shingles.append(grams)
    return found / len(texts)


def _hashed(gram: Sequence[str]) -> int:
    return int.from_bytes(
        hashlib.blake2b(" ".join(gram).encode("utf-8", "replace"), digest_size=8).digest(), "big"
    )


def _jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    return len(one & other) / len(one | other)


def coverage(seen: Counter[str]) -> dict[str, Any]:
    """How evenly principles were drawn: how many of them were, and their effective number.

    The effective number is e to the entropy: n where all n were drawn equally often.
    """
    total = seen.total()
    entropy = -sum(n / total * math.log(n / total) for n in seen.values()) if total else 0.0
    return {"drawn": len(seen), "effective": math.exp(entropy) if total else 0.0}
