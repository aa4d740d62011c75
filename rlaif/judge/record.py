"""The verdict record as a judge fills it in: one place for its id, its flags and its calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlaif.errors import VerdictError
from rlaif.judge.common import no_verdict, verdict_id
from rlaif.types import Call, Candidate, Item, JudgeRef, Kind, Preference, Ranking, Score, Verdict


@dataclass(frozen=True, slots=True)
class Record:
    """A verdict to be: all that is known before the judge has spoken, and the calls so far."""

    kind: Kind
    item: Item
    candidates: tuple[Candidate, ...]
    judge: JudgeRef
    flags: Mapping[str, tuple[str, ...]]
    calls: tuple[Call, ...] = ()

    def after(self, calls: Iterable[Call]) -> Record:
        """The record with further calls."""
        known = (self.kind, self.item, self.candidates, self.judge, self.flags)
        return Record(*known, (*self.calls, *calls))

    def verdict(
        self,
        *,
        preference: Preference | None = None,
        score: Score | None = None,
        ranking: Ranking | None = None,
        rationale: str | None = None,
    ) -> Verdict:
        """The verdict that was read."""
        return Verdict(
            id=verdict_id(self.kind, self.item, self.candidates, self.judge),
            kind=self.kind,
            item=self.item,
            candidates=self.candidates,
            judge=self.judge,
            status="ok",
            score=score,
            preference=preference,
            ranking=ranking,
            rationale=rationale,
            calls=self.calls,
            flags=self.flags or None,
        )

    def nothing(self, error: VerdictError) -> Verdict:
        """No verdict, and why."""
        return no_verdict(
            self.kind,
            self.item,
            self.candidates,
            self.judge,
            error.cause,
            self.calls,
            str(error),
            self.flags or None,
        )
