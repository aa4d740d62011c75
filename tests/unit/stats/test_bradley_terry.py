import choix
import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from rlaif.errors import DataError
from rlaif.stats.bradley_terry import bradley_terry, fit_bradley_terry, separation

TIES = ["half", "davidson", "rao-kupper"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def comparisons(seed=0, n_models=5, n_prompts=40, per_prompt=12, ties=0.2, spread=0.0):
    """Comparisons with ties, three columns and prompts; each prompt favors models at random."""
    rng = np.random.default_rng(seed)
    strengths = np.linspace(-1, 1, n_models)
    prompt = np.repeat(np.arange(n_prompts), per_prompt)
    i = rng.integers(n_models, size=prompt.size)
    j = (i + rng.integers(1, n_models, size=prompt.size)) % n_models
    favor = rng.normal(0, spread, (n_prompts, n_models))
    d = strengths[i] - strengths[j] + favor[prompt, i] - favor[prompt, j]
    y = (rng.random(prompt.size) < sigmoid(d)).astype(float)
    y[rng.random(prompt.size) < ties] = 0.5
    return i, j, y, prompt


def row_log_likelihood(at, i, j, y, n_models, ties, columns=None):
    """The model written down once more: strengths, coefficients and the log tie parameter."""
    d = at[i] - at[j]
    if columns is not None:
        d = d + columns @ at[n_models : n_models + columns.shape[1]]
    if ties == "half":
        return y * np.log(sigmoid(d)) + (1 - y) * np.log(sigmoid(-d))
    k = np.exp(at[-1])
    if ties == "davidson":
        parts = np.exp(d / 2), np.exp(-d / 2), k
        p_i, p_j, p_tie = (part / sum(parts) for part in parts)
    else:
        p_i, p_j = np.exp(d) / (np.exp(d) + k), 1 / (1 + k * np.exp(d))
        p_tie = 1 - p_i - p_j
    return np.log(np.select([y == 1, y == 0], [p_i, p_j], p_tie))


def slopes(function, at, step=1e-5):
    """Central differences of `function` in each parameter, one a column."""
    unit = np.eye(at.size) * step
    return np.stack([(function(at + u) - function(at - u)) / (2 * step) for u in unit], axis=-1)


def test_wikipedia_example():
    wins = [[0, 2, 0, 1], [3, 0, 5, 0], [0, 3, 0, 1], [4, 0, 3, 0]]
    assert np.exp(bradley_terry(wins)) == pytest.approx([0.640, 1.043, 0.660, 2.270], abs=5e-4)


def test_example_of_the_module_docstring():
    fit = fit_bradley_terry([0, 0, 0, 1, 1, 2], [1, 1, 1, 2, 2, 0], [1, 1, 0, 1, 0.5, 1], 3)
    assert abs(fit.strengths.sum()) < 1e-9
    assert fit.strengths[1] == fit.strengths.max()


@pytest.mark.parametrize("seed", range(3))
def test_strengths_equal_those_of_choix(seed):
    i, j, y, _ = comparisons(seed, ties=0)
    won = [(a, b) if outcome else (b, a) for a, b, outcome in zip(i, j, y, strict=True)]
    theirs = choix.ilsr_pairwise(5, won, max_iter=1000, tol=1e-12)
    wins = np.zeros((5, 5))
    np.add.at(wins, tuple(np.transpose(won)), 1)
    assert bradley_terry(wins) == pytest.approx(theirs - theirs.mean(), abs=1e-6)
    assert fit_bradley_terry(i, j, y, 5).strengths == pytest.approx(bradley_terry(wins), abs=1e-9)


@pytest.mark.parametrize("with_columns", [False, True])
def test_fit_and_errors_equal_a_logistic_regression(with_columns):
    i, j, y, prompt = comparisons(1, spread=0.7)
    rng = np.random.default_rng(2)
    y = np.clip(y + rng.uniform(-0.3, 0.3, y.size), 0, 1)  # soft
    columns = rng.normal(size=(y.size, 2)) * [1, 300] if with_columns else np.empty((y.size, 0))
    design = np.zeros((y.size, 5))
    design[np.arange(y.size), i], design[np.arange(y.size), j] = 1, -1
    # The last model is the zero there; ours is the mean.
    logit = sm.GLM(y, np.hstack([design[:, :4], columns]), family=sm.families.Binomial())
    center = np.zeros((5 + columns.shape[1], 4 + columns.shape[1]))
    center[:5, :4] = np.eye(5)[:, :4] - 0.2
    center[5:, 4:] = np.eye(columns.shape[1])
    fit = fit_bradley_terry(
        i, j, y, 5, clusters=prompt, covariates=columns if with_columns else None
    )
    plain = logit.fit(tol=1e-14, maxiter=200)
    ours = np.concatenate([fit.strengths, fit.coefficients])
    assert ours == pytest.approx(center @ plain.params, abs=1e-8)
    robust = logit.fit(tol=1e-14, maxiter=200, cov_type="HC0")
    options = {"groups": prompt, "use_correction": False}
    clustered = logit.fit(tol=1e-14, maxiter=200, cov_type="cluster", cov_kwds=options)
    for mine, theirs in [
        (fit.covariance_model, plain),
        (fit.covariance_sandwich, robust),
        (fit.covariance_clustered, clustered),
    ]:
        assert mine == pytest.approx(center @ theirs.cov_params() @ center.T, rel=1e-6, abs=1e-12)
    assert fit.log_likelihood == pytest.approx(
        row_log_likelihood(ours, i, j, y, 5, "half", columns).sum(), abs=1e-9
    )
    assert fit.se_coefficients == pytest.approx(clustered.bse[4:])


@pytest.mark.parametrize("ties", TIES)
def test_fit_and_errors_equal_those_of_numerical_derivatives(ties):
    i, j, y, prompt = comparisons(3, n_models=4, spread=0.5)
    columns = np.random.default_rng(4).normal(size=(y.size, 1))
    size = 5 + (ties != "half")

    def rows(at):
        return row_log_likelihood(at, i, j, y, 4, ties, columns)

    start = np.append(np.zeros(5), [0.3] * (size - 5))
    best = minimize(lambda at: -rows(at).sum() + at[:4].sum() ** 2, start, tol=1e-12)
    fit = fit_bradley_terry(i, j, y, 4, clusters=prompt, ties=ties, covariates=columns)
    at = np.concatenate([fit.strengths, fit.coefficients, [np.log(fit.nu)] if fit.nu else []])
    assert at == pytest.approx(best.x, abs=1e-4)
    assert np.abs(slopes(lambda x: rows(x).sum(), at)).max() < 1e-6
    information = -slopes(lambda x: slopes(lambda z: rows(z).sum(), x, 1e-4), at, 1e-4)
    inverse = np.linalg.pinv(information, rcond=1e-6)
    scores = slopes(rows, at)
    by_prompt = np.stack([scores[prompt == c].sum(axis=0) for c in range(40)])
    for ours, meat in [
        (fit.covariance_model, information),
        (fit.covariance_sandwich, scores.T @ scores),
        (fit.covariance_clustered, by_prompt.T @ by_prompt),
    ]:
        assert ours == pytest.approx((inverse @ meat @ inverse)[:5, :5], rel=2e-3, abs=1e-5)
    assert fit.log_likelihood == pytest.approx(rows(at).sum())


def test_the_gradient_vanishes_on_many_comparisons():
    i, j, y, _ = comparisons(5, n_models=20, n_prompts=500, per_prompt=100)
    s = fit_bradley_terry(i, j, y, 20).strengths
    miss = y - sigmoid(s[i] - s[j])
    assert np.abs(np.bincount(i, miss, 20) - np.bincount(j, miss, 20)).max() < 1e-9
    assert abs(s.sum()) < 1e-12


def test_clusters_are_summed_in_blocks(monkeypatch):
    i, j, y, prompt = comparisons(6)
    whole = fit_bradley_terry(i, j, y, 5, clusters=prompt).se
    monkeypatch.setattr("rlaif.stats.pair_likelihood._TABLE", 17)
    names = [f"q{number}" for number in prompt]
    assert fit_bradley_terry(i, j, y, 5, clusters=names).se == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("ties", TIES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_relabeling_and_swapping(ties, seed):
    i, j, y, prompt = comparisons(seed, n_models=4)
    fit = fit_bradley_terry(i, j, y, 4, clusters=prompt, ties=ties)
    rng = np.random.default_rng(seed)
    label = rng.permutation(4)
    other = fit_bradley_terry(label[i], label[j], y, 4, clusters=prompt, ties=ties)
    assert other.strengths[label] == pytest.approx(fit.strengths, abs=1e-8)
    assert other.se[label] == pytest.approx(fit.se, rel=1e-6)
    swap = rng.random(y.size) < 0.5
    a, b = np.where(swap, j, i), np.where(swap, i, j)
    turned = fit_bradley_terry(a, b, np.where(swap, 1 - y, y), 4, clusters=prompt, ties=ties)
    assert turned.strengths == pytest.approx(fit.strengths, abs=1e-8)
    assert turned.covariance == pytest.approx(fit.covariance, rel=1e-6, abs=1e-12)


def test_weights_count_as_copies():
    i, j, y, _ = comparisons(7)
    copies = np.random.default_rng(0).integers(1, 4, y.size)
    weighted = fit_bradley_terry(i, j, y, 5, weights=copies)
    repeated = fit_bradley_terry(*(np.repeat(part, copies) for part in (i, j, y)), 5)
    assert weighted.strengths == pytest.approx(repeated.strengths, abs=1e-9)
    assert weighted.log_likelihood == pytest.approx(repeated.log_likelihood)
    assert weighted.se_model == pytest.approx(repeated.se_model)


def test_without_ties_the_tie_models_are_the_plain_one():
    i, j, y, _ = comparisons(8, ties=0)
    plain = fit_bradley_terry(i, j, y, 5)
    assert plain.nu is None
    for ties, nu in [("davidson", 0.0), ("rao-kupper", 1.0)]:
        fit = fit_bradley_terry(i, j, y, 5, ties=ties)
        assert fit.nu == nu
        assert fit.strengths == pytest.approx(plain.strengths, abs=1e-12)


def test_ridge_is_the_stated_prior():
    i, j, y = np.array([0, 0, 1, 1]), np.array([1, 1, 2, 2]), np.array([1, 1, 1, 0.5])
    with pytest.raises(DataError, match=r"models \[0\] never lost to the rest"):
        fit_bradley_terry(i, j, y, 3)
    fit = fit_bradley_terry(i, j, y, 3, ridge=0.5)
    best = minimize(
        lambda at: -row_log_likelihood(at, i, j, y, 3, "half").sum() + 0.25 * at @ at, np.zeros(3)
    )
    assert fit.strengths == pytest.approx(best.x, abs=1e-4)
    assert np.isfinite(fit.se).all()


def test_interval_allows_for_few_prompts():
    i, j, y, prompt = comparisons(9, n_prompts=6, per_prompt=30)
    clustered = fit_bradley_terry(i, j, y, 5, clusters=prompt)
    low, high = clustered.interval()
    # Student's t on 5 degrees of freedom is 2.571 at 0.975.
    assert (high - low) / 2 == pytest.approx(2.5706 * np.sqrt(6 / 5) * clustered.se, rel=1e-4)
    free = fit_bradley_terry(i, j, y, 5)
    low, high = free.interval(0.9)
    assert (high - low) / 2 == pytest.approx(1.6449 * free.se_sandwich, rel=1e-4)
    assert free.covariance_clustered is None


def test_difference_uses_the_covariance():
    i, j, y, prompt = comparisons(10)
    fit = fit_bradley_terry(i, j, y, 5, clusters=prompt)
    value, se = fit.difference(4, 0)
    c = fit.covariance_clustered
    assert value == fit.strengths[4] - fit.strengths[0]
    assert se**2 == pytest.approx(c[4, 4] + c[0, 0] - 2 * c[0, 4])
    assert fit.difference(1, 1) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("wins", "group", "how"),
    [
        ([[0, 1], [1, 0]], None, None),
        ([[0, 2, 1], [0, 0, 1], [0, 1, 0]], (0,), "never lost to"),
        ([[0, 2, 1], [1, 0, 1], [0, 0, 0]], (2,), "never won against"),
        ([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], (0, 1), "never met"),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 0]], (2,), "never met"),
        # two equal halves: the one above is named
        ([[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], (0, 1), "never lost to"),
    ],
)
def test_separation(wins, group, how):
    found = separation(wins)
    assert (None if found is None else (found.group, found.how)) == (group and (group, how))
    if group:
        with pytest.raises(DataError, match=f"{how} the rest"):
            bradley_terry(wins)


