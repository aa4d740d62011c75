"""Which item a person judges next: from their queue, as often as wanted, with checks mixed in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from rlaif.errors import SpecError
from rlaif.service.queues import QUEUES, SURE, Queue, Queues
from rlaif.specs.describe import describe

MOST = 1000
"""Most people for an item, and most items for one check."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person wants to look at."""

    queue: Queue = "random"
    sure: float = SURE
    """For `unsure`: the confidence under which a verdict is in it."""
    other: str = ""
    """For `against`: the other run."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """How a run is labelled."""

    overlap: int | None = None
    """How many people should judge each item; without it, everybody judges all."""
    gold_every: int | None = None
    """One in so many items is one with a known answer, as long as there are any."""

    def as_dict(self) -> dict[str, int | None]:
        """What clients are told."""
        return {"overlap": self.overlap, "gold_every": self.gold_every}


def wanted_from(asked: Mapping[str, str]) -> Wanted:
    """What the query of a request wants.

    Raises:
        SpecError: there is no such queue, the confidence is none, or `against` names no run.
    """
    queue = asked.get("queue", "random")
    if queue not in QUEUES:
        raise SpecError(f"is one of {', '.join(QUEUES)}", field="queue")
    text = asked.get("sure") or str(SURE)
    try:
        sure = float(text)
    except ValueError:
        sure = -1.0
    if not 0 < sure <= 1:
        raise SpecError("is a confidence above 0, at most 1", field="sure")
    other = asked.get("other", "")
    if queue == "against" and not other:
        raise SpecError("names the run to hold this one against", field="other")
    return Wanted(queue, sure, other)


def campaign_from(body: Mapping[str, Any]) -> Campaign:
    """How a run is to be labelled; absent and null are none.

    Raises:
        SpecError: a field is no count.
    """
    found: dict[str, int | None] = {}
    for name, least in (("overlap", 1), ("gold_every", 2)):
        value = body.get(name)
        if isinstance(value, float) and value.is_integer():  # JSON has 3.0 for 3 too
            value = int(value)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= MOST):
            message = f"is a whole number from {least} to {MOST}, not {describe(value)}"
            raise SpecError(message, field=name)
        found[name] = value
    return Campaign(**found)


@dataclass(frozen=True, slots=True)
class Next:
    """What comes next."""

    n: int | None
    """The place of the item; None where nothing is left."""
    left: int
    """How many of the queue this person may still judge."""


class Turn:
    """Whose turn it is: one person in one run.

    Args:
        run: The run.
        name: The person.
        done: The places that the person judged or skipped.
        counts: How many people judged each place.
        campaign: How the run is labelled.
    """

    def __init__(
        self,
        run: str,
        name: str,
        done: Collection[int],
        counts: Mapping[int, int],
        campaign: Campaign,
    ) -> None:
        self._run, self._name = run, name
        self._done, self._counts = frozenset(done), counts
        self._campaign = campaign

    def next(self, queues: Queues, wanted: Wanted, other: Path | None = None) -> Next:
        """What comes next from a queue.

        Two people who ask at once may be given one item, which is then judged once more than
        wanted: nothing is held back for somebody who may never come back.

        Args:
            queues: The queues of the run.
            wanted: What the person chose.
            other: The index of the run that `wanted` names.
        """
        left = list(self._left(queues.places(wanted.queue, wanted.sure, other)))
        if left and self._checked():
            gold = next((n for n in queues.gold() if n not in self._done), None)
            if gold is not None:
                return Next(gold, len(left))
        return Next(left[0] if left else None, len(left))

    def _left(self, places: Iterator[int]) -> Iterator[int]:
        most = self._campaign.overlap
        for n in places:
            if n not in self._done and (most is None or self._counts.get(n, 0) < most):
                yield n

    def _checked(self) -> bool:
        """Whether the person is checked now: at no regular distance, the same at each look."""
        every = self._campaign.gold_every
        if every is None:
            return False
        drawn = sha256(f"check:{self._run}:{self._name}:{len(self._done)}".encode()).digest()
        return int.from_bytes(drawn[:8]) % every == 0
