"""A pair asked game by game, as benchmark protocols do: each game a request that shows one order.

    verdict = await play(backend, ref, comparison, [Game("AB", first), Game("BA", second)], read)

`read` tells the winner of one reply as it was shown; here it is turned back to the pair's own A
and B. A game that cannot be read leaves the pair without a verdict: half an answer would carry the
judge's position bias.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlaif.backends.base import Backend
from rlaif.errors import VerdictError
from rlaif.judge.common import Asked, ask, no_verdict, verdict_id
from rlaif.judge.pairwise import combine_orders
from rlaif.judge.parsing import rationale
from rlaif.types import (
    Comparison,
    Completion,
    Item,
    JudgeRef,
    OrderVerdict,
    Preference,
    Request,
    Shown,
    Verdict,
    Winner,
)

Reader = Callable[[Completion], tuple[Winner, float]]
"""From a reply to the winner as it was shown, and P(first preferred) in [0, 1]."""

_FLIPPED: dict[Winner, Winner] = {"A": "B", "B": "A", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class Game:
    """One request about a pair."""

    shown: Shown
    request: Request


def with_meta(item: Item, **more: Any) -> Item:
    """The item with more in its meta. A verdict's id does not hang on it."""
    return replace(item, meta={**item.meta, **more})


async def play(
    backend: Backend,
    ref: JudgeRef,
    comparison: Comparison,
    games: Sequence[Game],
    read: Reader,
) -> Verdict:
    """The verdict over `games`; a tie without a call where there are none.

    Raises:
        BackendError: a fatal failure of the provider.
    """
    item, candidates = comparison.item, (comparison.a, comparison.b)
    asked = await asyncio.gather(*(ask(backend, game.request, game.shown) for game in games))
    calls = tuple(one.call for one in asked)
    try:
        orders = [_order(one, game.shown, read) for one, game in zip(asked, games, strict=True)]
        reasons = rationale(asked[0].reply()) if asked else None
    except VerdictError as error:
        return no_verdict("comparison", item, candidates, ref, error.cause, calls, str(error))
    return Verdict(
        id=verdict_id("comparison", item, candidates, ref),
        kind="comparison",
        item=item,
        candidates=candidates,
        judge=ref,
        status="ok",
        preference=combine_orders(orders) if orders else Preference("tie", 0.5, (), True),
        rationale=reasons,
        calls=calls,
    )


def _order(asked: Asked, shown: Shown, read: Reader) -> OrderVerdict:
    winner, p_first = read(asked.reply())
    if shown == "AB":
        return OrderVerdict(shown, winner, p_first)
    return OrderVerdict(shown, _FLIPPED[winner], 1.0 - p_first)
