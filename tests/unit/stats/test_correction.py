import json
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.stats.correction import correlation, label_multiplier, ppi_mean, shrink


def test_ppi_by_hand():
    # y - mean: +-1/2; f - mean: the same: slope sum(y g) / sum(g g) with g = f less the others'.
    y, f = [1, 0, 1, 0], [1, 0, 1, 0]
    judged = [1, 1, 1, 0] * 100
    found = ppi_mean(y, f, judged)
    by_label = np.array([0.5, -0.5, 0.5, -0.5]) / 4
    others = (np.array(judged) - 0.75) / 400
    weight = by_label @ by_label / (by_label @ by_label + others @ others)
    assert found.weight == pytest.approx(weight)
    assert found.value == pytest.approx(0.5 - weight * (0.5 - 0.75))
    variance = (1 - weight) ** 2 * by_label @ by_label + weight**2 * others @ others
    assert found.se == pytest.approx(np.sqrt(4 / 3 * variance))
    assert (found.labels_only, found.correlation, found.n, found.n_labeled) == (0.5, 1.0, 400, 4)
    assert found.raw == pytest.approx(302 / 404)


def test_many_rows_give_the_published_weight():
    # PPI++: lambda = Cov(Y, f) / ((1 + n / N) Var f), each row a cluster of its own.
    rng = np.random.default_rng(0)
    f, g = rng.random(4000), rng.random(8000)
    y = np.clip(f + rng.normal(0, 0.2, 4000), 0, 1)
    found = ppi_mean(y, f, g)
    expected = np.cov(y, f)[0, 1] / (1.5 * np.var(np.r_[f, g], ddof=1))
    assert found.weight == pytest.approx(expected, abs=0.02)
    by_formula = np.var(y - found.weight * f) / 4000 + found.weight**2 * np.var(g) / 8000
    assert found.se == pytest.approx(np.sqrt(by_formula), rel=2e-3)


def test_a_useless_judge_costs_nothing():
    rng = np.random.default_rng(1)
    y = rng.random(50).round()
    found = ppi_mean(y, np.ones(50), np.ones(500))
    assert (found.weight, found.value, found.correlation) == (0.0, y.mean(), None)
    opposed = ppi_mean(y, 1 - y, rng.random(500).round())
    assert (opposed.weight, opposed.value) == (0.0, y.mean())


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20))
def test_copies_add_no_certainty_and_swapping_sides_mirrors(rows):
    y, f = (np.array(column) for column in zip(*rows, strict=True))
    judged, names = np.linspace(0, 1, 30), list(range(100, 130))
    own = list(range(len(y)))
    once = ppi_mean(y, f, judged, clusters=names, labeled_clusters=own)
    twice = ppi_mean(
        np.r_[y, y],
        np.r_[f, f],
        np.r_[judged, judged],
        clusters=names * 2,
        labeled_clusters=own * 2,
    )
    assert (twice.value, twice.se) == pytest.approx((once.value, once.se), abs=1e-9)
    mirrored = ppi_mean(1 - y, 1 - f, 1 - judged)
    assert (mirrored.value, mirrored.low) == pytest.approx(
        (1 - once.value, 1 - once.high), abs=1e-6
    )
    assert 0 <= once.low <= once.value <= once.high <= 1


def test_other_scales():
    once = ppi_mean([0, 1, 1], [0.2, 0.9, 0.7], [0.5, 0.1, 0.9])
    scores = ppi_mean([1, 10, 10], [2.8, 9.1, 7.3], [5.5, 1.9, 9.1], scale=(1, 10))
    assert scores.value == pytest.approx(1 + 9 * once.value)
    assert (scores.low, scores.high) == pytest.approx((1 + 9 * once.low, 1 + 9 * once.high))


def world(rng, prompts, rows):
    """Outcomes by people and by a judge that is 10 points too kind; rows of a prompt alike."""
    level = np.repeat(rng.normal(0, 0.8, prompts), rows)
    people = (rng.normal(level, 1) > 0).astype(float)
    judge = np.where(rng.random(people.size) < 0.25, 1.0, people)
    return people, judge, np.repeat(np.arange(prompts), rows)


def test_interval_covers_by_prompt_and_not_by_row():
    rng = np.random.default_rng(3)
    covered, by_row, narrower, trials = 0, 0, 0, 2000
    for _trial in range(trials):
        y, f, names = world(rng, 40, 4)
        _, g, others = world(rng, 300, 4)
        found = ppi_mean(y, f, g, clusters=(others + 40).tolist(), labeled_clusters=names.tolist())
        covered += found.low <= 0.5 <= found.high
        alone = ppi_mean(y, f, g)
        by_row += alone.low <= 0.5 <= alone.high
        narrower += found.se < 0.9 * np.std(y.reshape(40, 4).mean(axis=1), ddof=1) / np.sqrt(40)
    assert 0.935 <= covered / trials <= 0.965
    assert by_row / trials < 0.93
    assert narrower / trials > 0.9


def test_prompts_on_both_sides_are_one_cluster():
    rng = np.random.default_rng(5)
    y, f, names = world(rng, 30, 4)
    half = np.arange(120) % 4 < 2
    arguments = (y[half], f[half], f[~half])
    shared = ppi_mean(
        *arguments, clusters=names[~half].tolist(), labeled_clusters=names[half].tolist()
    )
    apart = ppi_mean(
        *arguments, clusters=(names[~half] + 99).tolist(), labeled_clusters=names[half].tolist()
    )
    assert shared.weight != pytest.approx(apart.weight)


