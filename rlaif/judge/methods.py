"""The ways of asking a judge, in one table, and what each can be told besides.

    how = How(method="token", ties="forced")
    way = chosen(how, backend)          # METHODS["token"]; what `auto` stands for, where that is it
    check_used(how, way, PAIR_USES)     # an option that the way has no use for is an error

The command line, its files and Python name the same methods: those of this table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

from rlaif.errors import ConfigError
from rlaif.judge.choice import is_reward, is_small
from rlaif.judge.labels import LEAST_MASS
from rlaif.judge.settings import MAX_CHARS, ReferenceFrom, TooLong
from rlaif.types import Sampling

if TYPE_CHECKING:
    from rlaif.backends.base import Backend
    from rlaif.judge.endings import Levels
    from rlaif.judge.pairwise import Orders, Ties
    from rlaif.judge.scales import Aggregate
    from rlaif.judge.score_form import CriteriaCalls, ScoreMethod
    from rlaif.judge.screening import OnInjection

CompareMethod = Literal[
    "auto", "verdict", "token", "likelihood", "score", "expectation", "checklist"
]
"""How two responses are compared: a name in `METHODS`, or what suits the model."""
GradeMethod = Literal["auto", "verdict", "expectation", "checklist"]
"""How one response is graded."""

_COMMON = frozenset(
    {
        "draws",
        "reference",
        "structured",
        "reask",
        "least_mass",
        "max_chars",
        "too_long",
        "on_injection",
    }
)
_TOGETHER = frozenset({"ties", "levels", "orders"})
"""What only responses that are seen together can be told."""
_GRADES = frozenset({"aggregate", "criteria_calls"})
_CHECKLIST = (_COMMON - {"draws", "structured"}) | {"questions_by"}
LIST_USES = (_COMMON - {"draws", "least_mass"}) | {"ties"}
"""What a judge takes that sees all responses in one list."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way of asking a judge."""

    name: str
    compares: str
    """How two responses are compared, in one phrase."""
    grades: ScoreMethod | Literal["checklist"] | None
    """How one response is graded by the same means; `None` where it cannot be."""
    pair_uses: frozenset[str] = frozenset()
    """The options it takes where it compares."""
    alone: bool = False
    """Whether each response is judged without the other: no order is shown."""

    @property
    def reads_rubric(self) -> bool:
        """Whether it is told what to judge by."""
        return bool(self.pair_uses)

    @property
    def grade_uses(self) -> frozenset[str]:
        """The options it takes where it grades."""
        if self.grades is None:
            return frozenset()
        return _CHECKLIST if self.grades == "checklist" else _COMMON | _GRADES


METHODS: dict[str, Method] = {
    one.name: one
    for one in (
        Method(
            "verdict",
            "ask for a verdict, with reasons where the rubric wants them",
            "verdict",
            _COMMON | _TOGETHER,
        ),
        Method(
            "token",
            "ask for one token and read the probabilities of all labels",
            "expectation",
            _COMMON | _TOGETHER,
        ),
        Method(
            "likelihood",
            "how much the prompt raises the response's likelihood, for models too small to ask; "
            "it reads no rubric",
            None,
            alone=True,
        ),
        Method(
            "score",
            "grade each response alone, with reasons where the rubric wants them; the higher "
            "score wins",
            "verdict",
            _COMMON | _GRADES,
            alone=True,
        ),
        Method(
            "expectation",
            "grade each response alone, by the probabilities of all levels",
            "expectation",
            _COMMON | _GRADES,
            alone=True,
        ),
        Method(
            "checklist",
            "write yes/no questions from the prompt, then answer each for either response alone",
            "checklist",
            _CHECKLIST,
            alone=True,
        ),
    )
}
REWARD = Method("reward", "read a reward model's number for each response", None, alone=True)
"""The way of a model that gives rewards and no replies; nobody names it."""


