import math

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from rlaif.errors import DataError
from rlaif.stats.length_columns import length_term
from rlaif.stats.length_control import (
    C_GRID,
    DEFAULT_C,
    LengthControlled,
    LengthWeights,
    head_to_head,
    length_only_win_rate,
    length_ratio_win_rate,
    refit_win_rate,
    weighted_win_rate,
)
from rlaif.stats.length_joint import joint_win_rates


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def outcomes(seed=0, n=300, weights=(-1.2, 0.8, -0.4), *, soft=False):
    """Outcomes of the length model: y, baseline lengths, model lengths, difficulties."""
    rng = np.random.default_rng(seed)
    baseline = rng.lognormal(7.4, 0.5, n).round()
    model = (baseline * rng.lognormal(-0.3, 0.6, n)).round()
    d = rng.normal(0, 1.5, n)
    x = np.column_stack([length_term(baseline, model), d, np.ones(n)])
    p = sigmoid(x @ np.array(weights))
    y = p**2 / (p**2 + (1 - p) ** 2) if soft else (rng.random(n) < p).astype(float)
    return y, baseline, model, d


def soft_loss(x, y, at):
    z = x @ at
    return (np.logaddexp(0, z) - y * z).sum()


def test_length_term_is_of_the_baseline_minus_the_model():
    baseline, model = np.array([100.0, 50, 10]), np.array([10.0, 50, 100])
    expected = np.tanh(np.array([90, 0, -90]) / np.std([90, 0, -90], ddof=1))
    assert length_term(baseline, model) == pytest.approx(expected)
    assert length_term([5, 7], [3, 5]).tolist() == [0, 0]  # one difference throughout
    assert length_term([5], [3]).tolist() == [0]


def test_weighted_win_rate_by_hand():
    weights, d = LengthWeights(-1.0, 0.5, -0.2), np.array([-1.0, 0.0, 2.0])
    predicted = sigmoid(0.5 * d - 0.2)
    rate = weighted_win_rate(weights, d)
    assert (rate.value, rate.n, rate.method) == (pytest.approx(predicted.mean()), 3, "weights")
    assert rate.lc_standard_error == pytest.approx(predicted.std(ddof=1) / math.sqrt(3))
    assert (rate.se, rate.low, rate.suspicious) == (None, None, False)
    assert weighted_win_rate(LengthWeights(0, 0, 0), [0.3]).value == 0.5
    assert weighted_win_rate(weights, [0.3]).lc_standard_error is None


def test_head_to_head_is_fair():
    d = np.linspace(-3, 5, 50)
    a, b = LengthWeights(-1.1, 0.7, 0.8), LengthWeights(-2.0, 1.0, -1.2)
    assert head_to_head(a, b, d) + head_to_head(b, a, d) == pytest.approx(1)
    assert head_to_head(a, a, d) == 0.5
    assert head_to_head(a, LengthWeights(0, 0, 0), d) == pytest.approx(
        weighted_win_rate(a, d).value
    )


@pytest.mark.parametrize("c", [DEFAULT_C, C_GRID[5]])
@pytest.mark.parametrize("soft", [False, True])
def test_refit_equals_the_solver_of_the_published_fits(c, soft):
    y, baseline, model, d = outcomes(1, soft=soft)
    x = np.column_stack([length_term(baseline, model), d, np.ones(y.size)])
    regression = LogisticRegression(
        l1_ratio=1, C=c, solver="liblinear", fit_intercept=False, tol=1e-8, max_iter=1000
    )
    # As published: every row once as a win and once as a loss, weighted.
    shares = np.concatenate([y, 1 - y])
    used = shares > 0
    labels = np.repeat([1, 0], y.size)
    regression.fit(np.vstack([x, x])[used], labels[used], sample_weight=shares[used])
    rate = refit_win_rate(y, baseline, model, d, c=c, gamed_rows=False, rounds=0)
    found = np.array([rate.weights.length, rate.weights.difficulty, rate.weights.constant])
    assert found == pytest.approx(regression.coef_[0], abs=1e-6)
    assert rate.value == pytest.approx(sigmoid(x[:, 1:] @ found[1:]).mean(), abs=1e-12)


