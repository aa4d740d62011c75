"""PPO here against the last PPO of TRL: reward at equal episodes, speed, memory, where time goes.

    python scripts/bench_ppo.py --trl-path /path/to/trl-1.12 # a tiny model
    python scripts/bench_ppo.py --trl-path … --model CHECKPOINT --seeds 1         # a real one

The folder of `--trl-path` is what `pip install --no-deps --target FOLDER trl==1.12.0` makes. Each
run is a process of its own, ours and TRL's in turn, with the same checkpoint, prompts, lengths,
episodes, optimizer steps, learning rate, seed and one reward: the share of a response's tokens that
are one of a few. TRL has a value model of its own; ours is run both ways.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SIDES = ("ours", "ours-separate", "trl")
WORDS = ("the cat", "a good day to you", "why is it so", "tell me more of it", "one two three")


def main() -> None:
    """Run what the command line says."""
    given = _arguments()
    if given.side:
        _one(given)
        return
    given.output.mkdir(parents=True, exist_ok=True)
    if given.model is None:
        given.model = _tiny(given.output / "tiny")
    found: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for side in given.sides:
            found.append(_run(given, side, seed))
            print(json.dumps({k: v for k, v in found[-1].items() if k != "curve"}), flush=True)
    table = {side: _summary([row for row in found if row["side"] == side]) for side in given.sides}
    (given.output / "bench.json").write_text(
        json.dumps({"settings": _settings(given), "sides": table, "runs": found}, indent=1)
    )
    _show(table)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--trl-path", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="a checkpoint; a tiny random one by default")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/bench_ppo"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--response-length", type=int, default=24)
    parser.add_argument("--prompt-repeat", type=int, default=4, help="words of prompts, repeated")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--lora-rank", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _settings(given: Any) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(given).items() if k != "side"}


def _run(given: Any, side: str, seed: int) -> dict[str, Any]:
    path = [str(REPOSITORY)] + ([str(given.trl_path)] if side == "trl" else [])
    told = {
        k: v for k, v in _settings(given).items() if k not in ("seeds", "seed", "output", "sides")
    }
    options = [part for k, v in told.items() for part in (f"--{k.replace('_', '-')}", str(v))]
    folder = given.output / f"{side}-{seed}"
    command = [sys.executable, __file__, *options, "--side", side, "--seed", str(seed)]
    done = subprocess.run(
        [*command, "-o", str(folder)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "HF_HUB_OFFLINE": "1",
            "TRL_EXPERIMENTAL_SILENCE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _one(given: Any) -> None:
    import torch

    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    made = _trl(given) if given.side == "trl" else _ours(given)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"side": given.side, "seed": given.seed, **made, "peak_rss_mb": round(peak)}))


def _policy(given: Any) -> tuple[Any, Any, list[int]]:
    """The policy, its tokenizer, and the tokens that are rewarded: an eighth of the vocabulary."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.additional_special_tokens[0]
    ordinary = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    return model, tokenizer, ordinary[::8]


def _prompts(given: Any) -> list[str]:
    return [" ".join([words] * (1 + i % given.prompt_repeat)) for i, words in enumerate(WORDS * 40)]


def _ours(given: Any) -> dict[str, Any]:
    import torch
    from transformers import AutoModel

    from rlaif.train.ppo import PPOConfig, PPOTrainer

    model, tokenizer, liked = _policy(given)
    good = set(liked)

    def reward(completion_ids: list[list[int]]) -> list[float]:
        return [sum(t in good for t in ids) / given.response_length for ids in completion_ids]

    curve: list[float] = []
    separate = given.side == "ours-separate"
    args = PPOConfig(
        given.output,
        total_episodes=given.updates * given.batch_size,
        batch_size=given.batch_size,
        mini_batches=2,
        micro_batch_size=given.batch_size // 2,
        rollout_batch_size=given.batch_size,
        epochs=4,
        learning_rate=given.learning_rate,
        response_length=given.response_length,
        stop_at_eos=False,
        kl_coefficient=0.05,
        max_grad_norm=1.0,
        seed=given.seed,
        save_updates=10**6,
        logged_samples=0,
    )
    trainer = PPOTrainer(
        model,
        reward,
        args,
        [{"prompt": text} for text in _prompts(given)],
        processing_class=tokenizer,
        value_model=AutoModel.from_pretrained(given.model, dtype=torch.float32)
        if separate
        else None,
        peft_config=_lora(given),
        callbacks=[lambda figures: curve.append(figures["reward"])],
    )
    clock = _Clock()
    summary = trainer.train(resume_from_checkpoint=False)
    return _measured(curve, clock, given) | {"seconds": summary["seconds"]}


