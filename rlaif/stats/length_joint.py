"""Win rates of several models at equal length, the difficulty of prompts estimated with them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rlaif.errors import DataError
from rlaif.stats.clusters import cluster_numbers, upper_tail_point
from rlaif.stats.length_columns import (
    Floats,
    Ints,
    Resampling,
    checked_lengths,
    checked_outcomes,
    length_term,
    need_same_size,
)
from rlaif.stats.numeric import sigmoid

_MAX_STEPS = 100
_LONGEST_STEP = 2.0
_EM_STEPS = 200
_LEAST_VARIANCE = 1e-8


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
    y = checked_outcomes(outcomes)
    index = np.asarray(models)
    numbers = cluster_numbers(prompts, y.size)
    baseline, own = checked_lengths(baseline_lengths, model_lengths)
    need_same_size(y, baseline)
    if n_models < 2:
        raise DataError("one model alone does not tell hard prompts from chance")
    if index.shape != y.shape or index.dtype.kind not in "iu":
        raise DataError(f"model indices are not {y.size} whole numbers")
    if index.min() < 0 or index.max() >= n_models:
        raise DataError(f"a model index lies outside 0 to {n_models - 1}")
    n = np.bincount(index, minlength=n_models)
    if n.min() == 0:
        raise DataError(f"model {int(n.argmin())} has no outcomes")
    resampling = Resampling(numbers, rounds, seed, level)
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
        self, fit: _JointFit, resampling: Resampling
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