@pytest.mark.parametrize("c", [0.5, 0.05, 0.02, 0.008])
def test_strong_penalties_shut_columns_out(c):
    y, baseline, model, d = outcomes(1)
    x = np.column_stack([length_term(baseline, model), d, np.ones(y.size)])

    def loss(parts):
        return soft_loss(x, y, parts[:3] - parts[3:]) + parts.sum() / c

    best = minimize(loss, np.full(6, 0.1), bounds=[(0, None)] * 6, tol=1e-14).x
    rate = refit_win_rate(y, baseline, model, d, c=c, gamed_rows=False, rounds=0)
    found = np.array([rate.weights.length, rate.weights.difficulty, rate.weights.constant])
    assert found == pytest.approx(best[:3] - best[3:], abs=2e-4)
    assert (found == 0).any() == (c < 0.03)


@pytest.mark.parametrize("seed", range(3))
def test_gamed_rows_pull_as_stated(seed):
    from rlaif.stats.length_fit import _GAMED_POINTS, _GAMED_SUMS

    y, baseline, model, d = outcomes(seed, n=120)
    x = np.column_stack([length_term(baseline, model), d, np.ones(y.size)])
    t, difficulty, count = _GAMED_POINTS.T

    def loss(parts):
        at = parts[:3] - parts[3:]
        z = at[0] * t + at[1] * difficulty
        gamed = (count * np.logaddexp(0, z)).sum() - at[:2] @ _GAMED_SUMS
        return soft_loss(x, y, at) + 0.1 * gamed + parts.sum() / DEFAULT_C

    best = minimize(loss, np.full(6, 0.1), bounds=[(0, None)] * 6, tol=1e-14).x
    rate = refit_win_rate(y, baseline, model, d, rounds=0)
    found = [rate.weights.length, rate.weights.difficulty, rate.weights.constant]
    assert found == pytest.approx(best[:3] - best[3:], abs=2e-4)


def test_refit_error_is_that_of_refits():
    y, baseline, model, d = outcomes(2, n=150)
    rate = refit_win_rate(y, baseline, model, d, gamed_rows=False, c=math.inf, rounds=40, seed=3)
    t = length_term(baseline, model)
    rng = np.random.default_rng(3)
    values = []
    for _ in range(40):
        drawn = np.bincount(rng.integers(150, size=150), minlength=150)
        rows = np.repeat(np.arange(150), drawn)
        x = np.column_stack([t, d, np.ones(150)])[rows]
        fit = minimize(lambda at, x=x, rows=rows: soft_loss(x, y[rows], at), np.zeros(3), tol=1e-10)
        values.append(sigmoid(x[:, 1:] @ fit.x[1:]).mean())
    assert rate.se == pytest.approx(np.std(values, ddof=1), rel=1e-4)
    assert (rate.low, rate.high) == pytest.approx(
        tuple(np.quantile(values, [0.025, 0.975])), abs=1e-4
    )
    assert rate.lc_standard_error < rate.se


def test_signs_that_flip_in_a_resample_are_found_anew():
    y, baseline, model, d = outcomes(4, n=60, weights=(0.0, 0.1, 0.0))
    with_penalty = refit_win_rate(y, baseline, model, d, c=1.0, gamed_rows=False, rounds=60)
    zeros = refit_win_rate(y, baseline, model, d, c=0.2, gamed_rows=False, rounds=60)
    free = refit_win_rate(y, baseline, model, d, c=math.inf, gamed_rows=False, rounds=60)
    assert 0.7 * free.se < with_penalty.se < free.se
    assert 0 in (zeros.weights.length, zeros.weights.difficulty, zeros.weights.constant)
    assert 0 < zeros.se < with_penalty.se


def test_prompts_with_several_rows_are_drawn_together():
    y, baseline, model, d = outcomes(5, n=100)
    twice = [np.repeat(part, 2) for part in (y, baseline, model, d)]
    names = [f"q{k}" for k in range(100) for _ in range(2)]
    options = {"rounds": 200, "gamed_rows": False, "c": math.inf}
    alone = refit_win_rate(y, baseline, model, d, **options)
    together = refit_win_rate(*twice, prompts=names, **options)
    apart = refit_win_rate(*twice, **options)
    assert (together.n, together.n_prompts, alone.n_prompts) == (200, 100, 100)
    assert together.se == pytest.approx(alone.se, rel=0.01)  # the length scale has another ddof
    assert apart.se < 0.85 * together.se


