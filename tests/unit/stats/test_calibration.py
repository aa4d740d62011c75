import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from rlaif.errors import DataError
from rlaif.stats.calibration import Isotonic, Logistic, calibrate, fit, folds_of
from rlaif.stats.numeric import logit, sigmoid


def overconfident(n, seed=0, slope=0.4):
    """A judge whose log-odds are 1 / slope too large, and what people said."""
    rng = np.random.default_rng(seed)
    truth = sigmoid(rng.normal(0, 1.2, n))
    return sigmoid(logit(truth) / slope), (rng.random(n) < truth).astype(float)


def logistic_of_sklearn(p, y, *, intercept):
    """(slope, intercept) by scikit-learn, soft targets as weighted rows."""
    odds = np.log(p / (1 - p))
    model = LogisticRegression(C=np.inf, fit_intercept=intercept, tol=1e-10, max_iter=1000)
    model.fit(
        np.concatenate([odds, odds])[:, None],
        np.repeat([1, 0], len(p)),
        np.concatenate([y, 1 - y]),
    )
    return model.coef_[0, 0], model.intercept_[0] if intercept else 0.0


@pytest.mark.parametrize("intercept", [True, False])
def test_logistic_maps_are_scikit_learns(intercept):
    p, y = overconfident(300)
    y[:20] = 0.5
    y[20:40] = 1
    fitted = fit("platt" if intercept else "temperature", p, y, comparisons=False)
    # Platt's targets: (N+ + 1) / (N+ + 2) and 1 / (N- + 2); mirrored rows have N+ = N- = n.
    above, below = (y.sum(), (1 - y).sum()) if intercept else (300, 300)
    low, high = 1 / (below + 2), (above + 1) / (above + 2)
    expected = logistic_of_sklearn(p, low + (high - low) * y, intercept=intercept)
    assert (fitted.slope, fitted.intercept) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("comparisons", [True, False])
def test_isotonic_is_scikit_learns(comparisons):
    p, y = overconfident(200, seed=3)
    p = p.round(2)  # with repeated probabilities
    x, z = (np.r_[p, 1 - p], np.r_[y, 1 - y]) if comparisons else (p, y)
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x, z)
    grid = np.linspace(0, 1, 301)
    ours = fit("isotonic", p, y, comparisons=comparisons)
    assert ours(grid) == pytest.approx(theirs.predict(grid), abs=1e-9)


def test_isotonic_by_hand():
    # 0.2: 1, 0.4: 0 pool to 0.5; 0.8: 1.
    fitted = fit("isotonic", [0.4, 0.2, 0.8], [0, 1, 1], comparisons=False)
    assert fitted == Isotonic((0.2, 0.4, 0.8), (0.5, 0.5, 1.0))
    assert fitted([0.1, 0.3, 0.6, 0.9]).tolist() == [0.5, 0.5, 0.75, 1.0]


def test_temperature_finds_the_one_that_was_put_in():
    p, y = overconfident(20_000)
    fitted = fit("temperature", p, y)
    assert fitted.slope == pytest.approx(0.4, abs=0.02)
    assert fitted.intercept == 0
    assert fitted == fit("platt", p, y)


@given(
    st.sampled_from(["temperature", "platt", "isotonic"]),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=2, max_size=30),
)
def test_maps_rise_and_mirror(method, rows):
    p, y = zip(*rows, strict=True)
    try:
        fitted = fit(method, p, y)
    except DataError:
        assert method != "isotonic"
        assert set(p) == {0.5}
        return
    grid = np.linspace(0, 1, 41)
    values = fitted(grid)
    assert np.all(np.diff(values) >= -1e-12)
    assert np.all((values >= 0) & (values <= 1))
    assert fitted(1 - grid) == pytest.approx(1 - values, abs=1e-9)


@given(st.integers(2, 4))
def test_isotonic_ignores_copies(copies):
    p, y = overconfident(40, seed=5)
    grid = np.linspace(0, 1, 21)
    assert fit("isotonic", np.tile(p, copies), np.tile(y, copies))(grid) == pytest.approx(
        fit("isotonic", p, y)(grid), abs=1e-9
    )


