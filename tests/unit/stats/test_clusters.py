import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.stats.clusters import (
    bootstrap_means,
    cluster_numbers,
    clustered_se,
    finite_vector,
    se_of_sums,
    t_quantile,
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "no values"),
        ([[1.0, 2.0]], "shape"),
        ([1.0, float("nan")], "NaN"),
        ([1.0, float("inf")], "infinite"),
        (["one", "two"], "not numbers"),
        ([[1.0], [1.0, 2.0]], "not numbers"),
    ],
)
def test_values_must_be_one_row_of_finite_numbers(values, message):
    with pytest.raises(DataError, match=message):
        finite_vector(values)


def test_clusters_are_numbered_by_first_appearance_whatever_their_names():
    assert cluster_numbers(["b", 7, "b", None], 4).tolist() == [0, 1, 0, 2]
    assert cluster_numbers(None, 3).tolist() == [0, 1, 2]


@given(st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 5), max_size=40))
def test_whole_numbers_are_numbered_as_any_names_are(names):
    numbers = cluster_numbers(np.array(names, dtype=np.int64), len(names)).tolist()
    assert numbers == cluster_numbers(names, len(names)).tolist()


def test_an_array_of_names_is_numbered_too():
    assert cluster_numbers(np.array(["b", "a", "b"]), 3).tolist() == [0, 1, 0]
    assert cluster_numbers(np.array([300, 2, 300], dtype=np.uint16), 3).tolist() == [0, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-9, 9)), min_size=2, max_size=40))
def test_sums_by_cluster_tell_the_same_error_as_rows(rows):
    numbers = cluster_numbers([name for name, _ in rows], len(rows))
    values = np.array([value for _, value in rows])
    sums, sizes = np.bincount(numbers, values), np.bincount(numbers).astype(float)
    if sums.size < 2:
        with pytest.raises(DataError, match="one cluster"):
            se_of_sums(sums, sizes)
    else:
        assert se_of_sums(sums, sizes) == pytest.approx(clustered_se(values, numbers), abs=1e-9)


def test_cluster_names_must_match_the_rows():
    with pytest.raises(DataError, match="2 cluster names for 3"):
        cluster_numbers(["a", "b"], 3)


def test_standard_error_by_hand():
    # mean 0.5; residual sums of the clusters +1, -0.5, -0.5; sqrt(3/2 * 1.5) / 6 = 0.25
    values = np.array([1.0, 1.0, 0.5, 0.0, 0.0, 0.5])
    assert clustered_se(values, np.array([0, 0, 1, 1, 2, 2])) == pytest.approx(0.25)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_own_clusters_give_the_textbook_standard_error(values):
    vector = np.array(values)
    expected = vector.std(ddof=1) / np.sqrt(vector.size)
    assert clustered_se(vector, np.arange(vector.size)) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.integers(2, 5))
def test_copies_of_a_row_in_its_cluster_add_no_certainty(values, copies):
    vector = np.array(values)
    numbers = np.arange(vector.size)
    once = clustered_se(vector, numbers)
    repeated = clustered_se(np.repeat(vector, copies), np.repeat(numbers, copies))
    assert repeated == pytest.approx(once, abs=1e-12)


def test_one_cluster_has_no_standard_error():
    with pytest.raises(DataError, match="one cluster"):
        clustered_se(np.array([1.0, 0.0]), np.array([0, 0]))


def test_bootstrap_spread_is_the_clustered_standard_error():
    rng = np.random.default_rng(3)
    values = np.repeat(rng.random(60), 3)
    numbers = np.repeat(np.arange(60), 3)
    means = bootstrap_means(values, numbers, rounds=2000, seed=1)
    assert means.std() == pytest.approx(clustered_se(values, numbers), rel=0.08)


def test_bootstrap_repeats_with_its_seed_only():
    values, numbers = np.array([1.0, 0.0, 0.5, 1.0]), np.arange(4)
    first = bootstrap_means(values, numbers, rounds=20, seed=1)
    assert first.tolist() == bootstrap_means(values, numbers, rounds=20, seed=1).tolist()
    assert first.tolist() != bootstrap_means(values, numbers, rounds=20, seed=2).tolist()


def test_bootstrap_needs_a_round():
    with pytest.raises(DataError, match="rounds"):
        bootstrap_means(np.array([1.0]), np.array([0]), rounds=0, seed=0)


def test_t_quantile_against_the_printed_table():
    assert t_quantile(0.95, 11) == pytest.approx(2.228, abs=5e-4)
    assert t_quantile(0.99, 6) == pytest.approx(4.032, abs=5e-4)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95.0, float("nan")])
def test_level_must_be_a_probability(level):
    with pytest.raises(DataError, match="level"):
        t_quantile(level, 10)
