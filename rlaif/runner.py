"""Many items through one coroutine: bounded concurrency, results in order, one sliding window.

    async for verdict in ordered(items, judge_one, concurrency=32):
        ...

A slow item holds back only what is printed after it, never what is asked after it, up to the
window; memory is bounded by the window, not by the number of items.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rlaif.canonical import json_line
from rlaif.store.runs import RunFolder
from rlaif.types import Call, Usage, Verdict

T = TypeVar("T")
R = TypeVar("R")


async def ordered(
    items: Iterable[T],
    work: Callable[[T], Awaitable[R]],
    *,
    concurrency: int,
    window: int | None = None,
) -> AsyncIterator[R]:
    """The results of `work` on `items`, in the order of `items`.

    Args:
        items: Read lazily, a window ahead of what was yielded.
        work: What to do with one item. An error it raises stops the run, and reaches the caller
            once everything before it was yielded.
        concurrency: How many items are worked on at once.
        window: How many items may be under way or finished behind the oldest unfinished one;
            eight times the concurrency by default.
    """
    slots = asyncio.Semaphore(concurrency)
    pending: deque[asyncio.Task[R]] = deque()
    room = window or 8 * concurrency

    async def one(item: T) -> R:
        async with slots:
            return await work(item)

    try:
        for item in items:
            pending.append(asyncio.create_task(one(item)))
            while len(pending) >= room or (pending and pending[0].done()):
                yield await pending[0]
                pending.popleft()
        while pending:
            yield await pending[0]
            pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


@dataclass(slots=True)
class Tally:
    """Running totals of a run, and its summary."""

    done: int = 0
    ok: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    calls_cached: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    """US dollars paid for calls of this run; replies from the store cost nothing again."""
    cost_saved_usd: float = 0.0
    """US dollars that the replies from the store cost when they were asked."""
    calls_unpriced: int = 0
    """Calls made whose price is not known."""
    started_s: float = field(default_factory=time.monotonic)

    def add(self, verdict: Verdict) -> None:
        """Count one verdict."""
        self.count(verdict.cause, verdict.calls)

    def count(self, cause: str | None, calls: Iterable[Call]) -> None:
        """Count one piece of work: why it failed, if it did, and the calls behind it."""
        self.done += 1
        if cause is None:
            self.ok += 1
        else:
            self.causes[cause] += 1
        for call in calls:
            self.calls += 1
            self.calls_cached += call.cached
            self.usage = self.usage + call.usage
            if call.cached:
                self.cost_saved_usd += call.cost_usd or 0.0
            elif call.cost_usd is not None:
                self.cost_usd += call.cost_usd
            else:
                self.calls_unpriced += 1

    @property
    def coverage(self) -> float:
        """Share of items with a verdict, 0..1; 1 before the first item."""
        return self.ok / self.done if self.done else 1.0

    def summary(self) -> dict[str, Any]:
        """What `summary.json` says of a judged run."""
        return {
            "n": self.done,
            "ok": self.ok,
            "coverage": self.coverage,
            "causes": dict(sorted(self.causes.items())),
            "calls": self.calls,
            "calls_cached": self.calls_cached,
            "tokens": {
                "input": self.usage.input,
                "cached_input": self.usage.cached_input,
                "output": self.usage.output,
            },
            "cost_usd": round(self.cost_usd, 9),
            "cost_saved_usd": round(self.cost_saved_usd, 9),
            "calls_unpriced": self.calls_unpriced,
            "wall_s": round(time.monotonic() - self.started_s, 3),
        }


async def write_verdicts(
    items: Iterable[T],
    judge: Callable[[T], Awaitable[Verdict]],
    run: RunFolder,
    *,
    concurrency: int,
    progress: Callable[[int, str], None] = lambda steps, note: None,
) -> dict[str, Any]:
    """Judge `items` into `verdicts.jsonl` and `summary.json` of `run`, in order; the summary.

    Raises:
        BackendError: a fatal one: every further call would fail the same way.
        StoreError: the run folder or the reply store cannot be written.
    """
    tally = Tally()
    with run.open_whole("verdicts.jsonl") as file:
        async for verdict in ordered(items, judge, concurrency=concurrency):
            file.write(json_line(verdict.as_dict()))
            tally.add(verdict)
            progress(1, f"coverage {tally.coverage:.1%}")
    summary = tally.summary()
    run.write_json("summary.json", summary)
    return summary
