"""What a judge in Python can be told: the options of the command line, in its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from rlaif.api.opening import Opening
from rlaif.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from rlaif.backends.base import Backend
    from rlaif.judge.combining import Rule
    from rlaif.judge.endings import Levels
    from rlaif.judge.pairwise import Orders, Ties
    from rlaif.judge.scales import Aggregate
    from rlaif.judge.score_form import CriteriaCalls
    from rlaif.judge.screening import OnInjection
    from rlaif.judge.settings import ReferenceFrom, TooLong


class Asked(TypedDict, total=False):
    """How a judge is asked. One that the method has no use for is an error."""

    draws: int | None
    """Replies to each question, whose mean is taken; more than one needs a temperature."""
    reference: ReferenceFrom
    """`judge` lets it answer the prompt itself first, where an item has no reference."""
    structured: bool
    """Ask for a JSON object, held to a schema where the provider can."""
    reask: bool
    """Whether a judge whose reply cannot be read is told so, once; it is by default."""
    least_mass: float
    """Probability that must lie on the labels where one token is all that is read."""
    max_chars: int
    """Most characters of a prompt or a response."""
    too_long: TooLong
    """Whether a response that is longer is refused, or cut in the middle."""
    on_injection: OnInjection
    """Whether an attempt on the judge is a flag beside the verdict, or leaves none."""
    ties: Ties
    """Of pairs: whether the judge may call a tie."""
    levels: Levels
    """Of pairs: three verdicts, or five from A>>B to B>>A."""
    orders: Orders
    """Of pairs: asked in both orders, or in one."""
    seed: int
    """Draws the order where that is random."""
    aggregate: Aggregate
    """Of grades: the mean of a distribution over levels, or its mode."""
    criteria_calls: CriteriaCalls
    """Of grades: all criteria in one call, or each in its own."""
    questions_by: str | Backend
    """Of checklists: the model that writes the questions."""


class Seating(TypedDict, total=False):
    """How several judges become one."""

    panel: Rule
    """How they are combined: mean (the default), median or vote."""
    weights: Sequence[float] | Literal["estimated"]
    """One for each, by model and for each by rubric; or estimated from their votes."""
    min_valid: int
    """Judges that must have a verdict; more than half by default."""
    substitute: Sequence[str | Backend]
    """Models that are asked in place of a judge without a verdict."""
    cascade: float
    """Ask them in turn, until one is this confident."""


class Options(Asked, Seating, Opening, total=False):
    """All of them, and those of `open_backend`."""


def sorted_out(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Opening]:
    """The options by what they are for: asking, seating, opening.

    Raises:
        ConfigError: there is no such option.
    """
    known = (Asked.__annotations__, Seating.__annotations__, Opening.__annotations__)
    names = {name for one in known for name in one}
    if unknown := [name for name in options if name not in names]:
        message = f"there is no option called {unknown[0]!r}; {suggestion(unknown[0], names)}"
        raise ConfigError(message)
    asked, seating, opening = ({k: v for k, v in options.items() if k in one} for one in known)
    return asked, seating, cast("Opening", opening)
