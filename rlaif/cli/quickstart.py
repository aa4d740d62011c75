"""`rlaif quickstart`: the whole loop, small enough for a laptop.

Prompts -> candidates -> verdicts -> preference data -> DPO -> the tuned model against the
original on prompts it never saw, judged by the same judge, with guards that would show a model
that learned to please the judge. Every step is kept: run it again and it goes on, or is done.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, say, table

app = typer.Typer(add_completion=False)

EMBEDDED = "local/smollm2-135m"


@app.command()
def quickstart(
    output: options.Output = Path("runs/quickstart"),
    judge: Annotated[str, typer.Option(help="The judge's address.")] = EMBEDDED,
    policy: Annotated[
        str, typer.Option(help="The model to tune: local/NAME, or a checkpoint folder.")
    ] = EMBEDDED,
    rubric: Annotated[
        str | None,
        typer.Option("-r", "--rubric", help="For a judge that is asked. By default helpfulness."),
    ] = None,
    seed: options.Seed = 0,
    limit: Annotated[
        int, typer.Option(min=4, help="Most training prompts, and most held-out ones.")
    ] = 96,
    concurrency: options.Concurrency = 16,
    base_url: options.BaseUrl = None,
    timeout: options.Timeout = 120.0,
    as_json: options.AsJson = False,
) -> None:
    """Judge, preference data, DPO and a held-out check, on the embedded model.

    Ends with a table and report.html. Needs no key and no network but for fetching the model once.
    """
    from rlaif.cli.quickstart_report import summarize, write_report
    from rlaif.cli.quickstart_steps import Work
    from rlaif.judge.item_rubric import rubric_source
    from rlaif.train.data import require_train_extra

    if rubric is not None:
        rubric_source(rubric)  # first: a wrong rubric should not wait for the model's responses
    require_train_extra()
    started = time.monotonic()
    with options.open_store() as store:
        work = Work(
            output=output,
            store=store,
            judge_address=judge,
            policy_address=policy,
            rubric=rubric,
            seed=seed,
            limit=limit,
            concurrency=concurrency,
            base_url=base_url,
            timeout_s=timeout,
            quiet=as_json,
        )
        results = work.run()
    seconds = round(time.monotonic() - started, 1)
    summary = summarize(results, seconds)
    report = write_report(results, summary, output)
    if as_json:
        emit(summary | {"report": str(report)})
        return
    table("quickstart", ("", "", ""), [tuple(row.values()) for row in summary["table"]])
    for line in summary["conclusions"]:
        say(line)
    say(f"report: {report}")
