"""`rlaif import` and `rlaif export`: judgments of other tools, to verdicts and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlaif.cli import options
from rlaif.cli.output import Bar, emit, fail_over_limit, progress_bar, say, table
from rlaif.errors import ConfigError, SpecError

if TYPE_CHECKING:
    from rlaif.evals.formats import ImportOptions, ImportReport
    from rlaif.store.runs import RunFolder

imports = typer.Typer(add_completion=False)
exports = typer.Typer(add_completion=False)

FormatName = Annotated[
    str,
    typer.Argument(
        metavar="FORMAT",
        help="mt-bench-single, mt-bench-pair, mt-bench-human, alpaca-eval, arena-hard, llmbar, "
        "judgebench, pairs; of people's labels: labels or argilla.",
    ),
]


def _column(part: str) -> Any:
    return typer.Option(f"--{part.replace('_', '-')}-column", help=f"For pairs: the {part} column.")


@imports.command("import")
def import_(
    format_name: FormatName,
    files: Annotated[list[Path], typer.Argument(help="Files of judgments, .gz or not.")],
    output: options.Output = Path("runs/import"),
    questions: Annotated[
        list[Path] | None,
        typer.Option(
            "--questions", "--instructions", help="The prompts that were judged. Repeatable."
        ),
    ] = None,
    answers: Annotated[
        list[Path] | None,
        typer.Option(
            "--answers", "--outputs", help="The responses: a folder or a file. Repeatable."
        ),
    ] = None,
    references: Annotated[
        list[Path] | None, typer.Option(help="MT-Bench reference answers. Repeatable.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Take this judge's rows only; names the judge where the file does not."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="For arena-hard files that do not name the baseline.")
    ] = None,
    reparse: Annotated[
        bool, typer.Option("--reparse", help="Read the raw replies, not the recorded verdicts.")
    ] = False,
    legacy: Annotated[
        bool,
        typer.Option(
            "--legacy",
            help="Read the raw replies by the old tool's rule; with --reparse, compare with it.",
        ),
    ] = False,
    id_column: Annotated[str | None, _column("id")] = None,
    prompt_column: Annotated[str | None, _column("prompt")] = None,
    reference_column: Annotated[str | None, _column("reference")] = None,
    model_a_column: Annotated[str | None, _column("model_a")] = None,
    model_b_column: Annotated[str | None, _column("model_b")] = None,
    response_a_column: Annotated[str | None, _column("response_a")] = None,
    response_b_column: Annotated[str | None, _column("response_b")] = None,
    judge_column: Annotated[str | None, _column("judge")] = None,
    winner_column: Annotated[str | None, _column("winner")] = None,
    p_a_column: Annotated[str | None, _column("p_a")] = None,
    label_column: Annotated[str | None, _column("label")] = None,
    reply_column: Annotated[str | None, _column("reply")] = None,
    category_column: Annotated[str | None, _column("category")] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="LOW-HIGH", help="For ratings that do not say it: their scale, such as 1-5."
        ),
    ] = None,
    max_failures: options.MaxFailures = 0.05,
    as_json: options.AsJson = False,
) -> None:
    """Turn judgments of other tools into verdicts. Writes verdicts.jsonl.

    With --reparse or --legacy every reply that reads otherwise goes to disagreements.jsonl.
    """
    from rlaif.evals.formats import ImportOptions, find_format

    find_format(format_name)
    columns = {
        "id": id_column,
        "prompt": prompt_column,
        "reference": reference_column,
        "model_a": model_a_column,
        "model_b": model_b_column,
        "response_a": response_a_column,
        "response_b": response_b_column,
        "judge": judge_column,
        "winner": winner_column,
        "p_a": p_a_column,
        "label": label_column,
        "reply": reply_column,
        "category": category_column,
    }
    told = ImportOptions(
        questions=tuple(questions or ()),
        answers=tuple(answers or ()),
        references=tuple(references or ()),
        judge=judge,
        baseline=baseline,
        reparse=reparse,
        legacy=legacy,
        columns={part: name for part, name in columns.items() if name is not None},
        scale=None if scale is None else _scale(scale),
    )
    sources = [options.spooled(file) for file in files]
    summary = _import(format_name, sources, told, output, quiet=as_json)
    if as_json:
        emit(summary | {"run": str(output)})
    else:
        _show(summary, output)
    fail_over_limit(summary, max_failures, "rows have no verdict")


def _scale(text: str) -> tuple[int, int]:
    from rlaif.evals.formats.labels import scale_of

    try:
        return scale_of(text)
    except SpecError as error:
        raise ConfigError(f"--scale {error.message}") from None


def _import(
    format_name: str, files: list[Path], told: ImportOptions, output: Path, *, quiet: bool
) -> dict[str, Any]:
    """Write the verdicts and the summary of one import; the summary."""
    from rlaif.evals.formats import ImportReport
    from rlaif.store.runs import RunFolder

    report = ImportReport()
    with _untouched_on_error(output):
        run = RunFolder(output, _config(format_name, files, told))
        with progress_bar("importing", None, quiet=quiet) as bar:
            summary = _write(format_name, files, told, run, report, bar)
        run.write_json("summary.json", summary)
    return summary


def _write(
    format_name: str,
    files: list[Path],
    told: ImportOptions,
    run: RunFolder,
    report: ImportReport,
    bar: Bar,
) -> dict[str, Any]:
    from contextlib import ExitStack

    from rlaif.canonical import json_line
    from rlaif.evals.formats import import_verdicts
    from rlaif.runner import Tally

    tally = Tally()
    with ExitStack() as stack:
        if told.reparse or told.legacy:
            differing = stack.enter_context(run.open_whole("disagreements.jsonl"))

            def write_row(row: dict[str, Any]) -> None:
                differing.write(json_line(row))

            report.on_disagreement = write_row
        file = stack.enter_context(run.open_whole("verdicts.jsonl"))
        for verdict in import_verdicts(format_name, files, told, report):
            file.write(json_line(verdict.as_dict()))
            tally.add(verdict)
            bar.advance(1, f"coverage {tally.coverage:.1%}")
    return tally.summary() | {"format": format_name, "reading": _reading(told)} | report.as_dict()


def _reading(told: ImportOptions) -> str:
    if told.reparse:
        return "ours, against legacy" if told.legacy else "ours, against recorded"
    return "legacy, against recorded" if told.legacy else "recorded"


def _config(format_name: str, files: list[Path], told: ImportOptions) -> dict[str, Any]:
    """All that decides the verdicts."""
    texts = [*told.questions, *told.answers, *told.references]
    return {
        "command": f"import {format_name}",
        "files": [path.name for path in files],
        "files_sha256": [options.data_digest(path) for path in files],
        "texts_sha256": [options.data_digest(options.spooled(path)) for path in texts],
        "judge": told.judge,
        "baseline": told.baseline,
        "reading": _reading(told),
        "columns": dict(told.columns),
        **({"scale": list(told.scale)} if told.scale else {}),
    }


@contextmanager
def _untouched_on_error(output: Path) -> Iterator[None]:
    """Leave `output` as it was when the import fails: a file that is put right is another import,
    and must find no trace of this one.
    """
    try:
        existed, had_run = output.exists(), (output / "config.json").exists()
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{output} cannot be a folder ({reason}): choose another -o") from error
    try:
        yield
    except BaseException:
        if not had_run and output.is_dir():
            for name in ("config.json", "verdicts.jsonl", "disagreements.jsonl", "summary.json"):
                (output / name).unlink(missing_ok=True)
        for partial in output.glob("*.partial"):
            partial.unlink()
        if not existed and output.is_dir():
            output.rmdir()
        raise


def _show(summary: Mapping[str, Any], output: Path) -> None:
    causes = ", ".join(f"{n} {cause}" for cause, n in summary["causes"].items()) or "none"
    rows: list[tuple[str, object]] = [
        ("n", summary["n"]),
        ("coverage", f"{summary['coverage']:.1%}"),
        ("without", causes),
        ("reading", summary["reading"]),
    ]
    if summary["reading"] != "recorded":
        rows += [
            ("replies read", summary["reread"]),
            ("without a reply", summary["no_reply"]),
            ("disagreements", summary["disagreements"]),
        ]
    rows += [
        (name.replace("_", " "), summary[name])
        for name in ("superseded", "other_judges")
        if summary[name]
    ]
    files = ["verdicts.jsonl", *(["disagreements.jsonl"] if summary["disagreements"] else [])]
    table(
        f"imported {summary['format']}",
        ("", ""),
        [*rows, *(("wrote", str(output / name)) for name in files)],
    )
    for note in summary["notes"]:
        say(f"note: {note}")


@exports.command("export")
def export(
    format_name: FormatName,
    run: Annotated[Path, typer.Argument(help="A run folder, or verdicts.jsonl.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="The file: .jsonl, .json (one list), .csv, .tsv, or with .gz."
        ),
    ],
    as_json: options.AsJson = False,
) -> None:
    """Write verdicts as a file of another tool. Imported ones come back as they were."""
    from rlaif.evals.formats import FOR_SPREADSHEETS, ExportReport, export_rows, find_format
    from rlaif.evals.formats.files import write_rows
    from rlaif.store.runs import read_verdicts

    find_format(format_name)
    run = options.spooled(run)
    report = ExportReport()

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal report
        report = ExportReport()
        return export_rows(format_name, read_verdicts(run), report)

    count = write_rows(output, rows, guard=format_name in FOR_SPREADSHEETS)
    if as_json:
        emit({"format": format_name, "rows": count, **report.as_dict(), "file": str(output)})
        return
    lost = report.lost.most_common()
    table(
        f"exported {format_name}",
        ("", ""),
        [("verdicts", report.verdicts), ("rows", count), ("wrote", str(output))],
    )
    if lost:
        table("not kept", ("field", "verdicts"), lost, note=f"{format_name} has no place for these")
