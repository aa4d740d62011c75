#!/usr/bin/env python
"""Constitutional AI from prompts to a trained model, on the embedded model. Seeded; it resumes.

    python scripts/constitution_end_to_end.py PROMPTS.jsonl -o folder          # an hour or two
    python scripts/constitution_end_to_end.py PROMPTS.jsonl -o folder --prompts 8 --plan

1. critique   first responses, criticized and revised; kept where --judge prefers the revision:
              without --judge, where it has no fault
2. export     rows to train on: revisions, and the pairs that were judged
3. sft        the model that imitates the revisions, where any was kept
4. generate   two responses to each prompt, by that model
5. compare    the label of each pair by a principle, soft, both orders, by --judge or the model
6. prefer     the labels as preference rows
7. dpo        the model trained on them
8. after      the trained model answers the prompts that training never saw
9. score      both answers, by two rubrics, by --judge or the model
10. table     before and after on those prompts: scores with 95 % intervals, words, refusals, stock
              phrases

A model of 135 million parameters writes no critique worth the name, and its labels are near chance.
What the run shows is that every step takes what the one before it made, and what the checks say of
such a model; that the model became harmless it cannot show, and scores that a model gives its own
answers show nothing either: --judge names another. Any other model goes with -m.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RUBRICS = ("harmlessness", "helpfulness")
HELD_OUT = 0.25
"""Share of the prompts that training never sees."""


def parted(source: Path, folder: Path, most: int) -> tuple[Path, Path]:
    """The prompts to train on and those held out, each in a file of its own."""
    from rlaif.preferences.export import split_of
    from rlaif.specs.items import read_prompts
    from rlaif.types import as_dict

    paths = (folder / "train.jsonl", folder / "held_out.jsonl")
    with paths[0].open("w") as train, paths[1].open("w") as held_out:
        for item in read_prompts(source, limit=most):
            file = held_out if split_of(item.prompt, HELD_OUT) == "test" else train
            row = {"id": item.id, "prompt": as_dict(item.prompt), "meta": dict(item.meta)}
            file.write(json.dumps(row) + "\n")
    return paths


def steps(options: argparse.Namespace, train: Path, held_out: Path) -> Iterator[Sequence[Any]]:
    """The commands, in order."""
    folder, model, c = options.output, options.model, options.constitution
    short = ("--max-tokens", options.max_tokens, "--temperature", 0.4, "--top-p", 0.9)
    asked = ("-m", model, "--max-failures", 1)
    chains, drawn, labels = folder / "critique", folder / "generate", folder / "compare"
    tuned = folder / "dpo"
    mix = ("--mix", options.mix) if options.mix else ()
    yield ("constitution", "critique", train, *asked, "-c", c, "-n", options.rounds,
           *(("--judge", options.judge) if options.judge else ("--check", "off")),
           "--examples", 1, *short, "-o", chains)  # fmt: skip
    yield ("constitution", "export", chains, *mix, "--max-length-ratio", 8, "-o", folder / "rows")
    policy = model
    if options.plan or (folder / "rows" / "sft" / "train.jsonl").is_file():
        policy = f"local/{folder / 'sft'}"
        yield "train", "sft", folder / "rows" / "sft", "-m", model, "-o", folder / "sft"
    yield "generate", train, "-m", policy, "--max-failures", 1, "-n", 2, *short, "-o", drawn
    # a small model spreads its probability: what lies on the letters is taken, and told
    yield ("constitution", "compare", drawn, "-m", options.judge or model, "-c", c,
           "--least-mass", 0.0, "--examples", 1, "--max-failures", 1, "-o", labels)  # fmt: skip
    yield ("prefer", labels, "--inconsistent", "--max-length-ratio", 8, "-o", folder / "pairs")
    yield "train", "dpo", folder / "pairs", "-m", policy, "-o", tuned
    yield "generate", held_out, *asked, "-n", 1, *short, "-o", folder / "before"
    yield ("generate", held_out, "-m", f"local/{tuned}", "--max-failures", 1, "-n", 1, *short,
           "-o", folder / "after")  # fmt: skip
    for name in ("before", "after"):
        for rubric in RUBRICS:
            yield ("judge", "score", folder / name, "-m", options.judge or model, "-r", rubric,
                   "--method", "expectation", "--least-mass", 0.0, "--max-failures", 1,
                   "-o", folder / f"{name}-{rubric}")  # fmt: skip


def table(folder: Path) -> list[dict[str, Any]]:
    """What the responses before and after are like; scores with 95 % intervals by prompt."""
    return [_measured(folder, name) for name in ("before", "after")]


def _measured(folder: Path, name: str) -> dict[str, Any]:
    from rlaif.constitutional.drift import BOILERPLATE, share
    from rlaif.constitutional.faults import is_refusal
    from rlaif.stats.means import mean_interval
    from rlaif.stats.text import words
    from rlaif.store.runs import read_candidates, read_verdicts

    texts = [one.text for _, found in read_candidates(folder / name) for one in found]
    scores = {}
    for rubric in RUBRICS:
        run = read_verdicts(folder / f"{name}-{rubric}")
        found = [verdict.score.value for verdict in run if verdict.score is not None]
        enough = len(found) > 1
        scores[rubric] = asdict(mean_interval(found)) if enough else {"n": len(found)}
    return {
        "model": name,
        "n": len(texts),
        "words": sum(len(words(t)) for t in texts) / max(len(texts), 1),
        "refusals": share([float(is_refusal(t)) for t in texts]),
        "stock_phrases": share([float(BOILERPLATE.search(t) is not None) for t in texts]),
        **scores,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="JSONL of prompts")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-m", "--model", default="local/smollm2-135m")
    parser.add_argument("--judge", help="by default the model itself, and none in step 1")
    parser.add_argument("-c", "--constitution", default="harmlessness")
    parser.add_argument("--mix", type=Path, help="helpfulness rows, one for each revision")
    parser.add_argument("-n", "--rounds", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--plan", action="store_true", help="print the commands and run none")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    train, held_out = parted(options.source, options.output, options.prompts)
    for step in steps(options, train, held_out):
        words = [str(word) for word in step]
        print("$ rlaif", *words, flush=True)
        if not options.plan:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            # a model too small to revise has no revision to train on: the labels remain
            needed = words[1] != "export"
            command = [sys.executable, "-m", "rlaif", *words]
            subprocess.run(command, env=environment, check=needed)
    if not options.plan:
        found = table(options.output)
        (options.output / "table.json").write_text(json.dumps(found, indent=2) + "\n")
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
