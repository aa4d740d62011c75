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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from rlaif.errors import ConfigError, DataError, SpecError, suggestion
from rlaif.evals.leaderboard_control import JudgmentRows
from rlaif.evals.leaderboard_counts import (
    SCORED,
    Columns,
    JudgmentCounts,
    entries_by_model,
    outcome_of,
    question_key,
    without_verdict,
)
from rlaif.evals.leaderboard_rows import (
    Measure,
    baseline_row,
    best_first,
    common_opponent,
    differences,
    model_row,
    separated,
    totals,
)
from rlaif.evals.leaderboard_strengths import add_strengths
from rlaif.evals.length_tables import LengthControl, head_to_heads, length_controlled
from rlaif.evals.reading import ABSENT, Names, chosen_judges, model_of, question_of, stratum_of
from rlaif.stats.clusters import upper_tail_point
from rlaif.stats.pair_likelihood import Ties
from rlaif.stats.ranks import (
    agreement_with_confidence,
    kendall_tau,
    pair_rank_brier,
    spearman,
)
from rlaif.types import Candidate, Item, Verdict, Winner

STRATA = ("turn", "category")
"""What a leaderboard is divided by where the items' meta has it."""
_UNKNOWN = (math.nan, math.nan)


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
    """Counts of verdicts, and the leaderboards they give.

    Args:
        strata: Names in the items' meta to divide by.
        lengths: Whether to keep each comparison by itself, for length control.
        style: Whether to count length, headers, lists and bold spans of each response too, for
            style control.
    """

    def __init__(
        self, strata: Sequence[str] = STRATA, *, lengths: bool = False, style: bool = False
    ) -> None:
        self._kind: str | None = None
        self._judges, self._models = Names(), Names()
        self._strata = {name: Names() for name in strata}
        self._scale: tuple[float, float] | None = None
        self._counts = JudgmentCounts(strata)
        self._rows = JudgmentRows(style=style) if lengths or style else None
        self._style = style
        self._own_pairs = 0

    def add(self, verdict: Verdict) -> None:
        """Count one verdict.

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
            said = None if preference is None else (preference.winner, preference.p_a)
            self._add_pair(verdict, verdict.candidates, said, strata)
        else:
            self._add_ranking(verdict, strata)

    def _add_score(self, verdict: Verdict, strata: Sequence[str | None]) -> None:
        outcome, value = SCORED, 0.0
        if verdict.score is not None:
            value = verdict.score.value
            self._check_scale(value, verdict.score.min, verdict.score.max)
        elif verdict.cause is not None:
            outcome = without_verdict(verdict.cause)
        model = self._models.number(model_of(verdict.candidates[0]))
        question = question_of(verdict.item)
        self._count(verdict, question, (model, ABSENT), outcome, strata, (value, *_UNKNOWN))

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
        said: tuple[Winner, float] | None,
        strata: Sequence[str | None],
    ) -> None:
        """Count a comparison: winner and P(first preferred), or None without a verdict."""
        a, b = (model_of(candidate) for candidate in pair)
        if a == b:  # two draws of one model say nothing about its rank
            self._own_pairs += 1
            return
        preference = verdict.preference
        if said is not None:
            consistent = preference is None or preference.consistent
            outcome, value = outcome_of(said[0], consistent=consistent), said[1]
        elif verdict.cause is not None:
            outcome, value = without_verdict(verdict.cause), 0.0
        item = verdict.item
        lengths = (_length(item, pair[0]), _length(item, pair[1]))
        question, models = question_of(item), (self._models.number(a), self._models.number(b))
        if self._rows is not None:
            value_or_none = math.nan if said is None else said[1]
            judge = self._judges.number(verdict.judge.model)
            self._rows.add(judge, question, models, value_or_none, lengths, pair)
        self._count(verdict, question, models, outcome, strata, (value, *lengths))

    def _add_ranking(self, verdict: Verdict, strata: Sequence[str | None]) -> None:
        """A ranking counts as the comparisons it implies."""
        ranking = verdict.ranking
        if ranking and sorted(ranking.order) != sorted(c.id for c in verdict.candidates):
            raise SpecError("does not name each candidate once", field="ranking.order")
        winners: dict[float, Winner] = {1.0: "A", 0.5: "tie", 0.0: "B"}
        for pair in combinations(verdict.candidates, 2):
            said: tuple[Winner, float] | None = None
            if ranking is not None:
                won = ranking.before(pair[0].id, pair[1].id)
                said = winners[won], won
            self._add_pair(verdict, pair, said, strata)

    def _count(
        self,
        verdict: Verdict,
        question: str,
        models: tuple[int, int],
        outcome: int,
        strata: Sequence[str | None],
        values: tuple[float, float, float],
    ) -> None:
        self._counts.add(
            self._judges.number(verdict.judge.model),
            question_key(question),
            models,
            outcome,
            [
                ABSENT if value is None else known.number(value)
                for known, value in zip(self._strata.values(), strata, strict=True)
            ],
            values,
        )

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
        if not len(self._judges):
            raise DataError(
                "every comparison is of a model with itself" if self._own_pairs else "no verdicts"
            )
        picked = judges or chosen_judges(dict.fromkeys(self._judges.all()), judge)
        numbers = [number for number, name in enumerate(self._judges.all()) if name in picked]
        columns = self._columns(numbers, picked)
        measure: Measure = "score" if self._kind == "score" else "win_rate"
        made: dict[str, Any] = {
            "kind": "score" if measure == "score" else "comparison",
            "judge": picked[0] if len(picked) == 1 else f"{len(picked)} judges: {judge}",
            "level": settings.level,
            "interval_of": measure,
            "seed": settings.seed,
            "prompts": int(columns.question.max()) + 1,
            "verdicts": totals(columns, own_pairs=self._own_pairs),
        }
        if measure == "score":
            return made | self._scores(columns, settings)
        return made | self._win_rates(columns, numbers, settings)

    def _columns(self, judges: Sequence[int], names: Sequence[str]) -> Columns:
        values = {name: known.all() for name, known in self._strata.items()}
        columns = self._counts.columns(judges, self._models.all(), values)
        if not columns.n.size:
            raise DataError(f"no verdict is by {', '.join(names)}")
        return columns

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
            "differences": differences(listed, by_model, settings.level, self._scale or (0.0, 1.0)),
        }

    def _win_rates(
        self, columns: Columns, judges: Sequence[int], settings: Settings
    ) -> dict[str, Any]:
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
        if settings.length_control is not None and opponent is not None:
            made |= self._length_controlled(rows, opponent, judges, settings)
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
        if self._rows is not None and self._style:
            made["style"] = self._rows.add_style_control(
                rows, judges, columns.models, settings.level, baseline
            )
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

    def _length_controlled(
        self,
        rows: Mapping[str, dict[str, Any]],
        opponent: int,
        judges: Sequence[int],
        settings: Settings,
    ) -> dict[str, Any]:
        """Add length-controlled figures to the rows; what else the leaderboard says of them."""
        control = settings.length_control
        if self._rows is None or control is None:
            raise DataError("comparisons were not kept one by one for length control")
        data = self._rows.against(opponent, judges, self._models.all())
        found = length_controlled(
            control, data, rounds=settings.rounds, seed=settings.seed, level=settings.level
        )
        for name, figures in found.items():
            rows[name].update(figures)
        made: dict[str, Any] = {"length_control": control.mode}
        if control.mode == "weights":
            prompts = dict.fromkeys(prompt for its in data.values() for prompt in its.prompts)
            made["lc_head_to_head"] = head_to_heads(control, list(data), list(prompts))
        return made


def leaderboard(
    verdicts: Iterable[Verdict], settings: Settings | None = None, *, judge: str | None = None
) -> dict[str, Any]:
    """The leaderboard of `verdicts`: `LeaderboardTable.result` of them all."""
    table = LeaderboardTable(lengths=settings is not None and settings.length_control is not None)
    for verdict in verdicts:
        table.add(verdict)
    return table.result(settings, judge=judge)


def _length(item: Item, candidate: Candidate) -> float:
    """Characters of a response, from its text or, where that is absent, from the item's meta; NaN
    where neither tells.
    """
    if candidate.response:
        return float(len(candidate.text))
    lengths = item.meta.get("lengths")
    known = lengths.get(model_of(candidate)) if isinstance(lengths, Mapping) else None
    return float(int(known)) if isinstance(known, int | float) and known >= 0 else math.nan


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
