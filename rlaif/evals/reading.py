"""Verdicts of many files, one at a time, and the columns that tables keep of them.

A table keeps a few numbers of each verdict, never the record: a million verdicts fit in some fifty
megabytes.

    table = Leaderboard()
    read_runs([Path("runs/judged")], table.add)
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import ConfigError, DataError, SpecError, suggestion
from rlaif.store.runs import file_of_run, read_row
from rlaif.types import Candidate, Item, Verdict

ABSENT = -1
"""In a column of numbers for names: the record names none."""

_TELL_EVERY = 1000

Place = tuple[Path, int]
"""A file and a line in it, counted from 1."""


def read_runs(
    paths: Sequence[Path],
    add: Callable[[Verdict], None],
    *,
    told: Callable[[int], None] = lambda steps: None,
) -> dict[str, Place]:
    """Hand every verdict of run folders or `verdicts.jsonl` files to `add`; where each judge first
    appears.

    Args:
        paths: Run folders or files.
        add: Takes one verdict; a `SpecError` it raises is given the place.
        told: Told now and then how many more were read, for a progress bar.

    Raises:
        SpecError: no such file; a line that is no verdict, or that `add` refuses; a verdict that
            occurs twice. Names the file, the line and the field.
        DataError: there is no verdict at all.
    """
    keys = array("q")
    judges: dict[str, Place] = {}
    for path in paths:
        for line, verdict in numbered_verdicts(path):
            keys.append(hash(verdict.id))
            if len(keys) % _TELL_EVERY == 0:
                told(_TELL_EVERY)
            if verdict.judge.model not in judges:
                judges[verdict.judge.model] = (_verdicts_file(path), line)
            try:
                add(verdict)
            except SpecError as error:
                where = _verdicts_file(path)
                raise SpecError(error.message, path=where, line=line, field=error.field) from None
    if not keys:
        raise DataError(f"no verdicts in {', '.join(map(str, paths))}")
    _refuse_duplicates(column(keys), paths)
    return judges


def numbered_verdicts(path: Path) -> Iterator[tuple[int, Verdict]]:
    """The verdicts of a run folder or a `verdicts.jsonl`, each with its line, counted from 1.

    Raises:
        SpecError: no such file, or a line that is no verdict: names the line and the field.
    """
    from pydantic import ValidationError

    where = _verdicts_file(path)
    try:
        file = where.open("rb")
    except OSError as error:
        raise SpecError(error.strerror or str(error), path=where) from error
    adapter = _adapter()
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                verdict = adapter.validate_json(line)
                verdict.check()
                plain = _is_finite(line, verdict)
            except (ValidationError, SpecError):
                plain = False
            yield number, verdict if plain else _read_slowly(line, where, number)


def _is_finite(line: bytes, verdict: Verdict) -> bool:
    """Whether nothing in the line may be NaN or infinite, which the fast reader takes."""
    score = verdict.score
    if score is not None and not math.isfinite(score.value + score.min + score.max):
        return False
    return b"NaN" not in line and b"Infinity" not in line


def _read_slowly(line: bytes, path: Path, number: int) -> Verdict:
    """The verdict of a line that the fast reader refused, or should have: it may hold a lone
    surrogate, which only the slow one takes, and the slow one names what is at fault.
    """
    try:
        return Verdict.from_dict(read_row(line, path, number))
    except SpecError as error:
        raise SpecError(error.message, path=path, line=number, field=error.field) from None


def _verdicts_file(path: Path) -> Path:
    return file_of_run(path, "verdicts.jsonl")


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Verdict)


def _refuse_duplicates(keys: NDArray[np.int64], paths: Sequence[Path]) -> None:
    """Raise `SpecError` at the second of two verdicts that share an id; `keys` is sorted in place.

    Eight bytes a verdict tell whether any two do; where they lie is then read again.
    """
    keys.sort()
    if not (keys[1:] == keys[:-1]).any():
        return
    seen: dict[str, Place] = {}
    for path in paths:
        for line, verdict in numbered_verdicts(path):
            here = (_verdicts_file(path), line)
            before = seen.setdefault(verdict.id, here)
            if before is not here:
                raise SpecError(
                    f"the same verdict is at {before[0]}:{before[1]}",
                    path=here[0],
                    line=line,
                    field="id",
                )


class Names:
    """Numbers for names, from 0 in order of first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, name: str) -> int:
        """The number of `name`, a new one when it is new."""
        return self._numbers.setdefault(name, len(self._numbers))

    def all(self) -> list[str]:
        """Every name, at the place of its number."""
        return list(self._numbers)


def column(values: array[Any]) -> NDArray[Any]:
    """An array's memory as a numpy column, without a copy; nothing may be appended meanwhile."""
    if not values:  # numpy refuses memory of no size
        return np.empty(0, dtype=np.dtype(values.typecode))
    return np.frombuffer(values, dtype=np.dtype(values.typecode))


def question_of(item: Item) -> str:
    """The prompt that an item belongs to: all its turns rise and fall together."""
    question = item.meta.get("question_id")
    return item.id if question is None else str(question)


def model_of(candidate: Candidate) -> str:
    """Who made a response: its model, or its own id where no model is named."""
    return candidate.model or candidate.id


def stratum_of(item: Item, name: str) -> str | None:
    """The value of a stratum such as `turn` in an item's meta, None where it has none.

    Raises:
        SpecError: the value is empty or is not a word or a number.
    """
    value = item.meta.get(name)
    if value is None:
        return None
    if isinstance(value, str | int) and str(value).strip():
        return str(value)
    raise SpecError(f"{value!r} names no {name}", field=f"item.meta.{name}")


def chosen_judges(known: Mapping[str, Place | None], wanted: str | None) -> list[str]:
    """The judges that a table is about: the only one, or those that `wanted` names.

    Args:
        known: Every judge of the verdicts, and where it first appears.
        wanted: A judge's name, or the beginning of several with a `*` behind it, whose verdicts
            are then pooled.

    Raises:
        ConfigError: `wanted` names none of them.
        SpecError: there are several and none is named: names them, and the place of the second.
    """
    if wanted is None:
        if len(known) > 1:
            path, line = list(known.values())[1] or (None, None)
            raise SpecError(
                f"a mix of {len(known)} judges, {shortened(sorted(known))}: name one with "
                "--judge NAME, or pool several with --judge 'BEGINNING*'",
                path=path,
                line=line,
                field="judge.model",
            )
        return list(known)
    picked = [name for name in known if names(wanted, name)]
    if not picked:
        raise ConfigError(f"no judge is called '{wanted}': {suggestion(wanted, known)}")
    return picked


def names(wanted: str, judge: str) -> bool:
    """Whether `wanted`, a name or the beginning of one with a `*`, names `judge`."""
    return judge.startswith(wanted[:-1]) if wanted.endswith("*") else judge == wanted


def shortened(words: Iterable[str], most: int = 8) -> str:
    """Words with commas, the rest of a long list as a count."""
    every = list(words)
    rest = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + rest
