"""Published figures, recomputed from the published files; skipped where those are absent."""

import csv
import gzip
import json

import numpy as np
import pytest

from rlaif.stats.bootstrap import bootstrap_bradley_terry
from rlaif.stats.bradley_terry import fit_bradley_terry
from rlaif.stats.length_control import (
    C_GRID,
    LengthWeights,
    head_to_head,
    length_only_win_rate,
    length_ratio_win_rate,
    refit_win_rate,
    weighted_win_rate,
)
from rlaif.stats.ranks import (
    agreement_with_confidence,
    kendall_tau,
    pair_rank_brier,
    paired_difference,
    separability,
)
from rlaif.stats.win_rate import win_rate

MODELS = ["gpt-4", "claude-v1", "gpt-3.5-turbo", "vicuna-13b-v1.2", "alpaca-13b", "llama-13b"]
GPT4, EXPERTS, ALL = ("gpt4_pair", ""), ("human", "expert_"), ("human", "")


def lines(path):
    if not path.exists():
        path = path.with_name(path.name + ".gz")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def votes(shared_data, kind):
    name, judges = kind
    rows = [
        row
        for row in lines(shared_data / "mt_bench" / f"{name}_judgments.jsonl")
        if row["judge"].startswith(judges)
    ]
    i = np.array([MODELS.index(row["model_a"]) for row in rows])
    j = np.array([MODELS.index(row["model_b"]) for row in rows])
    y = np.array([{"model_a": 1.0, "model_b": 0.0}.get(row["winner"], 0.5) for row in rows])
    return i, j, y, np.array([row["question_id"] for row in rows])


@pytest.mark.parametrize(
    ("kind", "strengths", "log_likelihood"),
    [
        (GPT4, [1.7795, 0.9511, 0.4893, -0.1068, -1.1645, -1.9486], -526.546),
        (EXPERTS, [0.9840, 0.6119, 0.4812, -0.0702, -0.6859, -1.3211], -746.087),
        (ALL, [0.9849, 0.6032, 0.4948, -0.0481, -0.7274, -1.3074], -946.118),
    ],
)
def test_strengths(shared_data, kind, strengths, log_likelihood):
    i, j, y, question = votes(shared_data, kind)
    fit = fit_bradley_terry(i, j, y, 6, clusters=question)
    assert fit.strengths == pytest.approx(strengths, abs=1e-3)
    assert fit.log_likelihood == pytest.approx(log_likelihood, abs=1e-3)
    assert fit.n == {GPT4: 1200, EXPERTS: 1333, ALL: 1693}[kind]


@pytest.mark.parametrize(
    ("kind", "model", "sandwich", "clustered"),
    [
        (
            GPT4,
            [0.129, 0.108, 0.103, 0.102, 0.115, 0.140],
            [0.100, 0.085, 0.074, 0.074, 0.088, 0.100],
            [0.149, 0.197, 0.123, 0.108, 0.162, 0.205],
        ),
        (
            EXPERTS,
            [0.097, 0.094, 0.082, 0.084, 0.093, 0.111],
            [0.084, 0.078, 0.066, 0.069, 0.078, 0.092],
            [0.144, 0.166, 0.091, 0.087, 0.157, 0.135],
        ),
    ],
)
def test_errors_of_strengths(shared_data, kind, model, sandwich, clustered):
    i, j, y, question = votes(shared_data, kind)
    fit = fit_bradley_terry(i, j, y, 6, clusters=question)
    assert fit.se_model == pytest.approx(model, abs=6e-4)
    assert fit.se_sandwich == pytest.approx(sandwich, abs=6e-4)
    assert fit.se == pytest.approx(clustered, abs=6e-4)
    boot = bootstrap_bradley_terry(i, j, y, 6, clusters=question, rounds=1000)
    assert boot.se == pytest.approx(fit.se, rel=0.15)
    assert boot.left_out == 0


