"""Strengths of models from comparisons, with the errors that clustered prompts leave.

    from rlaif.stats.bradley_terry import fit_bradley_terry

    # model 0 beat model 1 on two prompts and lost one; 1 beat 2 once and tied once; 2 beat 0 once
    fit = fit_bradley_terry([0, 0, 0, 1, 1, 2], [1, 1, 1, 2, 2, 0], [1, 1, 0, 1, 0.5, 1], 3)
    assert abs(fit.strengths.sum()) < 1e-9
    assert fit.strengths[1] == fit.strengths.max()

A strength is a log-odds in nats; all of them sum to zero. `ties="half"` counts a tie as half a win
each way and takes soft outcomes as they are; `davidson` and `rao-kupper` give a tie a probability
of its own, and their strengths lie on a wider scale: never compare the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from rlaif.errors import DataError
from rlaif.stats.clusters import (
    Prompts,
    cluster_numbers,
    finite_vector,
    t_quantile,
    upper_tail_point,
)
from rlaif.stats.pair_likelihood import (
    Floats,
    Ints,
    Optimum,
    Rows,
    Ties,
    by_pair,
    cluster_meat,
    derivatives,
    inverse_information,
    maximize,
    row_meat,
    sums,
)

_ROUNDING = 1e-18
"""A variance below this is rounding of one that is 0."""


@dataclass(frozen=True, slots=True, eq=False)
class BradleyTerryFit:
    """Strengths with their uncertainty.

    Covariances are over (strengths, coefficients), in nats squared, under the mean-zero condition.
    """

    strengths: Floats
    """Shape (n_models,), nats, mean zero."""
    coefficients: Floats
    """Shape (n_covariates,), nats per unit of each covariate."""
    nu: float | None
    """How common ties are: nu of Davidson, k of Rao-Kupper, None where ties are half wins."""
    log_likelihood: float
    """Nats, without the ridge term."""
    ties: Ties
    n: int
    """Comparisons."""
    n_clusters: int | None
    """Prompts, where they were given."""
    covariance_model: Floats
    """Inverse of the observed information: right if rows are independent and the model holds."""
    covariance_sandwich: Floats
    """Right if rows are independent, whether or not the model holds."""
    covariance_clustered: Floats | None
    """Right if prompts are independent; None where none were given."""

    @property
    def covariance(self) -> Floats:
        """The clustered covariance where prompts were given, else the sandwich.

        Outcomes that are all as the strengths say, such as nothing but ties, leave both without
        width: then it is the model's, which takes them for draws of chance.
        """
        robust = self.covariance_clustered
        if robust is None:
            robust = self.covariance_sandwich
        return robust if np.diag(robust).max(initial=0.0) > _ROUNDING else self.covariance_model

    @property
    def se(self) -> Floats:
        """Standard errors of the strengths from `covariance`, shape (n_models,)."""
        return self._se(self.covariance)

    @property
    def se_model(self) -> Floats:
        """Standard errors of the strengths from `covariance_model`, shape (n_models,)."""
        return self._se(self.covariance_model)

    @property
    def se_sandwich(self) -> Floats:
        """Standard errors of the strengths from `covariance_sandwich`, shape (n_models,)."""
        return self._se(self.covariance_sandwich)

    @property
    def se_coefficients(self) -> Floats:
        """Standard errors of the coefficients from `covariance`, shape (n_covariates,)."""
        return np.sqrt(np.diag(self.covariance)[self.strengths.size :])

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Lower and upper ends for each strength, shape (n_models,) each.

        strength +- q * se. For C prompts q is the quantile of Student's t on C - 1 degrees of
        freedom times sqrt(C / (C - 1)): few prompts leave the plain sandwich too narrow. Where no
        prompts were given q is the normal quantile.

        Raises:
            DataError: `level` lies outside (0, 1).
        """
        half = self._quantile(level) * self.se
        return self.strengths - half, self.strengths + half

    def difference(self, i: int, j: int) -> tuple[float, float]:
        """strengths[i] - strengths[j] and its standard error, nats."""
        c = self.covariance
        variance = float(c[i, i] + c[j, j] - 2 * c[i, j])
        return float(self.strengths[i] - self.strengths[j]), math.sqrt(max(variance, 0.0))

    def _se(self, covariance: Floats) -> Floats:
        return np.sqrt(np.diag(covariance)[: self.strengths.size])

    def _quantile(self, level: float) -> float:
        if self.n_clusters is None:
            return NormalDist().inv_cdf(upper_tail_point(level))
        c = self.n_clusters
        return t_quantile(level, c) * math.sqrt(c / (c - 1))


