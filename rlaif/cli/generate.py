"""`rlaif generate`: candidate responses to prompts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, fail_over_limit, progress_bar, summary_table

app = typer.Typer(add_completion=False)


@app.command()
def generate(
    prompts: Annotated[str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, or -.")],
    model: options.Models,
    output: options.Output = Path("runs/generate"),
    n: Annotated[int, typer.Option("-n", min=1, help="Draws of each model for each prompt.")] = 4,
    temperature: options.Temperature = 0.9,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = 512,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    concurrency: options.Concurrency = 16,
    base_url: options.BaseUrl = None,
    timeout: options.Timeout = 120.0,
    max_failures: options.MaxFailures = 0.05,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw candidate responses: every prompt, every model, n draws.

    Writes candidates.jsonl into the run folder. The same command again asks only for what is
    missing.
    """
    from rlaif.cli.asking import dry_run_report
    from rlaif.specs.items import read_prompts
    from rlaif.types import Sampling

    options.distinct(model)
    source = options.spooled(prompts)
    total = sum(1 for _ in read_prompts(source, limit=limit))
    sampling = Sampling(temperature, top_p, max_tokens, seed)
    with options.open_store() as store:
        backends = [
            options.open_backend(
                address, store, concurrency=concurrency, base_url=base_url, timeout_s=timeout
            )
            for address in model
        ]
        if dry_run:
            from rlaif.candidates import requests_for

            asked = (
                (backend, request)
                for item in read_prompts(source, limit=limit)
                for backend in backends
                for request in requests_for(item, n, sampling)
            )
            dry_run_report(asked, as_json=as_json)
            return
        config: dict[str, Any] = {
            "command": "generate",
            "prompts_sha256": options.data_digest(source),
            "limit": limit,
            "models": {b.model: b.identity for b in backends},
            "n": n,
            "sampling": {
                "temperature": temperature,
                "top_p": top_p,
                "max_tokens": max_tokens,
                "seed": seed,
            },
        }
        from rlaif.candidates import write_candidates
        from rlaif.store.runs import RunFolder

        run = RunFolder(output, config)
        with progress_bar("generating", total, quiet=as_json) as bar:

            async def work() -> dict[str, Any]:
                async with options.opened(*backends):
                    return await write_candidates(
                        read_prompts(source, limit=limit),
                        backends,
                        run,
                        n=n,
                        sampling=sampling,
                        concurrency=concurrency,
                        progress=bar.advance,
                    )

            summary = asyncio.run(work())
    if as_json:
        emit(summary | {"run": str(output)})
    else:
        summary_table("generated", summary, [output / "candidates.jsonl"])
    fail_over_limit(summary, max_failures, "draws failed")
