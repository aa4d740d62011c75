"""What the exporters share: a row of exactly the columns it once had, and what a format loses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlaif.errors import DataError
from rlaif.types import Kind, Sampling, Usage, Verdict, Winner


@dataclass(slots=True)
class ExportReport:
    """What an export could not keep; filled while the rows are made."""

    verdicts: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """Fields of the record that the format has no place for, and in how many verdicts."""

    def as_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"verdicts": self.verdicts, "lost": dict(sorted(self.lost.items()))}


def need_kind(verdict: Verdict, kind: Kind, name: str) -> None:
    """Raise `DataError` unless `verdict` is of the kind that the format called `name` holds."""
    if verdict.kind != kind:
        raise DataError(f"verdict {verdict.id} is a {verdict.kind}; {name} holds a {kind} a row")


def came_from(verdict: Verdict, name: str) -> bool:
    """Whether the format called `name` is where `verdict` was imported from."""
    return verdict.judge.method == f"imported {name}"


def winner_name(verdict: Verdict) -> Winner | None:
    """The combined winner, `None` without a verdict."""
    return verdict.preference.winner if verdict.preference else None


def exported(
    verdict: Verdict,
    name: str,
    fields: Mapping[str, Any],
    columns: Sequence[str],
    kept: Collection[str],
    report: ExportReport,
) -> dict[str, Any]:
    """One row: the columns it was imported with, in their order, else the `columns` of the format.

    Args:
        verdict: The record.
        name: The format.
        fields: What the record says of the columns that the format knows.
        columns: The format's own columns.
        kept: What of the record those columns hold; see `_lost`.
        report: Where losses are counted.
    """
    known = verdict.item.meta
    report.verdicts += 1
    if came_from(verdict, name) and isinstance(known.get("columns"), list):
        # what the record does not say stands in `meta` as it was
        return {
            column: known.get(column) if fields.get(column) is None else fields[column]
            for column in known["columns"]
        }
    report.lost.update(_lost(verdict, kept))
    return {column: fields[column] for column in columns if fields.get(column) is not None}


def _lost(verdict: Verdict, kept: Collection[str]) -> list[str]:
    """Names of the fields that hold something which a format that holds only `kept` drops."""
    judge, preference, score = verdict.judge, verdict.preference, verdict.score
    exact = preference is None or all(
        order.p_a == {"A": 1.0, "tie": 0.5, "B": 0.0}[order.winner] for order in preference.orders
    )
    has = {
        "item.prompt": bool(verdict.item.prompt) and "prompt" not in kept,
        "item.reference": verdict.item.reference is not None and "reference" not in kept,
        "candidates.response": any(c.response for c in verdict.candidates)
        and "responses" not in kept,
        "judge.rubric": judge.rubric is not None,
        "judge.sampling": judge.sampling != Sampling(),
        "judge.members": judge.members is not None,
        "cause": verdict.cause is not None,
        "score.distribution": score is not None and score.distribution is not None,
        "score.criteria": score is not None and score.criteria is not None,
        "score.min": score is not None and (score.min, score.max) != (1, 10),
        "preference.p_a": not exact and "p_a" not in kept,
        "preference.orders": preference is not None
        and len(preference.orders) > 1
        and "orders" not in kept,
        "rationale": verdict.rationale is not None,
        "calls.reply": any(c.reply for c in verdict.calls) and "replies" not in kept,
        "calls.usage": any(c.usage != Usage() or c.cost_usd for c in verdict.calls),
    }
    return [name for name, there in has.items() if there]
