"""LLMBar and JudgeBench: the accuracies that their authors count, from the recorded decisions."""

from __future__ import annotations

import csv

import pytest

COUNTS = {
    ("natural", "GPT-4.CoT"): (94, 95, 90, 91),
    ("natural", "ChatGPT.CoT"): (70, 78, 56, 64),
    ("natural", "GPT-4.Rating"): (92, 92, 87, 90),
    ("adversarial_neighbor", "GPT-4.CoT"): (101, 100, 94, 121),
    ("adversarial_neighbor", "ChatGPT.CoT"): (31, 30, 6, 84),
    ("adversarial_neighbor", "GPT-4.Rating"): (104, 105, 90, 105),
}
"""Right as given, right swapped, right in both, equal winners."""

DECISIONS = {
    "o1-mini-2024-09-12": (112, 178, 62, 69.10),
    "Skywork_Skywork-Reward-Llama-3.1-8B": (115, 178, 0, 64.61),
    "Skywork_Skywork-Reward-Gemma-2-27B": (114, 178, 0, 64.04),
    "Ray2333_GRM-Gemma-2B-rewardmodel-ft": (113, 178, 0, 63.48),
    "internlm_internlm2-20b-reward": (111, 178, 0, 62.36),
    "internlm_internlm2-7b-reward": (107, 178, 0, 60.11),
    "claude-3-haiku-20240307": (49, 138, 72, 33.33),
}
"""Right by the set's rule, pairs, inconsistent pairs, percent right in the first order."""

SUBSETS = {
    "claude-3-haiku-20240307": {"knowledge": 83, "reasoning": 24, "math": 15, "code": 16},
    "": {"knowledge": 75, "reasoning": 49, "math": 31, "code": 23},
}
"""Pairs of each subset; all judges but one saw the same."""

BY_SUBSET = {
    "o1-mini-2024-09-12": (40, 31, 23, 18),
    "Skywork_Skywork-Reward-Llama-3.1-8B": (46, 32, 26, 11),
    "Skywork_Skywork-Reward-Gemma-2-27B": (44, 32, 27, 11),
    "Ray2333_GRM-Gemma-2B-rewardmodel-ft": (53, 26, 22, 12),
    "internlm_internlm2-20b-reward": (47, 32, 22, 10),
    "internlm_internlm2-7b-reward": (44, 28, 22, 13),
    "claude-3-haiku-20240307": (36, 6, 4, 3),
}
"""Right by the set's rule in each subset."""


@pytest.mark.parametrize(("name", "judge"), COUNTS)
def test_llmbar_counts_of_each_order(published, imported, agreement, name, judge) -> None:
    files = published / "llmbar"
    run = imported("llmbar", files / f"{name}.raw_judge.{judge}.jsonl")
    made = agreement(run, "--with", "labels")
    row = made["subsets"]["all"]
    given, swapped, both, equal = COUNTS[name, judge]
    assert made["rule"] == "llmbar"
    assert (row["right_ab"], row["right_ba"], row["right_both"]) == (given, swapped, both)
    assert row["n"] - row["inconsistent"] == equal
    assert row["accuracy_own_rule"] == pytest.approx((given + swapped) / (2 * row["n"]), abs=1e-12)
    with (files / f"{name}.published_evaluators.csv").open() as file:
        known = {(row["evaluator"], row["strategy"]): row for row in csv.DictReader(file)}
    told = known[tuple(judge.split("."))]["correct_average"]
    assert 100 * row["accuracy_own_rule"] == pytest.approx(float(told.rstrip("%")), abs=0.005)


def test_an_unreadable_order_is_no_wrong_answer_but_lowers_the_coverage(
    published, imported, agreement
) -> None:
    run = imported("llmbar", published / "llmbar" / "natural.raw_judge.ChatGPT.CoT.jsonl")
    row = agreement(run, "--with", "labels")["subsets"]["natural"]
    assert (row["n"], row["coverage"], row["causes"]) == (100, 0.99, {"unreadable": 1})
    assert (row["n_ab"], row["n_ba"]) == (99, 100)
    assert row["accuracy_ab"] == pytest.approx(70 / 99)
    assert row["accuracy_own_rule"] == pytest.approx(0.74)
    assert row["low"] < row["accuracy"] < row["high"]


@pytest.fixture(scope="module")
def decisions(published, imported):
    files = published / "judgebench"
    return imported(
        "judgebench",
        files / "published_judge_decisions.jsonl.gz",
        "--questions",
        files / "gpt-4o-2024-05-13.jsonl.gz",
        "--questions",
        files / "claude-3-5-sonnet-20240620.jsonl.gz",
    )


@pytest.fixture(scope="module")
def by_judge(decisions, agreement):
    def run(judge: str):
        return agreement(decisions, "--with", "labels", "--judge", judge, "--max-failures", 0.1)

    return run


@pytest.mark.parametrize("judge", DECISIONS)
def test_judgebench_counts_a_pair_as_right_by_majority_over_orders(by_judge, judge) -> None:
    made = by_judge(judge)
    row = made["subsets"]["all"]
    right, n, inconsistent, first = DECISIONS[judge]
    assert made["rule"] == "judgebench"
    assert row["accuracy_own_rule"] == pytest.approx(right / n, abs=1e-12)
    assert (row["n"], row["own_rule_n"], row["inconsistent"]) == (n, n, inconsistent)
    assert 100 * row["right_ab"] / n == pytest.approx(first, abs=0.005)
    sizes = SUBSETS.get(judge, SUBSETS[""])
    for (name, size), right in zip(sizes.items(), BY_SUBSET[judge], strict=True):
        subset = made["subsets"][name]
        assert subset["n"] == size
        assert subset["accuracy_own_rule"] == pytest.approx(right / size, abs=1e-12)


def test_judgebench_position_bias(by_judge) -> None:
    mini = by_judge("o1-mini-2024-09-12")["subsets"]["all"]
    assert (mini["both_first"], mini["both_second"]) == (32, 12)
    haiku = by_judge("claude-3-haiku-20240307")["subsets"]["all"]
    assert (haiku["both_first"], haiku["both_second"]) == (19, 3)
    assert haiku["first_share"] > 0.5


def test_reward_models_see_no_order(by_judge) -> None:
    row = by_judge("internlm_internlm2-7b-reward")["subsets"]["all"]
    assert (row["position_agreement"], row["coverage"]) == (1.0, 1.0)
    assert row["accuracy"] == pytest.approx(row["accuracy_own_rule"])
