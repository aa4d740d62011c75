"""Rubrics: named, versioned lists of criteria that a judge is asked about.

rubric = load_rubric("helpfulness")        # shipped with rlaif
rubric = load_rubric("./mine.yaml")        # or a file of one's own
[criterion.name for criterion in rubric.criteria]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlaif.canonical import digest
from rlaif.errors import suggestion
from rlaif.specs.shipped import find_spec, shipped_files
from rlaif.specs.yamlfile import YamlFile, parse_yaml, read_yaml
from rlaif.types import as_dict

if TYPE_CHECKING:
    from rlaif.specs.schemas import CriterionFile, RubricFile

Reference = Literal["none", "optional", "required"]
Reasoning = Literal["before", "after", "none"]

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
"""A placeholder of a template. Any other brace is text, so a template may show JSON."""
KNOWN_PLACEHOLDERS = (
    "prompt",
    "response",
    "response_a",
    "response_b",
    "reference",
    "criteria",
    "verdict",
)
MAX_LEVELS = 101
"""Most levels of a scale: 0..100."""

_NAME = re.compile(r"[^\W\d_][\w-]{0,63}")
_VERSION = re.compile(r"\S{1,64}")
_SIDES = ("response_a", "response_b")
_NEEDED = {"score": ("response",), "compare": _SIDES, "rank": ("response",)}
_MISPLACED = {"score": _SIDES, "compare": ("response",), "rank": _SIDES}


@dataclass(frozen=True, slots=True)
class Scale:
    """Ordered whole-number levels, `min`..`max`, worst to best."""

    min: int
    max: int
    anchors: Mapping[int, str] = field(default_factory=dict)
    """What a level means, for the levels that say so."""

    @property
    def levels(self) -> range:
        """Every level, worst first."""
        return range(self.min, self.max + 1)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing a judge is asked about a response."""

    name: str
    weight: float
    """Share in the whole: the weights of a rubric sum to 1."""
    question: str
    scale: Scale


@dataclass(frozen=True, slots=True)
class Rubric:
    """A named, versioned list of criteria, and how a judge is asked about them."""

    name: str
    version: str
    description: str
    source: str
    criteria: tuple[Criterion, ...]
    reference: Reference = "optional"
    """Whether a reference answer is left out, shown where an item has one, or demanded."""
    reasoning: Reasoning = "before"
    """Where the judge gives its reasons: before or after the verdict, or not at all."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Own templates by `score`, `compare`, `rank`; in the last `{response}` is all of them."""
    path: str | None = field(default=None, compare=False)
    """The file it was read from."""
    digest: str = field(init=False)
    """SHA-256 of all that can change a judgment: every field but `path`; 64 hex digits."""

    def __post_init__(self) -> None:
        plain = {name: as_dict(getattr(self, name)) for name in _DIGESTED}
        object.__setattr__(self, "digest", digest(plain))

    def __hash__(self) -> int:
        return hash(self.digest)


_DIGESTED = (
    "name",
    "version",
    "description",
    "source",
    "criteria",
    "reference",
    "reasoning",
    "prompts",
)


def load_rubric(path_or_name: str | Path, *, search: tuple[Path, ...] = ()) -> Rubric:
    """The rubric in a file, or the one of that name in the folders `search` or shipped with rlaif.

    A `Path`, a text with a slash and one ending in .yaml or .yml mean a file.

    Raises:
        SpecError: no such rubric, or the file is not a rubric; names the file, line and field.
    """
    return _build_rubric(read_yaml(find_spec(path_or_name, "rubrics", search=search)))


def parse_rubric(content: str | bytes, *, path: str | Path | None = None) -> Rubric:
    """The rubric in YAML text; `path` only names it in errors.

    Raises:
        SpecError: the text is not a rubric.
    """
    return _build_rubric(parse_yaml(content, path=path))


def rubric_from_mapping(data: Mapping[Any, Any], *, path: str | Path | None = None) -> Rubric:
    """The rubric in plain data of the shape of a rubric file; `path` only names it in errors.

    Raises:
        SpecError: the data is not a rubric; names the field.
    """
    return _build_rubric(YamlFile({**data}, {}, str(path) if path is not None else None))


