"""Prompts and data to judge, row by row, from the files people keep them in.

    for item in read_prompts("prompts.jsonl"):
        ...
    for item, (a, b) in read_data("pairs.parquet", "compare"):
        ...

JSONL, CSV, Parquet and `datasets` folders are streamed: a file larger than memory is fine. A row
that does not fit stops the reading with a `SpecError` that names the file, the line (the row number
in Parquet and `datasets`) and the field.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, get_args

from rlaif.canonical import digest
from rlaif.errors import ConfigError, SpecError, suggestion
from rlaif.specs.describe import describe
from rlaif.specs.rows import LineTable, file_rows, jsonl_rows
from rlaif.types import Candidate, Item, Message, Messages, Role, as_dict

DataKind = Literal["score", "compare", "rank"]

MAX_DEPTH = 50
"""Deepest nesting of what goes to `meta`."""

_ROLES: tuple[Role, ...] = get_args(Role)


def read_prompts(
    source: str | Path, *, limit: int | None = None, stdin: BinaryIO | None = None
) -> Iterator[Item]:
    """Items of a PROMPTS file, in order.

    Args:
        source: A file (.jsonl, .json, .csv, .tsv, each also .gz, or .parquet), a folder written by
            `datasets`, or `-` for JSONL on standard input.
        limit: Most rows to read.
        stdin: What `-` reads; by default the standard input of the process.

    Raises:
        SpecError: the file cannot be read, has no rows, or a row does not fit.
        ConfigError: the format needs a package that is not installed.
    """
    ids = _Ids()
    for row in _rows(source, limit, stdin):
        prompt, reference, meta = row.take_prompt()
        yield row.item(ids, prompt, reference, meta | row.rest(), ())


def read_data(
    source: str | Path | Iterable[Mapping[str, Any]],
    kind: DataKind,
    *,
    limit: int | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[tuple[Item, tuple[Candidate, ...]]]:
    """Items of a DATA file with their candidates: one to score, two to compare, or N to rank.

    Candidates are called `1` (score), `A` and `B` (compare), or by their own ids, else their
    position from `1` (rank).

    Args:
        source: As for `read_prompts`, or the rows themselves.
        kind: Which columns hold the responses: `response`, `response_a` and `response_b`, or
            `responses`.
        limit: Most rows to read.
        stdin: What `-` reads; by default the standard input of the process.

    Raises:
        SpecError: the file cannot be read, has no rows, or a row does not fit.
        ConfigError: the format needs a package that is not installed.
    """
    ids = _Ids()
    for row in _rows(source, limit, stdin):
        prompt, reference, meta = row.take_prompt()
        candidates = row.take_candidates(kind)
        yield row.item(ids, prompt, reference, meta | row.rest(), candidates), candidates


def prompt_messages(value: object) -> Messages:
    """The messages of a prompt: a string is one user message, a list is a conversation.

    Raises:
        SpecError: it is neither, is empty, has an unknown role, or does not end in a user turn.
    """
    messages = _messages(value, "prompt", "user")
    if not messages[-1].content.strip():
        raise SpecError("is empty", field="prompt")
    return messages


def response_messages(value: object, name: str = "response") -> Messages:
    """The messages of a response: a string is one assistant message, a list is several.

    Raises:
        SpecError: it is neither, has an unknown role, or does not end in an assistant turn.
    """
    # An empty response is one: a model that said nothing is to be judged for it.
    return _messages(value, name, "assistant")


def _messages(value: object, name: str, last: Role) -> Messages:
    if isinstance(value, str):
        return (Message(last, value),)
    if not isinstance(value, list):
        raise SpecError(
            f"should be text or a list of messages, found {describe(value)}", field=name
        )
    if not value:
        raise SpecError("holds no messages", field=name)
    messages = tuple(_message(entry, f"{name}.{i}") for i, entry in enumerate(value))
    if messages[-1].role != last:
        article = "an" if last == "assistant" else "a"
        message = f"should end in {article} {last} turn, the last is by {messages[-1].role}"
        raise SpecError(message, field=name)
    return messages


def _message(value: object, name: str) -> Message:
    if not isinstance(value, Mapping):
        raise SpecError(
            f"a message should be {{role, content}}, found {describe(value)}", field=name
        )
    # Arrow gives every message the keys that any of them has.
    given = {key: entry for key, entry in value.items() if entry is not None}
    for key in ("role", "content"):
        if not isinstance(given.get(key), str):
            raise SpecError(
                f"should be text, found {describe(value.get(key))}", field=f"{name}.{key}"
            )
    if unknown := sorted(set(given) - {"role", "content"}):
        raise SpecError("a message has only role and content", field=f"{name}.{unknown[0]}")
    if given["role"] not in _ROLES:
        message = f"should be {' or '.join(_ROLES)}, found {describe(given['role'])}"
        raise SpecError(message, field=f"{name}.role")
    return Message(given["role"], given["content"])


class _Ids(LineTable):
    """The ids given so far, and the lines they stand on."""

    def __init__(self) -> None:
        super().__init__()
        self._repeats: dict[str, int] = {}

    def derived(self, content: object, line: int) -> str:
        """A new id for a row without one.

        The same content, in the same place among its repeats, has the same id in every file.
        """
        base = digest(content)[:16]
        count = self._repeats.get(base, 1)
        name = base if count == 1 else f"{base}-{count}"
        while self.claim(name, line) is not None:
            count += 1
            name = f"{base}-{count}"
        if count > 1:
            self._repeats[base] = count
        return name


class _Row:
    """One row of a file: fields are taken out of it, what is left is its `rest`."""

    def __init__(self, fields: Mapping[str, Any], path: str, line: int) -> None:
        # null means absent: formats with fixed columns cannot say it otherwise.
        self._fields = {key: value for key, value in fields.items() if value is not None}
        self._columns = list(self._fields)
        self._path = path
        self._line = line

    def fail(self, message: str, name: str | None = None) -> NoReturn:
        raise SpecError(message, path=self._path, line=self._line, field=name)

    @contextmanager
    def _located(self) -> Iterator[None]:
        try:
            yield
        except SpecError as error:
            if error.path is None:
                raise SpecError(
                    error.message, path=self._path, line=self._line, field=error.field
                ) from None
            raise

    def take_prompt(self) -> tuple[Messages, str | None, dict[str, Any]]:
        """The prompt, its reference, and what MT-Bench's own columns put in `meta`."""
        turns = self._fields.get("turns")
        if turns is None and "prompt" not in self._fields and self._has_own_rubric():
            return self._take_rubric_prompt()
        if "prompt" in self._fields or turns is None:
            value = self._required("prompt")
            with self._located():
                return prompt_messages(value), self._text("reference"), {}
        if not isinstance(turns, list) or not turns or not all(isinstance(t, str) for t in turns):
            self.fail(f"should be a list of texts, found {describe(turns)}", "turns")
        with self._located():
            prompt = prompt_messages(turns[0])
        reference = self._fields.get("reference")
        if not isinstance(reference, list):
            return prompt, self._text("reference"), {}
        del self._fields["reference"]
        if not all(isinstance(answer, str) for answer in reference):
            self.fail("should be text, or a list of texts", "reference")
        return prompt, (reference[0] or None) if reference else None, {"references": reference}

    def _has_own_rubric(self) -> bool:
        """Whether the row is one of BiGGen-Bench's or Prometheus's: a rubric and an input."""
        given = self._fields.keys()
        return bool(given & {"score_rubric", "rubric"} and given & {"input", "instruction"})

    def _take_rubric_prompt(self) -> tuple[Messages, str | None, dict[str, Any]]:
        """The prompt and the reference of such a row; the rubric stays for `meta`."""
        name = "input" if "input" in self._fields else "instruction"
        value, system = self._required(name), self._text("system_prompt")
        with self._located():
            asked = _messages(value, name, "user")
        if not asked[-1].content.strip():
            self.fail("is empty", name)
        if system is not None:
            asked = (Message("system", system), *asked)
        return asked, self._text("reference") or self._text("reference_answer"), {}

    def take_candidates(self, kind: DataKind) -> tuple[Candidate, ...]:
        """The responses of the row."""
        if kind == "score":
            return (self._candidate("1", "response", "model"),)
        if kind == "compare":
            return (
                self._candidate("A", "response_a", "model_a"),
                self._candidate("B", "response_b", "model_b"),
            )
        return self._ranked()

    def _candidate(self, name: str, column: str, model_column: str) -> Candidate:
        value = self._required(column)
        with self._located():
            return Candidate(name, response_messages(value, column), self._text(model_column))

    def _ranked(self) -> tuple[Candidate, ...]:
        value = self._required("responses")
        if not isinstance(value, list):
            self.fail(f"should be a list of responses, found {describe(value)}", "responses")
        if len(value) < 2:
            self.fail(f"needs two responses or more to rank, found {len(value)}", "responses")
        with self._located():
            candidates = tuple(_listed(entry, i) for i, entry in enumerate(value))
        names = [candidate.id for candidate in candidates]
        for index, name in enumerate(names):
            if name in names[:index]:
                self.fail(f"id {name[:60]!r} is given twice", f"responses.{index}.id")
        return candidates

    def rest(self) -> dict[str, Any]:
        """The given `meta` and every column that nothing took."""
        meta = self._fields.pop("meta", {})
        if not isinstance(meta, Mapping):
            self.fail(f"should be a mapping, found {describe(meta)}", "meta")
        others = {key: value for key, value in self._fields.items() if key != "id"}
        if both := sorted(set(meta) & set(others)):
            self.fail("is both a column and in meta", f"meta.{both[0]}")
        with self._located():
            return {k: plain(v, f"meta.{k}") for k, v in (others | {**meta}).items()}

    def item(
        self,
        ids: _Ids,
        prompt: Messages,
        reference: str | None,
        meta: dict[str, Any],
        candidates: tuple[Candidate, ...],
    ) -> Item:
        """The item, under its own id, MT-Bench's `question_id`, or one made from its content."""
        column = "id" if "id" in self._fields else "question_id"
        name = self._fields.get(column)
        if name is None:
            content = as_dict([prompt, reference, meta, candidates])
            return Item(ids.derived(content, self._line), prompt, reference, meta)
        if isinstance(name, bool) or not isinstance(name, str | int):
            self.fail(f"should be text or a whole number, found {describe(name)}", column)
        name = str(name)
        if not name.strip():
            self.fail("is empty", column)
        if (first := ids.claim(name, self._line)) is not None:
            self.fail(f"{name[:60]!r} is also the id of line {first}", column)
        return Item(name, prompt, reference, meta)

    def _required(self, name: str) -> Any:
        if name not in self._fields:
            shown = ", ".join(map(repr, self._columns[:8])) or "nothing"
            self.fail(f"is missing; the row has {shown}", name)
        return self._fields.pop(name)

    def _text(self, name: str) -> str | None:
        value = self._fields.pop(name, None)
        if value is not None and not isinstance(value, str):
            self.fail(f"should be text, found {describe(value)}", name)
        return value or None


