"""How a round of a loop trains its policy: DPO on the pairs it selected, or PPO with its judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rlaif.errors import ConfigError, SpecError
from rlaif.train.alarms import Limits
from rlaif.train.online_alarms import OnlineAlarms
from rlaif.types import as_dict

if TYPE_CHECKING:
    from rlaif.train.dpo import DPOSettings
    from rlaif.train.loop_round import Round, Trainer
    from rlaif.train.loop_schema import LoopFile
    from rlaif.train.ppo.config import PPOConfig

S = TypeVar("S")
Told = Callable[[int, int, str], None]
_RESPONSES = 4
"""Of a prompt in an update of PPO: its judge compares them with one another."""
_LORA_RANK = 16


def dpo_settings(given: Mapping[str, Any], seed: int) -> DPOSettings:
    """The settings of DPO that a loop's file gives by name; the loop's seed where it gives none.

    Raises:
        ConfigError: one is unknown or does not fit.
    """
    from rlaif.train.dpo import DPOSettings

    return _settings(DPOSettings, {"seed": seed, **given})


def _settings(kind: type[S], given: Mapping[str, Any]) -> S:
    from rlaif.train.settings import settings_from

    make: Any = settings_from
    try:
        made: S = make(kind, given, None, {})
    except SpecError as error:
        name = f"train.settings.{error.field}" if error.field else "train.settings"
        raise ConfigError(f"{name}: {error.message}") from None
    return made


def dpo_trainer(settings: DPOSettings) -> Trainer:
    """Trains on the round's preference rows by DPO."""
    from rlaif.train.data import load_preferences
    from rlaif.train.dpo import train_dpo

    def train(one: Round, folder: Path, progress: Told) -> dict[str, Any]:
        return train_dpo(
            one.policy,
            load_preferences(one.folder / "3-dataset"),
            folder,
            settings,
            home=one.tools.home,
            facts=_facts(one),
            progress=progress,
        )

    return train


def _facts(one: Round) -> dict[str, str]:
    config = one.tools.config
    return {
        "loop": config.name,
        "round": str(one.number),
        "start": config.model,
        "judge": config.judge.model,
    }


def ppo_config(config: LoopFile, prompts: int, folder: Path) -> tuple[PPOConfig, int]:
    """The settings of PPO for a round of so many prompts, and the rank of its adapters.

    Lengths, temperature and seed are those of the loop, and every prompt is answered four times by
    default.

    Raises:
        ConfigError: a setting is unknown or does not fit, or leaves a response without another one
            that it is compared with.
    """
    from rlaif.train.ppo.config import PPOConfig

    given = dict(config.train.settings)
    rank = given.pop("lora_rank", _LORA_RANK)
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 0:
        raise ConfigError(f"train.settings.lora_rank: {rank!r} is no rank")
    if "output_dir" in given:
        raise ConfigError("train.settings.output_dir: each round has its folder")
    usual = {
        "responses_per_prompt": _RESPONSES,
        "batch_size": _RESPONSES * 8,
        "response_length": config.generate.max_tokens,
        "temperature": config.generate.temperature,
        "seed": config.seed,
    }
    made = _settings(PPOConfig, {"output_dir": folder, **usual, **given})
    if "total_episodes" not in given:
        once = made.responses_per_prompt * prompts
        made = replace(made, total_episodes=max(made.batch_size, once))
    if made.responses_per_prompt < 2:
        raise ConfigError(
            "train.settings.responses_per_prompt: a judge that compares needs 2 or more"
        )
    return made, rank


def ppo_trainer(
    reward: Callable[[Path], AbstractContextManager[Any]],
    limits: Limits,
    tell: Callable[[str], None] = lambda line: None,
) -> Trainer:
    """Trains on the round's prompts by PPO, with the loop's judge as reward.

    Args:
        reward: Opens the reward function for a round's folder, and closes it when the round is
            trained.
        limits: When alarms fire while it trains. They are kept in the summary, under `alarms`; the
            round is trained to its end, so that it can be compared with the start.
        tell: Told of each alarm.
    """
    from rlaif.train.ppo.run import train_ppo

    def train(one: Round, folder: Path, progress: Told) -> dict[str, Any]:
        args, rank = ppo_config(one.tools.config, len(one.prompts), folder)
        alarms = OnlineAlarms(limits, stop=False, ceiling=1.0, tell=tell)
        rows = [
            {"prompt": as_dict(item.prompt), "reference": item.reference} for item in one.prompts
        ]
        with reward(folder) as function:
            return train_ppo(
                one.policy,
                rows,
                [function],
                args,
                lora_rank=rank,
                facts=_facts(one),
                progress=progress,
                alarms=alarms,
            )

    return train
