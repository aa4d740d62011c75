import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from rlaif.errors import DataError
from rlaif.stats.reliability import as_confidence, quality

ROWS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1)


def test_calibration_error_by_hand():
    # Bins (0.2, 0.3) and (0.6, 0.9): |0.25 - 0.5| and |0.75 - 1|, two rows each.
    found = quality([0.3, 0.9, 0.2, 0.6], [1, 1, 0, 1], bins=2)
    assert found.ece == pytest.approx(0.25)
    assert [(b.stated, b.observed, b.n) for b in found.bins] == [
        (0.25, 0.5, 2),
        (0.75, 1.0, 2),
    ]
    assert found.brier == pytest.approx((0.49 + 0.01 + 0.04 + 0.16) / 4)
    assert found.log_loss == pytest.approx(-np.mean(np.log([0.3, 0.9, 0.8, 0.6])))
    assert found.n == 4


def test_scores_are_scikit_learns():
    rng = np.random.default_rng(0)
    p = rng.random(500)
    y = (rng.random(500) < p**2).astype(float)
    found = quality(p, y)
    assert found.brier == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    assert found.log_loss == pytest.approx(log_loss(y, p), abs=1e-9)
    observed, stated = calibration_curve(y, p, n_bins=10, strategy="quantile")
    assert [b.observed for b in found.bins] == pytest.approx(observed)
    assert [b.stated for b in found.bins] == pytest.approx(stated)


def test_equal_probabilities_stay_in_one_bin():
    found = quality([0.9] * 10 + [0.1], [1] * 8 + [0] * 3, bins=5)
    assert [b.n for b in found.bins] == [1, 10]
    assert found.ece == pytest.approx((1 * 0.1 + 10 * 0.1) / 11)


@given(ROWS, st.integers(1, 12), st.integers(2, 4), st.randoms(use_true_random=False))
def test_order_and_copies_of_rows_change_nothing(rows, bins, copies, random):
    once = quality(*zip(*rows, strict=True), bins=bins)
    more = rows * copies
    random.shuffle(more)
    again = quality(*zip(*more, strict=True), bins=bins)
    assert (again.ece, again.brier, again.log_loss) == pytest.approx(
        (once.ece, once.brier, once.log_loss), abs=1e-9
    )
    assert sum(b.n for b in once.bins) == once.n == len(rows)
    assert 0 <= once.ece <= 1


@given(ROWS)
def test_confidence_does_not_know_which_candidate_is_a(rows):
    p, y = (np.array(column) for column in zip(*rows, strict=True))
    sure, right = as_confidence(p, y)
    other_sure, other_right = as_confidence(1 - p, 1 - y)
    assert sure.min() >= 0.5
    assert other_sure == pytest.approx(sure)
    away = np.abs(p - 0.5) > 1e-9
    assert other_right[away] == pytest.approx(right[away])


def test_confidence_by_hand():
    sure, right = as_confidence([0.9, 0.2, 0.5], [1, 1, 1])
    assert sure == pytest.approx([0.9, 0.8, 0.5])
    assert right == pytest.approx([1, 0, 0.5])


@pytest.mark.parametrize(
    ("p", "y", "bins", "message"),
    [
        ([0.5], [1, 0], 10, "1 probabilities for 2"),
        ([1.5], [1], 10, "a probability lies outside"),
        ([0.5], [2], 10, "a label lies outside"),
        ([], [], 10, "no values"),
        ([0.5], [1], 0, "0 bins"),
    ],
)
def test_impossible_rows_are_refused(p, y, bins, message):
    with pytest.raises(DataError, match=message):
        quality(p, y, bins=bins)
