"""Runs without a judge of the service: verdicts made elsewhere, and data that people alone judge.

A panel's or a cascade's verdicts, made on the command line, come in this way: to be looked at, to
be held against another run, and for people to settle what was left in doubt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from rlaif.errors import SpecError
from rlaif.judge.common import no_verdict, rubric_ref
from rlaif.specs.rows import MAX_ROW_BYTES
from rlaif.specs.rubric import Rubric
from rlaif.store.runs import file_of_run, read_verdicts
from rlaif.types import Comparison, JudgeRef, Kind, Sampling, Verdict

VERDICTS = "verdicts"
"""The kind of a run that only takes what is there."""
PEOPLE = "people"
"""The judge of a run that asks none: each item is without a verdict, as of a spent budget."""

_KINDS: dict[Kind, str] = {"comparison": "compare", "score": "score", "ranking": "rank"}


def is_without_judge(work: Mapping[str, Any]) -> bool:
    """Whether a run asks no judge of the service."""
    return bool(work.get("given") or work["judge"] == PEOPLE)


def work_of(source: Path) -> dict[str, Any]:
    """What a run that takes the verdicts of a file does, as far as the file tells.

    Raises:
        SpecError: the first line is no verdict, or there is none.
    """
    try:
        _check_lines(file_of_run(source, "verdicts.jsonl"))
        found = next(read_verdicts(source), None)
    except SpecError as error:
        raise SpecError(error.message, line=error.line, field=error.field) from None
    if found is None:
        raise SpecError("holds no verdicts", field="data")
    rubric = found.judge.rubric
    return {
        "kind": _KINDS[found.kind],
        "judge": found.judge.model[:200],
        "rubric": rubric.name if rubric else "",
        "given": True,
    }


def _check_lines(path: Path) -> None:
    """Raise `SpecError` at a line that is too long to be read whole."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                raise SpecError(f"is longer than {MAX_ROW_BYTES:,} bytes", line=number)


def taken(
    source: Path, work: Mapping[str, Any]
) -> tuple[Callable[[], Iterable[Verdict]], Callable[[Verdict], Awaitable[Verdict]]]:
    """The verdicts of a file, and what judges each: nothing.

    Raises:
        SpecError: when they are read: a line is no verdict, or of another kind than the first.
    """
    kinds = {kind: name for kind, name in _KINDS.items() if name == work["kind"]}

    def pieces() -> Iterator[Verdict]:
        for number, verdict in enumerate(islice(read_verdicts(source), work.get("limit")), 1):
            if verdict.kind not in kinds:
                message = f"a {verdict.kind} among verdicts to {work['kind']}"
                raise SpecError(message, line=number, field="kind")
            yield verdict

    async def as_it_is(verdict: Verdict) -> Verdict:
        return verdict

    return pieces, as_it_is


def for_people(kind: str, rubric: Rubric) -> tuple[JudgeRef, Callable[[Any], Awaitable[Verdict]]]:
    """The judge that is none, and what it says of a piece of data."""
    ref = JudgeRef(PEOPLE, PEOPLE, Sampling(), rubric_ref(rubric))

    async def nothing(piece: Any) -> Verdict:
        if isinstance(piece, Comparison):
            return no_verdict("comparison", piece.item, (piece.a, piece.b), ref, "budget")
        item, responses = piece
        if kind == "score":
            return no_verdict("score", item, (responses,), ref, "budget")
        return no_verdict("ranking", item, tuple(responses), ref, "budget")

    return ref, nothing
