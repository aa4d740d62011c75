"""Rubric files made of others' files: Prometheus's and BiGGen-Bench's rows, Auto-J's scenarios.

for plain in imported_rubrics("auto-j", "scenario_criteria/specials/chitchat.yaml"):
    (folder / f"{plain['name']}.yaml").write_text(rubric_yaml(plain))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from rlaif.canonical import digest
from rlaif.errors import SpecError
from rlaif.specs.describe import describe
from rlaif.specs.rows import file_rows
from rlaif.specs.rubric import Rubric, parse_rubric
from rlaif.specs.rubric_forms import plain_rubric, slug, text_keys
from rlaif.specs.yamlfile import YamlFile, parse_yaml, read_yaml

RubricFormat = Literal["prometheus", "biggen", "auto-j"]
RUBRIC_FORMATS: tuple[RubricFormat, ...] = get_args(RubricFormat)

_SOURCES = {
    "prometheus": "a Prometheus rubric (Kim et al. 2023)",
    "biggen": "a BiGGen-Bench rubric (Kim et al. 2024)",
    "auto-j": "Auto-J's scenario criteria (Li et al. 2023)",
}
_COLUMNS = ("score_rubric", "rubric", "score_rubrics", "instruction")
"""Where a row has its rubric, whole prompts of Prometheus last."""
_MET = {1: "It does not meet this.", 3: "It meets this in part.", 5: "It meets this fully."}
"""What the levels mean where a rubric states demands and no levels."""
_INCLUDE = re.compile(
    r"^(?P<before>[^\S\n]*(?:[\w -]+:)?[^\S\n]*)!include[^\S\n]+"
    r"(?P<quote>[\"']?)(?P<file>[^\"'\n]+?)(?P=quote)[^\S\n]*$",
    re.MULTILINE,
)
_INCLUDED = "!include "
_DEEPEST_INCLUDE = 4

Include = Callable[[str], tuple[str, str | Path]]
"""From the name of an included scenario to its YAML text, and what names that in errors."""


def imported_rubrics(form: RubricFormat, source: str | Path) -> Iterator[dict[str, Any]]:
    """The rubrics in a file, as plain data of our format, each once, under names of their own.

    Args:
        form: Whose files they are.
        source: Rows of JSONL, JSON, CSV or Parquet; for Auto-J also one YAML file or a folder of
            them. A file that another includes is looked for beside it and in the folder `basics`
            next to its own, by its name alone.

    Raises:
        SpecError: the file is missing or malformed: names its line and field.
    """
    found = _auto_j(Path(source)) if form == "auto-j" else _described_rows(source)
    seen: set[str] = set()
    names: set[str] = set()
    for plain in found:
        content = digest([text_keys(plain["criteria"]), plain.get("description")])
        if content in seen:
            continue
        seen.add(content)
        plain["name"] = _unused(plain["name"], names)
        plain["source"] = f"Imported from {Path(source).name}: {_SOURCES[form]}."
        yield plain


def rubric_yaml(plain: Mapping[str, Any]) -> tuple[str, Rubric]:
    """The text of a rubric file, and the rubric that it holds.

    Raises:
        SpecError: `plain` is no rubric.
    """
    import yaml

    first = ("name", "version", "description", "source", "criteria")
    ordered = {key: plain[key] for key in first if key in plain} | dict(plain)
    text = yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=96)
    return text, parse_rubric(text, path=f"{plain.get('name')}.yaml")


def _described_rows(source: str | Path) -> Iterator[dict[str, Any]]:
    for line, row in file_rows(source):
        if not isinstance(row, Mapping):
            message = f"a row should be a mapping, found {describe(row)}"
            raise SpecError(message, path=source, line=line)
        flat = "criteria" in row or "orig_criteria" in row
        column = next((c for c in _COLUMNS if row.get(c) is not None), None)
        if column is None and not flat:
            message = f"has no rubric: none of {', '.join(_COLUMNS[:-1])}, criteria"
            raise SpecError(message, path=source, line=line)
        try:
            plain = plain_rubric(row if flat else row[column])
            rubric_yaml(plain)  # what is wrong with it is said of the row, not of a file to come
        except SpecError as error:
            field = ".".join(part for part in (None if flat else column, error.field) if part)
            raise SpecError(error.message, path=source, line=line, field=field) from None
        name = row.get("id")
        if isinstance(name, str) and name.strip() and plain["name"].startswith("rubric-"):
            plain["name"] = slug(name)
        yield plain


def _auto_j(source: Path) -> Iterator[dict[str, Any]]:
    if source.is_dir():
        files = sorted(path for path in source.rglob("*.y*ml") if path.parent.name != "basics")
        if not files:
            raise SpecError("holds no YAML files", path=source)
        for path in files:
            yield _scenario(path.stem, *_file_text(path), _beside(path))
    elif source.suffix.lower() in (".yaml", ".yml"):
        yield _scenario(source.stem, *_file_text(source), _beside(source))
    else:
        yield from _scenario_rows(source)


def _scenario_rows(source: Path) -> Iterator[dict[str, Any]]:
    """The scenarios of rows with `scenario` and `yaml`; those of kind `basics` are included."""
    texts: dict[str, tuple[str, int, bool]] = {}
    for line, row in file_rows(source):
        for column in ("scenario", "yaml"):
            if not isinstance(row, Mapping) or not isinstance(row.get(column), str):
                raise SpecError("should be text", path=source, line=line, field=column)
        texts[row["scenario"]] = (row["yaml"], line, row.get("kind") == "basics")

    def include(name: str) -> tuple[str, str | Path]:
        if name not in texts:
            raise SpecError(f"includes {name!r}, which no row holds", path=source)
        return texts[name][0], f"{source} ({name})"

    for name, (text, line, basic) in texts.items():
        if not basic:
            yield _scenario(name, text, f"{source} (row {line}, {name})", include)


def _file_text(path: Path) -> tuple[str, Path]:
    try:
        return path.read_text(encoding="utf-8-sig"), path
    except (OSError, UnicodeDecodeError, ValueError):
        read_yaml(path)  # says why, in the words of every other YAML file
        raise


def _beside(path: Path) -> Include:
    def include(name: str) -> tuple[str, str | Path]:
        for folder in (path.parent, path.parent.parent / "basics"):
            if (file := folder / f"{name}.yaml").is_file():
                return _file_text(file)
        raise SpecError(f"includes {name!r}, which is neither beside it nor in basics", path=path)

    return include


def _scenario(name: str, text: str, path: str | Path, include: Include) -> dict[str, Any]:
    """One scenario: every demand a criterion, those of included files first as they stand."""
    criteria: list[dict[str, Any]] = []
    names: set[str] = set()
    for said, demand, document, place in _demands(text, path, include, 0):
        content = demand.get("content")
        if not isinstance(content, str) or not content.strip():
            raise document.error(f"should be text, found {describe(content)}", *place, "content")
        question = f"How far does the response meet this: {' '.join(content.split())}"
        criteria.append(
            {
                "name": _unused(slug(said, "criterion"), names),
                "weight": demand.get("weight", 1),
                "question": question,
                "scale": {"min": 1, "max": 5, "anchors": dict(_MET)},
            }
        )
    if not criteria:
        raise SpecError("holds no criteria", path=path)
    description = f"Criteria for the scenario {name.replace('_', ' ')}."
    return {
        "name": slug(name),
        "version": "1",
        "description": description,
        "criteria": criteria,
    }


def _demands(
    text: str, path: str | Path, include: Include, depth: int
) -> Iterator[tuple[str, Mapping[str, Any], YamlFile, tuple[str, ...]]]:
    """Name and content of every demand, with where it stands."""
    if depth > _DEEPEST_INCLUDE:
        raise SpecError("includes files deeper than any scenario needs", path=path)
    marked = _INCLUDE.sub(lambda m: f"{m['before']}'{_INCLUDED}{_stem(m['file'])}'", text)
    document = parse_yaml(marked, path=path)

    def within(
        data: Mapping[str | int, Any], place: tuple[str, ...]
    ) -> Iterator[tuple[str, Mapping[str, Any], YamlFile, tuple[str, ...]]]:
        for key, value in data.items():
            at = (*place, str(key))
            if isinstance(value, str) and value.startswith(_INCLUDED):
                yield from _demands(*include(value[len(_INCLUDED) :]), include, depth + 1)
            elif not isinstance(value, Mapping):
                raise document.error(f"should be a mapping, found {describe(value)}", *at)
            elif "content" in value:
                yield str(key), value, document, at
            else:
                yield from within(value, at)

    return within(document.data, ())


def _stem(file: str) -> str:
    """The name of an included file without its folders: nothing leads out of where we look."""
    return re.split(r"[/\\]", file.strip())[-1].removesuffix(".yaml").removesuffix(".yml")


def _unused(name: str, names: set[str]) -> str:
    count, found = 1, name
    while found.casefold() in names:
        count += 1
        found = f"{name[:58]}-{count}"
    names.add(found.casefold())
    return found