@dataclass(frozen=True, slots=True)
class Separation:
    """A group of models that leaves the others no finite distance."""

    group: tuple[int, ...]
    """Indices, ascending."""
    how: Literal["never lost to", "never won against", "never met"]
    """What the group did in all its comparisons with the rest."""


def bradley_terry(wins: ArrayLike) -> Floats:
    """Bradley-Terry strengths of a table of wins, by maximum likelihood.

    Args:
        wins: Shape (n, n). `wins[i, j]` counts wins of i over j; a tie adds 0.5 both ways.

    Returns:
        Shape (n,), log-odds in nats, mean zero: P(i beats j) = sigmoid(s[i] - s[j]).

    Raises:
        DataError: the table is not square, not finite, negative or has wins over oneself; or some
            group of models never lost to the rest, so no finite optimum exists.

    Reference:
        Hunter 2004, "MM algorithms for generalized Bradley-Terry models", Ann. Statist. 32(1),
        eq. (1); maximized here by Newton's method.
    """
    return strengths_of_table(_win_table(wins), 0.0)[0]


def fit_bradley_terry(
    i: ArrayLike,
    j: ArrayLike,
    y: ArrayLike,
    n_models: int,
    *,
    weights: ArrayLike | None = None,
    clusters: Prompts | None = None,
    ties: Ties = "half",
    ridge: float = 0.0,
    covariates: ArrayLike | None = None,
) -> BradleyTerryFit:
    """Strengths, log-likelihood and three kinds of standard error, from single comparisons.

    With d = s[i] - s[j] + covariates @ coefficients, in nats:

    - `half`: P(i wins) = sigmoid(d); y may be any probability, a tie is 0.5.
    - `davidson`: P(i), P(j), P(tie) proportional to e^(d/2), e^(-d/2), nu.
    - `rao-kupper`: P(i) = sigmoid(d - log k), P(j) = sigmoid(-d - log k), P(tie) the rest.

    Args:
        i: Shape (n,), index of the first model of each comparison.
        j: Shape (n,), index of the second.
        y: Shape (n,), in [0, 1]: 1 where i won, 0 where j won, 0.5 a tie, or P(i preferred).
        n_models: Models are numbered 0 to n_models - 1.
        weights: Shape (n,), positive; None weighs each comparison 1.
        clusters: The prompt of each comparison, length n; all rows of a prompt (both orders, both
            turns, all voters) stand or fall together.
        ties: How a tie enters; the last two need each y to be 0, 0.5 or 1.
        ridge: Strength of a normal prior with mean 0 and variance 1/ridge on each strength; above
            0 every table of wins has a finite optimum. 0 is maximum likelihood.
        covariates: Shape (n, n_covariates), what speaks for i beside its strength (difference of
            length or style, 1 where i was shown first and -1 where j was).

    Raises:
        DataError: shapes differ, a value is out of range or not finite, a model meets itself;
            some group of models never lost to the rest (the error gives its indices; see
            `separation`); every comparison is a tie; a covariate cannot be told apart from the
            models; there is only one cluster.

    Reference:
        Davidson 1970, JASA 65(329), eq. (2.3); Rao and Kupper 1967, JASA 62(317), eq. (2.7).
        Sandwich: White 1982, Econometrica 50(1); by cluster, without a small-sample factor (the
        intervals have one): Liang and Zeger 1986, Biometrika 73(1).
    """
    data = check_comparisons(i, j, y, n_models, weights)
    if ties not in get_args(Ties):
        raise DataError(f"ties is {ties!r}, not one of {', '.join(get_args(Ties))}")
    _check_ridge(ridge)
    numbers = None if clusters is None else cluster_numbers(clusters, data.y.size)
    rows = _outcome_rows(data, ties, _covariate_matrix(covariates, data.y.size))
    if ridge == 0:
        _need_connected(_wins_of(rows, n_models))
    method = _effective_ties(rows, ties)
    optimum = maximize(by_pair(rows, n_models), n_models, method, ridge)
    return _fit_of(optimum, rows, numbers, n_models, method, ties)


