"""Proximal policy optimization of a language model, in TRL's manner.

    trainer = PPOTrainer(model, [judge_reward], PPOConfig("runs/ppo"), rows,
                         processing_class=tokenizer, peft_config=lora)
    summary = trainer.train()

An update: sample responses, score them (rewards are awaited while the device reads what the policy,
its value function and the reference say of them), estimate advantages, learn from them in a few
epochs of clipped steps. Schulman et al. 2017 (arXiv 1707.06347), Ziegler et al. 2019 (1909.08593),
Huang et al. 2024, "The N+ implementation details of RLHF with PPO" (2403.17031).

Nothing touches the network but rewards that do. Training that was stopped goes on from its last
checkpoint and ends with the same weights. Under `accelerate launch` every process holds the whole
model and does its share of the work; the main one asks for the rewards.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlaif.background import run_blocking
from rlaif.errors import ConfigError, DataError
from rlaif.train.ppo.actor import ActorCritic, without_dropout
from rlaif.train.ppo.advantages import KLController, UsualSpread
from rlaif.train.ppo.checkpoints import last_checkpoint, save_checkpoint
from rlaif.train.ppo.config import PPOConfig
from rlaif.train.ppo.data import PromptRows, chunks
from rlaif.train.ppo.journal import LOG, SAMPLES, Journal
from rlaif.train.ppo.loading import adam, load_policy, reference_model, with_adapters
from rlaif.train.ppo.rewards import RewardFunction, RewardMix
from rlaif.train.ppo.rollout import Episodes
from rlaif.train.ppo.sampling import Sampler, mixed_seed
from rlaif.train.ppo.saving import policy_card, save_policy
from rlaif.train.ppo.scoring import Asked, HeldOut, Scoring, gain
from rlaif.train.ppo.served import ServedPolicy
from rlaif.train.ppo.update import Batch, has_reference, learn, make_batch
from rlaif.train.ppo.workers import Workers
from rlaif.train.stopping import Stopping

Callback = Callable[[dict[str, Any]], bool | None]
"""Told the figures of each update; True ends the training there, with a checkpoint."""

_HELD_OUT = 2**40
"""In place of an update's number in the seeds of evaluations: each draws the same chances."""


