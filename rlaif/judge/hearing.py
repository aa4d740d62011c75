"""Ask until a reply can be read: at most twice. And what a judge would answer itself.

A reply without a verdict is shown to the judge again with the fault named, once. The second call
has a digest of its own and stands in the record beside the first. A refusal is taken for an answer,
and what a provider fails at is asked again below, by the backends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from rlaif.backends.base import Backend
from rlaif.backends.cached import CachedBackend
from rlaif.errors import VerdictError
from rlaif.judge.begun import Begun, all_of
from rlaif.judge.common import Asked, answered, ask
from rlaif.judge.pairs import rationale_in
from rlaif.judge.parsing import check_ended, rationale, unreadable, without_thinking
from rlaif.types import Call, Completion, Item, Message, Request, Sampling

T = TypeVar("T")
R = TypeVar("R")
Correct = Callable[[VerdictError], str | None]
"""From the fault of a reply to what the judge is told about it; `None` not to ask again."""

CACHED_CHARS = 4_000
"""About 1,024 tokens, from which on most providers cache a prefix."""
REFERENCE_STAND_IN = "(the judge's own answer)"
"""Stands in for a reference that the judge has yet to write, where requests are only counted."""


@dataclass(frozen=True, slots=True)
class Heard(Generic[T]):
    """What came of a request, asked once or twice."""

    asked: tuple[Asked, ...]
    value: T | None = None
    error: VerdictError | None = None
    """Why there is no value."""

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls made."""
        return tuple(one.call for one in self.asked)

    @property
    def rationale(self) -> str | None:
        """The judge's reasons: of the first reply that gives any."""
        for one in self.asked:
            if one.completion is not None and (said := _reasons(one.completion)) is not None:
                return said
        return None

    def read(self) -> T:
        """The value.

        Raises:
            VerdictError: there is none.
        """
        if self.value is None:
            assert self.error is not None
            raise self.error
        return self.value


def _reasons(completion: Completion) -> str | None:
    if completion.text.rstrip().endswith(("}", "```")) and (said := rationale_in(completion)):
        return said
    return rationale(completion)


async def hear(
    backend: Backend,
    request: Request,
    read: Callable[[Completion], T],
    *,
    correct: Correct | None = None,
    shown: str | None = None,
) -> Heard[T]:
    """What the backend's reply says, asked a second time where the first cannot be read.

    Args:
        backend: The model that judges.
        request: What it is asked.
        read: From a reply to its verdict; raises `VerdictError` where there is none.
        correct: What to tell the judge about a reply that is unreadable or was cut off; `None` to
            leave it at one reply.
        shown: The order of the responses, for the record of the calls.

    Raises:
        BackendError: a fatal failure of the provider.
    """
    first = await ask(backend, request, shown)
    heard = _heard((first,), read)
    if (again := _second(heard, request, correct)) is None:
        return heard
    second = await ask(backend, again, shown)
    return _heard((first, second), read)


async def hear_all(
    backend: Backend,
    asks: Sequence[tuple[str | None, Request]],
    read: Callable[[Completion], T],
    *,
    correct: Correct | None = None,
) -> list[Heard[T]]:
    """What came of each of `asks`, as `hear` has it: the order for the record, and the request.

    Replies that are at hand are read on the spot, all of them looked up together: a task for each
    would take longer than all else. The rest is asked as `together` does it.

    Raises:
        BackendError: a fatal failure of the provider.
    """
    at_hand = _at_hand(backend, [request for _, request in asks])
    heard = [
        _reheard(key, done, ask, read, correct) if done is not None else None
        for (key, done), ask in zip(at_hand, asks, strict=True)
    ]
    left = [
        partial(hear, backend, request, read, correct=correct, shown=shown)
        for (shown, request), one in zip(asks, heard, strict=True)
        if one is None
    ]
    if not left:
        return [one for one in heard if one is not None]
    fresh = iter(await _asked(backend, left, asks[0][1].shared))
    return [next(fresh) if one is None else one for one in heard]


async def _asked(
    backend: Backend, jobs: Sequence[Callable[[], Coroutine[Any, Any, R]]], shared: int
) -> list[R]:
    """What `jobs` return, as `together` has it.

    A cached backend makes each call in a task of its own, so that jobs which only wait for one need
    none: they are begun here, one after the other, and waited for in turn.
    """
    if in_rounds(backend):
        return await together(jobs, 0)
    if len(jobs) == 1 or shared >= CACHED_CHARS or not isinstance(backend, CachedBackend):
        return await together(jobs, shared)
    return await all_of([Begun(job()) for job in jobs])


