import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.stats.error_rates import label_split, rogan_gladen


def labeled(hits, positives, passes, negatives):
    """Verdicts and labels of a judge with that sensitivity and specificity."""
    checks = [1] * hits + [0] * (positives - hits) + [0] * passes + [1] * (negatives - passes)
    return checks, [1] * positives + [0] * negatives


def test_corrected_share_and_interval_by_hand():
    checks, labels = labeled(90, 100, 80, 100)
    found = rogan_gladen([1] * 620 + [0] * 380, checks, labels)
    assert (found.raw, found.sensitivity, found.specificity) == (0.62, 0.9, 0.8)
    assert found.value == pytest.approx((0.62 + 0.8 - 1) / 0.7)
    assert (found.n, found.n_positive, found.n_negative) == (1000, 100, 100)
    # The interval written out: z^2 / 2 more successes in z^2 more trials; one more of two.
    z = 1.959963984540054
    p = (620 + z * z / 2) / (1000 + z * z)
    q1, q0 = 91 / 102, 81 / 102
    theta = (p + q0 - 1) / (q0 + q1 - 1)
    a1, a0 = q1 * (1 - q1) / 102, q0 * (1 - q0) / 102
    shift = 2 * z * z * (theta * a1 - (1 - theta) * a0)
    se = math.sqrt(p * (1 - p) / (1000 + z * z) + (1 - theta) ** 2 * a0 + theta**2 * a1)
    se /= q0 + q1 - 1
    assert found.low == pytest.approx(theta + shift - z * se)
    assert found.high == pytest.approx(theta + shift + z * se)


def test_a_perfect_judge_is_left_alone():
    checks, labels = labeled(200, 200, 200, 200)
    found = rogan_gladen([1, 0, 0, 0] * 50, checks, labels)
    assert (found.value, found.raw, found.shrunk) == (0.25, 0.25, 0.25)
    assert found.low < 0.25 < found.high


@given(st.integers(0, 300), st.integers(70, 100), st.integers(70, 100))
def test_swapping_the_classes_mirrors_and_the_interval_holds_both_figures(judged, hits, passes):
    checks, labels = labeled(hits, 100, passes, 100)
    verdicts = np.array([1] * judged + [0] * (300 - judged))
    found = rogan_gladen(verdicts, checks, labels)
    other = rogan_gladen(1 - verdicts, 1 - np.array(checks), 1 - np.array(labels))
    assert other.value == pytest.approx(1 - found.value, abs=1e-12)
    assert (other.low, other.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert min(found.raw, found.value) <= found.shrunk <= max(found.raw, found.value)


@pytest.mark.parametrize(
    ("hits", "passes", "n"),
    [(55, 50, 100), (60, 50, 100), (10, 10, 20), (7, 6, 10)],
)
def test_a_judge_that_may_be_near_chance_is_refused(hits, passes, n):
    checks, labels = labeled(hits, n, passes, n)
    with pytest.raises(DataError, match="label more rows or use a better judge"):
        rogan_gladen([1, 0, 1], checks, labels)


def test_more_labels_lift_the_refusal():
    with pytest.raises(DataError, match="near chance"):
        rogan_gladen([1, 0], *labeled(13, 20, 14, 20))
    assert rogan_gladen([1, 0], *labeled(650, 1000, 700, 1000)).specificity == 0.7


def draw(rng, prompts, rows, q1=0.85, q0=0.75):
    """Truth and verdicts of rows that resemble each other within a prompt; share 0.4."""
    share = np.repeat(rng.beta(0.8, 1.2, prompts), rows)
    truth = rng.random(share.size) < share
    correct = rng.random(share.size) < np.where(truth, q1, q0)
    names = np.repeat(np.arange(prompts), rows).tolist()
    return truth.astype(float), (truth == correct).astype(float), names


@pytest.mark.parametrize(("rows", "clustered"), [(1, False), (6, True)])
def test_interval_covers(rows, clustered):
    rng = np.random.default_rng(13)
    covered, biased, trials = 0, 0, 600
    for _trial in range(trials):
        _, judged, names = draw(rng, 480 // rows, rows)
        labels, checks, checked = draw(rng, 240 // rows, rows)
        more = {"clusters": names, "labeled_clusters": checked} if clustered else {}
        found = rogan_gladen(judged, checks, labels, **more)
        covered += found.low <= 0.4 <= found.high
        biased += abs(found.raw - 0.4) > abs(found.value - 0.4)
    assert 0.92 <= covered / trials <= 0.98
    assert biased / trials > 0.6


def test_interval_without_clusters_is_too_narrow():
    rng = np.random.default_rng(17)
    covered = 0
    for _trial in range(300):
        _, judged, _ = draw(rng, 40, 12)
        labels, checks, _ = draw(rng, 100, 4)
        found = rogan_gladen(judged, checks, labels)
        covered += found.low <= 0.4 <= found.high
    assert covered / 300 < 0.9


def test_one_prompt_counts_as_one_row():
    checks, labels = labeled(95, 100, 95, 100)
    judged = [1] * 50 + [0] * 50
    rows = [f"l{i}" for i in range(200)]
    wide = rogan_gladen(judged, checks, labels, clusters=["p"] * 100, labeled_clusters=rows)
    assert wide.high - wide.low > 0.9


@pytest.mark.parametrize(
    ("judged", "checks", "labels", "message"),
    [
        ([1, 0.5], [1, 0], [1, 0], "neither 0 nor 1"),
        ([1, 0], [1, 0, 1], [1, 0], "3 verdicts for 2 labels"),
        ([1, 0], [1, 0], [1, 1], "one class"),
        ([1, 0], [1, 0], [0, 0], "one class"),
        ([], [1, 0], [1, 0], "no values"),
    ],
)
def test_impossible_rows_are_refused(judged, checks, labels, message):
    with pytest.raises(DataError, match=message):
        rogan_gladen(judged, checks, labels)


def test_labels_go_where_the_judge_errs_and_the_share_is():
    assert label_split(100, 0.5, false_positives=4, false_negatives=4) == (50, 50)
    assert label_split(100, 0.5, false_positives=15, false_negatives=3) == (33, 67)
    assert label_split(100, 0.8, false_positives=4, false_negatives=4) == (80, 20)
    assert label_split(2, 0.99, false_positives=0, false_negatives=50) == (1, 1)


def test_the_split_narrows_the_interval():
    def width(positives, negatives):
        checks, labels = labeled(round(0.98 * positives), positives, negatives * 4 // 5, negatives)
        found = rogan_gladen([1] * 3000 + [0] * 7000, checks, labels)
        return found.high - found.low

    split = label_split(400, 0.3, false_positives=20, false_negatives=2)
    assert width(*split) < width(200, 200)


@pytest.mark.parametrize(
    ("total", "share", "errors", "message"),
    [(1, 0.5, 0, "1 labels"), (10, 1.0, 0, "share"), (10, 0.5, -1, "negative")],
)
def test_impossible_splits_are_refused(total, share, errors, message):
    with pytest.raises(DataError, match=message):
        label_split(total, share, false_positives=errors, false_negatives=0)
