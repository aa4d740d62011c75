"""Every trainer but PPO on the embedded model, by the commands a user types. Seeded; it resumes.

    python scripts/train_hh.py hh_helpful_base.jsonl.gz -o runs/rm
    python scripts/train_embedded.py hh_helpful_base.jsonl.gz --reward-model runs/rm -o runs/all

SFT, DPO and KTO learn from human preferences (hh-rlhf), GRPO and RLOO from the reward model that
scripts/train_hh.py made; PPO has a script of its own, scripts/ppo_hh.py. The prompts that are
measured on were seen by none of them, and those of GRPO and RLOO not by the reward model. Prints a
table: what each minimizes or maximizes, on held-out rows before and after, or for GRPO and RLOO in
the first and the last quarter of their steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ppo_hh import prompts, unseen

from rlaif.cli.output import table
from rlaif.store.runs import read_rows

ROOT = Path(__file__).resolve().parents[1]
PAIRED = ("sft", "dpo", "kto")
ONLINE = ("grpo", "rloo")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--reward-model", type=Path, required=True, help="a run of train_hh.py")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/embedded"))
    parser.add_argument("-m", "--model", default="smollm2-135m")
    parser.add_argument("--skip", type=int, default=400, help="pairs the reward model learned from")
    parser.add_argument("--rows", type=int, default=96, help="pairs to train on")
    parser.add_argument("--held-out", type=int, default=48, help="pairs to measure on")
    parser.add_argument("--max-length", type=int, default=192, help="tokens; longer pairs are left")
    parser.add_argument("--steps", type=int, default=16, help="of GRPO and RLOO")
    parser.add_argument("--response-length", type=int, default=32, help="tokens, GRPO and RLOO")
    parser.add_argument("--methods", nargs="+", default=[*PAIRED, *ONLINE], metavar="NAME")
    return parser.parse_args()


def prepared(given: argparse.Namespace) -> tuple[Path, Path]:
    """The folder of pairs, and the file of prompts."""
    import datasets
    from transformers import AutoTokenizer

    from rlaif.backends.local import resolve_checkpoint
    from rlaif.cli.options import home
    from rlaif.train.fitting import tokens

    pairs, asked = given.output / "pairs", given.output / "prompts.jsonl"
    if asked.exists():
        return pairs, asked
    kept, measured = unseen(given.data, given.skip)
    tokenizer = AutoTokenizer.from_pretrained(
        resolve_checkpoint(given.model, home()), local_files_only=True
    )

    def fits(row: dict[str, Any]) -> bool:
        sides = (row["chosen"], row["rejected"])
        return all(tokens(tokenizer, row["prompt"], side) <= given.max_length for side in sides)

    def first(rows: Any, most: int) -> Any:
        found = [i for i, row in zip(range(8 * most), rows, strict=False) if fits(row)]
        return rows.select(found[:most])

    split = {"train": first(kept, given.rows), "test": first(measured, given.held_out)}
    datasets.DatasetDict(split).save_to_disk(pairs)
    rows = prompts(kept, tokenizer, 48, 8 * given.steps)
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pairs, asked


def command(given: argparse.Namespace, method: str, pairs: Path, asked: Path) -> list[str]:
    """What trains one model."""
    shared = ["train", method, "-m", given.model, "-o", str(given.output / method)]
    if method in PAIRED:
        config = given.output / "start.yaml"
        config.write_text("trl:\n  eval_on_start: true\n")
        return [*shared, str(pairs), "--config", str(config), "--batch-size", "8",
                "--max-length", str(given.max_length), "--eval-steps", "1000"]  # fmt: skip
    return [*shared, str(asked), "--reward", f"reward/{given.reward_model}", "-n", "8",
            "--batch-size", "32", "--max-completion-length", str(given.response_length),
            "--max-length", "128", "--max-steps", str(given.steps)]  # fmt: skip


def measured(folder: Path, method: str) -> list[Any]:
    """A row of the table."""
    summary = json.loads((folder / "summary.json").read_text())
    rows = [row for _, row in read_rows(folder / "training.jsonl")]
    if method in PAIRED:
        name = "held-out loss"
        found = [row["eval_loss"] for row in rows if "eval_loss" in row]
        before, after = found[0], found[-1]
    else:
        name = "reward"
        found = [row["reward"] for row in rows if "reward" in row]
        quarter = max(len(found) // 4, 1)
        before, after = sum(found[:quarter]) / quarter, sum(found[-quarter:]) / quarter
    kl = next((summary[k] for k in ("kl_last", "kl_k3_last") if k in summary), None)
    held_out = summary.get("held_out", {})
    right = "low" in held_out and "{accuracy:.1%} [{low:.1%}, {high:.1%}]".format(**held_out)
    minutes = summary["wall_s"] / 60
    return [method, summary["steps"], name, before, after, right or None, kl, f"{minutes:.1f}"]


def main() -> None:
    given = arguments()
    given.output.mkdir(parents=True, exist_ok=True)
    pairs, asked = prepared(given)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    rows = []
    for method in given.methods:
        words = command(given, method, pairs, asked)
        print("$ rlaif", *words, flush=True)
        subprocess.run([sys.executable, "-m", "rlaif", *words], env=environment, check=True)
        rows.append(measured(given.output / method, method))
    columns = ("", "steps", "what", "before", "after", "pairs right after", "KL", "minutes")
    table("embedded model", columns, rows)
    text = json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2)
    (given.output / "table.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
