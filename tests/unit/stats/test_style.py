import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.stats.bradley_terry import fit_bradley_terry
from rlaif.stats.style import (
    FEATURES,
    StyleCounts,
    count_style,
    count_tokens,
    fit_style_control,
    style_differences,
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("text", "headers", "lists", "bold"),
    [
        ("", 0, 0, 0),
        ("# One\n## Two\n#hash\n####### seven", 2, 0, 0),
        ("- a\n* b\n+ c\n  - d\n1. e\n 12. f\n-g\n1.h", 0, 6, 0),
        ("**a** and __b__ and **c d**, not * e * or ** f", 0, 0, 3),
        ("**a\nb**", 0, 0, 0),
        ("before **x**\n```python\n# no header\n- no item\n**no**\n```\n# yes", 1, 0, 1),
        ("~~~\n- no\n~~~\n- yes", 0, 1, 0),
        ("```\n# never closed\n- no", 0, 0, 0),
        ("   ```\n- no\n   ```\n- yes", 0, 1, 0),
    ],
)
def test_count_style(text, headers, lists, bold):
    counts = count_style(text)
    assert (counts.headers, counts.lists, counts.bold) == (headers, lists, bold)
    assert counts.tokens == count_tokens(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("Hello, world!", 4), ("internationalization", 4), ("a\n b", 2), ("猫が好き", 1)],
)
def test_count_tokens(text, tokens):
    assert count_tokens(text) == tokens


@given(st.text(max_size=300))
def test_no_text_breaks_the_counts(text):
    counts = count_style(text)
    assert min(counts.tokens, counts.headers, counts.lists, counts.bold) >= 0


def test_hostile_text_takes_no_time():
    count_style("**" * 50_000 + "```" * 50_000 + "\n" + " " * 100_000 + "-")
    count_style("__a" * 50_000)


def test_style_differences_by_hand():
    a, b = StyleCounts(199, 4, 0, 10), StyleCounts(99, 1, 0, 0)
    q_header, q_bold = (4 / 200, 1 / 100), 10 / 200
    expected = [
        100 / 298,
        (q_header[0] - q_header[1]) / (q_header[0] + q_header[1] + 1),
        0,
        q_bold / (q_bold + 1),
    ]
    assert style_differences([a], [b])[0] == pytest.approx(expected)
    assert style_differences([b], [a]) == pytest.approx(-style_differences([a], [b]))
    empty = StyleCounts(0, 0, 0, 0)
    assert style_differences([empty], [empty]).tolist() == [[0, 0, 0, 0]]


def test_style_differences_need_pairs():
    with pytest.raises(DataError, match="1 responses against 0"):
        style_differences([StyleCounts(1, 0, 0, 0)], [])
    with pytest.raises(DataError, match="there are no responses"):
        style_differences([], [])


def styled(seed=0, n=1500, n_models=4, baseline=False):
    """Comparisons of a judge that pays for the first feature, which some models have more of."""
    rng = np.random.default_rng(seed)
    strengths = np.linspace(-0.6, 0.6, n_models)
    i = rng.integers(1, n_models, n) if baseline else rng.integers(n_models, size=n)
    j = np.zeros(n, int) if baseline else (i + rng.integers(1, n_models, n)) % n_models
    habit = np.linspace(0.4, -0.4, n_models)  # the weak write long
    x = rng.normal(0, 0.3, (n, 4)) * [1, 2, 0.1, 1]
    x[:, 0] += habit[i] - habit[j]
    y = (rng.random(n) < sigmoid(strengths[i] - strengths[j] + 2.0 * x[:, 0])).astype(float)
    return i, j, y, x, strengths


def test_z_scores_equal_a_logistic_regression():
    i, j, y, x, _ = styled(1, baseline=True)
    z = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    design = np.zeros((y.size, 4))
    design[np.arange(y.size), i], design[np.arange(y.size), j] = 1, -1
    prompt = np.arange(y.size) // 2
    theirs = sm.GLM(y, np.hstack([design[:, 1:], z]), family=sm.families.Binomial()).fit(
        tol=1e-13, cov_type="cluster", cov_kwds={"groups": prompt, "use_correction": False}
    )
    ours = fit_style_control(i, j, y, 4, x, clusters=prompt)
    gaps = ours.fit.strengths[1:] - ours.fit.strengths[0]
    assert gaps == pytest.approx(theirs.params[:3], abs=1e-6)
    assert ours.coefficients == pytest.approx(theirs.params[3:], abs=1e-6)
    assert ours.se == pytest.approx(theirs.bse[3:], rel=1e-6)
    assert ours.features == FEATURES
    assert ours.win_rate(2, 0) == pytest.approx(sigmoid(theirs.params[1]))
    assert ours.centers == pytest.approx(x.mean(axis=0))
    assert ours.scales == pytest.approx(x.std(axis=0, ddof=1))


def test_style_control_recovers_strengths_that_style_hid():
    i, j, y, x, strengths = styled(2, n=20_000)
    raw = fit_bradley_terry(i, j, y, 4).strengths
    controlled = fit_style_control(i, j, y, 4, x, center=False)
    assert np.argmax(raw) == 0  # the weakest, but wordy
    assert controlled.fit.strengths == pytest.approx(strengths, abs=0.1)
    per_unit = controlled.coefficients / controlled.scales
    assert per_unit[0] == pytest.approx(2.0, abs=0.15)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**20))
def test_without_centering_swapping_changes_nothing(seed):
    i, j, y, x, _ = styled(seed, n=300)
    swap = np.random.default_rng(seed).random(300) < 0.5
    sign = np.where(swap, -1, 1)[:, None]
    plain = fit_style_control(i, j, y, 4, x, center=False)
    turned = fit_style_control(
        np.where(swap, j, i),
        np.where(swap, i, j),
        np.where(swap, 1 - y, y),
        4,
        x * sign,
        center=False,
    )
    assert turned.fit.strengths == pytest.approx(plain.fit.strengths, abs=1e-7)
    assert turned.coefficients == pytest.approx(plain.coefficients, abs=1e-7)


def test_a_feature_that_never_varies_says_nothing():
    i, j, y, x, _ = styled(3)
    x[:, 2] = 0
    fit = fit_style_control(i, j, y, 4, x)
    assert (fit.coefficients[2], fit.se[2]) == (0, 0)
    without = fit_style_control(i, j, y, 4, x[:, [0, 1, 3]], features=("a", "b", "c"))
    assert fit.fit.strengths == pytest.approx(without.fit.strengths, abs=1e-12)


@pytest.mark.parametrize(
    ("differences", "message"),
    [
        ([[0.1, 0.2]] * 2, r"differences have shape \(2, 2\), not \(n, 4\)"),
        ([0.1, 0.2], "differences have shape"),
        ([[0, 0, 0, np.nan]] * 2, "NaN"),
        ([[0.1, 0, 0, 0]] * 3, "covariates have shape"),
        (np.empty((0, 4)), "covariates have shape"),
    ],
)
def test_differences_that_fit_no_comparisons(differences, message):
    with pytest.raises(DataError, match=message):
        fit_style_control([0, 1], [1, 0], [1, 1], 2, differences)
