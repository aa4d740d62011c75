"""What a cached backend needs of a reply store; another database only has to fill this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rlaif.types import Completion


class Replies(Protocol):
    """Completions under the digests of their requests, shared by everything that asks.

    A key that is not kept is claimed before it is asked for, so that nobody asks for it twice:

        if (completion := await store.claim(key)) is None:
            try:
                completion = await ask()
                await store.keep([(key, completion)])
            finally:
                store.release(key)
    """

    @property
    def far(self) -> bool:
        """That an event loop should not wait for `recall`, which would stand still meanwhile."""
        ...

    async def claim(self, key: str) -> Completion | None:
        """The completion kept under `key`, or `None`: then `key` is the caller's to ask for.

        Waits while somebody else is asking for it. A claim ends with `release`, or with the
        process.
        """
        ...

    async def keep(self, rows: Iterable[tuple[str, Completion]]) -> None:
        """Keep completions, all of them or none; once this returns they outlive the process.

        A key that is already there keeps its first completion.
        """
        ...

    def release(self, key: str) -> None:
        """End the claim on `key`; nothing where there is none."""
        ...

    def recall(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The completions kept under `keys`, as many as there are, looked up together."""
        ...

    def kept(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that completions are kept under."""
        ...