class PPOTrainer:
    """A policy, what it is rewarded for, and the prompts it answers.

    Args:
        model: A causal language model of transformers, or the folder of one, which is then read in
            float32. All its weights move, or adapters.
        reward_funcs: Functions in TRL's signature (sync or async; a judge), and folders of
            sequence classifiers. Weighted sum.
        args: How to train.
        train_dataset: Rows with `prompt`, text or messages; other columns go to the functions.
        processing_class: The policy's tokenizer; that of the folder by default.
        eval_dataset: Rows like them that are answered and scored, but not learned from.
        ref_model: What the KL penalty holds to. By default the policy without its adapters, or,
            without adapters, a copy of it.
        value_model: A trunk of its own for the value function. None shares the policy's: faster,
            and less learned where the policy's states say little of the reward
            (scripts/bench_ppo.py).
        peft_config: Adapters to train instead of the weights.
        reward_weights: One a function.
        callbacks: Told of every update, in the main process.
        served_policy: A server that draws the responses.

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
        processing_class: Any = None,
        eval_dataset: Any = None,
        ref_model: Any = None,
        value_model: Any = None,
        peft_config: Any = None,
        reward_weights: Sequence[float] | None = None,
        callbacks: Sequence[Callback] = (),
        served_policy: ServedPolicy | None = None,
    ) -> None:
        if ref_model is not None and ref_model is model:
            raise ConfigError("ref_model must be another copy of the model: this one moves")
        self.args = args
        self.callbacks = list(callbacks)
        self.workers = Workers(use_cpu=args.use_cpu)
        self.device = self.workers.device
        several = isinstance(reward_funcs, Sequence) and not isinstance(reward_funcs, str)
        functions: Any = reward_funcs if several else [reward_funcs]
        self.rewards = RewardMix(functions, reward_weights, missing=args.missing_reward)
        policy, self.tokenizer = load_policy(model, processing_class)
        self.rows = self._prompts(train_dataset)
        self.held_out = self._prompts(eval_dataset) if eval_dataset is not None else None
        held = reference_model(policy, ref_model, args, adapters=peft_config is not None)
        self.reference = held.to(self.device) if held is not None else None
        policy = with_adapters(policy, peft_config, args.seed)
        self.actor = ActorCritic(
            policy,
            value_model,
            temperature=args.temperature,
            value_gradient=args.value_gradient,
        )
        without_dropout(self.actor)
        self.actor.train().to(self.device)
        self._moving = {n: p for n, p in self.actor.named_parameters() if p.requires_grad}
        self.workers.agree(self._moving.values())
        self.optimizer = adam(list(self._moving.values()), args)
        self.kl = KLController(args.kl_coefficient, args.kl_target, args.kl_horizon)
        self._usual = UsualSpread(args.advantage_memory)
        self.served = served_policy
        self._sampler = Sampler(policy, self.tokenizer, args, self.workers, served_policy)
        self._scoring = Scoring(self.rewards, self.tokenizer, self.workers)
        self._journal = Journal(args.output_dir)
        self.update = 0
        self.samples: list[dict[str, Any]] = []
        """Every response of the last update: `prompt`, `completion`, `reward`."""
        self.seconds: dict[str, float] = defaultdict(float)
        """Wall time by what it was spent on; `reward` is what reading did not hide."""
        self._stopping = False
        self._unrewarded = 0
        self._rewards_before: list[float | None] = []
        self._rewards_after: list[float | None] = []

    @property
    def model(self) -> Any:
        """The policy as it is now."""
        return self.actor.policy

    def stop(self) -> None:
        """End the training after the update that runs, with a checkpoint."""
        self._stopping = True

    def train(self, resume_from_checkpoint: bool | str | Path = True) -> dict[str, Any]:
        """Train to the end, or to a stop; what came of it.

        Args:
            resume_from_checkpoint: Whether to go on from the last checkpoint in `output_dir`, or a
                folder of checkpoints to go on from.

        Returns:
            `updates`, `episodes`, `stopped`, `prompts_left_out` (of too many tokens, or none), the
            figures of the `last` update, `seconds` by what they were spent on, `episodes_per_s` and
            `peak_rss_mb`. Where there are held-out prompts, `eval_first`, `eval_last` and
            `eval_gain`: what their reward rose by, paired by prompt, with its 95 % interval.

        Raises:
            DataError: a reward or a gradient is not finite, or several updates had no reward.
            ConfigError: there is a checkpoint of another run.
            StoreError: something could not be written; the checkpoint before is as it was.
            KeyboardInterrupt: Ctrl-C or SIGTERM, after the update and a checkpoint; the second one
                at once.
        """
        self.args.output_dir.mkdir(parents=True, exist_ok=True)
        if resume_from_checkpoint:
            given = resume_from_checkpoint
            self._load(_checkpoints(self.args) if given is True else Path(given))
        if self.workers.is_main:
            self._journal.keep_until(self.update)
        begun_at, began = self.update, time.perf_counter()
        stopping = Stopping()
        try:
            with stopping.listening():
                first, last, figures = self._all_updates(stopping)
        finally:
            run_blocking(self.rewards.aclose())
        stopping.check()
        spent = time.perf_counter() - began
        return {
            "updates": self.update,
            "episodes": self.update * self.args.batch_size,
            "stopped": self.update < self.args.updates,
            "prompts_left_out": self.rows.left_out,
            **(self._held_out_figures(first, last) if self.held_out else {}),
            "last": figures,
            "kl_coefficient": self.kl.coefficient,
            "seconds": {name: round(spent, 2) for name, spent in self.seconds.items()},
            "episodes_per_s": round((self.update - begun_at) * self.args.batch_size / spent, 3),
            "peak_rss_mb": _peak_rss_mb(),
        }

    def save_model(self, folder: Path | str, facts: Mapping[str, Any] | None = None) -> None:
        """Write the policy as a plain checkpoint with a card; the last thing to do with a trainer.

        Args:
            folder: Where to.
            facts: What the card says.

        Raises:
            StoreError: the disk is full.
        """
        if self.workers.is_main:
            told = facts if facts is not None else settings_of(self.args)
            save_policy(self.model, self.tokenizer, Path(folder), policy_card(told))

    def evaluate(self) -> dict[str, Any]:
        """Figures of responses to the held-out prompts, with the same chances each time.

        Returns:
            `eval_reward` (mean), `eval_reward_sd`, `eval_n` (with a reward), `eval_coverage`,
            `eval_length` (tokens), `eval_ended`, and `eval_kl` (k1, nats a response) where there is
            a reference.

        Raises:
            ConfigError: there are no held-out prompts.
        """
        if self.held_out is None:
            raise ConfigError("there is no eval_dataset")
        sums = HeldOut()
        with self._timed("evaluation"):
            for number, places in enumerate(chunks(self.held_out.kept, self.args.batch_size)):
                prompts = [self.held_out.tokens(place) for place in places]
                episodes = self._sampler(prompts, self.args.seed, _HELD_OUT, number)
                asked = self._scoring.begin(self.held_out, places, episodes)
                batch = self._read(episodes, asked)
                sums.add(batch, asked.result())
        self._rewards_after = sums.rewards
        if not self.update:
            self._rewards_before = sums.rewards
        return sums.figures()

    def _held_out_figures(self, first: Any, last: Any) -> dict[str, Any]:
        both = bool(self._rewards_before and self._rewards_after)
        rose = gain(self._rewards_before, self._rewards_after) if both else None
        return {"eval_first": first, "eval_last": last, "eval_gain": rose}

    def _all_updates(self, stopping: Stopping) -> tuple[Any, Any, dict[str, Any]]:
        """Figures of the first and the last evaluation, and of the last update."""
        args, saved = self.args, self.update
        figures: dict[str, Any] = {}
        first, last = self._first_evaluation()
        while self.update < args.updates and not self._stopping:
            figures = self._one_update()
            self.update += 1
            if self._is_time_to_evaluate():
                last = self.evaluate()
                figures |= last
            self._log(figures)
            if self.workers.is_main:
                for callback in self.callbacks:
                    self._stopping |= bool(callback(figures))
            self._stopping = self.workers.any(self._stopping or stopping.wanted)
            if self.update % args.save_updates == 0:
                self._save()
                saved = self.update
        if saved < self.update:
            self._save()
        return first, last, figures

    def _first_evaluation(self) -> tuple[Any, Any]:
        """Figures of the evaluation before training, also of a run that goes on, and the latest."""
        if self.held_out is None:
            return None, None
        if self.update:
            done = self.update == self.args.updates
            return self._journal.first_evaluation(), self.evaluate() if done else None
        first = self.evaluate()
        self._log({"step": 0, "episodes": 0, **first})
        return first, first

    def _is_time_to_evaluate(self) -> bool:
        every = self.args.eval_updates
        due = self.update == self.args.updates or bool(every and self.update % every == 0)
        return self.held_out is not None and due

    def _one_update(self) -> dict[str, Any]:
        """The figures of one more update."""
        import torch

        args, started = self.args, time.perf_counter()
        chance = torch.Generator().manual_seed(mixed_seed(args.seed, self.update))
        places = self.rows.batch(self.update, args.batch_size, args.responses_per_prompt)
        with self._timed("generation"):
            self._publish()
            episodes = self._sampler([self.rows.tokens(p) for p in places], args.seed, self.update)
        asked = self._scoring.begin(self.rows, places, episodes)
        with self._timed("reading"):
            batch = self._read(episodes, asked)
        with self._timed("reward"):
            scored = asked.result()
        figures = batch.settle(scored.totals, self.kl.coefficient, args, self._usual)
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self._has_rewards(scored.totals):
            with self._timed("learning"):
                figures |= learn(self.actor, self.optimizer, batch, chance, args, self.workers)
        if figures["kl"] is not None:
            self.kl.update(figures["kl"], args.batch_size)
        self._keep_samples(places, asked.texts, scored.totals)
        return {
            "step": self.update + 1,
            "episodes": (self.update + 1) * args.batch_size,
            **figures,
            **scored.figures(),
            "learning_rate": rate,
            "wall_s": round(time.perf_counter() - started, 3),
        }

    def _publish(self) -> None:
        served = self.served
        if served is not None and self.update:
            self.workers.from_main(lambda: run_blocking(served.publish(self.model, self.update)))

    def _read(self, episodes: Episodes, asked: Asked) -> Batch:
        try:
            return make_batch(self.actor, self.reference, episodes, self.args, self.workers)
        except BaseException:
            asked.cancel()
            raise

    def _has_rewards(self, totals: Sequence[float | None]) -> bool:
        """Whether there is anything to learn from.

        Raises:
            DataError: there was not, several times in a row.
        """
        if any(total is not None for total in totals):
            self._unrewarded = 0
            return True
        self._unrewarded += 1
        if self._unrewarded >= self.args.unrewarded_updates:
            raise DataError(
                f"no response of {self._unrewarded} updates in a row, up to update "
                f"{self.update + 1}, has a reward"
            )
        return False

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

    def _log(self, figures: Mapping[str, Any]) -> None:
        if self.workers.is_main:
            self._journal.write(LOG, [figures])

    def _keep_samples(
        self, places: Sequence[int], texts: Sequence[str], scores: Sequence[float | None]
    ) -> None:
        prompts, _ = self.rows.columns(places)
        rows = zip(prompts, texts, scores, strict=True)
        self.samples = [
            {"prompt": prompt, "completion": text, "reward": score} for prompt, text, score in rows
        ]
        if self.workers.is_main:
            some = self.samples[: self.args.logged_samples]
            self._journal.write(SAMPLES, [{"step": self.update + 1, **row} for row in some])

    def _prompts(self, rows: Any) -> PromptRows:
        return PromptRows(rows, self.tokenizer, self.args.max_prompt_length, self.args.seed)

    def _run(self) -> dict[str, Any]:
        """What decides the numbers of a run."""
        return {
            **settings_of(self.args),
            "prompts": self.rows.digest,
            "rewards": self.rewards.described(),
            "moving": [[name, *p.shape] for name, p in self._moving.items()],
            "has_reference": has_reference(self.actor, self.reference),
        }

    def _save(self) -> None:
        def save() -> None:
            tensors = {
                "weights": {name: p.detach() for name, p in self._moving.items()},
                "optimizer": self.optimizer.state_dict(),
            }
            state = {
                "coefficient": self.kl.coefficient,
                "unrewarded": self._unrewarded,
                "usual_spread": [self._usual.total, self._usual.weight],
                "rewards_before": self._rewards_before,
                "run": self._run(),
            }
            save_checkpoint(_checkpoints(self.args), self.update, tensors, state)

        self.workers.from_main(save)

    def _load(self, folder: Path) -> None:
        import torch

        found = last_checkpoint(folder)
        if found is None:
            return
        tensors, state = found
        run = self._run()
        if differs := [name for name in run if state["run"].get(name) != run[name]]:
            raise ConfigError(f"{folder} holds another run: {', '.join(differs)} differ")
        with torch.no_grad():
            for name, weights in tensors["weights"].items():
                self._moving[name].copy_(weights)
        self.optimizer.load_state_dict(tensors["optimizer"])
        self.kl.coefficient = state["coefficient"]
        self._unrewarded = state["unrewarded"]
        self._usual.total, self._usual.weight = state["usual_spread"]
        self._rewards_before = state["rewards_before"]
        self.update = state["update"]


def _checkpoints(args: PPOConfig) -> Path:
    return args.output_dir / "checkpoints"


def settings_of(args: PPOConfig) -> dict[str, Any]:
    """The settings that decide the numbers, as JSON has them."""
    left = ("output_dir", "save_updates", "eval_updates", "logged_samples", "use_cpu")
    return {name: value for name, value in asdict(args).items() if name not in left}


def _peak_rss_mb() -> float:
    """The most memory that this process ever held, MiB."""
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)