@pytest.mark.parametrize(
    ("kind", "nu", "log_likelihood", "strengths"),
    [
        (GPT4, 1.4745, -840.619, [3.1725, 1.6997, 0.8791, -0.1841, -2.0815, -3.4857]),
        (EXPERTS, 0.8112, -1189.997, [1.4123, 0.8813, 0.6915, -0.0973, -0.9797, -1.9080]),
        (ALL, 0.9151, -1513.869, None),
    ],
)
def test_davidson(shared_data, kind, nu, log_likelihood, strengths):
    i, j, y, _ = votes(shared_data, kind)
    fit = fit_bradley_terry(i, j, y, 6, ties="davidson")
    assert fit.nu == pytest.approx(nu, abs=1e-3)
    assert fit.log_likelihood == pytest.approx(log_likelihood, abs=1e-3)
    if strengths:
        assert fit.strengths == pytest.approx(strengths, abs=1e-3)


def rates(shared_data, kind):
    """Win rate of each model with its percentile interval by question."""
    i, j, y, question = votes(shared_data, kind)
    found = []
    for m in range(6):
        outcome = np.concatenate([y[i == m], 1 - y[j == m]])
        prompts = np.concatenate([question[i == m], question[j == m]]).tolist()
        found.append(win_rate(outcome, prompts, interval="bootstrap"))
    return found


def test_win_rates_and_separation(shared_data):
    judge, people = rates(shared_data, GPT4), rates(shared_data, EXPERTS)
    for ours, published in [
        (judge, [0.8550, 0.7000, 0.6013, 0.4700, 0.2525, 0.1213]),
        (people, [0.7218, 0.6496, 0.6293, 0.4937, 0.3014, 0.1780]),
    ]:
        assert [rate.value for rate in ours] == pytest.approx(published, abs=1e-4)
    ends = [[r.low for r in judge], [r.high for r in judge]]
    others = [[r.low for r in people], [r.high for r in people]]
    assert separability(*ends).value * 15 == pytest.approx(14)
    assert separability(*others).value * 15 == pytest.approx(12, abs=1.01)
    agreed = agreement_with_confidence(*ends, *others)
    assert agreed.value == pytest.approx(12 / 15, abs=1.01 / 15)
    assert agreement_with_confidence(*ends, *others, form="notebook").value == 1
    means, reference = [r.value for r in judge], [r.value for r in people]
    assert kendall_tau(means, reference) == pytest.approx(1)
    assert pair_rank_brier(means, [r.se**2 for r in judge], reference).value < 1e-4


ALPACA = [
    "alpaca-7b",
    "vicuna-7b",
    "gpt-3.5-turbo-1106",
    "claude-2",
    "FuseChat-Llama-3.2-1B-Instruct",
    "FuseChat-Llama-3.1-8B-Instruct",
]


def table(path, key):
    with path.open(encoding="utf-8", newline="") as file:
        return {row.pop(key): row for row in csv.DictReader(file)}


def judged(shared_data, model):
    """Outcomes, lengths and difficulties of one model, joined by prompt."""
    folder = shared_data / "alpaca_eval"
    difficulty = table(folder / "instruction_difficulty.csv", "index")
    rows = lines(folder / "annotations" / f"{model}.jsonl")
    y = np.array([(row["preference"] or 1.5) - 1 for row in rows])
    baseline, own = ([row[name] for row in rows] for name in ("len_1", "len_2"))
    d = [float(difficulty[str(row["index"])]["instruction_difficulty"]) for row in rows]
    return y, np.array(baseline), np.array(own), np.array(d)


def weights_of(shared_data, model):
    row = table(shared_data / "alpaca_eval" / "published_glm_weights.csv", "model")[model]
    return LengthWeights(*(float(value) for value in row.values()))


