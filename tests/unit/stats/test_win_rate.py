import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.stats.agreement import wilson
from rlaif.stats.win_rate import win_rate, win_rate_of_sums


def test_ties_count_half():
    rate = win_rate([1, 1, 0.5, 0])
    assert (rate.value, rate.n, rate.n_clusters, rate.level) == (0.625, 4, 4, 0.95)


def test_example_of_the_module_docstring():
    rate = win_rate([1, 1, 0.5, 0, 1, 0.5], clusters=["p1", "p1", "p2", "p2", "p3", "p3"])
    assert round(rate.value, 3) == 0.667
    assert rate.low < 0.2
    assert rate.high > 0.9
    assert rate.n_clusters == 3


def test_many_independent_outcomes_agree_with_wilson():
    outcomes = np.repeat([1.0, 0.0], [650, 350])
    rate = win_rate(outcomes)
    assert (rate.low, rate.high) == pytest.approx(wilson(650, 1000), abs=2e-3)
    assert rate.se == pytest.approx(np.sqrt(0.65 * 0.35 / 999))


@pytest.mark.parametrize("interval", ["wilson", "bootstrap"])
@pytest.mark.parametrize("outcome", [0.0, 0.5, 1.0])
def test_equal_outcomes_still_leave_room(interval, outcome):
    rate = win_rate([outcome] * 40, interval=interval)
    assert rate.se == 0
    assert rate.low <= outcome <= rate.high
    assert 0.05 < rate.high - rate.low < 0.35


def test_all_wins_reach_no_further_than_their_prompts():
    one_row = win_rate([1.0] * 20)
    ten_rows = win_rate([1.0] * 200, [i // 10 for i in range(200)])
    assert (ten_rows.low, ten_rows.high) == (one_row.low, one_row.high)


def test_prompts_that_cancel_within_themselves_still_leave_room():
    rate = win_rate([1, 0] * 10, [i // 2 for i in range(20)], interval="bootstrap")
    assert rate.se == 0
    assert rate.low < 0.35 < 0.65 < rate.high


def test_one_prompt_says_nothing_about_others():
    rate = win_rate([1, 1, 0], ["p", "p", "p"])
    assert (rate.low, rate.high, rate.se, rate.n_clusters) == (0.0, 1.0, 0.5, 1)


@pytest.mark.parametrize(
    ("outcomes", "options", "message"),
    [
        ([], {}, "no values"),
        ([1.2, 0.0], {}, "outside"),
        ([-0.1, 0.0], {}, "outside"),
        ([0.5, float("nan")], {}, "NaN"),
        ([0.5, 1.0], {"clusters": ["a"]}, "cluster names"),
        ([0.5, 1.0], {"level": 95}, "level"),
        ([0.5], {"level": 95}, "level"),
        ([0.5, 1.0], {"interval": "bootstrap", "rounds": 0}, "rounds"),
    ],
)
def test_refuses_what_is_no_win_rate(outcomes, options, message):
    with pytest.raises(DataError, match=message):
        win_rate(outcomes, **options)


ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1), st.integers(0, 6)),
    min_size=1,
    max_size=40,
)


@given(ROWS, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_interval_holds_the_value_and_mirrors(rows, level):
    outcomes = np.array([outcome for outcome, _ in rows])
    clusters = [cluster for _, cluster in rows]
    rate = win_rate(outcomes, clusters, level=level)
    mirrored = win_rate(1 - outcomes, clusters, level=level)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    assert mirrored.value == pytest.approx(1 - rate.value)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - rate.high, 1 - rate.low), abs=1e-6)


def simulate(prompts, rows, mean, spread, seed):
    """Outcomes of prompts whose own win probability is Beta distributed around `mean`."""
    rng = np.random.default_rng(seed)
    own = rng.beta(mean * spread, (1 - mean) * spread, size=prompts)
    return (rng.random((prompts, rows)) < own[:, None]).astype(float).ravel()


def coverage(prompts, rows, mean, clustered=True, **options):
    clusters = np.repeat(np.arange(prompts), rows).tolist() if clustered else None
    runs = 600
    held = 0
    for seed in range(runs):
        rate = win_rate(simulate(prompts, rows, mean, 2.0, seed), clusters, **options)
        held += rate.low <= mean <= rate.high
    return held / runs


@pytest.mark.parametrize(
    ("prompts", "rows", "mean"),
    [(12, 4, 0.5), (12, 4, 0.7), (24, 1, 0.6), (24, 4, 0.6), (64, 2, 0.64), (64, 8, 0.85)],
)
def test_interval_covers_what_it_claims_for_clustered_rows(prompts, rows, mean):
    assert 0.90 <= coverage(prompts, rows, mean) <= 0.985


def test_interval_covers_another_level():
    assert 0.76 <= coverage(24, 4, 0.6, level=0.8) <= 0.86


def test_ignoring_prompts_is_too_narrow():
    assert coverage(24, 8, 0.6, clustered=False) < 0.75
    assert coverage(24, 8, 0.6) > 0.92


def test_bootstrap_is_too_narrow_for_few_prompts():
    bootstrap = coverage(8, 4, 0.7, interval="bootstrap", rounds=200)
    assert bootstrap < 0.92 < coverage(8, 4, 0.7)


def test_bootstrap_agrees_for_many_prompts():
    outcomes = simulate(300, 2, 0.6, 2.0, seed=4)
    clusters = np.repeat(np.arange(300), 2).tolist()
    default = win_rate(outcomes, clusters)
    bootstrap = win_rate(outcomes, clusters, interval="bootstrap", seed=1)
    assert (bootstrap.low, bootstrap.high) == pytest.approx((default.low, default.high), abs=0.01)
    assert bootstrap != win_rate(outcomes, clusters, interval="bootstrap", seed=2)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([0.8, 0.95]),
)
def test_sums_by_prompt_tell_the_same_win_rate_as_rows(rows, level):
    prompts, values = [name for name, _ in rows], [value for _, value in rows]
    numbers = np.unique(prompts, return_inverse=True)[1]
    sums, sizes = np.bincount(numbers, values), np.bincount(numbers).astype(float)
    plain, of_sums = (
        win_rate(values, prompts, level=level),
        win_rate_of_sums(sums, sizes, level=level),
    )
    assert (plain.n, plain.n_clusters, plain.level) == (of_sums.n, of_sums.n_clusters, level)
    for name in ("value", "se", "low", "high"):
        assert getattr(of_sums, name) == pytest.approx(getattr(plain, name), abs=1e-9)


def test_sums_that_no_outcomes_have_are_refused():
    for sums in ([2.0], [-0.1], []):
        with pytest.raises(DataError, match="a sum of outcomes"):
            win_rate_of_sums(np.array(sums), np.ones(len(sums)))
