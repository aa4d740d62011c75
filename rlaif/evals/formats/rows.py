"""Rows of legacy files: typed fields, errors that name the file, the line and the field, and keys.

What a module takes out of a row it puts into the verdict; what is left goes to `item.meta`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from rlaif.errors import SpecError, suggestion
from rlaif.specs.describe import describe
from rlaif.specs.items import plain
from rlaif.specs.rows import LineTable, file_rows
from rlaif.types import Message, Messages, Role

T = TypeVar("T")

RESERVED = frozenset({"columns", "games", "kept", "label", "labels", "lengths"})
"""Names in `item.meta` that importers fill themselves."""

_LARGEST = 1e100
"""No score, preference or log-probability is larger, and floats hold it."""
_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What an importer may be told besides the files of judgments."""

    questions: tuple[Path, ...] = ()
    """The prompts: MT-Bench or Arena-Hard questions, AlpacaEval instructions, LLMBar or JudgeBench
    pairs."""
    answers: tuple[Path, ...] = ()
    """The responses: folders or files, one a model."""
    references: tuple[Path, ...] = ()
    """MT-Bench reference answers: folders or files."""
    judge: str | None = None
    """Names the judge where the file does not; elsewhere only this judge's rows are taken."""
    baseline: str | None = None
    """Names the baseline where the file does not (Arena-Hard 0.1)."""
    reparse: bool = False
    """Read the raw replies with our parser instead of taking the recorded verdicts."""
    legacy: bool = False
    """Read the raw replies by the old tool's own rule; with `reparse`, only compare with it."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """For `pairs`: the name of the column that plays each part."""
    scale: tuple[int, int] | None = None
    """For labels of single responses that do not say it: the least and the greatest level."""


@dataclass(slots=True)
class ImportReport:
    """What an import did besides making verdicts; filled while the verdicts are read."""

    rows: int = 0
    """Rows read that have a verdict, or the lack of one."""
    line: int = 0
    """The line of the label that was read last."""
    superseded: int = 0
    """Rows that a later row with the same key replaced."""
    other_judges: int = 0
    """Rows left out because another judge was asked for."""
    reread: int = 0
    """Raw replies read anew."""
    no_reply: int = 0
    """Verdicts taken as recorded because the row keeps no raw reply."""
    disagreements: int = 0
    """Replies that read otherwise than what they are compared with."""
    notes: list[str] = field(default_factory=list)
    """What a person should know."""
    on_disagreement: Callable[[dict[str, Any]], None] = lambda row: None
    """Called with each disagreement."""

    def as_dict(self) -> dict[str, Any]:
        """The counts, and the notes."""
        return {
            "rows": self.rows,
            "superseded": self.superseded,
            "other_judges": self.other_judges,
            "reread": self.reread,
            "no_reply": self.no_reply,
            "disagreements": self.disagreements,
            "notes": list(self.notes),
        }


class Row:
    """One row of a file. Fields are taken out of it; `rest` is what nothing took."""

    def __init__(self, fields: object, path: str, line: int, ordinal: int = 0) -> None:
        self.path = path
        self.line = line
        self.ordinal = ordinal
        if not isinstance(fields, Mapping):
            self.fail(f"a row should be a mapping, found {describe(fields)}")
        self.fields: Mapping[str, Any] = fields
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def fail(self, message: str, name: str | None = None) -> NoReturn:
        """Raise `SpecError` about the field called `name` of this row."""
        raise SpecError(message, path=self.path, line=self.line, field=name)

    def take(self, name: str) -> Any:
        """The value of a field, `None` where it is absent or null."""
        self._taken.add(name)
        return self.fields.get(name)

    def required(self, name: str) -> Any:
        """The value of a field that must be there."""
        if (value := self.take(name)) is None:
            shown = ", ".join(map(repr, list(self.fields)[:8])) or "nothing"
            there = "is null" if name in self.fields else f"is missing; the row has {shown}"
            self.fail(there, name)
        return value

    def text(self, name: str) -> str:
        """A field that must be text, and not empty."""
        value = self.required(name)
        if not isinstance(value, str) or not value.strip():
            self.fail(f"should be text, found {describe(value)}", name)
        return value

    def any_text(self, name: str) -> str:
        """A field that must be text; it may be empty, as a response may be."""
        value = self.required(name)
        if not isinstance(value, str):
            self.fail(f"should be text, found {describe(value)}", name)
        return value

    def maybe_text(self, name: str) -> str | None:
        """A field that is text, or absent."""
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            self.fail(f"should be text, found {describe(value)}", name)
        return value

    def read(self, name: str, value: object, reader: Callable[[Any], T]) -> T:
        """What `reader` makes of the value of a field; its `SpecError` is told of this row."""
        try:
            return reader(value)
        except SpecError as error:
            self.fail(error.message, name)

    def key(self, name: str) -> str | int:
        """A field that names something: text or a whole number."""
        value = self.required(name)
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            self.fail(f"should be text or a whole number, found {describe(value)}", name)
        return value

    def whole(self, name: str, least: int = 0) -> int:
        """A field that must be a whole number."""
        value = self.required(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.fail(f"should be a whole number from {least}, found {describe(value)}", name)
        return value

    def number(self, name: str) -> float | None:
        """A field that is a number, or absent."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(f"should be a number, found {describe(value)}", name)
        if abs(value) > _LARGEST:
            self.fail("is too large a number", name)
        return value

    def choice(self, name: str, known: Mapping[str, T]) -> T:
        """What `known` says of a field that must be one of its keys."""
        value = self.required(name)
        if not isinstance(value, str) or value not in known:
            self.fail(f"should be {' or '.join(map(repr, known))}, found {describe(value)}", name)
        return known[value]

    def entries(self, name: str) -> list[Any]:
        """A field that must be a list."""
        value = self.required(name)
        if not isinstance(value, list):
            self.fail(f"should be a list, found {describe(value)}", name)
        return value

    def inner(self, value: object, name: str) -> Row:
        """A mapping inside this row, whose faults are named `name.FIELD`."""
        if not isinstance(value, Mapping):
            self.fail(f"should be a mapping, found {describe(value)}", name)
        return _Inner(value, self, name)

    def messages(self, name: str) -> Messages:
        """A field that must be a list of messages."""
        return tuple(
            Message(one.choice("role", _ROLES), one.any_text("content"))
            for one in (self.inner(v, f"{name}.{i}") for i, v in enumerate(self.entries(name)))
        )

    def leave(self, *names: str) -> None:
        """Say that fields taken before belong to the rest after all."""
        self._taken.difference_update(names)

    def rest(self) -> dict[str, Any]:
        """Every field that nothing took, and `columns`: the names of all."""
        for name in self.fields:
            if name in RESERVED and name not in self._taken:
                self.fail("is a name that verdicts use themselves; rename the column", name)
        try:
            left = {k: plain(v, k) for k, v in self.fields.items() if k not in self._taken}
        except SpecError as error:
            self.fail(error.message, error.field)
        return {**left, "columns": list(self.fields)}


