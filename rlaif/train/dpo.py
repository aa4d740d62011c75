"""Direct preference optimization on TRL's `DPOTrainer`, LoRA by default, on a CPU or a GPU.

    summary = train_dpo(Path("smollm2"), load_preferences(Path("dataset")), Path("runs/dpo"))

Rafailov et al. 2023, "Direct Preference Optimization" (arXiv 2305.18290), eq. (7). Training that
was stopped goes on from its last checkpoint and ends with the same weights; training that is done
is not done again. Nothing touches the network.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlaif.backends.embedded import chosen_dtype
from rlaif.backends.local import check_checkpoint, quiet_transformers, weights_digest
from rlaif.canonical import json_line
from rlaif.errors import DataError
from rlaif.store.runs import RunFolder, read_json
from rlaif.train.data import require_train_extra, rows_digest

Progress = Callable[[int, int, str], None]
"""Told the steps done, the steps in all, and a note."""


@dataclass(frozen=True, slots=True)
class DPOSettings:
    """How to train. Defaults are for LoRA on a small model; a larger one wants a lower rate."""

    beta: float = 0.1
    """Strength of the pull to the reference model."""
    learning_rate: float = 2e-4
    epochs: float = 1.0
    batch_size: int = 8
    """Pairs a step."""
    micro_batch_size: int = 4
    """Pairs in memory at once; divides the batch size."""
    max_length: int = 1024
    """Tokens of prompt and response together; what is longer is cut at the end."""
    lora_rank: int = 16
    """0 trains every weight."""
    warmup_steps: int = 3
    seed: int = 0
    save_steps: int = 5
    """A checkpoint every so many steps."""


def train_dpo(
    model: Path,
    rows: Any,
    output: Path,
    settings: DPOSettings | None = None,
    *,
    home: Path,
    facts: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total, note: None,
) -> dict[str, Any]:
    """Train `model` on preference rows; the tuned checkpoint lies in `output/model`.

    Args:
        model: A checkpoint folder.
        rows: A `datasets.Dataset` of `prompt`, `chosen`, `rejected`, as `load_preferences` gives.
        output: The run folder: config.json, training.jsonl (the curves), summary.json, model/.
        settings: How to train.
        home: Where the choice of dtype is kept.
        facts: What the model card says beside the settings: data, judge, rubric.
        progress: Told of every step.

    Returns:
        The summary: rows given and trained on, steps, first and last loss, seconds.

    Raises:
        ConfigError: a package is missing, `model` is no checkpoint, or `output` holds another run.
        DataError: every row is longer than `max_length`.
    """
    require_train_extra()
    check_checkpoint(model)
    settings = settings or DPOSettings()
    dtype = _dtype(settings, home)
    run = RunFolder(
        output,
        {
            "command": "train dpo",
            "model_sha256": weights_digest(model),
            "rows_sha256": rows_digest(rows),
            "dtype": dtype,
            "settings": asdict(settings),
        },
    )
    if (run.path / "model" / "config.json").exists():
        done: dict[str, Any] = read_json(run.path / "summary.json")
        return done
    started = time.monotonic()
    with _fast_products(dtype):  # the reference is read while the trainer is built
        trainer = _build_trainer(model, rows, run.path, settings, dtype, progress)
    trained_on = len(trainer.train_dataset)
    with _fast_products(dtype):
        trainer.train(resume_from_checkpoint=last_checkpoint(run.path / "checkpoints"))
    curves = [entry for entry in trainer.state.log_history if "loss" in entry]
    with run.open_whole("training.jsonl") as file:
        for entry in curves:
            file.write(json_line(_plain(entry)))
    summary = {
        "rows": len(rows),
        "rows_trained": trained_on,
        "rows_too_long": len(rows) - trained_on,
        "steps": trainer.state.global_step,
        "loss_first": _plain(curves[0])["loss"],
        "loss_last": _plain(curves[-1])["loss"],
        "dtype": dtype,
        "wall_s": round(time.monotonic() - started, 1),
    }
    run.write_json("summary.json", summary)
    _save(trainer, run.path, model_card(model, settings, summary, facts or {}))
    return summary


@contextmanager
def _fast_products(dtype: str) -> Iterator[None]:
    """Let float32 products round to bfloat16 inside, where the weights are bfloat16 anyway.

    TRL multiplies the output head in float32 whatever the weights are; on a processor with
    bfloat16 instructions that took two thirds of a step. Known warnings about names that
    transformers will retire are TRL's to mend, and are kept off the terminal by their text.
    """
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if dtype == "bfloat16" else before)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*gradient_checkpointing` is deprecated")
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _dtype(settings: DPOSettings, home: Path) -> str:
    """Of the frozen weights under LoRA whichever is faster here; of weights that move float32."""
    return chosen_dtype(home) if settings.lora_rank else "float32"


def _build_trainer(
    model: Path, rows: Any, output: Path, settings: DPOSettings, dtype: str, progress: Progress
) -> Any:
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import DPOConfig, DPOTrainer

    quiet_transformers()
    network = AutoModelForCausalLM.from_pretrained(
        model, dtype=getattr(torch, dtype), local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    fitting = _fitting(rows, tokenizer, settings.max_length)
    lora = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    config = DPOConfig(
        output_dir=str(output / "checkpoints"),
        beta=settings.beta,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup_steps,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
        max_length=settings.max_length,
        seed=settings.seed,
        data_seed=settings.seed,
        # the reference is frozen: read once, before training, instead of in every step
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=2 * settings.micro_batch_size,
        bf16=torch.cuda.is_available() and not settings.lora_rank,
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
    )
    trainer = DPOTrainer(
        model=network,
        args=config,
        train_dataset=fitting,
        processing_class=tokenizer,
        peft_config=lora if settings.lora_rank else None,
        callbacks=[_progress_callback(progress)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _fitting(rows: Any, tokenizer: Any, most: int) -> Any:
    """The rows whose prompt leaves room for a response; TRL would drop the others unsaid."""

    def fits(row: Mapping[str, Any]) -> bool:
        text = tokenizer.apply_chat_template(
            row["prompt"], tokenize=False, add_generation_prompt=True
        )
        return len(tokenizer(text, add_special_tokens=False)["input_ids"]) < most

    kept = rows.select([place for place, row in enumerate(rows) if fits(row)])
    if not len(kept):
        raise DataError(f"all {len(rows)} rows are longer than {most} tokens")
    return kept


def _progress_callback(progress: Progress) -> Any:
    from transformers import TrainerCallback

    class Told(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if "loss" in logs:
                note = f"loss {float(logs['loss']):.3f}"
                progress(state.global_step, state.max_steps, note)

    return Told()


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint in `folder` that was written to its end, or `None`.

    A process that was killed while it wrote one leaves a folder that cannot be loaded; the one
    before it is used then.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for checkpoint in reversed(found):
        # trainer_state.json is the last file that the trainer writes
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
        else:
            return str(checkpoint)
    return None


def _save(trainer: Any, output: Path, card: str) -> None:
    """The tuned model with the adapter merged, put in place whole; checkpoints go."""
    scratch = output / ".model.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    network = trainer.model
    merged = network.merge_and_unload() if hasattr(network, "merge_and_unload") else network
    merged.__dict__.pop("forward", None)  # TRL's fused head, patched onto the instance
    merged.save_pretrained(scratch)
    trainer.processing_class.save_pretrained(scratch)
    (scratch / "README.md").write_text(card, encoding="utf-8")
    scratch.replace(output / "model")
    shutil.rmtree(output / "checkpoints", ignore_errors=True)


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A log entry with numbers as numbers; TRL writes some as text."""
    return {key: float(value) for key, value in entry.items()}


def model_card(
    model: Path, settings: DPOSettings, summary: Mapping[str, Any], facts: Mapping[str, str]
) -> str:
    """The README of a tuned model: base, data, judge and settings."""
    told = {"base model": model.name, **facts, **asdict(settings), **summary}
    lines = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in told.items())
    return f"""---
tags: [dpo, trl, rlaif]
---
# A model tuned by DPO

| | |
|---|---|
{lines}

Tuned on preferences that a model judged. Check it on prompts and with a judge that took no part
in the training before you rely on it.
"""
