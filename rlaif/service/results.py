"""Verdicts as tables: one row each, for spreadsheets and data frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rlaif.errors import ConfigError
from rlaif.service.files import csv_parts, made_whole, sound
from rlaif.store.runs import read_verdicts
from rlaif.types import Messages, Verdict

COLUMNS: dict[str, type] = {
    "id": str,
    "kind": str,
    "item": str,
    "status": str,
    "cause": str,
    "score": float,
    "winner": str,
    "p_a": float,
    "consistent": bool,
    "order": str,
    "models": str,
    "judge": str,
    "rubric": str,
    "prompt": str,
    "responses": str,
    "rationale": str,
    "cost_usd": float,
}
"""The columns of a table, and what each holds."""

_ROWS_A_PART = 2000


def row_of(verdict: Verdict) -> dict[str, Any]:
    """A verdict as a row of a table; what it does not have is None."""
    preference, ranking, rubric = verdict.preference, verdict.ranking, verdict.judge.rubric
    costs = [call.cost_usd for call in verdict.calls if call.cost_usd is not None]
    return {
        "id": verdict.id,
        "kind": verdict.kind,
        "item": verdict.item.id,
        "status": verdict.status,
        "cause": verdict.cause,
        "score": verdict.score.value if verdict.score else None,
        "winner": preference.winner if preference else None,
        "p_a": preference.p_a if preference else None,
        "consistent": preference.consistent if preference else None,
        "order": " > ".join(ranking.order) if ranking else None,
        "models": ", ".join(c.model or c.id for c in verdict.candidates),
        "judge": verdict.judge.model,
        "rubric": rubric.name if rubric else None,
        "prompt": _text(verdict.item.prompt),
        "responses": "\n\n---\n\n".join(c.text for c in verdict.candidates),
        "rationale": verdict.rationale,
        "cost_usd": sum(costs) if costs else None,
    }


def csv_lines(path: Path) -> Iterator[str]:
    """The table as CSV, in parts. No cell begins as a formula would: a quote stands before it.

    Raises:
        SpecError: the file is no verdicts.
    """
    return csv_parts(COLUMNS, (row_of(verdict).values() for verdict in read_verdicts(path)))


def parquet(path: Path) -> Path:
    """Where the table is as Parquet: beside `path`, made when it is first asked for.

    Raises:
        ConfigError: pyarrow is not installed.
        SpecError: the file is no verdicts.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError("Parquet needs pyarrow on the server: ask for csv or jsonl") from None

    made, found = path.with_suffix(".parquet"), path.stat()
    if made.is_file() and made.stat().st_mtime_ns == found.st_mtime_ns:
        return made
    types = {str: pa.string(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    with made_whole(made) as partial:
        with pq.ParquetWriter(partial, schema) as writer:
            rows = map(_carried, read_verdicts(path))
            while part := list(islice(rows, _ROWS_A_PART)):
                writer.write_batch(pa.RecordBatch.from_pylist(part, schema=schema))
        # the time of the verdicts that were read: a run that is done again has others
        os.utime(partial, ns=(found.st_atime_ns, found.st_mtime_ns))
    return made


def _carried(verdict: Verdict) -> dict[str, Any]:
    """A row whose texts UTF-8 can carry."""
    row = row_of(verdict)
    return {name: sound(value) if isinstance(value, str) else value for name, value in row.items()}


def _text(messages: Messages) -> str:
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{m.role}: {m.content}" for m in messages)