class _Inner(Row):
    def __init__(self, fields: Mapping[str, Any], outer: Row, name: str) -> None:
        self._name = name
        super().__init__(fields, outer.path, outer.line, outer.ordinal)

    def fail(self, message: str, name: str | None = None) -> NoReturn:
        super().fail(message, f"{self._name}.{name}" if name else self._name)


class Source:
    """The files of one import, read as one sequence of rows, as often as needed.

    Raises:
        SpecError: there is no file, or one of them holds no rows.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        if not files:
            raise SpecError("give a file to import")
        self.files = [Path(file) for file in files]
        self._starts = [0] * len(self.files)

    def __iter__(self) -> Iterator[Row]:
        start = 0
        for place, file in enumerate(self.files):
            self._starts[place] = start
            line = 0
            for line, fields in file_rows(file, lenient=True):
                yield Row(fields, str(file), line, start + line)
            if not line:
                raise SpecError("holds no rows", path=file)
            start += line

    def place(self, ordinal: int) -> str:
        """The file and line of the row with that `ordinal`."""
        at = max(n for n, start in enumerate(self._starts) if start < ordinal)
        return f"{self.files[at]}:{ordinal - self._starts[at]}"


def unique(
    source: Source, rows: Iterable[Row], key: Callable[[Row], str], name: str
) -> Iterator[Row]:
    """`rows`, none of which has the key of another.

    Raises:
        SpecError: two have the same key; names both lines, and the field called `name`.
    """
    seen = LineTable()
    for row in rows:
        if (first := seen.claim(key(row), row.ordinal)) is not None:
            row.fail(f"the same judgment is at {source.place(first)}", name)
        yield row


def last_of_each(
    rows: Callable[[], Iterable[Row]], key: Callable[[Row], str], report: ImportReport
) -> Iterator[Row]:
    """`rows` without those whose key a later row has too: files that are appended to repeat keys.

    Reads twice, and keeps some 25 bytes a key.
    """
    last = LineTable()
    for row in rows():
        last.put(key(row), row.ordinal)
    for row in rows():
        if last.get(key(row)) == row.ordinal:
            yield row
        else:
            report.superseded += 1


def by_judge(
    source: Source,
    judge_of: Callable[[Row], str],
    options: ImportOptions,
    report: ImportReport,
    *,
    mix: Literal["refuse", "take"],
) -> Iterator[Row]:
    """The rows of the judge that was asked for, else of the only one there is.

    Raises:
        SpecError: judges are mixed and `mix` refuses it, or none is the one asked for.
    """
    known: dict[str, int] = {}
    others = 0
    for row in source:
        name = judge_of(row)
        first = known.setdefault(name, row.ordinal)
        if options.judge is not None and name != options.judge:
            others += 1
            continue
        if options.judge is None and mix == "refuse" and len(known) > 1 and first == row.ordinal:
            other = next(iter(known))
            row.fail(
                f"{name!r} judged here and {other!r} at {source.place(known[other])}: "
                "name the one to import with --judge",
                "judge",
            )
        yield row
    report.other_judges = others  # set, not added: files that repeat keys are read twice
    if options.judge is not None and options.judge not in known:
        path = source.files[0]
        hint = suggestion(options.judge, known)
        raise SpecError(
            f"nothing was judged by {options.judge!r}; {hint}", path=path, field="judge"
        )
