"""A loop small enough for a test: a tiny random model, judged by functions of the response."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlaif.backends.scripted import ScriptedBackend
from rlaif.judge.reward import RewardJudge
from rlaif.store.replies import ReplyStore
from rlaif.train.loop_round import Bar, Seat, Tools, Trainer
from rlaif.train.loop_schema import LoopFile
from rlaif.train.loop_trainers import dpo_settings, dpo_trainer
from rlaif.types import Item, Message, Request

Check = Callable[[str], float]


class NoBar:
    """A bar that nobody sees."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count."""

    def reach(self, done: int, total: int, note: str = "") -> None:
        """Set."""


@contextmanager
def no_bar(label: str, total: int | None) -> Iterator[Bar]:
    """Shows nothing."""
    yield NoBar()


def items(kind: str, n: int) -> list[Item]:
    """Prompts that differ."""
    return [Item(f"{kind}{i}", (Message("user", f"{kind} question {i}?"),)) for i in range(n)]


def loop_file(**changed: Any) -> LoopFile:
    """A loop of two rounds on six prompts."""
    return LoopFile.model_validate(
        {
            "prompts": "train",
            "held_out": "held out",
            "model": "local/tiny",
            "rounds": 2,
            "generate": {"candidates": 3, "held_out_candidates": 1, "max_tokens": 10},
            "judge": {"model": "scripted/letters"},
            "held_out_judge": {"model": "scripted/vowels"},
            "select": {"balance": None},
            "train": {"settings": {"batch_size": 2, "lora_rank": 4, "learning_rate": 1e-2}},
            "on_alarm": "continue",
            **changed,
        }
    )


def letters(text: str) -> float:
    """How many letters there are."""
    return float(sum(c.isalpha() for c in text))


def vowels(text: str) -> float:
    """How many vowels there are."""
    return float(sum(c in "aeiou" for c in text))


def seat(name: str, check: Check | Callable[[str], Any]) -> tuple[Seat, ScriptedBackend]:
    """A judge that goes by a function, and the backend that counts its calls."""

    def reply(request: Request) -> Any:
        found = check(request.messages[-1].content)
        return json.dumps({"reward": found}) if isinstance(found, float) else found

    backend = ScriptedBackend(reply, model=f"scripted/{name}")
    return Seat(RewardJudge(backend), backend.identity), backend


def tools(
    config: LoopFile,
    model: Path,
    store: ReplyStore,
    *,
    judge: Seat | None = None,
    gold: Seat | None = None,
    train: Trainer | None = None,
    stop: threading.Event | None = None,
) -> Tools:
    """What the rounds of a test work with."""
    return Tools(
        config=config,
        judge=judge or seat("letters", letters)[0],
        gold=gold or seat("vowels", vowels)[0],
        start=model,
        store=store,
        home=store.path.parent / "home",
        train=train or dpo_trainer(dpo_settings(config.train.settings, config.seed)),
        bar=no_bar,
        stop=stop or threading.Event(),
    )
