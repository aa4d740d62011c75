"""Many items through one coroutine: bounded concurrency, results in order, one sliding window.

    async for verdict in ordered(items, judge_one, concurrency=32):
        ...

A slow item holds back only what is printed after it, never what is asked after it, up to the
window; memory is bounded by the window, not by the number of items.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter, deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO, TypeVar

from rlaif.store.lines import verdict_line
from rlaif.store.runs import RunFolder
from rlaif.types import Call, Usage, Verdict

T = TypeVar("T")
R = TypeVar("R")

_GARBAGE_FROM = 200_000
"""Objects made and not freed before the collector looks for cycles. By default it does after 700,
which a thousand calls in flight hold at any moment: a third of all processor time went into looking
through them, over and over, and none was ever garbage."""
_SMALLEST_WINDOW = 8192
"""Items: a call that hangs until its time-out, or is tried again for minutes, stalls the others no
sooner. As many verdicts on prompts of 5 kB wait in 46 MB of memory."""
_CHUNK = 1 << 18
"""Characters of finished lines that are written together."""
_LONGEST_UNWRITTEN_S = 1.0
"""Seconds after which a finished line is in the file, for whoever watches it grow."""


class Stop(Protocol):
    """What tells a run to end early: an event of asyncio's or of threading's."""

    def is_set(self) -> bool:
        """Whether no further item may be begun."""
        ...


class Stopped(Exception):  # noqa: N818
    """A run ended early, as it was told to: all that was begun is done, and some items are left."""


def run_async(work: Coroutine[Any, Any, R]) -> R:
    """What `work` returns, run as fast as can be: on uvloop where installed, with patient garbage.

    The commands that call models run through it; it changes the collector for the whole process
    while it runs, so a program that embeds the library may prefer its own `asyncio.run`.
    """
    before = gc.get_threshold()
    gc.set_threshold(_GARBAGE_FROM, 10, 10)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work)
    finally:
        gc.set_threshold(*before)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # on Windows
        return None
    return uvloop.new_event_loop


async def ordered(
    items: Iterable[T],
    work: Callable[[T], Awaitable[R]],
    *,
    concurrency: int | Callable[[], int],
    window: int | None = None,
    stop: Stop | None = None,
) -> AsyncGenerator[R, None]:
    """The results of `work` on `items`, in the order of `items`.

    An item is read when there is a place for it, so at most `concurrency` are under way. Results
    wait in memory for those before them: while the oldest item hangs, the others go on until the
    window is full, and nothing new is begun until it ends.

    Args:
        items: Read lazily. An error it raises reaches the caller once everything read before it
            was yielded.
        work: What to do with one item. An error it raises ends the run: nothing new is begun, and
            it reaches the caller once everything before it was yielded.
        concurrency: How many items are worked on at once; a function is asked before each.
        window: How many items may be under way or finished behind the oldest unfinished one; eight
            times the concurrency by default, and 8,192 at least.
        stop: Once set, nothing new is begun.

    Raises:
        Stopped: `stop` was set before the last item was begun; everything begun was yielded.
    """
    source = iter(items)
    width = concurrency if callable(concurrency) else lambda: concurrency
    pending: deque[asyncio.Future[R]] = deque()
    changed = asyncio.Event()
    active = 0
    reading = True
    broken: Exception | None = None

    def ended(task: asyncio.Future[R]) -> None:
        nonlocal active, reading
        active -= 1
        if task.cancelled() or task.exception() is not None:
            reading = False
        changed.set()

    try:
        while True:
            while reading and active < (places := width()):
                if len(pending) >= (window or max(8 * places, _SMALLEST_WINDOW)):
                    break
                try:
                    item = next(source)
                except StopIteration:
                    reading = False
                    break
                except Exception as error:
                    reading, broken = False, error
                    break
                if stop is not None and stop.is_set():
                    reading, broken = False, Stopped()
                    break
                task: asyncio.Future[R] = asyncio.ensure_future(work(item))
                task.add_done_callback(ended)
                pending.append(task)
                active += 1
            if pending and pending[0].done():
                yield pending.popleft().result()
            elif pending:
                changed.clear()
                await changed.wait()
            else:
                break
        if broken is not None:
            raise broken
    finally:
        for left in pending:
            left.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


class _Chunks:
    """Lines on their way to a file: written in chunks, yet never late for whoever watches it.

    Writing each line alone costs more processor time than making it.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._waiting: list[str] = []
        self._size = 0
        self._written_s = time.monotonic()

    def add(self, line: str) -> None:
        """Write `line`, now or soon."""
        self._waiting.append(line)
        self._size += len(line)
        if self._size >= _CHUNK or time.monotonic() - self._written_s >= _LONGEST_UNWRITTEN_S:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        self._file.write("".join(self._waiting))
        self._file.flush()
        self._waiting.clear()
        self._size = 0
        self._written_s = time.monotonic()


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
    """Replies got whose price is not known."""
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
        before = self.usage
        read, cached, written = before.input, before.cached_input, before.output
        for call in calls:
            used = call.usage
            answered = bool(call.reply or used.input or used.output)
            if cause == "budget" and not answered and not call.cached:
                continue  # it was not sent
            read, cached, written = (
                read + used.input,
                cached + used.cached_input,
                written + used.output,
            )
            self.calls += 1
            self.calls_cached += call.cached
            if call.cached:
                self.cost_saved_usd += call.cost_usd or 0.0
            elif call.cost_usd is not None:
                self.cost_usd += call.cost_usd
            else:
                self.calls_unpriced += answered
        self.usage = Usage(read, cached, written)

    @property
    def coverage(self) -> float:
        """Share of items with a verdict, 0..1; 1 before the first item."""
        return self.ok / self.done if self.done else 1.0

    def note(self) -> str:
        """The coverage so far and, once there are any, the costs: what a progress bar shows."""
        cost = f", ${self.cost_usd:.4f}" if self.cost_usd else ""
        return f"coverage {self.coverage:.1%}{cost}"

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
    concurrency: int | Callable[[], int],
    progress: Callable[[int, str], None] = lambda steps, note: None,
    stop: Stop | None = None,
    also: Callable[[], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Judge `items` into `verdicts.jsonl` and `summary.json` of `run`, in order; the summary.

    Args:
        items: What to judge, read as there is room for it.
        judge: Judges one.
        run: The run folder.
        concurrency: How many items are judged at once, as in `ordered`.
        progress: Told of each finished item, with the coverage and the cost so far.
        stop: Ends the run early, as in `write_rows`.
        also: What else the summary says, asked at the end: retries by reason, say.

    Raises:
        BackendError: a fatal one: every further call would fail the same way.
        StoreError: the run folder or the reply store cannot be written.
    """
    tally = Tally()

    async def lines() -> AsyncGenerator[str, None]:
        made = ordered(items, judge, concurrency=concurrency, stop=stop)
        async with aclosing(made) as verdicts:
            async for verdict in verdicts:
                tally.add(verdict)
                yield verdict_line(verdict)
                progress(1, tally.note())

    return await write_rows(lines(), run, "verdicts.jsonl", lambda: tally.summary() | dict(also()))


async def write_rows(
    lines: AsyncGenerator[str, None],
    run: RunFolder,
    name: str,
    summary: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Write `lines` into the file `name` of `run`, and the summary, which comes back.

    Where `lines` raises `Stopped`, the summary says `"interrupted": true` and is not written, and
    the lines stay in `NAME.partial`: a part is never taken for the whole.

    Raises:
        StoreError: the run folder cannot be written.
    """
    try:
        with run.open_whole(name) as file:
            chunks = _Chunks(file)
            try:
                async with aclosing(lines):
                    async for line in lines:
                        chunks.add(line)
            finally:
                chunks.flush()
    except Stopped:
        return summary() | {"interrupted": True}
    made = summary()
    run.write_json("summary.json", made)
    return made
