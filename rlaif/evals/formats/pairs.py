"""Plain files of judged pairs, CSV or JSONL: one winner a row, in columns that go by many names.

Columns are found by their usual names; options name those that go by others. A row is one game; a
`p_a` column, P(first preferred), makes it a soft one. Winners are read in the spellings in use
(A, model_a, 1, A>B, tie, the model's own name …); 0 is refused, since it is a tie in some files and
the first response in others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlaif.canonical import digest
from rlaif.errors import ConfigError, SpecError, suggestion
from rlaif.evals.formats.exports import ExportReport, exported, need_kind, winner_name
from rlaif.evals.formats.fastchat import file_stem
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Row, Source, by_judge, unique
from rlaif.evals.formats.verdicts import Game, Outcome, Reader, call, comparison, judge_ref, meta
from rlaif.evals.legacy import legacy_winner, read_winner
from rlaif.specs.describe import describe
from rlaif.specs.items import prompt_messages
from rlaif.types import Candidate, Item, Message, Messages, Verdict, Winner, as_dict

NAME = "pairs"
PARTS: dict[str, tuple[str, ...]] = {
    "id": ("id", "pair_id", "item_id", "question_id", "uid", "index"),
    "prompt": ("prompt", "instruction", "question", "input"),
    "reference": ("reference",),
    "model_a": ("model_a", "generator_1", "model_1"),
    "model_b": ("model_b", "generator_2", "model_2"),
    "response_a": ("response_a", "response_A", "answer_a", "output_1", "response_1", "response1"),
    "response_b": ("response_b", "response_B", "answer_b", "output_2", "response_2", "response2"),
    "judge": ("judge", "judge_model", "judge_name", "annotator", "voter"),
    "winner": ("winner", "preferred", "preference", "verdict", "choice", "decision", "label"),
    "p_a": ("p_a",),
    "consistent": ("consistent",),
    "label": ("label", "gold", "gold_label"),
    "reply": ("reply", "judgment", "judge_reply", "raw_completion", "completion"),
    "category": ("category", "subset"),
    "turn": ("turn",),
}
"""The names that the column of each part goes by, most usual first."""
COLUMNS = (
    "id", "category", "prompt", "reference", "model_a", "model_b", "response_a", "response_b",
    "judge", "winner", "p_a", "consistent", "label", "reply", "turn",
)  # fmt: skip
TAKES = frozenset({"columns"})
KEPT = frozenset({"prompt", "reference", "responses", "p_a", "consistent"})

_SPELLINGS: dict[Winner, tuple[str, ...]] = {
    "A": ("a", "1", "model_a", "model_1", "response_a", "response_1", "output_1", "first", "left",
          "a>b", "a>>b", "[[a]]"),
    "B": ("b", "2", "model_b", "model_2", "response_b", "response_2", "output_2", "second", "right",
          "b>a", "b>>a", "[[b]]"),
    "tie": ("tie", "draw", "equal", "both", "same", "a=b", "[[c]]"),
}  # fmt: skip
_BY_SPELLING = {text: winner for winner, texts in _SPELLINGS.items() for text in texts}
_SPELT = frozenset({"id", "winner", "label", "p_a", "consistent", "turn"})
"""Parts whose own spelling is kept for the way back."""
_NONE = {"", "error", "none", "null", "nan", "n/a", "invalid"}
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}
_SIDES: tuple[tuple[str, str], ...] = (("a", "A"), ("b", "B"))


def read(source: Source, options: ImportOptions, report: ImportReport) -> Iterator[Verdict]:
    """One comparison a row.

    Raises:
        SpecError: a row does not fit or occurs twice, or no column tells the winner.
        ConfigError: an option names a part that pairs do not have.
    """
    for part in options.columns:
        if part not in PARTS:
            raise ConfigError(f"pairs have no '{part}': {suggestion(part, PARTS)}")
    reader = Reader(options, report, read_winner, legacy_winner)

    def judge_of(row: Row) -> str:
        return _judge(row, _columns(row, options), options)

    rows = by_judge(source, judge_of, options, report, mix="take")
    for row in unique(source, rows, lambda row: _key(row, options), "id"):
        report.rows += 1
        yield _verdict(row, options, reader)


def _columns(row: Row, options: ImportOptions) -> dict[str, str]:
    """The column of each part that the row has."""
    found: dict[str, str] = {}
    for part, names in PARTS.items():
        if (named := options.columns.get(part)) is not None:
            if named not in row:
                row.fail(f"is not a column; {suggestion(named, row.fields)}", named)
            found[part] = named
        elif column := next((n for n in names if n in row and n not in found.values()), None):
            found[part] = column
    if not {"winner", "p_a", "reply"} & set(found):
        row.fail(f"no column tells the winner: {suggestion('winner', row.fields)}", "winner")
    return found


def _judge(row: Row, columns: Mapping[str, str], options: ImportOptions) -> str:
    name = _text(row, columns, "judge")
    return name or options.judge or file_stem(Path(row.path))


def _key(row: Row, options: ImportOptions) -> str:
    columns = _columns(row, options)
    models = [_text(row, columns, f"model_{side}") for side, _ in _SIDES]
    return "\n".join(map(str, (_name(row, columns), *models, _judge(row, columns, options))))


def _name(row: Row, columns: Mapping[str, str]) -> str:
    if _value(row, columns, "id") is not None:
        turn = _value(row, columns, "turn")
        return f"{row.key(columns['id'])}" if turn is None else f"{_question(row, columns)}:{turn}"
    parts = [_value(row, columns, part) for part in ("prompt", "response_a", "response_b")]
    if all(part is None for part in parts):
        return f"{row.line}"
    return digest(parts)[:16]


def _question(row: Row, columns: Mapping[str, str]) -> str | int | None:
    return None if _value(row, columns, "id") is None else row.key(columns["id"])


def _value(row: Row, columns: Mapping[str, str], part: str) -> Any:
    """The value of a part; an empty cell of CSV is none."""
    value = row.take(columns[part]) if part in columns else None
    return None if value == "" else value


def _text(row: Row, columns: Mapping[str, str], part: str) -> str | None:
    value = _value(row, columns, part)
    return None if value is None else row.text(columns[part])


def _verdict(row: Row, options: ImportOptions, reader: Reader[Winner]) -> Verdict:
    columns = _columns(row, options)
    name, judge = _name(row, columns), _judge(row, columns, options)
    models = [_text(row, columns, f"model_{side}") for side, _ in _SIDES]
    p_a = _probability(row, columns)
    stated = _winner(row, columns, "winner", models)
    reply = _text(row, columns, "reply")
    outcome = reader(row, name, _outcome(row, columns, stated, p_a, reply))
    consistent = _truth(row, columns)
    label = _winner(row, columns, "label", models)
    prompt = _messages(row, columns)
    reference = _text(row, columns, "reference")
    category = _text(row, columns, "category")
    a, b = (
        _candidate(row, columns, side, letter, model)
        for (side, letter), model in zip(_SIDES, models, strict=True)
    )
    raw = {
        part: row.fields[column]
        for part, column in columns.items()
        if part in _SPELT or row.fields[column] in ("", None)
    }
    turn = None if _value(row, columns, "turn") is None else row.key(columns["turn"])
    turn = None if _value(row, columns, "turn") is None else row.key(columns["turn"])
    facts = meta(
        row,
        question_id=None if turn is None else _question(row, columns),
        turn=turn,
        category=category,
        label=label,
        kept={"columns": dict(columns), "raw": raw},
    )
    item = Item(name, prompt, reference, facts)
    calls = () if reply is None else (call(NAME, reply, f"{judge}:{name}"),)
    soft = p_a if outcome.value == _side_of(p_a) else None
    verdict = comparison(item, a, b, judge_ref(judge, NAME), [Game("AB", outcome, soft)], calls)
    if consistent is None or verdict.preference is None:
        return verdict
    return replace(verdict, preference=replace(verdict.preference, consistent=consistent))


def _outcome(
    row: Row,
    columns: Mapping[str, str],
    stated: Winner | None,
    p_a: float | None,
    reply: str | None,
) -> Outcome[Winner]:
    by_p = _side_of(p_a)
    if stated is not None and by_p is not None and stated != by_p:
        row.fail(f"says {stated}, and {columns['p_a']} says {by_p}", columns["winner"])
    winner = stated or by_p
    return Outcome(winner, None if winner else "unreadable", reply)


def _side_of(p_a: float | None) -> Winner | None:
    if p_a is None:
        return None
    return "A" if p_a > 0.5 else "B" if p_a < 0.5 else "tie"


def _winner(
    row: Row, columns: Mapping[str, str], part: str, models: list[str | None]
) -> Winner | None:
    value = _value(row, columns, part)
    if value is None:
        return None
    column = columns[part]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        row.fail(f"should name the winner, found {describe(value)}", column)
    text = f"{value:g}" if isinstance(value, float) else str(value).strip()
    if models[0] != models[1] and text in models:
        return "A" if text == models[0] else "B"
    known = text.lower()
    if known in _NONE:
        return None
    if known == "0":
        row.fail("0 is a tie in some files and the first response in others: use A, B, tie", column)
    if known.startswith("tie"):
        return "tie"
    if known not in _BY_SPELLING:
        row.fail(f"should be A, B, tie or a model's name, found {describe(value)}", column)
    return _BY_SPELLING[known]


def _probability(row: Row, columns: Mapping[str, str]) -> float | None:
    value = _value(row, columns, "p_a")
    if value is None or str(value).strip().lower() in _NONE:
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) else -1.0
    except (ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= 1:
        row.fail(f"should lie in 0..1, found {describe(value)}", columns["p_a"])
    return number


def _truth(row: Row, columns: Mapping[str, str]) -> bool | None:
    value = _value(row, columns, "consistent")
    if value is None or isinstance(value, bool):
        return value
    if str(value).lower() not in _TRUTHS:
        row.fail(f"should be true or false, found {describe(value)}", columns["consistent"])
    return _TRUTHS[str(value).lower()]


def _messages(row: Row, columns: Mapping[str, str]) -> Messages:
    value = _value(row, columns, "prompt")
    if value is None:
        return ()
    try:
        return prompt_messages(value)
    except SpecError as error:
        field = (error.field or "prompt").replace("prompt", columns["prompt"], 1)
        row.fail(error.message, field)


def _candidate(
    row: Row, columns: Mapping[str, str], side: str, letter: str, model: str | None
) -> Candidate:
    column = columns.get(f"response_{side}")
    text = row.maybe_text(column) if column is not None else None
    response = () if text is None else (Message("assistant", text),)
    return Candidate(model or letter, response, model)


def write(verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
    """One row a comparison.

    Raises:
        DataError: a verdict is not a comparison.
    """
    for verdict in verdicts:
        need_kind(verdict, "comparison", NAME)
        parts = _parts(verdict)
        kept = verdict.item.meta.get("kept", {})
        names = kept.get("columns", {})
        raw = kept.get("raw", {})
        fields = {names.get(part, part): value for part, value in parts.items()}
        for part, value in raw.items():
            if _unchanged(part, value, verdict):
                fields[names[part]] = value
        yield exported(verdict, NAME, fields, COLUMNS, KEPT, report)


def _parts(verdict: Verdict) -> dict[str, Any]:
    known, preference = verdict.item.meta, verdict.preference
    a, b = verdict.candidates
    prompt = verdict.item.prompt
    alone = len(prompt) == 1 and prompt[0].role == "user"
    return {
        "id": verdict.item.id,
        "turn": None,  # our item ids tell the turn
        "category": known.get("category"),
        "prompt": (prompt[0].content if alone else as_dict(prompt)) if prompt else None,
        "reference": verdict.item.reference,
        "model_a": a.model,
        "model_b": b.model,
        "response_a": a.text if a.response else None,
        "response_b": b.text if b.response else None,
        "judge": verdict.judge.model,
        "winner": winner_name(verdict),
        "p_a": preference.p_a if preference else None,
        "consistent": preference.consistent if preference else None,
        "label": known.get("label"),
        "reply": verdict.calls[0].reply if verdict.calls else None,
    }


def _unchanged(part: str, value: object, verdict: Verdict) -> bool:
    """Whether the column's own spelling still says what the record says."""
    if part not in {"winner", "p_a", "consistent"}:
        return True
    text = str(value).strip().lower()
    if part == "winner":
        return _spells(text, winner_name(verdict), verdict)
    if value is None or text in _NONE:
        return True
    if verdict.preference is None:
        return True
    if part == "p_a":
        return _as_number(text) == verdict.preference.p_a
    return _TRUTHS.get(text) == verdict.preference.consistent


def _spells(text: str, winner: Winner | None, verdict: Verdict) -> bool:
    if winner is None:
        return text in _NONE
    if winner == "tie":
        return text.startswith("tie") or _BY_SPELLING.get(text) == "tie"
    model = verdict.candidates["AB".index(winner)].model
    return _BY_SPELLING.get(text) == winner or (model is not None and text == model.lower())


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
