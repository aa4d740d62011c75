"""FastChat's files of an MT-Bench run: `model_answer/` and `model_judgment/`.

Files of the same name are replaced only where they hold nothing that the run does not make anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rlaif.canonical import digest, json_line
from rlaif.errors import ConfigError
from rlaif.evals.fields import rows_of
from rlaif.evals.formats import mt_bench_pair, mt_bench_single
from rlaif.evals.formats.exports import ExportReport
from rlaif.evals.mt_bench import Answers, Kind, Match, Question
from rlaif.evals.mt_bench_judges import TurnJudge
from rlaif.store.runs import whole_file
from rlaif.types import Request, Verdict

_ANSWER_KEY = ("question_id",)
_KEYS: dict[Kind, tuple[str, ...]] = {
    "single": ("question_id", "model", "turn"),
    "pair": ("question_id", "model_1", "model_2", "turn"),
}


def file_name(model: str) -> str:
    """A model's address as a file name: FastChat calls a model as its file is."""
    return model.replace("/", "_")


def answer_rows(answers: Answers, questions: Iterable[Question]) -> Iterator[dict[str, Any]]:
    """Rows of `model_answer/MODEL.jsonl`, for the questions that were answered."""
    for question in questions:
        if (said := answers.turns.get(question.id)) is not None:
            yield {
                "question_id": question.number,
                "answer_id": digest([answers.model, question.id, said])[:22],
                "model_id": answers.model,
                "choices": [{"index": 0, "turns": list(said)}],
            }


def answer_file(folder: Path, model: str) -> Path:
    """Where FastChat keeps a model's answers."""
    return folder / "model_answer" / f"{file_name(model)}.jsonl"


def check_answers(folder: Path, model: str, questions: Iterable[Question]) -> None:
    """Raise `ConfigError` if answers to other than `questions` would be lost."""
    rows = ({"question_id": question.number} for question in questions)
    check_replaceable(answer_file(folder, model), _ANSWER_KEY, rows)


def write_answers(folder: Path, answers: Answers, questions: Iterable[Question]) -> Path:
    """Write one model's `model_answer/MODEL.jsonl`; where it lies."""
    path = answer_file(folder, answers.model)
    _write(path, answer_rows(answers, questions))
    return path


def judgment_file(folder: Path, judge: str, kind: Kind) -> Path:
    """Where FastChat keeps a judge's judgments."""
    return folder / "model_judgment" / f"{file_name(judge)}_{kind}.jsonl"


def check_judgments(folder: Path, judge: str, kind: Kind, matches: Iterable[Match]) -> None:
    """Raise `ConfigError` if judgments that `matches` do not make anew would be lost."""
    keys = _KEYS[kind]
    names = ("model",) if kind == "single" else ("model_1", "model_2")

    def rows() -> Iterator[dict[str, Any]]:
        for match in matches:
            models = [answers.model for answers in match.answers]
            where = {"question_id": match.question.number, "turn": match.turn}
            yield {**where, **dict(zip(names, models, strict=True))}

    check_replaceable(judgment_file(folder, judge, kind), keys, rows())


def check_replaceable(path: Path, key: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Raise `ConfigError` if `path` holds a row whose key none of `rows` has."""
    if not path.exists():
        return
    made = {tuple(row.get(name) for name in key) for row in rows}
    for row in rows_of(path):
        if tuple(row.fields.get(name) for name in key) not in made:
            raise ConfigError(
                f"{path}:{row.line} would be lost, which this run does not make: choose another "
                "folder"
            )


def write_judgments(
    folder: Path, judge: TurnJudge, kind: Kind, judged: Iterable[tuple[Match, Verdict]]
) -> Path:
    """Write `model_judgment/JUDGE_single.jsonl` or `JUDGE_pair.jsonl`; where it lies."""
    path = judgment_file(folder, judge.ref.model, kind)
    _write(path, (_judgment(match, verdict, judge, kind) for match, verdict in judged))
    return path


def _judgment(match: Match, verdict: Verdict, judge: TurnJudge, kind: Kind) -> dict[str, Any]:
    write = mt_bench_single.write if kind == "single" else mt_bench_pair.write
    row = next(write([verdict], ExportReport()))
    names = ("user_prompt",) if kind == "single" else ("g1_user_prompt", "g2_user_prompt")
    asked = judge.requests(match)
    return row | dict(zip(names, map(_user, asked), strict=False)) | {"tstamp": time.time()}


def _user(request: Request) -> str:
    return request.messages[-1].content


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        for row in rows:
            file.write(json_line(row))
