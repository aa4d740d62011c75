"""A run folder: the resolved configuration, the verdicts, the summary, and what a command made.

A folder belongs to one configuration. Running the same command again resumes it; another
configuration is refused, and the error names what differs, unless that command has made nothing
yet; so is a second process while one is writing. Files appear whole or not at all.
"""

from __future__ import annotations

import io
import json
import math
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from rlaif.errors import ConfigError, SpecError, StoreError
from rlaif.store.locks import LOCKS, lock_file, lock_folder
from rlaif.types import Candidate, Item, Verdict

_OURS = {"config.json.partial"}
"""What a run leaves behind that was killed before it began."""


class RunFolder:
    """The folder of one run. No other process can open it as long as this object lives.

    Args:
        path: The folder; made when absent.
        config: Everything that decides the result, resolved, with digests of files.
        grows: Settings that may be larger than those of the run in the folder, None being the
            largest: such a run goes on where that one ended.

    Raises:
        ConfigError: the folder holds a run with another configuration, is not a run folder, or
            another process is writing to it.
        StoreError: the disk is full.
    """

    def __init__(
        self, path: Path, config: Mapping[str, Any], *, grows: Collection[str] = ()
    ) -> None:
        self.path = path
        config = json.loads(json.dumps(config))
        saved = path / "config.json"
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path)
            is_run = saved.exists()
            is_taken = not is_run and any(name not in _OURS for name in os.listdir(path))  # noqa: PTH208
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"{path} cannot be a folder ({reason}): choose another -o") from error
        if is_run:
            before = read_json(saved)
            if not (_same_settings(before, config) and _made_nothing(path)):
                _compare(path, before, config, grows)
            if before != config:
                self.write_json("config.json", config)
        elif is_taken:
            raise ConfigError(
                f"{path} holds other files and is not a run folder: choose another -o"
            )
        else:
            self.write_json("config.json", config)

    def write_json(self, name: str, value: Any) -> Path:
        """Write one JSON file, whole or not at all."""
        with self.open_whole(name) as file:
            file.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return self.path / name

    @contextmanager
    def open_whole(self, name: str) -> Iterator[TextIO]:
        """A text file that takes its place only when the block ends without an error.

        After an error or an interruption what was written stays beside it as `NAME.partial`.
        """
        with whole_file(self.path / name) as file:
            yield file


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file that replaces `path` only when the block ends without an error.

    It is on the disk before it has the name, so a power cut leaves the old file or the new one.
    What a killed process left in `NAME.partial` is written over. Text that UTF-8 cannot carry (a
    lone surrogate) is escaped as JSON escapes it, not lost. A device or a pipe is not replaced, but
    written to.

    Raises:
        StoreError: the disk is full, the folder cannot be written, there is a folder of that name,
            or another process is writing the same file.
    """
    if os.path.isdir(path):  # noqa: PTH112 - of a name that is too long pathlib would not say no
        raise StoreError(f"cannot write {path}: it is a folder")
    if is_stream(path):
        with _text(_Written(path, path)) as file:
            yield file
        return
    partial = path.with_name(path.name + ".partial")
    with _text(_PartialFile(partial, path)) as file:
        yield file
        file.flush()
        try:
            os.fsync(file.fileno())
            if not LOCKS:  # Windows renames no open file
                file.close()
            partial.replace(path)  # before the close, which gives the lock back
        except OSError as error:
            raise StoreError(_not_written(path, error)) from error
    with suppress(OSError):  # not every file system can write a folder down
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe or a socket, which take text but cannot be replaced."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _text(file: io.FileIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(file, 1 << 16), encoding="utf-8", errors="backslashreplace", newline="\n"
    )


class _Written(io.FileIO):
    """A file whose errors are ours and name `final`."""

    def __init__(self, file: Path | int, final: Path) -> None:
        self._final = final
        try:
            super().__init__(file, "wb")
        except OSError as error:
            raise StoreError(_not_written(final, error)) from error

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            raise StoreError(_not_written(self._final, error)) from error


class _PartialFile(_Written):
    """A file that only this writer writes to."""

    def __init__(self, path: Path, final: Path) -> None:
        try:
            locked = lock_file(path)
        except OSError as error:
            raise StoreError(_not_written(final, error)) from error
        super().__init__(locked, final)


def _not_written(path: Path, error: OSError) -> str:
    return f"cannot write {path}: {error.strerror or error}"


def _same_settings(saved: Any, config: Mapping[str, Any]) -> bool:
    """Whether a configuration is of the same command, whatever its values are."""
    return isinstance(saved, dict) and saved.keys() == config.keys()


def _made_nothing(path: Path) -> bool:
    """Whether the run in a folder ended before it had made anything, and nobody is writing it.

    So a mistyped model, which is found out at the first call, does not take the folder.
    """
    left = [entry for entry in path.iterdir() if entry.name != "config.json"]
    if any(file.suffix != ".partial" or file.stat().st_size for file in left):
        return False
    for file in left:
        try:
            os.close(lock_file(file))
        except OSError:
            return False
    return True


def _compare(path: Path, saved: Any, config: Mapping[str, Any], grows: Collection[str]) -> None:
    """Raise `ConfigError` where `config` is not that of the run in the folder; names what differs,
    within mappings too.
    """
    if not isinstance(saved, dict):
        raise ConfigError(f"{path / 'config.json'} is not a run's configuration")
    differing = [
        f"{name} was {_shown(was)}, is {_shown(now)}"
        for name, was, now in _differences(saved, config)
        if not (name in grows and was is not None and (now is None or now > was))
    ]
    if differing:
        more = f"; and {len(differing) - 8} more" if len(differing) > 8 else ""
        shown = "; ".join(differing[:8]) + more
        raise ConfigError(f"{path} holds another run ({shown}): choose another -o")


def _differences(
    saved: Mapping[str, Any], config: Mapping[str, Any], within: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Each setting that differs, by its dotted name, with its two values."""
    for key in sorted({*saved, *config}):
        was, now = saved.get(key), config.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _differences(was, now, f"{within}{key}.")
        elif was != now:
            yield f"{within}{key}", was, now


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        SpecError: no such file, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError("no such file", path=path) from None
    except (OSError, ValueError) as error:
        raise SpecError(f"not readable as JSON: {error}", path=path) from error


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with their line numbers, blank lines left out."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise SpecError(error.strerror or str(error), path=path) from error
    with file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, read_row(line, path, number)


