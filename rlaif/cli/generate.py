"""`rlaif generate`: candidate responses to prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.judging import finish, note_interruption
from rlaif.cli.output import counted, progress_bar
from rlaif.cli.running import run_draining

if TYPE_CHECKING:
    from rlaif.runner import Stop

app = typer.Typer(add_completion=False)


@app.command()
@asks(output=Path("runs/generate"))
def generate(
    prompts: Annotated[str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, or -.")],
    n: Annotated[
        int, typer.Option("-n", min=1, max=100_000, help="Draws of each model for each prompt.")
    ] = 4,
    temperature: options.Temperature = 0.9,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = 512,
    seed: options.Seed = 0,
    *,
    asking: Asking,
) -> None:
    """Draw candidate responses: every prompt, every model, n draws.

    Writes candidates.jsonl into the run folder. The same command again asks only for what is
    missing.
    """
    from rlaif.candidates import requests_for, write_candidates
    from rlaif.specs.items import read_prompts
    from rlaif.types import Sampling

    options.distinct(asking.model)
    source, limit = options.spooled(prompts), asking.limit
    sampling = Sampling(temperature, top_p, max_tokens, seed)
    with asking.session() as session:
        backends = [session.backend(address) for address in asking.model]
        if asking.dry_run:
            from rlaif.cli.dry_run import dry_run_report

            asked = (
                (backend, request)
                for item in read_prompts(source, limit=limit)
                for backend in backends
                for request in requests_for(item, n, sampling)
            )
            dry_run_report(asked, as_json=asking.as_json, prices=session.terms.prices)
            return
        total = counted(read_prompts(source, limit=limit), quiet=asking.as_json)
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
        from rlaif.store.runs import RunFolder

        run = RunFolder(asking.output, config, grows={"limit", "n"})
        with progress_bar("generating", total, quiet=asking.as_json) as bar:

            async def work(stop: Stop) -> dict[str, Any]:
                async with options.opened(*backends):
                    return await write_candidates(
                        read_prompts(source, limit=limit),
                        backends,
                        run,
                        n=n,
                        sampling=sampling,
                        concurrency=session.width,
                        progress=bar.advance,
                        stop=stop,
                        also=session.account,
                    )

            summary = note_interruption(run, run_draining(work, drain=not asking.batch))
    finish("generated", summary, asking, "candidates.jsonl", "draws failed")
