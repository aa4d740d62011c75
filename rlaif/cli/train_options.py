"""Options of the training commands. What is not given is the file's, or the default."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rlaif.errors import ConfigError

EMBEDDED = "local/smollm2-135m"
_PANEL = "Training"


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """How to train, in any way. Each field is an option, and a setting by the same name."""

    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="The highest; it falls to 0. By default by the method and the model's size.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    epochs: Annotated[
        float | None,
        typer.Option(min=0.001, help="Passes over the rows. By default 1.", rich_help_panel=_PANEL),
    ] = None
    max_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many steps.", rich_help_panel=_PANEL),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Rows a step. By default 8.", rich_help_panel=_PANEL),
    ] = None
    micro_batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rows in memory at once. By default 4, 2 or 1 by the model's size.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    max_length: Annotated[
        int | None,
        typer.Option(
            min=8,
            help="Tokens of prompt and response, at most the model's window. By default 1024.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    lora_rank: Annotated[
        int | None,
        typer.Option(min=0, help="0 trains every weight. By default 16.", rich_help_panel=_PANEL),
    ] = None
    warmup_steps: Annotated[
        int | None,
        typer.Option(
            min=0, help="Steps up to the highest rate. By default 3.", rich_help_panel=_PANEL
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of everything drawn. By default 0.", rich_help_panel=_PANEL),
    ] = None
    save_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="A checkpoint every so many steps. By default 5.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    report_to: Annotated[
        list[str] | None,
        typer.Option(
            "--report-to",
            help="A tracker: wandb, tensorboard, mlflow, trackio … Repeatable.",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """The settings that were given, by name."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(CommonOptions):
    """How to train from a data set. Each field is an option, and a setting by the same name."""

    eval_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Measure on the held-out rows every so many steps, not only at the end.",
            rich_help_panel=_PANEL,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is trained, on what, and where to."""

    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", help=f"local/NAME, or a checkpoint folder. By default {EMBEDDED}."
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The run folder. By default runs/ and the method."),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="A YAML file of settings by name, of dataset, model, output, held_out and limit, "
            "and under trl: of any field of TRL's configuration. Options win over it.",
        ),
    ] = None
    held_out: Annotated[
        float | None,
        typer.Option(
            "--held-out",
            min=0.0,
            max=0.9,
            help="Share of the prompts that is measured on instead. By default the data set's own "
            "test split, if it has one. 0 measures nothing.",
        ),
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, max=10**12, help="Most rows to take.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False

    def merged(self, dataset: str | None, read: dict[str, Any], kind: str) -> Run:
        """What to do: the options over what the file says, which is taken out of `read`.

        Raises:
            ConfigError: there is no data set, or one of them is of a wrong kind.
        """
        found: dict[str, Any] = {}
        kinds = {"dataset": str, "model": str, "output": str, "held_out": float, "limit": int}
        for name, wanted in kinds.items():
            in_file = read.pop(name, None)
            fits = isinstance(in_file, wanted) or (wanted is float and isinstance(in_file, int))
            if in_file is not None and (not fits or isinstance(in_file, bool)):
                raise ConfigError(f"{self.config}: field '{name}': {in_file!r} does not fit")
            option = dataset if name == "dataset" else getattr(self, name)
            found[name] = in_file if option is None else option
        if found["dataset"] is None:
            raise ConfigError("give a data set, as an argument or as dataset: in --config")
        share, limit = found["held_out"], found["limit"]
        if share is not None and not 0 <= share <= 0.9:
            raise ConfigError(f"held_out is {share}, and must be in [0, 0.9]")
        if limit is not None and limit < 1:
            raise ConfigError(f"limit is {limit}, and must be 1 or more")
        return Run(
            Path(found["dataset"]),
            found["model"] or EMBEDDED,
            Path(found["output"] or f"runs/{kind}"),
            share,
            limit,
            self.as_json,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One command, with everything that it was told."""

    dataset: Path
    model: str
    output: Path
    held_out: float | None
    limit: int | None
    as_json: bool


Labels = Annotated[
    Literal["hard", "soft"] | None,
    typer.Option(
        help="hard: the chosen response is better, for sure. soft: with probability p_chosen, as "
        "the judge gave it. By default hard."
    ),
]
Weights = Annotated[
    Literal["none", "margin", "column"] | None,
    typer.Option(
        help="How much a row counts: all the same, by |2 p_chosen - 1|, or by its column weight. "
        " By default none."
    ),
]
Beta = Annotated[
    float | None,
    typer.Option(min=0.0, help="Pull to the reference model. By default 0.1."),
]
