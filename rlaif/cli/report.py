"""`rlaif report`: one page that tells all about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, say

app = typer.Typer(add_completion=False)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder of any command, or a verdicts.jsonl.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page. By default RUN/report.html.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Keep one judge, or those whose name begins so: 'expert*'.")
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, max=5000, help="Most verdicts to show one by one.")
    ] = 200,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Write one HTML page about a run: it opens anywhere, without network and without script."""
    from rlaif.constitutional.records import REVISIONS
    from rlaif.report.constitution_report import chains_page
    from rlaif.report.page import write_page
    from rlaif.report.run_report import run_page
    from rlaif.report.training import TRAINING, training_page
    from rlaif.report.training_loop import LOOP, loop_page

    source = options.spooled(run)
    beside = run if run.is_dir() else run.parent
    if (source / REVISIONS).is_file():
        page = chains_page(source, sample=min(sample, 200), seed=seed)
    elif (source / LOOP).is_file():
        page = loop_page(source, seed=seed)
    elif (source / TRAINING).is_file():
        page = training_page(source)
    else:
        page = run_page(source, judge=judge, sample=sample, seed=seed)
    path = write_page(page, output or beside / "report.html")
    if as_json:
        emit({"report": str(path), "bytes": path.stat().st_size})
    else:
        say(f"wrote {path}")
