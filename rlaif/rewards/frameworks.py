"""A judge's rewards in the shapes that verl and OpenRLHF call.

    # reward.py, for verl: custom_reward_function.path=reward.py, .name=compute_score
    reward = rlaif.Judge("server/judge", "correctness", base_url=URL).reward(by="score")
    compute_score = VerlReward(reward)

    # reward.py, for OpenRLHF: --remote_rm_url reward.py
    reward_func = OpenRLHFReward(reward)

Neither framework has a word for "no reward". So a completion without a verdict is an error, unless
a `neutral` reward is given; then it is counted where the framework logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlaif.background import run_blocking
from rlaif.errors import Cause, ConfigError, DataError, VerdictError
from rlaif.types import CAUSES

if TYPE_CHECKING:
    from rlaif.rewards.judge_reward import JudgeReward, Step

_SPECIAL_END = re.compile(r"(?:\s*(?:<\|[\w ]{1,40}\|>|</s>|<(?:eos|pad)>|<end_of_turn>))+\s*\Z")
"""The special tokens that OpenRLHF leaves at the end of a response."""


class VerlReward:
    """verl's `compute_score`: the reward of one response.

    Args:
        reward: Rewards by score: verl calls it with one response at a time.
        neutral: The reward of a response without a verdict; without it that is an error.

    Raises:
        ConfigError: the reward is by comparison.
    """

    def __init__(self, reward: JudgeReward, *, neutral: float | None = None) -> None:
        if reward.by != "score":
            raise ConfigError("verl asks for one response at a time: reward it by='score'")
        self._reward = reward
        self._neutral = neutral
        self.__name__ = "compute_score"

    async def __call__(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: object,
        extra_info: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """`score`, and what verl keeps beside it: `no_verdict` (0 or 1) and `cost_usd`.

        Args:
            data_source: Not read.
            solution_str: The response.
            ground_truth: The reference, where it is text.
            extra_info: Holds the prompt as `prompt` (text or messages) or `question`.
            kwargs: Not read.

        Raises:
            DataError: there is no prompt.
            VerdictError: there is no verdict and no neutral reward.
            BackendError: as `JudgeReward`.
        """
        del data_source, kwargs
        info = extra_info or {}
        prompt = info.get("prompt") or info.get("question")
        if not prompt:
            raise DataError("extra_info needs the prompt, as 'prompt' or 'question'")
        if not isinstance(prompt, str):
            prompt = list(prompt)  # Parquet gives arrays
        reference = ground_truth if isinstance(ground_truth, str) else None
        step = await self._reward.judged([prompt], [solution_str], [reference])
        calls = [call for verdict in step.verdicts for call in verdict.calls]
        return {
            "score": _filled(step, self._neutral)[0],
            "no_verdict": int(step.causes[0] is not None),
            "cost_usd": sum(call.cost_usd or 0.0 for call in calls if not call.cached),
        }


class OpenRLHFReward:
    """OpenRLHF's `reward_func`: the rewards of responses, which waits for them.

    Args:
        reward: By comparison the whole group of a prompt must come in one call.
        neutral: The reward of a response without a verdict; without it that is an error.
    """

    def __init__(self, reward: JudgeReward, *, neutral: float | None = None) -> None:
        self._reward = reward
        self._neutral = neutral
        self.__name__ = "reward_func"

    def __call__(
        self,
        queries: Sequence[str],
        prompts: Sequence[str],
        labels: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """`rewards` in [-1, 1], `scores` in [0, 1] for filtering, and `extra_logs`, as tensors.

        Args:
            queries: Prompt and response together.
            prompts: The prompts alone, each the beginning of its query.
            labels: The references, where they are text.
            kwargs: Not read.

        Raises:
            DataError: a query does not begin with its prompt.
            VerdictError: there is no verdict and no neutral reward.
            BackendError: as `JudgeReward`.
        """
        import torch

        del kwargs
        responses = [response_in(q, p) for q, p in zip(queries, prompts, strict=True)]
        texts = [one if isinstance(one, str) else None for one in labels or [None] * len(prompts)]
        step = run_blocking(self._reward.judged(list(prompts), responses, texts))
        rewards = torch.tensor(_filled(step, self._neutral), dtype=torch.float32)
        missing = [float(cause is not None) for cause in step.causes]
        return {
            "rewards": rewards,
            "scores": (rewards + 1.0) / 2.0,
            "extra_logs": {f"{self._reward.__name__}_no_verdict": torch.tensor(missing)},
        }


def response_in(query: str, prompt: str) -> str:
    """The response in an OpenRLHF query: what follows the prompt, no special tokens at its end.

    Raises:
        DataError: the query does not begin with the prompt.
    """
    if not query.startswith(prompt):
        raise DataError("a query does not begin with its prompt")
    return _SPECIAL_END.sub("", query[len(prompt) :])


def _filled(step: Step, neutral: float | None) -> list[float]:
    """The rewards, the neutral one where there is none."""
    filled = []
    for reward, cause in zip(step.rewards, step.causes, strict=True):
        value = neutral if reward is None else reward
        if value is None:
            known: Cause = cause if cause in CAUSES else "unreadable"
            raise VerdictError(
                f"a response has no verdict ({cause}) and no neutral reward is set", cause=known
            )
        filled.append(value)
    return filled