def _trl(given: Any) -> dict[str, Any]:
    import copy
    import warnings

    import torch
    from datasets import Dataset
    from torch import nn
    from transformers import AutoModelForSequenceClassification, TrainerCallback

    warnings.simplefilter("ignore")
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    model, tokenizer, liked = _policy(given)
    liked_mask = torch.zeros(model.config.vocab_size)
    liked_mask[liked] = 1.0
    width = given.response_length

    class Counting(nn.Module):
        """A reward model that counts: the same reward as ours, at no cost."""

        base_model_prefix = "trunk"

        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Identity()
            self.trunk = self.read
            self.unused = nn.Parameter(torch.zeros(1))

        def read(self, input_ids: Any, **_: Any) -> Any:
            share = liked_mask[input_ids[:, -width:]].sum(1) / width
            hidden = share[:, None, None].expand(-1, input_ids.shape[1], 1)
            return type("Made", (), {"hidden_states": [hidden]})()

    value = AutoModelForSequenceClassification.from_pretrained(
        given.model, num_labels=1, dtype=torch.float32
    )
    nn.init.zeros_(value.score.weight)
    # with gradient accumulation it would take one step an epoch, whatever num_mini_batches says
    args = PPOConfig(
        output_dir=str(given.output),
        total_episodes=given.updates * given.batch_size,
        per_device_train_batch_size=given.batch_size,
        gradient_accumulation_steps=1,
        num_mini_batches=2,
        num_ppo_epochs=4,
        local_rollout_forward_batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        lr_scheduler_type="linear",
        adam_epsilon=1e-5,
        response_length=width,
        stop_token=None,
        temperature=1.0,
        kl_coef=0.05,
        cliprange=0.2,
        cliprange_value=0.2,
        vf_coef=0.1,
        gamma=1.0,
        lam=0.95,
        missing_eos_penalty=None,
        num_sample_generations=0,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        seed=given.seed,
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
    )
    rows = Dataset.from_dict({"input_ids": [tokenizer(t)["input_ids"] for t in _prompts(given)]})
    tokenizer.padding_side = "left"
    curve: list[float] = []

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            entry = state.log_history[-1] if state.log_history else (logs or {})
            if "objective/scores" in entry:
                curve.append(entry["objective/scores"])

    lora = _lora(given)
    trainer = PPOTrainer(
        args=args,
        processing_class=tokenizer,
        model=model,
        ref_model=None if lora else copy.deepcopy(model),
        reward_model=Counting(),
        value_model=value,
        train_dataset=rows,
        eval_dataset=rows.select(range(8)),
        peft_config=lora,
        callbacks=[Watch()],
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    clock = _Clock()
    stdout, sys.stdout = sys.stdout, sys.stderr  # it prints as it goes
    try:
        trainer.train()
    finally:
        sys.stdout = stdout
    return _measured(curve, clock, given)


def _lora(given: Any) -> Any:
    if not given.lora_rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=given.lora_rank,
        lora_alpha=2 * given.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


class _Clock:
    """Wall and processor time since it was made; the second counts on a machine that is shared."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def _measured(curve: list[float], clock: _Clock, given: Any) -> dict[str, Any]:
    spent, cpu = clock.read()
    episodes = given.updates * given.batch_size
    return {
        "first": round(curve[0], 4),
        "reached": round(statistics.fmean(curve[-3:]), 4),
        "episodes_per_s": round(episodes / spent, 3),
        "tokens_per_s": round(episodes * given.response_length / spent, 1),
        "wall_s": round(spent, 1),
        "episodes_per_cpu_s": round(episodes / cpu, 3),
        "curve": [round(x, 4) for x in curve],
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, with half the width of a 95 % interval (Student's t)."""
    from scipy.stats import t

    made: dict[str, Any] = {"n": len(rows)}
    for name in (
        "first",
        "reached",
        "episodes_per_s",
        "episodes_per_cpu_s",
        "tokens_per_s",
        "peak_rss_mb",
        "wall_s",
    ):
        values = [row[name] for row in rows]
        made[name] = round(statistics.fmean(values), 4)
        if len(values) > 1:
            half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
            made[f"{name}_half"] = round(float(half), 4)
    if seconds := [row["seconds"] for row in rows if "seconds" in row]:
        made["seconds"] = {k: round(statistics.fmean(s[k] for s in seconds), 2) for k in seconds[0]}
    return made


def _show(table: dict[str, Any]) -> None:
    print(
        f"{'side':<15}{'reached':>16}{'episodes/s':>16}{'episodes/CPU s':>18}{'peak MiB':>10}"
        "  time in s"
    )
    for side, row in table.items():
        reached = f"{row['reached']:.3f} ± {row.get('reached_half', 0):.3f}"
        speed = f"{row['episodes_per_s']:.2f} ± {row.get('episodes_per_s_half', 0):.2f}"
        split = ", ".join(f"{k} {v}" for k, v in row.get("seconds", {}).items())
        cpu = f"{row['episodes_per_cpu_s']:.2f} ± {row.get('episodes_per_cpu_s_half', 0):.2f}"
        print(f"{side:<15}{reached:>16}{speed:>16}{cpu:>18}{row['peak_rss_mb']:>10.0f}  {split}")


def _tiny(folder: Path) -> Path:
    sys.path.insert(0, str(REPOSITORY))
    from tests.tiny import build_tiny

    return build_tiny(folder, sharpness=0.1)


if __name__ == "__main__":
    main()
