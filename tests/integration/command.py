"""The command line as a test runs it: in this process, or as a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        value, end = json.JSONDecoder().raw_decode(self.out)
        assert self.out[end:].strip() == ""
        assert isinstance(value, dict)
        return value

    @property
    def error(self) -> str:
        """The one line on standard error, after `error: `."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert self.out == ""
        return lines[0].removeprefix("error: ")


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script of that name, as a module."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts"))
    return importlib.import_module(name)


def rlaif(*words: object, stdin: bytes = b"") -> Result:
    """Run `rlaif WORDS` in this process."""
    from rlaif.cli.main import main

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in "12")
    given = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    code: object = 0
    with (
        mock.patch.object(sys, "argv", ["rlaif", *map(str, words)]),
        mock.patch.object(sys, "stdin", given),
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return Result(int(code or 0), *texts)  # type: ignore[call-overload]


def start(*words: object, home: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start `rlaif WORDS` as a process of its own, its output kept for `communicate`."""
    return subprocess.Popen(
        [sys.executable, "-m", "rlaif", *map(str, words)],
        env={
            **{k: v for k, v in os.environ.items() if k in {"PATH", "HOME"}},
            "PYTHONPATH": str(REPOSITORY),
            "RLAIF_HOME": str(home),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell that runs the tests in the background hands down a Ctrl-C that is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def rows(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a JSONL file."""
    # not `splitlines`: text in JSON may hold other characters that it takes for line ends
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def write_rows(path: Path, *rows: dict[str, Any]) -> Path:
    """A JSONL file of `rows`."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """`process`, dead at the end of the block whatever happened in it."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextlib.contextmanager
def serving(*words: object, home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server process of any port with its URL; killed when the block ends, if it still runs."""
    with running(start("serve", *words, "--port", "0", home=home)) as process:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield process, found[0]
