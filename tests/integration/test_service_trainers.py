"""Rewards for trainers, asked for by the trainers' own code.

That code is not on every machine: these libraries need CUDA to be installed whole. The few modules
that ask for rewards run without it, after `pip install --no-deps` of the library and what it names.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import aiohttp
import pytest

import rlaif.service.client as client
from tests.unit.service.conftest import Running, Serve, script, serve

__all__ = ["script", "serve"]

GOOD, BAD = "Paris, on the Seine.", "No idea."
ODD = pytest.mark.filterwarnings("ignore")
"""For the libraries' own warnings."""


@pytest.fixture
def running(serve: Serve) -> Running:
    """A service whose judge prefers GOOD."""
    return serve(
        {"match": f":response>\n{GOOD}", "reply": "Right. [[5]]"},
        {"match": ":response>", "reply": "Empty. [[1]]"},
        {"match": f"response_a>\n{GOOD}", "reply": "[[A]]"},
        {"match": f"response_b>\n{GOOD}", "reply": "[[B]]"},
        {"match": "", "reply": "[[tie]]"},
    )


class Letters:
    """A tokenizer whose tokens are characters."""

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        import torch

        return {"input_ids": torch.tensor([[ord(letter) for letter in text]])}

    def decode(self, tokens: Any, **_: Any) -> str:
        return "".join(chr(int(token)) for token in tokens)


@pytest.fixture
def openrlhf_agent() -> Iterator[ModuleType]:
    """OpenRLHF's module that asks for rewards, without its packages' own, which need CUDA."""
    found = importlib.util.find_spec("openrlhf")
    if found is None or not found.submodule_search_locations:
        pytest.skip("OpenRLHF is not installed")
    root = Path(next(iter(found.submodule_search_locations)))
    packages = {"openrlhf": root, "openrlhf.utils": root / "utils"}
    for name, folder in packages.items():
        made = ModuleType(name)
        made.__path__ = [str(folder)]
        sys.modules[name] = made
    try:
        yield importlib.import_module("openrlhf.utils.agent")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "openrlhf"]:
            del sys.modules[name]


@ODD
def test_openrlhf_s_executor_takes_rewards_from_the_service(
    running: Running, openrlhf_agent: ModuleType
) -> None:
    executor = openrlhf_agent.SingleTurnAgentExecutor(f"{running.url}/get_reward")
    sampling = SimpleNamespace(max_tokens=64, logprobs=None)

    async def rollout(text: str) -> Any:
        async def generate(*_: Any, **__: Any) -> Any:
            tokens = [ord(letter) for letter in text]
            said = SimpleNamespace(token_ids=tokens, finish_reason="stop", text=text, logprobs=None)
            return SimpleNamespace(outputs=[said])

        engine = SimpleNamespace(generate=generate)
        return await executor.execute("Capital of France? ", "", sampling, 512, Letters(), engine)

    good, bad = asyncio.run(rollout(GOOD)), asyncio.run(rollout(BAD))
    assert (good["reward"], bad["reward"]) == ([1.0], [-1.0])
    assert (good["scores"], bad["scores"]) == ([1.0], [0.0])
    assert good["extra_logs"] == {"no_verdict": [0.0]}


@ODD
@pytest.mark.slow
def test_verl_s_reward_manager_takes_rewards_from_the_service(running: Running) -> None:
    reward = pytest.importorskip("verl.trainer.ppo.reward")
    naive = pytest.importorskip("verl.experimental.reward_loop.reward_manager.naive")
    import numpy as np
    import torch
    from omegaconf import OmegaConf
    from verl import DataProto

    asked = {"path": client.__file__, "name": "compute_score"}
    config = OmegaConf.create(
        {"reward": {"custom_reward_function": {**asked, "reward_kwargs": {"url": running.url}}}}
    )

    async def rewarded(text: str) -> dict[str, Any]:
        manager = naive.NaiveRewardManager(config, Letters(), reward.get_custom_reward_fn(config))
        tokens = torch.tensor([[ord(letter) for letter in text]])
        columns = {
            "data_source": np.array(["capitals"], dtype=object),
            "reward_model": np.array([{"ground_truth": "Paris"}], dtype=object),
            "extra_info": np.array([{"question": "Capital of France?"}], dtype=object),
        }
        tensors = {"responses": tokens, "attention_mask": torch.ones_like(tokens)}
        return await manager.run_single(DataProto.from_dict(tensors, columns))  # type: ignore[no-any-return]

    good, bad = asyncio.run(rewarded(GOOD)), asyncio.run(rewarded(BAD))
    assert (good["reward_score"], bad["reward_score"]) == (1.0, -1.0)
    assert good["reward_extra_info"]["no_verdict"] == 0


@ODD
@pytest.mark.slow
def test_nemo_gym_s_strategy_takes_rewards_from_the_service(running: Running) -> None:
    gym = pytest.importorskip("resources_servers.genrm_compare.comparison_strategies")

    def said(*texts: str) -> dict[str, Any]:
        parts = [{"type": "output_text", "text": text} for text in texts]
        return {"output": [{"type": "message", "role": "assistant", "content": parts}]}

    async def compared() -> Any:
        async with aiohttp.ClientSession(running.url) as session:
            post: Callable[..., Any] = session.post
            server = SimpleNamespace(
                post=lambda server_name, url_path, json: post(url_path, json=json)
            )
            strategy = gym.GenRMStrategy(gym.GenRMStrategyConfig())
            history = [{"role": "user", "content": "Capital of France?"}]
            objects = [said(BAD), said(GOOD), {"output": []}]
            return await strategy.compare(history, objects, server, "Prefer the truth.")

    rewards, metrics = asyncio.run(compared())
    assert rewards[1] == max(rewards) > max(rewards[0], rewards[2])
    assert metrics["no_verdict"] == 0.0
