import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from rlaif.errors import DataError
from rlaif.stats.selective import binomial_limit, choose_threshold, to_escalate


@pytest.mark.parametrize(("errors", "n"), [(0, 30), (1, 30), (7, 60), (29, 30)])
def test_limit_is_clopper_and_pearsons(errors, n):
    expected = proportion_confint(errors, n, alpha=0.2, method="beta")[1]
    assert binomial_limit(errors, n, 0.1) == pytest.approx(expected, abs=1e-9)


def test_limit_by_hand():
    assert binomial_limit(0, 30, 0.1) == pytest.approx(1 - 0.1 ** (1 / 30))
    assert binomial_limit(5, 5, 0.1) == 1.0


def test_threshold_by_hand():
    # Three levels of confidence, 100 rows each, with 2, 6 and 40 errors: limits at 0.1 are 0.052
    # for 2 of 100, 0.065 for 8 of 200 and 0.19 for 48 of 300.
    confidence = np.repeat([0.95, 0.8, 0.6], 100)
    agrees = np.ones(300)
    agrees[[0, 50, *range(100, 106), *range(200, 240)]] = 0
    found = choose_threshold(confidence, agrees, alpha=0.1)
    assert (found.threshold, found.coverage, found.n) == (0.8, 200 / 300, 300)
    assert [(s.threshold, s.n, s.errors) for s in found.steps] == [
        (0.95, 100, 2),
        (0.8, 200, 8),
        (0.6, 300, 48),
    ]
    assert [s.risk_limit <= 0.1 for s in found.steps] == [True, True, False]
    assert choose_threshold(confidence, agrees, alpha=0.3).threshold == 0.6


def test_it_abstains_on_everything_when_even_the_surest_rows_fail():
    found = choose_threshold([0.99] * 50 + [0.6] * 50, [1, 0] * 50, alpha=0.1)
    assert (found.threshold, found.coverage, len(found.steps)) == (None, 0.0, 1)
    assert to_escalate([0.99, 0.6], found.threshold).tolist() == [1, 0]


def test_too_few_rows_keep_nothing():
    found = choose_threshold([0.9] * 29, [1] * 29, alpha=0.2)
    assert (found.threshold, found.steps) == (None, ())
    assert choose_threshold([0.9] * 30, [1] * 30, alpha=0.2).coverage == 1
    assert choose_threshold([0.9] * 20, [1] * 20, alpha=0.2, least_rows=20).coverage == 1


def test_rows_under_the_threshold_are_passed_on_least_sure_first():
    assert to_escalate([0.9, 0.5, 0.8, 0.7], 0.8).tolist() == [1, 3]
    assert to_escalate([0.9, 0.8], 0.8).tolist() == []


def test_order_and_names_of_confidences_do_not_matter():
    rng = np.random.default_rng(0)
    confidence = rng.random(200)
    agrees = (rng.random(200) < 0.5 + confidence / 2).astype(float)
    once = choose_threshold(confidence, agrees, alpha=0.25)
    shuffled = rng.permutation(200)
    assert choose_threshold(confidence[shuffled], agrees[shuffled], alpha=0.25) == once
    cubed = choose_threshold(confidence**3, agrees, alpha=0.25)
    assert cubed.coverage == once.coverage > 0
    assert cubed.threshold == pytest.approx(once.threshold**3)


def judge(rng, n, rows=1):
    """A judge of 80 %: sure rows up to 95 % right; rows of a prompt right or wrong together."""
    confidence = rng.beta(3, 1, n)
    chance = 0.5 + 0.45 * confidence**1.5
    draw = np.repeat(rng.random(n // rows), rows)
    mixed = np.where(rng.random(n) < (0.6 if rows > 1 else 0), draw, rng.random(n))
    return confidence, (mixed < chance).astype(float)


def kept_accuracy(threshold):
    """The share of kept rows that agree, in the long run, by integration."""
    grid = np.linspace(threshold, 1, 4001)
    return np.average(0.5 + 0.45 * grid**1.5, weights=3 * grid**2)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("alpha", [0.2, 0.15, 0.1])
def test_promise_is_kept(alpha, rows):
    rng = np.random.default_rng(round(alpha * 100) + rows)
    kept, coverage, trials = 0, 0.0, 300
    clusters = None if rows == 1 else np.repeat(np.arange(300 // rows), rows).tolist()
    for _trial in range(trials):
        found = choose_threshold(*judge(rng, 300, rows), alpha=alpha, clusters=clusters)
        kept += found.threshold is None or kept_accuracy(found.threshold) >= 1 - alpha
        coverage += found.coverage
    assert kept / trials >= 0.9
    if rows == 1:  # the plain port covers 0.52, 0.19 and 0.03 of this judge
        assert coverage / trials > {0.2: 0.65, 0.15: 0.28, 0.1: 0.04}[alpha]


def test_promise_is_kept_where_the_judge_is_just_too_bad():
    rng = np.random.default_rng(4)
    trials = 500
    kept = sum(
        choose_threshold(rng.random(300), rng.random(300) < 0.795, alpha=0.2).threshold is not None
        for _trial in range(trials)
    )
    assert kept / trials <= 0.1


@pytest.mark.parametrize(
    ("confidence", "agrees", "more", "message"),
    [
        ([0.5], [1, 0], {}, "1 confidences for 2 labels"),
        ([0.5], [0.5], {}, "neither 0 nor 1"),
        ([], [], {}, "no values"),
        ([0.5], [1], {"alpha": 0}, "alpha"),
        ([0.5], [1], {"delta": 0.5}, "delta"),
        ([0.5], [1], {"least_rows": 0}, "least_rows"),
        ([0.5], [1], {"clusters": ["p", "q"]}, "2 cluster names"),
    ],
)
def test_impossible_requests_are_refused(confidence, agrees, more, message):
    with pytest.raises(DataError, match=message):
        choose_threshold(confidence, agrees, **{"alpha": 0.1, **more})


@pytest.mark.parametrize(("errors", "n", "delta"), [(1, 0, 0.1), (3, 2, 0.1), (1, 2, 1.0)])
def test_impossible_limits_are_refused(errors, n, delta):
    with pytest.raises(DataError, match="no limit"):
        binomial_limit(errors, n, delta)
