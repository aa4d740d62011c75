"""Several judges seated as one, and what they come to at the end of a run.

    seated = seat(judges, Several(panel="median"))
    verdicts = [await seated.counted(seated.judge.compare)(pair) for pair in pairs]
    seated.account()                # for the summary: how many judges the panel is worth
    weights = seated.estimate()["weights"]              # where they were to be estimated
    verdicts = [seated.reweighed(verdict, weights) for verdict in verdicts]

Which models judge by which rubrics is for the caller to say: one judge for each pair of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rlaif.errors import ConfigError, DataError
from rlaif.types import Request, Verdict

if TYPE_CHECKING:  # a panel needs numpy, which a lone judge does not
    from rlaif.judge.cascade import CascadeJudge
    from rlaif.judge.combining import Rule
    from rlaif.judge.making import Comparer, Grader
    from rlaif.judge.panel import PanelJudge
    from rlaif.judge.panel_votes import PanelVotes

    AnyGrader = Grader | PanelJudge | CascadeJudge
    """A judge that grades: one, or several as one."""
    AnyComparer = Comparer | PanelJudge | CascadeJudge
    """A judge that compares: one, or several as one."""

T = TypeVar("T")
Member = tuple[Any, Any]
"""A judge, and the backend that answers it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Several:
    """How several judges become one: a panel, unless there is a threshold for a cascade."""

    panel: Rule | None = None
    """How a panel's judges are combined; by their mean by default."""
    weights: Sequence[float] | Literal["estimated"] | None = None
    """One for each judge; or they are estimated from the votes of a whole run."""
    min_valid: int | None = None
    """Judges that must have a verdict; more than half by default."""
    substitute: Sequence[Any] | None = None
    """Who is asked in place of a judge without a verdict."""
    cascade: float | None = None
    """Confidence from which on a verdict stands: the judges are asked in turn."""
    spelled: Callable[[str], str] = field(default=str, repr=False, compare=False)
    """What an option is called where it was given."""

    def given(self) -> list[str]:
        """The options that were set, as they were spelled."""
        named = (one.name for one in fields(self) if one.name != "spelled")
        return [self.spelled(name) for name in named if getattr(self, name) is not None]


@dataclass(frozen=True, slots=True)
class Seated:
    """The judge of a run: one, a panel or a cascade."""

    judge: Any
    members: Sequence[Member]
    """Who is asked in any case."""
    reserve: Sequence[Any] = ()
    """Judges that are asked in place of one without a verdict."""
    votes: PanelVotes | None = None
    cascade: CascadeJudge | None = None
    estimated: bool = False
    """Whether a panel's weights are estimated at the end."""

    @property
    def judges(self) -> list[Any]:
        """Everyone who may be asked."""
        return [*(judge for _, judge in self.members), *self.reserve]

    def requests(self, *work: Any) -> Iterator[tuple[Any, Request]]:
        """What would be asked of whom about one item, before any reply."""
        for backend, judge in self.members:
            yield from asked_of(judge, backend, *work)

    def counted(self, work: Callable[[T], Awaitable[Verdict]]) -> Callable[[T], Awaitable[Verdict]]:
        """`work`, whose verdicts are counted for the account."""
        votes = self.votes
        if votes is None:
            return work

        async def judged(item: T) -> Verdict:
            verdict = await work(item)
            votes.add(verdict)
            return verdict

        return judged

    def account(self) -> dict[str, Any]:
        """What the summary of a run says of several judges; nothing of a lone one."""
        if self.cascade is not None:
            return {"cascade": self.cascade.summary()}
        if self.votes is None:
            return {}
        names = [judge.ref.model for _, judge in self.members]
        return {"panel": {"members": names, **self.votes.summary()}}

    def estimate(self) -> dict[str, Any]:
        """The weights that the votes counted so far give a panel's judges, for the summary.

        `weights` by seat; or `None`, with `why_alike`, where they cannot be estimated.
        """
        assert self.votes is not None
        try:
            return {"weights": self.votes.estimated_weights()}
        except DataError as error:
            return {"weights": None, "why_alike": str(error)}

    def reweighed(self, verdict: Verdict, weights: Sequence[float]) -> Verdict:
        """A panel's verdict, its members' combined anew by `weights`."""
        from rlaif.judge.panel import combined

        return combined(verdict, self.judge.rule, weights) if verdict.status == "ok" else verdict


def asked_of(judge: Any, backend: Any, *work: Any) -> Iterator[tuple[Any, Request]]:
    """What `judge` would ask of whom about one item: of `backend`, unless it asks others too."""
    if hasattr(judge, "planned"):
        yield from judge.planned(*work)
    else:
        for request in judge.requests(*work):
            yield backend, request


def seat(members: Sequence[Member], several: Several) -> Seated:
    """The judge that `members` are together.

    Args:
        members: Who judges, each with its backend; for a cascade the cheapest first.
        several: How they are combined.

    Raises:
        ConfigError: two judges are the same, or an option does not fit them; or those of a cascade
            judge by several rubrics.
    """
    from rlaif.judge.cascade import CascadeJudge

    if len(members) == 1:
        if given := several.given():
            raise ConfigError(f"{', '.join(given)} is for several judges, and there is one")
        return Seated(members[0][1], members)
    judges = [judge for _, judge in members]
    if several.cascade is None:
        return _panel(judges, members, several)
    own = several.spelled("cascade")
    if others := [name for name in several.given() if name != own]:
        raise ConfigError(f"{own} asks one judge after the other: it takes no {others[0]}")
    cascade = CascadeJudge(judges, several.cascade)
    if len({id(backend) for backend, _ in members}) < len(members):
        raise ConfigError(f"{own} takes one rubric: its judges answer the same question")
    return Seated(cascade, members, cascade=cascade)


def _panel(judges: Sequence[Any], members: Sequence[Member], several: Several) -> Seated:
    from rlaif.judge.panel import PanelJudge
    from rlaif.judge.panel_votes import PanelVotes

    reserve = several.substitute or ()
    panel = PanelJudge(
        judges,
        rule=several.panel or "mean",
        weights=several.weights,
        min_valid=several.min_valid,
        substitutes=reserve,
    )
    estimated = several.weights == "estimated"
    return Seated(panel, members, reserve, votes=PanelVotes(panel.seats), estimated=estimated)
