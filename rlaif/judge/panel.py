"""Several judges as one: each is asked, and what they say is combined.

    panel = PanelJudge([PairwiseJudge(one, rubric), PairwiseJudge(other, rubric)], rule="mean")
    verdict = await panel.compare(comparison)
    verdict.preference.p_a          # P(a preferred), mean over the judges
    verdict.members                 # what each of them said

Judges that err together are one judge: `rlaif.stats.panel.effective_judges` says how many a panel
is worth. A member may be any judge, of another model or of the same one with another rubric.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any, get_args

import numpy as np

from rlaif.errors import Cause, ConfigError
from rlaif.judge.combining import (
    Rule,
    all_flags,
    combine_preferences,
    combine_scores,
    member_of,
    pooled,
    shared_rubric,
)
from rlaif.judge.common import no_verdict
from rlaif.judge.ranking import distinct_players, pooled_ranking, shared_place
from rlaif.judge.together import Asking, SeveralJudges
from rlaif.types import (
    Candidate,
    Item,
    JudgeRef,
    Kind,
    MemberVerdict,
    Ranking,
    Verdict,
)

_LOST: frozenset[Cause] = frozenset({"budget", "injection"})
"""Causes that another judge would not mend."""


class PanelJudge(SeveralJudges):
    """A judge that is several.

    Args:
        judges: Who votes; two or more that differ. Each scores, compares or ranks by lists, as the
            panel is asked to.
        rule: How their verdicts are combined: `rlaif.judge.combining`.
        weights: One for each judge, above 0; all alike by default. `estimated` says that they will
            be estimated from the verdicts, by `reweighted`: until then all are alike.
        min_valid: How many of them must have a verdict; more than half by default.
        substitutes: Who is asked where a judge has no verdict, the first free one first. One takes
            the weight of the judge it stands in for.

    Raises:
        ConfigError: there are fewer than two judges, two are the same, or an option does not fit
            them.

    Reference:
        Verga et al. 2024, "Replacing Judges with Juries" (2404.18796): mean of scores, vote.
    """

    def __init__(
        self,
        judges: Sequence[Any],
        *,
        rule: Rule = "mean",
        weights: Sequence[float] | str | None = None,
        min_valid: int | None = None,
        substitutes: Sequence[Any] = (),
    ) -> None:
        n = len(judges)
        _check(judges, rule, weights, min_valid, substitutes)
        super().__init__(judges)
        self._substitutes = tuple(substitutes)
        self.rule: Rule = rule
        self._estimated = isinstance(weights, str)
        given = weights if weights is not None and not isinstance(weights, str) else [1.0] * n
        self._weights = tuple(float(w) for w in given)
        self._least = n // 2 + 1 if min_valid is None else min_valid
        self.ref = self._named()

    @property
    def seats(self) -> int:
        """How many judges vote."""
        return len(self._judges)

    def _named(self) -> JudgeRef:
        refs = [judge.ref for judge in (*self._judges, *self._substitutes)]
        models = list(dict.fromkeys(ref.model for ref in refs[: self.seats]))
        words = [f"{self.rule} of {self.seats} judges, {self._least} at least"]
        if self._estimated:
            words.append("weights estimated")
        elif len(set(self._weights)) > 1:
            words.append(f"weights {', '.join(f'{w:g}' for w in self._weights)}")
        if self._substitutes:
            words.append(f"{len(self._substitutes)} in reserve")
        return JudgeRef(
            models[0] if len(models) == 1 else f"panel({', '.join(models)})",
            ", ".join(words),
            refs[0].sampling,
            shared_rubric(refs),
            tuple(refs),
        )

    async def rank(self, item: Item, candidates: Sequence[Candidate]) -> Verdict:
        """The order of the candidates, by all judges' lists together.

        Of every pair the judges' shares of lists are combined; the strengths are of that table. To
        rank by comparing pairs, give the panel to `rlaif.judge.tournament.Tournament`.

        Raises:
            BackendError: a fatal failure of a judge's provider.
            DataError: as for `rlaif.judge.listwise.ListwiseJudge`.
        """
        field = tuple(candidates)
        return await self._asked("ranking", item, field, lambda judge: judge.rank(item, field))

    async def _asked(
        self, kind: Kind, item: Item, candidates: tuple[Candidate, ...], ask: Asking
    ) -> Verdict:
        said = await asyncio.gather(*(ask(judge) for judge in self._judges))
        heard = [(place, place, verdict) for place, verdict in enumerate(said)]
        free = iter(range(self.seats, self.seats + len(self._substitutes)))
        for seat, first in enumerate(said):
            last = first
            while last.cause not in (None, *_LOST) and (place := next(free, None)) is not None:
                last = await ask(self._substitutes[place - self.seats])
                heard.append((place, seat, last))
        whole = no_verdict(
            kind,
            item,
            candidates,
            self.ref,
            "unreadable",
            tuple(call for _, _, verdict in heard for call in verdict.calls),
            flags=all_flags(verdict for _, _, verdict in heard),
        )
        members = tuple(
            member_of(place, verdict, None if place == seat else seat)
            for place, seat, verdict in heard
        )
        weights = self._weights
        return combined(replace(whole, members=members), self.rule, weights, least=self._least)


def combined(verdict: Verdict, rule: Rule, weights: Sequence[float], *, least: int = 1) -> Verdict:
    """A panel's verdict, made of what its members said.

    Args:
        verdict: With its members; what else it says is replaced.
        rule: How they are combined.
        weights: By seat, a substitute's that of the judge it stands in for.
        least: How many of them must have a verdict.
    """
    members = verdict.members or ()
    valid = [one for one in members if one.cause is None]
    blank = replace(verdict, score=None, preference=None, ranking=None, rationale=None)
    lost: list[Cause] = [one.cause for one in members if one.cause is not None]
    if len(valid) < least or "budget" in lost:
        # one that was not asked for want of money would be asked by a rerun: the rest is no verdict
        cause = "budget" if "budget" in lost else max(sorted(set(lost)), key=lost.count)
        why = f"{len(valid)} of the judges have a verdict, and {least} must"
        return replace(blank, status="no_verdict", cause=cause, rationale=why)
    w = [weights[seat_of(one)] for one in valid]
    whole = replace(blank, status="ok", cause=None)
    if (preferences := [one.preference for one in valid if one.preference]) and len(
        preferences
    ) == len(valid):
        preference = combine_preferences(preferences, w, rule)
        winner = preference.winner
        told = [m.rationale for m in valid if m.preference and m.preference.winner == winner]
        return replace(whole, preference=preference, rationale=_first(told))
    if scores := [one.score for one in valid if one.score]:
        score = combine_scores(scores, w, rule)
        near = min(abs(s.value - score.value) for s in scores)
        told = [m.rationale for m in valid if m.score and abs(m.score.value - score.value) <= near]
        return replace(whole, score=score, rationale=_first(told))
    rankings = [one.ranking for one in valid if one.ranking]
    return replace(whole, ranking=_combined_ranking(whole, valid, rankings, w, rule))


def seat_of(member: MemberVerdict) -> int:
    """The place at the table that a member votes from: a substitute has that of another judge."""
    return member.judge if member.instead_of is None else member.instead_of


def _combined_ranking(
    verdict: Verdict,
    valid: Sequence[MemberVerdict],
    rankings: Sequence[Ranking],
    weights: Sequence[float],
    rule: Rule,
) -> Ranking:
    """The ranking of the table of pairs that is combined of the members' tables."""
    players = distinct_players(verdict.item, verdict.candidates)
    if len(players) == 1:
        return shared_place(verdict.candidates)
    number = {player.id: k for k, player in enumerate(players)}
    tables = []
    for ranking in rankings:
        table = np.full((len(players), len(players)), 0.5)
        for pair in ranking.pairs or ():
            i, j = number[pair.a], number[pair.b]
            p = 0.5 if pair.p_a is None else pair.p_a
            if rule == "vote":
                p = 1.0 if p > 0.5 else 0.0 if p < 0.5 else 0.5
            table[i, j], table[j, i] = p, 1.0 - p
        tables.append(table)
    whole = np.full((len(players), len(players)), 0.5)
    for i, j in np.ndindex(whole.shape):
        if i < j:
            whole[i, j] = pooled([float(t[i, j]) for t in tables], weights, rule)
            whole[j, i] = 1.0 - whole[i, j]
    level = rankings[0].level or 0.95
    # the lists of one judge are no independent lists: each judge counts for one
    found = pooled_ranking(whole, len(tables), players, verdict.candidates, level)
    places = len(verdict.judge.members or ())
    pairs = []
    for pair in found.pairs or ():
        said: list[float | None] = [None] * places
        i, j = number[pair.a], number[pair.b]
        for member, table in zip(valid, tables, strict=True):
            said[member.judge] = float(table[i, j])
        pairs.append(replace(pair, members=tuple(said)))
    return replace(found, pairs=tuple(pairs))


