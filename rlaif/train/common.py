"""What every trainer of TRL is run with: a run folder, checkpoints, curves, a model card.

    class SFT(Method[SFTSettings]): …                 # what one kind of training adds
    summary = carry_out(SFT(settings), Job(model, rows, output, home=home))

A run that was stopped goes on from its last checkpoint and ends with the same weights; one that is
done is not done again. The first Ctrl-C ends after the step and keeps its state. What TRL would
leave out unsaid is counted. Nothing touches the network.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic

from rlaif.backends.embedded import chosen_dtype
from rlaif.backends.local import (
    check_checkpoint,
    count_parameters,
    quiet_transformers,
    weights_digest,
)
from rlaif.errors import ConfigError, DataError
from rlaif.store.runs import RunFolder, read_json
from rlaif.train.card import model_card
from rlaif.train.checkpoints import last_checkpoint, naming_full_disk, save_model
from rlaif.train.curves import curve_rows, run_callback, write_curves
from rlaif.train.data import require_train_extra, rows_digest
from rlaif.train.settings import Rates, S, resolved, size_of
from rlaif.train.stopping import Stopping

Progress = Callable[[int, int, str], None]
"""Told the steps done, the steps in all, and a note."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of training."""

    model: Path
    """A checkpoint folder."""
    rows: Any
    """A `datasets.Dataset`."""
    output: Path
    """The run folder: config.json, training.jsonl, summary.json, model/; meanwhile checkpoints/."""
    home: Path
    """Where the choice of dtype is kept."""
    held_out: Any = None
    """Rows to measure on."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the model card says beside the settings."""
    progress: Progress = lambda done, total, note: None


@dataclass(frozen=True, slots=True)
class Fitted:
    """The rows that can be trained on, and how many cannot, by reason."""

    rows: Any
    dropped: dict[str, int]
    cut: int = 0
    """Rows whose response is cut at the window."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a trainer is built of."""

    network: Any
    tokenizer: Any
    rows: Any
    held_out: Any
    arguments: dict[str, Any]
    """For TRL's configuration."""
    peft_config: Any
    callbacks: list[Any]
    stopping: Stopping
    output: Path
    alone: bool
    """Whether this process trains by itself."""

    def given(self, config: Any) -> dict[str, Any]:
        """What each of TRL's trainers takes, with a configuration of its own."""
        return {
            "model": self.network,
            "args": config,
            "train_dataset": self.rows,
            "eval_dataset": self.held_out,
            "processing_class": self.tokenizer,
            "peft_config": self.peft_config,
            "callbacks": self.callbacks,
        }


