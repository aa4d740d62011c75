"""Batches under way: each is looked at until it has ended, and its results are handed out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from rlaif.backends._batch_calls import BatchApi, Look, Straggler, may_pass, patiently
from rlaif.backends._batch_entries import Entry, Following
from rlaif.backends.families import Family
from rlaif.errors import BackendError, StoreError
from rlaif.store.batches import BatchBook, SentBatch

Stragglers = Literal["batch", "live"]
"""How what a batch left unanswered is asked again: in a further batch, or one by one, now."""

MOST_TRIES = 3
"""Batches that a request is sent in before it is given up."""
_FIRST_LOOK_S = 1.0
_SLOWER = 1.5
_READS = 4
"""Downloads of the results before what is not in them is taken to be missing."""
_LONGEST_END_S = 2.0
_PATIENCE_S = 3600.0
"""How long looking at a batch may fail: it goes on meanwhile, and so may this."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How the backends of one command ask through batch APIs."""

    book: BatchBook
    """Where batches are noted."""
    stragglers: Stragglers = "batch"
    """With `batch`, what expired or failed in passing goes into the next batch, three times at
    most. With `live` it fails at once, as `Straggler`, for `StragglersLive`."""
    quiet_s: float = 0.25
    """How long nothing new may come before what has gathered goes out."""
    poll_s: float = 60.0
    """Longest time between looks at a batch; the first ones come sooner."""
    settle_s: float = 60.0
    """How old a batch must be that nobody noted the name of, before the provider is asked whether
    it was begun: a call may be on its way when its process is killed."""
    tell: Callable[[str], None] = lambda line: None
    """Told what happens to batches, in one line each."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits the given seconds; tests pass their own."""


