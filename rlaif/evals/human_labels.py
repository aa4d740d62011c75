"""A judge's verdicts beside people's labels on some of them, row by row.

    run = LabeledRun()
    for verdict in verdicts:
        run.add_judged(verdict)
    for vote in votes:
        run.add_label(vote)
    run.pairs().agrees.mean()

A label meets a verdict when prompt, turn and models are the same; the two models of a comparison
stand in sorted order, so it does not matter which was called A. Labels are votes of people, records
like any other, or stand in the items (`meta["label"]`).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.evals.reading import ABSENT, Names, column, model_of, names, shortened
from rlaif.evals.vote_table import SharedNames
from rlaif.types import Candidate, Kind, Verdict

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_HARD = {"A": 1.0, "tie": 0.5, "B": 0.0}
_IN_ITEMS = "labels"


class Outcomes(NamedTuple):
    """Outcomes of one side, judge or people: one entry a verdict, of shape (n,) each."""

    item: Ints
    """Prompt and turn."""
    a: Ints
    """The model, of a comparison the one whose name sorts first."""
    b: Ints
    """The other model; `ABSENT` for scores."""
    value: Floats
    """Score, or P(a preferred); NaN without a verdict."""
    hard: Floats
    """Score, or 1, 0.5 and 0 for a, a tie and b; NaN without a verdict."""

    def where(self, rows: NDArray[np.bool_]) -> Outcomes:
        """The entries that a mask names."""
        return Outcomes(
            self.item[rows], self.a[rows], self.b[rows], self.value[rows], self.hard[rows]
        )


class LabelPairs(NamedTuple):
    """One entry for each label that has a verdict to be held against, shape (n,) each."""

    p: Floats
    """P(a preferred) by the judge."""
    label: Floats
    """1, 0.5 or 0: a, a tie or b by the label."""
    agrees: Floats
    """1 where the judge's verdict and the label are the same, else 0."""
    prompt: Ints


class ScorePairs(NamedTuple):
    """One entry for each rating that has a score to be held against, shape (n,) each."""

    judge: Floats
    """The score by the judge."""
    label: Floats
    """The rating."""
    prompt: Ints
    coverage: float
    """Share of the ratings that have a score, in [0, 1]."""