def _at_hand(
    backend: Backend, requests: Sequence[Request]
) -> Sequence[tuple[str, Completion | None]]:
    """The digest of each request, and what the store holds for it, as far as that was looked up."""
    if isinstance(backend, CachedBackend):
        return backend.at_hand(requests)
    return [("", None)] * len(requests)


def _reheard(
    key: str,
    done: Completion,
    ask: tuple[str | None, Request],
    read: Callable[[Completion], T],
    correct: Correct | None,
) -> Heard[T] | None:
    """What a reply says that was kept; `None` where the judge has to be asked again."""
    shown, request = ask
    heard = _heard((answered(key, done, shown),), read)
    return heard if _second(heard, request, correct) is None else None


def _second(heard: Heard[T], request: Request, correct: Correct | None) -> Request | None:
    """What to ask after a first reply that cannot be read; `None` to leave it at that."""
    fault, reply = heard.error, heard.asked[0].completion
    if fault is None or correct is None or reply is None:
        return None
    if fault.cause not in ("unreadable", "truncated") or (told := correct(fault)) is None:
        return None
    return asked_again(request, reply, told)


def in_rounds(backend: Backend) -> bool:
    """Whether nothing should wait for a reply that need not: each round takes hours."""
    return bool(getattr(backend, "in_rounds", False))


def ahead(backend: Backend, shared: int) -> int:
    """What `together` is to know of `shared` where `backend` is asked."""
    return 0 if in_rounds(backend) else shared


async def together(jobs: Sequence[Callable[[], Awaitable[R]]], shared: int) -> list[R]:
    """What `jobs` return, which ask requests that begin with `shared` characters alike.

    They run at once, unless what they share is long enough for a provider's prompt cache: then the
    first goes ahead, as a prefix can be found there only once it has been read.
    """
    if len(jobs) == 1:
        return [await jobs[0]()]
    first: list[R] = []
    if shared >= CACHED_CHARS and len(jobs) > 1:
        first = [await jobs[0]()]
    return [*first, *await asyncio.gather(*(job() for job in jobs[len(first) :]))]


def _heard(asked: tuple[Asked, ...], read: Callable[[Completion], T]) -> Heard[T]:
    try:
        return Heard(asked, read(asked[-1].reply()))
    except VerdictError as error:
        return Heard(asked, error=error)


def enough(heard: Sequence[Heard[T]]) -> list[T]:
    """The draws that could be read.

    Raises:
        VerdictError: that is half of them or less: the first failure.
    """
    read = [one.value for one in heard if one.value is not None]
    if 2 * len(read) <= len(heard):
        next(one for one in heard if one.value is None).read()
    return read


def asked_again(request: Request, reply: Completion, told: str) -> Request:
    """The request that shows the judge its own reply and tells it what was wrong with that.

    A reply of which nothing is left (all thinking, cut off) is not shown, as providers refuse an
    empty turn; the judge then gets twice the tokens.
    """
    *before, last = request.messages
    said = without_thinking(reply.text).strip()
    if said:
        turns = (*request.messages, Message("assistant", said), Message("user", told))
        return replace(request, messages=turns, shared=0)
    sampling = request.sampling
    if reply.finish_reason == "length":
        sampling = replace(sampling, max_tokens=2 * sampling.max_tokens)
    turns = (*before, replace(last, content=f"{last.content}\n\n{told}"))
    return replace(request, messages=turns, sampling=sampling, shared=0)


def own_reference(item: Item, sampling: Sampling) -> Request:
    """The request in which the judge answers the prompt itself, before it sees any response.

    It is greedy, and the same for all responses to the prompt, so that the store answers it from
    the second one on.
    """
    return Request(item.prompt, sampling=replace(sampling, temperature=0.0, top_p=1.0))


async def hear_reference(backend: Backend, item: Item, sampling: Sampling) -> Heard[str]:
    """What the judge would answer to the prompt of `item`.

    Raises:
        BackendError: a fatal failure of the provider.
    """
    return await hear(backend, own_reference(item, sampling), parse_reference)


def parse_reference(completion: Completion) -> str:
    """The judge's own answer to a prompt.

    Raises:
        VerdictError: it was refused or cut off, or is empty.
    """
    check_ended(completion)
    text = without_thinking(completion.text).strip()
    if not text:
        raise unreadable(completion, "the judge's own answer is empty")
    return text