@pytest.mark.parametrize("model", ALPACA)
def test_length_control_by_published_weights(shared_data, model):
    published = table(shared_data / "alpaca_eval" / "published_leaderboard.csv", "model")[model]
    _, _, _, d = judged(shared_data, model)
    rate = weighted_win_rate(weights_of(shared_data, model), d)
    assert 100 * rate.value == pytest.approx(
        float(published["length_controlled_winrate"]), abs=1e-9
    )
    errors = dict(zip(ALPACA, [0.37552, 0.39647, 0.76829, 0.87791, 0.64066, 0.66689], strict=True))
    assert 100 * rate.lc_standard_error == pytest.approx(errors[model], abs=1e-5)
    if published["lc_standard_error"]:
        stated = float(published["lc_standard_error"])
        assert 100 * rate.lc_standard_error == pytest.approx(stated, abs=1e-9)


@pytest.mark.parametrize(
    ("model", "other", "percent"),
    [
        ("claude-2", "gpt-3.5-turbo-1106", 67.285248),
        ("FuseChat-Llama-3.1-8B-Instruct", "claude-2", 88.004985),
        ("vicuna-7b", "alpaca-7b", 51.767433),
    ],
)
def test_length_control_of_one_model_against_another(shared_data, model, other, percent):
    _, _, _, d = judged(shared_data, model)
    weights = [weights_of(shared_data, name) for name in (model, other)]
    assert 100 * head_to_head(*weights, d) == pytest.approx(percent, abs=1e-6)


@pytest.mark.parametrize(
    ("model", "sd", "weak", "strong", "free", "only", "ratio", "error"),
    [
        (ALPACA[0], 1032.212, 5.8765, 5.9790, 6.4959, 19.8346, 2.6515, 1.00),
        (ALPACA[1], 909.458, 6.2761, 6.3456, 5.2741, 9.2756, 4.1624, 0.85),
        (ALPACA[2], 815.446, 19.2195, 19.2915, 18.1992, 37.8030, 9.5248, 1.44),
        (ALPACA[3], 853.992, 28.1151, 28.1564, 27.0131, 36.7943, 17.3725, 1.72),
        (ALPACA[4], 791.230, 25.1977, 25.2712, 25.9344, 25.9348, 27.9293, 1.41),
        (ALPACA[5], 677.275, 65.4426, 65.3854, 64.9293, 65.0717, 63.0531, 1.41),
    ],
)
def test_length_control_by_refit(shared_data, model, sd, weak, strong, free, only, ratio, error):
    y, baseline, own, d = judged(shared_data, model)
    assert (baseline - own).std(ddof=1) == pytest.approx(sd, abs=1e-3)
    lengths = (y, baseline, own)
    default = refit_win_rate(*lengths, d, rounds=500)
    found = [
        default,
        refit_win_rate(*lengths, d, c=C_GRID[5], rounds=0),
        refit_win_rate(*lengths, d, c=np.inf, gamed_rows=False, rounds=0),
        length_only_win_rate(*lengths, rounds=0),
    ]
    expected = [weak, strong, free, only]
    assert [100 * rate.value for rate in found] == pytest.approx(expected, abs=3e-3)
    assert 100 * length_ratio_win_rate(*lengths, rounds=0).value == pytest.approx(ratio, abs=1e-3)
    published = table(shared_data / "alpaca_eval" / "published_leaderboard.csv", "model")[model]
    assert 100 * default.value == pytest.approx(
        float(published["length_controlled_winrate"]), abs=0.1
    )
    assert 100 * default.se == pytest.approx(error, rel=0.1)
    assert not default.suspicious


def test_separation_of_models_on_the_same_prompts(shared_data):
    outcomes = [judged(shared_data, model)[0] for model in ALPACA]
    ends = np.array(
        [[y.mean() + side * 1.96 * y.std(ddof=1) / 805**0.5 for y in outcomes] for side in (-1, 1)]
    )
    assert separability(*ends).value * 15 == pytest.approx(14)
    assert ends[1][0] > ends[0][1]  # the pair that does not separate: alpaca-7b and vicuna-7b
    gap = paired_difference(outcomes[1], outcomes[0])
    assert (100 * gap.value, 100 * gap.se) == pytest.approx((1.571, 0.630), abs=1e-3)
    assert gap.z == pytest.approx(2.49, abs=5e-3)
