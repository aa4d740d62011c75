"""AlpacaEval 2 from the published annotations: win rates exactly, length control within 0.1."""

from __future__ import annotations

import csv

import pytest

BASELINE = "gpt4_1106_preview"

REFITTED = {
    "alpaca-7b": (5.8765, 1.00),
    "vicuna-7b": (6.2761, 0.85),
    "gpt-3.5-turbo-1106": (19.2195, 1.44),
    "claude-2": (28.1151, 1.72),
    "FuseChat-Llama-3.2-1B-Instruct": (25.1977, 1.41),
    "FuseChat-Llama-3.1-8B-Instruct": (65.4426, 1.41),
}
"""Win rate at equal length and its bootstrap error, percent, penalty 1 / 21.544."""

AT_EQUAL_RATIO = {
    "alpaca-7b": 2.6515,
    "vicuna-7b": 4.1624,
    "gpt-3.5-turbo-1106": 9.5248,
    "claude-2": 17.3725,
    "FuseChat-Llama-3.2-1B-Instruct": 27.9293,
    "FuseChat-Llama-3.1-8B-Instruct": 63.0531,
}

SPREAD = {
    "alpaca-7b": 0.37552,
    "vicuna-7b": 0.39647,
    "gpt-3.5-turbo-1106": 0.76829,
    "claude-2": 0.87791,
    "FuseChat-Llama-3.2-1B-Instruct": 0.6406636457433237,
    "FuseChat-Llama-3.1-8B-Instruct": 0.6668876066398686,
}
"""Standard error of the predictions, percent."""


@pytest.fixture(scope="module")
def files(published):
    return published / "alpaca_eval"


@pytest.fixture(scope="module")
def run(files, imported):
    return imported("alpaca-eval", *sorted((files / "annotations").iterdir()))


@pytest.fixture(scope="module")
def expected(files):
    with (files / "published_leaderboard.csv").open() as file:
        return {row["model"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def from_weights(run, files, leaderboard):
    made = leaderboard(
        run,
        "--baseline",
        BASELINE,
        "--length-controlled",
        "weights",
        "--difficulty",
        files / "instruction_difficulty.csv",
        "--weights",
        files / "published_glm_weights.csv",
    )
    return made | {"rows": {row["model"]: row for row in made["rows"]}}


def test_every_published_row_is_there(from_weights, expected) -> None:
    assert set(from_weights["rows"]) == set(expected)


def test_win_rates_and_errors_are_the_published_ones(from_weights, expected) -> None:
    for model, row in from_weights["rows"].items():
        told = expected[model]
        assert row["win_rate"] == pytest.approx(float(told["win_rate"]) / 100, abs=1e-9)
        assert row["win_rate_se"] == pytest.approx(float(told["standard_error"]) / 100, abs=1e-9)
        discrete = float(told["discrete_win_rate"]) / 100
        assert row["discrete_win_rate"] == pytest.approx(discrete, abs=1e-9)
        counts = tuple(int(told[name]) for name in ("n_total", "n_wins", "n_wins_base", "n_draws"))
        assert (row["n"], row["wins"], row["losses"], row["ties"]) == counts
        assert (row["coverage"], row["causes"]) == (1.0, {})
        assert row["avg_length"] == int(told["avg_length"])
        assert row["low"] <= row["win_rate"] <= row["high"]


def test_length_control_from_weights_is_the_published_one(from_weights, expected) -> None:
    for model, row in from_weights["rows"].items():
        told = float(expected[model]["length_controlled_winrate"])
        assert row["lc_win_rate"] == pytest.approx(told / 100, abs=1e-9)
    for model, spread in SPREAD.items():
        found = from_weights["rows"][model]["lc_win_rate_se"]
        assert found == pytest.approx(spread / 100, abs=1e-7)


@pytest.mark.parametrize(
    ("model", "other", "percent"),
    [
        ("claude-2", "gpt-3.5-turbo-1106", 67.285248),
        ("FuseChat-Llama-3.1-8B-Instruct", "claude-2", 88.004985),
        ("vicuna-7b", "alpaca-7b", 51.767433),
    ],
)
def test_models_against_one_another_at_equal_length(from_weights, model, other, percent) -> None:
    rate = from_weights["lc_head_to_head"][model][other]
    assert rate == pytest.approx(percent / 100, abs=1e-8)


def test_length_control_by_refitting(run, files, leaderboard, expected) -> None:
    made = leaderboard(
        run,
        "--baseline",
        BASELINE,
        "--length-controlled",
        "refit",
        "--difficulty",
        files / "instruction_difficulty.csv",
    )
    rows = {row["model"]: row for row in made["rows"]}
    for model, (percent, error) in REFITTED.items():
        row, told = rows[model], float(expected[model]["length_controlled_winrate"])
        assert 100 * row["lc_win_rate"] == pytest.approx(percent, abs=0.003)
        assert 100 * row["lc_win_rate"] == pytest.approx(told, abs=0.1)
        assert 100 * row["lc_win_rate_se"] == pytest.approx(error, rel=0.1)
        assert row["lc_standard_error"] < 0.7 * row["lc_win_rate_se"]
        assert row["lc_low"] < row["lc_win_rate"] < row["lc_high"]


def test_length_control_at_equal_ratio(run, leaderboard) -> None:
    made = leaderboard(run, "--baseline", BASELINE, "--length-controlled", "ratio", "--rounds", 2)
    rows = {row["model"]: row for row in made["rows"]}
    for model, percent in AT_EQUAL_RATIO.items():
        assert 100 * rows[model]["lc_win_rate"] == pytest.approx(percent, abs=1e-3)


def test_all_pairs_but_one_separate_and_the_paired_difference_separates_that_one(
    run, leaderboard
) -> None:
    made = leaderboard(run, "--baseline", BASELINE)
    assert made["separability"] == {"value": 14 / 15, "separated": 14, "pairs": 15}
    close = made["differences"][-1]
    assert (close["a"], close["b"]) == ("vicuna-7b", "alpaca-7b")
    assert 100 * close["difference"] == pytest.approx(1.571, abs=1e-3)
    assert 100 * close["se"] == pytest.approx(0.630, abs=1e-3)
    assert close["difference"] / close["se"] == pytest.approx(2.49, abs=5e-3)
    assert close["low"] > 0
