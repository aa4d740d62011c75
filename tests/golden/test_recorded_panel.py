"""The 15 recorded GPT-4 strategies on LLMBar, combined as a panel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rlaif.stats.panel import combine, dawid_skene, effective_judges, vote_weights

PUBLISHED = {"natural": 0.960, "adversarial_neighbor": 0.825}
"""Share right of equal votes over 15 strategies in both orders, a tie counted half."""
_VOTE = {"1": 1.0, "2": 0.0, None: 0.5}


def recorded(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Votes for the first output, shape (items, 30), and the labels, 1 where it is better."""
    rows = [json.loads(line) for line in _lines(folder / f"{name}.decisions.jsonl")]
    gpt4 = [row["winners"] for row in rows if row["evaluator"] == "GPT-4"]
    assert len(gpt4) == 15
    votes = np.array([[_VOTE[w] for pair in item for w in pair] for item in zip(*gpt4)])  # noqa: B905
    labels = [json.loads(line)["label"] for line in _lines(folder / f"{name}.jsonl")]
    return votes, np.array([float(str(label) == "1") for label in labels])


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def share_right(p: np.ndarray, truth: np.ndarray) -> float:
    """Share of items on the side of the truth; a tie counts half."""
    side = np.where(np.abs(p - 0.5) < 1e-9, 0.5, p > 0.5)
    return float(1 - np.abs(side - truth).mean())


@pytest.mark.parametrize("name", PUBLISHED)
def test_equal_votes_of_the_recorded_strategies(shared_data: Path, name: str) -> None:
    votes, truth = recorded(shared_data / "llmbar", name)
    assert round(share_right(combine(votes), truth), 3) == PUBLISHED[name]
    found = effective_judges(votes, truth)
    assert found.n == 30
    # thirty votes of one model are worth a handful of judges
    assert 1 < found.value < 6


@pytest.mark.parametrize(
    ("learned_on", "tested_on"),
    [("natural", "adversarial_neighbor"), ("adversarial_neighbor", "natural")],
)
def test_weights_learned_on_one_set_are_worth_little_on_the_other(
    shared_data: Path, learned_on: str, tested_on: str
) -> None:
    votes, truth = recorded(shared_data / "llmbar", learned_on)
    right = (1 - np.abs(votes - truth[:, None])).sum(axis=0)
    weights = vote_weights(right, np.full(votes.shape[1], len(truth)))
    other, labels = recorded(shared_data / "llmbar", tested_on)
    weighted = share_right(combine(other, weights=weights), labels)
    print(f"{learned_on} -> {tested_on}: weighted {weighted:.3f}, equal {PUBLISHED[tested_on]}")
    assert abs(weighted - PUBLISHED[tested_on]) < 0.03


@pytest.mark.parametrize("name", PUBLISHED)
def test_dawid_skene_without_labels_is_near_equal_votes(shared_data: Path, name: str) -> None:
    votes, truth = recorded(shared_data / "llmbar", name)
    items, judges = np.nonzero(votes != 0.5)
    labels = votes[items, judges].tolist()
    fit = dawid_skene(items.tolist(), judges.tolist(), labels)
    first = fit.posterior[:, fit.labels.index(1.0)]
    place = [fit.items.index(k) for k in range(len(truth))]
    found = share_right(first[place], truth)
    print(f"{name}: Dawid-Skene {found:.3f}, effective judges {effective_judges(votes, truth)}")
    assert abs(found - PUBLISHED[name]) < 0.06