class Method(ABC, Generic[S]):
    """One kind of training: what it adds to the core."""

    name: ClassVar[str]
    rates: ClassVar[Rates]
    classifier: ClassVar[bool] = False
    """Whether the model gives a number instead of text."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def fit(self, rows: Any, tokenizer: Any) -> Fitted:
        """The rows that fit, of tokens as the settings allow."""

    @abstractmethod
    def build(self, parts: Parts) -> Any:
        """The trainer."""

    def measure(self, trainer: Any) -> dict[str, Any]:
        """What the held-out rows say of the model."""
        found = trainer.evaluate()
        return {"n": len(trainer.eval_dataset), "loss": float(found["eval_loss"])}

    def curve(self, entry: Mapping[str, float]) -> dict[str, float]:
        """A step of the curves, as the run folder has it."""
        return dict(entry)

    def conclude(self, summary: dict[str, Any], curves: list[dict[str, Any]]) -> None:
        """Add to the summary of a whole run."""

    def identity(self) -> dict[str, Any]:
        """What decides the result beside the settings."""
        return {}

    def rounds_products(self) -> bool:
        """Whether float32 products may round to bfloat16 where the machine is faster at it."""
        return self.settings.lora_rank > 0


def carry_out(method: Method[Any], job: Job) -> dict[str, Any]:
    """Train; the tuned checkpoint lies in `output/model`.

    Returns:
        The summary: rows given, left out by reason and trained on, steps, first and last loss, what
        the held-out rows say, seconds.

    Raises:
        ConfigError: a package is missing, the model is no checkpoint, a setting does not fit, or
            the folder holds another run.
        DataError: no row can be trained on, or the loss is no number any more.
        StoreError: the disk is full; the last checkpoint is kept.
        KeyboardInterrupt: training was stopped; its state is kept.
    """
    require_train_extra()
    check_checkpoint(job.model)
    parameters = count_parameters(job.model)
    settings = resolved(method.settings, parameters, method.rates)
    method.settings = replace(settings, max_length=_window(job.model, settings.max_length))
    products = chosen_dtype(job.home) if method.rounds_products() else "float32"
    dtype = products if settings.lora_rank and not method.classifier else "float32"
    run = _open_run(method, job, dtype)
    if (job.output / "model" / "config.json").exists():
        done: dict[str, Any] = read_json(job.output / "summary.json")
        return done
    started = time.monotonic()
    with _fast_products(products), naming_full_disk(job.output / "checkpoints"):
        made = _Training(method, job, dtype, size_of(parameters) != "small")
        try:
            made.train()
        finally:
            if run is not None:
                write_curves(run, method, made.trainer)
        summary = made.summary() | {"wall_s": round(time.monotonic() - started, 1)}
        made.trainer.accelerator.wait_for_everyone()
        if run is not None:
            run.write_json("summary.json", summary)
            card = model_card(method.name, job.model, job.rows, job.facts, method.settings, summary)
            save_model(made.trainer, job.output, card)
    return summary


def _open_run(method: Method[Any], job: Job, dtype: str) -> RunFolder | None:
    """The run folder, which of several processes only the first one writes."""
    if not _state().is_main_process:
        return None
    config = {
        "command": f"train {method.name}",
        "model_sha256": weights_digest(job.model),
        "rows_sha256": rows_digest(job.rows),
        "dtype": dtype,
        "settings": method.settings.identity(),
        **method.identity(),
    }
    if job.held_out is not None:
        config["held_out_sha256"] = rows_digest(job.held_out)
    return RunFolder(job.output, config)


def _state() -> Any:
    """What accelerate says of the processes that train together."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def _window(model: Path, wanted: int) -> int:
    """The tokens that fit: as many as wanted, but no more than the model has places for."""
    config = read_json(model / "config.json")
    places = config.get("max_position_embeddings")
    return min(wanted, places) if isinstance(places, int) else wanted


