"""JudgeBench outputs: two responses with an objective label, judged in both orders.

Reads the published `outputs/*.jsonl` and the compact forms (`decisions`; raw text without the
prompts). The second judgment is for the swapped order and is not flipped back in the file; in the
record it is. Files of several judges are read as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlaif.evals.formats.exports import ExportReport, exported, need_kind
from rlaif.evals.formats.fastchat import shown as named
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Row, Source, by_judge, unique
from rlaif.evals.formats.verdicts import (
    FLIPPED,
    Game,
    Outcome,
    Reader,
    call,
    comparison,
    judge_ref,
    meta,
    recorded,
    said,
    winner_in,
)
from rlaif.evals.legacy import Reading, label_winner, legacy_only_label, read_label
from rlaif.types import Call, Candidate, Completion, Item, Message, Shown, Verdict, Winner

NAME = "judgebench"
COLUMNS = (
    "pair_id",
    "source",
    "question",
    "response_A",
    "response_B",
    "label",
    "judge_name",
    "judgments",
)
TAKES = frozenset({"questions"})
KEPT = frozenset({"prompt", "responses", "orders", "replies"})
_SHOWN: tuple[Shown, ...] = ("AB", "BA")
_LABELS: dict[str, Winner] = {"A>B": "A", "B>A": "B"}
_NAMES: dict[Winner | None, str | None] = {"A": "A>B", "B": "B>A", "tie": "A=B", None: None}
_SUBSETS = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "code",
}


@dataclass(slots=True)
class _Pairs:
    """The data file: the fields of each pair by `pair_id`."""

    paths: tuple[Path, ...] = ()
    rows: dict[str, Row] = field(default_factory=dict)

    def of(self, row: Row, name: str) -> Row:
        """The row that holds the texts of a pair."""
        if not self.paths:
            return row
        if (found := self.rows.get(name)) is None:
            row.fail(f"there is no pair {name} in {named(self.paths)}", "pair_id")
        return found


def read(source: Source, options: ImportOptions, report: ImportReport) -> Iterator[Verdict]:
    """One comparison a row.

    Raises:
        SpecError: a row does not fit, or occurs twice.
    """
    pairs = _load(options.questions)
    readers = {
        shown: Reader(
            options, report, _winner_of(shown, read_label), _winner_of(shown, legacy_only_label)
        )
        for shown in _SHOWN
    }

    def judge_of(row: Row) -> str:
        return _judge(row, options)

    rows = by_judge(source, judge_of, options, report, mix="take")
    for row in unique(source, rows, lambda r: f"{r.key('pair_id')}\n{judge_of(r)}", "pair_id"):
        report.rows += 1
        yield _verdict(row, judge_of(row), pairs, readers)


def _winner_of(shown: Shown, rule: Reading[str]) -> Reading[Winner]:
    def read_one(reply: Completion) -> Winner:
        return label_winner(rule(reply)) or "tie"

    return winner_in(shown, read_one)


def _load(paths: tuple[Path, ...]) -> _Pairs:
    pairs = _Pairs(paths)
    if paths:
        for row in Source(paths):
            name = str(row.key("pair_id"))
            if name in pairs.rows:
                row.fail("is there twice", "pair_id")
            pairs.rows[name] = row
    return pairs


def _judge(row: Row, options: ImportOptions) -> str:
    if "judge_model" in row:
        return row.text("judge_model")
    entries = row.fields.get("judgments")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(inner := entry.get("judgment"), dict):
            return row.inner(inner, "judgments.judgment").text("judge_model")
    # every judgment of the row failed: only the file's name tells whose they are
    named = Path(row.path).name.partition("judge_model=")[2]
    if name := options.judge or named.removesuffix(".gz").removesuffix(".jsonl"):
        return name
    name = row.text("judge_name")
    row.leave("judge_name")
    return name


def _verdict(row: Row, judge: str, pairs: _Pairs, readers: dict[Shown, Reader[Winner]]) -> Verdict:
    name = str(row.key("pair_id"))
    texts = pairs.of(row, name)
    label = row.choice("label", _LABELS)
    if texts is not row and texts.choice("label", _LABELS) != label:
        row.fail(f"is not the label of pair {name} in {named(pairs.paths)}", "label")
    outcomes, skeleton = _games(row)
    games = [
        Game(shown, readers[shown](row, name, outcome, shown))
        for shown, outcome in zip(_SHOWN, outcomes, strict=False)
    ]
    calls = tuple(_calls(outcomes, f"{judge}:{name}"))
    prompt, a, b = (texts.maybe_text(key) for key in ("question", "response_A", "response_B"))
    if texts is row:
        row.leave("source")
    else:
        row.leave("question", "response_A", "response_B")
    origin = texts.maybe_text("source")
    row.leave("source")
    facts = meta(row, kept={"judgments": skeleton} if skeleton else None)
    known = {
        "pair_id": row.key("pair_id"),
        "dataset": NAME,
        "label": label,
        "source": origin,
        "subset": subset_of(origin),
    }
    item = Item(
        name,
        (Message("user", prompt),) if prompt is not None else (),
        None,
        {k: v for k, v in known.items() if v is not None} | facts,
    )
    first, second = (
        Candidate(f"response_{side}", () if text is None else (Message("assistant", text),))
        for side, text in (("A", a), ("B", b))
    )
    return comparison(item, first, second, judge_ref(judge, NAME), games, calls)


def subset_of(origin: str | None) -> str | None:
    """The category of a pair, as the authors report them, from its `source`."""
    return next(
        (name for start, name in _SUBSETS.items() if (origin or "").startswith(start)), None
    )


def _games(row: Row) -> tuple[list[Outcome[Winner]], list[Any]]:
    """What each judgment came to, and what of it the record holds nowhere else."""
    if "decisions" in row:
        entries = row.entries("decisions")
        _check_count(row, entries, "decisions")
        return [
            recorded(_decision(row, entry, n, f"decisions.{n}")) for n, entry in enumerate(entries)
        ], []
    entries = row.entries("judgments")
    _check_count(row, entries, "judgments")
    outcomes: list[Outcome[Winner]] = []
    skeleton: list[Any] = []
    for n, entry in enumerate(entries):
        if entry is None:  # the request failed
            outcomes.append(recorded(None, cause="provider_error"))
            skeleton.append(None)
            continue
        one = row.inner(entry, f"judgments.{n}")
        inner = one.inner(one.take("judgment"), "judgment") if "judgment" in one else one
        reply = inner.maybe_text("response")
        winner = _decision(row, one.take("decision"), n, f"judgments.{n}.decision")
        # a reward model has scores and an empty reply
        outcomes.append(recorded(winner, reply or None))
        skeleton.append(_without(entry))
    return outcomes, skeleton


def _check_count(row: Row, entries: list[Any], name: str) -> None:
    if not 1 <= len(entries) <= 2:
        row.fail(f"should hold one judgment or two, found {len(entries)}", name)


def _decision(row: Row, value: object, game: int, name: str) -> Winner | None:
    if value is None:
        return None
    winner = label_winner(value) if isinstance(value, str) else None
    if winner is None:
        row.fail("should be A>B, B>A, A=B or null", name)
    return winner if game == 0 else FLIPPED[winner]


def _without(entry: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in entry.items() if k not in {"response", "decision", "judgment"}}
    if isinstance(inner := entry.get("judgment"), dict):
        kept["judgment"] = {k: v for k, v in inner.items() if k != "response"}
    return kept


def _calls(outcomes: list[Outcome[Winner]], place: str) -> Iterator[Call]:
    for shown, outcome in zip(_SHOWN, outcomes, strict=False):
        if outcome.reply is not None:
            yield call(NAME, outcome.reply, f"{place}:{shown}", shown)


def write(verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
    """One row a comparison.

    Raises:
        DataError: a verdict is not a comparison.
    """
    for verdict in verdicts:
        need_kind(verdict, "comparison", NAME)
        yield exported(verdict, NAME, _fields(verdict), COLUMNS, KEPT, report)


def _fields(verdict: Verdict) -> dict[str, Any]:
    known, prompt = verdict.item.meta, verdict.item.prompt
    orders = verdict.preference.orders if verdict.preference else ()
    shown = [order.shown for order in orders] or list(_SHOWN)
    winners = dict(zip(shown, said(verdict), strict=False))
    decisions = [
        _NAMES[winner if order == "AB" or winner is None else FLIPPED[winner]]
        for order, winner in sorted(winners.items())
    ]
    replies = {call.shown: call.reply for call in verdict.calls}
    kept = known.get("kept", {}).get("judgments") or [
        {"judgment": {"judge_model": verdict.judge.model}} for _ in decisions
    ]
    label: Any = known.get("label")
    a, b = (c.text if c.response else None for c in verdict.candidates)
    return {
        "pair_id": known.get("pair_id", verdict.item.id),
        "source": known.get("source"),
        "question": "\n\n".join(message.content for message in prompt) if prompt else None,
        "response_A": a,
        "response_B": b,
        "label": _NAMES.get(label),
        "judge_model": verdict.judge.model,
        "decisions": decisions,
        "judgments": [
            _judgment(entry, decision, replies.get(order, ""))
            for entry, decision, order in zip(kept, decisions, sorted(winners), strict=False)
        ],
    }


def _judgment(kept: Any, decision: str | None, reply: str) -> dict[str, Any] | None:
    if kept is None:
        return None
    if "judgment" in kept:
        return {**kept, "judgment": {**kept["judgment"], "response": reply}, "decision": decision}
    return {**kept, "response": reply, "decision": decision}
