"""`rlaif`: every command, each imported when it is called, and the exit codes.

0 done; 1 failed, or over the failure limit; 2 bad usage or bad input file; 3 budget spent;
130 interrupted, all finished work kept.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from rlaif.cli.output import KEPT, say
from rlaif.errors import (
    BackendError,
    BudgetError,
    ConfigError,
    DataError,
    RlaifError,
    SpecError,
    StoreError,
    VerdictError,
)

COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": ("rlaif.cli.quickstart:app", "The whole loop on the embedded model."),
    "generate": ("rlaif.cli.generate:app", "Draw candidate responses to prompts."),
    "judge": ("rlaif.cli.judge:app", "Score, compare or rank responses by a rubric."),
    "constitution": ("rlaif.cli.constitution:app", "Critique, revise, compare by principles."),
    "prefer": ("rlaif.cli.prefer:app", "Turn verdicts into a linted preference data set."),
    "train": ("rlaif.cli.train:app", "Train a model on a preference data set."),
    "loop": ("rlaif.cli.loop:app", "Rounds of generate, judge, prefer, train, evaluate."),
    "import": ("rlaif.cli.importing:imports", "Turn legacy judgments into verdict records."),
    "export": ("rlaif.cli.importing:exports", "Write verdict records as legacy judgments."),
    "eval": ("rlaif.cli.evaluate:app", "Run a benchmark protocol."),
    "leaderboard": ("rlaif.cli.leaderboard:app", "Scores, win rates, strengths, intervals."),
    "agreement": ("rlaif.cli.agreement:app", "A judge against people, labels or a judge."),
    "audit": ("rlaif.cli.audit:app", "Whether a judge is fit for use."),
    "report": ("rlaif.cli.report:app", "One HTML page of a run."),
    "rubrics": ("rlaif.cli.specs:rubrics", "List, show and lint rubric files."),
    "constitutions": ("rlaif.cli.specs:constitutions", "List, show and lint constitution files."),
    "models": ("rlaif.cli.models:app", "List, fetch and locate embedded models."),
    "cache": ("rlaif.cli.cache:app", "Look into the reply store, make it smaller, move replies."),
    "serve": ("rlaif.cli.serve:app", "Verdicts and rewards over HTTP."),
    "doctor": ("rlaif.cli.doctor:app", "Say what is installed, which keys are set, what answers."),
}
"""Name, where it lives, and its line in the help."""

EXIT_CODES: dict[type[BaseException], int] = {
    SpecError: 2,
    ConfigError: 2,
    DataError: 1,
    BudgetError: 3,
    BackendError: 1,
    VerdictError: 1,
    StoreError: 1,
    KeyboardInterrupt: 130,
}
"""What each error ends the process with."""


_LISTING = "rlaif.listing"
"""Set in the context while the help is written: then no command needs importing."""


class _LazyGroup(TyperGroup):
    """A group whose commands are imported only when called; help needs no import."""

    def invoke(self, ctx: Any) -> Any:
        # said here: the base class turns the interruption into a silent exit
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _say_interrupted()
            raise typer.Exit(130) from None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        ctx.meta[_LISTING] = True
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        where, line = COMMANDS[cmd_name]
        if ctx.resilient_parsing or ctx.meta.get(_LISTING):
            return typer.core.TyperCommand(cmd_name, help=line)
        module, _, attribute = where.partition(":")
        command = typer.main.get_command(getattr(import_module(module), attribute))
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        from rlaif import __version__

        typer.echo(f"rlaif {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """LLM judges whose verdicts you can trust, and the preference data and training that follow.

    Exit codes: 0 done, 1 failed or over the failure limit, 2 bad usage or input, 3 budget spent,
    130 interrupted with all finished work kept.
    """


def exit_code(error: BaseException) -> int:
    """The exit code that `error` ends the process with."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


def main() -> None:
    """Run the command line and exit."""
    # every model is a local folder: no library may go looking for it elsewhere
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # threads that wait by spinning for long stall each other when the cores are shared, and
    # threads that never spin wake late: measured on two cores, busy ones took ten times as long
    # in the first case and quiet ones half as long again in the second
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # we draw our own progress bars
    os.environ.setdefault("TQDM_DISABLE", "1")
    # tokenizers' own threads fight with torch's for two cores, and warn when a worker forks
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except RlaifError as error:
        say(f"error: {error}")
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        _say_interrupted()
        sys.exit(130)


def _say_interrupted() -> None:
    say(f"interrupted: {KEPT}")


if __name__ == "__main__":
    main()