def test_a_judge_that_is_always_right_gets_a_finite_slope():
    fitted = fit("temperature", [0.9, 0.1, 0.8] * 40, [1, 0, 1] * 40)
    assert 1 < fitted.slope < 10
    hard = fit("temperature", [1.0, 0.0, 1.0], [1, 0, 1])
    assert hard([1.0])[0] == pytest.approx(0.8)  # (3 + 1) / (3 + 2)


def test_a_judge_worse_than_chance_is_not_turned_round():
    assert fit("temperature", [0.9, 0.1, 0.8], [0, 1, 0]) == Logistic(0.0, 0.0)
    flat = fit("platt", [0.9, 0.1, 0.8, 0.2], [0, 1, 0, 0], comparisons=False)
    assert flat.slope == 0
    assert flat([0.1, 0.9]) == pytest.approx([1 / 3, 1 / 3], abs=0.05)


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_out_of_fold_calibration_beats_the_raw_judge(method):
    p, y = overconfident(1500, seed=1)
    prompts = (np.arange(1500) // 3).tolist()
    found = calibrate(method, p, y, prompts)
    assert found.before.ece > 0.12
    assert found.after.ece < 0.05
    assert found.after.brier < found.before.brier
    assert found.after.log_loss < found.before.log_loss
    assert (found.folds, found.seed, found.n_clusters, found.method) == (5, 0, 500, method)
    assert found.fitted == fit(method, p, y)
    assert sum(b.n for b in found.after.bins) == 1500


def test_a_row_is_mapped_without_its_prompt():
    # One prompt has all the contradicting labels: a fit that saw them would be level.
    p = np.array([0.9, 0.1] * 20)
    y = np.array([1.0, 0.0] * 20)
    y[:8] = 1 - y[:8]
    prompts = ["odd"] * 8 + [f"p{i}" for i in range(32)]
    found = calibrate("isotonic", p, y, prompts, folds=4)
    fold = folds_of(np.array([0] * 8 + list(range(1, 33))), 4, 0)
    others = fit("isotonic", p[fold != fold[0]], y[fold != fold[0]])
    assert found.out_of_fold[:8] == pytest.approx(others(p[:8]))
    assert found.out_of_fold[0] == 1.0


def test_swapping_all_candidates_mirrors_the_calibration():
    p, y = overconfident(120, seed=8)
    for method in ("temperature", "isotonic"):
        one, other = calibrate(method, p, y), calibrate(method, 1 - p, 1 - y)
        assert other.out_of_fold == pytest.approx(1 - one.out_of_fold, abs=1e-9)
        assert other.after.ece == pytest.approx(one.after.ece, abs=1e-9)


def test_folds_keep_prompts_whole_and_even():
    numbers = np.repeat(np.arange(22), 3)
    fold = folds_of(numbers, 5, seed=1)
    assert all(len(set(fold[numbers == c])) == 1 for c in range(22))
    assert sorted(np.bincount(fold[::3])) == [4, 4, 4, 5, 5]
    assert folds_of(numbers, 5, seed=1).tolist() == fold.tolist()
    assert folds_of(numbers, 5, seed=2).tolist() != fold.tolist()


@pytest.mark.parametrize("folds", [1, 4])
def test_folds_need_as_many_prompts(folds):
    with pytest.raises(DataError, match=f"{folds} folds of 3 prompts"):
        calibrate("isotonic", [0.5, 0.6, 0.7], [1, 0, 1], folds=folds)


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(DataError, match="alike"):
        fit("temperature", [0.5, 0.5], [1, 0])
    with pytest.raises(DataError, match="alike"):
        fit("platt", [0.7, 0.7], [1, 0], comparisons=False)
    with pytest.raises(DataError, match="1 probabilities for 2"):
        fit("isotonic", [0.7], [1, 0])
    for mapped in (Logistic(1.0), Isotonic((0.0, 1.0), (0.0, 1.0))):
        with pytest.raises(DataError, match="outside"):
            mapped([1.2])
