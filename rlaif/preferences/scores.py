"""Scores of the responses to one prompt, as comparisons: the higher one is preferred.

for verdict in compared_by_score(read_verdicts(run)):       # comparisons, as any others
    ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations

from rlaif.canonical import digest
from rlaif.errors import SpecError
from rlaif.judge.by_scores import preference_by
from rlaif.judge.common import no_verdict, verdict_id
from rlaif.types import Candidate, Verdict, as_dict


def compared_by_score(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Every pair of responses to one prompt that one judge, or one person, scored by one rubric.

    Where either has no verdict, neither has the pair. Prompts come in the order in which they first
    appear; all scores are held in memory, without the calls behind them.

    Args:
        verdicts: Scores.

    Raises:
        SpecError: one is no score, two of a prompt have different scales, or no prompt has two.
    """
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.kind != "score":
            raise SpecError(f"a {verdict.kind} among scores", field="kind")
        judge = verdict.judge
        about = [as_dict(verdict.item.prompt), verdict.item.reference, judge.model, judge.method]
        rubric = judge.rubric.digest if judge.rubric else None
        groups.setdefault(digest([*about, rubric]), []).append(replace(verdict, calls=()))
    if all(len(group) < 2 for group in groups.values()):
        raise SpecError("no prompt has two responses with scores: there is nothing to prefer")
    for group in groups.values():
        for first, second in combinations(group, 2):
            yield _compared(first, second)


def _compared(first: Verdict, second: Verdict) -> Verdict:
    a, b = first.candidates[0], second.candidates[0]
    if a.id == b.id:  # rows of their own, each with its first response
        a, b = _called_by_item(first, a), _called_by_item(second, b)
    item, judge = first.item, replace(first.judge, method=f"scores, {first.judge.method}")
    if first.score is None or second.score is None:
        cause = first.cause or second.cause
        assert cause is not None
        return no_verdict("comparison", item, (a, b), judge, cause)
    scales = [(one.min, one.max) for one in (first.score, second.score)]
    if scales[0] != scales[1]:
        raise SpecError(f"{second.id} is on another scale than {first.id}", field="score")
    return Verdict(
        id=verdict_id("comparison", item, (a, b), judge),
        kind="comparison",
        item=item,
        candidates=(a, b),
        judge=judge,
        status="ok",
        preference=preference_by(first.score, second.score),
    )


def _called_by_item(verdict: Verdict, one: Candidate) -> Candidate:
    return replace(one, id=f"{verdict.item.id}/{one.id}")
