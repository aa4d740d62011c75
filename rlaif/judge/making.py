"""The judge that a method's name stands for.

    judge = comparer(backend, rubric, How(method="score", draws=4, sampling=Sampling(1.0)))
    verdict = await judge.compare(comparison)

Commands, files and notebooks all make their judges here, so that a name means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlaif.backends.base import Backend
from rlaif.errors import ConfigError
from rlaif.judge.by_scores import ByScoresJudge, ChecklistPairs
from rlaif.judge.checklist import ChecklistJudge
from rlaif.judge.common import RubricSource
from rlaif.judge.likelihood import LikelihoodJudge
from rlaif.judge.markers import Markers
from rlaif.judge.methods import (
    LIST_USES,
    REWARD,
    How,
    Method,
    check_used,
    chosen,
    chosen_grading,
    suited,
)
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.judge.pointwise import PointwiseJudge
from rlaif.judge.reward import RewardJudge

if TYPE_CHECKING:
    from rlaif.judge.listwise import ListwiseJudge

Grader = PointwiseJudge | ChecklistJudge | RewardJudge
Comparer = PairwiseJudge | LikelihoodJudge | RewardJudge | ByScoresJudge | ChecklistPairs


@dataclass(frozen=True, slots=True)
class Guard:
    """What every judge takes against attempts on it."""

    markers: Markers = field(default_factory=Markers)
    """Where the codes in the tags around judged text come from."""
    constant: Collection[int] = ()
    """Fingerprints of responses that recur over prompts."""

    def taken(self) -> dict[str, Any]:
        """As a judge's keyword arguments."""
        return {"markers": self.markers, "constant": self.constant}


_NO_KEY = Guard()


def comparer(
    backend: Backend, rubric: RubricSource | None, how: How, guard: Guard = _NO_KEY
) -> Comparer:
    """The judge that compares as `how` says.

    Args:
        backend: The model that judges.
        rubric: What it judges by, or what names the rubric of each item; likelihoods and rewards
            need none.
        how: How it is asked.
        guard: What protects it.

    Raises:
        ConfigError: options contradict each other, or the method has no use for one.
    """
    way = chosen(how, backend)
    check_used(how, way, way.pair_uses)
    if way is REWARD:
        return RewardJudge(backend)
    if way.grades is None:
        return LikelihoodJudge(backend)
    if rubric is None:
        raise ConfigError(f"the method {way.name} judges by a rubric: name one")
    if way.alone:
        judge = _grader(backend, rubric, how, way, guard)
        if isinstance(judge, ChecklistJudge):
            return ChecklistPairs(judge)
        return ByScoresJudge(judge)
    common: dict[str, Any] = suited(how, way, backend).common()
    return PairwiseJudge(
        backend,
        rubric,
        method="token" if way.name == "token" else "verdict",
        orders=how.orders,
        seed=how.seed,
        draws=how.draws or 1,
        ties=how.ties,
        levels=how.levels,
        **common,
        **guard.taken(),
    )


def grader(backend: Backend, rubric: RubricSource, how: How, guard: Guard = _NO_KEY) -> Grader:
    """The judge that grades one response as `how` says; the arguments are those of `comparer`.

    Raises:
        ConfigError: as `comparer`; or the method grades nothing.
    """
    way = chosen_grading(how, backend)
    check_used(how, way, way.grade_uses)
    if way is REWARD:
        return RewardJudge(backend)
    return _grader(backend, rubric, how, way, guard)


def check_combinable(graders: Sequence[Any]) -> None:
    """Raise `ConfigError` if several graders give what is no grade on a scale they share."""
    if len(graders) > 1 and any(isinstance(one, RewardJudge | ChecklistJudge) for one in graders):
        raise ConfigError("rewards and checklists are no grades to combine: ask one judge alone")


def _grader(
    backend: Backend, rubric: RubricSource, how: How, way: Method, guard: Guard
) -> PointwiseJudge | ChecklistJudge:
    if way.grades == "checklist":
        told: dict[str, Any] = suited(how, way, backend).common(but={"structured"})
        return ChecklistJudge(backend, rubric, writer=how.questions_by, **told, **guard.taken())
    common: dict[str, Any] = suited(how, way, backend).common()
    return PointwiseJudge(
        backend,
        rubric,
        method="expectation" if way.grades == "expectation" else "verdict",
        draws=how.draws,
        aggregate=how.aggregate,
        criteria_calls=how.criteria_calls,
        **common,
        **guard.taken(),
    )


def lister(
    backend: Backend,
    rubric: RubricSource,
    how: How,
    guard: Guard = _NO_KEY,
    *,
    shuffles: int | None = None,
    confidence: float = 0.95,
) -> ListwiseJudge:
    """The judge that ranks all responses in one prompt, asked for a verdict.

    Args:
        backend: The model that judges.
        rubric: What it judges by, or what names the rubric of each item.
        how: How it is asked; its method is `auto` or `verdict`.
        guard: What protects it.
        shuffles: How often the list is shown; 4 times by default.
        confidence: Level of the strengths' intervals.

    Raises:
        ConfigError: as `comparer`; or the model reads no lists.
    """
    from rlaif.judge.listwise import SHUFFLES, ListwiseJudge

    if how.method not in ("auto", "verdict"):
        raise ConfigError(f"a list is ranked by a verdict: it takes no method {how.method!r}")
    way = chosen(how, backend)
    if way is REWARD:
        raise ConfigError(f"{backend.model} reads no lists: rank by pairs with it")
    if stray := [how.spelled(name) for name in how.given() if name not in LIST_USES]:
        raise ConfigError(f"a list compares no pairs: it takes no {', '.join(stray)}")
    common: dict[str, Any] = how.common(but={"least_mass"})
    return ListwiseJudge(
        backend,
        rubric,
        shuffles=SHUFFLES if shuffles is None else shuffles,
        seed=how.seed,
        confidence=confidence,
        ties=how.ties,
        **common,
        **guard.taken(),
    )
