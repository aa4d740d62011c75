"""Scores of responses from any mix of reward models, judges and Python functions.

    mix = RewardMix([judge_reward, Path("runs/rm"), brevity], weights=[1, 0.5, 0.1])
    scored = await mix(prompts, completions, completion_ids, columns)

Functions have TRL's signature, `function(prompts, completions, completion_ids=..., **columns)`, one
number or None for each response, and may be async. All are asked at once. None means that there is
no reward, and is never a number; a number that is not finite is an error that names its function.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif.backends.base import BackendOptions
from rlaif.backends.reward import RewardBackend, open_reward
from rlaif.errors import BackendError, ConfigError, DataError
from rlaif.train.ppo.config import MissingReward
from rlaif.types import Message, Request

RewardFunction = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of a batch of responses."""

    totals: list[float | None]
    """Weighted sums; None where there is no reward."""
    parts: dict[str, list[float | None]]
    """By function, unweighted."""
    metrics: dict[str, float]
    """What functions told of themselves, as TRL's `log_metric` takes it: `judge/coverage`, …"""

    def figures(self) -> dict[str, float | None]:
        """The mean of each function over what it scored, its metrics, and the cost of all."""
        made: dict[str, float | None] = {}
        for name, part in self.parts.items():
            known = [reward for reward in part if reward is not None]
            made[f"reward/{name}"] = sum(known) / len(known) if known else None
        costs = [cost for name, cost in self.metrics.items() if name.endswith("/cost_usd")]
        return made | self.metrics | ({"cost_usd": math.fsum(costs)} if costs else {})


class RewardMix:
    """A weighted sum of rewards.

    Args:
        functions: Functions in TRL's signature, and folders of sequence classifiers.
        weights: One for each; all 1 by default. A reward of weight 0 is asked for and logged, but
            not trained for: a held-out judge, say. An episode may lack it.
        missing: What an episode is worth that lacks one of its rewards, see `PPOConfig`.

    Raises:
        ConfigError: there are no functions, a weight for each is missing, all are 0, or a
            checkpoint is no sequence classifier.
    """

    def __init__(
        self,
        functions: Sequence[RewardFunction | Path | str],
        weights: Sequence[float] | None = None,
        *,
        missing: MissingReward = "mask",
    ) -> None:
        if not functions:
            raise ConfigError("there is no reward function")
        if weights is not None and len(weights) != len(functions):
            raise ConfigError(f"{len(weights)} weights for {len(functions)} reward functions")
        if weights is not None and not any(weights):
            raise ConfigError("every reward has the weight 0: there is nothing to train for")
        self._functions = [ModelReward(f) if isinstance(f, Path | str) else f for f in functions]
        self._weights = list(weights) if weights is not None else [1.0] * len(functions)
        self._missing = missing
        self.names = _names(self._functions)

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        columns: Mapping[str, Sequence[Any]],
    ) -> Scored:
        """Score each completion.

        Raises:
            DataError: a function gave too few or too many rewards, or one that is not finite.
        """
        metrics: dict[str, float] = {}
        asked = {
            **columns,
            "prompts": prompts,
            "completions": completions,
            "completion_ids": completion_ids,
            "log_metric": metrics.__setitem__,
        }
        given = await asyncio.gather(*(_ask(function, asked) for function in self._functions))
        parts = {
            name: _checked(name, rewards, len(completions))
            for name, rewards in zip(self.names, given, strict=True)
        }
        totals = [self._total(row) for row in zip(*parts.values(), strict=True)]
        return Scored(totals, parts, metrics)

    def described(self) -> list[list[Any]]:
        """Name and weight of each function."""
        return [list(pair) for pair in zip(self.names, self._weights, strict=True)]

    def _total(self, rewards: Sequence[float | None]) -> float | None:
        wanted = [(w, r) for w, r in zip(self._weights, rewards, strict=True) if w]
        there = [(w, r) for w, r in wanted if r is not None]
        if not there or (len(there) < len(wanted) and self._missing == "mask"):
            return None
        # what is missing counts as the others on average, so that it moves nothing
        share = sum(abs(w) for w in self._weights) / sum(abs(w) for w, _ in there)
        return share * sum(w * r for w, r in there)

    async def aclose(self) -> None:
        """Let go of reward models."""
        for function in self._functions:
            if isinstance(function, ModelReward):
                await function.aclose()


class ModelReward:
    """A sequence classifier in this process as a reward function.

    Args:
        path: Its folder, with `#LABEL` where it has several outputs.

    Raises:
        ConfigError: it is none.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = str(path).removeprefix("reward/")
        self._backend: RewardBackend | None = open_reward(self._path, BackendOptions())
        self.__name__ = f"reward/{Path(self._path).name}"

    async def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        """The reward of each completion, nats; None for one that does not fit the model's window.

        Raises:
            BackendError: the model cannot be loaded.
        """
        del columns
        backend = self._backend = self._backend or open_reward(self._path, BackendOptions())
        asked = (
            _reward(backend, prompt, completion)
            for prompt, completion in zip(prompts, completions, strict=True)
        )
        return list(await asyncio.gather(*asked))

    async def aclose(self) -> None:
        """Let go of the model; the next call loads it again."""
        backend, self._backend = self._backend, None
        if backend is not None:
            await backend.aclose()


async def _reward(backend: RewardBackend, prompt: Any, completion: Any) -> float | None:
    conversation = (*_messages(prompt, "user"), *_messages(completion, "assistant"))
    try:
        done = await backend.complete(Request(conversation, task="reward"))
    except BackendError as error:
        if error.fatal:
            raise
        return None
    return float(json.loads(done.text)["reward"])


async def _ask(function: RewardFunction, given: Mapping[str, Any]) -> Any:
    """What a function says, given as much of `given` as it takes."""
    taken = inspect.signature(function).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
        given = {name: value for name, value in given.items() if name in taken}
    called = function if inspect.isfunction(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.iscoroutinefunction(called):
        return await function(**given)
    found = await asyncio.to_thread(function, **given)
    return await found if inspect.isawaitable(found) else found


def _checked(name: str, rewards: Any, n: int) -> list[float | None]:
    rewards = list(rewards)
    if len(rewards) != n:
        raise DataError(f"reward function {name} gave {len(rewards)} rewards for {n} responses")
    for place, reward in enumerate(rewards):
        if reward is not None and not math.isfinite(reward):
            raise DataError(f"reward function {name} gave {reward} for response {place}")
    return [None if reward is None else float(reward) for reward in rewards]


def _names(functions: Sequence[Any]) -> list[str]:
    """A name for each, numbered where two are the same."""
    names: list[str] = []
    for function in functions:
        name = getattr(function, "__name__", type(function).__name__)
        same = sum(taken.split("#")[0] == name for taken in names)
        names.append(f"{name}#{same + 1}" if same else name)
    return names


def _messages(given: Any, role: str) -> tuple[Message, ...]:
    if isinstance(given, str):
        return (Message(role, given),)  # type: ignore[arg-type]  # one of two roles
    return tuple(Message(message["role"], message["content"]) for message in given)
