"""A whole PPO run in a folder of its own: from a checkpoint and prompts to a tuned checkpoint.

    summary = train_ppo(Path("smollm2"), rows, [reward], PPOConfig("runs/ppo"), lora_rank=16)

The folder holds config.json, training.jsonl, samples.jsonl, summary.json, `model/` in the end, and
`checkpoints/` until then. The same call again goes on from the last checkpoint, or does nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.backends.local import check_checkpoint, quiet_transformers, weights_digest
from rlaif.canonical import digest
from rlaif.errors import ConfigError
from rlaif.store.runs import RunFolder, read_json
from rlaif.train.ppo.config import PPOConfig
from rlaif.train.ppo.rewards import RewardFunction, RewardMix
from rlaif.train.ppo.served import ServedPolicy
from rlaif.train.ppo.trainer import Callback, PPOTrainer, settings_of
from rlaif.train.ppo.workers import Workers

if TYPE_CHECKING:
    from rlaif.train.online_alarms import OnlineAlarms

Progress = Callable[[int, int, str], None]
"""Told the updates done, the updates in all, and a note."""


def train_ppo(
    model: Path,
    rows: Any,
    reward_funcs: Sequence[RewardFunction | Path | str],
    args: PPOConfig,
    *,
    reward_weights: Sequence[float] | None = None,
    eval_rows: Any = None,
    lora_rank: int = 16,
    dtype: str = "float32",
    value_model: bool = False,
    served_policy: ServedPolicy | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress = lambda done, total, note: None,
    callbacks: Sequence[Callback] = (),
    alarms: OnlineAlarms | None = None,
) -> dict[str, Any]:
    """Train `model` for rewards; the tuned checkpoint lies in `output_dir/model`.

    Args:
        model: A checkpoint folder.
        rows: Rows with `prompt`, text or messages; other columns go to the reward functions.
        reward_funcs: Functions in TRL's signature, and folders of sequence classifiers.
        args: How to train; `output_dir` is the run folder.
        reward_weights: One a function.
        eval_rows: Held-out rows, scored and never learned from.
        lora_rank: Of the adapters that are trained; 0 trains every weight.
        dtype: `float32` or `bfloat16`, of weights that stay; weights that move are float32.
        value_model: Whether the value function has a trunk of its own, a copy of the model.
        served_policy: A server that draws the responses.
        facts: What the model card says beside the settings: judge, rubric, data.
        progress: Told of every update.
        callbacks: Told the figures of every update; True ends the training.
        alarms: They watch every update, and may end the training; the summary says what they say,
            under `alarms`.

    Returns:
        The summary, see `PPOTrainer.train`; where training was stopped there is no model yet.

    Raises:
        ConfigError: `model` is no checkpoint, or the folder holds another run.
        DataError, SpecError, StoreError: as the trainer.
    """
    check_checkpoint(model)
    if served_policy is not None and not lora_rank:
        raise ConfigError("a server follows a policy by its adapters: lora_rank must be above 0")
    workers = Workers(use_cpu=args.use_cpu)
    names = RewardMix(reward_funcs, reward_weights).described()
    config: dict[str, Any] = {
        "command": "train ppo",
        "model_sha256": weights_digest(model),
        "rows_sha256": digest([_plain_row(row) for row in rows]),
        "eval_rows_sha256": digest([_plain_row(row) for row in eval_rows]) if eval_rows else None,
        "rewards": names,
        "lora_rank": lora_rank,
        "dtype": dtype if lora_rank else "float32",
        "value_model": value_model,
        "settings": settings_of(args),
    }
    run = workers.from_main(lambda: _Held(RunFolder(args.output_dir, config)))
    if (args.output_dir / "model" / "config.json").exists():
        done: dict[str, Any] = read_json(args.output_dir / "summary.json")
        return done
    network, tokenizer, trunk = _networks(model, config["dtype"], value_model=value_model)

    def told(figures: dict[str, Any]) -> None:
        reward, kl = figures["reward"], figures["kl"]
        note = "no reward" if reward is None else f"reward {reward:.3f}"
        progress(figures["step"], args.updates, note + (f", KL {kl:.2f}" if kl is not None else ""))

    trainer = PPOTrainer(
        network,
        list(reward_funcs),
        args,
        rows,
        processing_class=tokenizer,
        eval_dataset=eval_rows,
        value_model=trunk,
        peft_config=_lora(lora_rank),
        reward_weights=reward_weights,
        callbacks=[told, *callbacks],
        served_policy=served_policy,
    )
    if alarms is not None:
        trainer.callbacks.append(_watch(alarms, trainer))
    started = time.monotonic()
    summary = trainer.train()
    summary |= {"dtype": config["dtype"], "wall_s": round(time.monotonic() - started, 1)}
    if alarms is not None:
        if workers.is_main and not trainer.samples:  # an earlier process made the last update
            alarms.recall(args.output_dir)
        summary["alarms"] = alarms.as_dict()
    if workers.is_main:
        run.folder.write_json("summary.json", summary)
        if not summary["stopped"]:
            card = _card(model, names, facts or {}, config["settings"], summary)
            trainer.save_model(args.output_dir / "model", card)
            shutil.rmtree(args.output_dir / "checkpoints", ignore_errors=True)
    return summary


class _Held:
    """A run folder that only this process holds: others get an empty hand."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return (object, ())


def _watch(alarms: OnlineAlarms, trainer: PPOTrainer) -> Callback:
    """Shows the alarms what an update sampled, and its figures."""
    told = False

    def watch(figures: dict[str, Any]) -> bool:
        nonlocal told
        if not told:  # by now the log ends with this update, whatever an earlier process left
            alarms.recall(trainer.args.output_dir)
            told = True
        names = ("prompt", "completion", "reward")
        alarms.see(*([row[name] for row in trainer.samples] for name in names))
        return alarms(figures)

    return watch


def _plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _networks(model: Path, dtype: str, *, value_model: bool) -> tuple[Any, Any, Any]:
    """The policy, its tokenizer, and the trunk of the value function, if it has its own."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    quiet_transformers()
    network = AutoModelForCausalLM.from_pretrained(
        model, dtype=getattr(torch, dtype), local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    if not value_model:
        return network, tokenizer, None
    trunk = AutoModel.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    return network, tokenizer, trunk


def _lora(rank: int) -> Any:
    if not rank:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ConfigError("adapters need peft: pip install 'rlaif[train]'") from error
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _card(
    model: Path,
    rewards: Sequence[Sequence[Any]],
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> dict[str, Any]:
    told = {"base model": model.name, "rewards": ", ".join(f"{n} x {w:g}" for n, w in rewards)}
    last = summary["last"]
    came = {name: last.get(name) for name in ("reward", "coverage", "kl", "length")}
    held = {f"held-out {when}": summary.get(f"eval_{when}") for when in ("first", "last")}
    return {
        **told,
        **facts,
        **settings,
        "episodes": summary["episodes"],
        **{f"last {name}": value for name, value in came.items() if value is not None},
        **{name: value for name, value in held.items() if value is not None},
    }
