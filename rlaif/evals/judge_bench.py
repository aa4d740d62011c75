"""Judge benchmarks: labeled pairs, and best-of-N as pairs, from the files of each set.

    for comparison in read_set("llmbar", [Path("natural.jsonl")], left_out.append):
        comparison.item.meta["label"]        # A, B or tie, in terms of comparison.a

Sets that name a chosen and a rejected response get their sides by a coin that the item's id tosses,
so that a judge that always says A scores one half. Any judge of comparisons can be put to them;
`rlaif.evals.labels` counts how often it is right.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from rlaif.errors import SpecError, suggestion
from rlaif.evals.fields import Row, rows_of
from rlaif.evals.formats.judgebench import subset_of as judgebench_subset
from rlaif.specs.describe import describe
from rlaif.specs.items import prompt_messages
from rlaif.types import Candidate, Comparison, Item, Message, Messages, Role, Winner

Format = Literal[
    "llmbar",
    "judgebench",
    "rewardbench",
    "rewardbench2",
    "rm-bench",
    "pandalm",
    "auto-j",
    "hh-rlhf",
    "pairs",
]
FORMATS: tuple[Format, ...] = get_args(Format)

_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_SIDES: dict[str, Winner] = {
    "a": "A",
    "b": "B",
    "tie": "tie",
    "1": "A",
    "2": "B",
    "c": "tie",
    "a>b": "A",
    "b>a": "B",
    "a=b": "tie",
    "model_a": "A",
    "model_b": "B",
    "response_a": "A",
    "response_b": "B",
    "tie (bothbad)": "tie",
}
"""What a label of a plain file of pairs may say, in small letters."""
_PAIR_COLUMNS = (
    "id",
    "question_id",
    "prompt",
    "response_a",
    "response_b",
    "model_a",
    "model_b",
    "label",
    "winner",
    "reference",
    "meta",
)
_STYLES = ("concise", "detailed", "markdown")
"""RM-Bench's three versions of a response, plainest first."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that cannot be judged, and why."""

    path: str
    line: int
    reason: str


Drop = Callable[[LeftOut], None]


def read_set(
    name: Format, files: Sequence[Path], drop: Drop, *, limit: int | None = None
) -> Iterator[Comparison]:
    """The labeled comparisons of a set, file by file.

    Args:
        name: The set, or the form its rows have.
        files: Its files.
        drop: Told of each row that cannot be judged.
        limit: Most rows to read, of all files together.

    Raises:
        SpecError: a file cannot be read, a row does not fit, or an id occurs twice.
    """
    reader = _READERS[name]
    taken: dict[str, Row] = {}

    def rows() -> Iterator[tuple[Row, str]]:
        for file in files:
            stem = _stem(file)
            for row in rows_of(file):
                yield row, stem

    for row, stem in islice(rows(), limit):
        for comparison in reader(row, stem, drop):
            _claim(taken, comparison.item, row)
            yield comparison


def _claim(taken: dict[str, Row], item: Item, row: Row) -> None:
    if (first := taken.get(item.id)) is not None:
        row.fail(f"{item.id[:60]!r} is also the id of {first.path}:{first.line}", "id")
    taken[item.id] = row


def _stem(path: Path) -> str:
    """What to call the subset in a file: its name, or its folder's where that says nothing."""
    name = path.name.removesuffix(".gz").rpartition(".")[0]
    return path.parent.name if name == "dataset" and path.parent.name else name


def _comparison(
    name: str,
    prompt: Messages,
    sides: tuple[Candidate, Candidate],
    label: Winner,
    meta: Mapping[str, Any],
) -> Comparison:
    return Comparison(Item(name, prompt, meta={**meta, "label": label}), *sides)


def _said(text: str) -> Messages:
    return (Message("assistant", text),)


def _asked(text: str) -> Messages:
    return (Message("user", text),)


def _prompt(row: Row, column: str = "prompt") -> Messages:
    """A prompt that is text, or messages."""
    try:
        return prompt_messages(row.required(column))
    except SpecError as error:
        row.fail(error.message, error.field)