def shipped_rubrics() -> dict[str, Path]:
    """Files of the rubrics that come with rlaif, by name."""
    return shipped_files("rubrics")


def rubric_as_dict(rubric: Rubric) -> dict[str, Any]:
    """Plain data of a rubric with its digest, for `--json`."""
    plain = as_dict(rubric)
    plain.pop("path", None)
    return dict(plain)


def _build_rubric(document: YamlFile) -> Rubric:
    from rlaif.specs.schemas import RubricFile

    content = document.validated(RubricFile)
    check_identity(document, content.name, content.version)
    for index, criterion in enumerate(content.criteria):
        _check_criterion(document, index, criterion)
    check_unique(document, "criteria", [c.name for c in content.criteria])
    templates = {k: v for k, v in content.prompts.model_dump().items() if v is not None}
    for kind, template in templates.items():
        _check_template(document, kind, template)
    return Rubric(
        name=content.name,
        version=content.version,
        description=" ".join(content.description.split()),
        source=" ".join(content.source.split()),
        criteria=_build_criteria(content),
        reference=content.reference,
        reasoning=content.reasoning,
        prompts=templates,
        path=document.path,
    )


def _build_criteria(content: RubricFile) -> tuple[Criterion, ...]:
    total = sum(c.weight for c in content.criteria)
    return tuple(
        Criterion(
            c.name,
            c.weight / total,
            c.question.strip(),
            Scale(c.scale.min, c.scale.max, _stripped_anchors(c.scale.anchors)),
        )
        for c in content.criteria
    )


def _stripped_anchors(anchors: Mapping[int, str]) -> dict[int, str]:
    return {level: anchors[level].strip() for level in sorted(anchors)}


def _check_criterion(document: YamlFile, index: int, criterion: CriterionFile) -> None:
    place = ("criteria", index)
    check_name(document, criterion.name, *place, "name")
    check_filled(document, criterion.question, *place, "question")
    low, high = criterion.scale.min, criterion.scale.max
    if low >= high:
        raise document.error(f"should be above min, {low}; found {high}", *place, "scale", "max")
    if high - low + 1 > MAX_LEVELS:
        raise document.error(f"has more than {MAX_LEVELS} levels", *place, "scale")
    for level, anchor in criterion.scale.anchors.items():
        if not low <= level <= high:
            message = f"is outside the scale, {low} to {high}"
            raise document.error(message, *place, "scale", "anchors", level)
        check_filled(document, anchor, *place, "scale", "anchors", level)


def _check_template(document: YamlFile, kind: str, template: str) -> None:
    place = ("prompts", kind)
    used = set(PLACEHOLDER.findall(template))
    allowed = [name for name in KNOWN_PLACEHOLDERS if name not in _MISPLACED[kind]]
    for name in sorted(used - set(allowed)):
        hint = suggestion(name, [n for n in allowed if n != name])
        raise document.error(f"has an unknown placeholder {{{name}}}; {hint}", *place)
    for name in _NEEDED[kind]:
        if name not in used:
            raise document.error(f"never shows {{{name}}}", *place)


def check_identity(document: YamlFile, name: str, version: str) -> None:
    """Raise `SpecError` unless the file's name and version can stand in a verdict."""
    check_name(document, name, "name")
    if not _VERSION.fullmatch(version):
        raise document.error("should have no spaces and at most 64 characters", "version")


def check_name(document: YamlFile, name: str, *place: str | int) -> None:
    """Raise `SpecError` unless `name` is one word that can stand in a judge's mark."""
    if not _NAME.fullmatch(name):
        raise document.error(
            "should be a letter, then letters, digits, '_' or '-', 64 characters at most", *place
        )


def check_filled(document: YamlFile, text: str, *place: str | int) -> None:
    """Raise `SpecError` if `text` is only spaces."""
    if not text.strip():
        raise document.error("is empty", *place)


def check_unique(document: YamlFile, group: str, names: list[str]) -> None:
    """Raise `SpecError` at the first of `names` that was there before, whatever its case."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name.casefold() in seen:
            raise document.error(f"{name!r} is given twice", group, index, "name")
        seen.add(name.casefold())
