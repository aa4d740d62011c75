"""The chains that Bai et al. 2022 published (`anthropics/ConstitutionalHarmlessnessPaper`).

They are read and written again to the letter; what they hold is looked at, and never trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlaif.errors import SpecError


@dataclass(frozen=True, slots=True)
class PublishedStep:
    """One round of a published chain, as it was printed."""

    name: str
    critique_request: str
    critique: str
    revision_request: str
    revision: str


@dataclass(frozen=True, slots=True)
class PublishedChain:
    """A chain of the samples that Bai et al. 2022 published, every space of it kept."""

    prompt: str
    """Ends where the first response begins."""
    response: str
    steps: tuple[PublishedStep, ...]

    def text(self) -> str:
        """The whole chain as one text."""
        parts = [self.prompt, self.response]
        for step in self.steps:
            parts += [step.critique_request, step.critique, step.revision_request, step.revision]
        return "".join(parts)


def read_published_chain(row: Mapping[str, Any]) -> PublishedChain:
    """A row of `samples/*_SLMADISON.jsonl`.

    Raises:
        SpecError: a field is missing or of another shape.
    """
    try:
        return PublishedChain(
            row["rl_prompt"],
            row["initial_response"][0]["sample"],
            tuple(
                PublishedStep(
                    step["cst_key"],
                    step["cst_value"]["prompt"][0],
                    step["critique"]["sample"],
                    step["cst_value"]["edit_request"],
                    step["revision"]["sample"],
                )
                for step in row["cst"]
            ),
        )
    except (KeyError, IndexError, TypeError) as error:
        raise SpecError(f"is no published chain: {type(error).__name__} {error}") from None
