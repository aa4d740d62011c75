"""Verdicts to chosen/rejected rows. What is not fit to train on is held back, with its reason.

for row in pairs_from(read_verdicts(run), Rules()):
    match row:
        case PreferencePair(): ...
        case HeldBack(): row.reason
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations, groupby, pairwise
from typing import Any, Literal, get_args

from rlaif.canonical import canonical_json
from rlaif.judge.pair_form import side
from rlaif.judge.rendering import defuse
from rlaif.stats.numeric import sigmoid
from rlaif.stats.text import words
from rlaif.types import Messages, Preference, PreferencePair, Ranking, Verdict, as_dict

Reason = Literal[
    "no_verdict",
    "tie",
    "inconsistent",
    "under_margin",
    "identical",
    "empty",
    "duplicate",
    "contaminated",
    "length_suspicious",
    "forged_mark",
    "not_selected",
    "unsettled",
]
"""Why a comparison gives no training row."""

REASONS: tuple[Reason, ...] = get_args(Reason)
Select = Literal["all", "best-worst"]
RankedPairs = Literal["all", "adjacent"]


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A comparison that gives no training row."""

    verdict: Verdict
    reason: Reason
    detail: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """A line of `held_back.jsonl`."""
        row: dict[str, Any] = {"reason": self.reason}
        if self.detail:
            row["detail"] = self.detail
        return row | {
            "verdict_id": self.verdict.id,
            "item": self.verdict.item.id,
            "candidates": [c.id for c in self.verdict.candidates],
            "cause": self.verdict.cause,
            "p_a": self.verdict.preference.p_a if self.verdict.preference else None,
        }


@dataclass(frozen=True, slots=True)
class Rules:
    """What makes a comparison fit to train on."""

    select: Select = "all"
    """`all`: every comparison that passes. `best-worst`: of each prompt the candidate with the
    highest mean p against those it met, over the one with the lowest, where they were compared."""
    min_margin: float = 0.0
    """Least margin, 2 p_chosen - 1, in 0..1."""
    inconsistent: bool = False
    """Whether verdicts whose orders disagree are kept; their p_chosen says how sure they are."""
    max_length_ratio: float = 4.0
    """Most words of the longer response for each word of the shorter."""
    ranked_pairs: RankedPairs = "all"
    """Of a ranking: every pair of its candidates, or those that stand next to each other."""
    settled: bool = False
    """Whether pairs of a ranking whose intervals overlap are held back."""
    benchmark_prompts: frozenset[str] = field(default_factory=frozenset)
    """`prompt_key`s that must not be trained on."""


def prompt_key(messages: Messages) -> str:
    """A prompt as contamination is checked: its words, in lower case, without punctuation."""
    return " ".join(word for m in messages for word in words(m.content))


def pairs_from(verdicts: Iterable[Verdict], rules: Rules) -> Iterator[PreferencePair | HeldBack]:
    """A row or the reason for none, for every comparison, in order.

    A ranking counts as comparisons with P(better preferred) = sigmoid(difference of strengths); one
    is consistent unless the two were compared themselves and came out the other way.

    The verdicts of a prompt stand together, as a run writes them; only one prompt's are held in
    memory, with eight bytes for every row already given.

    Raises:
        SpecError: a verdict is of a score.
    """
    seen: set[bytes] = set()
    for _, group in groupby(verdicts, key=lambda v: v.item.id):
        of_prompt = [pair for verdict in group for pair in compared(verdict, rules)]
        verdicts_of = [pair for pair, _ in of_prompt]
        wanted = _best_worst(verdicts_of) if rules.select == "best-worst" else None
        for verdict, overlap in of_prompt:
            if rules.settled and overlap:
                yield HeldBack(verdict, "unsettled")
            else:
                yield _row(verdict, rules, wanted, seen)


def compared(verdict: Verdict, rules: Rules) -> Iterator[tuple[Verdict, bool]]:
    """The comparisons in a verdict: itself, or those that a ranking stands for, under its id.

    With each whether intervals overlap, so that a ranking leaves open which is better. A ranking
    without a verdict is one of all its candidates, without a verdict.

    Raises:
        SpecError: it is a score.
    """
    from rlaif.errors import SpecError

    if verdict.kind == "score":
        raise SpecError(f"verdict {verdict.id} is a score, not a comparison", field="kind")
    ranking = verdict.ranking
    if ranking is None:
        yield verdict, False
        return
    by_id = {candidate.id: candidate for candidate in verdict.candidates}
    every = rules.ranked_pairs == "all" or rules.select == "best-worst"
    among = combinations(ranking.order, 2) if every else pairwise(ranking.order)
    asked: dict[tuple[str, str], float] = {}
    for pair in ranking.pairs or ():
        if pair.p_a is not None:
            asked[pair.a, pair.b], asked[pair.b, pair.a] = pair.p_a, 1.0 - pair.p_a
    for better, worse in among:
        p = sigmoid(ranking.strengths[better] - ranking.strengths[worse])
        own = asked.get((better, worse), 0.5)
        made = replace(
            verdict,
            kind="comparison",
            candidates=(by_id[better], by_id[worse]),
            ranking=None,
            preference=Preference(side(p), p, (), consistent=own >= 0.5),
        )
        yield made, _overlap(ranking, better, worse)


