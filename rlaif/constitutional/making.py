"""Chains of many prompts into a run folder: `revisions.jsonl`, `verdicts.jsonl`, `summary.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from rlaif.canonical import json_line
from rlaif.constitutional.chains import Made
from rlaif.constitutional.prompts import BrokenRow
from rlaif.constitutional.records import REVISIONS, Chain
from rlaif.runner import Stop, Stopped, Tally, ordered
from rlaif.store.runs import RunFolder
from rlaif.types import Item

SKIPPED = "skipped.jsonl"
VERDICTS = "verdicts.jsonl"


@dataclass(slots=True)
class PrincipleTally:
    """What became of the rounds that one principle was drawn for."""

    rounds: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """Counts, and the share kept of those that were judged."""
        judged = self.statuses["kept"] + self.statuses["not_preferred"]
        rate = self.statuses["kept"] / judged if judged else None
        return {"rounds": self.rounds, **dict(sorted(self.statuses.items())), "keep_rate": rate}


@dataclass(slots=True)
class ChainTally:
    """Running totals of chains."""

    principles: dict[str, PrincipleTally]
    chains: int = 0
    revised: int = 0
    stopped_early: int = 0
    drawn_otherwise: int = 0
    """Rounds whose principle a judge was asked for in vain."""
    statuses: dict[int, Counter[str]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)

    def add(self, chain: Chain) -> None:
        """Count one chain."""
        self.chains += 1
        self.revised += chain.revised
        self.stopped_early += bool(chain.rounds) and chain.rounds[-1].status == "not_preferred"
        for one in chain.rounds:
            self.statuses.setdefault(one.number, Counter())[one.status] += 1
            self.drawn_otherwise += one.drawn != chain.recipe.draw
            self.flags.update(one.flags)
            if one.fault:
                self.faults[one.fault] += 1
            if one.principle:
                tally = self.principles.setdefault(one.principle, PrincipleTally())
                tally.rounds += 1
                tally.statuses[one.status] += 1

    def as_dict(self) -> dict[str, Any]:
        """What `summary.json` says of the chains."""
        rounds = [
            {"round": number, **dict(sorted(counts.items()))}
            for number, counts in sorted(self.statuses.items())
        ]
        return {
            "chains": self.chains,
            "revised": self.revised,
            "stopped_early": self.stopped_early,
            "drawn_otherwise": self.drawn_otherwise,
            "rounds": rounds,
            "faults": dict(sorted(self.faults.items())),
            "flags": dict(sorted(self.flags.items())),
            "principles": {name: tally.as_dict() for name, tally in self.principles.items()},
        }


async def write_chains(
    rows: Iterable[Item | BrokenRow],
    revise: Callable[[Item], Awaitable[Made]],
    run: RunFolder,
    *,
    principles: Iterable[str],
    concurrency: int | Callable[[], int],
    progress: Callable[[int, str], None] = lambda steps, note: None,
    stop: Stop | None = None,
    also: Callable[[], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Make the chains of `rows` in order; the summary, which `summary.json` holds too.

    Rows that hold no prompt go to `skipped.jsonl` and count as `broken_row`. Where `stop` ends the
    run early the files stay `.partial`, and the summary says `"interrupted": true`.

    Args:
        rows: Prompts, and rows that hold none.
        revise: Makes the chain of one prompt.
        run: The run folder.
        principles: Names of all principles that may be drawn, for those that never are.
        concurrency: How many chains are under way at once, as in `rlaif.runner.ordered`.
        progress: Told of each finished chain.
        stop: Ends the run early.
        also: What else the summary says, asked at the end.

    Raises:
        BackendError: a fatal one: every further call would fail the same way.
        StoreError: the run folder or the reply store cannot be written.
    """
    tally, chains = Tally(), ChainTally({name: PrincipleTally() for name in principles})

    async def work(row: Item | BrokenRow) -> Made | BrokenRow:
        return row if isinstance(row, BrokenRow) else await revise(row)

    def summary() -> dict[str, Any]:
        return tally.summary() | chains.as_dict() | dict(also())

    try:
        with (
            run.open_whole(REVISIONS) as revisions,
            run.open_whole(VERDICTS) as verdicts,
            run.open_whole(SKIPPED) as skipped,
        ):
            async with aclosing(ordered(rows, work, concurrency=concurrency, stop=stop)) as made:
                async for one in made:
                    if isinstance(one, BrokenRow):
                        tally.count("broken_row", ())
                        skipped.write(json_line(one.as_dict()))
                    else:
                        asked = [call for v in one.verdicts for call in v.calls]
                        tally.count(one.chain.cause, (*one.calls, *asked))
                        chains.add(one.chain)
                        revisions.write(json_line(one.chain.as_dict()))
                        verdicts.writelines(json_line(v.as_dict()) for v in one.verdicts)
                    progress(1, tally.note())
    except Stopped:
        return summary() | {"interrupted": True}
    return summary()