@pytest.mark.parametrize(
    ("wins", "message"),
    [
        ([[0, 1, 2]], r"has shape \(n, n\), not \(1, 3\)"),
        ([], "not"),
        ([[0, -1], [1, 0]], "negative"),
        ([[0, np.nan], [1, 0]], "NaN"),
        ([[1, 1], [1, 0]], "over itself"),
    ],
)
def test_tables_that_are_none(wins, message):
    with pytest.raises(DataError, match=message):
        bradley_terry(wins)


GOOD = {"i": [0, 1, 0], "j": [1, 0, 1], "y": [1, 1, 0.5], "n_models": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"i": [0, 1]}, r"model indices have shape \(2,\), not \(3,\)"),
        ({"j": [1.0, 0.0, 1.0]}, "not a whole number"),
        ({"i": [0, 1, 2]}, "outside 0 to 1"),
        ({"i": [0, 1, -1]}, "outside 0 to 1"),
        ({"i": [0, 0, 0], "j": [1, 0, 1]}, "comparison 1 is of model 0 with itself"),
        ({"y": [1, 1.2, 0]}, r"outside \[0, 1\]"),
        ({"y": [1, np.nan, 0]}, "NaN"),
        ({"y": []}, "no values"),
        ({"weights": [1, 1]}, "2 weights for 3 comparisons"),
        ({"weights": [1, 0, 1]}, "a weight is not positive"),
        ({"clusters": ["a", "b"]}, "2 cluster names for 3 values"),
        ({"clusters": np.array([1, 2])}, "2 cluster names for 3 values"),
        ({"clusters": ["a"] * 3}, "one cluster"),
        ({"ties": "elo"}, "ties is 'elo'"),
        ({"ties": "davidson", "y": [1, 0.9, 0.5]}, "needs outcomes 0, 0.5 or 1"),
        ({"ties": "davidson", "y": [0.5] * 3}, "every comparison is a tie"),
        ({"ties": "rao-kupper", "i": [0, 0], "j": [1, 1], "y": [1, 0.5]}, "no finite optimum"),
        ({"ties": "davidson", "i": [0, 0], "j": [1, 1], "y": [1, 0.5]}, "no finite optimum"),
        ({"ridge": -1.0}, "ridge is -1.0"),
        ({"ridge": np.nan}, "ridge is nan"),
        ({"covariates": [1.0, 2.0, 3.0]}, r"covariates have shape \(3,\)"),
        ({"covariates": [[1.0], [np.inf], [0.0]]}, "a covariate is NaN or infinite"),
        ({"covariates": [[0.0]] * 3}, "cannot be told apart"),
        ({"covariates": [[1.0], [-1.0], [1.0]]}, "cannot be told apart"),
        ({"y": [1, 0, 1]}, "never lost to the rest"),
    ],
)
def test_comparisons_that_support_no_fit(change, message):
    with pytest.raises(DataError, match=message):
        fit_bradley_terry(**{**GOOD, **change})