def separation(wins: ArrayLike) -> Separation | None:
    """The group of models that makes strengths infinite, or None where all are finite.

    Strengths are finite and unique exactly if each model can be reached from each other one along
    wins. Of a split in two, the smaller side is named.

    Args:
        wins: Shape (n, n), as in `bradley_terry`.

    Raises:
        DataError: as `bradley_terry` for a table that is no table of wins.

    Reference:
        Ford 1957, "Solution of a ranking problem from binary comparisons", Amer. Math. Monthly
        64(8).
    """
    from scipy.sparse.csgraph import connected_components

    beats = _win_table(wins) > 0
    n_groups, label = connected_components(beats, directed=True, connection="strong")
    if n_groups == 1:
        return None
    # Between strongly connected groups wins run one way, so some group has no loss outside it.
    outside = label[:, None] != label[None, :]
    lost = np.zeros(n_groups, dtype=bool)
    lost[label[(beats & outside).any(axis=0)]] = True
    sizes = np.bincount(label)
    inside = label == min(np.flatnonzero(~lost), key=lambda group: sizes[group])
    if not beats[inside][:, ~inside].any():
        how: Literal["never lost to", "never won against", "never met"] = "never met"
    else:
        how = "never lost to"
    if inside.sum() > inside.size / 2:
        inside = ~inside
        how = "never won against" if how == "never lost to" else how
    return Separation(tuple(int(k) for k in np.flatnonzero(inside)), how)


def strengths_of_table(wins: Floats, ridge: float) -> tuple[Floats, Floats]:
    """Strengths and the inverse of their observed information, shapes (n,) and (n, n).

    Args:
        wins: Shape (n, n), as in `bradley_terry`, which checks it.
        ridge: As in `fit_bradley_terry`.

    Raises:
        DataError: `ridge` is negative, or there is no finite optimum.
    """
    _check_ridge(ridge)
    if ridge == 0:
        _need_connected(wins)
    i, j = np.nonzero(np.triu(wins + wins.T))
    rows = Rows(i, j, wins[i, j], wins[j, i], np.zeros(i.size), np.empty((i.size, 0)))
    optimum = maximize(rows, wins.shape[0], "half", ridge)
    return optimum.parameters, inverse_information(optimum.information, wins.shape[0])


class Comparisons(NamedTuple):
    """Checked comparisons: arrays of one length."""

    i: Ints
    j: Ints
    y: Floats
    weights: Floats


def check_comparisons(
    i: ArrayLike, j: ArrayLike, y: ArrayLike, n_models: int, weights: ArrayLike | None
) -> Comparisons:
    """The comparisons as arrays, shape (n,) each; arguments as in `fit_bradley_terry`.

    Raises:
        DataError: shapes differ, a value is out of range or not finite, or a model meets itself.
    """
    outcome = finite_vector(y)
    n = outcome.size
    first, second = _model_indices(i, n, n_models), _model_indices(j, n, n_models)
    if outcome.min() < 0 or outcome.max() > 1:
        raise DataError("an outcome lies outside [0, 1]")
    if (first == second).any():
        row = int(np.flatnonzero(first == second)[0])
        raise DataError(f"comparison {row} is of model {first[row]} with itself")
    if weights is None:
        return Comparisons(first, second, outcome, np.ones(n))
    weight = finite_vector(weights)
    if weight.size != n:
        raise DataError(f"{weight.size} weights for {n} comparisons")
    if weight.min() <= 0:
        raise DataError("a weight is not positive")
    return Comparisons(first, second, outcome, weight)


def _check_ridge(ridge: float) -> None:
    if not 0 <= ridge < np.inf:
        raise DataError(f"ridge is {ridge}, not zero or more")


