import numpy as np
import pytest

from rlaif.errors import DataError
from rlaif.stats.bootstrap import bootstrap_bradley_terry, max_t_intervals, normal_draws
from rlaif.stats.bradley_terry import bradley_terry, fit_bradley_terry
from rlaif.stats.ranks import rank_intervals


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def comparisons(seed, n_models, n_prompts, per_prompt, spread=0.7):
    rng = np.random.default_rng(seed)
    strengths = np.linspace(-1, 1, n_models)
    prompt = np.repeat(np.arange(n_prompts), per_prompt)
    i = rng.integers(n_models, size=prompt.size)
    j = (i + rng.integers(1, n_models, size=prompt.size)) % n_models
    favor = rng.normal(0, spread, (n_prompts, n_models)) + strengths
    p = sigmoid(favor[prompt, i] - favor[prompt, j])
    y = np.round(2 * (0.6 * p + 0.4 * rng.random(prompt.size))) / 2
    return i, j, y, prompt


def refits(i, j, y, weights, prompt, n_models, rounds, seed):
    """The bootstrap written down once more: draw prompts, fill a table of wins, fit it."""
    rng = np.random.default_rng(seed)
    n_prompts = prompt.max() + 1
    for _ in range(rounds):
        drawn = np.bincount(rng.integers(n_prompts, size=n_prompts), minlength=n_prompts)
        wins = np.zeros((n_models, n_models))
        np.add.at(wins, (i, j), drawn[prompt] * weights * y)
        np.add.at(wins, (j, i), drawn[prompt] * weights * (1 - y))
        yield bradley_terry(wins)


@pytest.mark.parametrize(
    ("n_models", "n_prompts", "per_prompt"), [(3, 12, 10), (6, 60, 20), (40, 50, 200)]
)
def test_each_draw_is_the_fit_of_its_resample(n_models, n_prompts, per_prompt):
    i, j, y, prompt = comparisons(1, n_models, n_prompts, per_prompt)
    weights = np.random.default_rng(2).uniform(0.5, 2, y.size)
    boot = bootstrap_bradley_terry(
        i, j, y, n_models, weights=weights, clusters=prompt, rounds=70, seed=5
    )
    expected = list(refits(i, j, y, weights, prompt, n_models, 70, 5))
    assert boot.draws == pytest.approx(np.array(expected), abs=1e-6)
    full = fit_bradley_terry(i, j, y, n_models, weights=weights)
    assert boot.strengths == pytest.approx(full.strengths, abs=1e-9)
    assert (boot.n, boot.n_clusters, boot.left_out, boot.seed) == (y.size, n_prompts, 0, 5)


def test_memory_is_bounded_by_blocks_that_change_nothing(monkeypatch):
    i, j, y, prompt = comparisons(2, 5, 40, 12)
    whole = bootstrap_bradley_terry(i, j, y, 5, clusters=prompt, rounds=50)
    monkeypatch.setattr("rlaif.stats.bootstrap._TABLE", 100)
    monkeypatch.setattr("rlaif.stats.bootstrap._IN_CACHE", 1)
    parts = bootstrap_bradley_terry(i, j, y, 5, clusters=prompt, rounds=50)
    assert parts.draws == pytest.approx(whole.draws, abs=1e-9)


def test_names_and_numbers_of_prompts_are_alike():
    i, j, y, prompt = comparisons(3, 4, 30, 10)
    numbers = bootstrap_bradley_terry(i, j, y, 4, clusters=prompt * 7 + 3, rounds=20)
    names = bootstrap_bradley_terry(i, j, y, 4, clusters=[f"q{p}" for p in prompt], rounds=20)
    assert names.draws == pytest.approx(numbers.draws, abs=1e-12)


