"""One update of PPO: what was sampled becomes a batch, and the batch moves the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlaif.errors import DataError
from rlaif.train.ppo.actor import ActorCritic, Said, read_last
from rlaif.train.ppo.advantages import (
    UsualSpread,
    gae,
    kl_k1,
    kl_k3,
    masked_mean,
    token_rewards,
    whiten,
)
from rlaif.train.ppo.config import PPOConfig
from rlaif.train.ppo.kernel import spoken
from rlaif.train.ppo.losses import policy_loss, value_loss
from rlaif.train.ppo.rollout import Episodes
from rlaif.train.ppo.workers import Workers

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(slots=True)
class Batch:
    """Episodes with what was said of their tokens when they were sampled. All (B, T) but `keep`."""

    episodes: Episodes
    logprobs: Tensor
    values: Tensor
    entropy: Tensor
    reference: Tensor | None
    """What the reference said; None where there is none: the KL is then not known, and not paid."""
    advantages: Tensor
    returns: Tensor
    keep: Tensor
    """(B,), 1.0 for the episodes that are learned from."""

    def settle(
        self,
        scores: Sequence[float | None],
        coefficient: float,
        args: PPOConfig,
        usual: UsualSpread,
    ) -> dict[str, Any]:
        """Work out advantages from the scores; the figures of the batch.

        Args:
            scores: One a response; None masks its episode.
            coefficient: beta of the KL penalty.
            args: The settings.
            usual: How far advantages spread so far.
        """
        import torch

        mask, device = self.episodes.response_mask, self.logprobs.device
        self.keep = torch.tensor([s is not None for s in scores], device=device).float()
        given = torch.tensor([s or 0.0 for s in scores], device=device)
        score = given - args.missing_eos_penalty * (~self.episodes.ended).float()
        if args.score_clip is not None:
            score = score.clamp(-args.score_clip, args.score_clip)
        learned = mask * self.keep[:, None]
        reference = self.logprobs if self.reference is None else self.reference
        k1 = kl_k1(self.logprobs, reference) * mask
        k3 = kl_k3(self.logprobs, reference) * mask
        penalty = k1 if args.kl_estimator == "k1" else k3
        rewards = token_rewards(score * self.keep, penalty, learned, coefficient)
        if args.whiten_rewards:
            rewards = whiten(rewards, learned, shift_mean=False)
        advantages, self.returns = gae(
            rewards, self.values, learned, gamma=args.gamma, lam=args.lam
        )
        if args.whiten_advantages:
            advantages = whiten(advantages, learned, least=usual.update(advantages, learned))
        self.advantages = advantages
        lengths = mask.sum(dim=1)
        kept = self.keep.sum().clamp(min=1)
        spread = ((given - (given * self.keep).sum() / kept).square() * self.keep).sum() / kept
        rewarded, known = bool(self.keep.any()), self.reference is not None
        return {
            "reward": ((given * self.keep).sum() / kept).item() if rewarded else None,
            "reward_sd": spread.sqrt().item() if rewarded else None,
            "coverage": self.keep.mean().item(),
            "kl": k1.sum(dim=1).mean().item() if known else None,
            "kl_k3": k3.sum(dim=1).mean().item() if known else None,
            "kl_coefficient": coefficient,
            "entropy": masked_mean(self.entropy, mask).item(),
            "length": lengths.mean().item(),
            "length_p95": lengths.quantile(0.95).item(),
            "ended": self.episodes.ended.float().mean().item(),
            "value": masked_mean(self.values, learned).item(),
            "return": masked_mean(self.returns, learned).item(),
        }


def make_batch(
    actor: ActorCritic, reference: Any, episodes: Episodes, args: PPOConfig, workers: Workers
) -> Batch:
    """What the policy, its value function and the reference say of episodes, without a gradient."""
    import torch

    groups = [group for mini in _minis(episodes, args) for group in mini]
    none = torch.zeros(episodes.response.shape)

    def read(places: Tensor) -> Tensor:
        rows = episodes.rows(places)
        with torch.no_grad(), mixed(episodes.tokens.device, args):
            said = actor(rows.tokens, rows.mask, rows.length)
            held = _reference(actor, reference, rows, args)
        parts = (*said, said.logprobs if held is None else held)
        return torch.stack([part * rows.response_mask for part in parts]).cpu()

    whole = torch.stack([none] * 4)
    for places, found in zip(groups, workers.share(groups, read), strict=True):
        whole[:, places, : found.shape[-1]] = found
    said = Said(*whole[:3].to(episodes.tokens.device))
    held = whole[3].to(episodes.tokens.device) if has_reference(actor, reference) else None
    empty = torch.zeros_like(said.logprobs)
    return Batch(
        episodes, said.logprobs, said.values, said.entropy, held, empty, empty, empty[:, 0]
    )


def has_reference(actor: ActorCritic, reference: Any) -> bool:
    """Whether it is known what the policy was before training."""
    return reference is not None or hasattr(actor.policy, "disable_adapter")


def mixed(device: Any, args: PPOConfig) -> Any:
    """Products in bfloat16 inside, if that is wanted."""
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=args.bf16)


def _reference(actor: ActorCritic, reference: Any, rows: Episodes, args: PPOConfig) -> Any:
    if reference is not None:
        logits, _ = read_last(reference, rows.tokens, rows.mask, rows.length)
        return spoken(logits, rows.response, args.temperature, with_entropy=False)[0]
    if not has_reference(actor, reference):
        return None
    with actor.reference():
        said = actor(rows.tokens, rows.mask, rows.length, with_values=False, with_entropy=False)
    return said.logprobs


def learn(
    actor: ActorCritic,
    optimizer: Any,
    batch: Batch,
    chance: Generator,
    args: PPOConfig,
    workers: Workers,
) -> dict[str, Any]:
    """Move the weights by a batch; the figures of the last epoch that made a step.

    The first epoch takes the episodes in the groups in which they were read, so that its first
    ratio is 1 exactly.

    Raises:
        DataError: a gradient is not finite; the weights are as they were before that step.
    """
    import torch

    order = None
    figures: dict[str, Any] = {}
    for epoch in range(args.epochs):
        if epoch:
            order = torch.randperm(args.batch_size, generator=chance)
        sums = _Sums()
        minis = _minis(batch.episodes, args, order)
        went_on = all(_step(actor, optimizer, batch, mini, args, sums, workers) for mini in minis)
        if figures and not sums.norms:
            break  # no step was made: the figures are of the epoch before
        found = sums.means(workers)
        figures = found | {
            "epochs": epoch + 1,
            "first_ratio": found["first_ratio"] if not epoch else figures["first_ratio"],
        }
        if not went_on:
            break
    return figures


def _step(
    actor: ActorCritic,
    optimizer: Any,
    batch: Batch,
    mini: Sequence[Tensor],
    args: PPOConfig,
    sums: _Sums,
    workers: Workers,
) -> bool:
    """One step of the optimizer on the episodes of a mini-batch that have a reward.

    Returns:
        Whether the policy is still near the one that sampled; where not, no step was made.
    """
    import torch

    learned = batch.episodes.response_mask * batch.keep[:, None]
    total = sum(float(learned[places].sum()) for places in mini)
    if not total:
        return True
    strayed = 0.0
    optimizer.zero_grad(set_to_none=True)
    for places in mini[workers.rank :: workers.count]:
        mask = learned[places]
        if not mask.any():
            continue
        with mixed(mask.device, args):
            loss, told = _loss(actor, batch, places, mask, args)
        (loss * (mask.sum() / total)).backward()
        sums.add(told, mask.sum())
        strayed += float(told["policy_kl"] * mask.sum()) / total
    if args.kl_stop is not None and sum(workers.everyones(strayed)) > args.kl_stop:
        return False
    moving = [p for p in actor.parameters() if p.requires_grad]
    workers.add_gradients(moving)
    norm = float(torch.nn.utils.clip_grad_norm_(moving, args.max_grad_norm))
    if not math.isfinite(norm):
        raise DataError("the gradient is not finite: lower learning_rate, or the rewards' scale")
    optimizer.step()
    sums.norms.append(norm)
    return True


def _loss(
    actor: ActorCritic, batch: Batch, places: Tensor, mask: Tensor, args: PPOConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    rows = batch.episodes.rows(places)
    there = slice(0, rows.length)
    mask = mask[:, there]
    wanted = args.entropy_coefficient != 0
    said = actor(rows.tokens, rows.mask, rows.length, with_entropy=wanted)
    policy = policy_loss(
        said.logprobs,
        batch.logprobs[places, there],
        batch.advantages[places, there],
        mask,
        clip=args.clip,
    )
    value, value_cut = value_loss(
        said.values,
        batch.values[places, there],
        batch.returns[places, there],
        mask,
        clip=args.value_clip,
    )
    loss = policy.loss + args.value_coefficient * value
    if wanted:
        loss = loss - args.entropy_coefficient * masked_mean(said.entropy, mask)
    return loss, {
        "loss": loss.detach(),
        "policy_loss": policy.loss.detach(),
        "value_loss": value.detach(),
        "policy_kl": policy.approx_kl,
        "clip_fraction": policy.clip_fraction,
        "value_clip_fraction": value_cut,
        "ratio": policy.ratio,
    }


class _Sums:
    """Means of figures over the tokens of an epoch."""

    def __init__(self) -> None:
        self._weighted: dict[str, float] = {}
        self._tokens = 0.0
        self.norms: list[float] = []
        self._first_ratio: float | None = None

    def add(self, told: dict[str, Tensor], tokens: Tensor) -> None:
        """Count the figures of a micro-batch."""
        n = float(tokens)
        if self._first_ratio is None:
            self._first_ratio = float(told["ratio"])
        self._tokens += n
        for name, value in told.items():
            self._weighted[name] = self._weighted.get(name, 0.0) + n * float(value)

    def means(self, workers: Workers) -> dict[str, Any]:
        """The figures, by name, over all processes."""
        found = workers.everyones((self._weighted, self._tokens, self._first_ratio))
        tokens = sum(n for _, n, _ in found)
        names = next((names for names, _, _ in found if names), {})
        made: dict[str, Any] = {
            name: sum(sums.get(name, 0.0) for sums, _, _ in found) / tokens for name in names
        }
        made["first_ratio"] = next((first for _, _, first in found if first is not None), None)
        made["grad_norm"] = sum(self.norms) / max(len(self.norms), 1)
        return made


def _minis(episodes: Episodes, args: PPOConfig, order: Tensor | None = None) -> list[list[Tensor]]:
    """Mini-batches of episodes, each as the groups that are in memory at once, of like length.

    Args:
        episodes: All of an update, or of an evaluation.
        args: The sizes.
        order: Shape (B,); as they stand where it is not given.
    """
    import torch

    n = len(episodes.tokens)
    order = torch.arange(n) if order is None else order
    lengths = episodes.mask.sum(dim=1).cpu()
    minis = order.split(max(1, n // args.mini_batches))
    return [
        list(mini[lengths[mini].argsort(stable=True)].split(args.micro_batch_size))
        for mini in minis
    ]
