"""A YAML file a user wrote: its data, and the line of every field so that an error can point at it.

    document = read_yaml("rubrics/helpfulness.yaml")
    model = document.validated(RubricFile)               # a pydantic model; the first fault raises
    raise document.error("is below min", "criteria", 0, "scale", "max")

Files may come from strangers: they are read by a safe loader, and bounded in size, in depth and in
what their aliases expand to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

from rlaif.errors import SpecError, suggestion
from rlaif.specs.describe import describe

if TYPE_CHECKING:
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1 << 20
"""Largest file, in bytes."""
MAX_NODES = 100_000
"""Most values in a file once its aliases are expanded."""
MAX_DEPTH = 50
"""Deepest nesting."""

_SHAPES = {"map": "a mapping (name: value)", "seq": "a list"}


@dataclass(frozen=True, slots=True)
class YamlFile:
    """Plain data of a YAML file and where each field stands."""

    data: Mapping[str | int, Any]
    lines: Mapping[str, int]
    """Line, counted from 1, of each dotted field (`criteria.0.scale.min`)."""
    path: str | None = None

    def error(self, message: str, *field: str | int) -> SpecError:
        """A `SpecError` about `field`, at its line or the nearest enclosing one that is known."""
        dotted = ".".join(map(str, field))
        line = next((self.lines[f] for f in _enclosing(field) if f in self.lines), None)
        return SpecError(message, path=self.path, line=line, field=dotted or None)

    def validated(self, model: type[Model]) -> Model:
        """The data as an instance of `model`.

        Raises:
            SpecError: the first fault that pydantic finds, in plain words, at its line.
        """
        from pydantic import ValidationError

        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            fault = _telling(error.errors(include_url=False))
            field = tuple(part for part in fault["loc"] if part != "[key]")
            raise self.error(_in_words(fault, model), *field) from None


def read_yaml(path: str | Path) -> YamlFile:
    """The data and lines of the YAML file at `path`.

    Raises:
        SpecError: the file is missing, too large, not UTF-8, not YAML, empty, not a mapping, has
            a key twice, or expands to too much.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError("there is no such file", path=path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpecError(f"cannot be read: {reason}", path=path) from None
    return parse_yaml(content, path=path)


def parse_yaml(content: bytes | str, *, path: str | Path | None = None) -> YamlFile:
    """The data and lines of YAML text; `path` only names it in errors.

    Raises:
        SpecError: as `read_yaml`.
    """
    if len(content) > MAX_BYTES:
        raise SpecError(f"is larger than {MAX_BYTES:,} bytes", path=path)
    text = _decoded(content, path) if isinstance(content, bytes) else content
    reader = _Reader(text, path)
    data = reader.data()
    return YamlFile(data, reader.lines, str(path) if path is not None else None)


class _Reader:
    """Turns the node graph of one document into plain data, noting lines on the way."""

    def __init__(self, text: str, path: str | Path | None) -> None:
        self.lines: dict[str, int] = {}
        self._text = text
        self._path = path
        self._nodes = 0

    def data(self) -> dict[str | int, Any]:
        import yaml

        try:
            # The pure Python loader: deep nesting ends in RecursionError, not in a crash.
            self._loader = yaml.SafeLoader(self._text)
            root = self._loader.get_single_node()
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            raise self._error(f"holds U+{error.character:04X}, which YAML forbids", line) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = ", ".join(part for part in (error.context, error.problem) if part)
            raise self._error(f"is not YAML: {what}", mark.line + 1 if mark else None) from None
        except RecursionError:
            raise self._error(f"is nested deeper than {MAX_DEPTH} levels") from None
        if root is None:
            raise self._error("is empty")
        value = self._value(root, ())
        if not isinstance(value, dict):
            raise self._error(f"should hold {_SHAPES['map']}, found {describe(value)}")
        return value

    def _value(self, node: Any, field: tuple[str | int, ...]) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(f"expands to more than {MAX_NODES:,} values", _line(node), field)
        if len(field) > MAX_DEPTH:
            raise self._error(f"is nested deeper than {MAX_DEPTH} levels", _line(node))
        if node.id == "scalar":
            return self._scalar(node, field)
        kind = "map" if node.id == "mapping" else "seq"
        if node.tag != f"tag:yaml.org,2002:{kind}":
            raise self._error(f"has an unsupported tag {node.tag!r}", _line(node), field)
        if kind == "map":
            return self._mapping(node, field)
        return [self._placed(item, item, (*field, i)) for i, item in enumerate(node.value)]

    def _mapping(self, node: Any, field: tuple[str | int, ...]) -> dict[str | int, Any]:
        found: dict[str | int, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, field) if key_node.id == "scalar" else None
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise self._error("a key should be text or a whole number", _line(key_node), field)
            place = (*field, key)
            if key in found:
                raise self._error("is given twice", _line(key_node), place)
            found[key] = self._placed(value_node, key_node, place)
        return found

    def _placed(self, node: Any, at: Any, field: tuple[str | int, ...]) -> Any:
        # Under an alias the line is the one of its anchor, where the text to correct stands.
        self.lines[".".join(map(str, field))] = _line(at)
        return self._value(node, field)

    def _scalar(self, node: Any, field: tuple[str | int, ...]) -> Any:
        import yaml

        try:
            return self._loader.construct_object(node)
        except yaml.MarkedYAMLError:
            raise self._error(f"has an unsupported tag {node.tag!r}", _line(node), field) from None
        except (ValueError, TypeError, KeyError, IndexError):
            kind = node.tag.rpartition(":")[2]
            raise self._error(f"is not a valid {kind}", _line(node), field) from None

    def _error(
        self, message: str, line: int | None = None, field: tuple[str | int, ...] = ()
    ) -> SpecError:
        dotted = ".".join(map(str, field)) or None
        return SpecError(message, path=self._path, line=line, field=dotted)


def _decoded(content: bytes, path: str | Path | None) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the byte order mark.
        at = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        line = content.count(b"\n", 0, at) + 1
        raise SpecError(f"is not UTF-8 at byte {at + 1}", path=path, line=line) from None


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _enclosing(field: tuple[str | int, ...]) -> Iterator[str]:
    for end in range(len(field), 0, -1):
        yield ".".join(map(str, field[:end]))


_UNKNOWN = ("extra_forbidden", "invalid_key")
_MISSING = {"missing": "is missing", "too_short": "is empty", "string_too_short": "is empty"}
_EXPECTED = {
    "string_type": "text",
    "string_unicode": "text without half characters (lone surrogates)",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:,.0f}",
    "literal_error": "{expected}",
    "list_type": _SHAPES["seq"],
    "dict_type": _SHAPES["map"],
    "model_type": _SHAPES["map"],
}
"""What each of pydantic's error types wanted; every one that the schemas can give."""