def told() -> str:
    """What each method does when it compares, as the command line's help says it."""
    ways = " ".join(f"{one.name}: {one.compares}." for one in METHODS.values())
    return f"{ways} auto: likelihood for a local model under a billion parameters, else verdict."


@dataclass(frozen=True, kw_only=True, slots=True)
class How:
    """How a judge is asked, whatever it judges. What is left as it is was not asked for."""

    method: CompareMethod = "auto"
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    draws: int | None = None
    reference: ReferenceFrom = "given"
    structured: bool = False
    reask: bool = True
    least_mass: float | None = None
    """By default `LEAST_MASS`, and 0 where a small local model says one label: see `suited`."""
    max_chars: int = MAX_CHARS
    too_long: TooLong = "refuse"
    on_injection: OnInjection = "flag"
    ties: Ties = "allowed"
    levels: Levels = 3
    orders: Orders = "both"
    aggregate: Aggregate = "mean"
    criteria_calls: CriteriaCalls | None = None
    questions_by: Backend | None = None
    """The model that writes the questions of a checklist; by default the one that judges."""
    spelled: Callable[[str], str] = field(default=str, repr=False, compare=False)
    """What an option is called where it was given: the command line has its own spelling."""

    def given(self) -> list[str]:
        """The options that were set to something else than their default, in this order."""
        return [
            one.name
            for one in fields(self)
            if one.name not in _NO_OPTIONS and getattr(self, one.name) != one.default
        ]

    def common(self, *, but: Collection[str] = ()) -> dict[str, object]:
        """What nearly every judge takes, but for the draws, as its keyword arguments."""
        names = sorted(_COMMON - {"draws", *but})
        return {"sampling": self.sampling, **{name: getattr(self, name) for name in names}}


def suited(how: How, way: Method, backend: Backend) -> How:
    """`how` with the least mass that suits the model, where none was asked for.

    A local model is held to the labels and the probability of each is known exactly, so a reply
    always names one. A small one leaves most of the probability elsewhere. Told so, it is read from
    another prompt than its neighbours, at twice the cost: it is read as it is, and the verdict says
    how much was missing.
    """
    if how.least_mass is not None:
        return how
    one_label = way.grades == "expectation"
    return replace(how, least_mass=0.0 if one_label and is_small(backend) else LEAST_MASS)


_NO_OPTIONS = {"method", "sampling", "seed", "spelled"}


def chosen(how: How, backend: Backend) -> Method:
    """The way that compares: the one named, or where that is `auto` the one that suits the model.

    Raises:
        ConfigError: there is no such method, or the model gives rewards and can be asked nothing.
    """
    if is_reward(backend):
        if how.method != "auto":
            message = f"{backend.model} gives rewards and no replies: it takes no {how.method!r}"
            raise ConfigError(message)
        return REWARD
    name = how.method
    if name == "auto":
        name = "likelihood" if is_small(backend) else "verdict"
    if (way := METHODS.get(name)) is None:
        raise ConfigError(f"a method is one of auto, {', '.join(METHODS)}, not {name!r}")
    return way


def chosen_grading(how: How, backend: Backend) -> Method:
    """The way that grades, chosen as `chosen` does.

    Raises:
        ConfigError: as `chosen`; or the method grades nothing.
    """
    if how.method == "auto" and not is_reward(backend) and is_small(backend):
        return METHODS["expectation"]
    way = chosen(how, backend)
    if way.grades is None and way is not REWARD:
        raise ConfigError("likelihoods of different prompts make no grades: compare by them")
    return way


def check_used(how: How, way: Method, uses: Collection[str]) -> None:
    """Raise `ConfigError` if `how` holds options other than `uses`: none is ever ignored."""
    stray = [how.spelled(name) for name in how.given() if name not in uses]
    if stray:
        by = " (chosen by auto)" if how.method == "auto" else ""
        raise ConfigError(f"the method {way.name}{by} takes no {', '.join(stray)}")
