"""Candidate responses: every prompt, every model, n draws.

A model that answers in batches is asked in groups of whole prompts. A group is kept whole, and
always made of the same prompts, so a run that was killed ends like one that was not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import combinations, islice, pairwise
from typing import Any

from rlaif.backends.base import Backend, GroupBackend
from rlaif.canonical import json_line
from rlaif.errors import BackendError, BudgetError, Cause, ConfigError
from rlaif.runner import Stop, Tally, ordered, write_rows
from rlaif.store.runs import RunFolder
from rlaif.types import (
    Call,
    Candidate,
    Comparison,
    Completion,
    Item,
    Message,
    Request,
    Sampling,
    Usage,
    as_dict,
)


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw of a response: the candidate, or why there is none."""

    call: Call
    candidate: Candidate | None = None
    finish_reason: str | None = None
    cause: Cause | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """An item and every draw made for it, by model and then by number."""

    item: Item
    draws: tuple[Draw, ...]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The responses that came."""
        return tuple(d.candidate for d in self.draws if d.candidate is not None)

    def line(self) -> str:
        """A line of `candidates.jsonl`: the item, its candidates, and the call behind each draw."""
        row = {**as_dict(self.item), "candidates": as_dict(self.candidates)}
        return json_line(row | {"draws": [_draw_row(draw) for draw in self.draws]})


def _draw_row(draw: Draw) -> dict[str, Any]:
    """A draw as it is kept; the response itself stands in `candidates`."""
    row = as_dict(draw)
    row["candidate"] = draw.candidate.id if draw.candidate else None
    del row["call"]["reply"]
    return dict(row)


def requests_for(item: Item, n: int, sampling: Sampling) -> list[Request]:
    """What drawing `n` responses to `item` asks of one model."""
    return [Request(item.prompt, sampling=sampling, draw=draw) for draw in range(n)]


async def draw_candidates(
    items: Iterable[Item],
    backends: Sequence[Backend],
    *,
    n: int,
    sampling: Sampling,
    concurrency: int | Callable[[], int],
    stop: Stop | None = None,
) -> AsyncGenerator[Drawn, None]:
    """`n` responses of every backend to every item, in the order of `items`.

    A draw that failed or was refused is kept as such and stops nothing.

    Raises:
        BackendError: a fatal one: every further call would fail the same way.
        Stopped: `stop` was set; every draw that was begun was yielded.
    """
    size = max([1, *(b.group_size // n for b in backends if isinstance(b, GroupBackend))])

    async def work(group: tuple[Item, ...]) -> list[Drawn]:
        parts = [await _draw_group(backend, group, n, sampling) for backend in backends]
        return [
            Drawn(item, tuple(d for part in parts for d in part[place]))
            for place, item in enumerate(group)
        ]

    # one group of a local model at a time: a second could only wait for the same processor
    def width() -> int:
        calls = concurrency() if callable(concurrency) else concurrency
        return max(1, calls // n) if size == 1 else 1

    made = ordered(_groups(items, size), work, concurrency=width, stop=stop)
    async with aclosing(made) as groups:
        async for group in groups:
            for drawn in group:
                yield drawn


def _groups(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    source = iter(items)
    while group := tuple(islice(source, size)):
        yield group


async def _draw_group(
    backend: Backend, group: Sequence[Item], n: int, sampling: Sampling
) -> list[tuple[Draw, ...]]:
    """For each item of the group its `n` draws from one backend."""
    requests = [r for item in group for r in requests_for(item, n, sampling)]
    answers = await _answers(backend, requests)
    draws = [
        _draw(backend, request, answer) for request, answer in zip(requests, answers, strict=True)
    ]
    return [tuple(draws[i : i + n]) for i in range(0, len(draws), n)]


async def _answers(
    backend: Backend, requests: Sequence[Request]
) -> list[Completion | BackendError]:
    if isinstance(backend, GroupBackend) and backend.group_size > 1:
        try:
            return list(await backend.complete_group(requests))
        except BackendError as error:
            if error.fatal:
                raise
            # one request spoiled the group: asked one by one, it spoils only itself
    return list(await asyncio.gather(*(_answer(backend, r) for r in requests)))


async def _answer(backend: Backend, request: Request) -> Completion | BackendError:
    try:
        return await backend.complete(request)
    except BackendError as error:
        if error.fatal:
            raise
        return error


def _draw(backend: Backend, request: Request, answer: Completion | BackendError) -> Draw:
    key = request.digest(backend.identity)
    if isinstance(answer, BackendError):
        call = Call(key, "", Usage(), latency_s=0.0, cached=False)
        cause: Cause = "budget" if isinstance(answer, BudgetError) else "provider_error"
        return Draw(call, cause=cause, error=str(answer))
    call = Call(
        key,
        answer.text,
        answer.usage,
        answer.latency_s,
        answer.cached,
        cost_usd=answer.cost_usd,
    )
    if answer.finish_reason == "refusal":
        return Draw(call, finish_reason="refusal", cause="refused", error="the model refused")
    candidate = Candidate(
        f"{backend.model}#{request.draw}", (Message("assistant", answer.text),), backend.model
    )
    return Draw(call, candidate, answer.finish_reason)


async def write_candidates(
    items: Iterable[Item],
    backends: Sequence[Backend],
    run: RunFolder,
    *,
    n: int,
    sampling: Sampling,
    concurrency: int | Callable[[], int],
    progress: Callable[[int, str], None] = lambda steps, note: None,
    stop: Stop | None = None,
    also: Callable[[], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Draw candidates into `candidates.jsonl` and `summary.json` of `run`; the summary.

    `n` of the summary counts draws, and its coverage is the share that gave a response. `stop` and
    `also` as in `rlaif.runner.write_verdicts`.

    Raises:
        BackendError: a fatal one.
        StoreError: the run folder or the reply store cannot be written.
    """
    tally, truncated = Tally(), 0

    async def lines() -> AsyncGenerator[str, None]:
        nonlocal truncated
        made = draw_candidates(
            items, backends, n=n, sampling=sampling, concurrency=concurrency, stop=stop
        )
        async with aclosing(made) as everything:
            async for drawn in everything:
                for draw in drawn.draws:
                    tally.count(draw.cause, (draw.call,))
                    truncated += draw.finish_reason == "length"
                yield drawn.line()
                progress(1, f"{tally.usage.output} tokens")

    return await write_rows(
        lines(),
        run,
        "candidates.jsonl",
        lambda: tally.summary() | {"truncated": truncated} | dict(also()),
    )


def pair_up(
    item: Item, candidates: Sequence[Candidate], pairs: str, *, seed: int = 0
) -> list[Comparison]:
    """The comparisons to make among the candidates of one prompt.

    Args:
        item: The prompt.
        candidates: Its candidates, two or more for any comparison.
        pairs: `all`; `adjacent`: first and second, second and third, and so on; or a number K:
            that many of all pairs, drawn by `seed` and the item's id.
        seed: Seed of the draw.

    Raises:
        ConfigError: `pairs` is none of these.
    """
    every = list(combinations(candidates, 2))
    if pairs == "adjacent":
        every = list(pairwise(candidates))
    elif pairs.isdecimal() and len(pairs) < 10 and int(pairs) > 0:
        wanted = min(int(pairs), len(every))
        every = random.Random(f"{seed} {item.id}").sample(every, wanted)  # noqa: S311
    elif pairs != "all":
        raise ConfigError(f"pairs is 'all', 'adjacent' or a number, not '{pairs[:40]}'")
    return [Comparison(item, a, b) for a, b in every]