class LabeledRun:
    """Outcomes of a run, and labels of the same comparisons or scores."""

    def __init__(self) -> None:
        self._shared = SharedNames(())
        self._models = Names()
        self._judged, self._labels = _Side(), _Side()
        self._kind: Kind | None = None
        self._scale: tuple[float, float] | None = None

    @property
    def kind(self) -> Kind | None:
        """What the verdicts are; None before the first."""
        return self._kind

    @property
    def scale(self) -> tuple[float, float]:
        """The least and the greatest outcome."""
        return (0.0, 1.0) if self._scale is None else self._scale

    def add_judged(self, verdict: Verdict) -> None:
        """Keep what is needed of a verdict of the judge.

        Raises:
            SpecError: it is a ranking, or of another kind or scale than those before it.
        """
        self._add(self._judged, verdict)

    def add_label(self, verdict: Verdict) -> None:
        """Keep what is needed of a vote. Errors are those of `add_judged`."""
        self._add(self._labels, verdict)

    def add_own_label(self, verdict: Verdict) -> None:
        """Keep the label in the item of a comparison, where there is one.

        Raises:
            SpecError: the verdict is no comparison, or its label is not A, B or tie.
        """
        label = verdict.item.meta.get("label")
        if label is None:
            return
        if verdict.kind != "comparison":
            raise SpecError(f"a {verdict.kind} has no side to hold to a label", field="kind")
        if not isinstance(label, str) or label not in _HARD:
            raise SpecError(f"label {label!r} is not A, B or tie", field="item.meta.label")
        self._add_pair(self._labels, verdict, _IN_ITEMS, (_HARD[label], _HARD[label]))

    def _add(self, side: _Side, verdict: Verdict) -> None:
        if self._kind is None:
            self._kind = verdict.kind
        if verdict.kind != self._kind:
            raise SpecError(f"a {verdict.kind} among {self._kind}s", field="kind")
        if verdict.kind == "ranking":
            raise SpecError("labels correct scores and comparisons, not rankings", field="kind")
        name = verdict.judge.model
        if verdict.kind == "comparison":
            said = verdict.preference
            outcome = (math.nan, math.nan) if said is None else (said.p_a, _HARD[said.winner])
            self._add_pair(side, verdict, name, outcome)
            return
        score = verdict.score
        if score is not None and self._scale is None:
            self._scale = (score.min, score.max)
        if score is not None and (score.min, score.max) != self._scale:
            low, high = self.scale
            message = f"a scale of {score.min:g} to {score.max:g} among {low:g} to {high:g}"
            raise SpecError(message, field="score")
        value = math.nan if score is None else score.value
        model = self._models.number(model_of(verdict.candidates[0]))
        side.add(name, self._shared.item(verdict.item), model, ABSENT, value, value)

    def _add_pair(
        self, side: _Side, verdict: Verdict, judge: str, outcome: tuple[float, float]
    ) -> None:
        a, b = (model_of(candidate) for candidate in verdict.candidates)
        if a == b:
            a, b = (_with_id(candidate) for candidate in verdict.candidates)
        if a > b:
            a, b, outcome = b, a, (1 - outcome[0], 1 - outcome[1])
        item = self._shared.item(verdict.item)
        side.add(judge, item, self._models.number(a), self._models.number(b), *outcome)

    def models(self) -> list[str]:
        """The name of each model's number."""
        return self._models.all()

    def prompts(self, items: Ints) -> Ints:
        """The prompt of each of some items."""
        return column(self._shared.question_of_item)[items].astype(np.int64)

    def judged(self, judges: Sequence[str] | None = None) -> Outcomes:
        """The judge's outcomes; all judges by default.

        Raises:
            DataError: there are none.
        """
        return self._judged.outcomes(judges or self._judged.judges.all())

    def labels(self, voters: str | None = None) -> Outcomes:
        """The labels; those of annotators whose name begins with `voters`.

        Raises:
            ConfigError: nobody is called so.
            DataError: there are none.
        """
        known = self._labels.judges.all()
        picked = known if voters is None else [n for n in known if names(f"{voters}*", n)]
        if known and not picked:
            raise ConfigError(f"nobody is called '{voters}*': there are {shortened(known)}")
        if not known:
            raise DataError("there are no labels: no item has item.meta.label")
        found = self._labels.outcomes(picked)
        kept = ~np.isnan(found.value)
        if known == [_IN_ITEMS]:  # an item's label is one, however many judges were asked
            once = np.zeros(kept.size, dtype=bool)
            places = np.column_stack([self.keys(found), (2 * found.hard).astype(np.int64)])
            once[np.unique(places, axis=0, return_index=True)[1]] = True
            kept &= once
        return found.where(kept)

    def keys(self, outcomes: Outcomes) -> Ints:
        """One number for the prompt, turn and models of each entry."""
        size = len(self._models) + 1
        return (outcomes.item * size + outcomes.a) * size + outcomes.b + 1

    def pairs(self, judges: Sequence[str] | None = None, voters: str | None = None) -> LabelPairs:
        """Every label of a comparison beside each verdict on the same one.

        Raises:
            DataError: there are none, or the two share no comparison.
            SpecError: the run holds scores.
        """
        if self._kind == "score":
            raise SpecError("scores have no probabilities to hold to votes", field="kind")
        judged, labels = self.judged(judges), self.labels(voters)
        judged = judged.where(~np.isnan(judged.value))
        verdict, label = self._matched(judged, labels)
        if not label.size:
            raise DataError(
                "the labels share no comparison with the verdicts: no prompt, turn and pair of "
                "models is in both"
            )
        return LabelPairs(
            p=judged.value[verdict],
            label=labels.hard[label],
            agrees=(judged.hard[verdict] == labels.hard[label]).astype(np.float64),
            prompt=self.prompts(judged.item[verdict]),
        )

    def scores(self, judges: Sequence[str] | None = None, voters: str | None = None) -> ScorePairs:
        """Every rating of a response beside each score of the same one.

        Raises:
            DataError: there are none, the two share no response, or a judge scored several
                responses of one model to one prompt, which ratings do not tell apart.
            SpecError: the run holds comparisons.
        """
        if self._kind == "comparison":
            raise SpecError("comparisons have no scores", field="kind")
        judged, labels = self.judged(judges), self.labels(voters)
        judged = judged.where(~np.isnan(judged.value))
        if judges is None or len(judges) == 1:
            keys = self.keys(judged)
            if np.unique(keys).size < keys.size:
                raise DataError(
                    "a prompt has several responses of one model: give each an item of its own"
                )
        verdict, label = self._matched(judged, labels)
        if not label.size:
            raise DataError(
                "the ratings share no response with the scores: no prompt, turn and model is in "
                "both"
            )
        return ScorePairs(
            judge=judged.value[verdict],
            label=labels.value[label],
            prompt=self.prompts(judged.item[verdict]),
            coverage=np.unique(label).size / labels.value.size,
        )

    def _matched(self, judged: Outcomes, labels: Outcomes) -> tuple[Ints, Ints]:
        """The entry of `judged` and that of `labels` for each two that are about the same."""
        keys, asked = self.keys(judged), self.keys(labels)
        order = np.argsort(keys, kind="stable")
        first = np.searchsorted(keys[order], asked, side="left")
        count = np.searchsorted(keys[order], asked, side="right") - first
        label = np.repeat(np.arange(asked.size), count)
        within = np.arange(label.size) - np.repeat(np.cumsum(count) - count, count)
        return order[np.repeat(first, count) + within], label


class _Side:
    """Columns of the judge, or of people."""

    def __init__(self) -> None:
        self.judges = Names()
        self._numbers = array("i")
        self._values = array("d")

    def add(self, judge: str, item: int, a: int, b: int, value: float, hard: float) -> None:
        self._numbers.extend((self.judges.number(judge), item, a, b))
        self._values.extend((value, hard))

    def outcomes(self, judges: Sequence[str]) -> Outcomes:
        picked = [number for number, name in enumerate(self.judges.all()) if name in judges]
        numbers = column(self._numbers).reshape(-1, 4)
        rows = np.isin(numbers[:, 0], picked)
        if not rows.any():
            raise DataError("there are no verdicts")
        item, a, b = numbers[rows, 1:].astype(np.int64).T
        value, hard = column(self._values).reshape(-1, 2)[rows].T
        return Outcomes(item, a, b, value, hard)


def _with_id(candidate: Candidate) -> str:
    return f"{model_of(candidate)}\n{candidate.id}"
