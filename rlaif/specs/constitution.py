"""Constitutions: named, versioned lists of principles to criticize, revise and compare by.

For example:

    constitution = load_constitution("harmlessness")     # shipped with rlaif
    constitution = load_constitution("./mine.yaml")      # or a file of one's own

After Bai et al. 2022, "Constitutional AI: Harmlessness from AI Feedback", sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlaif.canonical import digest
from rlaif.errors import SpecError, suggestion
from rlaif.specs.items import prompt_messages
from rlaif.specs.rubric import check_filled, check_identity, check_unique
from rlaif.specs.shipped import find_spec, shipped_files
from rlaif.specs.yamlfile import YamlFile, parse_yaml, read_yaml
from rlaif.types import Messages, as_dict

if TYPE_CHECKING:
    from rlaif.specs.schemas import ExampleFile, PrincipleFile

_CRITIQUE_FIELDS: tuple[str, ...] = ("response", "critique", "revision")
_CRITIQUE_ONLY: tuple[str, ...] = (*_CRITIQUE_FIELDS, "critique_request", "revision_request")
_COMPARISON_FIELDS: tuple[str, ...] = ("response_a", "response_b", "winner")
_COMPARISON_ONLY: tuple[str, ...] = (*_COMPARISON_FIELDS, "reasoning")


@dataclass(frozen=True, slots=True)
class Principle:
    """One principle, in the three forms in which a model is asked about it.

    It has a critique and a revision, or a comparison, or all three; what it has not is empty.
    """

    name: str
    critique: str
    """What to ask when criticizing a response."""
    revision: str
    """What to ask when rewriting it."""
    comparison: str
    """Which of two responses better follows the principle."""


@dataclass(frozen=True, slots=True)
class CritiqueExample:
    """A response to a prompt, what is wrong with it, and the response set right."""

    prompt: str | Messages
    """A text is one message of the user; a conversation ends in one."""
    response: str
    critique: str
    revision: str
    principle: str | None = None
    """The principle it shows, whose requests it then stands under."""
    critique_request: str | None = None
    """What was asked for the critique, where that is in no principle."""
    revision_request: str | None = None


@dataclass(frozen=True, slots=True)
class ComparisonExample:
    """Two responses to a prompt, and which of them better follows a principle."""

    prompt: str | Messages
    response_a: str
    response_b: str
    winner: Literal["A", "B"]
    principle: str | None = None
    """The principle it shows; without one it stands under any."""
    reasoning: str | None = None
    """Why, step by step, before the answer."""


@dataclass(frozen=True, slots=True)
class Constitution:
    """A named, versioned list of principles."""

    name: str
    version: str
    description: str
    source: str
    principles: tuple[Principle, ...]
    critique_examples: tuple[CritiqueExample, ...] = ()
    comparison_examples: tuple[ComparisonExample, ...] = ()
    path: str | None = field(default=None, compare=False)
    """The file it was read from."""
    digest: str = field(init=False)
    """SHA-256 of every field but `path`; 64 hex digits."""

    def __post_init__(self) -> None:
        plain = {name: as_dict(getattr(self, name)) for name in _DIGESTED}
        object.__setattr__(self, "digest", digest(plain))

    def principle(self, name: str) -> Principle:
        """The principle of that name.

        Raises:
            SpecError: there is none; the message gives the nearest.
        """
        for principle in self.principles:
            if principle.name == name:
                return principle
        hint = suggestion(name, [p.name for p in self.principles])
        raise SpecError(f"there is no principle {name!r}; {hint}", path=self.path)

    @property
    def critiques(self) -> tuple[Principle, ...]:
        """The principles to criticize and revise by.

        Raises:
            SpecError: there are none.
        """
        return self._having("critique", "criticize")

    @property
    def comparisons(self) -> tuple[Principle, ...]:
        """The principles to compare by.

        Raises:
            SpecError: there are none.
        """
        return self._having("comparison", "compare")

    def _having(self, part: str, verb: str) -> tuple[Principle, ...]:
        found = tuple(p for p in self.principles if getattr(p, part))
        if not found:
            message = f"no principle has a {part}: there is nothing to {verb} by"
            raise SpecError(message, path=self.path, field="principles")
        return found


_DIGESTED = (
    "name",
    "version",
    "description",
    "source",
    "principles",
    "critique_examples",
    "comparison_examples",
)


def load_constitution(path_or_name: str | Path, *, search: tuple[Path, ...] = ()) -> Constitution:
    """The constitution in a file, or of that name in the folders `search` or shipped with rlaif.

    A `Path`, a text with a slash and one ending in .yaml or .yml mean a file.

    Raises:
        SpecError: no such constitution, or the file is not one; names the file, line and field.
    """
    return _build_constitution(read_yaml(find_spec(path_or_name, "constitutions", search=search)))


def parse_constitution(content: str | bytes, *, path: str | Path | None = None) -> Constitution:
    """The constitution in YAML text; `path` only names it in errors.

    Raises:
        SpecError: the text is not a constitution.
    """
    return _build_constitution(parse_yaml(content, path=path))


def shipped_constitutions() -> dict[str, Path]:
    """Files of the constitutions that come with rlaif, by name."""
    return shipped_files("constitutions")


def constitution_as_dict(constitution: Constitution) -> dict[str, Any]:
    """Plain data of a constitution with its digest, for `--json`."""
    plain = as_dict(constitution)
    plain.pop("path", None)
    return dict(plain)


def _build_constitution(document: YamlFile) -> Constitution:
    from rlaif.specs.schemas import ConstitutionFile

    content = document.validated(ConstitutionFile)
    check_identity(document, content.name, content.version)
    for index, principle in enumerate(content.principles):
        _check_parts(document, index, principle)
        if len(principle.name.splitlines()) > 1:
            raise document.error("should be one line", "principles", index, "name")
    names = [principle.name for principle in content.principles]
    check_unique(document, "principles", names)
    critiques: list[CritiqueExample] = []
    comparisons: list[ComparisonExample] = []
    for index, entry in enumerate(content.examples):
        example = _build_example(document, index, entry, names)
        if isinstance(example, CritiqueExample):
            critiques.append(example)
        else:
            comparisons.append(example)
    return Constitution(
        name=content.name,
        version=content.version,
        description=" ".join(content.description.split()),
        source=" ".join(content.source.split()),
        principles=tuple(
            Principle(p.name, *((part or "").strip() for part in _parts(p).values()))
            for p in content.principles
        ),
        critique_examples=tuple(critiques),
        comparison_examples=tuple(comparisons),
        path=document.path,
    )


def _parts(principle: PrincipleFile) -> dict[str, str | None]:
    return {
        "critique": principle.critique,
        "revision": principle.revision,
        "comparison": principle.comparison,
    }


def _check_parts(document: YamlFile, index: int, principle: PrincipleFile) -> None:
    """Raise `SpecError` unless the principle can be criticized and revised by, or compared by."""
    check_filled(document, principle.name, "principles", index, "name")
    parts = _parts(principle)
    for key, text in parts.items():
        if text is not None:
            check_filled(document, text, "principles", index, key)
    if parts["critique"] is None and parts["revision"] is None and parts["comparison"] is None:
        message = "asks nothing: it needs a critique and a revision, or a comparison"
        raise document.error(message, "principles", index)
    for key, other in (("critique", "revision"), ("revision", "critique")):
        if parts[key] is None and parts[other] is not None:
            raise document.error("is missing", "principles", index, key)


def _build_example(
    document: YamlFile, index: int, entry: ExampleFile, names: list[str]
) -> CritiqueExample | ComparisonExample:
    """The example that the fields of `entry` make, which must be all of one kind."""
    given = entry.model_dump(exclude_none=True)
    comparison = any(key in given for key in _COMPARISON_ONLY)
    wanted = _COMPARISON_FIELDS if comparison else _CRITIQUE_FIELDS
    others = _CRITIQUE_ONLY if comparison else _COMPARISON_ONLY
    for key in wanted:
        if key not in given:
            raise document.error("is missing", "examples", index, key)
    for key in others:
        if key in given:
            kind = "comparison" if comparison else "critique"
            raise document.error(f"has no place in a {kind} example", "examples", index, key)
    if ("critique_request" in given) != ("revision_request" in given):
        missing = "revision" if "critique_request" in given else "critique"
        raise document.error("is missing", "examples", index, f"{missing}_request")
    if given.get("principle", names[0]) not in names:
        message = f"there is no such principle; {suggestion(given['principle'], names)}"
        raise document.error(message, "examples", index, "principle")
    try:
        turns = prompt_messages(given.get("prompt"))
    except SpecError as error:
        where = (error.field or "prompt").split(".")
        raise document.error(error.message, "examples", index, *where) from None
    if not isinstance(given["prompt"], str):
        given["prompt"] = turns
    return ComparisonExample(**given) if comparison else CritiqueExample(**given)
