"""Rewards of tokens, their advantages, and the coefficient of the KL penalty. Pure tensor code.

A response is an episode: the state is what was written so far, an action is a token, the score of
the whole response arrives with its last token, and every token pays for leaving the reference,

    r_t = -beta (log pi(a_t|s_t) - log pi_ref(a_t|s_t)) + [t is last] score

(Ziegler et al. 2019, arXiv 1909.08593, eq. 2; Stiennon et al. 2020, arXiv 2009.01325).

Shapes: B episodes, T tokens, padded on the right; a mask is 1.0 (or True) on response tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 1e-8


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of `values` where `mask` is set, a scalar; 0 where it is set nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True, least: float = 0.0) -> Tensor:
    """`values` with variance 1 (and mean 0) where `mask` is set, 0 elsewhere.

    Equal values have no variance: they come out as 0 (or unchanged in mean), not as NaN.
    Details 11 and 13 of Huang et al. 2024 (arXiv 2403.17031): rewards keep their mean, advantages
    do not.

    Args:
        values: Shape (B, T) or (B,).
        mask: Same shape.
        shift_mean: Whether the mean becomes 0.
        least: What they are divided by at least, see `UsualSpread`.
    """
    mean, variance = _moments(values, mask)
    whitened = (values - mean) * (variance.clamp(min=least * least) + _EPSILON).rsqrt()
    return (whitened if shift_mean else whitened + mean) * mask


def _moments(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance where `mask` is set."""
    count = mask.sum().clamp(min=1)
    mean = (values * mask).sum() / count
    return mean, ((values - mean).square() * mask).sum() / (count - 1).clamp(min=1)


@dataclass(slots=True)
class UsualSpread:
    """How far advantages usually spread: what those of an update are divided by at least.

    Where all responses earn the same, advantages are but the errors of the value function. Made as
    wide as any other update's, they teach noise, and can throw a policy out of an optimum that it
    has reached.
    """

    memory: float
    """What of it stays with each update; 0 remembers nothing."""
    total: float = 0.0
    """Standard deviations so far, the latest with weight 1, each before by `memory` less."""
    weight: float = 0.0
    """The sum of these weights."""

    @property
    def value(self) -> float:
        """A weighted mean of standard deviations; 0 before the first."""
        return self.total / self.weight if self.weight else 0.0

    def update(self, advantages: Tensor, mask: Tensor) -> float:
        """Take note of an update's advantages; what they are divided by at least."""
        spread = float(_moments(advantages, mask)[1].sqrt())
        if self.memory and mask.any() and math.isfinite(spread):
            self.total = self.memory * self.total + spread
            self.weight = self.memory * self.weight + 1.0
        return self.value


def kl_k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """KL of each sampled token, log pi - log pi_ref, nats: unbiased, may be negative."""
    return logprobs - reference


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """KL of each sampled token, exp(d) - 1 - d with d = log pi_ref - log pi, nats: never negative.

    Unbiased too: Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html.
    """
    d = reference - logprobs
    return d.expm1() - d


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """The reward of each token, (B, T): the KL penalty, and the score with the last token.

    Args:
        scores: Shape (B,), of whole responses.
        kl: Shape (B, T), nats a token.
        mask: Shape (B, T); a row with no token gets no reward.
        coefficient: beta.
    """
    rewards = -coefficient * kl * mask
    lengths = mask.sum(dim=1).long()
    last = (lengths - 1).clamp(min=0)
    there = (lengths > 0).to(scores.dtype)
    return rewards.scatter_add(1, last[:, None], (scores * there)[:, None])


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimates and the returns they imply, both (B, T), 0 off the mask.

        delta_t = r_t + gamma V_{t+1} - V_t
        A_t = delta_t + gamma lambda A_{t+1},   G_t = A_t + V_t

    with V = 0 after the last token (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    Args:
        rewards: Shape (B, T).
        values: Shape (B, T), of the state before each token.
        mask: Shape (B, T).
        gamma: Discount a token.
        lam: 1 sums all rewards to come, 0 trusts the value of the next state.
    """
    import torch

    kept = mask.to(values.dtype)
    values, rewards = values * kept, rewards * kept
    advantages = torch.zeros_like(values)
    following = torch.zeros_like(values[:, 0])
    next_value = torch.zeros_like(values[:, 0])
    for t in range(values.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = (delta + gamma * lam * following) * kept[:, t]
        advantages[:, t] = following
        next_value = values[:, t]
    return advantages, (advantages + values) * kept


@dataclass(slots=True)
class KLController:
    """The coefficient of the KL penalty: fixed, or steered to a target (Ziegler et al. 2019, 2.2).

    e = clip(KL / target - 1, -0.2, 0.2),   beta <- beta (1 + episodes e / horizon)
    """

    coefficient: float
    target: float | None = None
    """Nats a response; None keeps the coefficient."""
    horizon: int = 10_000
    """Episodes in which an error of 1 would change the coefficient by its own size."""

    def update(self, kl: float, episodes: int) -> None:
        """Take note of the mean KL, nats a response, of so many episodes."""
        if self.target is None:
            return
        error = min(0.2, max(-0.2, kl / self.target - 1.0))
        self.coefficient *= 1.0 + error * episodes / self.horizon
