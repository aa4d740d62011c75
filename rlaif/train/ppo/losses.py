"""The losses of PPO, on tokens of responses. Pure tensor code.

Shapes: B episodes, T tokens; a mask is 1.0 (or True) on the tokens that count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rlaif.train.ppo.advantages import masked_mean

if TYPE_CHECKING:
    from torch import Tensor


class PolicyLoss(NamedTuple):
    """The loss, and what tells how far the policy has moved. All scalars."""

    loss: Tensor
    clip_fraction: Tensor
    """Share of tokens whose ratio the clip cut off."""
    approx_kl: Tensor
    """Nats a token between the policy that sampled and this one, by k3."""
    ratio: Tensor
    """Mean of pi / pi_old; 1 before the first step."""


def policy_loss(
    logprobs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, *, clip: float
) -> PolicyLoss:
    """The clipped surrogate, as a loss (Schulman et al. 2017, arXiv 1707.06347, eq. 7).

        L = mean_t max(-A_t ratio_t, -A_t clip(ratio_t, 1 - clip, 1 + clip))

    Args:
        logprobs: Shape (B, T), of the policy now; the gradient flows through it.
        old: Shape (B, T), of the policy that sampled.
        advantages: Shape (B, T).
        mask: Shape (B, T).
        clip: How far the ratio may leave 1 and still earn.
    """
    log_ratio = (logprobs - old) * mask
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip, 1.0 + clip)
    with_clip = plain.maximum(clipped)
    cut = (clipped > plain).to(mask.dtype)
    return PolicyLoss(
        masked_mean(with_clip, mask),
        masked_mean(cut, mask).detach(),
        masked_mean(ratio - 1.0 - log_ratio, mask).detach(),
        masked_mean(ratio, mask).detach(),
    )


def value_loss(
    values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, *, clip: float | None
) -> tuple[Tensor, Tensor]:
    """Half the squared error of the value function, clipped, and the share of tokens clipped.

        L = 1/2 mean_t max((V_t - G_t)^2, (clip(V_t, V_old - clip, V_old + clip) - G_t)^2)

    Detail 9 of "The 37 implementation details of PPO" (Huang et al. 2022), kept in 2403.17031.

    Args:
        values: Shape (B, T), now; the gradient flows through it.
        old: Shape (B, T), when the episodes were sampled.
        returns: Shape (B, T).
        mask: Shape (B, T).
        clip: How far a value may move in one batch; None clips nothing.
    """
    plain = (values - returns).square()
    if clip is None:
        return 0.5 * masked_mean(plain, mask), mask.new_zeros(())
    near = old + (values - old).clamp(-clip, clip)
    held = (near - returns).square()
    cut = (held > plain).to(mask.dtype)
    return 0.5 * masked_mean(plain.maximum(held), mask), masked_mean(cut, mask).detach()