def test_shrinking_by_hand():
    assert shrink(0.6, 0.5, 0.1) == pytest.approx(0.6)  # within its error: raw
    assert shrink(0.8, 0.5, 0.1) == pytest.approx(0.5 + 0.3 / 9)
    assert shrink(0.8, 0.5, 0.1, covariance=0.01) == 0.5
    assert shrink(0.5, 0.5, 0.0) == 0.5


@given(
    st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(-0.1, 0.1).filter(np.isfinite)
)
def test_shrunk_lies_between_and_within_one_standard_error(raw, corrected, se, covariance):
    found = shrink(raw, corrected, se, covariance=covariance)
    assert min(raw, corrected) - 1e-12 <= found <= max(raw, corrected) + 1e-12
    assert abs(found - corrected) <= se + 1e-12


def test_shrinking_spares_an_unbiased_judge_and_still_corrects_a_biased_one():
    rng = np.random.default_rng(9)
    errors = {}
    for kindness in (0.0, 0.4):
        found = []
        for _trial in range(400):
            people = (rng.random(60) < 0.5).astype(float)
            rest = (rng.random(2000) < 0.5).astype(float)
            wrong, kind = rng.random((2, 2060)) < np.array([[0.2], [kindness]])
            judge = np.r_[people, rest]
            judge = np.where(wrong, 1 - judge, judge)
            judge = np.where(kind, 1.0, judge)
            result = ppi_mean(people, judge[:60], judge[60:])
            found.append([result.raw, result.value, result.shrunk])
        errors[kindness] = np.sqrt(np.mean((np.array(found) - 0.5) ** 2, axis=0))
    raw, corrected, shrunk = errors[0.0]
    assert shrunk < 0.7 * corrected  # the correction's noise, mostly gone
    assert shrunk < raw + 0.03
    raw, corrected, shrunk = errors[0.4]
    assert corrected < 0.5 * raw
    assert shrunk < 0.6 * raw
    assert shrunk < 1.3 * corrected


def test_correlation_and_what_it_saves():
    assert correlation([0, 1, 1], [0.1, 0.9, 0.7]) == pytest.approx(0.97073, abs=1e-5)
    assert correlation([1, 1], [0, 1]) is None
    assert label_multiplier(0.0) == 1
    assert label_multiplier(-0.5) == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    ("arguments", "more", "message"),
    [
        (([1], [1, 0], [1]), {}, "2 verdicts for 1 labels"),
        (([1, 2], [1, 0], [1]), {}, "outside"),
        (([1, 0], [1, 0], [float("nan")]), {}, "NaN"),
        (([1], [1], [1]), {}, "one prompt"),
        (([1, 0], [1, 0], [1]), {"clusters": ["p"]}, "go together"),
        (([1, 0], [1, 0], [1]), {"clusters": ["p"], "labeled_clusters": ["q"]}, "1 cluster names"),
        (([1, 0], [1, 0], [1]), {"level": 1.5}, "level"),
    ],
)
def test_ppi_refuses_what_it_cannot_measure(arguments, more, message):
    with pytest.raises(DataError, match=message):
        ppi_mean(*arguments, **more)


def test_impossible_numbers_are_refused():
    with pytest.raises(DataError, match="inside"):
        label_multiplier(1.0)
    with pytest.raises(DataError, match="2 verdicts for 1"):
        correlation([1], [1, 0])
    for arguments in ((0.5, 0.5, -0.1), (float("nan"), 0.5, 0.1)):
        with pytest.raises(DataError, match="finite"):
            shrink(*arguments)


@pytest.mark.parametrize(
    ("only", "n", "judge", "people", "rho", "multiplier"),
    [("gpt-4", 258, 0.8488, 0.7323, 0.2408, 1.062), (None, 810, None, None, 0.6289, 1.654)],
)
def test_what_gpt4_is_worth_on_mt_bench(shared_data, only, n, judge, people, rho, multiplier):
    def outcomes(name, kind=""):
        """For each key, the mean outcome of its first model, or of `only`."""
        found = defaultdict(list)
        for line in (shared_data / "mt_bench" / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            models = sorted((row["model_a"], row["model_b"]))
            if row["judge"].startswith(kind) and only in (None, *models):
                side = only or models[0]
                won = 0.5 if "tie" in row["winner"] else float(row[row["winner"]] == side)
                found[row["question_id"], row["turn"], *models].append(won)
        return {key: np.mean(won) for key, won in found.items()}

    by_judge, by_people = (
        outcomes("gpt4_pair_judgments.jsonl"),
        outcomes("human_judgments.jsonl", "expert"),
    )
    keys = [key for key in by_people if key in by_judge]
    f, y = [by_judge[k] for k in keys], [by_people[k] for k in keys]
    assert len(keys) == n
    if only:
        assert (np.mean(f), np.mean(y)) == pytest.approx((judge, people), abs=5e-5)
    found = correlation(y, f)
    assert found == pytest.approx(rho, abs=1e-4)
    assert label_multiplier(found) == pytest.approx(multiplier, abs=5e-4)


def test_a_tiny_spread_correlates_like_any_other() -> None:
    assert correlation([0.0, 1.0], [0.0, 6.8e-279]) == pytest.approx(1.0)
