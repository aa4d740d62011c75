import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from rlaif.errors import DataError
from rlaif.stats.agreement import cohen_kappa
from rlaif.stats.clusters import bootstrap_means, cluster_numbers
from rlaif.stats.coefficients import coefficient, kappa

ROWS = st.lists(
    st.tuples(st.sampled_from(["A", "B", "tie"]), st.sampled_from(["A", "B", "tie"])),
    min_size=2,
    max_size=30,
)


@given(ROWS)
def test_kappa_is_the_plain_one_and_scikit_learns(rows):
    a, b = zip(*rows, strict=True)
    assume(len({*a, *b}) > 1)
    value = kappa(a, b, rounds=5).value
    assert value == pytest.approx(cohen_kappa(a, b), abs=1e-12)
    assert value == pytest.approx(cohen_kappa_score(a, b), abs=1e-9)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30))
def test_quadratic_kappa_is_scikit_learns(rows):
    a, b = zip(*rows, strict=True)
    assume(len({*a, *b}) > 1)
    expected = cohen_kappa_score(a, b, labels=[1, 2, 3, 4, 5], weights="quadratic")
    assert kappa(a, b, weights="quadratic", rounds=5).value == pytest.approx(expected, abs=1e-9)


def test_quadratic_kappa_by_hand():
    # Squared differences 0, 1, 0, 1: 1/2 observed; each score with each of the other's: 16/16.
    x, y = [1, 1, 2, 2], [1, 2, 2, 3]
    assert kappa(x, y, weights="quadratic", rounds=5).value == pytest.approx(0.5)
    assert kappa(x, x, weights="quadratic", rounds=5).value == 1.0


@given(ROWS, st.integers(2, 4))
def test_names_order_and_copies_change_nothing_but_n(rows, copies):
    a, b = zip(*rows, strict=True)
    assume(len({*a, *b}) > 1)
    prompts = [i // 2 for i in range(len(rows))]
    once = kappa(a, b, prompts, rounds=50)
    renamed = {"A": "x", "B": "y", "tie": "z"}
    again = kappa([renamed[x] for x in a], [renamed[x] for x in b], prompts, rounds=50)
    assert again == once
    more = kappa(a * copies, b * copies, prompts * copies, rounds=50)
    assert (more.value, more.low, more.high) == pytest.approx((once.value, once.low, once.high))
    assert more.n == copies * once.n
    assert more.n_clusters == once.n_clusters


def test_interval_holds_the_value_and_repeats_with_its_seed():
    rng = np.random.default_rng(1)
    a, b = rng.integers(3, size=60).tolist(), rng.integers(3, size=60).tolist()
    first = kappa(a, b, rounds=200, seed=4)
    assert first.low < first.value < first.high
    assert (first.n, first.n_clusters, first.rounds, first.seed) == (60, 60, 200, 4)
    assert kappa(a, b, rounds=200, seed=4) == first
    assert kappa(a, b, rounds=200, seed=5).low != first.low
    assert kappa(a, b, rounds=200, seed=4, level=0.5).low > first.low


def test_draws_are_those_of_the_bootstrap_of_means():
    # As agreement has chance 0, the coefficient is the mean itself.
    rng = np.random.default_rng(2)
    right, prompts = (rng.random(80) < 0.7).astype(float), np.repeat(np.arange(20), 4)
    parts = np.column_stack([np.bincount(prompts), np.bincount(prompts, weights=right)])
    result = coefficient(parts, _disagreement, 80, 0.95, 400, 3)
    means = bootstrap_means(right, cluster_numbers(prompts.tolist(), 80), rounds=400, seed=3)
    # Expanded: Phi(-sqrt(20/19) t_19(0.975)) = 0.01588 where the plain percentile takes 0.025.
    assert (result.low, result.high) == pytest.approx(
        tuple(np.quantile(means, [0.01588, 1 - 0.01588])), abs=2e-4
    )


def _disagreement(sums):
    return 1 - sums[..., 1] / sums[..., 0], np.ones(sums.shape[:-1])


def test_complete_agreement_still_has_a_width():
    a = ["A", "B"] * 20
    result = kappa(a, a, [i // 2 for i in range(40)])
    # No disagreement on 20 prompts: up to z^2 / (20 + z^2) = 0.161 of it, over chance's half.
    assert (result.value, result.high) == (1.0, 1.0)
    assert result.low == pytest.approx(1 - 0.1611 / 0.5, abs=1e-3)


def test_one_prompt_says_nothing_about_others():
    result = kappa("AABB", "AABA", ["p"] * 4)
    assert (result.low, result.high) == (-1.0, 1.0)


def test_resamples_without_a_coefficient_are_left_out():
    # Half of the resamples of two prompts hold one label only.
    result = kappa(["A", "A", "B", "B"], ["A", "A", "B", "B"], ["p", "p", "q", "q"], rounds=50)
    assert result.value == 1.0
    assert -1 <= result.low < 1


@pytest.mark.parametrize(
    ("a", "b", "more", "message"),
    [
        ([], [], {}, "no labels"),
        ("A", "AB", {}, "1 labels against 2"),
        ("AA", "AA", {}, "undefined"),
        ([1, 1], [1, 1], {"weights": "quadratic"}, "undefined"),
        (["good", "bad"], [1, 2], {"weights": "quadratic"}, "not numbers"),
        ("AB", "AB", {"clusters": ["p"]}, "1 cluster names"),
        ("AB", "AB", {"level": 1.0}, "level"),
        ("AB", "AB", {"rounds": 0}, "rounds"),
    ],
)
def test_kappa_refuses_what_it_cannot_measure(a, b, more, message):
    with pytest.raises(DataError, match=message):
        kappa(a, b, **more)


def test_interval_covers_where_prompts_differ_and_rows_alone_do_not():
    rng = np.random.default_rng(7)
    rows, prompts, trials = 10, 30, 250
    names = np.repeat(np.arange(prompts), rows).tolist()
    covered = {"prompts": 0, "rows": 0}
    for trial in range(trials):
        # Hard and easy prompts: the second rater repeats the first with a chance of its own for
        # each prompt, mean 0.7; three labels in equal shares, so kappa = (0.7 - 1/3) / (2/3).
        chance = np.repeat(rng.beta(1.4, 0.6, prompts), rows)
        first = rng.integers(3, size=prompts * rows)
        other = (first + rng.integers(1, 3, size=first.size)) % 3
        second = np.where(rng.random(first.size) < chance, first, other)
        for name, clusters in (("prompts", names), ("rows", None)):
            found = kappa(first.tolist(), second.tolist(), clusters, rounds=300, seed=trial)
            covered[name] += found.low <= 0.55 <= found.high
    assert 0.90 <= covered["prompts"] / trials <= 0.98
    assert covered["rows"] / trials < 0.85