def test_length_only_and_ratio_equal_a_plain_logistic_regression():
    y, baseline, model, _ = outcomes(6)
    for rate, column, at in [
        (length_only_win_rate(y, baseline, model, rounds=0), length_term(baseline, model), 0),
        (length_ratio_win_rate(y, baseline, model, rounds=0), model / baseline, 1),
    ]:
        fit = LogisticRegression(C=math.inf, tol=1e-12, max_iter=10_000)
        fit.fit(column[:, None], y)
        assert rate.value == pytest.approx(fit.predict_proba([[at]])[0, 1], abs=1e-6)
        assert rate.win_rate == y.mean()
        assert rate.weights is None
    assert length_only_win_rate(y, baseline, model, rounds=0).method == "length only"
    assert length_ratio_win_rate(y, baseline, model, rounds=0).method == "length ratio"


def test_length_control_corrects_a_judge_that_likes_length():
    # Two equal models, one of them longer, and a judge that pays for length.
    y, baseline, model, _ = outcomes(7, n=2000, weights=(-1.5, 0.0, 0.0))
    assert y.mean() < 0.43
    rate = length_only_win_rate(y, baseline, model, rounds=200)
    assert rate.low < 0.5 < rate.high


def test_intervals_of_length_control_cover():
    hits, trials = 0, 300
    truth = sigmoid(-0.4)
    for trial in range(trials):
        y, baseline, model, _ = outcomes(1000 + trial, n=120, weights=(-1.0, 0.0, -0.4))
        rate = length_only_win_rate(y, baseline, model, rounds=200, seed=trial)
        hits += rate.low <= truth <= rate.high
    assert 0.90 <= hits / trials <= 0.98


@pytest.mark.parametrize(
    ("win_rate", "value", "suspicious"),
    [
        (0.5, 0.36, True),
        (0.5, 0.38, False),
        (0.5, 0.63, True),
        (0.5, 0.62, False),
        (0.02, 0.22, False),
        (0.02, 0.27, True),
        (0.3, 0.19, True),
        (0.95, 0.72, False),
        (0.95, 0.71, True),
        (None, 0.9, False),
    ],
)
def test_suspicious_fits(win_rate, value, suspicious):
    rate = LengthControlled(value, "refit", win_rate, None, None, None, None, 9, 9, None)
    assert rate.suspicious is suspicious


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": [1, 0, 2]}, r"an outcome lies outside \[0, 1\]"),
        ({"outcomes": [1, 0]}, "different lengths"),
        ({"baseline_lengths": [1, 2, -3]}, "a length is negative"),
        ({"model_lengths": [1, 2]}, "different lengths"),
        ({"difficulty": [1, 2]}, "different lengths"),
        ({"difficulty": [1, 2, math.nan]}, "NaN"),
        ({"c": 0.0}, "c is 0.0, not positive"),
        ({"rounds": -1}, "rounds is -1"),
        ({"level": 0.0}, "level is 0.0"),
        ({"prompts": ["a"]}, "1 cluster names"),
        ({"outcomes": [1, 1, 1], "c": math.inf, "gamed_rows": False}, "no finite fit"),
    ],
)
def test_rows_that_support_no_refit(change, message):
    good = {
        "outcomes": [1, 0, 0.5],
        "baseline_lengths": [10, 20, 30],
        "model_lengths": [20, 10, 30],
        "difficulty": [0.5, -1, 0],
    }
    with pytest.raises(DataError, match=message):
        refit_win_rate(**{**good, **change})


def test_empty_baseline_has_no_ratio():
    with pytest.raises(DataError, match="no length ratio"):
        length_ratio_win_rate([1, 0], [0, 5], [3, 4])


def test_one_prompt_or_no_rounds_leaves_no_error():
    rate = length_only_win_rate([0.9, 0.2, 0.6], [10, 20, 30], [20, 10, 25], prompts=["p"] * 3)
    assert (rate.se, rate.low, rate.high, rate.n_prompts) == (None, None, None, 1)


