"""Small benchmark files in the published formats, and the commands run on them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from rlaif.cli.evaluate import app
from rlaif.cli.main import exit_code

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write a haiku.", "Make it rhyme."]},
    {
        "question_id": 111,
        "category": "math",
        "turns": ["What is 2+2?", "And times 3?"],
        "reference": ["4", "12"],
    },
]


@dataclass(frozen=True)
class Ran:
    """How a command of `rlaif eval` ended."""

    code: int
    out: str
    err: str
    error: str

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def run_eval(*words: object) -> Ran:
    """Run `rlaif eval WORDS` in this process; an error becomes its exit code."""
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        from rlaif.errors import RlaifError

        if not isinstance(result.exception, RlaifError):
            raise result.exception
        code, error = exit_code(result.exception), str(result.exception)
        return Ran(code, result.stdout, result.stderr, error)
    return Ran(result.exit_code, result.stdout, result.stderr, "")


def jsonl(path: Path, rows: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def script(path: Path, *rows: dict[str, Any]) -> str:
    """The address of a backend that replies by the script `rows`."""
    return f"scripted/{jsonl(path, rows)}"


def answer(question_id: object, *turns: str, model: str = "m") -> dict[str, Any]:
    choices = [{"index": 0, "turns": list(turns)}]
    return {"question_id": question_id, "answer_id": "x", "model_id": model, "choices": choices}


def answers_folder(folder: Path, **models: list[dict[str, Any]]) -> Path:
    for model, rows in models.items():
        jsonl(folder / f"{model}.jsonl", rows)
    return folder


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
