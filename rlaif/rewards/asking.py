"""Many verdicts at once, and what to do while the judge does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from rlaif.errors import BackendError, ConfigError
from rlaif.types import Verdict

OnOutage = Literal["pause", "mask"]
"""What an outage of the judge comes to: training waits, or goes on without these rewards."""

Key = TypeVar("Key")
Sleep = Callable[[float], Awaitable[None]]

_LONGEST_WAIT_S = 60.0
_LONE_ROUNDS = 4
"""How often a single request that fails is asked: it may be the request that is at fault."""
_MISCONFIGURED = ("access", "request")
"""Failures that no waiting cures: a wrong key, an unknown model."""

_log = logging.getLogger("rlaif.rewards")


@dataclass(slots=True)
class Asker:
    """Asks a judge many things at once.

    An outage is when nothing that is asked gets an answer, or when the calls to the provider were
    stopped because none succeeded. With `pause` all that has no answer is asked again, after 1, 2,
    4 … 60 seconds, until it has. A single failure among answers is no outage.

    Args:
        on_outage: Whether to wait for its end.
        longest_pause_s: After so many seconds of one outage the failure is raised.
        sleep: Waits the given seconds; tests pass their own.

    Raises:
        ConfigError: an option is wrong.
    """

    on_outage: OnOutage = "pause"
    longest_pause_s: float = 3600.0
    sleep: Sleep = asyncio.sleep
    paused_s: float = 0.0
    """Seconds waited so far, over all outages."""
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.on_outage not in ("pause", "mask"):
            raise ConfigError(f"on_outage is 'pause' or 'mask', not {self.on_outage!r}")
        if not self.longest_pause_s >= 0:
            raise ConfigError(f"longest_pause_s is 0 or more, not {self.longest_pause_s}")

    async def verdicts(
        self, jobs: Mapping[Key, Callable[[], Awaitable[Verdict]]]
    ) -> dict[Key, Verdict | None]:
        """The verdict of each job; `None` where the judge could not be asked at all.

        Raises:
            BackendError: the judge is misconfigured, or an outage outlasted the longest pause.
        """
        found: dict[Key, Verdict | None] = {}
        left, waited_s, rounds = dict(jobs), 0.0, 0
        while left:
            outcomes = await asyncio.gather(
                *(job() for job in left.values()), return_exceptions=True
            )
            rounds += 1
            given = {k: _checked(one) for k, one in zip(left, outcomes, strict=True)}
            found |= {k: one for k, one in given.items() if isinstance(one, Verdict)}
            unanswered = {k: one for k, one in given.items() if _unanswered(one)}
            stopped = [one for one in given.values() if isinstance(one, BackendError)]
            down = bool(stopped) or len(unanswered) == len(given)
            if not stopped and len(given) == 1 and rounds >= _LONE_ROUNDS:
                down = False
            if not unanswered or not down or self.on_outage == "mask":
                if stopped:
                    self.tell(f"the judge does not answer, rewards are left out: {stopped[0]}")
                return found | {k: None for k in unanswered if k not in found}
            wait_s = min(_LONGEST_WAIT_S, 2.0 ** min(rounds - 1, 6))
            if waited_s + wait_s > self.longest_pause_s:
                raise _outlasted(unanswered.values(), waited_s)
            self.tell(f"the judge does not answer, training waits: {_reason(unanswered.values())}")
            await self.sleep(wait_s)
            waited_s += wait_s
            self.paused_s += wait_s
            left = {k: left[k] for k in unanswered}
        return found

    def tell(self, message: str) -> None:
        """Log a warning, each kind of it once."""
        kind = message.partition(":")[0]
        if kind not in self._told:
            self._told.add(kind)
            _log.warning(message)


def _checked(outcome: Verdict | BaseException) -> Verdict | BackendError:
    """The outcome of a job, unless it is one that waiting does not cure."""
    if isinstance(outcome, Verdict):
        return outcome
    if isinstance(outcome, BackendError) and outcome.kind not in _MISCONFIGURED:
        return outcome
    raise outcome


def _unanswered(outcome: Verdict | BackendError) -> bool:
    return isinstance(outcome, BackendError) or outcome.cause == "provider_error"


def _reason(outcomes: Iterable[Verdict | BackendError]) -> str:
    one = next(iter(outcomes))
    return str(one) if isinstance(one, BackendError) else one.rationale or "no reason is known"


def _outlasted(outcomes: Iterable[Verdict | BackendError], waited_s: float) -> BackendError:
    message = f"the judge did not answer for {waited_s:.0f} s: {_reason(outcomes)}"
    return BackendError(message, fatal=True)
