import numpy as np
import pytest

from rlaif.errors import DataError
from rlaif.stats.means import mean_interval, mean_interval_of_sums


def test_interval_by_hand():
    # mean 5, s = sqrt(10), se = sqrt(2), t(4) = 2.7764: 5 +- 3.926
    result = mean_interval([1, 3, 5, 7, 9])
    assert result.value == 5
    assert result.se == pytest.approx(np.sqrt(2))
    assert (result.low, result.high) == pytest.approx((1.0736, 8.9264), abs=5e-4)
    assert (result.n, result.n_clusters, result.level) == (5, 5, 0.95)


def test_rows_of_a_prompt_are_one_piece_of_evidence():
    clustered = mean_interval([1, 1, 3, 3, 5, 5], ["a", "a", "b", "b", "c", "c"])
    single = mean_interval([1, 3, 5])
    assert (clustered.low, clustered.high) == pytest.approx((single.low, single.high))
    assert (clustered.n, clustered.n_clusters) == (6, 3)


def test_equal_values_have_no_width():
    result = mean_interval([2.5, 2.5, 2.5])
    assert (result.low, result.value, result.high) == (2.5, 2.5, 2.5)


def test_covers_what_it_claims_for_clustered_rows():
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(10), 3).tolist()
    held = 0
    for _ in range(800):
        values = np.repeat(rng.normal(size=10), 3) + rng.normal(size=30)
        result = mean_interval(values, clusters)
        held += result.low <= 0 <= result.high
    assert 0.92 <= held / 800 <= 0.98


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "no values"),
        ([1.0], {}, "one cluster"),
        ([1.0, 2.0], {"clusters": ["a", "a"]}, "one cluster"),
        ([1.0, float("nan")], {}, "NaN"),
        ([1.0, 2.0], {"level": 1.5}, "level"),
    ],
)
def test_refuses_what_has_no_interval(values, options, message):
    with pytest.raises(DataError, match=message):
        mean_interval(values, **options)


def test_sums_by_prompt_tell_the_same_mean_as_rows():
    values, prompts = [3.0, 5.0, 4.0, 8.0, 1.0], np.array([0, 0, 1, 2, 2])
    sums, sizes = np.bincount(prompts, values), np.bincount(prompts).astype(float)
    plain, of_sums = mean_interval(values, prompts), mean_interval_of_sums(sums, sizes)
    assert (plain.n, plain.n_clusters) == (of_sums.n, of_sums.n_clusters)
    for name in ("value", "se", "low", "high"):
        assert getattr(of_sums, name) == pytest.approx(getattr(plain, name))
    with pytest.raises(DataError, match="one cluster"):
        mean_interval_of_sums(np.array([4.0]), np.array([2.0]))
