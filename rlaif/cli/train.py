"""`rlaif train`: a model from a preference data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, progress_bar, say, table

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train a model on a preference data set."
)


@app.callback()
def _train() -> None:
    """Train a model on a preference data set."""


@app.command()
def dpo(
    dataset: Annotated[Path, typer.Argument(help="A folder of `rlaif prefer`, or JSONL.")],
    model: Annotated[
        str, typer.Option("-m", "--model", help="local/NAME, or a checkpoint folder.")
    ] = "local/smollm2-135m",
    output: options.Output = Path("runs/dpo"),
    beta: Annotated[float, typer.Option(min=0.0, help="Pull to the reference model.")] = 0.1,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Peak learning rate.")] = 2e-4,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the rows.")] = 1.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs a step.")] = 8,
    micro_batch_size: Annotated[int, typer.Option(min=1, help="Pairs in memory at once.")] = 4,
    max_length: Annotated[int, typer.Option(min=8, help="Tokens of prompt and response.")] = 1024,
    lora_rank: Annotated[int, typer.Option(min=0, help="0 trains every weight.")] = 16,
    seed: options.Seed = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Most rows to take.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Direct preference optimization on TRL's DPOTrainer.

    The tuned model is a plain checkpoint in OUTPUT/model; use it as local/OUTPUT. The same
    command again goes on from the last checkpoint, or does nothing when it is done.
    """
    from rlaif.backends.local import resolve_checkpoint
    from rlaif.errors import ConfigError
    from rlaif.train.data import load_preferences, require_train_extra

    if batch_size % micro_batch_size:
        raise ConfigError("--batch-size must be a multiple of --micro-batch-size")
    require_train_extra()
    rows = load_preferences(dataset)  # first: a wrong data set should not wait for a download
    base = resolve_checkpoint(model.removeprefix("local/"), options.home())
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    from rlaif.train.dpo import DPOSettings, train_dpo

    settings = DPOSettings(
        beta=beta,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        max_length=max_length,
        lora_rank=lora_rank,
        seed=seed,
    )
    with progress_bar("training", None, quiet=as_json) as bar:
        summary = train_dpo(
            base,
            rows,
            output,
            settings,
            home=options.home(),
            facts={"base": model, "data set": dataset.name},
            progress=bar.reach,
        )
    if as_json:
        emit(summary | {"model": str(output / "model")})
        return
    table("trained", ("", ""), summary.items())
    say(f"wrote {output / 'model'}: use it as local/{output}")