def _overlap(ranking: Ranking, better: str, worse: str) -> bool:
    """Whether the strengths' intervals leave open which is better; unknown ones do."""
    if ranking.low is None or ranking.high is None:
        return True
    return ranking.low[better] <= ranking.high[worse]


def _key(verdict: Verdict) -> tuple[str, frozenset[str]]:
    """Names one comparison: those of a ranking share its id."""
    return verdict.id, frozenset(c.id for c in verdict.candidates)


def _best_worst(verdicts: list[Verdict]) -> set[tuple[str, frozenset[str]]]:
    """The verdict between the best and the worst candidate, if they were compared."""
    total: dict[str, float] = {}
    met: dict[str, int] = {}
    for verdict in verdicts:
        if verdict.preference is None:
            continue
        a, b = (c.id for c in verdict.candidates)
        for name, p in ((a, verdict.preference.p_a), (b, 1 - verdict.preference.p_a)):
            total[name] = total.get(name, 0.0) + p
            met[name] = met.get(name, 0) + 1
    if not total:
        return set()
    mean = {name: total[name] / met[name] for name in total}
    # by name after the mean: equal means must not be told apart by the order of a file
    ends = {max(mean, key=lambda n: (mean[n], n)), min(mean, key=lambda n: (mean[n], n))}
    return {_key(v) for v in verdicts if {c.id for c in v.candidates} == ends}


def _row(
    verdict: Verdict,
    rules: Rules,
    wanted: set[tuple[str, frozenset[str]]] | None,
    seen: set[bytes],
) -> PreferencePair | HeldBack:
    if (fault := _verdict_fault(verdict, rules, wanted)) is not None:
        return HeldBack(verdict, *fault)
    pair = _pair(verdict)
    if (fault := _text_fault(pair, rules)) is not None:
        return HeldBack(verdict, *fault)
    mark = _fingerprint(pair)
    if mark in seen:
        return HeldBack(verdict, "duplicate")
    seen.add(mark)
    return pair


_Fault = tuple[Reason, str | None]


def _verdict_fault(
    verdict: Verdict, rules: Rules, wanted: set[tuple[str, frozenset[str]]] | None
) -> _Fault | None:
    """What is wrong with a verdict, if anything."""
    preference = verdict.preference
    if preference is None:
        return "no_verdict", verdict.cause
    if wanted is not None and _key(verdict) not in wanted:
        return "not_selected", None
    if preference.winner == "tie":
        return "tie", None
    if not (preference.consistent or rules.inconsistent):
        return "inconsistent", None
    margin = abs(2 * preference.p_a - 1)
    return ("under_margin", f"{margin:.4f}") if margin < rules.min_margin else None


def _pair(verdict: Verdict) -> PreferencePair:
    """The training row of a comparison with a winner."""
    preference = verdict.preference
    assert preference is not None
    chosen, rejected = verdict.candidates
    p = preference.p_a
    if preference.winner == "B":
        chosen, rejected, p = rejected, chosen, 1 - p
    rubric = verdict.judge.rubric
    return PreferencePair(
        prompt=verdict.item.prompt,
        chosen=chosen.response,
        rejected=rejected.response,
        p_chosen=p,
        margin=2 * p - 1,
        consistent=preference.consistent,
        verdict_id=verdict.id,
        chosen_model=chosen.model,
        rejected_model=rejected.model,
        judge=verdict.judge.model,
        rubric=f"{rubric.name}@{rubric.version}" if rubric else None,
    )


def _text_fault(pair: PreferencePair, rules: Rules) -> _Fault | None:
    """What is wrong with the texts of a pair, if anything."""
    sides = [" ".join(m.content for m in side) for side in (pair.chosen, pair.rejected)]
    lengths = [max(1, len(words(side))) for side in sides]
    fault: _Fault | None = None
    if not all(side.strip() for side in sides):  # some imported verdicts come without the texts
        fault = "empty", None if any(side.strip() for side in sides) else "both responses"
    elif sides[0].split() == sides[1].split():
        fault = "identical", None
    elif any(defuse(side) != side for side in sides):
        fault = "forged_mark", "a response holds text shaped like a verdict or a judge's tag"
    elif rules.benchmark_prompts and prompt_key(pair.prompt) in rules.benchmark_prompts:
        fault = "contaminated", None
    elif max(lengths) > rules.max_length_ratio * min(lengths):
        fault = "length_suspicious", f"{lengths[0]} words over {lengths[1]}"
    return fault


def _fingerprint(pair: PreferencePair) -> bytes:
    """Eight bytes that tell pairs apart: the same pair labeled both ways counts as one."""
    sides = sorted(canonical_json(as_dict(side)) for side in (pair.chosen, pair.rejected))
    text = canonical_json([as_dict(pair.prompt), sides])
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
