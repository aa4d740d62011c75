"""Whether a revision is better than what stood before it, by a judge who wrote neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from rlaif.constitutional.faults import Fault
from rlaif.constitutional.records import Check
from rlaif.errors import ConfigError
from rlaif.types import Candidate, Comparison, Item, JudgeRef, Message, Request, Verdict

When = Literal["off", "per-round", "final"]
"""When an independent judge compares: never; each revision with what stood before it, the first
that is not preferred ending the chain; or the last revision with the first response."""
WHENS: tuple[When, ...] = get_args(When)

BROKEN: tuple[Fault, ...] = ("provider_error", "budget")
"""What ends a chain: asked again later, it may go on."""


class ComparisonJudge(Protocol):
    """What compares two responses; `rlaif.judge.pairwise.PairwiseJudge` is one."""

    ref: JudgeRef

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses is better."""
        ...

    def requests(self, comparison: Comparison) -> list[Request]:
        """What comparing would ask."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a revision."""

    verdict: Verdict
    check: Check
    status: Literal["kept", "not_preferred", "no_verdict"]
    fault: Fault | None = None
    """Where the judge could not be asked."""
    reason: str | None = None


class Referee:
    """Compares revisions with what stood before them.

    Args:
        judge: Who compares; none where nothing is checked.
        when: When it does.
        actor: The model that wrote the texts.

    Raises:
        ConfigError: a check is wanted and there is no judge, or the other way round.
    """

    def __init__(self, judge: ComparisonJudge | None, when: When, actor: str) -> None:
        if (judge is None) != (when == "off"):
            raise ConfigError(f"the check is {when!r}: that takes {'no' if judge else 'a'} judge")
        self._judge = judge
        self._actor = actor

    def requests(
        self, item: Item, numbers: tuple[int, int], texts: tuple[str, str]
    ) -> list[Request]:
        """What comparing two texts would ask."""
        return [] if self._judge is None else self._judge.requests(self._pair(item, numbers, texts))

    async def check(self, item: Item, numbers: tuple[int, int], texts: tuple[str, str]) -> Found:
        """What the judge says of the second of two texts, which is kept if preferred throughout.

        Args:
            item: The prompt.
            numbers: The rounds they come from; 0 is the first response.
            texts: The text that stood, and its revision.

        Raises:
            BackendError: a fatal failure of the judge's provider.
        """
        assert self._judge is not None
        verdict = await self._judge.compare(self._pair(item, numbers, texts))
        preference = verdict.preference
        if preference is not None:
            check = Check(verdict.id, 1.0 - preference.p_a, preference.consistent)
            preferred = preference.winner == "B" and preference.consistent
            return Found(verdict, check, "kept" if preferred else "not_preferred")
        check = Check(verdict.id, cause=verdict.cause)
        for broken in BROKEN:
            if verdict.cause == broken:
                reason = "the check was not answered"
                return Found(verdict, check, "no_verdict", broken, reason)
        return Found(verdict, check, "no_verdict")

    def _pair(self, item: Item, numbers: tuple[int, int], texts: tuple[str, str]) -> Comparison:
        """What stood as A, its revision as B."""
        a, b = (
            Candidate(
                f"round-{number}" if number else "first",
                (Message("assistant", text),),
                self._actor,
            )
            for number, text in zip(numbers, texts, strict=True)
        )
        return Comparison(item, a, b)
