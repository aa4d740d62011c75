"""Verdicts to a leaderboard: mean scores or win rates, strengths, and how far each can be believed.

    table = LeaderboardTable()
    for verdict in verdicts:
        table.add(verdict)
    table.result(Settings(baseline="gpt-4"))["rows"][0]["win_rate"]

`win_rate` is the mean P(preferred), so a soft verdict counts by its probability and a tie one half;
`discrete_win_rate` takes winners alone. `low` and `high` belong to the figure that `interval_of`
names and rest on prompts, not rows: both orders, both turns and all opponents of a prompt rise and
fall together. A judgment without a verdict is no loss, no tie and no zero: it is left out of the
figures and stands in `coverage` and `causes`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import ConfigError, DataError, SpecError, suggestion
from rlaif.evals.leaderboard_rows import (
    Columns,
    Entries,
    Floats,
    Measure,
    baseline_row,
    best_first,
    common_opponent,
    differences,
    entries_by_model,
    model_row,
    separated,
    totals,
)
from rlaif.evals.leaderboard_strengths import add_strengths, add_style_control
from rlaif.evals.length_tables import LengthControl, LengthData, head_to_heads, length_controlled
from rlaif.evals.reading import (
    ABSENT,
    Names,
    chosen_judges,
    column,
    model_of,
    question_of,
    stratum_of,
)
from rlaif.stats.clusters import upper_tail_point
from rlaif.stats.pair_likelihood import Ties
from rlaif.stats.ranks import (
    agreement_with_confidence,
    kendall_tau,
    pair_rank_brier,
    spearman,
)
from rlaif.stats.style import FEATURES, count_style, style_differences
from rlaif.types import CAUSES, Candidate, Item, Verdict

STRATA = ("turn", "category")
"""What a leaderboard is divided by where the items' meta has it."""
_HARD = {"A": 1.0, "tie": 0.5, "B": 0.0}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a leaderboard shows."""

    baseline: str | None = None
    """The other side of every win rate; None takes all opponents."""
    by_strength: bool = False
    """Order the rows by strength, and refuse data that leave strengths without a finite value."""
    ties: Ties = "half"
    """How a tie enters the strengths; `half` also takes soft verdicts as they are."""
    elo: bool = False
    """Add strengths on the Elo scale, 400 / ln 10 a nat, mean 1000."""
    length_control: LengthControl | None = None
    level: float = 0.95
    """Confidence of every interval."""
    rounds: int = 1000
    """Resamples behind the errors that are bootstrapped."""
    seed: int = 0


class LeaderboardTable:
    """Columns of verdicts, and the leaderboards they give.

    Args:
        strata: Names in the items' meta to divide by.
        style: Whether to count length, headers, lists and bold spans of each response, for style
            control.
    """

    def __init__(self, strata: Sequence[str] = STRATA, *, style: bool = False) -> None:
        self._kind: str | None = None
        self._judges, self._models, self._questions = Names(), Names(), Names()
        self._strata = {name: Names() for name in strata}
        self._scale: tuple[float, float] | None = None
        self._judge, self._question = array("i"), array("i")
        self._a, self._b = array("i"), array("i")
        self._value, self._hard = array("d"), array("d")
        self._cause, self._consistent = array("b"), array("b")
        self._length_a, self._length_b = array("q"), array("q")
        self._stratum = {name: array("i") for name in strata}
        self._style = [array("d") for _ in FEATURES] if style else None
        self._own_pairs = 0

    def add(self, verdict: Verdict) -> None:
        """Keep what the table needs of one verdict.

        Raises:
            SpecError: its kind or its scale is not that of the verdicts before it, or a stratum
                has an empty value; a ranking does not name each candidate; style is to be counted
                and a response has no text.
        """
        if self._kind is None:
            self._kind = verdict.kind
        if verdict.kind != self._kind:
            raise SpecError(f"a {verdict.kind} in a table of {self._kind}s", field="kind")
        strata = [stratum_of(verdict.item, name) for name in self._strata]
        if verdict.kind == "score":
            self._add_score(verdict, strata)
        elif verdict.kind == "comparison":
            preference = verdict.preference
            soft = math.nan if preference is None else preference.p_a
            hard = math.nan if preference is None else _HARD[preference.winner]
            self._add_pair(verdict, verdict.candidates, (soft, hard), strata)
        else:
            self._add_ranking(verdict, strata)

    def _add_score(self, verdict: Verdict, strata: Sequence[str | None]) -> None:
        score = verdict.score
        if score is not None:
            self._check_scale(score.value, score.min, score.max)
        value = math.nan if score is None else score.value
        self._append(verdict, strata, self._models.number(model_of(verdict.candidates[0])), ABSENT)
        self._value.append(value)
        self._hard.append(value)
        self._consistent.append(True)
        self._length_a.append(ABSENT)
        self._length_b.append(ABSENT)

    def _check_scale(self, value: float, low: float, high: float) -> None:
        if self._scale is None:
            self._scale = (low, high)
        # a grade outside its scale widens it, as importers of other tools' files record it
        if (low, high) != self._scale and value not in {low, high}:
            known = f"{self._scale[0]:g} to {self._scale[1]:g}"
            raise SpecError(f"a scale of {low:g} to {high:g} among {known}", field="score")

    def _add_pair(
        self,
        verdict: Verdict,
        pair: Sequence[Candidate],
        outcome: tuple[float, float],
        strata: Sequence[str | None],
    ) -> None:
        a, b = (model_of(candidate) for candidate in pair)
        if a == b:  # two draws of one model say nothing about its rank
            self._own_pairs += 1
            return
        style = None if self._style is None else _style_difference(pair)
        self._append(verdict, strata, self._models.number(a), self._models.number(b))
        self._value.append(outcome[0])
        self._hard.append(outcome[1])
        preference = verdict.preference
        self._consistent.append(preference is None or preference.consistent)
        self._length_a.append(_length(verdict.item, pair[0]))
        self._length_b.append(_length(verdict.item, pair[1]))
        for values, value in zip(self._style or (), style or (), strict=True):
            values.append(value)

    def _add_ranking(self, verdict: Verdict, strata: Sequence[str | None]) -> None:
        """A ranking counts as the comparisons it implies."""
        ranking = verdict.ranking
        if ranking and sorted(ranking.order) != sorted(c.id for c in verdict.candidates):
            raise SpecError("does not name each candidate once", field="ranking.order")
        place = {} if ranking is None else {name: n for n, name in enumerate(ranking.order)}
        for pair in combinations(verdict.candidates, 2):
            won = math.nan if ranking is None else float(place[pair[0].id] < place[pair[1].id])
            self._add_pair(verdict, pair, (won, won), strata)

    def _append(self, verdict: Verdict, strata: Sequence[str | None], a: int, b: int) -> None:
        self._judge.append(self._judges.number(verdict.judge.model))
        self._question.append(self._questions.number(question_of(verdict.item)))
        self._a.append(a)
        self._b.append(b)
        self._cause.append(ABSENT if verdict.cause is None else CAUSES.index(verdict.cause))
        for (name, known), value in zip(self._strata.items(), strata, strict=True):
            self._stratum[name].append(ABSENT if value is None else known.number(value))

    def result(
        self,
        settings: Settings | None = None,
        *,
        judge: str | None = None,
        judges: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """The leaderboard as `rlaif leaderboard --json` prints it; fractions lie in [0, 1].

        Each row has `model`, `n`, `coverage`, `causes`, `low` and `high`; score runs `score`,
        comparison runs `win_rate`, `win_rate_se` (clustered by prompt; s / sqrt(n) with one row a
        prompt), `discrete_win_rate`, counts of `wins`, `ties` and `losses` (`swap_rule` counts as
        MT-Bench does: what the orders disagree about is a tie), and where all are
        connected `strength` in nats with its own `strength_low` and `strength_high`; with length
        control `lc_win_rate` and `lc_win_rate_se`. `by` divides the leading figure by turn,
        category or other strata, `by_interval` adds their n, coverage and interval.
        `differences` compares neighbors in the table prompt by prompt, which separates models whose
        intervals overlap.

        Args:
            settings: What to show.
            judge: The judge to keep, as in `chosen_judges`.
            judges: Their names, where they were chosen before.

        Raises:
            DataError: there is nothing to rank, or strengths were asked for and have no finite
                value.
            ConfigError: the judge or the baseline is not there: names the nearest.
            SpecError: there are several judges and none is chosen.
        """
        settings = settings or Settings()
        upper_tail_point(settings.level)
        if not len(self._judge):
            raise DataError(
                "every comparison is of a model with itself" if self._own_pairs else "no verdicts"
            )
        picked = judges or chosen_judges(dict.fromkeys(self._judges.all()), judge)
        columns = self._columns(picked)
        measure: Measure = "score" if self._kind == "score" else "win_rate"
        made: dict[str, Any] = {
            "kind": "score" if measure == "score" else "comparison",
            "judge": picked[0] if len(picked) == 1 else f"{len(picked)} judges: {judge}",
            "level": settings.level,
            "interval_of": measure,
            "seed": settings.seed,
            "prompts": int(np.unique(columns.question).size),
            "verdicts": totals(columns, own_pairs=self._own_pairs),
        }
        if measure == "score":
            return made | self._scores(columns, settings)
        return made | self._win_rates(columns, settings)

    def _columns(self, judges: Sequence[str]) -> Columns:
        known = self._judges.all()
        kept = np.isin(column(self._judge), [n for n, name in enumerate(known) if name in judges])
        if not kept.any():
            raise DataError(f"no verdict is by {', '.join(judges)}")
        return Columns(
            models=self._models.all(),
            questions=self._questions.all(),
            a=column(self._a)[kept],
            b=column(self._b)[kept],
            value=column(self._value)[kept],
            hard=column(self._hard)[kept],
            question=column(self._question)[kept],
            cause=column(self._cause)[kept],
            consistent=column(self._consistent)[kept] != 0,
            length_a=column(self._length_a)[kept],
            length_b=column(self._length_b)[kept],
            style=None if self._style is None else self._style_columns(kept),
            strata={
                name: (known.all(), column(self._stratum[name])[kept])
                for name, known in self._strata.items()
            },
        )

    def _style_columns(self, kept: NDArray[np.bool_]) -> Floats:
        return np.column_stack([column(values)[kept] for values in self._style or ()])

    def _scores(self, columns: Columns, settings: Settings) -> dict[str, Any]:
        if settings.baseline or settings.by_strength or settings.length_control:
            raise ConfigError("scores have no opponents: win rates and strengths need comparisons")
        by_model = entries_by_model(columns)
        rows = {
            name: model_row(name, part, "score", settings.level, self._scale)
            for name, part in by_model.items()
        }
        listed = best_first(rows.values(), "score")
        return {
            "rows": listed,
            "separability": separated(listed),
            "differences": differences(listed, by_model, settings.level),
        }

    def _win_rates(self, columns: Columns, settings: Settings) -> dict[str, Any]:
        baseline = settings.baseline
        if baseline is None and settings.length_control is not None:
            baseline = common_opponent(columns)
        if baseline is not None and baseline not in columns.present():
            near = suggestion(baseline, columns.present())
            raise ConfigError(f"no comparison has the baseline '{baseline}': {near}")
        opponent = None if baseline is None else columns.models.index(baseline)
        by_model = entries_by_model(columns, opponent)
        rows = {
            name: model_row(name, part, "win_rate", settings.level, None)
            for name, part in by_model.items()
        }
        made: dict[str, Any] = {"baseline": baseline}
        if settings.length_control is not None:
            _add_length_control(rows, by_model, columns, settings.length_control, settings)
            made["length_control"] = settings.length_control.mode
            if settings.length_control.mode == "weights":
                asked = np.unique(np.concatenate([its.question for its in by_model.values()]))
                prompts = [columns.questions[n] for n in asked.tolist()]
                made["lc_head_to_head"] = head_to_heads(
                    settings.length_control, list(by_model), prompts
                )
        if baseline is not None:
            rows[baseline] = baseline_row(baseline, by_model.values())
            if settings.length_control is not None:
                rows[baseline] |= {"lc_win_rate": 0.5, "lc_win_rate_se": 0.0}
            made["without_baseline"] = sorted(set(columns.present()) - set(rows))
        made["strengths"] = add_strengths(
            rows,
            columns,
            ties=settings.ties,
            level=settings.level,
            elo=settings.elo,
            required=settings.by_strength or settings.ties != "half",
        )
        if columns.style is not None:
            made["style"] = add_style_control(rows, columns, settings.level, baseline)
        made["separability"] = separated(list(rows.values()))
        first = (
            "strength"
            if settings.by_strength
            else "lc_win_rate"
            if settings.length_control
            else "win_rate"
        )
        listed = best_first(rows.values(), first)
        compared = [row for row in listed if row["model"] in by_model]
        return made | {
            "rows": listed,
            "differences": differences(compared, by_model, settings.level),
        }


def leaderboard(
    verdicts: Iterable[Verdict], settings: Settings | None = None, *, judge: str | None = None
) -> dict[str, Any]:
    """The leaderboard of `verdicts`: `LeaderboardTable.result` of them all."""
    table = LeaderboardTable()
    for verdict in verdicts:
        table.add(verdict)
    return table.result(settings, judge=judge)


def _add_length_control(
    rows: Mapping[str, dict[str, Any]],
    by_model: Mapping[str, Entries],
    columns: Columns,
    control: LengthControl,
    settings: Settings,
) -> None:
    data = {
        name: LengthData(
            [columns.questions[n] for n in entries.question.tolist()],
            entries.value,
            entries.length,
            entries.opponent_length,
        )
        for name, entries in by_model.items()
    }
    found = length_controlled(
        control, data, rounds=settings.rounds, seed=settings.seed, level=settings.level
    )
    for name, figures in found.items():
        rows[name].update(figures)


def _length(item: Item, candidate: Candidate) -> int:
    """Characters of a response, from its text or, where that is absent, from the item's meta."""
    if candidate.response:
        return len(candidate.text)
    lengths = item.meta.get("lengths")
    known = lengths.get(model_of(candidate)) if isinstance(lengths, Mapping) else None
    return int(known) if isinstance(known, int | float) and known >= 0 else ABSENT