def test_covariates_that_tell_wins_apart_have_no_optimum():
    i, j, y, _ = comparisons(11, ties=0)
    with pytest.raises(DataError, match="no finite optimum"):
        fit_bradley_terry(i, j, y, 5, covariates=(y - 0.5)[:, None])


def test_intervals_cover_with_prompts_and_not_without():
    """Prompts that favor models at random, both orders asked: 95 % must mean about 95 %."""
    rng = np.random.default_rng(0)
    n_models, n_prompts, spread = 3, 25, 2.0
    pair_i, pair_j = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 2, 2, 0, 0, 1])
    strengths = np.array([-0.6, 0.0, 0.6])
    favor = strengths + rng.normal(0, spread, (200_000, n_models))
    chance = sigmoid(favor[:, pair_i] - favor[:, pair_j]).mean(axis=0)
    expected = np.zeros((3, 3))
    expected[pair_i, pair_j] = chance
    truth = bradley_terry(expected)
    prompt = np.repeat(np.arange(n_prompts), 6)
    i, j = np.tile(pair_i, n_prompts), np.tile(pair_j, n_prompts)
    hits, naive_hits, trials = 0, 0, 400
    for _ in range(trials):
        here = strengths + rng.normal(0, spread, (n_prompts, n_models))
        y = (rng.random(i.size) < sigmoid(here[prompt, i] - here[prompt, j])).astype(float)
        fit = fit_bradley_terry(i, j, y, 3, clusters=prompt)
        low, high = fit.interval()
        hits += ((low <= truth) & (truth <= high)).sum()
        miss = np.abs(fit.strengths - truth)
        naive_hits += (miss <= 1.96 * fit.se_sandwich).sum()
    assert 0.90 < hits / (3 * trials) < 0.98
    assert naive_hits / (3 * trials) < 0.88