def _first(told: Sequence[str | None]) -> str | None:
    return next((text for text in told if text), None)


def _check(
    judges: Sequence[Any],
    rule: str,
    weights: Sequence[float] | str | None,
    min_valid: int | None,
    substitutes: Sequence[Any],
) -> None:
    """Raise `ConfigError` where a panel's options do not fit its judges."""
    n = len(judges)
    if n < 2:
        raise ConfigError(f"a panel has two judges or more, not {n}")
    if rule not in get_args(Rule):
        raise ConfigError(f"rule is {rule!r}, not one of {', '.join(get_args(Rule))}")
    refs = [judge.ref for judge in (*judges, *substitutes)]
    for place, ref in enumerate(refs):
        if ref in refs[:place]:
            raise ConfigError(
                f"{ref.model} sits on the panel twice: for more replies of a judge raise its draws"
            )
    if min_valid is not None and not 1 <= min_valid <= n:
        raise ConfigError(f"{min_valid} verdicts of {n} judges cannot be had: 1 to {n} can")
    if isinstance(weights, str):
        if weights != "estimated":
            raise ConfigError(f"weights are numbers or 'estimated', not {weights!r}")
        if n < 3:
            message = "estimated weights need three judges: of two nobody can tell which one errs"
            raise ConfigError(message)
    elif weights is not None and not (len(weights) == n and all(0 < w < inf for w in weights)):
        raise ConfigError(f"{n} judges need as many weights, each above 0")
