"""What rubric and constitution files may hold, as strict models: no unknown key, no conversion.

Only the loaders import this module, and only when they read a file, since pydantic is slow to
import.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class ScaleFile(_Strict):
    """`scale:` of a criterion."""

    min: int
    max: int
    anchors: dict[int, Text] = {}


class CriterionFile(_Strict):
    """One entry of `criteria:`."""

    name: Text
    weight: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    question: Text
    scale: ScaleFile


class PromptsFile(_Strict):
    """`prompts:` of a rubric."""

    score: Text | None = None
    compare: Text | None = None
    rank: Text | None = None


class RubricFile(_Strict):
    """A rubric file."""

    name: Text
    version: Text
    description: str = ""
    source: str = ""
    criteria: Annotated[list[CriterionFile], Field(min_length=1)]
    reference: Literal["none", "optional", "required"] = "optional"
    reasoning: Literal["before", "after", "none"] = "before"
    prompts: PromptsFile = PromptsFile()


class PrincipleFile(_Strict):
    """One entry of `principles:`."""

    name: Text
    critique: Text | None = None
    revision: Text | None = None
    comparison: Text | None = None


class ExampleFile(_Strict):
    """One entry of `examples:`: a critique with its revision, or a comparison."""

    prompt: object
    """A text, or a list of messages: the loader looks."""
    response: Text | None = None
    critique: Text | None = None
    revision: Text | None = None
    critique_request: Text | None = None
    revision_request: Text | None = None
    response_a: Text | None = None
    response_b: Text | None = None
    principle: Text | None = None
    reasoning: Text | None = None
    winner: Literal["A", "B"] | None = None


class ConstitutionFile(_Strict):
    """A constitution file."""

    name: Text
    version: Text
    description: str = ""
    source: str = ""
    principles: Annotated[list[PrincipleFile], Field(min_length=1)]
    examples: list[ExampleFile] = []