def test_a_seed_draws_the_same_prompts_again():
    i, j, y, prompt = comparisons(4, 4, 30, 10)
    draws = [
        bootstrap_bradley_terry(i, j, y, 4, clusters=prompt, rounds=10, seed=seed).draws
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_spread_agrees_with_the_clustered_sandwich():
    i, j, y, prompt = comparisons(5, 5, 300, 8)
    boot = bootstrap_bradley_terry(i, j, y, 5, clusters=prompt, rounds=800)
    fit = fit_bradley_terry(i, j, y, 5, clusters=prompt)
    assert boot.se == pytest.approx(fit.se, rel=0.12)
    assert boot.interval()[0] == pytest.approx(fit.interval()[0], abs=0.25 * fit.se.max())
    alone = bootstrap_bradley_terry(i, j, y, 5, rounds=800)  # each comparison by itself
    assert alone.n_clusters == y.size
    assert alone.se == pytest.approx(fit.se_sandwich, rel=0.12)


def test_difference_keeps_what_models_share():
    i, j, y, prompt = comparisons(6, 4, 40, 12)
    boot = bootstrap_bradley_terry(i, j, y, 4, clusters=prompt, rounds=300)
    value, low, high = boot.difference(3, 0)
    assert value == boot.strengths[3] - boot.strengths[0]
    gap = np.sort(boot.draws[:, 3] - boot.draws[:, 0])
    assert gap[7] <= low <= gap[8]
    assert gap[291] <= high <= gap[292]


def rare_winner():
    """Model 2 wins on 6 prompts of 30 only: about one resample in 800 leaves them all out."""
    rows = [(0, 1, p % 2, p) for p in range(30)] + [(2, 0, int(p < 6), p) for p in range(30)]
    return [np.array(column) for column in zip(*rows, strict=True)]


def test_rounds_without_a_finite_fit_are_counted():
    i, j, y, prompt = rare_winner()
    boot = bootstrap_bradley_terry(i, j, y, 3, clusters=prompt, rounds=3000)
    assert 0 < boot.left_out < 30
    assert boot.draws.shape == (3000 - boot.left_out, 3)
    assert np.isfinite(boot.draws).all()


def test_too_many_rounds_without_a_finite_fit_are_refused():
    i, j, y, prompt = rare_winner()
    y = np.where((i == 2) & (prompt > 1), 0, y)  # wins on 2 prompts: gone in 13 % of resamples
    with pytest.raises(DataError, match=r"\d+ of 200 resamples have no finite strengths"):
        bootstrap_bradley_terry(i, j, y, 3, clusters=prompt, rounds=200)
    boot = bootstrap_bradley_terry(i, j, y, 3, clusters=prompt, rounds=200, ridge=0.1)
    assert boot.left_out == 0
    full = fit_bradley_terry(i, j, y, 3, ridge=0.1)
    assert boot.strengths == pytest.approx(full.strengths, abs=1e-9)


def test_a_group_that_falls_apart_in_a_resample_is_left_out():
    # {0, 1} and {2, 3} meet on six prompts of 100, one winning on three and the other on three:
    # each model wins and loses in its group anyway.
    rows = [(0, 1, p % 2, p) for p in range(100)] + [(2, 3, p % 2, p) for p in range(100)]
    rows += [(0, 2, p % 2, p) for p in range(6)]
    i, j, y, prompt = (np.array(column) for column in zip(*rows, strict=True))

    def falls_apart(drawn):
        return drawn[0:6:2].sum() == 0 or drawn[1:6:2].sum() == 0

    rng = np.random.default_rng(0)
    apart = [
        falls_apart(np.bincount(rng.integers(100, size=100), minlength=100)) for _ in range(60)
    ]
    assert 0 < sum(apart) < 60
    with pytest.raises(DataError, match=f"{sum(apart)} of 60 resamples have no finite strengths"):
        bootstrap_bradley_terry(i, j, y, 4, clusters=prompt, rounds=60)


def test_groups_that_never_met_in_a_resample_are_left_out():
    # {0, 1} and {2, 3} meet on one prompt, drawn into 63 % of resamples: a tie there.
    rows = [(0, 1, p % 2, p) for p in range(20)] + [(2, 3, p % 2, p) for p in range(20)]
    rows.append((0, 2, 0.5, 0))
    i, j, y, prompt = (np.array(column) for column in zip(*rows, strict=True))
    i, j = i.astype(int), j.astype(int)
    with pytest.raises(DataError, match="resamples have no finite strengths"):
        bootstrap_bradley_terry(i, j, y, 4, clusters=prompt.astype(int), rounds=100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 1}, "rounds is 1"),
        ({"clusters": ["a"] * 4}, "one cluster"),
        ({"clusters": ["a", "b"]}, "2 cluster names"),
        ({"ridge": -2.0}, "ridge is -2.0"),
        ({"weights": [1, 1]}, "2 weights"),
    ],
)
def test_what_cannot_be_resampled(options, message):
    with pytest.raises(DataError, match=message):
        bootstrap_bradley_terry([0, 1, 0, 1], [1, 0, 1, 0], [1, 1, 0, 0], 2, **options)


