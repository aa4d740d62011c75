"""Losses of pairs whose label is a probability. Pure functions of tensors.

With p = 1 and weight 1 they are the losses of TRL's trainers. With p = 1/2 nothing is learned from
a pair that the model does not prefer either way already.
"""

from __future__ import annotations

from typing import Any, Literal

Form = Literal["conservative", "robust"]

MOST_FLIPPED = 0.4
"""Highest flip rate of the robust form: at 1/2 it would divide by zero."""


def soft_dpo_loss(
    delta: Any, p: Any, beta: float, form: Form = "conservative", weight: Any = 1.0
) -> Any:
    """The loss of each pair, nats, where the label is P(chosen preferred) = p.

    With l(x) = -log sigmoid(beta x):

    - conservative: p l(D) + (1 - p) l(-D), the cross-entropy on p. Its minimum is where the model
      prefers the chosen response with probability p, so an unsure label stops pulling there.
      Mitchell 2023, "A note on DPO with noisy preferences and relationship to IPO" (cDPO), with a
      flip rate of its own, 1 - p, for each pair.
    - robust: (p l(D) - (1 - p) l(-D)) / (2 p - 1), whose mean over labels that are flipped with
      probability 1 - p is the loss on the unflipped ones. Chowdhury et al. 2024, "Provably Robust
      DPO" (arXiv 2403.00409), again with a rate for each pair, of at most 0.4; a pair with p under
      1/2 is first turned around.

    Args:
        delta: Shape (n,). D, the log ratio of policy to reference of the chosen response minus that
            of the rejected one, nats.
        p: Shape (n,), 0..1.
        beta: Strength of the pull to the reference.
        form: Which of the two.
        weight: Shape (n,) or a number: how much each pair counts.

    Returns:
        Shape (n,).
    """
    import torch
    from torch.nn.functional import logsigmoid

    if form == "conservative":
        loss = -p * logsigmoid(beta * delta) - (1 - p) * logsigmoid(-beta * delta)
    else:
        turned = torch.where(p < 0.5, -delta, delta)
        flipped = torch.minimum(p, 1 - p).clamp(max=MOST_FLIPPED)
        clean = -(1 - flipped) * logsigmoid(beta * turned)
        loss = (clean + flipped * logsigmoid(-beta * turned)) / (1 - 2 * flipped)
    return weight * loss


def soft_reward_loss(d: Any, p: Any, margin: Any = 0.0, weight: Any = 1.0) -> Any:
    """The cross-entropy of each pair on P(chosen preferred) = p, nats.

    -p log sigmoid(d - m) - (1 - p) log sigmoid(-(d - m)): Lee et al. 2023, "RLAIF" (arXiv
    2309.00267), with the margin m of Touvron et al. 2023, "Llama 2" (arXiv 2307.09288), eq. (2), as
    an offset of the difference. The minimum is at d = m + logit(p). A pair told the other way
    round, with -d, 1 - p and -m, has the same loss.

    Args:
        d: Shape (n,). Reward of the chosen response minus that of the rejected one.
        p: Shape (n,), 0..1.
        margin: Shape (n,) or a number, in units of the reward.
        weight: Shape (n,) or a number: how much each pair counts.

    Returns:
        Shape (n,).
    """
    from torch.nn.functional import logsigmoid

    shifted = d - margin
    return weight * (-p * logsigmoid(shifted) - (1 - p) * logsigmoid(-shifted))
