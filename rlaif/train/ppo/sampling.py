"""Responses for a whole update, in groups that fit into memory, by all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlaif.background import run_blocking
from rlaif.train.ppo.config import PPOConfig
from rlaif.train.ppo.data import chunks
from rlaif.train.ppo.rollout import Episodes, joined, sample
from rlaif.train.ppo.served import Drawn, ServedPolicy, episodes_of
from rlaif.train.ppo.update import mixed
from rlaif.train.ppo.workers import Workers


class Sampler:
    """Draws responses from a policy.

    Args:
        policy: A causal language model.
        tokenizer: Its tokenizer.
        args: The settings.
        workers: Who shares the work.
        served: A server that draws in place of this process.
    """

    def __init__(
        self,
        policy: Any,
        tokenizer: Any,
        args: PPOConfig,
        workers: Workers,
        served: ServedPolicy | None = None,
    ) -> None:
        self._policy = policy
        self._args = args
        self._workers = workers
        self._served = served
        self._ends = end_tokens(policy, tokenizer) if args.stop_at_eos else set()
        self._pad = pad_token(tokenizer)
        self._device = next(policy.parameters()).device

    def __call__(self, prompts: Sequence[Sequence[int]], *seed: int) -> Episodes:
        """A response to each prompt, in their order; the same for the same weights and seed."""
        if self._served is not None:
            return self._from_server(self._served, prompts, seed)
        import torch

        # like lengths together: little padding while sampling
        by_length = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        groups = list(chunks(by_length, self._args.rollout_batch_size))

        def draw(work: tuple[int, Sequence[int]]) -> Episodes:
            number, group = work
            chance = torch.Generator(self._device).manual_seed(mixed_seed(*seed, number))
            with mixed(self._device, self._args):
                made = sample(
                    self._policy,
                    [prompts[place] for place in group],
                    most=self._args.response_length,
                    ends=self._ends,
                    pad=self._pad,
                    temperature=self._args.temperature,
                    generator=chance,
                )
            return made.to("cpu")

        parts = self._workers.share(list(enumerate(groups)), draw)
        places = torch.tensor([place for group in groups for place in group])
        return joined(parts, places.argsort(), self._pad).to(self._device)

    def _from_server(
        self, served: ServedPolicy, prompts: Sequence[Sequence[int]], seed: tuple[int, ...]
    ) -> Episodes:
        args = self._args

        def draw() -> list[Drawn]:
            asked = served.sample(
                prompts,
                most=args.response_length,
                ends=self._ends,
                temperature=args.temperature,
                seed=mixed_seed(*seed),
            )
            return run_blocking(asked)

        drawn = self._workers.from_main(draw)
        return episodes_of(prompts, drawn, self._pad).to(self._device)


def mixed_seed(*parts: int) -> int:
    """One seed out of several numbers."""
    seed = 0
    for part in parts:
        seed = (seed * 1_000_003 + part + 1) % 2**62
    return seed


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """The ids that end a response: the tokenizer's, and those the model was made to stop at."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = set(named if isinstance(named, list) else [named])
    return {int(end) for end in ends | {tokenizer.eos_token_id} if end is not None}


def pad_token(tokenizer: Any) -> int:
    """The id that fills up; which one does not matter, since it never counts."""
    pad = tokenizer.pad_token_id
    return int(pad if pad is not None else tokenizer.eos_token_id or 0)
