"""AlpacaEval annotations: the model against a baseline, one soft preference a row.

`preference` runs from 1, the baseline is better, to 2, the model is; 1.5 is a tie, as is the 0 of
old files, and null or NaN is none. A is the model, so `p_a` is `preference - 1`. The order shown
was drawn at random and not recorded: the one order of the verdict is called "AB".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlaif.canonical import digest
from rlaif.evals.formats.exports import ExportReport, exported, need_kind
from rlaif.evals.formats.fastchat import answer_files, shown
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Row, Source, by_judge, unique
from rlaif.evals.formats.verdicts import Game, Outcome, call, comparison, judge_ref, meta, recorded
from rlaif.evals.legacy import label_share, nearer_preference
from rlaif.types import Candidate, Item, Message, Verdict, Winner

NAME = "alpaca-eval"
COLUMNS = (
    "instruction", "output_1", "generator_1", "output_2", "generator_2", "dataset", "annotator",
    "preference", "index", "len_1", "len_2",
)  # fmt: skip
TAKES = frozenset({"questions", "answers"})
KEPT = frozenset({"prompt", "responses", "p_a"})
_SIDES = ("2", "1")
"""The model is `_2`: it comes first in the record."""
_ROUNDING = 1e-9
"""Published preferences have ten decimals."""


@dataclass(slots=True)
class _Instructions:
    """The instructions by place and by text, and the outputs of models."""

    paths: tuple[Path, ...] = ()
    texts: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, dict[int | str, str]] = field(default_factory=dict)

    def index(self, row: Row) -> int | None:
        """The place of the row's instruction, as it says or as its text tells."""
        if row.take("index") is not None:
            index = row.whole("index")
            if self.paths and index not in self.texts:
                row.fail(f"there is no instruction {index} in {shown(self.paths)}", "index")
            return index
        if not self.paths:
            return None
        text = row.text("instruction")
        if text not in self.places:
            row.fail(f"is not an instruction of {shown(self.paths)}", "instruction")
        return self.places[text]


def read(source: Source, options: ImportOptions, report: ImportReport) -> Iterator[Verdict]:
    """One comparison a row.

    Raises:
        SpecError: a row does not fit, occurs twice, or annotators are mixed.
    """
    known = _load(options)
    rows = by_judge(source, lambda row: row.text("annotator"), options, report, mix="refuse")
    positions: dict[str, int] = {}
    for row in unique(source, rows, _key, "index" if not known.places else "instruction"):
        report.rows += 1
        position = positions[row.path] = positions.get(row.path, -1) + 1
        yield _verdict(row, known, options, report, position)


def _key(row: Row) -> str:
    models = f"{row.text('generator_1')}\n{row.text('generator_2')}"
    asked = row.whole("index") if row.take("index") is not None else row.text("instruction")
    return f"{asked}\n{models}\n{row.text('annotator')}"


def _load(options: ImportOptions) -> _Instructions:
    known = _Instructions(options.questions)
    if options.questions:
        for place, row in enumerate(Source(options.questions)):
            index = row.whole("index") if "index" in row else place
            text = row.text("instruction")
            if index in known.texts or text in known.places:
                row.fail("is there twice", "index" if index in known.texts else "instruction")
            known.texts[index] = text, row.maybe_text("dataset")
            known.places[text] = index
    for path in answer_files(options.answers):
        for row in Source([path]):
            key = row.whole("index") if "index" in row else row.text("instruction")
            made = known.outputs.setdefault(row.text("generator"), {})
            if key in made:
                row.fail("is answered twice", "index" if "index" in row else "instruction")
            made[key] = row.maybe_text("output") or ""
    return known


def _verdict(
    row: Row, known: _Instructions, options: ImportOptions, report: ImportReport, position: int
) -> Verdict:
    index = known.index(row)
    instruction = row.maybe_text("instruction")
    dataset = row.maybe_text("dataset")
    if instruction is None and index in known.texts:
        instruction, dataset = known.texts[index]
    if index is None and instruction is None:
        row.fail("is missing, and so is 'index'", "instruction")
    models = [row.text(f"generator_{side}") for side in _SIDES]
    lengths = {
        model: row.whole(f"len_{side}")
        for model, side in zip(models, _SIDES, strict=True)
        if row.take(f"len_{side}") is not None
    }
    responses = [_response(row, side, known, (index, instruction)) for side in _SIDES]
    preference = row.number("preference")
    row.leave(*(["preference"] if preference == 0 else []))
    reply = _reply(row)
    facts = meta(
        row,
        index=index,
        position=position,
        dataset=dataset,
        lengths=lengths or None,
    )
    name = f"{index}" if index is not None else digest(instruction)[:16]
    item = Item(name, (Message("user", instruction),) if instruction else (), None, facts)
    a, b = (
        Candidate(model, () if text is None else (Message("assistant", text),), model)
        for model, text in zip(models, responses, strict=True)
    )
    p_a, outcome = _read(row, item, preference, reply, options, report)
    calls = () if reply is None else (call(NAME, reply, f"{name}:{models[0]}"),)
    judge = judge_ref(row.text("annotator"), NAME)
    return comparison(item, a, b, judge, [Game("AB", outcome, p_a)], calls)


