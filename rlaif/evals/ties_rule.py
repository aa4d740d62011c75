"""RewardBench 2's rule for its Ties subset, from the rewards of its responses.

    rewards = TiesTable()
    for verdict in verdicts:
        rewards.add(verdict)
    rewards.score()

A prompt of that subset comes twice: `tied:N` has several right responses, `ref:N` has one. A reward
model should put every right response above every wrong one, and by more than right ones differ
among themselves. With m = worst right - best wrong, and s = best right - worst right (nats),

    score = 0.3 P(m > 0 | tied) + 0.3 P(m > 0 | ref) + 0.2 P(m_tied > s) + 0.2 P(min(m) > s)
            + 0.01 mean tanh(min(m) / s - 1),

the last three over prompts that have both forms (Malik et al. 2025, arXiv 2506.01937, and its
published code; the last term breaks ties between models). Only rewards of one prompt are
subtracted.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping

from rlaif.types import Verdict

_REFERENCE, _TIED = "ref", "tied"


class TiesTable:
    """The rewards of right and wrong responses, by prompt, from a reward judge's pairs."""

    def __init__(self) -> None:
        self._right: dict[str, dict[str, float]] = defaultdict(dict)
        self._wrong: dict[str, dict[str, float]] = defaultdict(dict)
        self._without: set[str] = set()

    def add(self, verdict: Verdict) -> None:
        """Keep the rewards of one comparison of a right response with a wrong one."""
        name, right, wrong = verdict.item.id.rsplit(":", 2)
        rewards = _rewards(verdict)
        if rewards is None:
            self._without.add(name)
            return
        label = verdict.item.meta["label"]
        self._right[name][right] = rewards["A" if label == "A" else "B"]
        self._wrong[name][wrong] = rewards["B" if label == "A" else "A"]

    def __len__(self) -> int:
        """How many prompts, counted in each form, have all their rewards."""
        return len(self._kept())

    def score(self) -> float | None:
        """The figure, at most 1; None without rewards, or without both forms of any prompt."""
        margins: dict[str, dict[str, float]] = {_REFERENCE: {}, _TIED: {}}
        spreads: dict[str, float] = {}
        for name in self._kept():
            right = self._right[name].values()
            form, _, prompt = name.partition(":")[2].partition(":")
            if form not in margins:
                return None
            margins[form][prompt] = min(right) - max(self._wrong[name].values())
            if form == _TIED:
                spreads[prompt] = max(right) - min(right)
        tied, reference = margins[_TIED], margins[_REFERENCE]
        both = [prompt for prompt in tied if prompt in reference]
        if not both:
            return None
        lesser = {prompt: min(tied[prompt], reference[prompt]) for prompt in both}
        wide = [_tanh_of_ratio(lesser[prompt], spreads[prompt]) for prompt in both]
        return min(
            1.0,
            0.3 * _share_above(tied, dict.fromkeys(tied, 0.0))
            + 0.3 * _share_above(reference, dict.fromkeys(reference, 0.0))
            + 0.2 * _share_above({prompt: tied[prompt] for prompt in both}, spreads)
            + 0.2 * _share_above(lesser, spreads)
            + 0.01 * sum(wide) / len(wide),
        )

    def _kept(self) -> list[str]:
        return [name for name in self._right if name not in self._without]


def _rewards(verdict: Verdict) -> dict[str, float] | None:
    """The rewards of A and B as the calls of a reward judge hold them; None of another judge."""
    if verdict.preference is None or not verdict.judge.method.startswith("reward"):
        return None
    try:
        read = [float(json.loads(call.reply)["reward"]) for call in verdict.calls]
    except (ValueError, KeyError, TypeError):
        return None
    return dict(zip("AB", read, strict=True)) if len(read) == 2 else None


def _share_above(values: Mapping[str, float], bounds: Mapping[str, float]) -> float:
    return sum(value > bounds[name] for name, value in values.items()) / len(values)


def _tanh_of_ratio(margin: float, spread: float) -> float:
    """tanh(margin / spread - 1), its limits where the spread is 0, and 0 where both are."""
    if spread:
        return math.tanh(margin / spread - 1)
    return math.copysign(1.0, margin) if margin else 0.0
