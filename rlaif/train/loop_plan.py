"""What a loop would ask its judges, before there is any response to judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rlaif.candidates import pair_up
from rlaif.train.loop_config import prompts_of
from rlaif.types import Candidate, Comparison, Item, Message

if TYPE_CHECKING:
    from rlaif.train.loop_schema import LoopFile


def planned_comparisons(
    config: LoopFile, prompts: Sequence[Item], held_out: Sequence[Item]
) -> Iterator[tuple[Comparison, bool]]:
    """Every comparison that all rounds would make, and whether the held-out judge makes it too.

    Responses are stand-ins as long as `max_tokens` lets them be, so that the price is the most
    there can be. While PPO trains its judge compares each response with the others of its prompt;
    how many those are is in its settings, and they are not planned here.
    """
    drawn = config.generate
    for number in range(1, config.rounds + 1):
        if config.train.trainer == "dpo":
            for item in prompts_of(prompts, number, config.prompts_per_round, config.seed):
                found = [
                    _stand_in(f"{number} {k}", drawn.max_tokens) for k in range(drawn.candidates)
                ]
                for pair in pair_up(item, found, config.select.compare, seed=config.seed):
                    yield pair, False
        for item in held_out:
            for draw in range(drawn.held_out_candidates):
                ours, theirs = (
                    _stand_in(f"{who} {draw}", drawn.max_tokens) for who in (str(number), "start")
                )
                yield Comparison(item, ours, theirs), True


def _stand_in(name: str, tokens: int) -> Candidate:
    """A response of about so many tokens that no other one equals."""
    return Candidate(name, (Message("assistant", f"{name} " + "word " * tokens),), "local/policy")
