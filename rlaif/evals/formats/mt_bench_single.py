"""MT-Bench pointwise judgments: `model_judgment/JUDGE_single.jsonl`, a score from 1 to 10 a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rlaif.evals.formats.exports import ExportReport, exported, need_kind
from rlaif.evals.formats.fastchat import judge_name, load_texts, turn_of
from rlaif.evals.formats.rows import (
    ImportOptions,
    ImportReport,
    Row,
    Source,
    by_judge,
    last_of_each,
)
from rlaif.evals.formats.verdicts import Outcome, Reader, call, judge_ref, meta, recorded, scored
from rlaif.evals.legacy import FAILED, legacy_rating, read_rating
from rlaif.types import Candidate, Verdict

NAME = "mt-bench-single"
COLUMNS = ("question_id", "model", "judge", "judgment", "score", "turn")
TAKES = frozenset({"questions", "answers", "references"})
KEPT = frozenset({"replies", "value"})
_NO_SCORE = -1


def read(source: Source, options: ImportOptions, report: ImportReport) -> Iterator[Verdict]:
    """One score a row. Of rows with the same question, model and turn the last one counts.

    Raises:
        SpecError: a row does not fit, or judges are mixed.
    """
    texts = load_texts(options, report)
    reader = Reader(options, report, read_rating, legacy_rating)

    def rows() -> Iterator[Row]:
        return by_judge(source, judge_name, options, report, mix="refuse")

    for row in last_of_each(rows, _key, report):
        report.rows += 1
        key, turn, model = row.key("question_id"), turn_of(row), row.text("model")
        judge = judge_name(row)
        score = row.number("score")
        if score is not None and not _on_scale(score):
            row.leave("score")
        reply = row.maybe_text("judgment")
        item = texts.item(row, key, turn, meta(row))
        outcome = reader(row, item.id, _recorded(score, reply, options))
        calls = () if reply is None else (call(NAME, reply, f"{key}:{turn}:{model}"),)
        candidate = Candidate(model, texts.response(model, key, turn), model)
        yield scored(item, candidate, judge_ref(judge, NAME), outcome, calls, scale=(1, 10))


def _on_scale(score: float) -> bool:
    return 1 <= score <= 10


def _recorded(score: float | None, reply: str | None, options: ImportOptions) -> Outcome[float]:
    failed = reply is not None and reply.strip() == FAILED
    kept = score is not None and score != _NO_SCORE and (options.legacy or _on_scale(score))
    return recorded(
        float(score) if kept and score is not None else None,
        reply,
        cause="provider_error" if failed else "unreadable",
    )


def _key(row: Row) -> str:
    return f"{row.key('question_id')}\n{row.text('model')}\n{turn_of(row)}\n{judge_name(row)}"


def write(verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
    """One row a score; -1 where there is none.

    Raises:
        DataError: a verdict is not a score.
    """
    for verdict in verdicts:
        need_kind(verdict, "score", NAME)
        candidate, known = verdict.candidates[0], verdict.item.meta
        fields = {
            "question_id": known.get("question_id", verdict.item.id),
            "model": candidate.model or candidate.id,
            "judge": known.get("judge", verdict.judge.model),
            "judgment": verdict.calls[0].reply if verdict.calls else None,
            "score": known.get("score", _NO_SCORE)
            if verdict.score is None
            else _tidy(verdict.score.value),
            "turn": known.get("turn", 1 if "columns" not in known else None),
        }
        yield exported(verdict, NAME, fields, COLUMNS, KEPT, report)


def _tidy(value: float) -> float | int:
    return int(value) if value == int(value) else value
