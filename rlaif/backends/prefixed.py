"""Calls that share the beginning of their prompts, one ahead of the others.

A provider's prompt cache has a prompt only once its answer has begun. Both orders of a pair, or
all criteria of an item, sent at once are therefore read whole, each of them, and on Anthropic's API
each pays to write the cache. Sent one ahead, only the first is.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol, runtime_checkable

from rlaif.backends._prefix import cacheable
from rlaif.backends.base import Backend, Wrapper
from rlaif.backends.families import Family
from rlaif.types import Completion, Request

_WARM_S = 240.0
"""How long a prefix is taken to be cached after its last use; providers keep it five minutes."""
_MOST_PREFIXES = 8192


@runtime_checkable
class HasFamily(Protocol):
    """A backend that knows what its model accepts, the size of prompts that are cached included."""

    @property
    def family(self) -> Family: ...


def one_ahead(inner: Backend, provider: Backend) -> Backend:
    """`inner`, with calls that share a prefix one ahead, where `provider` has a prompt cache."""
    return PrefixedBackend(inner, provider) if isinstance(provider, HasFamily) else inner


class PrefixedBackend(Wrapper):
    """Sends the first call of a shared prefix (`Request.shared`) alone, and then the others.

    Calls whose shared part is too short for the provider's cache do not wait. If the first one
    fails, the next one goes first.

    Put it around the limit and inside the retries: a call that waits then holds no place.

    Args:
        inner: Answers the calls.
        provider: Whose prompt cache it is.
    """

    def __init__(self, inner: Backend, provider: HasFamily) -> None:
        super().__init__(inner)
        self._provider = provider
        self._first: dict[int, asyncio.Future[None]] = {}
        """By prefix, the call that went first, until it ends."""
        self._warm: OrderedDict[int, float] = OrderedDict()
        """By prefix, the event loop's time of its last use."""

    async def complete(self, request: Request) -> Completion:
        """The completion of `inner`, once the beginning of the prompt is cached or no other's.

        Raises:
            BackendError: `inner` failed.
        """
        if not request.shared:
            return await self.inner.complete(request)
        *before, last = request.messages
        shared = last.content[: request.shared]
        size = len(shared) + sum(len(message.content) for message in before)
        if not cacheable(size, self._provider.family):
            return await self.inner.complete(request)
        return await self._in_turn(hash((tuple(before), shared)), request)

    async def _in_turn(self, prefix: int, request: Request) -> Completion:
        loop = asyncio.get_running_loop()
        while (ahead := self._first.get(prefix)) is not None and ahead.get_loop() is loop:
            await asyncio.wait([ahead])
        if loop.time() - self._warm.get(prefix, -_WARM_S) < _WARM_S:
            completion = await self.inner.complete(request)
        else:
            self._first[prefix] = done = loop.create_future()
            try:
                completion = await self.inner.complete(request)
            finally:
                del self._first[prefix]
                done.set_result(None)
        self._warm[prefix] = loop.time()
        self._warm.move_to_end(prefix)
        if len(self._warm) > _MOST_PREFIXES:
            self._warm.popitem(last=False)
        return completion
