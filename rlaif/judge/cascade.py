"""A cheap judge first, a better one where it is in doubt, people where that one is too.

    cascade = CascadeJudge([PairwiseJudge(small, rubric), PairwiseJudge(large, rubric)], 0.8)
    verdict = await cascade.compare(comparison)
    verdict.members                     # what each judge that was asked said, the last one decides
    confidence(verdict) < 0.8           # nobody was sure: a case for people

What a threshold is worth is measured, not presumed: `rlaif agreement --select-agreement` finds the
one above which a judge agrees with people as often as wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlaif.errors import Cause, ConfigError
from rlaif.judge.combining import all_flags, member_of, shared_rubric
from rlaif.judge.common import verdict_id
from rlaif.judge.together import Asking, SeveralJudges
from rlaif.types import (
    Call,
    Candidate,
    Item,
    JudgeRef,
    Kind,
    Verdict,
)

_FINAL: frozenset[Cause] = frozenset({"budget", "injection"})
"""Causes for which no further judge is asked."""
_AT = "cascade at "
"""How the method of a cascade begins; its threshold stands behind."""


def confidence(verdict: Verdict) -> float | None:
    """How sure a verdict is, in [0, 1]; `None` where there is none or nothing is known of it.

    Of a comparison max(p, 1 - p) of P(A preferred) over both orders, so that two orders that
    disagree leave one half; of a score the probability of its likeliest level, the mean over
    criteria by weight. A score without probabilities tells nothing.
    """
    if verdict.preference is not None:
        return max(verdict.preference.p_a, 1.0 - verdict.preference.p_a)
    if verdict.score is None:
        return None
    if verdict.score.distribution:
        return max(verdict.score.distribution.values())
    known = list((verdict.score.criteria or {}).values())
    if not known or not all(grade.get("distribution") for grade in known):
        return None
    weights = [float(grade.get("weight", 1.0)) for grade in known]
    likeliest = [max(grade["distribution"].values()) for grade in known]
    total = sum(w * p for w, p in zip(weights, likeliest, strict=True))
    return float(total / sum(weights))


def is_escalated(verdict: Verdict) -> bool:
    """Whether a verdict is of a cascade that asked all its judges and ended in doubt: for people.

    Responses that are the same are none for people, nor is an item whose budget was spent or that
    was an attempt on the judge.
    """
    name, _, threshold = verdict.judge.method.partition(_AT)
    if name or not threshold.replace(".", "", 1).isdigit():
        return False
    if verdict.cause in _FINAL or _settled(verdict):
        return False
    asked = {member.judge for member in verdict.members or ()}
    if len(asked) < len(verdict.judge.members or ()):
        return False
    sure = confidence(verdict)
    return sure is None or sure < float(threshold)


@dataclass(slots=True)
class Stage:
    """What one judge of a cascade has done so far."""

    model: str
    asked: int = 0
    """Items."""
    decided: int = 0
    """Items whose verdict is its own, and sure enough."""
    calls: int = 0
    cost_usd: float = 0.0
    """What its calls cost when they were made, those from the store too."""
    unpriced: int = 0
    """Calls whose price is not known."""

    def count(self, calls: Sequence[Call]) -> None:
        """Count one item."""
        self.asked += 1
        self.calls += len(calls)
        self.cost_usd += sum(call.cost_usd or 0.0 for call in calls)
        self.unpriced += sum(call.cost_usd is None for call in calls)


class CascadeJudge(SeveralJudges):
    """A judge that is several, asked one after the other until one is sure.

    An item without a verdict goes on too, but for one whose budget is spent or that is an attempt
    on the judge. The verdict is the last judge's that was asked.

    Args:
        judges: Cheapest first, two or more that differ.
        threshold: Confidence from which on a verdict stands, in (0.5, 1].

    Raises:
        ConfigError: there are fewer than two judges, two are the same, or the threshold is none.

    Reference:
        Jung et al. 2024, "Trust or Escalate" (2407.18370), section 3.
    """

    def __init__(self, judges: Sequence[Any], threshold: float) -> None:
        if len(judges) < 2:
            raise ConfigError(f"a cascade has two judges or more, not {len(judges)}")
        refs = tuple(judge.ref for judge in judges)
        if len(set(map(repr, refs))) < len(refs):
            raise ConfigError("a judge stands in the cascade twice: it would say the same again")
        if not 0.5 < threshold <= 1:
            raise ConfigError(f"the threshold is a confidence above 0.5, not {threshold:g}")
        super().__init__(judges)
        self._threshold = threshold
        self.stages = [Stage(ref.model) for ref in refs]
        self.escalated = 0
        """Items of which no judge was sure."""
        models = ", ".join(ref.model for ref in refs)
        self.ref = JudgeRef(
            f"cascade({models})",
            f"{_AT}{threshold:g}",
            refs[0].sampling,
            shared_rubric(refs),
            refs,
        )

    async def _asked(
        self, kind: Kind, item: Item, candidates: tuple[Candidate, ...], ask: Asking
    ) -> Verdict:
        said: list[Verdict] = []
        for judge, stage in zip(self._judges, self.stages, strict=True):
            verdict = await ask(judge)
            said.append(verdict)
            stage.count(verdict.calls)
            sure = confidence(verdict)
            # responses that are the same tie without a call, and nobody could say more
            if sure is not None and (sure >= self._threshold or _settled(verdict)):
                stage.decided += 1
                break
            if verdict.cause in _FINAL:
                break
        else:
            self.escalated += 1
        return self._recorded(kind, item, candidates, said)

    def _recorded(
        self, kind: Kind, item: Item, candidates: tuple[Candidate, ...], said: Sequence[Verdict]
    ) -> Verdict:
        last = said[-1]
        return replace(
            last,
            id=verdict_id(kind, item, candidates, self.ref),
            judge=self.ref,
            calls=tuple(call for verdict in said for call in verdict.calls),
            flags=all_flags(said),
            members=tuple(member_of(place, verdict) for place, verdict in enumerate(said)),
        )

    def summary(self) -> dict[str, Any]:
        """Who decided how much, and what was saved against asking the last judge everything.

        A call that was not made is counted, and priced, as the last judge's calls were on average:
        `None` where it was never asked, or at a price that is not known.
        """
        last, first = self.stages[-1], self.stages[0]
        spared = first.asked - last.asked
        each = last if last.asked else first
        saved = cost = None
        if each.asked:
            saved = round(spared * each.calls / each.asked)
        if last.asked and not last.unpriced:
            cost = round(spared * last.cost_usd / last.asked, 9)
        return {
            "threshold": self._threshold,
            "stages": [
                {
                    "model": stage.model,
                    "asked": stage.asked,
                    "decided": stage.decided,
                    "calls": stage.calls,
                    "cost_usd": None if stage.unpriced else round(stage.cost_usd, 9),
                }
                for stage in self.stages
            ],
            "escalated": self.escalated,
            "calls_saved": saved,
            "cost_not_spent_usd": cost,
        }


def _settled(verdict: Verdict) -> bool:
    """Whether there was nothing to ask: the responses are the same."""
    return not verdict.calls and verdict.preference is not None
