"""Options for alarms inside online training, and how they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.cli.output import say

if TYPE_CHECKING:
    from rlaif.train.online_alarms import OnlineAlarms

_PANEL = "Alarms"

OnAlarm = Annotated[
    Literal["continue", "stop", "off"],
    typer.Option(
        "--alarms",
        help="What an alarm (drift, length, entropy, sameness of responses) comes to.",
        rich_help_panel=_PANEL,
    ),
]
AlarmFile = Annotated[
    Path | None,
    typer.Option("--alarm-limits", help="A file of limits.", rich_help_panel=_PANEL),
]


def open_alarms(
    wanted: Literal["continue", "stop", "off"],
    limits: Path | None,
    rewards: Sequence[Any],
    weights: Sequence[float] | None = None,
) -> OnlineAlarms | None:
    """The alarms that the options ask for, or None.

    A reward of weight 0 is taken for the held-out judge. Where judges alone are trained for, it is
    known what the most is that they give.

    Args:
        wanted: What an alarm comes to.
        limits: A file of them; the shipped ones by default.
        rewards: Functions and folders, as trainers take them.
        weights: One each; all 1 by default.

    Raises:
        ConfigError: rewards and weights do not fit together.
        SpecError: the file does not fit.
    """
    from rlaif.rewards.judge_reward import JudgeReward
    from rlaif.train.alarms import load_limits
    from rlaif.train.online_alarms import OnlineAlarms
    from rlaif.train.ppo.rewards import RewardMix

    if wanted == "off":
        return None
    weighed = RewardMix(rewards, weights).described()
    held_out = [name for name, weight in weighed if not weight]
    trained = [
        (reward, weight) for reward, (_, weight) in zip(rewards, weighed, strict=True) if weight
    ]
    judged = all(isinstance(reward, JudgeReward) and weight > 0 for reward, weight in trained)
    return OnlineAlarms(
        load_limits(limits),
        stop=wanted == "stop",
        gold=f"reward/{held_out[0]}" if held_out else None,
        ceiling=sum(weight for _, weight in trained) if judged else None,
        tell=say,
    )


def tell_alarms(summary: Mapping[str, Any]) -> None:
    """Print which alarms fired in a run, and when they first did."""
    for one in summary.get("alarms", {}).get("fired", []):
        say(f"alarm at step {one['step']}: {one['name']}")
