"""How a judge asks, whatever it asks: draws, asking again, structure, references, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rlaif.errors import ConfigError
from rlaif.judge.labels import LEAST_MASS
from rlaif.specs.rubric import Rubric
from rlaif.types import Candidate, Item, Message, Messages, Sampling

ReferenceFrom = Literal["given", "judge"]
"""Where a reference comes from: the item alone, or the judge where the item has none."""
TooLong = Literal["refuse", "cut"]

MAX_CHARS = 400_000
"""Characters of one text, about 100,000 tokens: what most judges' windows can take twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a judge asks.

    Raises:
        ConfigError: a number is too small, or greedy draws are asked for several times.
    """

    sampling: Sampling
    top_logprobs: int
    draws: int = 1
    reask: bool = True
    structured: bool = False
    reference: ReferenceFrom = "given"
    least_mass: float = LEAST_MASS
    """Probability that must lie on the labels or levels where one token is all that is read."""
    max_chars: int = MAX_CHARS
    """Most characters of a prompt, a reference or a response."""
    too_long: TooLong = "refuse"
    """Whether a longer response has no verdict, or is shown without its middle."""

    def __post_init__(self) -> None:
        check_draws(self.draws)
        if self.draws > 1 and self.sampling.temperature == 0:
            message = f"{self.draws} draws at temperature 0 are one draw: raise the temperature"
            raise ConfigError(message)
        if not 0.0 <= self.least_mass <= 1.0:
            raise ConfigError(f"least_mass is a probability, not {self.least_mass}")
        if self.max_chars < _LEAST_CHARS:
            raise ConfigError(f"max_chars is {_LEAST_CHARS} at least, not {self.max_chars}")

    def named(self) -> list[str]:
        """What differs from the usual, as a judge's method names it."""
        words = [
            (self.draws > 1, f"{self.draws} draws"),
            (self.reference == "judge", "own reference"),
            (self.structured, "structured"),
            (not self.reask, "asked once"),
            (self.least_mass != LEAST_MASS, f"least mass {self.least_mass:g}"),
            (self.too_long == "cut", f"cut at {self.max_chars} characters"),
        ]
        return [word for used, word in words if used]

    def check_rubric(self, rubric: Rubric) -> None:
        """Raise `ConfigError` if the judge would write a reference that the rubric never shows."""
        if self.reference == "judge" and rubric.reference == "none":
            raise ConfigError(
                f"rubric '{rubric.name}' shows no reference: the judge's would be lost"
            )

    def writes_reference(self, item: Item) -> bool:
        """Whether the judge answers the prompt of `item` itself, first."""
        return self.reference == "judge" and item.reference is None

    def excess(self, item: Item, candidates: Sequence[Candidate]) -> str | None:
        """What is longer than may be asked about, in one line; `None` where all is well."""
        texts = [_length(item.prompt), len(item.reference or "")]
        if self.too_long == "refuse":
            texts += [_length(candidate.response) for candidate in candidates]
        if max(texts) <= self.max_chars:
            return None
        names = [f"the prompt of item {item.id!r}", "the reference"]
        names += [f"response {candidate.id!r}" for candidate in candidates]
        for name, length in zip(names, texts, strict=False):
            if length > self.max_chars:
                return (
                    f"{name} has {length:,} characters, over the limit of {self.max_chars:,}: "
                    "not asked"
                )
        return None

    def fitted(self, candidate: Candidate) -> Candidate:
        """The candidate as the judge sees it: a response that is too long without its middle."""
        if self.too_long == "refuse" or _length(candidate.response) <= self.max_chars:
            return candidate
        room = self.max_chars // len(candidate.response)
        cut = tuple(Message(m.role, _without_middle(m.content, room)) for m in candidate.response)
        return replace(candidate, response=cut)

    def flags(self, candidates: Sequence[Candidate]) -> dict[str, tuple[str, ...]]:
        """What is odd about candidates, by their id: `empty`, or `cut` by these settings."""
        found: dict[str, tuple[str, ...]] = {}
        for candidate in candidates:
            length = _length(candidate.response)
            if length > self.max_chars and self.too_long == "cut":
                found[candidate.id] = ("cut",)
            elif not length or _is_blank(candidate):
                found[candidate.id] = ("empty",)
        return found


_LEAST_CHARS = 100


def check_draws(draws: int) -> None:
    """Raise `ConfigError` unless `draws` is a count from 1 up."""
    if draws < 1:
        raise ConfigError(f"draws is a count from 1 up, not {draws}")


def _length(messages: Messages) -> int:
    if len(messages) == 1:
        return len(messages[0].content)
    return sum(len(m.content) for m in messages)


def _is_blank(candidate: Candidate) -> bool:
    """Whether the assistant says nothing."""
    text = candidate.text
    return not text or text.isspace()


def _without_middle(text: str, room: int) -> str:
    """The two ends of `text`, `room` characters in all, with a mark of what is missing between."""
    if len(text) <= room:
        return text
    head = room // 2
    tail = room - head
    left_out = len(text) - room
    return f"{text[:head]}\n[… {left_out:,} characters left out …]\n{text[len(text) - tail :]}"
