"""Comparisons of a judge, or the votes of many people, as columns that can be held together."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.evals.reading import (
    ABSENT,
    Names,
    model_of,
    names,
    question_of,
    shortened,
    stratum_of,
)
from rlaif.types import CAUSES, Item, Verdict

LABELS = ("A", "B", "tie")
"""What a verdict can be."""
_ALL_LABELS = (*LABELS, *CAUSES)
_FLIPPED = {"A": "B", "B": "A"}
DEFAULT_STRATA = ("turn", "category")


class SharedNames:
    """The numbers that two tables of votes have in common.

    Args:
        strata: Names in the items' meta to divide by.
    """

    def __init__(self, strata: Sequence[str] = DEFAULT_STRATA) -> None:
        self.items = Names()
        """Prompt and turn."""
        self.questions = Names()
        """Prompts: the unit that resampling draws."""
        self.pairs = Names()
        self.question_of_item = array("i")
        self.strata = {name: Names() for name in strata}
        self.stratum_of_item = {name: array("i") for name in strata}

    def item(self, item: Item) -> int:
        """The number of an item; it is registered, with its strata, when it is new.

        Raises:
            SpecError: a stratum has an empty value.
        """
        question = question_of(item)
        number = self.items.number(f"{question}\n{item.meta.get('turn', '')}")
        if number == len(self.question_of_item):
            self.question_of_item.append(self.questions.number(question))
            for places in self.stratum_of_item.values():
                places.append(ABSENT)
        for name, known in self.strata.items():
            if self.stratum_of_item[name][number] == ABSENT:
                value = stratum_of(item, name)
                if value is not None:
                    self.stratum_of_item[name][number] = known.number(value)
        return number


class VoteTable:
    """Columns of comparisons by one judge, or by many people.

    Args:
        shared: The numbers it has in common with the table it will be held against.
    """

    def __init__(self, shared: SharedNames) -> None:
        self.shared = shared
        self.judges = Names()
        self._judge, self._item, self._pair = array("i"), array("i"), array("i")
        self._label, self._consistent = array("b"), array("b")

    def __len__(self) -> int:
        return len(self._judge)

    def add(self, verdict: Verdict) -> None:
        """Keep what the table needs of one verdict.

        Raises:
            SpecError: it is no comparison, both sides are by one model, or a stratum is empty.
        """
        if verdict.kind != "comparison":
            raise SpecError(f"a {verdict.kind} is no vote on a pair", field="kind")
        a, b = (model_of(candidate) for candidate in verdict.candidates)
        if a == b:
            raise SpecError(f"both candidates are by {a}", field="candidates")
        preference = verdict.preference
        label = str(verdict.cause) if preference is None else preference.winner
        if a > b:
            label = _FLIPPED.get(label, label)
        item = self.shared.item(verdict.item)
        self._judge.append(self.judges.number(verdict.judge.model))
        self._item.append(item)
        self._pair.append(self.shared.pairs.number("\n".join(sorted((a, b)))))
        self._label.append(_ALL_LABELS.index(label))
        self._consistent.append(preference is None or preference.consistent)

    def judges_called(self, wanted: str | None) -> list[str]:
        """The judges that `wanted` names, as in `chosen_judges`; all of them for None.

        Raises:
            ConfigError: `wanted` names none of them.
        """
        known = self.judges.all()
        picked = known if wanted is None else [name for name in known if names(wanted, name)]
        if not picked:
            raise ConfigError(f"no judge is called '{wanted}': there are {shortened(known)}")
        return picked

    def votes(self, judges: Sequence[str], *, consistent_only: bool = False) -> Votes:
        """The votes of some judges, as columns.

        Args:
            judges: Names from `judges_called`.
            consistent_only: Count a verdict whose two orders disagree as none.

        Raises:
            DataError: they have none.
        """
        numbers = {number for number, name in enumerate(self.judges.all()) if name in judges}
        rows = [i for i, judge in enumerate(self._judge) if judge in numbers]
        if not rows:
            raise DataError("there are no votes")
        labels = [_ALL_LABELS[self._label[i]] for i in rows]
        if consistent_only:
            labels = [
                label if self._consistent[i] else "inconsistent"
                for i, label in zip(rows, labels, strict=True)
            ]
        return Votes(
            tuple(self._item[i] << 32 | self._pair[i] for i in rows),
            tuple(self._item[i] for i in rows),
            tuple(labels),
            sum(not self._consistent[i] for i in rows),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Columns of equal length, one entry a verdict."""

    keys: tuple[int, ...]
    """Prompt, turn and pair of models in one number."""
    items: tuple[int, ...]
    """Prompt and turn."""
    labels: tuple[str, ...]
    """`A` the model whose name sorts first, `B` the other, `tie`, or the cause of no verdict."""
    inconsistent: int
    """Verdicts whose two orders disagree."""

    def counts(self) -> dict[str, Any]:
        """How many there are, how many have a verdict, how many are ties or inconsistent."""
        found = Counter(self.labels)
        ok = sum(found[label] for label in LABELS)
        return {
            "n": len(self.labels),
            "coverage": ok / len(self.labels),
            "causes": causes_among(found),
            "ties": found["tie"],
            "inconsistent": self.inconsistent,
        }

    def readable(self) -> tuple[list[int], list[str]]:
        """Keys and labels of the entries with a verdict."""
        kept = [i for i, label in enumerate(self.labels) if label in LABELS]
        return [self.keys[i] for i in kept], [self.labels[i] for i in kept]


def causes_among(found: Mapping[str, int]) -> dict[str, int]:
    """How often each cause of no verdict is among counts of labels."""
    return {name: n for name, n in sorted(found.items()) if name not in LABELS and n}
