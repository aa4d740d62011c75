"""What a judge that is several has in common: a panel, a cascade."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rlaif.types import Candidate, Comparison, Item, Kind, Request, Verdict

Asking = Callable[[Any], Awaitable[Verdict]]
"""What is asked of each judge."""


class SeveralJudges(ABC):
    """Judges that compare and score as one; how is what a subclass says.

    Args:
        judges: Who is asked.
    """

    def __init__(self, judges: Sequence[Any]) -> None:
        self._judges = tuple(judges)

    def requests(self, *work: Any) -> list[Request]:
        """What would be asked at most of the judges, substitutes left out."""
        return [request for judge in self._judges for request in judge.requests(*work)]

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses is better.

        Raises:
            BackendError: a fatal failure of a judge's provider.
        """
        sides = (comparison.a, comparison.b)
        return await self._asked(
            "comparison", comparison.item, sides, lambda judge: judge.compare(comparison)
        )

    async def score(self, item: Item, candidate: Candidate) -> Verdict:
        """The grade of a response.

        Raises:
            BackendError: a fatal failure of a judge's provider.
        """
        return await self._asked(
            "score", item, (candidate,), lambda judge: judge.score(item, candidate)
        )

    @abstractmethod
    async def _asked(
        self, kind: Kind, item: Item, candidates: tuple[Candidate, ...], ask: Asking
    ) -> Verdict:
        """The verdict of all of them."""