def _response(
    row: Row, side: str, known: _Instructions, keys: tuple[int | None, str | None]
) -> str | None:
    if (text := row.maybe_text(f"output_{side}")) is not None:
        return text
    made = known.outputs.get(row.text(f"generator_{side}"), {})
    return next((made[key] for key in keys if key is not None and key in made), None)


def _reply(row: Row) -> str | None:
    """The judge's own words, where they are words; the rest of `raw_completion` stays in `meta`."""
    token, raw = row.maybe_text("judge_token"), row.take("raw_completion")
    if token is not None:
        row.leave("judge_token", "raw_completion")
        return token
    if isinstance(raw, str):
        return raw
    row.leave("raw_completion")
    if isinstance(raw, dict) and isinstance(raw.get("text"), str):
        return str(raw["text"])
    return None


def _read(
    row: Row,
    item: Item,
    preference: float | None,
    reply: str | None,
    options: ImportOptions,
    report: ImportReport,
) -> tuple[float | None, Outcome[Winner]]:
    """P(model preferred), and the winner that it makes."""
    value = 1.5 if preference == 0 else preference
    if value is not None and not 1 <= value <= 2:
        row.fail(f"should lie in 1..2, found {value:g}", "preference")
    if options.reparse or options.legacy:
        value = _reread(row, item, value, report)
    if value is None:
        return None, recorded(None, reply)
    p_a = value - 1
    return p_a, recorded("A" if p_a > 0.5 else "B" if p_a < 0.5 else "tie", reply)


def _reread(row: Row, item: Item, preference: float | None, report: ImportReport) -> float | None:
    """The preference that the log-probabilities give; as recorded where there are none."""
    logprobs = _logprobs(row)
    share = label_share(logprobs) if logprobs else None
    if preference is None or logprobs is None:
        report.no_reply += 1
        return preference
    report.reread += 1
    found = None if share is None else nearer_preference(share, preference)
    if found is not None and abs(found - preference) <= _ROUNDING:
        return preference
    report.disagreements += 1
    report.on_disagreement(
        {
            "file": row.path,
            "line": row.line,
            "item": item.id,
            "shown": None,
            "recorded": preference,
            "read": found,
            "cause": None if found is not None else "unreadable",
            "reply": logprobs,
        }
    )
    return found


def _logprobs(row: Row) -> dict[str, float] | None:
    """Log-probabilities of the first token's alternatives, in nats, compact or as published."""
    if isinstance(given := row.fields.get("top_logprobs"), dict):
        inner = row.inner(given, "top_logprobs")
        return {name: p for name in given if (p := inner.number(name)) is not None}
    raw = row.fields.get("raw_completion")
    try:
        tops = raw["logprobs"]["content"][0]["top_logprobs"]  # type: ignore[index]
        return {top["token"]: float(top["logprob"]) for top in tops if top["logprob"] is not None}
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return None


def write(verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
    """One row a comparison.

    Raises:
        DataError: a verdict is not a comparison.
    """
    for verdict in verdicts:
        need_kind(verdict, "comparison", NAME)
        yield exported(verdict, NAME, _fields(verdict), COLUMNS, KEPT, report)


def _fields(verdict: Verdict) -> dict[str, Any]:
    known = verdict.item.meta
    prompt = verdict.item.prompt
    fields: dict[str, Any] = {
        "instruction": "\n\n".join(message.content for message in prompt) if prompt else None,
        "dataset": known.get("dataset"),
        "annotator": verdict.judge.model,
        "preference": known.get("preference"),
        "index": known.get("index"),
    }
    if verdict.preference is None:
        fields["preference"] = None
    elif fields["preference"] is None:
        fields["preference"] = verdict.preference.p_a + 1
    if verdict.calls and isinstance(known.get("columns"), list) and "raw_completion" not in known:
        fields["raw_completion"] = verdict.calls[0].reply
    for side, candidate in zip(_SIDES, verdict.candidates, strict=True):
        model = candidate.model or candidate.id
        fields[f"generator_{side}"] = model
        fields[f"output_{side}"] = candidate.text if candidate.response else None
        fields[f"len_{side}"] = (known.get("lengths") or {}).get(model)
    return fields
