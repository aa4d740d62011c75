"""`rlaif train`: a model from a data set, or from prompts and a judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, progress_bar, say, table
from rlaif.cli.taking import takes
from rlaif.cli.train_online import grpo, rloo
from rlaif.cli.train_options import Beta, Labels, Run, RunOptions, TrainingOptions, Weights
from rlaif.cli.train_ppo import ppo

if TYPE_CHECKING:
    from rlaif.train.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Train a model: from a data set (sft, reward, dpo, kto), or from a judge.",
)


@app.callback()
def _train() -> None:
    """Train a model: from a data set (sft, reward, dpo, kto), or from a judge.

    The tuned model is a plain checkpoint in OUTPUT/model. The same command again goes on from the
    last checkpoint, or does nothing when it is done. Ctrl-C ends after the step and keeps it.
    """


app.command()(grpo)
app.command()(rloo)
app.command()(ppo)

Pairs = Annotated[
    str | None, typer.Argument(help="A folder of `rlaif prefer`, or JSONL.", show_default=False)
]


@app.command()
@takes("how", TrainingOptions)
@takes("run", RunOptions)
def sft(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help="A folder of `datasets` or JSONL: prompt and completion (or response, or chosen), "
            "or messages.",
            show_default=False,
        ),
    ] = None,
    *,
    run: RunOptions,
    how: TrainingOptions,
) -> None:
    """Supervised fine-tuning: imitate the responses of a data set."""

    def load() -> tuple[Any, Any, Any]:
        from rlaif.train.sft import SFTSettings, load_demonstrations, train_sft

        return SFTSettings, load_demonstrations, train_sft

    _carry_out("sft", dataset, run, how.given(), load)


@app.command()
@takes("how", TrainingOptions)
@takes("run", RunOptions)
def reward(
    dataset: Pairs = None,
    labels: Labels = None,
    weights: Weights = None,
    margin_scale: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Units of reward that a margin of 1 shifts the difference by. By default 0.",
        ),
    ] = None,
    *,
    run: RunOptions,
    how: TrainingOptions,
) -> None:
    """A reward model. It judges as reward/OUTPUT, and rewards in ppo, grpo and rloo."""

    def load() -> tuple[Any, Any, Any]:
        from rlaif.train.data import load_preferences
        from rlaif.train.reward import RewardSettings, train_reward

        return RewardSettings, load_preferences, train_reward

    more = {"labels": labels, "weights": weights, "margin_scale": margin_scale}
    _carry_out("reward", dataset, run, how.given() | more, load, address="reward/")


@app.command()
@takes("how", TrainingOptions)
@takes("run", RunOptions)
def dpo(
    dataset: Pairs = None,
    beta: Beta = None,
    labels: Labels = None,
    form: Annotated[
        Literal["conservative", "robust"] | None,
        typer.Option(
            help="What soft labels come to. conservative: cross-entropy on p_chosen. robust: "
            "unbiased where a label is flipped with probability 1 - p_chosen. "
            " By default conservative."
        ),
    ] = None,
    weights: Weights = None,
    *,
    run: RunOptions,
    how: TrainingOptions,
) -> None:
    """Direct preference optimization on TRL's DPOTrainer."""

    def load() -> tuple[Any, Any, Any]:
        from rlaif.train.data import load_preferences
        from rlaif.train.dpo import DPOSettings, train_dpo

        return DPOSettings, load_preferences, train_dpo

    more = {"beta": beta, "labels": labels, "form": form, "weights": weights}
    _carry_out("dpo", dataset, run, how.given() | more, load)


@app.command()
@takes("how", TrainingOptions)
@takes("run", RunOptions)
def kto(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help="Rows of prompt, completion and label (true or false), or preference pairs.",
            show_default=False,
        ),
    ] = None,
    beta: Beta = None,
    desirable_weight: Annotated[
        float | None,
        typer.Option(min=0.0, help="How much good rows count. By default both sides count alike."),
    ] = None,
    undesirable_weight: Annotated[
        float | None, typer.Option(min=0.0, help="How much bad rows count.")
    ] = None,
    *,
    run: RunOptions,
    how: TrainingOptions,
) -> None:
    """Kahneman-Tversky optimization: responses that are good or bad, unpaired."""

    def load() -> tuple[Any, Any, Any]:
        from rlaif.train.kto import KTOSettings, load_opinions, train_kto

        return KTOSettings, load_opinions, train_kto

    more = {
        "beta": beta,
        "desirable_weight": desirable_weight,
        "undesirable_weight": undesirable_weight,
    }
    _carry_out("kto", dataset, run, how.given() | more, load)


def _carry_out(
    kind: str,
    dataset: str | None,
    options_of_run: RunOptions,
    given: Mapping[str, Any],
    load: Callable[[], tuple[type[Settings], Any, Any]],
    address: str = "local/",
) -> None:
    """Train as the options say, over what the file says."""
    from rlaif.backends.local import resolve_checkpoint
    from rlaif.train.data import require_train_extra
    from rlaif.train.settings import read_yaml, settings_from

    path = options_of_run.config
    read = read_yaml(path) if path else {}
    run = options_of_run.merged(dataset, read, kind)
    require_train_extra()
    settings_kind, load_rows, train = load()
    over = {name: value for name, value in given.items() if value is not None}
    settings = settings_from(settings_kind, read, path, over)
    rows, held_out = _rows(run, load_rows)  # first: a wrong data set should not wait for a download
    base = resolve_checkpoint(run.model.removeprefix("local/"), options.home())
    with progress_bar("training", None, quiet=run.as_json) as bar:
        summary = train(
            base,
            rows,
            run.output,
            settings,
            home=options.home(),
            held_out=held_out,
            facts={"base": run.model, "data set": run.dataset.name},
            progress=bar.reach,
        )
    show(summary, run.output, f"{address}{run.output}", as_json=run.as_json)


def _rows(run: Run, load: Any) -> tuple[Any, Any]:
    """The rows to train on and those to measure on, if any; no prompt is in both."""
    from rlaif.train.data import has_split, held_out_split, without_prompts_of

    rows, held_out = load(run.dataset), None
    if run.limit is not None:
        rows = rows.select(range(min(run.limit, len(rows))))
    if run.held_out:
        rows, held_out = held_out_split(rows, run.held_out)
    elif run.held_out is None and has_split(run.dataset, "test"):
        whole = load(run.dataset, "test")
        held_out = without_prompts_of(whole, rows)
        if both := len(whole) - len(held_out):
            say(f"{both} rows of the test split are not measured on: their prompts are trained on")
    if held_out is not None and not len(held_out):
        held_out = None
    return rows, held_out


def show(summary: dict[str, Any], output: Path, address: str, *, as_json: bool) -> None:
    """Print what a run came to, and how to use its model."""
    if as_json:
        emit(summary | {"model": str(output / "model")})
        return
    flat: dict[str, object] = {}
    for name, value in summary.items():
        if isinstance(value, Mapping):
            flat |= {f"{name} {key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    table("trained", ("", ""), flat.items())
    say(f"wrote {output / 'model'}: use it as {address}")
