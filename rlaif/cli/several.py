"""Several judges from one command: a panel, or a cascade; and what they come to at the end.

    seated = seat(asking, session, several, rubrics, lambda backend, rubric: PairwiseJudge(…))
    judging.carry_out(seated.judge.ref, items, seated.counted(seated.judge.compare),
                      seated.requests, also=seated.account, after=seated.conclude)

`-m` and `-r` may both be given several times: each model judges by each rubric.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from rlaif.cli.output import say
from rlaif.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.cli.asking import Asking, Session
    from rlaif.judge.cascade import CascadeJudge
    from rlaif.judge.panel_votes import PanelVotes
    from rlaif.store.runs import RunFolder
    from rlaif.types import Request, Verdict

_PANEL = "Several judges"
"""Heading in `--help` of these options."""

T = TypeVar("T")
Make = Callable[["CachedBackend", str | None], Any]
"""The judge of a model and a rubric."""


@dataclass(frozen=True, kw_only=True)
class SeveralOptions:
    """How several judges become one. Each field is an option of the command line."""

    panel: Annotated[
        Literal["mean", "median", "vote"] | None,
        typer.Option(
            help="How the judges of several -m or -r are combined: mean (the default) of "
            "probabilities or grades, their median, or one vote each.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            help="The judges' weights, such as 2,1,1 (by -m, and for each by -r); or estimated: by "
            "Dawid and Skene, from the votes of the whole run.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    min_valid: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Judges that must have a verdict for the panel to have one. By default more than "
            "half.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    substitute: Annotated[
        list[str] | None,
        typer.Option(
            help="A model that is asked in place of a judge without a verdict. Repeatable.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    cascade: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=1.0,
            help="Ask the -m in turn, until one is this confident. Of what none is sure goes to "
            "escalate.jsonl, for people.",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def given(self) -> list[str]:
        """The options that were set."""
        named = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        return ["--" + name.replace("_", "-") for name in named]


@dataclass(frozen=True)
class Seated:
    """The judge of a command: one, a panel or a cascade."""

    judge: Any
    members: Sequence[tuple[CachedBackend, Any]]
    """Who is asked in any case, each with the backend that answers."""
    votes: PanelVotes | None = None
    cascade: CascadeJudge | None = None
    estimated: bool = False
    """Whether the weights are estimated at the end."""

    def requests(self, *work: Any) -> Iterator[tuple[CachedBackend, Request]]:
        """What would be asked of whom about one item, before any reply."""
        for backend, judge in self.members:
            yield from asked_of(judge, backend, *work)

    def counted(self, work: Callable[[T], Awaitable[Verdict]]) -> Callable[[T], Awaitable[Verdict]]:
        """`work`, whose verdicts are counted for the summary."""
        votes = self.votes
        if votes is None:
            return work

        async def judged(item: T) -> Verdict:
            verdict = await work(item)
            votes.add(verdict)
            return verdict

        return judged

    def account(self) -> dict[str, Any]:
        """What the summary says of several judges."""
        if self.cascade is not None:
            return {"cascade": self.cascade.summary()}
        if self.votes is None:
            return {}
        names = [judge.ref.model for _, judge in self.members]
        return {"panel": {"members": names, **self.votes.summary()}}

    def conclude(self, run: RunFolder, summary: dict[str, Any]) -> dict[str, Any]:
        """What is left to do with the verdicts of a whole run; its summary."""
        if self.cascade is not None:
            threshold = summary["cascade"]["threshold"]
            path = _write_doubtful(run.path, self.judge.ref.model, threshold)
            say(f"wrote {path}: {summary['cascade']['escalated']} for people")
        if self.estimated and self.votes is not None:
            summary = summary | {"panel": summary["panel"] | self._reweigh(run, self.votes)}
            run.write_json("summary.json", summary)
        return summary

    def _reweigh(self, run: RunFolder, votes: PanelVotes) -> dict[str, Any]:
        """Combine the members' verdicts anew, by weights that their votes gave."""
        from rlaif.canonical import json_line
        from rlaif.judge.panel import combined
        from rlaif.store.runs import read_verdicts

        try:
            weights = votes.estimated_weights()
        except DataError as error:
            say(f"note: all judges count alike, as their weights cannot be estimated: {error}")
            return {"weights": None, "why_alike": str(error)}
        with run.open_whole("verdicts.jsonl") as file:
            for verdict in read_verdicts(run.path):
                if verdict.status == "ok":
                    verdict = combined(verdict, self.judge.rule, weights)  # noqa: PLW2901
                file.write(json_line(verdict.as_dict()))
        return {"weights": weights}


