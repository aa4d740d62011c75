"""People's labels as flat rows for spreadsheets and scripts: one person's word on one item a row.

Of a pair a row has `winner` (A, B, tie, bad, or the name of a model), of a single response `score`
on `min` to `max`, or a column `grade.NAME` for each criterion, with its `scale.NAME` (`1 to 5`)
and, where there are several, its `weight.NAME`. `id` and `annotator` are always there. A row that
says nothing yet is skipped and counted. In CSV a conversation is a list of messages in JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rlaif.errors import DataError, SpecError
from rlaif.evals.formats.exports import ExportReport
from rlaif.evals.formats.files import unguarded
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Row, Source, unique
from rlaif.evals.people import HUMAN, Vote, by, rating, score_of, vote, vote_of
from rlaif.specs.describe import describe
from rlaif.specs.items import prompt_messages, response_messages
from rlaif.specs.rubric import MAX_LEVELS, Criterion, Scale
from rlaif.types import Candidate, Item, Messages, Score, Shown, Verdict, as_dict

NAME = "labels"
TAKES = frozenset({"scale"})
METHOD = f"imported {NAME}"

_GRADE, _SCALE, _WEIGHT = "grade.", "scale.", "weight."
_VOTES: dict[str, Vote] = {
    **dict.fromkeys(("a", "1", "first", "model_a", "response_a"), "A"),
    **dict.fromkeys(("b", "2", "second", "model_b", "response_b"), "B"),
    **dict.fromkeys(("tie", "equal", "draw"), "tie"),
    **dict.fromkeys(("bad", "both bad", "both_bad", "neither"), "bad"),
}
_RANGE = re.compile(r"\s*(-?\d{1,9})\s*(?:to|-|–|\.\.)\s*(-?\d{1,9})\s*")
_MOST_NAME = 64
_OURS = ("question_id", "turn", "category")
"""Fields of `item.meta` that tell which item it is, and so are written out."""


def read(source: Source, options: ImportOptions, report: ImportReport) -> Iterator[Verdict]:
    """One label a row, by `human/ANNOTATOR`.

    Raises:
        SpecError: a row does not fit, or somebody labels one item twice; names the line and the
            field.
    """
    rows = (_cells(row) for row in source)
    skipped = 0
    for row in unique(source, rows, _key, "annotator"):
        if not _says(row):
            skipped += 1
            continue
        report.rows, report.line = report.rows + 1, row.line
        yield _verdict(row, options)
    if skipped:
        report.notes.append(f"{skipped:,} rows hold no label yet and were skipped")


def _cells(row: Row) -> Row:
    """A row as it was meant: without the quotes that keep spreadsheets from calculating."""
    if not is_table(row.path) or not isinstance(row.fields, Mapping):
        return row
    fields = {unguarded(name): unguarded(value) or None for name, value in row.fields.items()}
    return Row(fields, row.path, row.line, row.ordinal)


def is_table(path: str) -> bool:
    """Whether a file has cells, all of which are text."""
    return path.lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def _key(row: Row) -> str:
    parts = [row.fields.get(name) for name in ("model", "model_a", "model_b", "turn")]
    return json.dumps([f"{row.key('id')}", named(row, "annotator"), *map(str, parts)])


def named(row: Row, name: str) -> str:
    """The person that a field names, without what stands before people's names in records."""
    said = row.text(name).strip().removeprefix(HUMAN)
    if not said or len(said) > _MOST_NAME or not said.isprintable():
        row.fail(f"should be a name of at most {_MOST_NAME} characters", name)
    return said


def _says(row: Row) -> bool:
    return any(
        value not in (None, "")
        for name, value in row.fields.items()
        if name in ("winner", "score") or name.startswith(_GRADE)
    )


def _verdict(row: Row, options: ImportOptions) -> Verdict:
    who, name = named(row, "annotator"), str(row.key("id"))
    reason = row.maybe_text("reason") or ""
    prompt = _said(row, "prompt", prompt_messages) or ()
    reference = row.maybe_text("reference")
    judge = by(who, method=METHOD)
    if row.fields.get("winner") not in (None, ""):
        pair = (_candidate(row, "_a", "A"), _candidate(row, "_b", "B"))
        said, shown = _winner(row, pair), _shown(row)
        return vote(Item(name, prompt, reference, _rest(row)), pair, judge, said, shown, reason)
    one = _candidate(row, "", "1")
    score = _score(row, options)
    return rating(Item(name, prompt, reference, _rest(row)), (one,), judge, score, reason)


