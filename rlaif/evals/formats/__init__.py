"""Files of other evaluation tools, read into verdicts and written back.

    for verdict in import_verdicts("mt-bench-pair", [Path("gpt-4_pair.jsonl")]):
        ...
    for row in export_rows("mt-bench-pair", verdicts):
        ...

A pair is one comparison: A is the first model the file names (the model, not its baseline, where
there is one), with one entry in `orders` for each game. If a game has no reading the comparison has
no verdict, and `item.meta["games"]` keeps what each game said, `[{"shown", "winner" or null}]`.
`item.meta["columns"]` names the columns of the row, so that an export restores exactly them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from rlaif.errors import ConfigError, suggestion
from rlaif.evals.formats.exports import ExportReport
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Source
from rlaif.types import Verdict

__all__ = [
    "FORMATS",
    "ExportReport",
    "ImportOptions",
    "ImportReport",
    "export_rows",
    "import_verdicts",
]

FORMATS: dict[str, str] = {
    "mt-bench-single": "rlaif.evals.formats.mt_bench_single",
    "mt-bench-pair": "rlaif.evals.formats.mt_bench_pair",
    "mt-bench-human": "rlaif.evals.formats.mt_bench_human",
    "alpaca-eval": "rlaif.evals.formats.alpaca_eval",
    "arena-hard": "rlaif.evals.formats.arena_hard",
    "llmbar": "rlaif.evals.formats.llmbar",
    "judgebench": "rlaif.evals.formats.judgebench",
    "pairs": "rlaif.evals.formats.pairs",
    "labels": "rlaif.evals.formats.labels",
    "argilla": "rlaif.evals.formats.argilla",
}
"""Every format, and the module that reads and writes it."""

FOR_SPREADSHEETS = frozenset({"labels"})
"""Formats whose tables people open: no cell of them may begin as a formula does."""


class Format(Protocol):
    """What the module of a format offers."""

    TAKES: frozenset[str]
    """The options it reads, besides the judge and how replies are read."""

    def read(
        self, source: Source, options: ImportOptions, report: ImportReport
    ) -> Iterator[Verdict]:
        """Its rows as verdicts, one at a time, in order."""
        ...

    def write(self, verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
        """Verdicts as its rows, one at a time, in order."""
        ...


def find_format(name: str) -> Format:
    """The module that reads and writes the format called `name`.

    Raises:
        ConfigError: there is no such format.
    """
    if name not in FORMATS:
        raise ConfigError(f"'{name}' is not a format: {suggestion(name, FORMATS)}")
    return cast("Format", import_module(FORMATS[name]))


def import_verdicts(
    name: str,
    files: Sequence[Path],
    options: ImportOptions | None = None,
    report: ImportReport | None = None,
) -> Iterator[Verdict]:
    """The verdicts of legacy files, one at a time, in the order of their rows.

    Args:
        name: The format, one of `FORMATS`.
        files: Read as one sequence; gzip or not.
        options: Auxiliary files, the judge, and how replies are read.
        report: Filled while the verdicts are read.

    Raises:
        ConfigError: there is no such format, or it has no use for one of the options.
        SpecError: a file or a row does not fit: names the file, the line and the field.
    """
    module, options = find_format(name), options or ImportOptions()
    for option in ("questions", "answers", "references", "baseline", "columns", "scale"):
        if getattr(options, option) and option not in module.TAKES:
            raise ConfigError(f"{name} has no use for {option}")
    return module.read(Source(files), options, report if report is not None else ImportReport())


def export_rows(
    name: str, verdicts: Iterable[Verdict], report: ExportReport | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a legacy file, one at a time, in the order of `verdicts`.

    Args:
        name: The format, one of `FORMATS`.
        verdicts: Imported ones give back the columns they came with.
        report: Filled while the rows are made: what the format has no place for.

    Raises:
        ConfigError: there is no such format.
        DataError: a verdict is of a kind that the format cannot hold.
    """
    return find_format(name).write(verdicts, report if report is not None else ExportReport())
