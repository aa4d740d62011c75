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

import csv
import gzip
import json
import math
import sys
import zlib
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, get_args

from rlaif.canonical import digest
from rlaif.errors import ConfigError, SpecError, suggestion
from rlaif.specs.describe import describe
from rlaif.types import Candidate, Item, Message, Messages, Role, as_dict

DataKind = Literal["score", "compare", "rank"]

MAX_ROW_BYTES = 64 << 20
"""Longest line of JSONL or CSV, in bytes."""
MAX_JSON_BYTES = 256 << 20
"""Largest JSON array, in bytes: unlike the other formats it is held in memory."""

MAX_DEPTH = 50
"""Deepest nesting of what goes to `meta`."""

_ROLES: tuple[Role, ...] = get_args(Role)
_BATCH_ROWS = 256
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


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
    source: str | Path,
    kind: DataKind,
    *,
    limit: int | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[tuple[Item, tuple[Candidate, ...]]]:
    """Items of a DATA file with their candidates: one to score, two to compare, or N to rank.

    Candidates are called `1` (score), `A` and `B` (compare), or by their own ids, else their
    position from `1` (rank).

    Args:
        source: As for `read_prompts`.
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


def _response_messages(value: object, name: str) -> Messages:
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


class _Ids:
    """The ids given so far: an open-addressed table of 8-byte hashes and the lines they stand on.

    A million rows take 25 MB, where a dict of integers takes 140.
    """

    def __init__(self) -> None:
        self._count = 0
        self._repeats: dict[str, int] = {}
        self._allot(1 << 10)

    def _allot(self, slots: int) -> None:
        self._mask = slots - 1
        self._hashes = array("Q", bytes(8 * slots))
        self._lines = array("I", bytes(4 * slots))  # 0: a free slot

    def _grow(self) -> None:
        hashes, lines = self._hashes, self._lines
        self._allot(2 * len(hashes))
        for key, line in zip(hashes, lines, strict=True):
            if line:
                slot = self._slot(key)
                self._hashes[slot], self._lines[slot] = key, line

    def _slot(self, key: int) -> int:
        slot = key & self._mask
        while self._lines[slot] and self._hashes[slot] != key:
            slot = (slot + 1) & self._mask
        return slot

    def claim(self, name: str, line: int) -> int | None:
        """Take `name` for the row at `line`; the line that has it already, if one does."""
        key = int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        slot = self._slot(key)
        if self._lines[slot]:
            return self._lines[slot]
        self._hashes[slot], self._lines[slot] = key, line
        self._count += 1
        if 3 * self._count > 2 * len(self._hashes):
            self._grow()
        return None

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
            return Candidate(name, _response_messages(value, column), self._text(model_column))

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
        return {
            key: self._plain(value, f"meta.{key}") for key, value in (others | {**meta}).items()
        }

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

    def _plain(self, value: Any, name: str, depth: int = 0) -> Any:
        """`value` as JSON has it, so that it can stand in a verdict."""
        if isinstance(value, str | int) or value is None:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, Mapping | list | tuple):
            if depth == MAX_DEPTH:
                self.fail(f"is nested deeper than {MAX_DEPTH} levels", name)
            if isinstance(value, Mapping):
                return {str(k): self._plain(v, name, depth + 1) for k, v in value.items()}
            return [self._plain(entry, name, depth + 1) for entry in value]
        if hasattr(value, "isoformat"):  # dates and times of Parquet
            return value.isoformat()
        return self.fail(f"holds {describe(value)}, which JSON cannot say; drop the column", name)


def _listed(value: object, index: int) -> Candidate:
    """One entry of `responses`."""
    name = f"responses.{index}"
    if not isinstance(value, Mapping):
        return Candidate(str(index + 1), _response_messages(value, name))
    given = {key: entry for key, entry in value.items() if entry is not None}
    if "response" not in given:
        raise SpecError("is missing", field=f"{name}.response")
    for key in sorted(set(given) - {"id", "model", "response"}):
        hint = suggestion(str(key), ("id", "model", "response"))
        raise SpecError(f"is not a known field; {hint}", field=f"{name}.{key}")
    for key in ("id", "model"):
        if key in given and not (isinstance(given[key], str) and given[key]):
            raise SpecError(f"should be text, found {describe(given[key])}", field=f"{name}.{key}")
    response = _response_messages(given["response"], f"{name}.response")
    return Candidate(given.get("id", str(index + 1)), response, given.get("model"))


# Rows of each format.


def _rows(source: str | Path, limit: int | None, stdin: BinaryIO | None) -> Iterator[_Row]:
    """Rows of `source`, at most `limit`; at least one."""
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of rows should be 1 or more, found {limit}")
    path, numbered = _numbered_rows(str(source), stdin)
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
        return "<stdin>", _jsonl_rows(stream, "<stdin>")
    return source, _file_rows(source)


def _file_rows(path: str) -> Iterator[tuple[int, Any]]:
    if "\0" in path:
        raise SpecError("is not a file name", path=path)
    place = Path(path)
    try:
        if place.is_dir():
            return _datasets_rows(place)
        suffixes = [suffix.lower() for suffix in place.suffixes]
        is_pipe = place.exists() and not place.is_file()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror or error}", path=path) from None
    zipped = suffixes[-1:] == [".gz"]
    suffix = (suffixes[-2:-1] if zipped else suffixes[-1:]) or [""]
    if suffix[0] == ".parquet" and not zipped:
        return _parquet_rows(path)
    if is_pipe and suffix[0] not in _READERS:
        return _opened_rows(path, zipped, ".jsonl")
    if suffix[0] not in _READERS:
        if not place.exists():
            raise SpecError("there is no such file", path=path)
        known = ", ".join((*_READERS, ".parquet"))
        raise SpecError(f"is of a kind that is not read here; known: {known}", path=path)
    return _opened_rows(path, zipped, suffix[0])


def _opened_rows(path: str, zipped: bool, suffix: str) -> Iterator[tuple[int, Any]]:
    try:
        with gzip.open(path, "rb") if zipped else Path(path).open("rb") as file:
            yield from _READERS[suffix](file, path)  # type: ignore[arg-type]
    except FileNotFoundError:
        raise SpecError("there is no such file", path=path) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SpecError(f"is not a whole gzip file: {error}", path=path) from None
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror or error}", path=path) from None


def _lines(file: BinaryIO, path: str) -> Iterator[tuple[int, str]]:
    """Decoded lines with their numbers, ends kept, without a byte order mark."""
    number = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES:
            raise SpecError(f"is longer than {MAX_ROW_BYTES:,} bytes", path=path, line=number)
        yield number, _decoded(line, path, number)


def _decoded(content: bytes, path: str, number: int) -> str:
    """Text of `content`, which begins at line `number` of the file."""
    is_start = number == 1
    try:
        return content.decode("utf-8-sig" if is_start else "utf-8")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the byte order mark.
        at = error.start + (3 if is_start and content.startswith(b"\xef\xbb\xbf") else 0)
        line = number + content.count(b"\n", 0, at)
        byte = at - content.rfind(b"\n", 0, at)
        hint = "; save the file as UTF-8" if is_start and content.startswith(_UTF16) else ""
        message = f"is not UTF-8 at byte {byte} of the line{hint}"
        raise SpecError(message, path=path, line=line) from None


def _jsonl_rows(file: BinaryIO, path: str) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(file, path):
        if line.strip():
            yield number, _parsed(line, path, number)


def _parsed(text: str, path: str, number: int, name: str | None = None) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        message = _json_fault(error)
        raise SpecError(message, path=path, line=number, field=name) from None


def _json_fault(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON at column {error.colno}: {error.msg}"
    if isinstance(error, RecursionError):
        return "is not JSON that can be read: it is nested too deeply"
    return f"is not JSON: {error}"


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_reject_constant, parse_float=_finite)


def _json_rows(file: BinaryIO, path: str) -> Iterator[tuple[int, Any]]:
    """Rows of a JSON array, with the line each begins on; or JSONL under the name .json."""
    content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise SpecError(
            f"is larger than {MAX_JSON_BYTES:,} bytes; as JSONL it could be streamed", path=path
        )
    text = _decoded(content, path, 1)
    start = _skip_space(text, 0)
    if text[start : start + 1] == "[":
        return _array_rows(text, start, path)
    if text[start : start + 1] == "{" and not _is_json(text[start:].split("\n", 1)[0]):
        line = text.count("\n", 0, start) + 1
        raise SpecError("should hold a list of rows, or one row a line", path=path, line=line)
    return _jsonl_rows(BytesIO(content), path)


def _is_json(text: str) -> bool:
    try:
        _DECODER.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _array_rows(text: str, start: int, path: str) -> Iterator[tuple[int, Any]]:
    line, counted = 1, 0
    at = _skip_space(text, start + 1)
    if text[at : at + 1] != "]":
        while True:
            line, counted = line + text.count("\n", counted, at), at
            try:
                row, end = _DECODER.raw_decode(text, at)
            except json.JSONDecodeError as error:
                message = f"is not JSON at column {error.colno}: {error.msg}"
                raise SpecError(message, path=path, line=error.lineno) from None
            except (ValueError, RecursionError) as error:
                raise SpecError(_json_fault(error), path=path, line=line) from None
            yield line, row
            at = _skip_space(text, end)
            if text[at : at + 1] != ",":
                break
            at = _skip_space(text, at + 1)
    rest = text[at + 1 :].strip()
    if text[at : at + 1] != "]" or rest:
        line += text.count("\n", counted, at)
        what = "more text behind the list" if rest and text[at] == "]" else "expected ',' or ']'"
        raise SpecError(f"is not JSON: {what}", path=path, line=line)


def _skip_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\n", "\r", "\t"):
        at += 1
    return at


def _csv_rows(file: BinaryIO, path: str) -> Iterator[tuple[int, Any]]:
    return _delimited_rows(file, path, ",")


def _tsv_rows(file: BinaryIO, path: str) -> Iterator[tuple[int, Any]]:
    return _delimited_rows(file, path, "\t")


def _delimited_rows(file: BinaryIO, path: str, delimiter: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(MAX_ROW_BYTES)  # of the whole process; the default is 128 KiB
    reader = csv.reader((line for _, line in _lines(file, path)), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise SpecError(f"is not CSV: {error}", path=path, line=reader.line_num) from None
        if cells is None:
            return
        if not header:
            header = _header(cells, path, number)
        elif cells:
            yield number, _record(header, cells, path, number)


def _header(cells: list[str], path: str, number: int) -> list[str]:
    for index, name in enumerate(cells):
        if name in cells[:index]:
            raise SpecError("is the name of two columns", path=path, line=number, field=name)
    return cells


def _record(header: list[str], cells: list[str], path: str, number: int) -> dict[str, Any]:
    if len(cells) != len(header):
        raise SpecError(
            f"has {len(cells)} cells where the header has {len(header)}", path=path, line=number
        )
    # An empty cell is absent, but for a response, which may be empty.
    row: dict[str, Any] = {
        name: cell
        for name, cell in zip(header, cells, strict=True)
        if cell or name.startswith("response")
    }
    for name in ("responses", "turns", "meta"):
        if row.get(name):
            row[name] = _parsed(row[name], path, number, name)
    return row


_READERS = {
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
}


def _parquet_rows(path: str) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise _needs_train("Parquet", path) from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except FileNotFoundError:
        raise SpecError("there is no such file", path=path) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise SpecError(f"is not Parquet that can be read: {reason}", path=path) from None


def _datasets_rows(folder: Path) -> Iterator[tuple[int, Any]]:
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(p.parent.name for p in folder.glob("*/dataset_info.json"))
        hint = f"{folder}/{splits[0]}" if splits else "one of them"
        raise SpecError(
            f"holds the splits {', '.join(splits) or '(none)'}; name one, such as {hint}",
            path=folder,
        )
    if not (folder / "state.json").is_file():
        raise SpecError("is a folder, and not one that datasets.save_to_disk wrote", path=folder)
    try:
        import datasets
    except ImportError:
        raise _needs_train("a datasets folder", folder) from None
    try:
        yield from enumerate(datasets.load_from_disk(str(folder)), 1)
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are among them
        reason = str(error).partition("\n")[0]
        raise SpecError(f"is not a dataset that can be read: {reason}", path=folder) from None


def _needs_train(what: str, path: str | Path) -> ConfigError:
    return ConfigError(f"{path}: reading {what} needs: pip install 'rlaif[train]'")
