"""A chain as it is kept: one JSON object a line in `revisions.jsonl`, with every text on the way.

Nothing in it depends on when or how fast it was made: the same work gives the same line, bit for
bit. Latencies and what came from the reply store are told in `summary.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from rlaif.constitutional.faults import Fault
from rlaif.errors import Cause, SpecError
from rlaif.store.runs import read_rows
from rlaif.types import Call, Item, Messages, RubricRef, Usage, as_dict

REVISIONS = "revisions.jsonl"

Status = Literal["kept", "unchecked", "not_preferred", "no_verdict", "fault"]
"""What became of a round's revision: a judge preferred it in both orders; none was asked; it did
not; it gave no verdict; or there is none to judge."""
Part = Literal["response", "draw", "critique", "revision"]

_STRICT: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class ChainCall:
    """One request that a chain rests on."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    part: Part
    digest: str
    """Of the request: its reply lies under it in the reply store."""
    usage: Usage
    cost_usd: float | None = None
    reply: str | None = None
    """The reply, where it is not word for word what was used of it."""


@dataclass(frozen=True, slots=True)
class Check:
    """What an independent judge said of a revision, asked in both orders."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    verdict_id: str
    """In `verdicts.jsonl` of the same run."""
    p_revision: float | None = None
    """P(revision preferred), mean over orders; `None` without a verdict."""
    consistent: bool | None = None
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One critique and revision."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    number: int
    """From 1."""
    principle: str
    drawn: str
    """How the principle was drawn; `seeded` where a judge was asked for it in vain."""
    status: Status
    critique: str | None = None
    revision: str | None = None
    """Where it cannot be used, `fault` says why."""
    fault: Fault | None = None
    reason: str | None = None
    flags: tuple[str, ...] = ()
    calls: tuple[ChainCall, ...] = ()
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides a chain, beside its prompt."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    actor: str
    critic: str
    constitution: RubricRef
    seed: int
    draw: str
    form: str
    check: str
    judge: str | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """A first response, the rounds that followed, and the response that stands at the end."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    id: str
    """Stable: the same prompt and recipe give the same id."""
    item: Item
    recipe: Recipe
    first: str | None
    """The first response; `None` where there is none."""
    rounds: tuple[Round, ...]
    final: str | None
    """The response that stands at the end: a revision, or the first response."""
    revised: bool
    """Whether `final` is a revision. Never true of the first response."""
    cause: Fault | None = None
    """Why no round has a revision that can be used, or why the chain broke off."""
    reason: str | None = None
    calls: tuple[ChainCall, ...] = ()
    """Those for the first response."""
    check: Check | None = None
    """Where the last revision alone was checked, against the first response."""
    schema: int = 1

    def as_dict(self) -> dict[str, Any]:
        """A line of `revisions.jsonl`: absent fields are left out."""
        return {"schema": self.schema, **as_dict(self)}

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> Chain:
        """Read a line of `revisions.jsonl`.

        Raises:
            SpecError: a field is missing, unknown, of the wrong type, or contradicts another.
        """
        from pydantic import ValidationError

        try:
            chain: Chain = _adapter().validate_python({"first": None, "final": None, **row})
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            raise SpecError(found["msg"], field=".".join(map(str, found["loc"]))) from None
        if chain.schema != 1:
            raise SpecError(f"schema {chain.schema} is not 1", field="schema")
        if chain.revised and (chain.final is None or chain.final == chain.first):
            raise SpecError("the first response is no revision", field="final")
        return chain

    @property
    def prompt(self) -> Messages:
        """What was asked."""
        return self.item.prompt

    def standing(self) -> list[str]:
        """The response that stood after each round, from the first response on."""
        texts = [self.first or ""]
        for one in self.rounds:
            passed = one.status in ("kept", "unchecked")
            texts.append(one.revision if passed and one.revision is not None else texts[-1])
        return texts


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Chain)


def read_chains(path: Path) -> Iterator[Chain]:
    """The chains of a `revisions.jsonl`, or of the run folder that holds one, one at a time.

    Raises:
        SpecError: no such file, or a line that is no chain: names the line and the field.
    """
    path = path / REVISIONS if path.is_dir() else path
    for number, row in read_rows(path):
        try:
            yield Chain.from_dict(row)
        except SpecError as error:
            raise SpecError(error.message, path=path, line=number, field=error.field) from None


def chain_call(part: Part, call: Call, used: str | None) -> ChainCall:
    """A call as a chain keeps it; `used` is the text that was taken from its reply."""
    reply = None if used is not None and used == call.reply else call.reply
    return ChainCall(part, call.digest, call.usage, call.cost_usd, reply)