def _telling(faults: Sequence[Any]) -> Any:
    """The first fault, or the unknown key beside a missing field: it is likely a misspelling."""
    first = faults[0]
    if first["type"] == "missing":
        for fault in faults:
            if fault["type"] in _UNKNOWN and fault["loc"][:-1] == first["loc"][:-1]:
                return fault
    return first


def _in_words(fault: Any, model: type[BaseModel]) -> str:
    """What pydantic found wrong, as a reader of the file would say it."""
    kind, given, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind in _UNKNOWN:
        known = _known_keys(model, fault["loc"][:-1])
        return f"is not a known field; {suggestion(str(fault['loc'][-1]), known)}"
    if kind in _MISSING:
        return _MISSING[kind]
    expected = _EXPECTED[kind].format(**context)
    subject = "a key should be" if "[key]" in fault["loc"] else "should be"
    quotes = "; put it in quotes" if expected == "text" and isinstance(given, int | float) else ""
    return f"{subject} {expected}, found {describe(given)}{quotes}"


def _known_keys(model: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """Names of the fields that the mapping at `place` of a file fitting `model` may have."""
    from pydantic import BaseModel

    found: Any = model
    for part in place:
        if get_origin(found) is dict:
            found = get_args(found)[1]
            continue
        if isinstance(found, type) and issubclass(found, BaseModel):
            found = found.model_fields[str(part)].annotation
        if get_origin(found) in (Union, UnionType):
            found = next(arg for arg in get_args(found) if arg is not type(None))
        if isinstance(part, int) and get_args(found):
            found = get_args(found)[0]
    return list(found.model_fields)
