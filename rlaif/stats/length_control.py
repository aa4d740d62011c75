"""Win rates at equal length: AlpacaEval 2's model, and the same control on prompts of one's own.

    from rlaif.stats.length_control import LengthWeights, head_to_head, weighted_win_rate

    strong, weak = LengthWeights(-1.1, 0.7, 0.9), LengthWeights(-2.2, 1.0, -3.7)
    difficulty = [-0.4, 0.0, 1.3]                    # of each prompt, as published
    assert weighted_win_rate(strong, difficulty).value > 0.5
    assert head_to_head(strong, weak, difficulty) > 0.9

Four quantities that are not one another; print none under another's name:

- `weighted_win_rate`: from published weights, with the published difficulties.
- `refit_win_rate`: the weights fitted anew, with the published difficulties.
- `joint_win_rates`: several models on any prompts, the difficulty of each estimated with them.
- `length_only_win_rate` and `length_ratio_win_rate`: one model, no difficulty at all.

Lengths are in characters and always given baseline first. The length term is tanh of their
difference (baseline minus model) in standard deviations, so far apart is as good as very far.

Reference:
    Dubois et al. 2024, "Length-controlled AlpacaEval" (2404.04475), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.stats.clusters import cluster_numbers, finite_vector, upper_tail_point
from rlaif.stats.numeric import sigmoid

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

C_GRID = tuple(float(10 ** (-4 + 8 * k / 9)) for k in range(10))
"""Inverse strengths of the L1 penalty that the published fits chose from."""
DEFAULT_C = C_GRID[6]
"""21.54: of the two values that published fits use (the other is 2.78, `C_GRID[5]`), the one that
stays within 0.1 points of every published figure when it is used for all models."""

_GAMED_WEIGHT = 0.1
_GAMED_POINTS = np.array(
    # length term, difficulty, how many of the gamed rows it stands for
    [
        (-1.00, 0.00, 104.94),
        (-0.99, -1.41, 18.00),
        (-0.99, 2.05, 9.63),
        (-0.98, 2.69, 18.23),
        (-0.66, -1.96, 167.48),
        (-0.62, -0.79, 157.85),
        (-0.25, 1.68, 201.37),
        (-0.21, 3.33, 46.98),
        (-0.02, 5.81, 1.73),
        (0.39, 3.04, 46.37),
        (0.58, -0.39, 264.16),
        (0.63, 3.08, 0.98),
        (0.81, 5.81, 2.34),
        (0.98, 1.83, 26.78),
        (0.99, -2.56, 59.66),
        (0.99, -1.02, 244.77),
        (1.00, 0.69, 136.03),
        (1.00, 3.95, 4.63),
    ]
)
"""The 2 x 805 rows of a verbose and a concise copy of the baseline, condensed: 18 weighted points
whose loss equals theirs for all weights that occur."""
_GAMED_SUMS = np.array([-182.71, 412.94])
"""Sum of label times length term and of label times difficulty over those rows: labels enter a
logistic loss through these sums alone."""

_STEP = 1e-10
_MAX_STEPS = 100
_FLAT = 1e-13
"""A curvature this small beside that of even odds is rounding."""
_LONGEST_STEP = 2.0
_TABLE = 2_000_000
"""Numbers in the largest table of rounds by rows held at once (16 MB)."""
_EM_STEPS = 200
_LEAST_VARIANCE = 1e-8


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


def length_term(baseline_lengths: ArrayLike, model_lengths: ArrayLike) -> Floats:
    """tanh((baseline - model) / s), s the sample standard deviation of the differences, shape (n,).

    Args:
        baseline_lengths: Shape (n,), characters.
        model_lengths: Shape (n,), characters.

    Raises:
        DataError: the shapes differ or are empty, a length is negative or not finite.
    """
    baseline, model = _lengths(baseline_lengths, model_lengths)
    delta = baseline - model
    spread = delta.std(ddof=1) if delta.size > 1 else 0.0
    # All differences equal: length then explains nothing that the constant does not.
    return np.tanh(delta / spread) if spread > 0 else np.zeros(delta.size)


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
    y = _outcomes(outcomes)
    t = length_term(baseline_lengths, model_lengths)
    d = finite_vector(difficulty)
    _same_size(y, t, d)
    if not c > 0:
        raise DataError(f"c is {c}, not positive")
    problem = _Problem(np.column_stack([t, d, np.ones(y.size)]), y, 1 / c, gamed_rows)

    def value(coefficients: Floats, row_weights: Floats) -> Floats:
        predicted = sigmoid(coefficients[:, 1:2] * d + coefficients[:, 2:3])
        return np.asarray((predicted * row_weights).sum(axis=1) / row_weights.sum(axis=1))

    fit = _fit(problem, np.ones(y.size))
    weights = LengthWeights(*(float(v) for v in fit))
    numbers = cluster_numbers(prompts, y.size)
    se, low, high = _bootstrap(problem, fit, value, _Resampling(numbers, rounds, seed, level))
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
    y, t = _outcomes(outcomes), length_term(baseline_lengths, model_lengths)
    _same_size(y, t)
    columns = np.column_stack([t, np.ones(y.size)])
    resampling = _Resampling(cluster_numbers(prompts, y.size), rounds, seed, level)
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
    y = _outcomes(outcomes)
    baseline, model = _lengths(baseline_lengths, model_lengths)
    _same_size(y, baseline)
    if (baseline == 0).any():
        raise DataError("a baseline response is empty: no length ratio")
    columns = np.column_stack([model / baseline, np.ones(y.size)])
    resampling = _Resampling(cluster_numbers(prompts, y.size), rounds, seed, level)
    return _one_model("length ratio", columns, y, np.array([1.0, 1.0]), resampling)


@dataclass(frozen=True, slots=True, eq=False)
class JointLengthControl:
    """Win rates of several models at equal length, prompts taken at the difficulty they show.

    Rates lie in [0, 1], coefficients are in nats.
    """

    values: Floats
    """Shape (n_models,): mean over prompts of P(model preferred) at equal length."""
    se: Floats | None
    """Shape (n_models,): bootstrap over prompts, with a refit each round; None without rounds."""
    low: Floats | None
    high: Floats | None
    win_rates: Floats
    """Shape (n_models,): raw."""
    length: float
    """Coefficient of the length term, a trait of the judge: below 0 where longer responses win."""
    constants: Floats
    """Shape (n_models,): log-odds at equal length on a prompt of middling difficulty."""
    prompt_sd: float
    """Standard deviation of the prompts' effects, nats: 0 where prompts do not differ."""
    n: Ints
    """Shape (n_models,): outcomes of each model."""
    n_prompts: int


