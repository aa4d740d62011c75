"""One update of PPO: what was sampled becomes a batch, and the batch moves the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlaif.train.ppo.actor import ActorCritic, Said, read_last
from rlaif.train.ppo.advantages import gae, kl_k1, kl_k3, masked_mean, token_rewards, whiten
from rlaif.train.ppo.config import PPOConfig
from rlaif.train.ppo.losses import policy_loss, token_logprobs, value_loss
from rlaif.train.ppo.rollout import Episodes

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(slots=True)
class Batch:
    """Episodes with what was said of their tokens when they were sampled. All (B, T) but `keep`."""

    episodes: Episodes
    logprobs: Tensor
    values: Tensor
    entropy: Tensor
    reference: Tensor
    advantages: Tensor
    returns: Tensor
    keep: Tensor
    """(B,), 1.0 for the episodes that are learned from."""

    def settle(
        self, scores: Sequence[float | None], coefficient: float, args: PPOConfig
    ) -> dict[str, Any]:
        """Work out advantages from the scores; the figures of the batch.

        Args:
            scores: One a response; None masks its episode.
            coefficient: beta of the KL penalty.
            args: The settings.
        """
        import torch

        mask, device = self.episodes.response_mask, self.logprobs.device
        self.keep = torch.tensor([s is not None for s in scores], device=device).float()
        given = torch.tensor([s or 0.0 for s in scores], device=device)
        score = given - args.missing_eos_penalty * (~self.episodes.ended).float()
        if args.score_clip is not None:
            score = score.clamp(-args.score_clip, args.score_clip)
        learned = mask * self.keep[:, None]
        k1 = kl_k1(self.logprobs, self.reference) * mask
        k3 = kl_k3(self.logprobs, self.reference) * mask
        penalty = k1 if args.kl_estimator == "k1" else k3
        rewards = token_rewards(score, penalty, learned, coefficient)
        if args.whiten_rewards:
            rewards = whiten(rewards, learned, shift_mean=False)
        advantages, self.returns = gae(
            rewards, self.values, learned, gamma=args.gamma, lam=args.lam
        )
        self.advantages = whiten(advantages, learned) if args.whiten_advantages else advantages
        lengths = mask.sum(dim=1)
        kept = self.keep.sum().clamp(min=1)
        spread = ((given - (given * self.keep).sum() / kept).square() * self.keep).sum() / kept
        return {
            "reward": ((given * self.keep).sum() / kept).item(),
            "reward_sd": spread.sqrt().item(),
            "coverage": self.keep.mean().item(),
            "kl": k1.sum(dim=1).mean().item(),
            "kl_k3": k3.sum(dim=1).mean().item(),
            "kl_coefficient": coefficient,
            "entropy": masked_mean(self.entropy, mask).item(),
            "length": lengths.mean().item(),
            "length_p95": lengths.quantile(0.95).item(),
            "ended": self.episodes.ended.float().mean().item(),
            "value": masked_mean(self.values, learned).item(),
            "return": masked_mean(self.returns, learned).item(),
        }


def make_batch(actor: ActorCritic, reference: Any, episodes: Episodes, args: PPOConfig) -> Batch:
    """What the policy, its value function and the reference say of episodes, without a gradient."""
    import torch

    shape = episodes.response.shape
    logprobs, values, spread, held = (
        torch.zeros(shape, device=episodes.tokens.device) for _ in range(4)
    )
    with torch.no_grad():
        for places in _groups(args):
            rows = episodes.rows(places)
            said = actor(rows.tokens, rows.mask, rows.length)
            there = slice(0, rows.length)
            logprobs[places, there] = said.logprobs
            values[places, there] = said.values
            spread[places, there] = said.entropy
            held[places, there] = _reference(actor, reference, rows, said, args)
    none = torch.zeros(shape, device=logprobs.device)
    mask = episodes.response_mask
    return Batch(
        episodes, logprobs * mask, values * mask, spread, held * mask, none, none, none[:, 0]
    )


def _reference(
    actor: ActorCritic, reference: Any, rows: Episodes, said: Said, args: PPOConfig
) -> Tensor:
    if reference is not None:
        logits, _ = read_last(reference, rows.tokens, rows.mask, rows.length)
        return token_logprobs(logits.float() / args.temperature, rows.response)
    if not hasattr(actor.policy, "disable_adapter"):
        return said.logprobs  # no penalty, no reference: the KL is not known, and not paid
    with actor.reference():
        return actor(rows.tokens, rows.mask, rows.length, with_values=False).logprobs


def learn(
    actor: ActorCritic,
    optimizer: Any,
    batch: Batch,
    chance: Generator,
    args: PPOConfig,
    rate: float,
) -> dict[str, Any]:
    """Move the weights by a batch; the figures of the last epoch.

    The first epoch takes the episodes in the groups in which they were read, so that its first
    ratio is 1 exactly.
    """
    import torch

    for group in optimizer.param_groups:
        group["lr"] = rate
    size = args.batch_size // args.mini_batches
    order = torch.arange(args.batch_size)
    figures: dict[str, Any] = {}
    for epoch in range(args.epochs):
        if epoch:
            order = torch.randperm(args.batch_size, generator=chance, device=chance.device).cpu()
        sums = _Sums()
        for mini in order.split(size):
            _step(actor, optimizer, batch, mini, args, sums)
        if not epoch:
            figures["first_ratio"] = sums.first_ratio
        figures |= {**sums.means(), "epochs": epoch + 1}
        if args.kl_stop is not None and figures["policy_kl"] > args.kl_stop:
            break
    return figures


def _step(
    actor: ActorCritic, optimizer: Any, batch: Batch, mini: Tensor, args: PPOConfig, sums: _Sums
) -> None:
    """One step of the optimizer on the episodes of a mini-batch that have a reward."""
    import torch

    learned = batch.episodes.response_mask * batch.keep[:, None]
    total = learned[mini].sum()
    if not total:
        return
    optimizer.zero_grad(set_to_none=True)
    for places in mini.split(args.micro_batch_size):
        mask = learned[places]
        if not mask.any():
            continue
        loss, told = _loss(actor, batch, places, mask, args)
        share = mask.sum() / total
        (loss * share).backward()
        sums.add(told, mask.sum())
    norm = torch.nn.utils.clip_grad_norm_(
        [p for p in actor.parameters() if p.requires_grad], args.max_grad_norm
    )
    optimizer.step()
    sums.norms.append(float(norm))


def _loss(
    actor: ActorCritic, batch: Batch, places: Tensor, mask: Tensor, args: PPOConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    rows = batch.episodes.rows(places)
    there = slice(0, rows.length)
    mask = mask[:, there]
    with_entropy = args.entropy_coefficient > 0
    said = actor(rows.tokens, rows.mask, rows.length, entropy_gradient=with_entropy)
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
    spread = masked_mean(said.entropy, mask)
    loss = policy.loss + args.value_coefficient * value - args.entropy_coefficient * spread
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
        self.first_ratio = 1.0

    def add(self, told: dict[str, Tensor], tokens: Tensor) -> None:
        """Count the figures of a micro-batch."""
        n = float(tokens)
        if not self._tokens:
            self.first_ratio = float(told["ratio"])
        self._tokens += n
        for name, value in told.items():
            self._weighted[name] = self._weighted.get(name, 0.0) + n * float(value)

    def means(self) -> dict[str, Any]:
        """The figures, by name."""
        made: dict[str, Any] = {k: v / self._tokens for k, v in self._weighted.items()}
        made["grad_norm"] = sum(self.norms) / len(self.norms) if self.norms else None
        return made


def _groups(args: PPOConfig) -> list[Tensor]:
    """The episodes of a batch as the first epoch takes them."""
    import torch

    minis = torch.arange(args.batch_size).split(args.batch_size // args.mini_batches)
    return [places for mini in minis for places in mini.split(args.micro_batch_size)]
