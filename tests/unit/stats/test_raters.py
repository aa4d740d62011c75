import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from rlaif.errors import DataError
from rlaif.stats.raters import fleiss_kappa, krippendorff_alpha

# Krippendorff 2011, section C: 4 observers, 12 units, gaps. Published alpha: nominal 0.743,
# ordinal 0.815, interval 0.849.
_ = np.nan
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
)


def rows_of(table):
    """Raters x units with gaps -> labels and units, row by row."""
    raters, units = np.nonzero(~np.isnan(table))
    return table[raters, units].tolist(), units.tolist()


@pytest.mark.parametrize(
    ("distance", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_krippendorffs_own_example(distance, alpha):
    labels, units = rows_of(OBSERVERS)
    result = krippendorff_alpha(labels, units, distance=distance, rounds=200)
    assert result.value == pytest.approx(alpha, abs=5e-4)
    assert result.low < result.value < result.high
    assert (result.n, result.n_clusters) == (11, 11)  # unit 12 has one label


@pytest.mark.parametrize("distance", ["nominal", "ordinal", "interval"])
def test_alpha_is_the_krippendorff_packages(distance):
    rng = np.random.default_rng(5)
    for _trial in range(20):
        table = rng.integers(1, 6, size=(rng.integers(2, 5), rng.integers(4, 15))).astype(float)
        table[rng.random(table.shape) < 0.25] = np.nan
        if np.all((~np.isnan(table)).sum(axis=0) < 2):
            continue
        labels, units = rows_of(table)
        ours = krippendorff_alpha(labels, units, distance=distance, rounds=5).value
        assert ours == pytest.approx(
            krippendorff.alpha(table, level_of_measurement=distance), abs=1e-9
        )


def test_fleiss_of_his_example():
    # Wikipedia's worked example: 14 raters, 10 units, 5 categories; kappa 0.210.
    counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    rows = [(k, u) for u, row in enumerate(counts) for k, c in enumerate(row) for _ in range(c)]
    labels, units = zip(*rows, strict=True)
    result = fleiss_kappa(labels, units)
    assert result.value == pytest.approx(0.2099, abs=5e-5)
    assert result.value == pytest.approx(statsmodels_fleiss(np.array(counts)), abs=1e-12)
    assert result.low < result.value < result.high
    assert result.n == 10


@given(st.integers(2, 4), st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=2))
def test_fleiss_is_statsmodels(raters, table):
    table = np.array(table)[:, :raters]
    assume(len(np.unique(table)) > 1)
    units = np.repeat(np.arange(len(table)), raters).tolist()
    ours = fleiss_kappa(table.ravel().tolist(), units, rounds=5).value
    assert ours == pytest.approx(statsmodels_fleiss(aggregate_raters(table)[0]), abs=1e-9)


@pytest.mark.parametrize("distance", ["nominal", "ordinal", "interval"])
def test_order_of_rows_and_names_of_units_change_nothing(distance):
    labels, units = rows_of(OBSERVERS)
    shuffled = np.random.default_rng(1).permutation(len(labels))
    expected = krippendorff_alpha(labels, units, distance=distance, rounds=5).value
    assert krippendorff_alpha(
        [labels[i] for i in shuffled],
        [f"unit {units[i]}" for i in shuffled],
        distance=distance,
        rounds=5,
    ).value == pytest.approx(expected, abs=1e-12)


def test_interval_alpha_ignores_shift_and_stretch_of_the_scale():
    labels, units = rows_of(OBSERVERS)
    once = krippendorff_alpha(labels, units, distance="interval", rounds=50)
    moved = krippendorff_alpha(
        [1e6 + 10 * x for x in labels], units, distance="interval", rounds=50
    )
    assert (moved.value, moved.low) == pytest.approx((once.value, once.low), abs=1e-6)


@pytest.mark.parametrize("measure", [krippendorff_alpha, fleiss_kappa])
def test_units_of_one_prompt_are_drawn_together(measure):
    # Copies of the units of a prompt add no certainty.
    rng = np.random.default_rng(3)
    labels = rng.integers(3, size=60).tolist()
    units, prompts = [i // 2 for i in range(60)], [i // 4 for i in range(60)]
    once = measure(labels, units, prompts, rounds=300)
    copied = measure(
        labels * 3,
        [(copy, u) for copy in range(3) for u in units],
        prompts * 3,
        rounds=300,
    )
    assert copied.n == 3 * once.n
    assert copied.n_clusters == once.n_clusters == 15
    # Alpha's correction for small samples moves a little with n; the width does not shrink.
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.05)


def test_prompts_left_without_a_pair_are_not_drawn():
    labels, units = ["A", "A", "B", "B", "A"], [1, 1, 2, 2, 3]
    result = krippendorff_alpha(labels, units, ["p", "p", "q", "q", "lone"], rounds=20)
    assert (result.value, result.n, result.n_clusters) == (1.0, 2, 2)


@pytest.mark.parametrize(
    ("labels", "units", "more", "message"),
    [
        ([], [], {}, "no labels"),
        ("AB", [1], {}, "2 labels for 1 units"),
        ("AB", [1, 2], {}, "no unit has two labels"),
        ("AA", [1, 1], {}, "undefined"),
        ("AB", [1, 1], {"clusters": ["p", "q"]}, "two clusters"),
        ("AB", [1, 1], {"distance": "ordinal"}, "not numbers"),
        (range(200), [i // 2 for i in range(200)], {"distance": "ordinal"}, "200 levels"),
    ],
)
def test_alpha_refuses_what_it_cannot_measure(labels, units, more, message):
    with pytest.raises(DataError, match=message):
        krippendorff_alpha(list(labels), units, **more)


@pytest.mark.parametrize(
    ("labels", "units", "message"),
    [("ABA", [1, 1, 2], "from 1 to 2 labels"), ("AB", [1, 2], "one label a unit")],
)
def test_fleiss_needs_as_many_labels_for_each_unit(labels, units, message):
    with pytest.raises(DataError, match=message):
        fleiss_kappa(labels, units)


def test_alpha_covers_by_prompt():
    rng = np.random.default_rng(11)
    prompts, units_each, trials = 30, 6, 200
    units = np.repeat(np.arange(prompts * units_each), 3)
    names = (units // units_each).tolist()
    covered = 0
    for trial in range(trials):
        # Each rater says the truth with the prompt's chance, else either label at random; alpha
        # of many units is E[c^2] = 0.42 for two equally likely labels.
        chance = rng.beta(1.8, 1.2, prompts)[np.array(names)]
        truth = rng.integers(2, size=prompts * units_each)[units]
        said = np.where(rng.random(units.size) < chance, truth, rng.integers(2, size=units.size))
        found = krippendorff_alpha(said.tolist(), units.tolist(), names, rounds=300, seed=trial)
        covered += found.low <= 0.42 <= found.high
    assert 0.90 <= covered / trials <= 0.98