def plain(value: Any, name: str, depth: int = 0) -> Any:
    """`value` as JSON has it, so that it can stand in a verdict.

    Raises:
        SpecError: JSON cannot say it, or it is nested too deeply; `name` is the field.
    """
    if isinstance(value, str | int) or value is None:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping | list | tuple):
        if depth == MAX_DEPTH:
            raise SpecError(f"is nested deeper than {MAX_DEPTH} levels", field=name)
        if isinstance(value, Mapping):
            return {str(k): plain(v, name, depth + 1) for k, v in value.items()}
        return [plain(entry, name, depth + 1) for entry in value]
    if hasattr(value, "isoformat"):  # dates and times of Parquet
        return value.isoformat()
    message = f"holds {describe(value)}, which JSON cannot say; drop the column"
    raise SpecError(message, field=name)


def _listed(value: object, index: int) -> Candidate:
    """One entry of `responses`."""
    name = f"responses.{index}"
    if not isinstance(value, Mapping):
        return Candidate(str(index + 1), response_messages(value, name))
    given = {key: entry for key, entry in value.items() if entry is not None}
    if "response" not in given:
        raise SpecError("is missing", field=f"{name}.response")
    for key in sorted(set(given) - {"id", "model", "response"}):
        hint = suggestion(str(key), ("id", "model", "response"))
        raise SpecError(f"is not a known field; {hint}", field=f"{name}.{key}")
    for key in ("id", "model"):
        if key in given and not (isinstance(given[key], str) and given[key]):
            raise SpecError(f"should be text, found {describe(given[key])}", field=f"{name}.{key}")
    response = response_messages(given["response"], f"{name}.response")
    return Candidate(given.get("id", str(index + 1)), response, given.get("model"))


# Rows of each format.


def _rows(
    source: str | Path | Iterable[Mapping[str, Any]], limit: int | None, stdin: BinaryIO | None
) -> Iterator[_Row]:
    """Rows of `source`, at most `limit`; at least one."""
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of rows should be 1 or more, found {limit}")
    if isinstance(source, str | Path):
        path, numbered = _numbered_rows(str(source), stdin)
    else:
        path, numbered = "row", enumerate(source, start=1)
    found = False
    for line, fields in islice(numbered, limit):
        found = True
        if not isinstance(fields, Mapping):
            raise SpecError(
                f"a row should be a mapping, found {describe(fields)}", path=path, line=line
            )
        yield _Row(fields, path, line)
    if not found:
        raise SpecError("holds no rows", path=path)


def _numbered_rows(source: str, stdin: BinaryIO | None) -> tuple[str, Iterator[tuple[int, Any]]]:
    """The name of `source` for errors, and its rows with their numbers."""
    if source == "-":
        stream = sys.stdin.buffer if stdin is None else stdin
        return "<stdin>", jsonl_rows(stream, "<stdin>")
    return source, file_rows(source)
