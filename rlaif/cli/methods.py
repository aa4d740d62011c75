"""How a judge asks: options of the judging commands.

    @app.command()
    @asks(output=Path("runs/compare"))
    @takes("how", PairOptions)
    def compare(data: Data, *, how: PairOptions, asking: Asking) -> None:
        judge = comparer(backend, rubric, how.how(sampling))

An option that the chosen method has no use for is an error: it is never ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.judge.methods import CompareMethod, GradeMethod, How, told
from rlaif.judge.settings import MAX_CHARS

if TYPE_CHECKING:
    from rlaif.backends.base import Backend
    from rlaif.types import Sampling

JUDGING = "Judging"
"""Heading in `--help` of these options."""

CompareBy = Annotated[CompareMethod, typer.Option(help=told(), rich_help_panel=JUDGING)]
QuestionsBy = Annotated[
    str | None,
    typer.Option(
        "--questions-by",
        metavar="MODEL",
        help="checklist: the model that writes the questions. By default the one that judges.",
        rich_help_panel=JUDGING,
    ),
]
AggregateBy = Annotated[
    Literal["mean", "mode"],
    typer.Option(
        help="What stands for a distribution over levels: its mean, or its likeliest level.",
        rich_help_panel=JUDGING,
    ),
]
CallsFor = Annotated[
    Literal["one", "each"] | None,
    typer.Option(
        help="All criteria in one call, or one call for each. By default one, and each with "
        "expectation.",
        rich_help_panel=JUDGING,
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
            rich_help_panel=JUDGING,
        ),
    ] = None
    reference_by_judge: Annotated[
        bool,
        typer.Option(
            "--reference-by-judge",
            help="Where an item brings no reference, let the judge answer the prompt itself, "
            "before it sees any response. One more call a prompt.",
            rich_help_panel=JUDGING,
        ),
    ] = False
    structured: Annotated[
        Literal["auto", "off"],
        typer.Option(
            help="auto: ask for JSON, held to a schema where the provider can. off: ask for a "
            "verdict mark.",
            rich_help_panel=JUDGING,
        ),
    ] = "off"
    reask: Annotated[
        bool,
        typer.Option(
            help="Whether a judge whose reply cannot be read is told why, once.",
            rich_help_panel=JUDGING,
        ),
    ] = True
    least_mass: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Probability that must lie on the labels where one token is all that is read "
            "(token, expectation); with less there is no verdict. 0.5, and 0 for a local "
            "model under a billion parameters.",
            rich_help_panel=JUDGING,
        ),
    ] = None
    max_chars: Annotated[
        int,
        typer.Option(
            min=100, help="Most characters of a prompt or a response.", rich_help_panel=JUDGING
        ),
    ] = MAX_CHARS
    too_long: Annotated[
        Literal["refuse", "cut"],
        typer.Option(
            help="What a longer response comes to: no verdict, before anything is spent; or it is "
            "shown to the judge without its middle.",
            rich_help_panel=JUDGING,
        ),
    ] = "refuse"
    on_injection: Annotated[
        Literal["flag", "no_verdict"],
        typer.Option(
            help="What an attempt on the judge comes to: a flag beside the verdict, or none.",
            rich_help_panel=JUDGING,
        ),
    ] = "flag"

    def given(self) -> list[str]:
        """The options that were set to something else than their default, but for the method."""
        return [
            flag_of(f.name)
            for f in fields(self)
            if f.name != "method" and getattr(self, f.name) != f.default
        ]

    def how(self, sampling: Sampling, *, seed: int = 0, questions_by: Backend | None = None) -> How:
        """The options as judges take them.

        Args:
            sampling: How the judge draws its replies.
            seed: Draws what is drawn.
            questions_by: The model that `--questions-by` names.
        """
        set_to: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        set_to["reference"] = "judge" if set_to.pop("reference_by_judge") else "given"
        set_to["structured"] = self.structured == "auto"
        set_to["questions_by"] = questions_by
        if "levels" in set_to:
            set_to["levels"] = int(set_to["levels"])
        return How(sampling=sampling, seed=seed, spelled=flag_of, **set_to)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(JudgeOptions):
    """How responses are graded."""

    method: Annotated[
        GradeMethod,
        typer.Option(
            help="verdict: ask for grades, with reasons where the rubric wants them. expectation: "
            "ask for the level alone, one call a criterion, and take the mean over the "
            "probabilities of all levels; over 10 draws where the model gives none. checklist: "
            "write yes/no questions from the prompt, then answer each, one call a question. auto: "
            "expectation for a local model under a billion parameters.",
            rich_help_panel=JUDGING,
        ),
    ] = "auto"
    questions_by: QuestionsBy = None
    aggregate: AggregateBy = "mean"
    criteria_calls: CallsFor = None


@dataclass(frozen=True, kw_only=True)
class CompareOptions(JudgeOptions):
    """How pairs are judged, by whatever method."""

    ties: Annotated[
        Literal["allowed", "forced"],
        typer.Option(
            help="allowed: the judge may call a tie. forced: it must choose.",
            rich_help_panel=JUDGING,
        ),
    ] = "allowed"
    levels: Annotated[
        Literal["3", "5"],
        typer.Option(
            help="3: A, tie or B. 5: also how much better, from A>>B to B>>A.",
            rich_help_panel=JUDGING,
        ),
    ] = "3"
    orders: Annotated[
        Literal["both", "AB", "random"],
        typer.Option(
            help="both: every pair is asked twice, the responses swapped. AB, random: once, as "
            "older tools do; position bias then goes unseen.",
            rich_help_panel=JUDGING,
        ),
    ] = "both"
    questions_by: QuestionsBy = None
    aggregate: AggregateBy = "mean"
    criteria_calls: CallsFor = None


@dataclass(frozen=True, kw_only=True)
class PairOptions(CompareOptions):
    """How responses are compared."""

    method: CompareBy = "auto"


def flag_of(option: str) -> str:
    """What the command line calls an option of a judge."""
    if option == "reference":
        option = "reference_by_judge"
    return "--" + option.replace("_", "-")
