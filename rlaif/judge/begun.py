"""A coroutine that goes on without a task of its own: one less for each call of a run.

    first, second = await all_of([Begun(ask(one)), Begun(ask(other))])    # both are under way

Only for coroutines that leave the work to other tasks: what runs in them sees the task of whoever
began or awaits them as the current one, and after their first wait they go on when awaited.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Sequence
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class Begun(Generic[R]):
    """`coroutine`, run until it has to wait. Await it once, for its result or its error.

    Args:
        coroutine: What to run.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, R]) -> None:
        self._coroutine = coroutine
        self._error: Exception | None = None
        self._value: list[R] = []
        self._waits_for: Any = None
        try:
            self._waits_for = coroutine.send(None)
        except StopIteration as end:
            self._value.append(end.value)
        except Exception as error:
            self._error = error

    def __await__(self) -> Generator[Any, Any, R]:
        if self._error is not None:
            raise self._error
        if self._value:
            return self._value[0]
        try:
            while True:
                try:
                    given = yield self._waits_for
                except BaseException as error:
                    self._waits_for = self._coroutine.throw(error)
                else:
                    self._waits_for = self._coroutine.send(given)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def close(self) -> None:
        """End it where it stands; nothing where it has ended."""
        self._coroutine.close()


async def all_of(begun: Sequence[Begun[R]]) -> list[R]:
    """The results of all, in order. Where some fail, the first error, once all have ended."""
    results: list[R] = []
    failed: Exception | None = None
    try:
        for one in begun:
            try:
                results.append(await one)
            except Exception as error:
                failed = failed or error
    finally:
        for one in begun:
            one.close()
    if failed is not None:
        raise failed
    return results
