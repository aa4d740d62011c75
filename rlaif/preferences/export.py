"""A preference data set on disk: a `datasets` folder, JSONL, what was held back, and a card.

Rows are written as they come; the split is by prompt, so no prompt stands on both sides, and by
the prompt's own digest, so it never depends on what else is in the file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlaif.canonical import canonical_json, json_line
from rlaif.errors import ConfigError, DataError
from rlaif.preferences.pairs import HeldBack
from rlaif.stats.text import words
from rlaif.store.runs import whole_file
from rlaif.types import Messages, PreferencePair, as_dict

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(slots=True)
class DatasetSummary:
    """What a data set holds, and what was held back."""

    rows: Counter[str] = field(default_factory=Counter)
    held_back: Counter[str] = field(default_factory=Counter)
    longer_chosen: float = 0.0
    """Rows whose chosen response has more words; equal lengths count half."""
    words_chosen: int = 0
    words_rejected: int = 0
    consistent: int = 0
    p_chosen: float = 0.0
    judges: Counter[str] = field(default_factory=Counter)
    rubrics: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)

    def add(self, pair: PreferencePair, split: Split) -> None:
        """Count one row."""
        chosen, rejected = (_words(side) for side in (pair.chosen, pair.rejected))
        self.rows[split] += 1
        self.longer_chosen += 1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0
        self.words_chosen += chosen
        self.words_rejected += rejected
        self.consistent += pair.consistent
        self.p_chosen += pair.p_chosen
        self.judges[pair.judge] += 1
        self.rubrics[pair.rubric or "none"] += 1
        for model in (pair.chosen_model, pair.rejected_model):
            self.models[model or "unknown"] += 1

    def as_dict(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        n = sum(self.rows.values())
        return {
            "rows": dict(self.rows),
            "held_back": dict(sorted(self.held_back.items())),
            "p_chosen_mean": self.p_chosen / n,
            "consistent_share": self.consistent / n,
            "words_chosen_mean": self.words_chosen / n,
            "words_rejected_mean": self.words_rejected / n,
            "longer_chosen_share": self.longer_chosen / n,
            "judges": dict(self.judges),
            "rubrics": dict(self.rubrics),
            "models": dict(self.models),
        }


def split_of(prompt: Messages, test_share: float) -> Split:
    """The split a prompt belongs to, by the digest of its text."""
    text = canonical_json(as_dict(prompt)).encode()
    place = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
    return "test" if place < test_share else "train"


def write_dataset(
    rows: Iterable[PreferencePair | HeldBack],
    folder: Path,
    *,
    test_share: float = 0.1,
    source: str = "",
) -> DatasetSummary:
    """Write `rows` as a data set that `datasets.load_from_disk(folder)` opens; what it holds.

    Args:
        rows: Pairs and held-back comparisons; read once, one at a time.
        folder: Gets train/, test/ and dataset_dict.json, train.jsonl, test.jsonl,
            held_back.jsonl, summary.json and README.md (the data set's card).
        test_share: Share of prompts in the test split, 0..1.
        source: What the card says of where the verdicts came from.

    Raises:
        ConfigError: `datasets` is not installed, or the folder holds something else.
        DataError: no pair is fit to train on; `held_back.jsonl` says why.
        StoreError: the folder cannot be written.
    """
    require_datasets()
    claim_folder(folder, "held_back.jsonl")
    summary = _write_lines(rows, folder, test_share)
    for split in SPLITS:
        if not summary.rows[split]:
            (folder / f"{split}.jsonl").unlink()
    if not summary.rows:
        reasons = ", ".join(f"{n} {reason}" for reason, n in summary.held_back.most_common())
        raise DataError(f"no pair is fit to train on: {reasons or 'there are no comparisons'}")
    _write_arrow(folder, [split for split in SPLITS if summary.rows[split]])
    with whole_file(folder / "summary.json") as file:
        file.write(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False) + "\n")
    with whole_file(folder / "README.md") as file:
        file.write(dataset_card(summary, source))
    return summary


def claim_folder(folder: Path, mark: str) -> None:
    """Make `folder`, for a data set that is known by its file `mark`.

    Raises:
        ConfigError: it cannot be made, or holds other files, which writing might replace.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{folder} cannot be a folder ({reason}): choose another -o") from error
    if names and not names & {mark, f"{mark}.partial"}:
        raise ConfigError(f"{folder} holds other files and is not a data set: choose another -o")


def _write_lines(
    rows: Iterable[PreferencePair | HeldBack], folder: Path, test_share: float
) -> DatasetSummary:
    summary = DatasetSummary()
    with ExitStack() as stack:
        files = {s: stack.enter_context(whole_file(folder / f"{s}.jsonl")) for s in SPLITS}
        held = stack.enter_context(whole_file(folder / "held_back.jsonl"))
        for row in rows:
            if isinstance(row, HeldBack):
                summary.held_back[row.reason] += 1
                held.write(json_line(row.as_dict()))
            else:
                split = split_of(row.prompt, test_share)
                summary.add(row, split)
                files[split].write(json_line(row.as_dict()))
    return summary


def require_datasets() -> None:
    """Raise `ConfigError` if `datasets` is not installed."""
    from importlib.util import find_spec

    if find_spec("datasets") is None:
        raise ConfigError("writing a data set needs a package: pip install 'rlaif[train]'")


def _write_arrow(folder: Path, splits: list[Split]) -> None:
    """The `datasets` form of the JSONL files of preference rows."""
    import datasets

    text, number = datasets.Value("string"), datasets.Value("float64")
    columns = {
        "p_chosen": number,
        "margin": number,
        "consistent": datasets.Value("bool"),
        "verdict_id": text,
        "chosen_model": text,
        "rejected_model": text,
        "judge": text,
        "rubric": text,
    }
    write_arrow(folder, splits, ("prompt", "chosen", "rejected"), columns)


def write_arrow(
    folder: Path, splits: list[Split], messages: Iterable[str], columns: Mapping[str, Any]
) -> None:
    """The `datasets` form of JSONL files, put in place only when it is complete.

    Args:
        folder: Holds SPLIT.jsonl for each split, and gets SPLIT/ and dataset_dict.json.
        splits: Those that there are.
        messages: Columns that are conversations.
        columns: The types of the others.

    Raises:
        ConfigError: `datasets` is not installed.
    """
    require_datasets()
    import datasets

    datasets.disable_progress_bars()
    scratch = folder / ".arrow.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    turn = [{"role": datasets.Value("string"), "content": datasets.Value("string")}]
    features = datasets.Features({**dict.fromkeys(messages, turn), **columns})
    made = {
        split: datasets.Dataset.from_generator(
            _read_lines,
            features=features,
            cache_dir=str(scratch / "cache"),
            gen_kwargs={"path": str(folder / f"{split}.jsonl")},
        )
        for split in splits
    }
    datasets.DatasetDict(made).save_to_disk(str(scratch / "done"))
    for name in (*SPLITS, "dataset_dict.json"):
        old, new = folder / name, scratch / "done" / name
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        if new.exists():
            new.replace(old)
    shutil.rmtree(scratch, ignore_errors=True)


def _read_lines(path: str) -> Iterator[dict[str, Any]]:
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(_whole_text(line) if "\\ud" in line else line)


def _whole_text(line: str) -> str:
    """A line of JSON without lone surrogates, which Arrow's UTF-8 cannot carry: U+FFFD instead."""
    text = json.dumps(json.loads(line), ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _words(messages: Messages) -> int:
    return sum(len(words(m.content)) for m in messages)


def dataset_card(summary: DatasetSummary, source: str) -> str:
    """The README of a data set: what is in it, how it was labeled, and what to watch for."""
    facts = summary.as_dict()
    rows = ", ".join(f"{n} {split}" for split, n in facts["rows"].items())
    held = "\n".join(f"| {reason} | {n} |" for reason, n in facts["held_back"].items())
    origin = f" Made from {source}." if source else ""
    return f"""---
tags: [preference, dpo, reward-model, rlaif]
---
# Preference data set

{rows} rows of `prompt`, `chosen`, `rejected` in TRL's conversational format, labeled by a
model.{origin}

| | |
|---|---|
| judge | {", ".join(facts["judges"])} |
| rubric | {", ".join(facts["rubrics"])} |
| models of the responses | {", ".join(facts["models"])} |
| mean p_chosen | {facts["p_chosen_mean"]:.3f} |
| both orders agree | {facts["consistent_share"]:.1%} |
| words, chosen / rejected | {facts["words_chosen_mean"]:.1f} / {facts["words_rejected_mean"]:.1f} |
| chosen is the longer one | {facts["longer_chosen_share"]:.1%} |

Held back, with the reason, in `held_back.jsonl`:

| reason | comparisons |
|---|---|
{held or "| none | 0 |"}

Columns beside TRL's: `p_chosen` is the order-averaged probability that the judge prefers the chosen
response; `margin` = 2 p_chosen - 1; `consistent` says whether both orders gave the same winner;
`verdict_id` leads to the verdict. The split is by prompt. The labels are a model's opinion: they
are as good as the judge, and no better.
"""