def read_row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """The JSON object on line `number` of the file at `path`.

    Raises:
        SpecError: it holds another value, or none.
    """
    try:
        row = json.loads(line, parse_constant=finite_number, parse_float=finite_number)
    except (ValueError, RecursionError) as error:  # broken UTF-8 is a ValueError too
        raise SpecError(f"not JSON: {error}", path=path, line=number) from error
    if not isinstance(row, dict):
        raise SpecError("not a JSON object", path=path, line=number)
    return row


def file_of_run(path: Path, name: str) -> Path:
    """The file `name` of a run folder, or the file that `path` is.

    Raises:
        SpecError: the folder has no such file; says whether its run was not finished.
    """
    if not path.is_dir():
        return path
    file = path / name
    if not file.exists():
        if file.with_name(f"{name}.partial").exists():
            raise SpecError(f"no {name} yet: run the command that made it again", path=path)
        raise SpecError(f"is not a run that has made a {name}", path=path)
    return file


def finite_number(text: str) -> float:
    """The number in `text`. NaN and infinities are not JSON, and would spoil what is computed."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a finite number")
    return number


def read_verdicts(path: Path) -> Iterator[Verdict]:
    """The verdicts of a `verdicts.jsonl`, or of the run folder that holds one, one at a time.

    Raises:
        SpecError: no such file, or a line that is no verdict: names the line and the field.
    """
    path = file_of_run(path, "verdicts.jsonl")
    for number, row in read_rows(path):
        try:
            yield Verdict.from_dict(row)
        except SpecError as error:
            raise SpecError(error.message, path=path, line=number, field=error.field) from None


def read_candidates(path: Path) -> Iterator[tuple[Item, tuple[Candidate, ...]]]:
    """The items and candidates of a `candidates.jsonl`, or of the run folder that holds one.

    Raises:
        SpecError: no such file, or a line that does not fit: names the line and the field.
    """
    from pydantic import TypeAdapter, ValidationError

    items: TypeAdapter[Item] = TypeAdapter(Item)
    candidates: TypeAdapter[tuple[Candidate, ...]] = TypeAdapter(tuple[Candidate, ...])
    path = file_of_run(path, "candidates.jsonl")
    for number, row in read_rows(path):
        try:
            found = candidates.validate_python(row.pop("candidates"))
            row.pop("draws", None)
            yield items.validate_python(row), found
        except KeyError:
            raise SpecError("no list of candidates", path=path, line=number) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise SpecError(first["msg"], path=path, line=number, field=field) from None
