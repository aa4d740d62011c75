"""Training rows from chains: prompts with revisions, mixed with helpfulness rows at a ratio.

Supervised rows are in TRL's conversational prompt-completion format with where they came from.
Preference rows come from the verdicts of the checks, so chosen is what the judge preferred, not
whatever was written last; `rlaif.preferences` makes them. Both split by the digest of the prompt:
a prompt stands on one side, in either data set.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from rlaif.canonical import digest, json_line
from rlaif.constitutional.records import Chain
from rlaif.errors import DataError
from rlaif.preferences.export import SPLITS, claim_folder, require_datasets, split_of, write_arrow
from rlaif.preferences.pairs import HeldBack
from rlaif.store.runs import whole_file
from rlaif.types import Candidate, Item, Message, Messages, PreferencePair, as_dict

T = TypeVar("T", "SftRow", PreferencePair)
Rounds = Literal["last", "all"]
"""The response that stands at the end, or the revision of every round that passed, as the paper
trains on."""

_COLUMNS = ("chain_id", "round", "principle", "actor", "constitution", "origin")


@dataclass(frozen=True, slots=True)
class SftRow:
    """A prompt and what to answer to it."""

    prompt: Messages
    completion: Messages
    chain_id: str | None
    """`None` for a row that was mixed in."""
    round: int | None
    principle: str | None
    actor: str | None
    constitution: str | None
    origin: Literal["revision", "helpfulness"]

    def as_dict(self) -> dict[str, Any]:
        """The row as it is exported; every column is always there."""
        row: dict[str, Any] = as_dict(self, keep_none=True)
        return row


def sft_rows(chains: Iterable[Chain], rounds: Rounds = "all") -> Iterator[SftRow]:
    """The rows that chains give: revisions that passed, never a first response."""
    for chain in chains:
        if chain.cause in ("provider_error", "budget"):
            continue
        constitution = chain.recipe.constitution
        passed = [
            one
            for one in chain.rounds
            if one.revision is not None
            and one.status in ("kept", "unchecked")
            and one.revision != chain.first
        ]
        for one in passed[-1:] if rounds == "last" else passed:
            assert one.revision is not None
            yield SftRow(
                chain.item.prompt,
                (Message("assistant", one.revision),),
                chain.id,
                one.number,
                one.principle,
                chain.recipe.actor,
                f"{constitution.name}@{constitution.version}",
                "revision",
            )


def helpfulness_row(item: Item, candidate: Candidate) -> SftRow:
    """A row that is mixed in."""
    return SftRow(
        item.prompt, candidate.response, None, None, None, candidate.model, None, "helpfulness"
    )


def mixed(
    rows: Iterable[SftRow], others: Iterable[SftRow], ratio: float, seed: int = 0
) -> Iterator[SftRow]:
    """`rows`, and `ratio` of `others` for each of them, drawn by `seed`; in the order of a shuffle.

    Both are held in memory.

    Raises:
        DataError: there are not enough others, or `ratio` is negative.
    """
    own = list(rows)
    taken = _drawn(list(others), ratio, len(own), seed)
    both = [*own, *taken]
    order = sorted((digest(["shuffle", seed, r.as_dict()]), i) for i, r in enumerate(both))
    for _, place in order:
        yield both[place]


def write_sft(rows: Iterable[SftRow], folder: Path, *, test_share: float = 0.1) -> dict[str, Any]:
    """Write rows as a data set that `datasets.load_from_disk(folder)` opens; what it holds.

    Equal rows are written once.

    Args:
        rows: Read once, one at a time.
        folder: Gets train/, test/, dataset_dict.json, train.jsonl, test.jsonl and summary.json.
        test_share: Share of prompts in the test split, 0..1.

    Raises:
        ConfigError: `datasets` is not installed, or the folder holds something else.
        DataError: there are no rows.
        StoreError: the folder cannot be written.
    """
    require_datasets()
    claim_folder(folder, "train.jsonl")
    counts: Counter[str] = Counter()
    origins: Counter[str] = Counter()
    seen: set[str] = set()
    with ExitStack() as stack:
        files = {s: stack.enter_context(whole_file(folder / f"{s}.jsonl")) for s in SPLITS}
        for row in rows:
            mark = digest([as_dict(row.prompt), as_dict(row.completion)])[:16]
            if mark in seen:
                counts["duplicates"] += 1
                continue
            seen.add(mark)
            split = split_of(row.prompt, test_share)
            counts[split] += 1
            origins[row.origin] += 1
            files[split].write(json_line(row.as_dict()))
    made = [split for split in SPLITS if counts[split]]
    if not made:
        raise DataError("there is no revision to train on")
    import datasets

    kinds = {name: datasets.Value("string") for name in _COLUMNS}
    kinds["round"] = datasets.Value("int64")
    write_arrow(folder, made, ("prompt", "completion"), kinds)
    summary = {
        "rows": {split: counts[split] for split in SPLITS},
        "duplicates": counts["duplicates"],
        "origins": dict(sorted(origins.items())),
    }
    with whole_file(folder / "summary.json") as file:
        file.write(json.dumps(summary, indent=2) + "\n")
    return summary


def drawn_pairs(
    rows: Sequence[PreferencePair | HeldBack],
    others: Sequence[PreferencePair | HeldBack],
    ratio: float,
    seed: int = 0,
) -> list[PreferencePair | HeldBack]:
    """`ratio` pairs of `others` for each pair of `rows`, drawn by `seed`, and what was held back.

    Raises:
        DataError: there are not enough.
    """
    own = sum(isinstance(row, PreferencePair) for row in rows)
    pairs = [row for row in others if isinstance(row, PreferencePair)]
    taken = _drawn(pairs, ratio, own, seed)
    return [*(row for row in others if isinstance(row, HeldBack)), *taken]


def _drawn(others: Sequence[T], ratio: float, own: int, seed: int) -> list[T]:
    wanted = round(ratio * own)
    if ratio < 0 or wanted > len(others):
        raise DataError(
            f"a ratio of {ratio:g} to {own} rows takes {wanted} others, and there are {len(others)}"
        )
    keyed = sorted((digest(["mix", seed, row.as_dict()]), n) for n, row in enumerate(others))
    return [others[n] for _, n in keyed[:wanted]]