def _style_difference(pair: Sequence[Candidate]) -> list[float]:
    """How much longer and more marked up the first response is than the second, by `FEATURES`.

    Raises:
        SpecError: the record has no text to look at.
    """
    if not all(candidate.response for candidate in pair):
        raise SpecError("style control needs the text of both responses", field="candidates")
    first, second = (count_style(candidate.text) for candidate in pair)
    difference: list[float] = style_differences([first], [second])[0].tolist()
    return difference


def compared(made: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """How far a leaderboard ranks and separates models as a reference does.

    Args:
        made: Of `LeaderboardTable.result`.
        reference: Another one; models that are not in both are left out.

    Raises:
        DataError: fewer than two models are in both, or one side gives them all one figure.
    """
    figures = {row["model"]: row for row in reference["rows"]}
    pairs = [
        (row, figures[row["model"]])
        for row in made["rows"]
        if row["model"] in figures
        and row["low"] is not None
        and figures[row["model"]]["low"] is not None
    ]
    if len(pairs) < 2:
        raise DataError(f"the leaderboards share {len(pairs)} models with figures, not two")
    ours, theirs = [row for row, _ in pairs], [row for _, row in pairs]
    name, other = made["interval_of"], reference["interval_of"]
    ends = [[row[end] for row in side] for side in (ours, theirs) for end in ("low", "high")]
    sure = agreement_with_confidence(*ends)
    values = [row[name] for row in ours]
    reference_values = [row[other] for row in theirs]
    variances = [(row[f"{name}_se"] or 0.0) ** 2 for row in ours]
    return {
        "judge": reference["judge"],
        "models": len(pairs),
        "kendall_tau": kendall_tau(values, reference_values),
        "spearman": spearman(values, reference_values),
        "agreement_with_confidence": sure.value,
        "pairs": sure.pairs,
        "brier": pair_rank_brier(values, variances, reference_values).value,
    }