class _Training:
    """A trainer with its rows."""

    def __init__(self, method: Method[Any], job: Job, dtype: str, big: bool) -> None:
        import datasets
        from huggingface_hub import constants
        from transformers import AutoTokenizer, PrinterCallback

        quiet_transformers()
        datasets.disable_progress_bars()
        # TRL tells its makers of every trainer that is built
        constants.HF_HUB_DISABLE_TELEMETRY = True
        self.method, self.job, self.dtype = method, job, dtype
        self.stopping = Stopping()
        tokenizer = AutoTokenizer.from_pretrained(job.model, local_files_only=True)
        self.fitted = self._fit(job.rows, tokenizer)
        held_out = self._fit(job.held_out, tokenizer).rows if job.held_out is not None else None
        self.trainer = method.build(
            Parts(
                network=self._network(),
                tokenizer=tokenizer,
                rows=self.fitted.rows,
                held_out=held_out,
                arguments=_arguments(method.settings, job.output, big, held_out is not None),
                peft_config=_lora(method),
                callbacks=[run_callback(job.progress, self.stopping, method)],
                stopping=self.stopping,
                output=job.output,
                alone=_state().num_processes == 1,
            )
        )
        self.trainer.remove_callback(PrinterCallback)

    def _fit(self, rows: Any, tokenizer: Any) -> Fitted:
        fitted = self.method.fit(rows, tokenizer)
        if not len(fitted.rows):
            most = self.method.settings.max_length
            if fitted.dropped.get("too_long") == len(rows):
                raise DataError(f"all {len(rows)} rows are longer than {most} tokens")
            reasons = ", ".join(f"{n} {reason}" for reason, n in fitted.dropped.items())
            raise DataError(f"none of {len(rows)} rows can be trained on: {reasons}")
        return fitted

    def _network(self) -> Any:
        import torch
        from transformers import (
            AutoModelForCausalLM,
            AutoModelForSequenceClassification,
            set_seed,
        )

        set_seed(self.method.settings.seed)  # a new head is random
        kind, more = (
            (AutoModelForSequenceClassification, {"num_labels": 1})
            if self.method.classifier
            else (AutoModelForCausalLM, {})
        )
        dtype = getattr(torch, self.dtype)
        return kind.from_pretrained(self.job.model, dtype=dtype, local_files_only=True, **more)

    def train(self) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        self.trained_on = len(self.trainer.train_dataset)
        with self.stopping.listening():
            self.trainer.train(resume_from_checkpoint=last_checkpoint(self._checkpoints))
        self.stopping.check()

    @property
    def _checkpoints(self) -> Path:
        return self.job.output / "checkpoints"

    def summary(self) -> dict[str, Any]:
        """What the run came to."""
        curves = curve_rows(self.method, self.trainer)
        losses = [row["loss"] for row in curves if "loss" in row]
        dropped = self.fitted.dropped
        summary: dict[str, Any] = {
            "rows": len(self.job.rows),
            "rows_trained": self.trained_on,
            **{f"rows_{reason}": n for reason, n in dropped.items()},
            "rows_cut": self.fitted.cut,
        }
        unsaid = len(self.fitted.rows) - self.trained_on
        if unsaid:
            summary["rows_dropped_by_trl"] = unsaid
        summary |= {
            "steps": self.trainer.state.global_step,
            "loss_first": losses[0] if losses else None,
            "loss_last": losses[-1] if losses else None,
            "dtype": self.dtype,
        }
        if self.trainer.eval_dataset is not None:
            summary["held_out"] = self.method.measure(self.trainer)
        self.method.conclude(summary, curves)
        return summary


def _lora(method: Method[Any]) -> Any:
    from peft import LoraConfig

    rank = method.settings.lora_rank
    if not rank:
        return None
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="SEQ_CLS" if method.classifier else "CAUSAL_LM",
        # a head that was made just now is nothing that an adapter could change
        modules_to_save=["score"] if method.classifier else None,
    )


def _arguments(settings: Any, output: Path, big: bool, measures: bool) -> dict[str, Any]:
    """What TRL's configurations have in common; `settings.trl` is over it."""
    import torch

    gpu = torch.cuda.is_available()
    processes = _state().num_processes
    at_once = settings.micro_batch_size * processes
    if settings.batch_size % at_once:
        raise ConfigError(
            f"batch_size {settings.batch_size} is no multiple of {at_once}, "
            f"the rows that {processes} processes have in memory at once"
        )
    checkpointing = settings.gradient_checkpointing
    made = {
        "output_dir": str(output / "checkpoints"),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": settings.warmup_steps,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "per_device_train_batch_size": settings.micro_batch_size,
        "per_device_eval_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.batch_size // at_once,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "bf16": gpu and not settings.lora_rank,
        "gradient_checkpointing": gpu and big if checkpointing is None else checkpointing,
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
        "report_to": list(settings.report_to) or "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "save_total_limit": settings.keep_checkpoints,
    }
    if measures and settings.eval_steps:
        made |= {"eval_strategy": "steps", "eval_steps": settings.eval_steps}
    return made


@contextmanager
def _fast_products(dtype: str) -> Iterator[None]:
    """Let float32 products round to bfloat16 inside, where the machine is faster at those.

    TRL multiplies the output head in float32 whatever the weights are; on a processor with
    bfloat16 instructions that took two thirds of a step. Known warnings about names that
    transformers will retire are TRL's to mend, and are kept off the terminal by their text.
    """
    import warnings

    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if dtype == "bfloat16" else before)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*gradient_checkpointing` is deprecated")
            yield
    finally:
        torch.set_float32_matmul_precision(before)