def asked_of(
    judge: Any, backend: CachedBackend, *work: Any
) -> Iterator[tuple[CachedBackend, Request]]:
    """What `judge` would ask of whom about one item: of `backend`, unless it asks others too."""
    if hasattr(judge, "planned"):
        yield from judge.planned(*work)
    else:
        for request in judge.requests(*work):
            yield backend, request


def seat(
    asking: Asking,
    session: Session,
    several: SeveralOptions,
    rubrics: Sequence[str] | None,
    make: Make,
) -> Seated:
    """The judge of a command, by its models, its rubrics and how they are combined.

    Raises:
        ConfigError: a model or a rubric is given twice, or an option does not fit the judges.
    """
    for flag, names in (("-m", asking.model), ("-r", rubrics or [])):
        if len(set(names)) < len(names):
            twice = next(n for n in names if list(names).count(n) > 1)
            raise ConfigError(f"{flag} {twice} is given twice: it would say the same again")
    backends = [session.backend(address) for address in asking.model]
    named: Sequence[str | None] = rubrics or [None]
    asked = [(backend, rubric) for backend in backends for rubric in named]
    if len(asked) == 1 and (given := several.given()):
        raise ConfigError(f"{', '.join(given)} is for several judges: give -m or -r again")
    members = [(backend, make(backend, rubric)) for backend, rubric in asked]
    if len(members) == 1:
        return Seated(members[0][1], members)
    judges = [judge for _, judge in members]
    if several.cascade is not None:
        return _cascade(several, rubrics, judges, members)
    return _panel(session, several, rubrics, make, members)


def _cascade(
    several: SeveralOptions,
    rubrics: Sequence[str] | None,
    judges: Sequence[Any],
    members: Sequence[tuple[CachedBackend, Any]],
) -> Seated:
    from rlaif.judge.cascade import CascadeJudge

    if others := [name for name in several.given() if name != "--cascade"]:
        raise ConfigError(f"--cascade asks one judge after the other: it takes no {others[0]}")
    if len(rubrics or []) > 1:
        raise ConfigError("--cascade takes one -r: its judges answer the same question")
    assert several.cascade is not None
    cascade = CascadeJudge(judges, several.cascade)
    return Seated(cascade, members, cascade=cascade)


def _panel(
    session: Session,
    several: SeveralOptions,
    rubrics: Sequence[str] | None,
    make: Make,
    members: Sequence[tuple[CachedBackend, Any]],
) -> Seated:
    from rlaif.judge.panel import PanelJudge
    from rlaif.judge.panel_votes import PanelVotes

    rubric = rubrics[0] if rubrics else None
    reserve = [make(session.backend(address), rubric) for address in several.substitute or []]
    panel = PanelJudge(
        [judge for _, judge in members],
        rule=several.panel or "mean",
        weights=_weights(several.weights),
        min_valid=several.min_valid,
        substitutes=reserve,
    )
    return Seated(
        panel, members, votes=PanelVotes(panel.seats), estimated=several.weights == "estimated"
    )


def _weights(text: str | None) -> list[float] | str | None:
    """What `--weights` says.

    Raises:
        ConfigError: it is neither numbers nor `estimated`.
    """
    if text is None or text == "estimated":
        return text
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        message = f"--weights are numbers such as 2,1,1, or estimated, not {text!r}"
        raise ConfigError(message) from None


def _write_doubtful(run: Path, judge: str, threshold: float) -> Path:
    """Write what no judge was sure of to `escalate.jsonl` in the run folder; the file."""
    from rlaif.cli.human_labels import write_escalated
    from rlaif.judge.cascade import confidence

    def sure(verdict: Verdict) -> float | None:
        if verdict.cause in ("budget", "injection"):
            return None
        alike = verdict.preference is not None and not verdict.calls
        return None if alike else confidence(verdict) or -1.0

    return write_escalated(run, [judge], threshold, run, sure=sure)
