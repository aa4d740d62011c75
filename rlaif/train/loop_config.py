"""The file of a loop, and the prompts that it names.

config = load_loop(Path("loop.yaml"))
train, held_out = loop_prompts(config, Path("."))
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.errors import ConfigError
from rlaif.preferences.pairs import prompt_key
from rlaif.specs.items import read_prompts
from rlaif.specs.shipped import shipped_dir
from rlaif.specs.yamlfile import read_yaml
from rlaif.types import Item

if TYPE_CHECKING:
    from rlaif.train.loop_schema import LoopFile


def load_loop(path: Path) -> LoopFile:
    """The loop in a YAML file.

    Raises:
        SpecError: it is missing or malformed: names its line and field.
    """
    from rlaif.train.loop_schema import LoopFile

    document = read_yaml(path)
    config = document.validated(LoopFile)
    if config.judge == config.held_out_judge:
        message = "is the judge that training follows: take another model, or another rubric"
        raise document.error(message, "held_out_judge")
    return config


def example_loop() -> str:
    """A commented file of a loop, to begin with."""
    return (shipped_dir("loop") / "example.yaml").read_text(encoding="utf-8")


def loop_prompts(config: LoopFile, folder: Path) -> tuple[list[Item], list[Item]]:
    """The prompts of a loop: those trained on, and the held-out ones.

    Args:
        config: The loop.
        folder: What its paths count from.

    Raises:
        SpecError: a file is missing or malformed, or empty.
        ConfigError: a prompt stands in both, or fewer than two are held out.
    """
    train, held_out = (
        list(read_prompts(folder / name)) for name in (config.prompts, config.held_out)
    )
    if len(held_out) < 2:
        raise ConfigError(f"{config.held_out} has {len(held_out)} prompts: no interval can be had")
    known = {prompt_key(item.prompt) for item in train}
    both = [item.id for item in held_out if prompt_key(item.prompt) in known]
    if both:
        raise ConfigError(
            f"{len(both)} held-out prompts are trained on too, {both[0]!r} is the first: "
            f"take them out of {config.prompts}"
        )
    return train, held_out


def prompts_of(items: Sequence[Item], number: int, size: int | None, seed: int) -> list[Item]:
    """The prompts of round `number` (from 1): the next `size` of all, shuffled by `seed`.

    Every pass over the prompts has a shuffle of its own; all of them come where `size` is None.
    """
    if size is None or size >= len(items):
        return list(items)
    chosen: list[Item] = []
    place = (number - 1) * size
    while len(chosen) < size:
        turn, offset = divmod(place + len(chosen), len(items))
        order = random.Random(f"{seed} {turn}").sample(range(len(items)), len(items))  # noqa: S311
        chosen.append(items[order[offset]])
    return chosen
