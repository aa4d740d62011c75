"""How a judge asks: options of the judging commands.

    @app.command()
    @asks(output=Path("runs/compare"))
    @takes("how", PairOptions)
    def compare(data: Data, *, how: PairOptions, asking: Asking) -> None:
        judge = pair_judge(backend, rubric, how, sampling)

An option that the chosen method has no use for is an error: it is never ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import typer

from rlaif.errors import ConfigError
from rlaif.judge.labels import LEAST_MASS
from rlaif.judge.settings import MAX_CHARS

_PANEL = "Judging"
"""Heading in `--help` of these options."""

PairMethod = Literal["auto", "verdict", "token", "likelihood", "score", "expectation", "checklist"]
"""How two responses are compared."""

QuestionsBy = Annotated[
    str | None,
    typer.Option(
        "--questions-by",
        metavar="MODEL",
        help="checklist: the model that writes the questions. By default the one that judges.",
        rich_help_panel=_PANEL,
    ),
]
AggregateBy = Annotated[
    Literal["mean", "mode"],
    typer.Option(
        help="What stands for a distribution over levels: its mean, or its likeliest level.",
        rich_help_panel=_PANEL,
    ),
]
CallsFor = Annotated[
    Literal["one", "each"] | None,
    typer.Option(
        help="All criteria in one call, or one call for each. By default one, and each with "
        "expectation.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """What scoring and comparing have in common. Each field is an option of the command line."""

    draws: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Replies for each question; what they say is averaged. More than one needs "
            "--temperature above 0. By default 1.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    reference_by_judge: Annotated[
        bool,
        typer.Option(
            "--reference-by-judge",
            help="Where an item brings no reference, let the judge answer the prompt itself, "
            "before it sees any response. One more call a prompt.",
            rich_help_panel=_PANEL,
        ),
    ] = False
    structured: Annotated[
        Literal["auto", "off"],
        typer.Option(
            help="auto: ask for JSON, held to a schema where the provider can. off: ask for a "
            "verdict mark.",
            rich_help_panel=_PANEL,
        ),
    ] = "off"
    reask: Annotated[
        bool,
        typer.Option(
            help="Whether a judge whose reply cannot be read is told why, once.",
            rich_help_panel=_PANEL,
        ),
    ] = True
    least_mass: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Probability that must lie on the labels where one token is all that is read "
            "(token, expectation); with less there is no verdict.",
            rich_help_panel=_PANEL,
        ),
    ] = LEAST_MASS
    max_chars: Annotated[
        int,
        typer.Option(
            min=100, help="Most characters of a prompt or a response.", rich_help_panel=_PANEL
        ),
    ] = MAX_CHARS
    too_long: Annotated[
        Literal["refuse", "cut"],
        typer.Option(
            help="What a longer response comes to: no verdict, before anything is spent; or it is "
            "shown to the judge without its middle.",
            rich_help_panel=_PANEL,
        ),
    ] = "refuse"
    on_injection: Annotated[
        Literal["flag", "no_verdict"],
        typer.Option(
            help="What an attempt on the judge comes to: a flag beside the verdict, or none.",
            rich_help_panel=_PANEL,
        ),
    ] = "flag"

    def given(self) -> list[str]:
        """The options that were set to something else than their default, but for the method."""
        return [
            "--" + f.name.replace("_", "-")
            for f in fields(self)
            if f.name != "method" and getattr(self, f.name) != f.default
        ]

    def common(self) -> dict[str, Any]:
        """What both kinds of judges take."""
        return {
            "reference": "judge" if self.reference_by_judge else "given",
            "structured": self.structured == "auto",
            "reask": self.reask,
            "least_mass": self.least_mass,
            "max_chars": self.max_chars,
            "too_long": self.too_long,
            "on_injection": self.on_injection,
        }


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(JudgeOptions):
    """How responses are graded."""

    method: Annotated[
        Literal["auto", "verdict", "expectation", "checklist"],
        typer.Option(
            help="verdict: ask for grades, with reasons where the rubric wants them. expectation: "
            "ask for the level alone, one call a criterion, and take the mean over the "
            "probabilities of all levels; over 10 draws where the model gives none. checklist: "
            "write yes/no questions from the prompt, then answer each, one call a question. auto: "
            "expectation for a local model under a billion parameters.",
            rich_help_panel=_PANEL,
        ),
    ] = "auto"
    questions_by: QuestionsBy = None
    aggregate: AggregateBy = "mean"
    criteria_calls: CallsFor = None


@dataclass(frozen=True, kw_only=True)
class PairOptions(JudgeOptions):
    """How responses are compared."""

    method: Annotated[
        PairMethod,
        typer.Option(
            help="verdict: ask for a verdict, with reasons where the rubric wants them. token: ask "
            "for one token and read the probabilities of all labels. likelihood: how much the "
            "prompt raises the response's likelihood, for models too small to ask; it reads no "
            "rubric. score, expectation, checklist: grade each response alone, as verdict, "
            "expectation and checklist of judge score do; the higher score wins. auto: likelihood "
            "for a local model under a billion parameters, else verdict.",
            rich_help_panel=_PANEL,
        ),
    ] = "auto"
    ties: Annotated[
        Literal["allowed", "forced"],
        typer.Option(
            help="allowed: the judge may call a tie. forced: it must choose.",
            rich_help_panel=_PANEL,
        ),
    ] = "allowed"
    levels: Annotated[
        Literal["3", "5"],
        typer.Option(
            help="3: A, tie or B. 5: also how much better, from A>>B to B>>A.",
            rich_help_panel=_PANEL,
        ),
    ] = "3"
    orders: Annotated[
        Literal["both", "AB", "random"],
        typer.Option(
            help="both: every pair is asked twice, the responses swapped. AB, random: once, as "
            "older tools do; position bias then goes unseen.",
            rich_help_panel=_PANEL,
        ),
    ] = "both"
    questions_by: QuestionsBy = None
    aggregate: AggregateBy = "mean"
    criteria_calls: CallsFor = None


def check_unused(how: JudgeOptions, method: str) -> None:
    """Raise `ConfigError` if `how` holds options, as `method` has no use for any."""
    if given := how.given():
        chosen = " (chosen by auto)" if getattr(how, "method", None) == "auto" else ""
        raise ConfigError(f"the method {method}{chosen} takes no {', '.join(given)}")
