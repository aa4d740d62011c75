"""LLMBar results: two outputs, a gold label, and a judge's winner in both orders.

Reads `result.json` as published, the same without the texts (the data file then gives them by
`index`), and the compact decisions: one judge a row with the winners of every item. The recorded
winners are mapped back to the given order in both games. Judges that gave each output a score have
one reply for each instead of one for each order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rlaif.errors import ConfigError
from rlaif.evals.formats.exports import ExportReport, came_from, exported, need_kind
from rlaif.evals.formats.fastchat import file_stem
from rlaif.evals.formats.fastchat import shown as named
from rlaif.evals.formats.rows import ImportOptions, ImportReport, Row, Source, by_judge, unique
from rlaif.evals.formats.verdicts import (
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
from rlaif.evals.legacy import legacy_better, read_better, read_grade, scores_winner
from rlaif.types import (
    Call,
    Candidate,
    Completion,
    FinishReason,
    Item,
    Message,
    Messages,
    Shown,
    Verdict,
    Winner,
)

NAME = "llmbar"
COLUMNS = ("input", "output_1", "output_2", "index", "label", "results")
TAKES = frozenset({"questions"})
KEPT = frozenset({"prompt", "responses", "orders", "replies"})
_GAMES: tuple[tuple[str, Shown], ...] = (("swap = False", "AB"), ("swap = True", "BA"))
_SCORES = ("score_1", "score_2")
_WINNERS: dict[object, Winner | None] = {"1": "A", "2": "B", None: None}
_NAMES: dict[Winner | None, str | None] = {"A": "1", "B": "2", "tie": "tie", None: None}
_LABELS: dict[object, Winner] = {1: "A", 2: "B", "1": "A", "2": "B"}
_MARKERS = (".raw_judge.", ".decisions")
_FINISHES: dict[str, FinishReason] = {
    "length": "length",
    "content_filter": "refusal",
    "content management policy": "refusal",
}
_JOINT = "\n\n\x1e\n\n"
"""Stands between the replies of a judge that scored each output alone."""


@dataclass(frozen=True, slots=True)
class _Pair:
    prompt: Messages
    a: Messages
    b: Messages
    label: Winner


def read(source: Source, options: ImportOptions, report: ImportReport) -> Iterator[Verdict]:
    """One comparison a row, or one an item of a row of decisions.

    Raises:
        SpecError: a row does not fit, or occurs twice.
        ConfigError: there are several files of pairs.
    """
    if len(options.questions) > 1:
        raise ConfigError("llmbar takes one file of pairs: judgments name them by their index")
    pairs = _load(options.questions) if options.questions else None
    reading = _Reading(pairs, options, report)
    rows = by_judge(source, _judge(options), options, report, mix="take")
    positions: dict[str, int] = {}
    for row in unique(source, rows, lambda row: _key(row, _judge(options)(row)), "index"):
        position = positions[row.path] = positions.get(row.path, -1) + 1
        judge = _judge(options)(row)
        if "winners" in row:
            yield from reading.decisions(row, judge)
        else:
            yield reading.result(row, judge, position)


def _key(row: Row, judge: str) -> str:
    if "winners" in row:
        return f"{row.path}\n{judge}"
    if row.take("index") is not None:
        return f"{row.path}\n{judge}\n{row.whole('index')}"
    return f"{row.path}\n{judge}\nrow {row.ordinal}"


def _judge(options: ImportOptions) -> Any:
    """Names the judge of a row: EVALUATOR/STRATEGY, from the row or from where its file lies."""

    def of(row: Row) -> str:
        if "winners" in row:
            return f"{row.text('evaluator')}/{row.text('strategy')}"
        return options.judge or _judge_of_file(Path(row.path))

    return of


def _judge_of_file(path: Path) -> str:
    stem = file_stem(path)
    if _MARKERS[0] in stem:
        evaluator, _, strategy = stem.partition(_MARKERS[0])[2].rpartition(".")
        return f"{evaluator}/{strategy}" if evaluator else strategy
    if stem == "result" and len(path.parts) > 2:
        return f"{path.parts[-3]}/{path.parts[-2]}"
    return stem


def subset_of(path: Path) -> str | None:
    """The set that a file of LLMBar belongs to: the name before the marks of the compact form, or
    the folders before `evaluators`; `None` where neither is there.
    """
    stem = file_stem(path)
    for marker in _MARKERS:
        if marker in stem:
            return stem.partition(marker)[0]
    if "evaluators" in path.parts:
        folders = path.parts[: path.parts.index("evaluators")]
        inside = folders[folders.index("LLMBar") + 1 :] if "LLMBar" in folders else folders[-1:]
        return "_".join(inside).lower() or None
    return None


def _load(paths: tuple[Path, ...]) -> list[_Pair]:
    return [
        _Pair(
            (Message("user", row.text("input")),),
            (Message("assistant", row.maybe_text("output_1") or ""),),
            (Message("assistant", row.maybe_text("output_2") or ""),),
            _label(row),
        )
        for row in Source(paths)
    ]


def _label(row: Row) -> Winner:
    value = row.required("label")
    if isinstance(value, bool | list | dict) or value not in _LABELS:
        row.fail("should be 1 or 2", "label")
    return _LABELS[value]


class _Reading:
    """Makes the verdicts of rows."""

    def __init__(
        self, pairs: list[_Pair] | None, options: ImportOptions, report: ImportReport
    ) -> None:
        self._pairs = pairs
        self._paths = options.questions
        self._report = report
        self._readers = {
            shown: Reader(
                options, report, winner_in(shown, read_better), winner_in(shown, legacy_better)
            )
            for _, shown in _GAMES
        }
        self._scored = {
            shown: Reader(options, report, _by_grades(None), _by_grades(shown))
            for _, shown in _GAMES
        }

    def decisions(self, row: Row, judge: str) -> Iterator[Verdict]:
        """The verdicts of one judge on every item of a set."""
        entries = row.entries("winners")
        if not entries:
            row.fail("is empty", "winners")
        facts = meta(row)
        for index, entry in enumerate(entries):
            if not isinstance(entry, list) or len(entry) != 2:
                row.fail("should be a list of the two winners", f"winners.{index}")
            self._report.rows += 1
            games = [
                Game(shown, recorded(_winner(row, one, f"winners.{index}.{n}")))
                for n, ((_, shown), one) in enumerate(zip(_GAMES, entry, strict=True))
            ]
            yield self._verdict(row, judge, index, facts, None, games, ())

    def result(self, row: Row, judge: str, position: int) -> Verdict:
        """The verdict of one judge on one item."""
        self._report.rows += 1
        given = row.take("index") is not None
        index = row.whole("index") if given else position
        label = _label(row) if row.take("label") is not None else None
        results = row.entries("results")
        if len(results) != 1:
            row.fail(f"should hold one result, found {len(results)}", "results")
        inner = row.inner(results[0], "results.0")
        calls = tuple(_calls(inner, f"{judge}:{index}"))
        games = [self._game(inner, key, shown, f"{index}") for key, shown in _GAMES]
        own = _own_pair(row)
        kept = {"replies": _leftover(inner)}
        facts = meta(row, kept=kept)
        return self._verdict(row, judge, index, facts, label, games, calls, own)

    def _game(self, inner: Row, key: str, shown: Shown, name: str) -> Game:
        one = inner.inner(inner.required(key), f"results.0.{key}")
        winner = _winner(inner, one.take("winner"), f"{key}.winner")
        if "completion" in one:
            text, finish = _completion(one, "completion")
            was: Outcome[Winner] = Outcome(winner, _cause(winner, finish), text, finish)
            return Game(shown, self._readers[shown](inner, name, was, shown))
        if "score_1" in inner or "score_2" in inner:
            texts = [_completion(inner, score) for score in _SCORES]
            finish = next((end for _, end in texts if end != "stop"), "stop")
            joint = _JOINT.join(text for text, _ in texts)
            was = Outcome(winner, _cause(winner, finish), joint, finish)
            return Game(shown, self._scored[shown](inner, name, was, shown))
        return Game(shown, self._readers[shown](inner, name, recorded(winner), shown))

    def _verdict(
        self,
        row: Row,
        judge: str,
        index: int,
        facts: dict[str, Any],
        label: Winner | None,
        games: list[Game],
        calls: tuple[Call, ...],
        own: _Pair | None = None,
    ) -> Verdict:
        pair = own
        if pair is None and self._pairs is not None:
            if index >= len(self._pairs):
                row.fail(f"there is no item {index} in {named(self._paths)}", "index")
            pair = self._pairs[index]
        if pair is not None and label not in {None, pair.label}:
            row.fail(f"is not the label of item {index} in {named(self._paths)}", "label")
        subset = subset_of(Path(row.path))
        known = {
            "index": index,
            "dataset": NAME,
            "subset": subset,
            "label": label or (pair.label if pair else None),
        }
        item = Item(
            f"{subset}:{index}" if subset else f"{index}",
            pair.prompt if pair else (),
            None,
            {k: v for k, v in known.items() if v is not None} | facts,
        )
        a = Candidate("output_1", pair.a if pair else ())
        b = Candidate("output_2", pair.b if pair else ())
        return comparison(item, a, b, judge_ref(judge, NAME), games, calls)


def _own_pair(row: Row) -> _Pair | None:
    if row.take("input") is None:
        return None
    texts = [row.maybe_text(name) or "" for name in ("output_1", "output_2")]
    a, b = ((Message("assistant", text),) for text in texts)
    return _Pair((Message("user", row.text("input")),), a, b, _label(row))


def _winner(row: Row, value: object, name: str) -> Winner | None:
    if isinstance(value, bool | list | dict) or value not in _WINNERS:
        row.fail("should be '1', '2' or null", name)
    return _WINNERS[value]


def _completion(row: Row, name: str) -> tuple[str, FinishReason]:
    value = row.entries(name)
    if not value or not isinstance(value[0], str):
        row.fail("should be a list of the text and why it ended", name)
    end = value[1] if len(value) > 1 else "stop"
    return value[0], _FINISHES.get(end, "stop") if isinstance(end, str) else "stop"


def _cause(winner: Winner | None, finish: FinishReason) -> Any:
    if winner is not None:
        return None
    return {"length": "truncated", "refusal": "refused"}.get(finish, "unreadable")


def _by_grades(broken_for: Shown | None) -> Any:
    """A reading of two grades. LLMBar breaks a tie for the output that is shown second."""

    def winner(reply: Completion) -> Winner:
        first, second = (
            read_grade(Completion(text, finish_reason=reply.finish_reason))
            for text in reply.text.split(_JOINT)
        )
        found = scores_winner(first, second)
        if found == "tie" and broken_for is not None:
            return "B" if broken_for == "AB" else "A"
        return found

    return winner


def _calls(inner: Row, place: str) -> Iterator[Call]:
    for key, shown in _GAMES:
        one = inner.inner(inner.required(key), f"results.0.{key}")
        if "completion" in one:
            yield call(NAME, _completion(one, "completion")[0], f"{place}:{key}", shown)
    for score in _SCORES:
        if score in inner:
            yield call(NAME, _completion(inner, score)[0], f"{place}:{score}")


def _leftover(inner: Row) -> dict[str, Any]:
    """A result without what the record holds elsewhere: its texts and winners."""

    def without(value: object) -> object:
        if not isinstance(value, dict):
            return value
        kept = {k: v for k, v in value.items() if k not in {"winner", "completion"}}
        return kept | ({"completion": value["completion"][1:]} if "completion" in value else {})

    return {
        key: value[1:] if key in _SCORES and isinstance(value, list) else without(value)
        for key, value in inner.fields.items()
    }


def write(verdicts: Iterable[Verdict], report: ExportReport) -> Iterator[dict[str, Any]]:
    """One row a comparison; decisions of one judge become one row again.

    Raises:
        DataError: a verdict is not a comparison.
    """
    for judge, group in groupby(verdicts, _group):
        if judge is not None:
            yield _decisions(list(group), report)
            continue
        for verdict in group:
            need_kind(verdict, "comparison", NAME)
            yield exported(verdict, NAME, _fields(verdict), COLUMNS, KEPT, report)


def _group(verdict: Verdict) -> tuple[str, object] | None:
    """What belongs to one row of decisions; `None` for a row of its own."""
    known = verdict.item.meta
    if not came_from(verdict, NAME) or "winners" not in known.get("columns", ()):
        return None
    return verdict.judge.model, known.get("subset")


def _decisions(group: list[Verdict], report: ExportReport) -> dict[str, Any]:
    report.verdicts += len(group) - 1
    evaluator, _, strategy = group[0].judge.model.rpartition("/")
    fields = {
        "evaluator": evaluator,
        "strategy": strategy,
        "winners": [[_NAMES[winner] for winner in said(verdict)] for verdict in group],
    }
    return exported(group[0], NAME, fields, (), KEPT, report)


def _fields(verdict: Verdict) -> dict[str, Any]:
    known, prompt = verdict.item.meta, verdict.item.prompt
    texts = [c.text if c.response else None for c in verdict.candidates]
    return {
        "input": "\n\n".join(message.content for message in prompt) if prompt else None,
        "output_1": texts[0],
        "output_2": texts[1],
        "index": known.get("index"),
        "label": {"A": 1, "B": 2}.get(str(known.get("label"))),
        "results": [_result(verdict)],
    }


def _result(verdict: Verdict) -> dict[str, Any]:
    orders = verdict.preference.orders if verdict.preference else ()
    won = dict(zip([order.shown for order in orders] or ["AB", "BA"], said(verdict), strict=False))
    replies = {call.shown: call.reply for call in verdict.calls if call.shown}
    alone = [call.reply for call in verdict.calls if call.shown is None]
    kept = verdict.item.meta.get("kept", {}).get("replies", {})
    result: dict[str, Any] = {}
    for score, text in zip(_SCORES, alone, strict=False):
        result[score] = [text, *kept.get(score, [])]
    for key, shown in _GAMES:
        if shown in replies:
            result[key] = {"completion": [replies[shown]], "winner": _NAMES[won.get(shown)]}
            result[key]["completion"] += kept.get(key, {}).get("completion", ["stop"])
        else:
            result[key] = {"winner": _NAMES[won.get(shown)]}
        result[key] = kept.get(key, {}) | result[key]
    return {k: v for k, v in kept.items() if k not in result} | result
