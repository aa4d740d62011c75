"""Rows of the files people keep data in, each with the line it begins on.

    for line, row in file_rows("annotations.json.gz"):
        ...

JSONL, CSV, Parquet and `datasets` folders are streamed; a JSON array is held as text. A byte order
mark, CRLF, blank lines, a missing last newline, NUL and lone surrogates are all read as they are.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from rlaif.errors import ConfigError, SpecError

MAX_ROW_BYTES = 64 << 20
"""Longest line of JSONL or CSV, in bytes."""
MAX_JSON_BYTES = 256 << 20
"""Largest JSON array, in bytes: unlike the other formats it is held in memory."""

_BATCH_ROWS = 256
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class LineTable:
    """Which line each name stands on: an open-addressed table of 8-byte hashes.

    A million names take 25 MB, where a dict takes 140. Two names that share a hash are taken for
    one, which among a million happens once in thirty million files.
    """

    def __init__(self) -> None:
        self._count = 0
        self._allot(1 << 10)

    def __len__(self) -> int:
        return self._count

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

    def get(self, name: str) -> int | None:
        """The line that has `name`, counted from 1."""
        return self._lines[self._slot(_hashed(name))] or None

    def claim(self, name: str, line: int) -> int | None:
        """Take `name` for the row at `line`; the line that has it already, if one does."""
        key = _hashed(name)
        slot = self._slot(key)
        if self._lines[slot]:
            return self._lines[slot]
        self._hashes[slot], self._lines[slot] = key, line
        self._count += 1
        if 3 * self._count > 2 * len(self._hashes):
            self._grow()
        return None

    def put(self, name: str, line: int) -> None:
        """Give `name` to the row at `line`, whoever had it."""
        if self.claim(name, line) is not None:
            self._lines[self._slot(_hashed(name))] = line


def _hashed(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def file_rows(path: str | Path, *, lenient: bool = False) -> Iterator[tuple[int, Any]]:
    """The rows of a file with the line each begins on (the row number in Parquet and `datasets`).

    Args:
        path: A file (.jsonl, .ndjson, .json, .csv, .tsv, each also .gz, or .parquet), a folder
            written by `datasets`, or a pipe of JSONL.
        lenient: Read the NaN and Infinity that other tools write into JSON as null, and keep every
            cell of CSV as the text it is, the empty ones too.

    Raises:
        SpecError: the file cannot be read, or a line of it cannot.
        ConfigError: the format needs a package that is not installed.
    """
    path = str(path)
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
        return _opened_rows(path, zipped, ".jsonl", lenient)
    if suffix[0] not in _READERS:
        if not place.exists():
            raise SpecError("there is no such file", path=path)
        known = ", ".join((*_READERS, ".parquet"))
        raise SpecError(f"is of a kind that is not read here; known: {known}", path=path)
    return _opened_rows(path, zipped, suffix[0], lenient)


def _opened_rows(path: str, zipped: bool, suffix: str, lenient: bool) -> Iterator[tuple[int, Any]]:
    try:
        with gzip.open(path, "rb") if zipped else Path(path).open("rb") as file:
            yield from _READERS[suffix](file, path, lenient)  # type: ignore[arg-type]
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


def jsonl_rows(file: BinaryIO, path: str, lenient: bool = False) -> Iterator[tuple[int, Any]]:
    """The values of JSONL in `file`, which errors call `path`, with their line numbers."""
    decoder = _LENIENT if lenient else _STRICT
    for number, line in _lines(file, path):
        if line.strip():
            yield number, _parsed(line, path, number, decoder=decoder)


def _parsed(
    text: str,
    path: str,
    number: int,
    name: str | None = None,
    decoder: json.JSONDecoder | None = None,
) -> Any:
    try:
        return (decoder or _STRICT).decode(text)
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


_STRICT = json.JSONDecoder(parse_constant=_reject_constant, parse_float=_finite)
_LENIENT = json.JSONDecoder(parse_constant=lambda name: None, parse_float=_finite)


def _json_rows(file: BinaryIO, path: str, lenient: bool) -> Iterator[tuple[int, Any]]:
    """Rows of a JSON array, with the line each begins on; or JSONL under the name .json."""
    content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise SpecError(
            f"is larger than {MAX_JSON_BYTES:,} bytes; as JSONL it could be streamed", path=path
        )
    text = _decoded(content, path, 1)
    start = _skip_space(text, 0)
    if text[start : start + 1] == "[":
        return _array_rows(text, start, path, _LENIENT if lenient else _STRICT)
    if text[start : start + 1] == "{" and not _is_json(text[start:].split("\n", 1)[0], lenient):
        line = text.count("\n", 0, start) + 1
        raise SpecError("should hold a list of rows, or one row a line", path=path, line=line)
    return jsonl_rows(BytesIO(content), path, lenient)


def _is_json(text: str, lenient: bool) -> bool:
    try:
        (_LENIENT if lenient else _STRICT).decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _array_rows(
    text: str, start: int, path: str, decoder: json.JSONDecoder
) -> Iterator[tuple[int, Any]]:
    line, counted = 1, 0
    at = _skip_space(text, start + 1)
    if text[at : at + 1] != "]":
        while True:
            line, counted = line + text.count("\n", counted, at), at
            try:
                row, end = decoder.raw_decode(text, at)
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


def _csv_rows(file: BinaryIO, path: str, lenient: bool) -> Iterator[tuple[int, Any]]:
    return _delimited_rows(file, path, ",", lenient)


def _tsv_rows(file: BinaryIO, path: str, lenient: bool) -> Iterator[tuple[int, Any]]:
    return _delimited_rows(file, path, "\t", lenient)


def _delimited_rows(
    file: BinaryIO, path: str, delimiter: str, lenient: bool
) -> Iterator[tuple[int, Any]]:
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
            record = _record(header, cells, path, number)
            yield number, record if lenient else _filled(record, path, number)


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
    return dict(zip(header, cells, strict=True))


def _filled(record: dict[str, Any], path: str, number: int) -> dict[str, Any]:
    # An empty cell is absent, but for a response, which may be empty.
    row = {k: cell for k, cell in record.items() if cell or k.startswith("response")}
    for name in ("responses", "turns", "meta"):
        if row.get(name):
            row[name] = _parsed(row[name], path, number, name)
    return row


_READERS = {
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
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
