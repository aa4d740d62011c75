"""Proximal policy optimization of a language model, in TRL's manner.

    trainer = PPOTrainer(model, [judge_reward], PPOConfig(Path("runs/ppo")), rows,
                         processing_class=tokenizer, peft_config=lora)
    summary = trainer.train()

An update: sample responses, score them (rewards are awaited while the device reads what the policy,
its value function and the reference say of them), estimate advantages, learn from them in a few
epochs of clipped steps. Schulman et al. 2017 (arXiv 1707.06347), Ziegler et al. 2019 (1909.08593),
Huang et al. 2024, "The N+ implementation details of RLHF with PPO" (2403.17031).

Nothing touches the network. Training that was stopped goes on from its last checkpoint and ends
with the same weights.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.canonical import json_line
from rlaif.errors import ConfigError, DataError
from rlaif.train.ppo.actor import ActorCritic, without_dropout
from rlaif.train.ppo.advantages import KLController
from rlaif.train.ppo.checkpoints import last_checkpoint, save_checkpoint
from rlaif.train.ppo.config import PPOConfig
from rlaif.train.ppo.data import PromptRows, chunks
from rlaif.train.ppo.rewards import BackgroundLoop, RewardFunction, RewardMix
from rlaif.train.ppo.rollout import Episodes, joined, sample
from rlaif.train.ppo.update import learn, make_batch

if TYPE_CHECKING:
    from torch import Generator

Callback = Callable[[dict[str, Any]], bool | None]
"""Told the figures of each update; True ends the training there."""


class PPOTrainer:
    """A policy, what it is rewarded for, and the prompts it answers.

    Args:
        model: A causal language model of transformers. All its weights move, or adapters.
        reward_funcs: Functions in TRL's signature (sync or async; a judge), and folders of
            sequence classifiers. Weighted sum.
        args: How to train.
        train_dataset: Rows with `prompt`, text or messages; other columns go to the functions.
        processing_class: The policy's tokenizer.
        ref_model: What the KL penalty holds to; not needed with adapters or without a penalty.
        value_model: A trunk of its own for the value function; None shares the policy's.
        peft_config: Adapters to train instead of the weights.
        reward_weights: One a function.
        callbacks: Told of every update.

    Raises:
        ConfigError: the parts do not fit together.
        DataError: no prompt fits.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: RewardFunction | Path | str | Sequence[RewardFunction | Path | str],
        args: PPOConfig,
        train_dataset: Any,
        *,
        processing_class: Any,
        ref_model: Any = None,
        value_model: Any = None,
        peft_config: Any = None,
        reward_weights: Sequence[float] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        import torch

        self.args = args
        self.tokenizer = processing_class
        self.callbacks = list(callbacks)
        several = isinstance(reward_funcs, Sequence) and not isinstance(reward_funcs, str)
        functions: Any = reward_funcs if several else [reward_funcs]
        self.rewards = RewardMix(functions, reward_weights, missing=args.missing_reward)
        self.rows = PromptRows(train_dataset, processing_class, args.max_prompt_length, args.seed)
        self._ends = _end_tokens(model, processing_class) if args.stop_at_eos else set()
        if peft_config is not None:
            from peft import get_peft_model

            model = get_peft_model(model, peft_config)
        if args.kl_coefficient and ref_model is None and not hasattr(model, "disable_adapter"):
            raise ConfigError("a KL penalty needs ref_model, or adapters (peft_config)")
        if ref_model is model:
            raise ConfigError("ref_model must be another copy of the model: this one moves")
        self.actor = ActorCritic(model, value_model, temperature=args.temperature)
        without_dropout(self.actor)
        self.actor.train()
        self.device = next(model.parameters()).device
        self.actor.to(self.device)
        self.reference = ref_model.eval().to(self.device) if ref_model is not None else None
        self.optimizer = torch.optim.AdamW(
            [p for p in self.actor.parameters() if p.requires_grad],
            lr=args.learning_rate,
            eps=args.adam_epsilon,
            weight_decay=args.weight_decay,
        )
        self.kl = KLController(args.kl_coefficient, args.kl_target, args.kl_horizon)
        self.update = 0
        self.seconds: dict[str, float] = defaultdict(float)
        self._stopping = False

    @property
    def model(self) -> Any:
        """The policy as it is now."""
        return self.actor.policy

    def stop(self) -> None:
        """End the training after the update that runs, with a checkpoint."""
        self._stopping = True

    def train(self, *, resume: bool = True) -> dict[str, Any]:
        """Train to the end, or to a stop; what came of it.

        Args:
            resume: Whether to go on from the last checkpoint in `output_dir`.

        Returns:
            `updates`, `episodes`, `stopped`, the figures of the last update, and `seconds` by what
            they were spent on.

        Raises:
            DataError: a reward is not finite, or no response of an update has one.
            StoreError: a checkpoint could not be written; the one before is as it was.
        """
        args = self.args
        args.output_dir.mkdir(parents=True, exist_ok=True)
        if resume:
            self._load()
        self._keep_log_until(self.update)
        loop = BackgroundLoop()
        figures: dict[str, Any] = {}
        saved = self.update
        try:
            while self.update < args.updates and not self._stopping:
                figures = self._one_update(loop)
                self.update += 1
                self._log(figures)
                for callback in self.callbacks:
                    self._stopping |= bool(callback(figures))
                if self.update % args.save_updates == 0:
                    self._save()
                    saved = self.update
        finally:
            loop.start(self.rewards.aclose()).result()
            loop.close()
        if saved < self.update:
            self._save()
        return {
            "updates": self.update,
            "episodes": self.update * args.batch_size,
            "stopped": self.update < args.updates,
            "prompts_left_out": self.rows.too_long,
            "last": figures,
            "seconds": {name: round(spent, 2) for name, spent in self.seconds.items()},
        }

    def _one_update(self, loop: BackgroundLoop) -> dict[str, Any]:
        import torch

        args = self.args
        chance = torch.Generator(self.device).manual_seed(_seed(args.seed, self.update))
        places = self.rows.batch(self.update, args.batch_size)
        with self._timed("generation"):
            episodes, places = self._sample(places, chance)
        texts = self.decode(episodes)
        prompts, columns = self.rows.columns(places)
        completions = [self.rows.completion(p, t) for p, t in zip(places, texts, strict=True)]
        ids = _token_ids(episodes)
        scoring = loop.start(self.rewards(prompts, completions, ids, columns))
        with self._timed("reading"):
            batch = make_batch(self.actor, self.reference, episodes, args)
        with self._timed("reward"):
            scored = scoring.result()
        if all(total is None for total in scored.totals):
            raise DataError(f"update {self.update}: no response has a reward")
        figures = batch.settle(scored.totals, self.kl.coefficient, args)
        with self._timed("learning"):
            figures |= learn(self.actor, self.optimizer, batch, chance, args, self._rate())
        self.kl.update(figures["kl"], args.batch_size)
        for name, part in scored.parts.items():
            known = [reward for reward in part if reward is not None]
            figures[f"reward/{name}"] = sum(known) / len(known) if known else None
        self._keep_samples(prompts, texts, scored.totals)
        return {
            "step": self.update + 1,
            "episodes": (self.update + 1) * args.batch_size,
            **figures,
            "learning_rate": self._rate(),
        }

    def _sample(self, places: list[int], chance: Generator) -> tuple[Episodes, list[int]]:
        """Responses to the prompts of an update, in an order shuffled for learning."""
        import torch

        args = self.args
        prompts = {place: self.rows.tokens(place) for place in places}
        # like lengths together: little padding while sampling
        by_length = sorted(places, key=lambda place: len(prompts[place]))
        parts = [
            sample(
                self.actor.policy,
                [prompts[place] for place in group],
                most=args.response_length,
                ends=self._ends,
                pad=self._pad,
                temperature=args.temperature,
                generator=chance,
            )
            for group in chunks(by_length, args.rollout_batch_size)
        ]
        order = torch.randperm(len(places), generator=chance, device=self.device)
        return joined(parts, order, self._pad), [by_length[i] for i in order.tolist()]

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id or 0)

    def decode(self, episodes: Episodes) -> list[str]:
        """The text of each response, without the token that ends it."""
        ids = _token_ids(episodes)
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts

    def _rate(self) -> float:
        """The learning rate of this update: warm-up, then linear to 0."""
        args = self.args
        warm = min(1.0, (self.update + 1) / (args.warmup_updates + 1))
        return args.learning_rate * warm * (1.0 - self.update / args.updates)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started

    def _log(self, figures: dict[str, Any]) -> None:
        with (self.args.output_dir / "training.jsonl").open("a", encoding="utf-8") as file:
            file.write(json_line(figures))

    def _keep_samples(
        self, prompts: Sequence[Any], texts: Sequence[str], scores: Sequence[float | None]
    ) -> None:
        rows = zip(prompts, texts, scores, strict=True)
        with (self.args.output_dir / "samples.jsonl").open("a", encoding="utf-8") as file:
            for row, _ in zip(rows, range(self.args.logged_samples), strict=False):
                named = dict(zip(("prompt", "completion", "reward"), row, strict=True))
                file.write(json_line({"step": self.update + 1, **named}))

    def _keep_log_until(self, step: int) -> None:
        """Drop what was logged after the checkpoint that training goes on from."""
        from rlaif.store.runs import read_rows, whole_file

        for name in ("training.jsonl", "samples.jsonl"):
            path = self.args.output_dir / name
            kept = [r for _, r in read_rows(path) if r["step"] <= step] if path.exists() else []
            with whole_file(path) as file:
                file.writelines(map(json_line, kept))

    def _save(self) -> None:
        moving = {n: p.detach() for n, p in self.actor.named_parameters() if p.requires_grad}
        tensors = {"weights": moving, "optimizer": self.optimizer.state_dict()}
        state = {"coefficient": self.kl.coefficient, "settings": _plain(self.args)}
        save_checkpoint(self.args.output_dir / "checkpoints", self.update, tensors, state)

    def _load(self) -> None:
        import torch

        found = last_checkpoint(self.args.output_dir / "checkpoints")
        if found is None:
            return
        tensors, state = found
        if state["settings"] != _plain(self.args):
            differs = [k for k, v in _plain(self.args).items() if state["settings"].get(k) != v]
            raise ConfigError(
                f"{self.args.output_dir} holds a run with other settings: {', '.join(differs)}"
            )
        moving = dict(self.actor.named_parameters())
        with torch.no_grad():
            for name, weights in tensors["weights"].items():
                moving[name].copy_(weights)
        self.optimizer.load_state_dict(tensors["optimizer"])
        self.kl.coefficient = state["coefficient"]
        self.update = state["update"]


def _token_ids(episodes: Episodes) -> list[list[int]]:
    rows = zip(episodes.response.cpu(), episodes.response_mask.cpu(), strict=True)
    return [row[mask.bool()].tolist() for row, mask in rows]


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """The ids that end a response: the tokenizer's, and those the model was made to stop at."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ends = set(named if isinstance(named, list) else [named])
    return {int(end) for end in ends | {tokenizer.eos_token_id} if end is not None}


def _seed(seed: int, update: int) -> int:
    return (seed * 1_000_003 + update) % 2**63


def _plain(args: PPOConfig) -> dict[str, Any]:
    """The settings that decide the numbers."""
    left = ("output_dir", "save_updates", "logged_samples")
    return {name: value for name, value in asdict(args).items() if name not in left}
