"""What is known about candidates before a judge is asked: too long, empty, or meant for the judge.

What is noticed goes to the verdict's flags and hides nothing. It decides only where the user says
so, and where a text is too long to be asked about.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from rlaif.errors import VerdictError
from rlaif.judge.detect import Inspector, is_injection
from rlaif.judge.settings import Settings
from rlaif.specs.rubric import Rubric
from rlaif.types import Candidate, Item

OnInjection = Literal["flag", "no_verdict"]
"""What an attempt on the judge comes to: a flag beside the verdict, or no verdict and no call."""

_MOST_RUBRICS = 256


class Screen:
    """Looks at candidates before the judge does.

    Args:
        settings: How the judge asks.
        on_injection: What an attempt on the judge comes to.
        constant: Fingerprints of responses that recur over prompts, from
            `rlaif.judge.detect.constant_responses`.
    """

    def __init__(
        self,
        settings: Settings,
        on_injection: OnInjection = "flag",
        constant: Collection[int] = (),
    ) -> None:
        self._settings = settings
        self._on_injection: OnInjection = on_injection
        self._constant = constant
        self._inspectors: dict[str, Inspector] = {}

    def flags(
        self, rubric: Rubric, item: Item, candidates: Sequence[Candidate]
    ) -> dict[str, tuple[str, ...]]:
        """What was noticed in which candidate, by id."""
        inspector = self._inspectors.get(rubric.digest)
        if inspector is None:
            if len(self._inspectors) >= _MOST_RUBRICS:
                self._inspectors.clear()
            inspector = self._inspectors[rubric.digest] = Inspector(rubric, self._constant)
        found = inspector.inspect(candidates, item) or {}
        for name, more in self._settings.flags(candidates).items():
            found[name] = tuple(sorted({*found.get(name, ()), *more}))
        return found

    def objection(
        self,
        item: Item,
        candidates: Sequence[Candidate],
        flags: Mapping[str, tuple[str, ...]],
    ) -> VerdictError | None:
        """Why the judge is not asked; `None` where it is."""
        if (why := self._settings.excess(item, candidates)) is not None:
            return VerdictError(why, cause="truncated")
        if self._on_injection == "no_verdict" and is_injection(dict(flags)):
            said = "; ".join(f"{name!r}: {', '.join(found)}" for name, found in flags.items())
            return VerdictError(f"an attempt on the judge: {said}: not asked", cause="injection")
        return None

    def named(self) -> list[str]:
        """What differs from the usual, as a judge's method names it."""
        return ["injections refused"] if self._on_injection == "no_verdict" else []