def joint_win_rates(
    models: ArrayLike,
    prompts: Sequence[Hashable],
    outcomes: ArrayLike,
    baseline_lengths: ArrayLike,
    model_lengths: ArrayLike,
    n_models: int,
    *,
    rounds: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> JointLengthControl:
    """Win rates at equal length of several models on any prompts, difficulties not needed.

    log-odds of model m on prompt p = length * t + constant_m + effect_p, with effect_p normal
    around 0. All are fitted together; the variance of the effects is the one that maximizes the
    likelihood (Laplace approximation). One coefficient of length serves all models, with t in
    standard deviations over all rows: a model whose responses are all short could not tell what
    length does to it. This is not AlpacaEval's figure, whose difficulties are fixed beforehand.

    Args:
        models: Shape (n,), index of the model of each row.
        prompts: The prompt of each row, length n; the models should share most of them.
        outcomes: Shape (n,), in [0, 1]: P(model preferred to the baseline), a tie 0.5.
        baseline_lengths: Shape (n,), characters.
        model_lengths: Shape (n,), characters.
        n_models: Two or more; models are numbered 0 to n_models - 1, each with some rows.
        rounds: Resamples of prompts (with the full fit's variance of effects); under 2
            for none.
        seed: Seed of the resamples.
        level: Confidence of the percentile interval.

    Raises:
        DataError: shapes differ, a value is out of range or not finite, there is one model or one
            prompt, a model has no rows, or a model won or lost all, so no fit is finite.

    Reference:
        Breslow and Clayton 1993, "Approximate inference in generalized linear mixed models", JASA
        88(421); mean over a normal effect as in MacKay 1992, Neural Computation 4(5), eq. (10).
    """
    y = _outcomes(outcomes)
    index = np.asarray(models)
    numbers = cluster_numbers(prompts, y.size)
    baseline, own = _lengths(baseline_lengths, model_lengths)
    _same_size(y, baseline)
    if n_models < 2:
        raise DataError("one model alone does not tell hard prompts from chance")
    if index.shape != y.shape or index.dtype.kind not in "iu":
        raise DataError(f"model indices are not {y.size} whole numbers")
    if index.min() < 0 or index.max() >= n_models:
        raise DataError(f"a model index lies outside 0 to {n_models - 1}")
    n = np.bincount(index, minlength=n_models)
    if n.min() == 0:
        raise DataError(f"model {int(n.argmin())} has no outcomes")
    resampling = _Resampling(numbers, rounds, seed, level)
    if resampling.n_clusters < 2:
        raise DataError("one prompt has no spread between prompts")
    t = length_term(baseline, own)
    joint = _Joint(index, numbers, t, y, n_models, resampling.n_clusters)
    every_prompt = np.ones(resampling.n_clusters)
    fit = joint.with_variance(every_prompt)
    se, low, high = joint.bootstrap(fit, resampling)
    return JointLengthControl(
        values=joint.values(fit, every_prompt),
        se=se,
        low=low,
        high=high,
        win_rates=np.bincount(index, y, n_models) / n,
        length=float(fit.beta[0]),
        constants=fit.beta[1:],
        prompt_sd=math.sqrt(fit.variance),
        n=n,
        n_prompts=resampling.n_clusters,
    )


class _Problem(NamedTuple):
    """A penalized logistic regression on soft outcomes."""

    columns: Floats
    """Shape (n, k)."""
    y: Floats
    penalty: float
    """Weight of the sum of absolute coefficients."""
    gamed: bool
    """Whether the gamed rows are added; the columns are then length term, difficulty, constant."""


class _Resampling(NamedTuple):
    """How to draw prompts with replacement."""

    numbers: Ints
    """Shape (n,), the prompt of each row."""
    rounds: int
    seed: int
    level: float

    @property
    def n_clusters(self) -> int:
        return int(self.numbers.max()) + 1

    def weights(self) -> Iterator[Floats]:
        """How often each row is drawn, a block of rounds at a time, shape (block, n) each."""
        rng, c = np.random.default_rng(self.seed), self.n_clusters
        block = max(1, _TABLE // self.numbers.size)
        for start in range(0, self.rounds, block):
            count = min(block, self.rounds - start)
            drawn = [np.bincount(rng.integers(c, size=c), minlength=c) for _ in range(count)]
            yield np.array(drawn, dtype=np.float64)[:, self.numbers]


def _lengths(baseline: ArrayLike, model: ArrayLike) -> tuple[Floats, Floats]:
    first, second = finite_vector(baseline), finite_vector(model)
    _same_size(first, second)
    if first.min() < 0 or second.min() < 0:
        raise DataError("a length is negative")
    return first, second


def _outcomes(outcomes: ArrayLike) -> Floats:
    y = finite_vector(outcomes)
    if y.min() < 0 or y.max() > 1:
        raise DataError("an outcome lies outside [0, 1]")
    return y


def _same_size(*vectors: Floats) -> None:
    sizes = {vector.size for vector in vectors}
    if len(sizes) > 1:
        raise DataError(f"columns have different lengths: {sorted(sizes)}")


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
    resampling: _Resampling,
) -> LengthControlled:
    """The prediction of an unpenalized fit at the one point `at`."""
    problem = _Problem(columns, y, 0.0, gamed=False)
    fit = _fit(problem, np.ones(y.size))
    se, low, high = _bootstrap(problem, fit, lambda w, _: sigmoid(w @ at), resampling)
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


def _bootstrap(
    problem: _Problem,
    fit: Floats,
    value: Callable[[Floats, Floats], Floats],
    resampling: _Resampling,
) -> tuple[float | None, float | None, float | None]:
    """Standard error and percentile interval of `value` over refits; (None, None, None) for none.

    Args:
        problem: The problem of the full data.
        fit: Its coefficients, where each refit starts.
        value: The figure, shape (rounds,), from coefficients (rounds, k) and row weights
            (rounds, n).
        resampling: What to draw.
    """
    tail = upper_tail_point(resampling.level)
    if resampling.rounds < 0:
        raise DataError(f"rounds is {resampling.rounds}, not zero or more")
    if resampling.rounds < 2 or resampling.n_clusters < 2:
        return None, None, None
    free = fit != 0
    values = []
    for row_weights in resampling.weights():
        start = np.tile(fit, (len(row_weights), 1))
        found = _newton(problem, row_weights, np.sign(fit), free, start)
        # The full fit's signs nearly always hold; where not, or where a zero may leave 0, anew.
        holds = free.all() & (np.sign(found) == np.sign(fit)).all(axis=1)
        if problem.penalty == 0:
            holds = np.isfinite(found).all(axis=1)
        for k in np.flatnonzero(~holds):
            found[k] = _fit(problem, row_weights[k])
        values.append(value(found, row_weights))
    drawn = np.concatenate(values)
    low, high = np.quantile(drawn, [1 - tail, tail])
    return float(drawn.std(ddof=1)), float(low), float(high)


def _fit(problem: _Problem, row_weights: Floats) -> Floats:
    """The coefficients at the optimum for rows of these weights, shape (k,).

    An L1 penalty is linear once the signs are known. They are first those of the fit without it;
    a coefficient whose sign does not hold becomes 0, and one that would leave 0 is let go. The
    loss is strictly convex, so just one pattern of signs is optimal: should that walk not end, all
    are tried.

    Raises:
        DataError: there is no finite optimum.
    """
    k = problem.columns.shape[1]
    weights, zeros = row_weights[None, :], np.zeros((1, k))
    start: Floats = _newton(problem, weights, zeros[0], np.ones(k, dtype=bool), zeros)[0]
    if problem.penalty == 0:
        if not np.isfinite(start).all():
            raise DataError("no finite fit: length (or difficulty) separates wins from losses")
        return start
    signs = np.sign(np.nan_to_num(start))
    for _ in range(3 * k):
        found, better = _fit_signs(problem, weights, signs)
        if (better == signs).all():
            return found
        if np.isnan(better).any():
            break
        signs = better
    for signs in (np.array(pattern) for pattern in product((-1.0, 0.0, 1.0), repeat=k)):
        found, better = _fit_signs(problem, weights, signs)
        if (better == signs).all():
            return found
    raise DataError("no finite fit: the outcomes do not determine the weights")


def _fit_signs(problem: _Problem, row_weights: Floats, signs: Floats) -> tuple[Floats, Floats]:
    """The optimum for these signs, and the signs it asks for: the same where it is the optimum."""
    k = signs.size
    found: Floats = _newton(problem, row_weights, signs, signs != 0, np.zeros((1, k)))[0]
    if not np.isfinite(found).all():
        return found, np.full(k, np.nan)
    held = np.where(np.sign(found) == signs, signs, 0.0)
    if (held != signs).any():
        return found, held
    slope = _slope(problem, row_weights, found[None, :])[0][0]
    leaves = (signs == 0) & (np.abs(slope) > problem.penalty * (1 + 1e-9))
    return found, np.where(leaves, -np.sign(slope), signs)


def _slope(problem: _Problem, row_weights: Floats, at: Floats) -> tuple[Floats, Floats]:
    """First derivatives (rounds, k) and second ones (rounds, k, k) of the loss without penalty."""
    k = problem.columns.shape[1]
    slope, curve = _row_sums(problem.columns, problem.y, row_weights, at)
    if problem.gamed:
        t, d, count = _GAMED_POINTS.T
        columns = np.column_stack([t, d, np.zeros(t.size)])
        weight = np.tile(_GAMED_WEIGHT * count, (len(at), 1))
        # With labels 0 the points give sum p x; the labels' share is the known sums.
        more_slope, more_curve = _row_sums(columns, np.zeros(t.size), weight, at)
        slope += more_slope
        slope[:, :2] -= _GAMED_WEIGHT * _GAMED_SUMS
        curve += more_curve
    return slope, curve.reshape(-1, k, k)


def _row_sums(columns: Floats, y: Floats, row_weights: Floats, at: Floats) -> tuple[Floats, Floats]:
    k = columns.shape[1]
    p = sigmoid(at @ columns.T)
    slope = (row_weights * (p - y)) @ columns
    products = (columns[:, :, None] * columns[:, None, :]).reshape(-1, k * k)
    return slope, (row_weights * p * (1 - p)) @ products


def _newton(
    problem: _Problem, row_weights: Floats, signs: Floats, free: NDArray[np.bool_], start: Floats
) -> Floats:
    """Minima for fixed signs of the coefficients, one a row of `row_weights`, shape (rounds, k).

    Args:
        problem: What to minimize.
        row_weights: Shape (rounds, n).
        signs: Shape (k,), what the penalty takes as the signs.
        free: Shape (k,); the other coefficients stay 0.
        start: Shape (rounds, k).

    Rows that have not arrived are NaN.
    """
    at = start.copy()
    todo = np.arange(len(at))
    k = signs.size
    fixed = np.diag(np.where(free, 0.0, 1.0))
    spread = (problem.columns**2).sum(axis=0)
    unit = np.where(free & (spread > 0), 2 / np.sqrt(np.maximum(spread, 1e-300)), 1.0)
    for _ in range(_MAX_STEPS):
        slope, curve = _slope(problem, row_weights[todo], at[todo])
        slope = np.where(free, slope + problem.penalty * signs, 0.0)
        curve = np.where(free[:, None] & free[None, :], curve, 0.0) + fixed
        # A trace of damping lets a singular round fail alone; it moves no optimum.
        trace = np.trace(curve, axis1=1, axis2=2)[:, None, None]
        damping = np.maximum(1e-13 * trace, 1e-100) * np.eye(k)
        step = np.linalg.solve(curve + damping, slope[:, :, None])[:, :, 0]
        size = np.abs(step).max(axis=1, keepdims=True)
        at[todo] -= step * np.minimum(1.0, _LONGEST_STEP / np.maximum(size, _LONGEST_STEP))
        arrived = size[:, 0] < _STEP
        if arrived.any():
            # Where wins and losses are told apart completely, only rounding ends the walk.
            arrived &= np.linalg.eigvalsh(curve * unit[:, None] * unit)[:, 0] >= _FLAT
        todo = todo[~arrived]
        if not todo.size:
            return at
    at[todo] = np.nan
    return at


class _JointFit(NamedTuple):
    beta: Floats
    """Shape (1 + n_models,): coefficient of length, then constants."""
    effects: Floats
    """Shape (n_prompts,)."""
    variance: float
    """Of the effects."""
    given_models: Floats
    """Shape (n_prompts,): posterior variance of each effect with the models' numbers known."""
    posterior: Floats
    """Shape (n_prompts,): the same with the models' numbers unknown too."""


class _Joint:
    """The joint fit: Newton's method on models and prompts, prompts eliminated first."""

    def __init__(
        self, models: Ints, prompts: Ints, t: Floats, y: Floats, n_models: int, n_prompts: int
    ) -> None:
        self._models = models
        self._prompts = prompts
        self._t = t
        self._y = y
        self._n_models = n_models
        self._n_prompts = n_prompts

    def with_variance(self, drawn: Floats) -> _JointFit:
        """The fit with the variance of effects that expectation-maximization settles on."""
        start = _JointFit(np.zeros(1 + self._n_models), np.zeros(drawn.size), 1.0, drawn, drawn)
        fit = self.refit(start, drawn)
        for _ in range(_EM_STEPS):
            variance = max(float((fit.effects**2 + fit.posterior).mean()), _LEAST_VARIANCE)
            settled = abs(variance - fit.variance) <= 1e-6 * max(fit.variance, 1e-3)
            fit = self.refit(fit._replace(variance=variance), drawn)
            if settled:
                break
        return fit

    def refit(self, start: _JointFit, drawn: Floats) -> _JointFit:
        """The fit for prompts that were drawn so often, shape (n_prompts,), at `start`'s variance.

        Raises:
            DataError: there is no finite optimum.
        """
        beta, effects = start.beta.copy(), start.effects.copy()
        prior = np.where(drawn > 0, drawn, 1.0) / start.variance  # one not drawn must stay at 0
        weight = drawn[self._prompts]
        for _ in range(_MAX_STEPS):
            slope, effect_slope, curve, cross, effect_curve = self._system(
                beta, effects, weight, prior
            )
            shared = cross / effect_curve
            try:
                inverse = np.linalg.inv(curve - shared @ cross.T)
            except np.linalg.LinAlgError:
                break
            step = inverse @ (slope - shared @ effect_slope)
            effect_step = (effect_slope - cross.T @ step) / effect_curve
            size = max(np.abs(step).max(), np.abs(effect_step).max())
            damping = min(1.0, _LONGEST_STEP / max(size, _LONGEST_STEP))
            beta -= damping * step
            effects -= damping * effect_step
            if size < 1e-8:
                given = 1 / effect_curve
                posterior = given + np.einsum("mp,mk,kp->p", shared, inverse, shared, optimize=True)
                return _JointFit(beta, effects, start.variance, given, posterior)
        raise DataError("no finite fit: a model won or lost all, or length tells its wins apart")

    def _system(
        self, beta: Floats, effects: Floats, weight: Floats, prior: Floats
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """First and second derivatives of the loss: of models, prompts and both."""
        m, p, t, k = self._models, self._prompts, self._t, self._n_models
        q = sigmoid(beta[0] * t + beta[1 + m] + effects[p])
        miss, v = weight * (q - self._y), weight * q * (1 - q)
        slope = np.concatenate([[miss @ t], np.bincount(m, miss, k)])
        effect_slope = np.bincount(p, miss, self._n_prompts) + prior * effects
        edge = np.bincount(m, v * t, k)
        curve = np.diag(np.concatenate([[v @ (t * t)], np.bincount(m, v, k)]))
        curve[0, 1:] = curve[1:, 0] = edge
        cross = np.empty((1 + k, self._n_prompts))
        cross[0] = np.bincount(p, v * t, self._n_prompts)
        cross[1:] = np.bincount(m * self._n_prompts + p, v, cross[1:].size).reshape(k, -1)
        effect_curve = np.bincount(p, v, self._n_prompts) + prior
        return slope, effect_slope, curve, cross, effect_curve

    def values(self, fit: _JointFit, drawn: Floats) -> Floats:
        """Mean over prompts of P(model preferred) at equal length, shape (n_models,)."""
        # The mean of a sigmoid over a normal: a known effect would be too sure of itself.
        shrink = 1 / np.sqrt(1 + math.pi / 8 * fit.given_models)
        log_odds = (fit.beta[1:, None] + fit.effects) * shrink
        return np.asarray(sigmoid(log_odds) @ drawn / drawn.sum())

    def bootstrap(
        self, fit: _JointFit, resampling: _Resampling
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        """Standard errors and percentiles of `values`, shape (n_models,) each."""
        tail = upper_tail_point(resampling.level)
        if resampling.rounds < 0:
            raise DataError(f"rounds is {resampling.rounds}, not zero or more")
        if resampling.rounds < 2:
            return None, None, None
        rng, c = np.random.default_rng(resampling.seed), self._n_prompts
        rows = []
        for _ in range(resampling.rounds):
            drawn = np.bincount(rng.integers(c, size=c), minlength=c).astype(np.float64)
            rows.append(self.values(self.refit(fit, drawn), drawn))
        low, high = np.quantile(rows, [1 - tail, tail], axis=0)
        return np.std(rows, axis=0, ddof=1), low, high
