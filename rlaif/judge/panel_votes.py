"""What the judges of a panel said over a whole run: how many they are worth, and how good each is.

votes = PanelVotes(panel.seats)
for verdict in verdicts:
votes.add(verdict)
votes.summary()                 # effective number of judges, coverage of each
votes.estimated_weights()       # by Dawid and Skene, from the votes alone
"""

from __future__ import annotations

from array import array
from math import floor, nan
from typing import Any

import numpy as np

from rlaif.errors import DataError
from rlaif.judge.panel import seat_of
from rlaif.stats.panel import Floats, dawid_skene, effective_judges, vote_weights
from rlaif.types import MemberVerdict, Verdict

_MOST_LABELS = 12
"""Levels that a confusion matrix is estimated for: with more most of its cells stay empty."""
_MIRRORED = {"A": "B", "B": "A", "tie": "tie"}


class PanelVotes:
    """The votes of a panel's seats, eight bytes each.

    Args:
        seats: How many judges vote.
    """

    def __init__(self, seats: int) -> None:
        self._seats = seats
        self._table = array("d")
        self._labels: list[tuple[str | None, ...]] = []
        self._mirrored = False
        self._asked = [0] * seats
        self._valid = [0] * seats
        self._replaced = 0

    def add(self, verdict: Verdict) -> None:
        """Count one verdict of the panel, or a ranking whose pairs a panel compared."""
        if verdict.members is None:
            for pair in (verdict.ranking.pairs if verdict.ranking else None) or ():
                if pair.members is not None:
                    self._row([nan if p is None else p for p in pair.members[: self._seats]])
            return
        values, labels = [nan] * self._seats, list[str | None]([None] * self._seats)
        rows: dict[tuple[str, str], list[float]] = {}
        for member in verdict.members:
            seat = seat_of(member)
            self._asked[seat] += member.instead_of is None
            self._replaced += member.instead_of is not None and member.cause is None
            self._valid[seat] += member.cause is None
            if member.cause is not None:
                continue
            if member.ranking is not None:
                for pair in member.ranking.pairs or ():
                    row = rows.setdefault((pair.a, pair.b), [nan] * self._seats)
                    row[seat] = nan if pair.p_a is None else pair.p_a
            else:
                values[seat], labels[seat] = _said(member)
        if verdict.kind == "ranking":
            for row in rows.values():
                self._row(row)
        else:
            self._mirrored = verdict.kind == "comparison"
            self._row(values)
            self._labels.append(tuple(labels))

    def _row(self, values: list[float]) -> None:
        self._table.extend([*values, *[nan] * (self._seats - len(values))])

    @property
    def table(self) -> Floats:
        """Shape (rows, seats): P(A preferred), or the score on [0, 1]; NaN without a verdict."""
        return np.asarray(self._table, dtype=np.float64).reshape(-1, self._seats)

    def summary(self) -> dict[str, Any]:
        """Coverage of each seat, how often substitutes sat, and what the panel is worth."""
        asked = zip(self._valid, self._asked, strict=True)
        found: dict[str, Any] = {
            "judges": self._seats,
            "coverages": [valid / n if n else None for valid, n in asked] if self._asked[0] else [],
            "replaced": self._replaced,
        }
        try:
            worth = effective_judges(self.table)
        except DataError as error:
            return found | {"effective_judges": None, "why": str(error)}
        return found | {
            "effective_judges": worth.value,
            "correlation": worth.correlation,
            "basis": worth.basis,
        }

    def estimated_weights(self) -> list[float]:
        """A weight for each seat: its log-odds of being right, by what the judges share.

        Labels are winners, or the levels nearest to scores. A comparison counts both ways round, so
        that exchanging the responses changes no weight.

        Raises:
            DataError: nobody voted, there are too many levels, or the estimate does not settle.

        Reference:
            `rlaif.stats.panel.dawid_skene`, `rlaif.stats.panel.vote_weights`.
        """
        items, judges, labels = list[Any](), list[Any](), list[Any]()
        for place, said in enumerate(self._labels):
            for seat, label in enumerate(said):
                if label is None:
                    continue
                items.append(place)
                judges.append(seat)
                labels.append(label)
                if self._mirrored:
                    items.append(-1 - place)
                    judges.append(seat)
                    labels.append(_MIRRORED[label])
        n_labels = len(set(labels))
        if n_labels > _MOST_LABELS:
            raise DataError(f"{n_labels} levels are too many to estimate how judges err on each")
        if n_labels == 1:
            raise DataError("all judges said the same of every item")
        fit = dawid_skene(items, judges, labels)
        weights = [0.0] * self._seats
        for seat in range(self._seats):
            if (n := sum(said[seat] is not None for said in self._labels)) == 0:
                continue
            confusion = fit.confusion[fit.judges.index(seat)]
            accuracy = min(1.0, float(fit.prior @ np.diag(confusion)))
            weights[seat] = float(vote_weights([accuracy * n], [n], labels=n_labels)[0])
        return weights


def _said(member: MemberVerdict) -> tuple[float, str | None]:
    """A member's vote on [0, 1], and the label nearest to it."""
    if member.preference is not None:
        return member.preference.p_a, member.preference.winner
    score = member.score
    if score is None:
        return nan, None
    return (score.value - score.min) / (score.max - score.min), str(floor(score.value + 0.5))