def _rest(row: Row) -> dict[str, Any]:
    left = row.rest()
    left.pop("columns")
    return {name: value for name, value in left.items() if value is not None}


def _candidate(row: Row, side: str, letter: str) -> Candidate:
    model = row.maybe_text(f"model{side}")
    name = row.maybe_text(f"candidate{side}")
    response = _said(row, f"response{side}", response_messages)
    return Candidate(name or model or letter, response or (), model)


def _said(row: Row, name: str, read_as: Callable[[Any], Messages]) -> Messages | None:
    value = row.take(name)
    if value is None:
        return None
    if is_table(row.path):
        value = _conversation(value)
    return row.read(name, value, read_as)


def _conversation(cell: str) -> Any:
    """A cell that holds a list of messages as that list, any other as it is."""
    if not cell.lstrip().startswith("[{"):
        return cell
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    like = all(isinstance(one, dict) and {*one} == {"role", "content"} for one in found)
    return found if like else cell


def _winner(row: Row, pair: tuple[Candidate, Candidate]) -> Vote:
    value = row.required("winner")
    if isinstance(value, bool) or not isinstance(value, str | int):
        row.fail(f"should be A, B, tie or bad, found {describe(value)}", "winner")
    if (said := vote_from(str(value), [one.model for one in pair])) is None:
        row.fail(f"should be A, B, tie, bad or a model, found {describe(value)}", "winner")
    return said


def vote_from(text: str, models: Sequence[str | None]) -> Vote | None:
    """What `text` says of a pair, by a letter, a word or the name of one of two models."""
    text = text.strip()
    if text in models and models[0] != models[1]:
        return "A" if text == models[0] else "B"
    return _VOTES.get(text.lower())


def _shown(row: Row) -> Shown:
    return row.choice("shown", {"AB": "AB", "BA": "BA"}) if row.take("shown") else "AB"


def _score(row: Row, options: ImportOptions) -> Score:
    columns = [name for name in row.fields if name.startswith((_GRADE, _SCALE, _WEIGHT))]
    numbers = {
        name.removeprefix(_GRADE): _number(row, name) for name in columns if name.startswith(_GRADE)
    }
    for column in columns:
        row.take(column)
    given = {name: grade for name, grade in numbers.items() if grade is not None}
    if not given:
        return _plain_score(row, options)
    for left in ("score", "min", "max"):  # what the grades say anew
        row.take(left)
    return graded(row, given, row, options)


def graded(
    row: Row,
    grades: Mapping[str, float],
    beside: Row,
    options: ImportOptions,
    field: str = _GRADE,
) -> Score:
    """The score of some grades.

    Args:
        row: Where the grades stand.
        grades: Levels by criterion.
        beside: Where their scales and weights stand, as `scale.NAME` and `weight.NAME`.
        options: Has the scale of those without one.
        field: How the field of a grade begins, for errors.

    Raises:
        SpecError: a grade is not on its scale, or has none.
    """
    scales = {name: _scale(beside, f"{_SCALE}{name}", options) for name in grades}
    weights = {name: _number(beside, f"{_WEIGHT}{name}") for name in grades}
    for name, weight in weights.items():
        if weight is not None and not 0 < weight < 1e9:
            beside.fail("should be a weight above 0", f"{_WEIGHT}{name}")
    shares = {name: 1.0 if weight is None else weight for name, weight in weights.items()}
    total = sum(shares.values())
    criteria = [Criterion(name, shares[name] / total, "", Scale(*scales[name])) for name in grades]
    try:
        return score_of(grades, criteria)
    except SpecError as error:
        row.fail(error.message, (error.field or "").replace("grades.", field, 1))


