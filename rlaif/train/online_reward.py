"""The rewards of a step as one function of TRL's, with what they came to in its logs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlaif.errors import BudgetError
from rlaif.train.checkpoints import last_checkpoint
from rlaif.train.ppo.journal import SAMPLES, Journal
from rlaif.train.ppo.rewards import RewardMix
from rlaif.train.stopping import Stopping

_SAMPLES = 4
"""Completions of a step that are written down."""


class OnlineReward:
    """All rewards of a batch of completions, asked at once.

    TRL would count a missing reward as 0 as soon as another function has one; of one function it
    leaves the completion out.

    Args:
        rewards: The functions.
        output: The run folder, for samples.jsonl; what a run wrote after its last checkpoint goes.
        stopping: Asked to end training where a judge's budget is spent.
    """

    __name__ = "reward"

    def __init__(self, rewards: RewardMix, output: Path, stopping: Stopping) -> None:
        self._rewards = rewards
        self._stopping = stopping
        self._journal = Journal(output)
        kept = last_checkpoint(output / "checkpoints")
        self._journal.keep_until(int(kept.rpartition("-")[2]) if kept else 0)
        # TRL prints whole prompts of completions that have no reward; ours is the coverage
        logging.getLogger("trl").setLevel(logging.ERROR)

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        *,
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] = lambda name, value: None,
        **columns: Any,
    ) -> list[float | None]:
        """The reward of each completion, `None` where there is none.

        Raises:
            DataError: a function gave a number that is none, or too few.
            BackendError: a judge is misconfigured, or its outage outlasted the longest pause.
        """
        del columns["log_extra"]
        scored = await self._rewards(prompts, completions, completion_ids, columns)
        lengths = sorted(len(ids) for ids in completion_ids)
        figures = {
            **{k: v for k, v in scored.figures().items() if v is not None},
            "coverage": sum(r is not None for r in scored.totals) / len(scored.totals),
            "length_p95": float(lengths[math.ceil(0.95 * len(lengths)) - 1]),
        }
        for name, value in figures.items():
            log_metric(name, value)
        if any(v > 0 for k, v in scored.metrics.items() if k.endswith("/no_verdict/budget")):
            self._stopping.error = BudgetError(
                "the budget is spent: the state of training is kept, a larger budget goes on"
            )
        if trainer_state is not None and trainer_state.is_world_process_zero:
            step = trainer_state.global_step + 1
            rows = zip(prompts, completions, scored.totals, strict=True)
            self._journal.write(
                SAMPLES,
                (
                    {"step": step, "prompt": p, "completion": c, "reward": r}
                    for p, c, r in list(rows)[:_SAMPLES]
                ),
            )
        return scored.totals