def joint_rows(seed, n_prompts=250, n_models=4, prompt_sd=1.2, length=-1.0):
    rng = np.random.default_rng(seed)
    effect = rng.normal(0, prompt_sd, n_prompts)
    constants = np.linspace(-1.2, 1.0, n_models)
    baseline = rng.lognormal(7, 0.4, n_prompts)
    factor = np.exp(np.linspace(0.5, -0.5, n_models))[:, None]  # the strongest are the shortest
    own = baseline * factor * rng.lognormal(0, 0.3, (n_models, n_prompts))
    everywhere = np.tile(baseline, n_models)
    t = length_term(everywhere, own.ravel())
    models, prompts = (
        np.repeat(np.arange(n_models), n_prompts),
        np.tile(np.arange(n_prompts), n_models),
    )
    p = sigmoid(length * t + constants[models] + effect[prompts])
    y = (rng.random(p.size) < p).astype(float)
    return (models, prompts.tolist(), y, everywhere, own.ravel(), n_models), constants


def test_joint_fit_recovers_the_rates_at_equal_length():
    rng = np.random.default_rng(99)
    arguments, constants = joint_rows(0)
    truth = sigmoid(constants[:, None] + rng.normal(0, 1.2, 100_000)).mean(axis=1)
    fit = joint_win_rates(*arguments, rounds=60)
    assert fit.values == pytest.approx(truth, abs=0.08)
    assert np.abs(fit.win_rates - truth).max() > 0.1
    assert fit.prompt_sd == pytest.approx(1.2, abs=0.35)
    assert fit.length == pytest.approx(-1.0, abs=0.3)
    assert np.all((fit.low < fit.values) & (fit.values < fit.high))
    assert (fit.n.tolist(), fit.n_prompts) == ([250] * 4, 250)


def test_joint_intervals_cover():
    rng = np.random.default_rng(98)
    hits, trials = 0, 40
    for trial in range(trials):
        arguments, constants = joint_rows(100 + trial, n_prompts=60)
        if trial == 0:
            truth = sigmoid(constants[:, None] + rng.normal(0, 1.2, 100_000)).mean(axis=1)
        fit = joint_win_rates(*arguments, rounds=60, seed=trial)
        hits += ((fit.low <= truth) & (truth <= fit.high)).sum()
    assert 0.89 < hits / (4 * trials) < 0.99


def test_joint_fit_without_prompt_or_length_effects_is_the_win_rate():
    arguments, _ = joint_rows(1, n_prompts=1500, prompt_sd=0.0, length=0.0)
    fit = joint_win_rates(*arguments, rounds=0)
    assert fit.values == pytest.approx(fit.win_rates, abs=0.03)
    assert fit.prompt_sd < 0.35
    assert (fit.se, fit.low, fit.high) == (None, None, None)


def test_joint_fit_follows_the_models_when_relabeled():
    (models, *rest, n_models), _ = joint_rows(2, n_prompts=60)
    label = np.array([2, 0, 3, 1])
    fit = joint_win_rates(models, *rest, n_models, rounds=0)
    other = joint_win_rates(label[models], *rest, n_models, rounds=0)
    assert other.values[label] == pytest.approx(fit.values, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_models": 1}, "one model alone"),
        ({"models": [0, 1]}, "model indices are not 4 whole numbers"),
        ({"models": [0.0, 1.0, 0.0, 1.0]}, "whole numbers"),
        ({"models": [0, 1, 0, 2]}, "outside 0 to 1"),
        ({"models": [0, 0, 0, 0]}, "model 1 has no outcomes"),
        ({"prompts": ["p"] * 4}, "one prompt"),
        ({"outcomes": [1, 1, 1]}, "3"),
        ({"outcomes": [1, 0, 1, 0]}, "no finite fit"),
        ({"rounds": -1}, "rounds is -1"),
    ],
)
def test_rows_that_support_no_joint_fit(change, message):
    good = {
        "models": [0, 1, 0, 1],
        "prompts": ["p", "p", "q", "q"],
        "outcomes": [1, 0.5, 0.3, 0],
        "baseline_lengths": [10, 10, 20, 20],
        "model_lengths": [8, 12, 25, 18],
        "n_models": 2,
    }
    with pytest.raises(DataError, match=message):
        joint_win_rates(**{**good, **change})
