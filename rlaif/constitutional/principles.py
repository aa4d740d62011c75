"""Which principle each step goes by, drawn so that any machine draws the same.

After Bai et al. 2022 (2212.08073): a principle for each revision, drawn anew (section 3.1), and
one for each label (section 4.1). A draw is a SHA-256 of the seed and of what it is for: it depends
on no generator's state, no order of work and no version of Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from rlaif.canonical import digest
from rlaif.errors import ConfigError
from rlaif.specs.constitution import Principle

Draw = Literal["seeded", "in-turn", "most-violated"]
"""At random for each round; in the order of the file, from a place drawn for each prompt; or the
one that a judge finds most violated."""
DRAWS: tuple[Draw, ...] = get_args(Draw)


def drawn_number(n: int, seed: int, *what: str | int) -> int:
    """A number below `n`, the same wherever `seed` and `what` are.

    Raises:
        ConfigError: `n` is not positive.
    """
    if n < 1:
        raise ConfigError(f"there is nothing to draw from: n is {n}")
    return int(digest(["rlaif draw", seed, *what])[:16], 16) % n


def drawn_principle(
    principles: Sequence[Principle], draw: Draw, seed: int, item: str, round_number: int
) -> Principle:
    """The principle of one round, counted from 1, where no judge is asked for it."""
    n = len(principles)
    if draw == "in-turn":
        return principles[(drawn_number(n, seed, "start", item) + round_number - 1) % n]
    return principles[drawn_number(n, seed, "round", item, round_number)]


def drawn_set(
    principles: Sequence[Principle], k: int, seed: int, *what: str | int
) -> tuple[Principle, ...]:
    """`k` different principles, in the order they were drawn.

    Raises:
        ConfigError: there are not so many.
    """
    if not 1 <= k <= len(principles):
        raise ConfigError(f"{k} principles of {len(principles)} cannot be drawn")
    left = list(principles)
    return tuple(
        left.pop(drawn_number(len(left), seed, "label", place, *what)) for place in range(k)
    )