class Batches:
    """The batches that one backend waits for.

    Args:
        api: Where they are.
        how: How to go about it.
        kept: Which of some digests the reply store has.
        requeue: Called with a request that is to go into the next batch.
        fail: Called with requests that an error ends.
    """

    def __init__(
        self,
        api: BatchApi,
        how: Batching,
        *,
        kept: Callable[[Iterable[str]], Collection[str]],
        requeue: Callable[[str, Entry], None],
        fail: Callable[[Mapping[str, Entry], BackendError], None],
    ) -> None:
        self.reading = 0
        """Batches whose results are being handed out."""
        self.crowded = False
        """Whether the provider takes on no more than one batch at a time."""
        self.most = api.most_requests
        """Requests that it takes on at once."""
        self._api = api
        self._book = how.book
        self._stragglers = how.stragglers
        self._poll_s = how.poll_s
        self._settle_s = how.settle_s
        self._tell = how.tell
        self._sleep = how.sleep
        self._kept = kept
        self._requeue = requeue
        self._fail = fail
        self.under_way: dict[str, Following] = {}
        """By our own names."""
        self._collected: list[tuple[SentBatch, list[str]]] = []

    def follow(self, batch: SentBatch, entries: dict[str, Entry], sent: Family) -> None:
        """Wait for a batch in a task of its own; one that is waited for already is joined.

        Args:
            batch: The batch.
            entries: The requests in it that somebody waits for, by their digests.
            sent: What they were made for.
        """
        if (there := self.under_way.get(batch.token)) is not None:
            there.join(entries)
            return
        following = self.under_way[batch.token] = Following(batch, entries, sent)
        following.task = asyncio.get_running_loop().create_task(self._see_through(following))

    async def room(self) -> None:
        """Return once the provider can take on a further batch."""
        while self.crowded and self.under_way:
            tasks = [one.task for one in self.under_way.values() if one.task is not None]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Wait for none of them any longer."""
        ending = [one.task for one in self.under_way.values() if one.reading and one.task]
        if ending:  # those who waited have their replies, and only the book is behind
            await asyncio.wait(ending, timeout=_LONGEST_END_S)
        left = [one.task for one in self.under_way.values() if one.task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.let_go()
        if left:
            what = "a batch goes" if len(left) == 1 else f"{len(left)} batches go"
            self._tell(f"{what} on at the provider: the same command collects what comes of it")

    def let_go(self) -> None:
        """Let the book forget the replies that are kept by now."""
        collected, self._collected = self._collected, []
        for batch, answered in collected:
            kept = set(self._kept(answered))
            try:
                self._book.drop(batch, kept)
            except StoreError:
                continue  # only tidying up
            if left := [digest for digest in answered if digest not in kept]:
                self._collected.append((batch, left))

    async def _see_through(self, following: Following) -> None:
        """Wait until a batch has ended, and hand out what it brought."""
        try:
            if following.batch.batch_id is None and not await self._recognized(following):
                return
            look = await self._ended(following)
            if look is None:
                self._tell(f"batch {following.batch.batch_id}: the provider has it no more")
                self._book.forget(following.batch)
                self._again(following)
            elif look.refused is not None:
                await self._refused(following, look.refused)
            else:
                await self._collect(following, look)
        except BackendError as error:
            self._fail(following.entries, error)
        except Exception as error:
            following.fail(error)
        except BaseException:
            for entry in following.entries.values():
                entry.drop()
            raise
        finally:
            del self.under_way[following.batch.token]

    async def _recognized(self, following: Following) -> bool:
        """Whether a batch was begun that another process was about to send; its name is noted."""
        batch = following.batch
        if (young_s := batch.created_s + self._settle_s - time.time()) > 0:
            await self._sleep(young_s)
        known, digests = self._book.ids(), frozenset(following.entries)
        name = await patiently(lambda: self._api.find(batch, known, digests), self._sleep)
        if name is None:
            self._book.forget(batch)
            self._again(following)
            return False
        self._tell(f"batch {name}: sent by an earlier run, collecting it")
        following.batch = self._book.submitted(batch, name)
        return True

    async def _ended(self, following: Following) -> Look | None:
        """What became of a batch, once it has ended; `None` where there is no such batch."""
        batch_id, size = following.batch.batch_id or "", following.batch.size
        pause_s, told, answered_at = min(_FIRST_LOOK_S, self._poll_s), 0, time.monotonic()
        while True:
            wait_s = pause_s
            try:
                look = await self._api.look(batch_id)
            except BackendError as error:
                if error.fatal and error.kind == "request":
                    return None
                if not may_pass(error) or time.monotonic() - answered_at > _PATIENCE_S:
                    raise
                wait_s = max(pause_s, error.retry_after or 0.0)
            else:
                answered_at = time.monotonic()
                if look.done != told:
                    told = look.done
                    self._tell(f"batch {batch_id}: {look.done:,}/{look.size or size:,} done")
                if look.ended:
                    return look
            await self._sleep(wait_s)
            pause_s = min(_SLOWER * pause_s, self._poll_s)

    async def _refused(self, following: Following, error: BackendError) -> None:
        """The provider took a batch on for nothing: send it again in parts, or give up."""
        self._book.forget(following.batch)
        if not error.retryable:
            return self._fail(following.entries, error)
        self.crowded = True
        if len(self.under_way) == 1:
            if len(following.entries) == 1:
                await self._sleep(self._poll_s)
                following.left = dict.fromkeys(following.entries, Straggler(str(error)))
            self.most = max(1, (len(following.entries) + 1) // 2)
        return self._again(following)

    async def _collect(self, following: Following, look: Look) -> None:
        """Hand out the results of a batch, and ask again for what it left."""
        self.reading += 1
        following.reading = True
        batch, entries = following.batch, following.entries
        try:
            for read in range(1, _READS + 1):
                try:
                    lines = await self._read(following, look)
                except BackendError as error:
                    if read == _READS or not may_pass(error):
                        raise
                else:
                    if lines >= look.done or following.seen >= entries.keys():
                        break
                await self._sleep(min(_FIRST_LOOK_S * read, self._poll_s))
            missing = Straggler("the batch's results lack the request", cancelled=look.cancelled)
            following.left |= dict.fromkeys(entries.keys() - following.seen, missing)
            answered = set(following.answered)
            self._book.drop(batch, [digest for digest in entries if digest not in answered])
            self._collected.append((batch, following.answered))
            self._again(following)
        finally:
            self.reading -= 1

    async def _read(self, following: Following, look: Look) -> int:
        """Hand out what the results hold, each line once; how many requests they are of."""
        lines: set[str] = set()
        latency_s = max(0.0, time.time() - following.batch.created_s)
        async with aclosing(self._api.results(look)) as results:
            async for digest, result in results:
                lines.add(digest)
                entry = following.entries.get(digest)
                if entry is None or digest in following.seen:
                    continue
                following.seen.add(digest)
                try:
                    completion = self._api.read(result, following.sent, latency_s)
                except Straggler as error:
                    following.left[digest] = error
                except BackendError as error:
                    if may_pass(error):
                        following.left[digest] = Straggler(str(error))
                    else:
                        self._fail({digest: entry}, error)
                else:
                    following.answered.append(digest)
                    entry.answer(completion)
        return len(lines)

    def _again(self, following: Following) -> None:
        """Ask again for what a batch left, or for all that was in it where it never began."""
        for digest, entry in following.entries.items():
            error = following.left.get(digest)
            if error is None:
                if following.seen:
                    continue
            else:
                entry.tries += 1
                if self._stragglers == "live" or error.cancelled or entry.tries >= MOST_TRIES:
                    entry.fail(error)
                    continue
            if entry.wanted:
                self._requeue(digest, entry)
