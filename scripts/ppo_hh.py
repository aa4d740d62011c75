"""PPO of the embedded model against a reward model trained on human preferences (hh-rlhf).

    python scripts/train_hh.py hh_helpful_base.jsonl.gz -o runs/rm
    python scripts/ppo_hh.py hh_helpful_base.jsonl.gz --reward-model runs/rm -o runs/ppo_hh

Printed is what the reward of held-out prompts was before and after, what it rose by (paired by
prompt, 95 % interval), and the KL to the start. No prompt that is measured on was trained on, by
the policy or by the reward model: the parts are split as scripts/train_hh.py splits them, and the
policy's prompts follow those that the reward model learned from. The same command again goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from train_hh import parts


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--reward-model", type=Path, required=True, help="a run of train_hh.py")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ppo_hh"))
    parser.add_argument("-m", "--model", default="smollm2-135m")
    parser.add_argument("--skip", type=int, default=400, help="pairs the reward model learned from")
    parser.add_argument("--prompts", type=int, default=512, help="prompts to train on")
    parser.add_argument("--held-out", type=int, default=128, help="prompts to measure on")
    parser.add_argument("--prompt-length", type=int, default=48, help="tokens; longer are left")
    parser.add_argument("--response-length", type=int, default=32)
    parser.add_argument("--episodes", type=int, default=1280)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--mini-batches", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--kl-coefficient", type=float, default=0.01)
    parser.add_argument("--lora-rank", type=int, default=16, help="0 trains every weight")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def unseen(data: Path, skip: int) -> tuple[Any, Any]:
    """The pairs behind those that the reward model learned from, and those to measure on."""
    kept, measured = parts(data, 10**9, 10**9)
    return kept.select(range(min(skip, len(kept)), len(kept))), measured


def prompts(rows: Any, tokenizer: Any, longest: int, most: int) -> list[dict[str, Any]]:
    """The first prompts of no more than so many tokens, each once."""
    from rlaif.train.fitting import tokens

    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        prompt = row["prompt"]
        if tokens(tokenizer, prompt) <= longest:
            found.setdefault(json.dumps(prompt), {"prompt": prompt})
        if len(found) == most:
            break
    return list(found.values())


def main() -> None:
    from transformers import AutoTokenizer

    from rlaif.backends.local import checkpoint_folder, resolve_checkpoint
    from rlaif.cli.options import home
    from rlaif.train.online_alarms import OnlineAlarms
    from rlaif.train.ppo import PPOConfig
    from rlaif.train.ppo.run import train_ppo

    given = arguments()
    base = resolve_checkpoint(given.model, home())
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    kept, measured = unseen(given.data, given.skip)
    rows = prompts(kept, tokenizer, given.prompt_length, given.prompts)
    held_out = prompts(measured, tokenizer, given.prompt_length, given.held_out)
    started = time.monotonic()

    def told(done: int, total: int, note: str) -> None:
        print(f"{done}/{total} {time.monotonic() - started:.0f} s {note}", file=sys.stderr)

    summary = train_ppo(
        base,
        rows,
        [checkpoint_folder(given.reward_model)],
        PPOConfig(
            given.output,
            total_episodes=given.episodes,
            batch_size=given.batch_size,
            micro_batch_size=8,
            mini_batches=given.mini_batches,
            epochs=given.epochs,
            learning_rate=given.learning_rate,
            max_prompt_length=given.prompt_length,
            response_length=given.response_length,
            kl_coefficient=given.kl_coefficient,
            seed=given.seed,
            save_updates=4,
        ),
        eval_rows=held_out,
        lora_rank=given.lora_rank,
        facts={"data set": given.data.name, "reward model": str(given.reward_model)},
        progress=told,
        alarms=OnlineAlarms(stop=False, tell=lambda line: print(line, file=sys.stderr)),
    )
    figures = ("eval_first", "eval_last", "eval_gain", "episodes", "seconds", "wall_s", "alarms")
    print(json.dumps({"prompts": len(rows), **{k: summary[k] for k in figures}}, indent=2))


if __name__ == "__main__":
    main()
