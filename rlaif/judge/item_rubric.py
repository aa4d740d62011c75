"""A rubric for each item, out of the data itself.

judge = PointwiseJudge(backend, ItemRubrics())    # reads item.meta["rubric"] or ["score_rubric"]

Whoever wrote the data then says what is judged by, so nothing here happens unless it is asked for.
Even then such a rubric is held short: its texts are defused like judged text, it brings no prompt
templates, and a name means a rubric of that name, never a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rlaif.canonical import canonical_json
from rlaif.errors import SpecError, suggestion
from rlaif.judge.common import RubricSource, rubric_for
from rlaif.judge.markers import defuse
from rlaif.specs.describe import describe
from rlaif.specs.rubric import Criterion, Rubric, load_rubric, rubric_from_mapping, shipped_rubrics
from rlaif.specs.rubric_forms import plain_rubric, text_keys
from rlaif.specs.shipped import is_path
from rlaif.types import Candidate, Item

PER_ITEM = "item"
"""What stands for the items' own rubrics where a rubric is named."""
COLUMNS = ("rubric", "score_rubric")
"""Where an item has its rubric: fields of its `meta`, the first that is there."""

_MOST_KNOWN = 4096


class ItemRubrics:
    """The rubric that an item brings: a mapping, Prometheus's text, or the name of one.

    Args:
        search: Folders whose rubrics may be named beside those shipped with rlaif.
    """

    def __init__(self, search: Sequence[Path] = ()) -> None:
        self._search = tuple(search)
        self._known: dict[str, Rubric] = {}

    def __call__(self, item: Item) -> Rubric:
        """The rubric of `item`.

        Raises:
            SpecError: it has none, or one that is malformed; names the field.
        """
        column = next((name for name in COLUMNS if item.meta.get(name) is not None), None)
        if column is None:
            fields = " nor ".join(COLUMNS)
            raise SpecError(f"item {item.id!r} brings no rubric: its meta has neither {fields}")
        value = item.meta[column]
        key = value if isinstance(value, str) else canonical_json(text_keys(value))
        if (known := self._known.get(key)) is not None:
            return known
        try:
            rubric = self._made(value)
        except SpecError as error:
            field = f"{column}.{error.field}" if error.field else column
            where = f" ({error.path})" if error.path else ""
            raise SpecError(f"of item {item.id!r}: {error.message}{where}", field=field) from None
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = rubric
        return rubric

    def _made(self, value: object) -> Rubric:
        if isinstance(value, str) and "\n" not in value.strip():
            return self._named(value.strip())
        plain = plain_rubric(value)
        if plain.get("prompts"):
            raise SpecError("a rubric out of data may bring no templates", field="prompts")
        return _defused(rubric_from_mapping(plain))

    def _named(self, name: str) -> Rubric:
        if is_path(name):
            raise SpecError(f"should be a rubric or the name of one, found {describe(name)}")
        folders = [path.stem for folder in self._search for path in folder.glob("*.y*ml")]
        known = {*shipped_rubrics(), *folders}
        if name not in known:
            message = f"there is no rubric called {name[:60]!r}; {suggestion(name[:60], known)}"
            raise SpecError(message)
        return load_rubric(name, search=self._search)


def rubric_source(name: str | Path) -> RubricSource:
    """What `-r` means: a rubric by name or path, or for `item` and `item:FOLDER` the items' own.

    Of `item:FOLDER` the rubrics in the folder may be named by the items.

    Raises:
        SpecError: no such rubric or folder, or it is malformed.
    """
    if name == PER_ITEM:
        return ItemRubrics()
    if isinstance(name, str) and name.startswith(f"{PER_ITEM}:"):
        folder = Path(name.removeprefix(f"{PER_ITEM}:"))
        if not folder.is_dir():
            raise SpecError("there is no such folder of rubrics", path=folder)
        return ItemRubrics((folder,))
    return load_rubric(name)


Judged = tuple[Item, Sequence[Candidate]]


def checked(
    source: RubricSource,
    judged: Iterable[Judged],
    *,
    path: str | Path | None = None,
    writes_reference: bool = False,
) -> Iterator[Judged]:
    """`judged`, each checked on the way: it has a rubric, and the reference that the rubric needs.

    So a fault of the last item is found before the first is paid for.

    Args:
        source: The rubric, or what names that of each item.
        judged: Items with their candidates.
        path: The file they come from, for errors.
        writes_reference: Whether the judge writes the references that are missing.

    Raises:
        SpecError: an item has no rubric or a malformed one, or lacks a reference.
    """
    for item, candidates in judged:
        try:
            rubric = rubric_for(source, item)
        except SpecError as error:
            raise SpecError(error.message, path=path, field=error.field) from None
        if rubric.reference == "required" and item.reference is None and not writes_reference:
            message = f"item {item.id!r} has none, and rubric {rubric.name!r} needs one"
            raise SpecError(message, path=path, field="reference")
        yield item, candidates


def _defused(rubric: Rubric) -> Rubric:
    """`rubric` with nothing in its texts that could pass for our marks."""
    return replace(rubric, criteria=tuple(map(_defused_criterion, rubric.criteria)), prompts={})


def _defused_criterion(criterion: Criterion) -> Criterion:
    anchors: Mapping[int, str] = {k: defuse(v) for k, v in criterion.scale.anchors.items()}
    return replace(
        criterion,
        question=defuse(criterion.question),
        scale=replace(criterion.scale, anchors=anchors),
    )
