"""What every judge does around its one await: ask, keep the calls, turn a failure into a cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rlaif.backends.base import Backend
from rlaif.canonical import digest, quick_digest, remembered, spelled
from rlaif.errors import BackendError, BudgetError, Cause, VerdictError
from rlaif.specs.rubric import Rubric
from rlaif.types import (
    Call,
    Candidate,
    Completion,
    Item,
    JudgeRef,
    Kind,
    Request,
    RubricRef,
    Usage,
    Verdict,
    as_dict,
)

RubricSource = Rubric | Callable[[Item], Rubric]
"""A rubric, or what names the rubric of each item."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was made: its call, and the completion or the failure."""

    call: Call
    completion: Completion | None = None
    failure: BackendError | None = None

    def reply(self) -> Completion:
        """The completion.

        Raises:
            VerdictError: the provider failed, and retrying did not help.
        """
        if self.completion is None:
            cause: Cause = "budget" if isinstance(self.failure, BudgetError) else "provider_error"
            raise VerdictError(str(self.failure), cause=cause)
        return self.completion


async def ask(backend: Backend, request: Request, shown: str | None = None) -> Asked:
    """What came of asking `backend`. A failure of the provider is kept, not raised.

    Raises:
        BackendError: a fatal one: every further call would fail the same way.
    """
    key = request.digest(backend.identity)
    try:
        done = await backend.complete(request)
    except BackendError as failure:
        if failure.fatal:
            raise
        call = Call(key, "", Usage(), latency_s=0.0, cached=False, shown=shown)
        return Asked(call, failure=failure)
    return answered(key, done, shown)


def answered(key: str, done: Completion, shown: str | None = None) -> Asked:
    """The request of digest `key`, which `done` answered."""
    call = Call(
        key,
        done.text,
        done.usage,
        done.latency_s,
        done.cached,
        shown=shown,
        cost_usd=done.cost_usd,
    )
    return Asked(call, completion=done)


def rubric_for(source: RubricSource, item: Item) -> Rubric:
    """The rubric that judges `item`."""
    return source if isinstance(source, Rubric) else source(item)


def rubric_ref(rubric: Rubric) -> RubricRef:
    """Which rubric, to the letter."""
    return RubricRef(rubric.name, rubric.version, rubric.digest)


def verdict_id(kind: Kind, item: Item, candidates: tuple[Candidate, ...], judge: JudgeRef) -> str:
    """The stable id of a verdict: the same work gives the same id. 32 hex digits."""
    reference = {} if item.reference is None else {"reference": item.reference}
    work: dict[str, Any] = {
        "kind": kind,
        "item": {"id": item.id, "prompt": as_dict(item.prompt), **reference},
        "candidates": [_candidate(candidate) for candidate in candidates],
        "judge": _judge(judge),
    }
    key = quick_digest(work)
    return (digest(work | {"judge": as_dict(judge)}) if key is None else key)[:32]


def _candidate(candidate: Candidate) -> dict[str, Any]:
    plain = {"id": candidate.id, "response": as_dict(candidate.response)}
    return plain if candidate.model is None else {**plain, "model": candidate.model}


@remembered
def _judge(judge: JudgeRef) -> Any:
    """A judge as digests have it: a run has a million verdicts of one."""
    return spelled(as_dict(judge))


def no_verdict(
    kind: Kind,
    item: Item,
    candidates: tuple[Candidate, ...],
    judge: JudgeRef,
    cause: Cause,
    calls: tuple[Call, ...] = (),
    reason: str | None = None,
    flags: Mapping[str, tuple[str, ...]] | None = None,
) -> Verdict:
    """A verdict that holds no number, and why."""
    return Verdict(
        id=verdict_id(kind, item, candidates, judge),
        kind=kind,
        item=item,
        candidates=candidates,
        judge=judge,
        status="no_verdict",
        cause=cause,
        rationale=reason,
        calls=calls,
        flags=flags,
    )
