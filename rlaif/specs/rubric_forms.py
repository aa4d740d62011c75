r"""Rubrics in the shapes that others write them in, as plain data of our own format.

    plain_rubric({"criteria": "Is it kind?", "score1_description": "Rude.", …})   # BiGGen-Bench
    plain_rubric("[Is it kind?]\nScore 1: Rude.\nScore 2: …")                     # Prometheus
    plain_rubric({"name": "kind", "criteria": [{"name": …}]})                     # a file of ours

What comes back goes through the same checks as a file: `rubric_from_mapping` makes a `Rubric`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rlaif.canonical import digest
from rlaif.errors import SpecError
from rlaif.specs.describe import describe
from rlaif.specs.rubric import MAX_LEVELS

MAX_CHARS = 50_000
"""Most characters of a rubric that stands inside data."""
CRITERION = "quality"
"""Name of the only criterion of a rubric whose shape gives it none."""

_LEVEL_KEY = re.compile(r"(?:orig_)?score_?(\d{1,3})(?:_description)?")
_LEVEL_LINE = re.compile(r"^[ \t]*Score[ \t]*(\d{1,3})[ \t]*:[ \t]*", re.MULTILINE | re.IGNORECASE)
_SECTION = re.compile(r"^###[ \t]*Score Rubrics?:?[ \t]*\n", re.MULTILINE | re.IGNORECASE)
_HEADING = re.compile(r"^###", re.MULTILINE)


def plain_rubric(value: object) -> dict[str, Any]:
    """A rubric in any of the shapes above, as a rubric file would say it.

    One that has no name is called by its content, so equal ones have equal names.

    Raises:
        SpecError: it has none of the shapes, or is too large; names the field.
    """
    if isinstance(value, str):
        return _from_text(_bounded(value))
    if not isinstance(value, Mapping):
        raise SpecError(f"should be a rubric: a mapping or text, found {describe(value)}")
    given = {str(key): entry for key, entry in value.items() if entry is not None}
    _bounded(str(given))
    criteria = given.get("criteria", given.get("orig_criteria"))
    if isinstance(criteria, str):
        return _of_levels(criteria, _described(given), given.get("name"))
    if isinstance(criteria, list) and "criteria" in given:
        return _ours(given)
    raise SpecError(
        "should be one question (with score1_description and so on) or a list of criteria, "
        f"found {describe(criteria)}",
        field="criteria",
    )


def slug(text: str, fallback: str = "rubric") -> str:
    """`text` as a name: a letter, then letters, digits, `_` or `-`, 64 characters at most."""
    name = re.sub(r"[^\w-]+", "-", text.strip()).strip("-")[:64].rstrip("-")
    if not name:
        return fallback
    return name if re.match(r"[^\W\d_]", name) else f"{fallback}-{name}"[:64].rstrip("-")


def text_keys(value: object) -> object:
    """`value` with the keys of all its mappings as text, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): text_keys(entry) for key, entry in value.items()}
    return [text_keys(entry) for entry in value] if isinstance(value, list) else value


def _bounded(text: str) -> str:
    if len(text) > MAX_CHARS:
        raise SpecError(f"has {len(text):,} characters, more than the {MAX_CHARS:,} of a rubric")
    return text


def _ours(given: Mapping[str, Any]) -> dict[str, Any]:
    """Our own shape as JSON and Parquet have it: keys of anchors are text, absent fields null."""
    plain = dict(given)
    plain["criteria"] = [_criterion(entry) for entry in given["criteria"]]
    plain.setdefault("version", "1")
    plain.setdefault("name", f"rubric-{digest(text_keys(plain))[:8]}")
    return plain


def _criterion(entry: object) -> object:
    if not isinstance(entry, Mapping):
        return entry
    plain = {str(key): value for key, value in entry.items() if value is not None}
    scale = plain.get("scale")
    if isinstance(scale, Mapping):
        plain["scale"] = {str(key): value for key, value in scale.items() if value is not None}
        anchors = plain["scale"].get("anchors")
        if isinstance(anchors, Mapping):
            plain["scale"]["anchors"] = {
                _level(key): text for key, text in anchors.items() if text is not None
            }
    return plain


def _level(key: object) -> object:
    if isinstance(key, str) and re.fullmatch(r"-?[0-9]{1,9}", key):
        return int(key)
    return key


def _described(given: Mapping[str, Any]) -> dict[int, Any]:
    """The descriptions of levels among the fields of BiGGen-Bench's and Prometheus's rows."""
    return {int(m[1]): v for k, v in given.items() if (m := _LEVEL_KEY.fullmatch(k)) is not None}


def _from_text(text: str) -> dict[str, Any]:
    """The rubric in Prometheus's text, alone or inside a whole prompt of Prometheus's."""
    if (section := _SECTION.search(text)) is not None:
        rest = text[section.end() :]
        end = _HEADING.search(rest)
        text = rest[: end.start()] if end else rest
    marks = list(_LEVEL_LINE.finditer(text))
    if not marks:
        raise SpecError("should give the question in brackets, then lines such as 'Score 1: …'")
    question = text[: marks[0].start()].strip()
    if question.startswith("[") and question.endswith("]"):
        question = question[1:-1]
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    levels: dict[int, Any] = {}
    for mark, end_at in zip(marks, ends, strict=True):
        if int(mark[1]) in levels:
            raise SpecError(f"describes score {int(mark[1])} twice")
        levels[int(mark[1])] = text[mark.end() : end_at]
    return _of_levels(question, levels, None)


def _of_levels(question: str, levels: Mapping[int, Any], name: object) -> dict[str, Any]:
    """A rubric of one criterion whose levels are described one by one."""
    if not question.strip():
        raise SpecError("is empty", field="criteria")
    if len(levels) < 2:
        raise SpecError(f"describes {len(levels)} levels; a scale has two or more")
    low, high = min(levels), max(levels)
    for level in range(low, min(high, low + MAX_LEVELS) + 1):
        said = levels.get(level)
        if not isinstance(said, str) or not said.strip():
            found = "missing" if said is None else f"{describe(said)}"
            raise SpecError(f"should describe the level, found {found}", field=f"score{level}")
    anchors = {level: " ".join(levels[level].split()) for level in sorted(levels)}
    asked = " ".join(question.split())
    criterion = {
        "name": CRITERION,
        "question": asked,
        "scale": {"min": low, "max": high, "anchors": anchors},
    }
    shown = digest([asked, [*anchors], [*anchors.values()]])[:8]
    named = slug(name) if isinstance(name, str) and name.strip() else f"rubric-{shown}"
    return {"name": named, "version": "1", "criteria": [criterion]}