def test_max_t_intervals_hold_for_all_at_once():
    rng = np.random.default_rng(0)
    covariance = np.full((6, 6), 0.3) + 0.7 * np.eye(6)
    draws = normal_draws(np.zeros(6), covariance, rounds=20_000, seed=1)
    low, high = max_t_intervals(np.zeros(6), draws)
    fresh = rng.multivariate_normal(np.zeros(6), covariance, size=20_000)
    inside = ((low <= fresh) & (fresh <= high)).all(axis=1).mean()
    assert inside == pytest.approx(0.95, abs=0.006)
    assert np.all(high > 1.96 * 1.2)
    with pytest.raises(DataError, match=r"level is 1\.5"):
        max_t_intervals([0.0], [[0.0], [1.0]], 1.5)


def test_normal_draws_take_a_singular_covariance():
    i, j, y, prompt = comparisons(7, 4, 40, 12)
    fit = fit_bradley_terry(i, j, y, 4, clusters=prompt)
    draws = normal_draws(fit.strengths, fit.covariance, rounds=4000)
    assert np.abs(draws.sum(axis=1)).max() < 1e-6  # mean zero stays mean zero
    assert draws.std(axis=0) == pytest.approx(fit.se, rel=0.06)
    low, high = max_t_intervals(fit.strengths, draws)
    assert np.all(low < fit.strengths - 1.96 * fit.se)
    assert np.all(high > fit.strengths + 1.96 * fit.se)


def test_ranks_from_simultaneous_intervals():
    i, j, y, prompt = comparisons(8, 3, 400, 12)
    boot = bootstrap_bradley_terry(i, j, y, 3, clusters=prompt, rounds=300)
    low, high = boot.simultaneous()
    narrow_low, narrow_high = boot.interval()
    assert (high - low).sum() > (narrow_high - narrow_low).sum()
    best, worst = rank_intervals(low, high)
    assert best.tolist() == worst.tolist() == [3, 2, 1]


def test_example_intervals_cover_with_prompts_and_not_without():
    rng = np.random.default_rng(0)
    spread, n_prompts = 1.5, 40
    strengths = np.array([-0.5, 0.0, 0.5])
    pair_i, pair_j = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 2, 2, 0, 0, 1])
    favor = strengths + rng.normal(0, spread, (100_000, 3))
    expected = np.zeros((3, 3))
    expected[pair_i, pair_j] = sigmoid(favor[:, pair_i] - favor[:, pair_j]).mean(axis=0)
    truth = bradley_terry(expected)
    prompt = np.repeat(np.arange(n_prompts), 6)
    i, j = np.tile(pair_i, n_prompts), np.tile(pair_j, n_prompts)
    hits, naive, trials = 0, 0, 200
    for trial in range(trials):
        here = strengths + rng.normal(0, spread, (n_prompts, 3))
        y = sigmoid(here[prompt, i] - here[prompt, j])  # soft outcomes
        for clusters in (prompt, None):
            boot = bootstrap_bradley_terry(i, j, y, 3, clusters=clusters, rounds=200, seed=trial)
            low, high = boot.interval()
            inside = ((low <= truth) & (truth <= high)).sum()
            hits, naive = (hits + inside, naive) if clusters is not None else (hits, naive + inside)
    assert 0.90 < hits / (3 * trials) < 0.98
    assert naive / (3 * trials) < 0.85
