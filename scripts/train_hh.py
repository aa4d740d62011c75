"""A reward model on human preferences (hh-rlhf), with its held-out accuracy and the interval.

    python scripts/train_hh.py hh_helpful_base.jsonl.gz --train 400 --held-out 200 -o runs/rm

Rows are dialogues, `chosen` and `rejected`, that differ in their last turn. The base is the
embedded model; any checkpoint folder will do. No prompt is in both parts. Accuracy before training
is that of a new, random head.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


def dialogue(text: str) -> list[dict[str, str]]:
    """The turns of a dialogue that are not empty."""
    parts = TURN.split(text)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    turns = [{"role": ROLES[who], "content": said.strip()} for who, said in pairs]
    return [turn for turn in turns if turn["content"]]


def pairs(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of prompt, chosen and rejected."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            chosen, rejected = dialogue(row["chosen"]), dialogue(row["rejected"])
            fits = chosen[:-1] == rejected[:-1] and len(chosen) > 1
            if fits and chosen[-1]["role"] == rejected[-1]["role"] == "assistant":
                yield {"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}


def parts(path: Path, train: int, held_out: int) -> tuple[Any, Any]:
    """The rows to learn from and those to measure on."""
    import datasets

    from rlaif.train.data import held_out_split

    rows = datasets.Dataset.from_list(list(pairs(path)))
    kept, measured = held_out_split(rows.shuffle(seed=0), 0.25)
    return (
        kept.select(range(min(train, len(kept)))),
        measured.select(range(min(held_out, len(measured)))),
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/rm"))
    parser.add_argument("-m", "--model", default="smollm2-135m")
    parser.add_argument("--train", type=int, default=400, help="pairs to learn from")
    parser.add_argument("--held-out", type=int, default=200, help="pairs to measure on")
    parser.add_argument("--max-length", type=int, default=192, help="tokens; longer pairs are left")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--epochs", type=float, default=1.0)
    return parser.parse_args()


def main() -> None:
    from rlaif.backends.local import resolve_checkpoint
    from rlaif.cli.options import home
    from rlaif.train.reward import RewardSettings, train_reward

    given = arguments()
    rows, held_out = parts(given.data, given.train, given.held_out)
    settings = RewardSettings(
        learning_rate=given.learning_rate,
        epochs=given.epochs,
        batch_size=given.batch_size,
        max_length=given.max_length,
        save_steps=20,
    )
    started = time.monotonic()

    def told(done: int, total: int, note: str) -> None:
        if done % 10 == 0:
            print(f"{done}/{total} {time.monotonic() - started:.0f} s {note}", file=sys.stderr)

    summary = train_reward(
        resolve_checkpoint(given.model, home()),
        rows,
        given.output,
        settings,
        home=home(),
        held_out=held_out,
        facts={"data set": given.data.name},
        progress=told,
    )
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