def _plain_score(row: Row, options: ImportOptions) -> Score:
    value = _number(row, "score")
    ends = [_number(row, name) for name in ("min", "max")]
    if value is None:
        row.fail("is missing", "score")
    if ends[0] is None or ends[1] is None:
        if options.scale is None:
            row.fail("has no scale: give columns min and max, or --scale LOW-HIGH", "score")
        ends = [float(end) for end in options.scale]
    low, high = ends
    assert low is not None
    assert high is not None
    if low >= high:
        row.fail(f"should be above min, {low:g}", "max")
    if not low <= value <= high:
        row.fail(f"should lie on its scale, {low:g} to {high:g}; found {value:g}", "score")
    return Score(value, low, high)


def _scale(row: Row, name: str, options: ImportOptions) -> tuple[int, int]:
    text = row.maybe_text(name)
    if text is None:
        if options.scale is None:
            row.fail("is missing: say 1 to 5, or give --scale LOW-HIGH", name)
        return options.scale
    try:
        return scale_of(text)
    except SpecError as error:
        row.fail(error.message, name)


def scale_of(text: str) -> tuple[int, int]:
    """The ends of a scale written `1 to 5`, `1-5` or `1..5`.

    Raises:
        SpecError: it is none, or has no or too many levels.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise SpecError(f"should be a scale such as 1 to 5, found {describe(text)}")
    low, high = int(match[1]), int(match[2])
    if not 0 < high - low < MAX_LEVELS:
        raise SpecError(f"a scale has from 2 to {MAX_LEVELS} levels, found {low} to {high}")
    return low, high


def _number(row: Row, name: str) -> float | None:
    value = row.take(name)
    if isinstance(value, str):
        try:
            value = float(value) if len(value) <= 40 else None
        except ValueError:
            value = None
        if value is None or not abs(value) <= 1e100:
            row.fail(f"should be a number, found {describe(row.fields[name])}", name)
        return float(value)
    return row.number(name)


def write(verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
    """One row a label.

    Raises:
        DataError: a verdict is a ranking, or no person's.
    """
    for verdict in verdicts:
        report.verdicts += 1
        report.lost["judge.rubric"] += verdict.judge.rubric is not None
        yield flat(verdict)


def person(verdict: Verdict) -> str:
    """Whose label a verdict is.

    Raises:
        DataError: it is no person's, or no label.
    """
    if not verdict.judge.model.startswith(HUMAN):
        raise DataError(f"verdict {verdict.id} is by {verdict.judge.model}, not by a person")
    if verdict.preference is None and verdict.score is None:
        raise DataError(f"verdict {verdict.id} is no label of a pair or a response")
    return verdict.judge.model.removeprefix(HUMAN)


def flat(verdict: Verdict) -> dict[str, Any]:
    """The row of a label, without what it does not have.

    Raises:
        DataError: as `person`.
    """
    item = verdict.item
    fields: dict[str, Any] = {"id": item.id, "annotator": person(verdict)}
    fields |= {name: item.meta.get(name) for name in _OURS}
    fields |= {"prompt": _text(item.prompt, "user"), "reference": item.reference}
    sides = ("",) if len(verdict.candidates) == 1 else ("_a", "_b")
    for side, one in zip(sides, verdict.candidates, strict=True):
        fields[f"model{side}"] = one.model
        fields[f"candidate{side}"] = None if one.id == one.model else one.id
        fields[f"response{side}"] = _text(one.response, "assistant")
    said, score = vote_of(verdict), verdict.score
    if said is not None and verdict.preference is not None:
        fields["winner"] = said
        fields["shown"] = verdict.preference.orders[0].shown if verdict.preference.orders else None
    if score is not None:
        fields |= {"score": score.value, "min": score.min, "max": score.max}
        for name, grade in (score.criteria or {}).items():
            fields[f"{_GRADE}{name}"] = _whole(grade.get("value"))
            fields[f"{_SCALE}{name}"] = f"{grade.get('min')} to {grade.get('max')}"
            fields[f"{_WEIGHT}{name}"] = grade.get("weight")
    fields["reason"] = verdict.rationale
    return {name: value for name, value in fields.items() if value is not None}


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(messages: Messages, role: str) -> Any:
    """A lone message of the usual role as text, a conversation as its messages."""
    if not messages:
        return None
    if len(messages) == 1 and messages[0].role == role:
        return messages[0].content
    return as_dict(messages)