def _model_indices(index: ArrayLike, n: int, n_models: int) -> Ints:
    values = np.asarray(index)
    if values.shape != (n,):
        raise DataError(f"model indices have shape {values.shape}, not ({n},)")
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError("a model index is not a whole number")
    if values.min() < 0 or values.max() >= n_models:
        raise DataError(f"a model index lies outside 0 to {n_models - 1}")
    return values.astype(np.intp, copy=False)


def _covariate_matrix(covariates: ArrayLike | None, n: int) -> Floats:
    if covariates is None:
        return np.empty((n, 0))
    matrix = np.asarray(covariates, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != n:
        raise DataError(f"covariates have shape {matrix.shape}, not ({n}, n_covariates)")
    if not np.isfinite(matrix).all():
        raise DataError("a covariate is NaN or infinite")
    return matrix


def _win_table(wins: ArrayLike) -> Floats:
    table = np.asarray(wins, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or table.size == 0:
        raise DataError(f"a table of wins has shape (n, n), not {table.shape}")
    if not np.isfinite(table).all() or table.min() < 0:
        raise DataError("a count of wins is negative, NaN or infinite")
    if np.diag(table).any():
        raise DataError("a model has wins over itself")
    return table


def _need_connected(wins: Floats) -> None:
    split = separation(wins)
    if split is not None:
        raise DataError(
            f"models {list(split.group)} {split.how} the rest: their distance has no finite "
            "estimate (leave them out, add comparisons, or set a ridge)"
        )


def _outcome_rows(data: Comparisons, ties: Ties, covariates: Floats) -> Rows:
    i, j, y, w = data
    if ties == "half":
        return Rows(i, j, w * y, w * (1 - y), np.zeros(y.size), covariates)
    if not np.isin(y, (0.0, 0.5, 1.0)).all():
        raise DataError(f'ties="{ties}" needs outcomes 0, 0.5 or 1: use ties="half" for others')
    return Rows(i, j, w * (y == 1), w * (y == 0), w * (y == 0.5), covariates)


def _effective_ties(rows: Rows, ties: Ties) -> Ties:
    """The model to fit: without any tie, both tie models are the plain one."""
    if ties == "half" or not rows.tied.any():
        return "half"
    if not (rows.won.any() or rows.lost.any()):
        raise DataError("every comparison is a tie: no strengths")
    return ties


def _wins_of(rows: Rows, n_models: int) -> Floats:
    size = n_models * n_models
    forth = sums(rows.i * n_models + rows.j, rows.won + rows.tied / 2, size)
    back = sums(rows.j * n_models + rows.i, rows.lost + rows.tied / 2, size)
    table: Floats = (forth + back).reshape(n_models, n_models)
    return table


def _fit_of(
    optimum: Optimum,
    rows: Rows,
    numbers: Ints | None,
    n_models: int,
    method: Ties,
    ties: Ties,
) -> BradleyTerryFit:
    """The fit with its covariances, from the optimum and the single rows."""
    at, size = optimum.parameters, optimum.parameters.size
    end = n_models + rows.covariates.shape[1]
    inverse = inverse_information(optimum.information, n_models)
    here = derivatives(rows, at, n_models, method)
    meat = row_meat(rows, here, n_models, size)
    clustered = None
    if numbers is not None:
        by_cluster = cluster_meat(rows, here.d, here.k, numbers, n_models, size)
        clustered = (inverse @ by_cluster @ inverse)[:end, :end]
    nu: float | None = float(np.exp(at[-1]))
    if method == "half":  # no ties at all is nu = 0 and k = 1, at the edge of the tie models
        nu = {"half": None, "davidson": 0.0, "rao-kupper": 1.0}[ties]
    return BradleyTerryFit(
        strengths=at[:n_models],
        coefficients=at[n_models:end],
        nu=nu,
        log_likelihood=optimum.value,
        ties=ties,
        n=rows.i.size,
        n_clusters=None if numbers is None else int(numbers.max()) + 1,
        covariance_model=inverse[:end, :end],
        covariance_sandwich=(inverse @ meat @ inverse)[:end, :end],
        covariance_clustered=clustered,
    )
