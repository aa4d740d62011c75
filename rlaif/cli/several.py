"""Several judges from one command: a panel, or a cascade; and what they come to at the end.

    seated = seat(asking, session, several, rubrics, lambda backend, rubric: PairwiseJudge(…))
    judging.carry_out(seated.judge.ref, items, seated.counted(seated.judge.compare),
                      seated.requests, also=seated.account, after=partial(conclude, seated))

`-m` and `-r` may both be given several times: each model judges by each rubric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.cli.methods import flag_of
from rlaif.cli.output import say
from rlaif.errors import ConfigError

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.cli.asking import Asking, Session
    from rlaif.judge.seating import Seated
    from rlaif.store.runs import RunFolder
    from rlaif.types import Verdict

_PANEL = "Several judges"
"""Heading in `--help` of these options."""

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
        return [flag_of(f.name) for f in fields(self) if getattr(self, f.name) is not None]


def conclude(seated: Seated, run: RunFolder, summary: dict[str, Any]) -> dict[str, Any]:
    """What is left to do with the verdicts of a whole run; its summary."""
    if seated.cascade is not None:
        path = _write_doubtful(run.path, seated.judge.ref.model)
        say(f"wrote {path}: {summary['cascade']['escalated']} for people")
    if seated.estimated:
        summary = summary | {"panel": summary["panel"] | _reweigh(seated, run)}
        run.write_json("summary.json", summary)
    return summary


def _reweigh(seated: Seated, run: RunFolder) -> dict[str, Any]:
    """Combine the members' verdicts anew, by weights that their votes gave."""
    from rlaif.canonical import json_line
    from rlaif.store.runs import read_verdicts

    found = seated.estimate()
    if (weights := found["weights"]) is None:
        why = found["why_alike"]
        say(f"note: all judges count alike, as their weights cannot be estimated: {why}")
        return found
    with run.open_whole("verdicts.jsonl") as file:
        for verdict in read_verdicts(run.path):
            file.write(json_line(seated.reweighed(verdict, weights).as_dict()))
    return found


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
    from rlaif.judge import seating

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
    first = rubrics[0] if rubrics else None
    reserve = [make(session.backend(one), first) for one in several.substitute or []]
    told = seating.Several(
        panel=several.panel,
        weights=_weights(several.weights),
        min_valid=several.min_valid,
        substitute=reserve or None,
        cascade=several.cascade,
        spelled=flag_of,
    )
    return seating.seat(members, told)


def _weights(text: str | None) -> list[float] | Literal["estimated"] | None:
    """What `--weights` says.

    Raises:
        ConfigError: it is neither numbers nor `estimated`.
    """
    if text is None or text == "estimated":
        return "estimated" if text else None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        message = f"--weights are numbers such as 2,1,1, or estimated, not {text!r}"
        raise ConfigError(message) from None


def _write_doubtful(run: Path, judge: str) -> Path:
    """Write what no judge was sure of to `escalate.jsonl` in the run folder; the file."""
    from rlaif.cli.human_labels import write_escalated
    from rlaif.judge.cascade import confidence, is_escalated

    def sure(verdict: Verdict) -> float | None:
        return (confidence(verdict) or -1.0) if is_escalated(verdict) else None

    return write_escalated(run, [judge], None, run, sure=sure)
