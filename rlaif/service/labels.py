"""What people said of pairs, kept one choice each, and read back as verdict records."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, cast, get_args

from rlaif.errors import SpecError
from rlaif.judge.common import verdict_id
from rlaif.service.database import Database
from rlaif.specs.describe import describe
from rlaif.types import JudgeRef, OrderVerdict, Preference, Sampling, Shown, Verdict, Winner

Choice = Literal["A", "B", "tie", "bad", "skip"]
"""A is `candidates[0]`, whatever was shown; `bad` is a tie of two bad responses."""
Pressed = Literal["first", "second", "tie", "bad", "skip"]
"""The same in terms of what was shown."""

BOTH_BAD = "both_bad"
_LONGEST_REASON = 4000
_P: dict[str, float] = {"A": 1.0, "B": 0.0, "tie": 0.5, "bad": 0.5}


@dataclass(frozen=True, slots=True)
class Label:
    """One choice by one person."""

    n: int
    """The place of the verdict in its run, from 1."""
    name: str
    choice: Choice
    shown: Shown
    reason: str


class LabelBook:
    """The labels of all runs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, run: str, n: int, name: str, pressed: object, reason: object) -> Label:
        """Keep what a person pressed, in the place of what they pressed before.

        Raises:
            SpecError: it is no choice, or the reason is no text or too long.
        """
        if pressed not in get_args(Pressed):
            known = ", ".join(get_args(Pressed))
            raise SpecError(f"is one of {known}, not {describe(pressed)}", field="choice")
        if not isinstance(reason, str) or len(reason) > _LONGEST_REASON:
            message = f"is text of at most {_LONGEST_REASON:,} characters"
            raise SpecError(message, field="reason")
        shown = shown_order(run, n, name)
        sides: dict[Any, Choice] = {"first": "A", "second": "B"}
        if shown == "BA":
            sides = {"first": "B", "second": "A"}
        choice: Choice = sides.get(pressed) or cast("Choice", pressed)
        made = Label(n, name, choice, shown, reason.encode("utf-8", "replace").decode())
        self._db.change(
            "INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?, ?, ?, ?)",
            (run, n, name, choice, shown, made.reason, time.time()),
        )
        return made

    def undo(self, run: str, name: str) -> int | None:
        """Forget the last choice of a person; its place, or None where there is none."""
        row = self._db.row(
            "DELETE FROM labels WHERE rowid = (SELECT rowid FROM labels WHERE run = ? AND name = ? "
            "ORDER BY created_s DESC, rowid DESC LIMIT 1) RETURNING n",
            (run, name),
        )
        return row[0] if row else None

    def of(self, run: str, name: str | None = None) -> list[Label]:
        """The labels of a run, in its order; those of one person where `name` is given."""
        rows = self._db.rows(
            "SELECT n, name, choice, shown, reason FROM labels "
            "WHERE run = ? AND (? IS NULL OR name = ?) ORDER BY n, name",
            (run, name, name),
        )
        return [Label(*row) for row in rows]


def shown_order(run: str, n: int, name: str) -> Shown:
    """The order in which a person sees a pair: even odds, and the same at each look."""
    return "BA" if sha256(f"{run}:{n}:{name}".encode()).digest()[0] & 1 else "AB"


def record(judged: Verdict, label: Label) -> Verdict:
    """What a person said, as a verdict on the same item and candidates. A skip is none."""
    judge = JudgeRef(f"human/{label.name}", "verdict", Sampling(), judged.judge.rubric)
    winner: Winner = label.choice if label.choice in ("A", "B") else "tie"
    p_a = _P[label.choice]
    order = OrderVerdict(label.shown, winner, p_a, source="verdict")
    flags = {c.id: (BOTH_BAD,) for c in judged.candidates} if label.choice == "bad" else None
    return Verdict(
        id=verdict_id("comparison", judged.item, judged.candidates, judge),
        kind="comparison",
        item=judged.item,
        candidates=judged.candidates,
        judge=judge,
        status="ok",
        preference=Preference(winner, p_a, (order,), consistent=True),
        rationale=label.reason or None,
        flags=flags,
    )


def gold_of(judged: Verdict) -> Winner | None:
    """What is known to be right: the item's `gold`, where that is A, B or tie."""
    known = judged.item.meta.get("gold")
    return known if known in ("A", "B", "tie") else None


def agreement(
    labels: Iterable[Label], judged: Mapping[int, Winner], gold: Mapping[int, Winner]
) -> Iterator[dict[str, Any]]:
    """Of each person how many labels there are, and how many agree with the judge and with others.

    Three classes, A, B and tie; skipped pairs count nowhere.

    Args:
        labels: Of one run.
        judged: What the judge said, by place.
        gold: What is known to be right, of pairs by which people are checked.
    """
    said: dict[int, dict[str, str]] = defaultdict(dict)
    for label in labels:
        if label.choice != "skip":
            said[label.n][label.name] = "tie" if label.choice == "bad" else label.choice
    for name in sorted({name for given in said.values() for name in given}):
        mine = {n: given[name] for n, given in said.items() if name in given}
        with_judge = [choice == judged[n] for n, choice in mine.items() if n in judged]
        with_others = [
            choice == other
            for n, choice in mine.items()
            for who, other in said[n].items()
            if who != name
        ]
        checked = [choice == gold[n] for n, choice in mine.items() if n in gold]
        yield {
            "name": name,
            "n": len(mine),
            "judge_n": len(with_judge),
            "judge_agreement": sum(with_judge) / len(with_judge) if with_judge else None,
            "gold_n": len(checked),
            "gold_accuracy": sum(checked) / len(checked) if checked else None,
            "others_n": len(with_others),
            "others_agreement": sum(with_others) / len(with_others) if with_others else None,
        }