def chosen_is_a(name: str) -> bool:
    """Whether the chosen response of the item called `name` is its A: a coin, always the same."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[0] % 2 == 0


def _chosen_rejected(
    name: str,
    prompt: Messages,
    chosen: Messages,
    rejected: Messages,
    meta: Mapping[str, Any],
    models: tuple[str | None, str | None] = (None, None),
) -> Comparison:
    first, second = (chosen, models[0]), (rejected, models[1])
    label: Winner = "A"
    if not chosen_is_a(name):
        first, second, label = second, first, "B"
    sides = (Candidate("A", *first), Candidate("B", *second))
    return _comparison(name, prompt, sides, label, meta)


def _llmbar(row: Row, stem: str, drop: Drop) -> Iterator[Comparison]:
    del drop
    columns = ("input", "output_1", "output_2", "label", "index")
    meta = row.others(columns)
    label = row.required("label")
    if str(label) not in {"1", "2"}:
        row.fail(f"should be 1 or 2, found {describe(label)}", "label")
    sides = (
        Candidate("output_1", _said(row.any_text("output_1"))),
        Candidate("output_2", _said(row.any_text("output_2"))),
    )
    index = row.whole("index") if row.has("index") else row.ordinal - 1
    known = {"dataset": "llmbar", "subset": stem, "index": index}
    prompt = _asked(row.text("input"))
    name = f"{stem}:{index}"
    yield _comparison(name, prompt, sides, "A" if str(label) == "1" else "B", meta | known)


def _judgebench(row: Row, stem: str, drop: Drop) -> Iterator[Comparison]:
    del stem, drop
    columns = (
        "pair_id",
        "original_id",
        "source",
        "question",
        "response_model",
        "response_A",
        "response_B",
        "label",
    )
    meta = row.others(columns)
    label = row.choice("label", {"A>B": _SIDES["a"], "B>A": _SIDES["b"]})
    sides = (
        Candidate("response_A", _said(row.any_text("response_A"))),
        Candidate("response_B", _said(row.any_text("response_B"))),
    )
    name, source = str(row.key("pair_id")), row.text("source")
    known = {"dataset": "judgebench", "pair_id": name, "source": source}
    if (subset := judgebench_subset(source)) is not None:
        known["subset"] = subset
    if row.has("response_model"):
        known["response_model"] = row.text("response_model")
    yield _comparison(name, _asked(row.text("question")), sides, label, meta | known)


def _rewardbench(row: Row, stem: str, drop: Drop) -> Iterator[Comparison]:
    del stem
    columns = ("id", "prompt", "chosen", "chosen_model", "rejected", "rejected_model", "subset")
    meta = row.others(columns)
    subset = row.text("subset")
    chosen, rejected = row.any_text("chosen"), row.any_text("rejected")
    if chosen == rejected:
        return drop(LeftOut(row.path, row.line, "chosen and rejected are the same"))
    known = {"dataset": "rewardbench", "subset": subset}
    yield _chosen_rejected(
        f"{subset}:{row.key('id')}",
        _prompt(row),
        _said(chosen),
        _said(rejected),
        meta | known,
        (row.maybe_text("chosen_model"), row.maybe_text("rejected_model")),
    )
    return None


def _rewardbench2(row: Row, stem: str, drop: Drop) -> Iterator[Comparison]:
    columns = ("id", "prompt", "chosen", "rejected", "num_correct", "total_completions", "subset")
    del stem
    meta = {k: v for k, v in row.others(columns).items() if k not in {"models", "num_incorrect"}}
    subset, name = row.text("subset"), str(row.key("id"))
    known = {"dataset": "rewardbench2", "subset": subset, "question_id": f"{subset}:{name}"}
    yield from _best_of(row, f"{subset}:{name}", meta | known, drop)


def _best_of(row: Row, name: str, meta: Mapping[str, Any], drop: Drop) -> Iterator[Comparison]:
    """Every chosen response against every rejected one."""
    prompt = _prompt(row)
    for i, chosen in enumerate(row.texts("chosen")):
        for j, rejected in enumerate(row.texts("rejected")):
            if chosen == rejected:
                drop(LeftOut(row.path, row.line, f"chosen {i} and rejected {j} are the same"))
                continue
            yield _chosen_rejected(f"{name}:{i}:{j}", prompt, _said(chosen), _said(rejected), meta)


def _rm_bench(row: Row, stem: str, drop: Drop) -> Iterator[Comparison]:
    del stem
    meta = row.others(("id", "prompt", "chosen", "rejected", "domain"))
    name, domain = str(row.key("id")), row.text("domain")
    chosen, rejected = row.texts("chosen"), row.texts("rejected")
    for column, texts in (("chosen", chosen), ("rejected", rejected)):
        if len(texts) != len(_STYLES):
            row.fail(f"should hold the three styles, found {len(texts)}", column)
    prompt = _prompt(row)
    known = {"dataset": "rm-bench", "subset": domain, "question_id": f"{domain}:{name}"}
    for i, good in enumerate(chosen):
        for j, bad in enumerate(rejected):
            if good == bad:
                drop(LeftOut(row.path, row.line, f"chosen {i} and rejected {j} are the same"))
                continue
            level = "hard" if i < j else "easy" if i > j else "normal"
            styles = {"difficulty": level, "styles": [_STYLES[i], _STYLES[j]]}
            where = f"{domain}:{name}:{i}:{j}"
            yield _chosen_rejected(where, prompt, _said(good), _said(bad), meta | known | styles)


def _pandalm(row: Row, stem: str, drop: Drop) -> Iterator[Comparison]:
    del stem
    columns = ("idx", "motivation_app", "cmp_key", "instruction", "input", "response1", "response2")
    annotators = ("annotator1", "annotator2", "annotator3")
    meta = row.others((*columns, *annotators))
    votes = [row.whole(name) for name in annotators]
    for name, vote in zip(annotators, votes, strict=True):
        if vote > 2:
            row.fail(f"should be 0, 1 or 2, found {vote}", name)
    winner, count = Counter(votes).most_common(1)[0]
    if count == 1:
        return drop(LeftOut(row.path, row.line, "the three annotators say three things"))
    winners: tuple[Winner, ...] = ("tie", "A", "B")
    given = row.maybe_text("input")
    prompt = row.text("instruction") + (f"\n\n{given}" if given else "")
    names = (row.maybe_text("cmp_key") or "").split("_")
    models = names if len(names) == 2 else (None, None)
    sides = (
        Candidate("A", _said(row.any_text("response1")), models[0]),
        Candidate("B", _said(row.any_text("response2")), models[1]),
    )
    known: dict[str, Any] = {"dataset": "pandalm", "votes": votes}
    if row.has("motivation_app"):
        known["motivation_app"] = row.text("motivation_app")
    yield _comparison(str(row.key("idx")), _asked(prompt), sides, winners[winner], meta | known)
    return None


def _auto_j(row: Row, stem: str, drop: Drop) -> Iterator[Comparison]:
    del drop
    meta = row.others(("scenario", "label", "prompt", "response 1", "response 2"))
    label = row.whole("label")
    if label > 2:
        row.fail(f"should be 0, 1 or 2, found {label}", "label")
    winners: tuple[Winner, ...] = ("A", "B", "tie")
    sides = (
        Candidate("A", _said(row.any_text("response 1"))),
        Candidate("B", _said(row.any_text("response 2"))),
    )
    known = {"dataset": "auto-j", "subset": row.text("scenario")}
    name = f"{stem}:{row.ordinal}"
    yield _comparison(name, _asked(row.text("prompt")), sides, winners[label], meta | known)


def _hh_rlhf(row: Row, stem: str, drop: Drop) -> Iterator[Comparison]:
    meta = row.others(("chosen", "rejected"))
    sides = [_split(row, column) for column in ("chosen", "rejected")]
    (context, chosen), (other, rejected) = sides
    if context != other:
        return drop(LeftOut(row.path, row.line, "the sides differ before the last response"))
    if chosen == rejected:
        return drop(LeftOut(row.path, row.line, "chosen and rejected are the same"))
    known = {"dataset": "hh-rlhf", "subset": stem}
    prompt = _turns(row, context)
    name = f"{stem}:{row.ordinal}"
    yield _chosen_rejected(name, prompt, _said(chosen), _said(rejected), meta | known)
    return None


def _split(row: Row, column: str) -> tuple[str, str]:
    """The context of a conversation, and its last response."""
    text = row.text(column)
    context, mark, response = text.rpartition(_ASSISTANT)
    if not mark or not context.startswith(_HUMAN):
        message = "should be a conversation of 'Human:' and 'Assistant:' turns"
        row.fail(f"{message} that ends in an Assistant's", column)
    return context, response.strip()


def _turns(row: Row, context: str) -> Messages:
    """The messages of a context that begins with a Human turn."""
    messages: list[Message] = []
    rest = context
    while rest:
        role, mark = ("user", _HUMAN) if rest.startswith(_HUMAN) else ("assistant", _ASSISTANT)
        rest = rest.removeprefix(mark)
        ends = [at for at in (rest.find(_HUMAN), rest.find(_ASSISTANT)) if at >= 0]
        end = min(ends, default=len(rest))
        messages.append(Message(_role(role), rest[:end].strip()))
        rest = rest[end:]
    if messages[-1].role != "user":
        row.fail("has two Assistant turns at its end", "chosen")
    return tuple(messages)


def _role(name: str) -> Role:
    return "user" if name == "user" else "assistant"


def _pairs(row: Row, stem: str, drop: Drop) -> Iterator[Comparison]:
    del drop
    meta = row.others(_PAIR_COLUMNS)
    if isinstance(given := row.take("meta"), Mapping):
        meta |= dict(given)
    column = "label" if row.has("label") or not row.has("winner") else "winner"
    sides = (
        Candidate("A", _said(row.any_text("response_a")), row.maybe_text("model_a")),
        Candidate("B", _said(row.any_text("response_b")), row.maybe_text("model_b")),
    )
    name = next((str(row.key(k)) for k in ("id", "question_id") if row.has(k)), None)
    item = Item(
        name or f"{stem}:{row.ordinal}",
        _prompt(row),
        row.maybe_text("reference") or None,
        {**meta, "label": _label(row, column)},
    )
    yield Comparison(item, *sides)


def _label(row: Row, column: str) -> Winner:
    value = row.required(column)
    if isinstance(value, str | int) and (known := _SIDES.get(str(value).strip().lower())):
        return known
    return row.fail(f"should be A, B or tie, found {describe(value)}", column)


_READERS: dict[Format, Callable[[Row, str, Drop], Iterator[Comparison]]] = {
    "llmbar": _llmbar,
    "judgebench": _judgebench,
    "rewardbench": _rewardbench,
    "rewardbench2": _rewardbench2,
    "rm-bench": _rm_bench,
    "pandalm": _pandalm,
    "auto-j": _auto_j,
    "hh-rlhf": _hh_rlhf,
    "pairs": _pairs,
}


def check_format(name: str) -> Format:
    """`name`, if a set is called so.

    Raises:
        SpecError: none is.
    """
    for known in FORMATS:
        if known == name:
            return known
    raise SpecError(f"there is no format called {name!r}; {suggestion(name, FORMATS)}")


def left_out_summary(rows: Iterable[LeftOut]) -> dict[str, Any]:
    """How many rows were left out, why, and where they stand."""
    rows = list(rows)
    lines: dict[str, list[int]] = {}
    for row in rows:
        lines.setdefault(row.path, []).append(row.line)
    reasons = Counter(row.reason for row in rows)
    return {"n": len(rows), "reasons": dict(reasons.most_common()), "lines": lines}
