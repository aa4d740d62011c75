"""Win rates at equal length: AlpacaEval 2's model, and the same control on prompts of one's own.

    from rlaif.stats.length_control import LengthWeights, head_to_head, weighted_win_rate

    strong, weak = LengthWeights(-1.1, 0.7, 0.9), LengthWeights(-2.2, 1.0, -3.7)
    difficulty = [-0.4, 0.0, 1.3]                    # of each prompt, as published
    assert weighted_win_rate(strong, difficulty).value > 0.5
    assert head_to_head(strong, weak, difficulty) > 0.9

Four quantities that are not one another; print none under another's name:

- `weighted_win_rate`: from published weights, with the published difficulties.
- `refit_win_rate`: the weights fitted anew, with the published difficulties.
- `rlaif.stats.length_joint.joint_win_rates`: several models on any prompts, the difficulty of each
  estimated with them.
- `length_only_win_rate` and `length_ratio_win_rate`: one model, no difficulty at all.

Lengths are in characters and always given baseline first. The length term is tanh of their
difference (baseline minus model) in standard deviations, so far apart is as good as very far.

Reference:
    Dubois et al. 2024, "Length-controlled AlpacaEval" (2404.04475), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from rlaif.errors import DataError
from rlaif.stats.clusters import cluster_numbers, finite_vector
from rlaif.stats.length_columns import (
    Floats,
    Resampling,
    checked_lengths,
    checked_outcomes,
    length_term,
    need_same_size,
)
from rlaif.stats.length_fit import LengthProblem, bootstrap_fit, fit_problem
from rlaif.stats.numeric import sigmoid

C_GRID = tuple(float(10 ** (-4 + 8 * k / 9)) for k in range(10))
"""Inverse strengths of the L1 penalty that the published fits chose from."""
DEFAULT_C = C_GRID[6]
"""21.54: of the two values that published fits use (the other is 2.78, `C_GRID[5]`), the one that
stays within 0.1 points of every published figure when it is used for all models."""


@dataclass(frozen=True, slots=True)
class LengthWeights:
    """Log-odds of a model against the baseline: length * t + difficulty * d + constant."""

    length: float
    """Nats per unit of the length term; below 0 where longer responses win."""
    difficulty: float
    """Nats per unit of the prompt's difficulty."""
    constant: float
    """Nats at equal length and difficulty 0."""


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A win rate at equal length; all in [0, 1] but the counts."""

    value: float
    method: Literal["weights", "refit", "length only", "length ratio", "joint"]
    """How it was had: figures of different methods are different quantities."""
    win_rate: float | None
    """The raw win rate, where outcomes were given."""
    lc_standard_error: float | None
    """s / sqrt(n) of the predictions, as published: only their spread over prompts, about half of
    the true error."""
    se: float | None
    """Bootstrap over prompts with a refit each round; None where nothing was fitted or drawn."""
    low: float | None
    high: float | None
    n: int
    """Outcomes."""
    n_prompts: int
    weights: LengthWeights | None
    """None for the methods that have other coefficients."""

    @property
    def suspicious(self) -> bool:
        """Whether the fit has probably failed: the value lies too far from the raw win rate.

        The published rule: beyond a quarter of the way to 0 or 1, and beyond 10 points.
        """
        if self.win_rate is None:
            return False
        raw = self.win_rate
        return self.value < min(0.75 * raw, raw - 0.1) or self.value > max(
            raw + 0.25 * (1 - raw), raw + 0.1
        )


def weighted_win_rate(weights: LengthWeights, difficulty: ArrayLike) -> LengthControlled:
    """The win rate at equal length that published weights imply: mean sigmoid(constant + psi d).

    Args:
        weights: As published for the model.
        difficulty: Shape (n,), of each prompt, as published.

    Raises:
        DataError: there are no prompts, or a difficulty is not finite.
    """
    predicted = _predict(weights, finite_vector(difficulty))
    return LengthControlled(
        value=float(predicted.mean()),
        method="weights",
        win_rate=None,
        lc_standard_error=_spread_error(predicted),
        se=None,
        low=None,
        high=None,
        n=predicted.size,
        n_prompts=predicted.size,
        weights=weights,
    )


def head_to_head(model: LengthWeights, other: LengthWeights, difficulty: ArrayLike) -> float:
    """The win rate at equal length of one model against another, from their weights, in [0, 1].

    Args:
        model: Weights against the common baseline.
        other: The same of the other model.
        difficulty: Shape (n,), of each prompt.

    Raises:
        DataError: there are no prompts, or a difficulty is not finite.
    """
    d = finite_vector(difficulty)
    log_odds = model.constant - other.constant + (model.difficulty - other.difficulty) * d
    return float(sigmoid(log_odds).mean())


def refit_win_rate(
    outcomes: ArrayLike,
    baseline_lengths: ArrayLike,
    model_lengths: ArrayLike,
    difficulty: ArrayLike,
    *,
    c: float = DEFAULT_C,
    gamed_rows: bool = True,
    prompts: Sequence[Hashable] | None = None,
    rounds: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> LengthControlled:
    """The win rate at equal length with weights fitted to this model's outcomes.

    Minimizes the logistic loss on soft outcomes, plus that of two length-gamed copies of the
    baseline at weight 0.1 a row, plus (|phi| + |psi| + |theta|) / c.

    Args:
        outcomes: Shape (n,), in [0, 1]: P(model preferred), a tie 0.5.
        baseline_lengths: Shape (n,), characters of the baseline's responses.
        model_lengths: Shape (n,), characters of the model's responses.
        difficulty: Shape (n,), of the prompt of each row, looked up by prompt and never by place.
        c: Inverse strength of the penalty; `math.inf` for none.
        gamed_rows: Whether to add the gamed copies, as the published fits do.
        prompts: The prompt of each row, length n; None takes each row as a prompt of its own.
        rounds: Resamples of prompts, each refitted (the length term keeps its scale); under 2 for
            none.
        seed: Seed of the resamples.
        level: Confidence of the percentile interval.

    Raises:
        DataError: shapes differ, a value is out of range or not finite, `c` is not positive,
            `rounds` is negative, or the fit has no finite optimum.
    """
    y = checked_outcomes(outcomes)
    t = length_term(baseline_lengths, model_lengths)
    d = finite_vector(difficulty)
    need_same_size(y, t, d)
    if not c > 0:
        raise DataError(f"c is {c}, not positive")
    problem = LengthProblem(np.column_stack([t, d, np.ones(y.size)]), y, 1 / c, gamed_rows)

    def value(coefficients: Floats, row_weights: Floats) -> Floats:
        predicted = sigmoid(coefficients[:, 1:2] * d + coefficients[:, 2:3])
        return np.asarray((predicted * row_weights).sum(axis=1) / row_weights.sum(axis=1))

    fit = fit_problem(problem, np.ones(y.size))
    weights = LengthWeights(*(float(v) for v in fit))
    numbers = cluster_numbers(prompts, y.size)
    se, low, high = bootstrap_fit(problem, fit, value, Resampling(numbers, rounds, seed, level))
    return LengthControlled(
        value=float(_predict(weights, d).mean()),
        method="refit",
        win_rate=float(y.mean()),
        lc_standard_error=_spread_error(_predict(weights, d)),
        se=se,
        low=low,
        high=high,
        n=y.size,
        n_prompts=int(numbers.max()) + 1,
        weights=weights,
    )


def length_only_win_rate(
    outcomes: ArrayLike,
    baseline_lengths: ArrayLike,
    model_lengths: ArrayLike,
    *,
    prompts: Sequence[Hashable] | None = None,
    rounds: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> LengthControlled:
    """The win rate at equal length without difficulties: sigmoid(theta) of theta + phi t.

    One logistic fit, no penalty. It is the chance on a prompt of no particular difficulty, so it
    differs from `refit_win_rate` wherever prompts differ.

    Args and errors are those of `refit_win_rate`.
    """
    y, t = checked_outcomes(outcomes), length_term(baseline_lengths, model_lengths)
    need_same_size(y, t)
    columns = np.column_stack([t, np.ones(y.size)])
    resampling = Resampling(cluster_numbers(prompts, y.size), rounds, seed, level)
    return _one_model("length only", columns, y, np.array([0.0, 1.0]), resampling)


def length_ratio_win_rate(
    outcomes: ArrayLike,
    baseline_lengths: ArrayLike,
    model_lengths: ArrayLike,
    *,
    prompts: Sequence[Hashable] | None = None,
    rounds: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> LengthControlled:
    """The win rate that a logistic fit on the length ratio model / baseline predicts at ratio 1.

    The simplest correction, and the weakest: no prompt differs from another.

    Args and errors are those of `refit_win_rate`; a baseline of length 0 has no ratio (DataError).

    Reference:
        Lee et al. 2023, "RLAIF" (2309.00267), appendix on length correction.
    """
    y = checked_outcomes(outcomes)
    baseline, model = checked_lengths(baseline_lengths, model_lengths)
    need_same_size(y, baseline)
    if (baseline == 0).any():
        raise DataError("a baseline response is empty: no length ratio")
    columns = np.column_stack([model / baseline, np.ones(y.size)])
    resampling = Resampling(cluster_numbers(prompts, y.size), rounds, seed, level)
    return _one_model("length ratio", columns, y, np.array([1.0, 1.0]), resampling)


def _predict(weights: LengthWeights, d: Floats) -> Floats:
    return sigmoid(weights.constant + weights.difficulty * d)


def _spread_error(predicted: Floats) -> float | None:
    if predicted.size < 2:
        return None
    return float(predicted.std(ddof=1) / math.sqrt(predicted.size))


def _one_model(
    method: Literal["length only", "length ratio"],
    columns: Floats,
    y: Floats,
    at: Floats,
    resampling: Resampling,
) -> LengthControlled:
    """The prediction of an unpenalized fit at the one point `at`."""
    problem = LengthProblem(columns, y, 0.0, gamed=False)
    fit = fit_problem(problem, np.ones(y.size))
    se, low, high = bootstrap_fit(problem, fit, lambda w, _: sigmoid(w @ at), resampling)
    return LengthControlled(
        value=sigmoid(float(fit @ at)),
        method=method,
        win_rate=float(y.mean()),
        lc_standard_error=None,
        se=se,
        low=low,
        high=high,
        n=y.size,
        n_prompts=resampling.n_clusters,
        weights=None,
    )
