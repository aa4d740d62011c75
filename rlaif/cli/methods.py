"""How a judge asks: options of the judging commands, and the judges that they make.

    @app.command()
    @asks(output=Path("runs/compare"))
    @takes("how", PairOptions)                        # under @asks, which hands its own on
    def compare(data: Data, *, how: PairOptions, asking: Asking) -> None:
        judge = pair_judge(backend, rubric, how, sampling)

An option that the chosen method has no use for is an error: it is never ignored.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from rlaif.cli import options
from rlaif.errors import ConfigError
from rlaif.judge.choice import is_small
from rlaif.judge.labels import LEAST_MASS
from rlaif.judge.settings import MAX_CHARS

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.judge.checklist import ChecklistJudge
    from rlaif.judge.common import RubricSource
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.judge.pointwise import PointwiseJudge
    from rlaif.types import Candidate, Item, Sampling

_PANEL = "Judging"
"""Heading in `--help` of these options."""


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
    questions_by: Annotated[
        str | None,
        typer.Option(
            "--questions-by",
            metavar="MODEL",
            help="checklist: the model that writes the questions. By default the one that judges.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    aggregate: Annotated[
        Literal["mean", "mode"],
        typer.Option(
            help="What stands for a distribution over levels: its mean, or its likeliest level.",
            rich_help_panel=_PANEL,
        ),
    ] = "mean"
    criteria_calls: Annotated[
        Literal["one", "each"] | None,
        typer.Option(
            help="All criteria in one call, or one call for each. By default one, and each with "
            "expectation.",
            rich_help_panel=_PANEL,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class PairOptions(JudgeOptions):
    """How responses are compared."""

    method: Annotated[
        Literal["auto", "verdict", "token", "likelihood"],
        typer.Option(
            help="verdict: ask for a verdict, with reasons where the rubric wants them. token: ask "
            "for one token and read the probabilities of all labels. likelihood: how much the "
            "prompt raises the response's likelihood, for models too small to ask; it reads no "
            "rubric. auto: likelihood for a local model under a billion parameters, else verdict.",
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


def score_judge(
    backend: CachedBackend,
    rubric: RubricSource,
    how: ScoreOptions,
    sampling: Sampling,
    judged: Iterable[tuple[Item, Sequence[Candidate]]] = (),
) -> PointwiseJudge:
    """The judge that grades as `how` says.

    Args:
        backend: The model that judges.
        rubric: What it judges by.
        how: The options.
        sampling: How it draws its replies.
        judged: All that will be judged, to find responses that recur over prompts.

    Raises:
        ConfigError: options contradict each other.
    """
    from rlaif.judge.pointwise import PointwiseJudge

    if how.questions_by is not None:
        raise ConfigError("--questions-by is for --method checklist")
    auto = "expectation" if is_small(backend) else "verdict"
    method: Any = auto if how.method == "auto" else how.method
    return PointwiseJudge(
        backend,
        rubric,
        sampling=sampling,
        method=method,
        draws=how.draws,
        aggregate=how.aggregate,
        criteria_calls=how.criteria_calls,
        **how.common(),
        **against_attacks(judged),
    )


def checklist_judge(
    backend: CachedBackend,
    writer: CachedBackend,
    rubric: RubricSource,
    how: ScoreOptions,
    sampling: Sampling,
    judged: Iterable[tuple[Item, Sequence[Candidate]]] = (),
) -> ChecklistJudge:
    """The judge that answers yes/no questions which `writer` has written.

    The other arguments are those of `score_judge`.

    Raises:
        ConfigError: options contradict each other.
    """
    from rlaif.judge.checklist import ChecklistJudge

    useless = {"method", "draws", "structured", "aggregate", "criteria_calls"}
    usual: dict[str, Any] = {f.name: f.default for f in fields(how) if f.name not in useless}
    check_unused(replace(how, **usual), "checklist")
    given = {k: v for k, v in how.common().items() if k != "structured"}
    return ChecklistJudge(
        backend,
        rubric,
        writer=writer,
        sampling=sampling,
        **given,
        **against_attacks(judged),
    )


def pair_judge(
    backend: CachedBackend,
    rubric: RubricSource,
    how: PairOptions,
    sampling: Sampling,
    *,
    seed: int = 0,
    judged: Iterable[tuple[Item, Sequence[Candidate]]] = (),
) -> PairwiseJudge:
    """The judge that compares as `how` says, by a verdict or one token.

    Args:
        backend: The model that judges.
        rubric: What it judges by.
        how: The options.
        sampling: How it draws its replies.
        seed: Draws the order where that is random.
        judged: All that will be judged, to find responses that recur over prompts.

    Raises:
        ConfigError: options contradict each other.
    """
    from rlaif.judge.pairwise import PairwiseJudge

    return PairwiseJudge(
        backend,
        rubric,
        sampling=sampling,
        method="token" if how.method == "token" else "verdict",
        orders=how.orders,
        seed=seed,
        draws=how.draws or 1,
        ties=how.ties,
        levels=5 if how.levels == "5" else 3,
        **how.common(),
        **against_attacks(judged),
    )


def check_unused(how: JudgeOptions, method: str) -> None:
    """Raise `ConfigError` if `how` holds options, as `method` has no use for any."""
    if given := how.given():
        chosen = " (chosen by auto)" if getattr(how, "method", None) == "auto" else ""
        raise ConfigError(f"the method {method}{chosen} takes no {', '.join(given)}")


def against_attacks(judged: Iterable[tuple[Item, Sequence[Candidate]]]) -> dict[str, Any]:
    """What every judge takes against attempts on it: keyed markers, what recurs over prompts."""
    from rlaif.judge.detect import constant_responses
    from rlaif.judge.markers import Markers
    from rlaif.store.secret import load_secret

    return {
        "markers": Markers(load_secret(options.home())),
        "constant": constant_responses(judged),
    }


T = TypeVar("T")


def takes(name: str, kind: type[T]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command the options of `kind`, handed to it as `name`."""
    options_of: Any = kind

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            made = kind(**{f.name: given.pop(f.name) for f in fields(options_of)})
            command(**given, **{name: made})

        signature = _merged(command, name, kind)
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__module__ = command.__module__
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return run

    return decorate


def _merged(command: Callable[..., None], name: str, kind: Any) -> inspect.Signature:
    """The command's own parameters, but for `name`, and an option for each field of `kind`."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(command).parameters.values()
        if p.name != name
    ]
    theirs = get_type_hints(kind, include_extras=True)
    more = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=theirs[f.name]
        )
        for f in fields(kind)
    ]
    return inspect.Signature([*own, *more])
