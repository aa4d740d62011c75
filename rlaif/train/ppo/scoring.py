"""Rewards asked for in the background, and held-out prompts scored without learning from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from rlaif.background import begun
from rlaif.stats.means import mean_interval
from rlaif.train.ppo.advantages import kl_k1
from rlaif.train.ppo.data import PromptRows
from rlaif.train.ppo.rewards import RewardMix, Scored
from rlaif.train.ppo.rollout import Episodes
from rlaif.train.ppo.update import Batch
from rlaif.train.ppo.workers import Workers


@dataclass(slots=True)
class Asked:
    """Rewards on their way."""

    texts: list[str]
    """What they are for, without the tokens that end a response."""
    _workers: Workers
    _future: Future[Scored] | None
    """None in every process but the main one."""

    def result(self) -> Scored:
        """The rewards, waited for; what went wrong is raised in every process."""

        def wait() -> Scored:
            assert self._future is not None  # the main process asked
            try:
                return self._future.result()
            except BaseException:
                self.cancel()
                raise

        return self._workers.from_main(wait)

    def cancel(self) -> None:
        """Give up waiting."""
        if self._future is not None:
            self._future.cancel()


class Scoring:
    """Asks for the rewards of episodes.

    Args:
        rewards: What scores them.
        tokenizer: Of the policy.
        workers: Of whom the main one asks.
    """

    def __init__(self, rewards: RewardMix, tokenizer: Any, workers: Workers) -> None:
        self._rewards = rewards
        self._tokenizer = tokenizer
        self._workers = workers

    def begin(self, rows: PromptRows, places: Sequence[int], episodes: Episodes) -> Asked:
        """Ask for the rewards of responses to the prompts at `places`."""
        ids = token_ids(episodes)
        texts: list[str] = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        if not self._workers.is_main:
            return Asked(texts, self._workers, None)
        prompts, columns = rows.columns(places)
        completions = [rows.completion(p, t) for p, t in zip(places, texts, strict=True)]
        future = begun(self._rewards(prompts, completions, ids, columns))
        return Asked(texts, self._workers, future)


class HeldOut:
    """Sums over responses to held-out prompts."""

    def __init__(self) -> None:
        self.rewards: list[float | None] = []
        """One a prompt, in their order."""
        self._sums: dict[str, float] = defaultdict(float)

    def add(self, batch: Batch, scored: Scored) -> None:
        """Count some of the responses."""
        self.rewards += scored.totals
        self._sums["length"] += float(batch.episodes.response_mask.sum())
        self._sums["ended"] += float(batch.episodes.ended.sum())
        if batch.reference is not None:
            self._sums["kl"] += float(kl_k1(batch.logprobs, batch.reference).sum())

    def figures(self) -> dict[str, Any]:
        """The figures, see `PPOTrainer.evaluate`."""
        known = [reward for reward in self.rewards if reward is not None]
        mean = sum(known) / len(known) if known else None
        sd = (sum((r - (mean or 0.0)) ** 2 for r in known) / max(1, len(known) - 1)) ** 0.5
        n = len(self.rewards)
        return {
            "eval_reward": mean,
            "eval_reward_sd": sd if known else None,
            "eval_n": len(known),
            "eval_coverage": len(known) / n,
            **{f"eval_{name}": total / n for name, total in self._sums.items()},
        }


def gain(
    before: Sequence[float | None], after: Sequence[float | None]
) -> dict[str, float | int] | None:
    """What rewards rose by, paired by prompt: mean, 95 % interval, number of prompts.

    None where fewer than two prompts have both rewards.

    Args:
        before: One a prompt.
        after: One a prompt, in the same order.
    """
    both = [b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    if len(both) < 2:
        return None
    found = mean_interval(both)
    return {"mean": found.value, "low": found.low, "high": found.high, "n": found.n}


def token_ids(episodes: Episodes) -> list[list[int]]:
    """The tokens of each response, with the one that ends it."""
    rows = zip(episodes.response.cpu(), episodes.response_mask.cpu(), strict=True)
    return [row[mask.bool()].tolist() for row, mask in rows]
