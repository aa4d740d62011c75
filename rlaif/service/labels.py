"""What people said of pairs and single responses, kept as it was given, read as verdict records.

label = book.put(run, n, "anna", "first", "It answers.")                # of a pair
label = book.rate(run, n, "anna", {"clarity": 4}, criteria, "")         # of one response
record(verdict, label)                                                  # by `human/anna`
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, cast, get_args

from rlaif.canonical import canonical_json
from rlaif.errors import SpecError
from rlaif.evals.people import Vote, by, rating, score_of, vote
from rlaif.service.database import Tables
from rlaif.service.files import sound
from rlaif.specs.describe import describe
from rlaif.specs.rubric import MAX_LEVELS, Criterion, Rubric, Scale
from rlaif.types import Score, Shown, Verdict, Winner

Choice = Vote | Literal["skip", "rated"]
"""What was said of a pair, or that nothing was, or that a response was rated."""
Pressed = Literal["first", "second", "tie", "bad", "skip"]
"""The same in terms of what was shown."""

LONGEST_REASON = 4000
"""Characters of a reason."""


@dataclass(frozen=True, slots=True)
class Label:
    """One choice, or one rating, by one person."""

    n: int
    """The place of the verdict in its run, from 1."""
    name: str
    choice: Choice
    shown: Shown
    reason: str
    score: Score | None = None
    """Where it is a rating: the grade of each criterion, and the score that they make."""

    @property
    def winner(self) -> Winner | None:
        """Which response is better, of a pair that was not skipped."""
        if self.choice in ("skip", "rated"):
            return None
        return self.choice if self.choice in ("A", "B") else "tie"


class LabelBook:
    """The labels of all runs."""

    def __init__(self, database: Tables) -> None:
        self._db = database

    def put(self, run: str, n: int, name: str, pressed: object, reason: object) -> Label:
        """Keep what a person pressed, in the place of what they pressed before.

        Raises:
            SpecError: it is no choice, or the reason is no text or too long.
        """
        if pressed not in get_args(Pressed):
            known = ", ".join(get_args(Pressed))
            raise SpecError(f"is one of {known}, not {describe(pressed)}", field="choice")
        reason = checked_reason(reason)
        shown = shown_order(run, n, name)
        sides: dict[Any, Choice] = {"first": "A", "second": "B"}
        if shown == "BA":
            sides = {"first": "B", "second": "A"}
        choice: Choice = sides.get(pressed) or cast("Choice", pressed)
        made = Label(n, name, choice, shown, reason)
        self.keep(run, made)
        return made

    def rate(
        self,
        run: str,
        n: int,
        name: str,
        grades: object,
        criteria: Sequence[Criterion],
        reason: object = "",
    ) -> Label:
        """Keep what a person graded, in the place of what they graded before.

        Args:
            run: Of which run.
            n: The place in it.
            name: Who grades.
            grades: A level for each criterion, by its name.
            criteria: What is graded.
            reason: Why, perhaps.

        Raises:
            SpecError: a criterion has no grade on its scale, or is unknown; or as `put`.
        """
        score = score_of(grades, criteria)
        made = Label(n, name, "rated", "AB", checked_reason(reason), score)
        self.keep(run, made)
        return made

    def transaction(self) -> AbstractContextManager[None]:
        """Labels of which all are kept, or none."""
        return self._db.transaction()

    def keep(self, run: str, made: Label) -> None:
        """Keep a label, in the place of what the same person said of the item before."""
        said = made.choice if made.score is None else canonical_json(_kept(made.score))
        self._db.change(
            "INSERT INTO labels (run, n, name, choice, shown, reason, created_s) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, name, n) DO UPDATE SET "
            "choice = excluded.choice, shown = excluded.shown, reason = excluded.reason, "
            "created_s = excluded.created_s",
            (run, made.n, made.name, said, made.shown, made.reason, time.time()),
        )

    def undo(self, run: str, name: str) -> int | None:
        """Forget the last choice of a person; its place, or None where there is none."""
        row = self._db.row(
            "DELETE FROM labels WHERE run = ? AND name = ? AND n = (SELECT n FROM labels "
            "WHERE run = ? AND name = ? ORDER BY created_s DESC, n DESC LIMIT 1) RETURNING n",
            (run, name, run, name),
        )
        return row[0] if row else None

    def of(self, run: str, name: str | None = None) -> list[Label]:
        """The labels of a run, in its order; those of one person where `name` is given."""
        rows = self._db.rows(
            "SELECT n, name, choice, shown, reason FROM labels "
            "WHERE run = ? AND (CAST(? AS TEXT) IS NULL OR name = ?) ORDER BY n, name",
            (run, name, name),
        )
        return [_label(*row) for row in rows]

    def counts(self, run: str) -> dict[int, int]:
        """How many people labelled each place of a run; who skipped it does not count."""
        rows = self._db.rows(
            "SELECT n, count(*) FROM labels WHERE run = ? AND choice <> 'skip' GROUP BY n", (run,)
        )
        return dict(rows)


def _label(n: int, name: str, said: str, shown: Shown, reason: str) -> Label:
    if not said.startswith("{"):
        return Label(n, name, cast("Choice", said), shown, reason)
    return Label(n, name, "rated", shown, reason, Score(**json.loads(said)))


def _kept(score: Score) -> dict[str, Any]:
    return {
        "value": score.value,
        "min": score.min,
        "max": score.max,
        "criteria": {name: dict(grade) for name, grade in (score.criteria or {}).items()},
    }


def checked_reason(reason: object) -> str:
    """A reason as it is kept.

    Raises:
        SpecError: it is no text, or too long.
    """
    if not isinstance(reason, str) or len(reason) > LONGEST_REASON:
        message = f"is text of at most {LONGEST_REASON:,} characters"
        raise SpecError(message, field="reason")
    return sound(reason).replace("\0", "\ufffd")  # which PostgreSQL takes nowhere


def criteria_of(judged: Verdict, rubrics: Mapping[str, Rubric]) -> tuple[Criterion, ...]:
    """What a response is graded on: the criteria of its verdict's rubric.

    Args:
        judged: A verdict of the score kind.
        rubrics: The rubrics that are known, by name.

    Raises:
        SpecError: the rubric is not known, and the verdict does not tell the scales either.
    """
    ref = judged.judge.rubric
    rubric = rubrics.get(ref.name) if ref else None
    if rubric is not None and ref is not None and rubric.digest == ref.digest:
        return rubric.criteria
    score = judged.score
    if score is not None and score.criteria:
        return tuple(_criterion(name, grade) for name, grade in score.criteria.items())
    if score is not None:
        return (Criterion("overall", 1.0, "", _scale(score.min, score.max)),)
    raise SpecError("nothing here tells on which scale to grade: no rubric of this name is known")


def _criterion(name: str, grade: Mapping[str, Any]) -> Criterion:
    weight = grade.get("weight", 1.0)
    if not isinstance(weight, int | float) or not 0 < weight < 1e9:
        raise SpecError(f"{describe(weight)} is no weight of the criterion {name[:64]!r}")
    return Criterion(name, float(weight), "", _scale(grade.get("min"), grade.get("max")))


def _scale(low: object, high: object) -> Scale:
    """The scale between two whole numbers.

    Raises:
        SpecError: there is none, or it has too many levels.
    """
    ends = (low, high)
    if not all(isinstance(end, int | float) and end == end // 1 for end in ends):
        raise SpecError(f"a scale from {describe(low)} to {describe(high)} has no levels")
    least, most = (int(cast("float", end)) for end in ends)
    if not 0 < most - least < MAX_LEVELS:
        raise SpecError(f"a scale from {least} to {most} has no levels that a person could tell")
    return Scale(least, most)


def shown_order(run: str, n: int, name: str) -> Shown:
    """The order in which a person sees a pair: even odds, and the same at each look."""
    return "BA" if sha256(f"{run}:{n}:{name}".encode()).digest()[0] & 1 else "AB"


def record(judged: Verdict, label: Label) -> Verdict:
    """What a person said, as a verdict on the same item and candidates.

    Raises:
        ValueError: the person skipped it, and said nothing.
    """
    judge = by(label.name, judged.judge.rubric)
    if label.score is not None:
        return rating(judged.item, judged.candidates, judge, label.score, label.reason)
    if label.choice not in get_args(Vote):
        raise ValueError("a skip says nothing")
    said = cast("Vote", label.choice)
    return vote(judged.item, judged.candidates, judge, said, label.shown, label.reason)
