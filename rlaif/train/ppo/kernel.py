"""Log-probabilities of chosen tokens, and entropies, without a second table as wide as the words.

A log-softmax over a vocabulary of 50,000 needs several copies of the largest tensor there is in
training a small model. Here the logits are read a few rows at a time; what is kept for the gradient
is the logits themselves and two numbers a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

_CHUNK = 1 << 21
"""Most logits that are worked on at once."""


def spoken(
    logits: Tensor, tokens: Tensor, temperature: float = 1.0, *, with_entropy: bool = True
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of `tokens`, and entropies of their distributions, nats, at least float32.

    With z the logits over the temperature, p their softmax and H its entropy:

        d log p_a / d z_j = [j = a] - p_j,   d H / d z_j = -p_j (log p_j + H)

    Args:
        logits: Shape (..., vocabulary), of any floating type.
        tokens: Shape (...).
        temperature: Above 0.
        with_entropy: False spares the work, and gives zeros without a gradient.
    """
    shape = tokens.shape
    flat = logits.reshape(-1, logits.shape[-1])
    found = _Spoken.apply(flat, tokens.reshape(-1), temperature, with_entropy)
    logprobs, entropies = cast("tuple[Tensor, Tensor]", found)
    return logprobs.reshape(shape), entropies.reshape(shape)


class _Spoken(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, tokens: Tensor, temperature: float, with_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        n = len(tokens)
        chosen, norm, entropy = (logits.new_zeros(n, dtype=_precision(logits)) for _ in range(3))
        for rows in _chunks(logits):
            z = _tempered(logits[rows], temperature)
            norm[rows] = z.logsumexp(-1)
            chosen[rows] = z.gather(-1, tokens[rows, None]).squeeze(-1)
            if with_entropy:
                p = (z - norm[rows, None]).exp_()
                entropy[rows] = norm[rows] - p.mul_(z).sum(-1)
        ctx.save_for_backward(logits, tokens, norm, entropy)
        ctx.temperature, ctx.with_entropy = temperature, with_entropy
        return chosen - norm, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None, None, None]:
        logits, tokens, norm, entropy = ctx.saved_tensors
        of_logprob, of_entropy = gradients
        made = torch.empty_like(logits)
        for rows in _chunks(logits):
            z = _tempered(logits[rows], ctx.temperature)
            logp = z - norm[rows, None]
            p = logp.exp()
            told = torch.zeros_like(norm[rows]) if of_logprob is None else of_logprob[rows]
            slope = -told[:, None]
            if ctx.with_entropy and of_entropy is not None:
                slope = slope - of_entropy[rows, None] * logp.add_(entropy[rows, None])
            p.mul_(slope).scatter_add_(-1, tokens[rows, None], told[:, None])
            made[rows] = p if ctx.temperature == 1 else p.div_(ctx.temperature)
        return made, None, None, None


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    z = logits.to(_precision(logits))
    return z if temperature == 1 else z / temperature


def _precision(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _chunks(logits: Tensor) -> Iterator[slice]:
    size = max(1, _CHUNK // logits.shape[-1])
    for start in range(0, logits.shape[0], size):
        yield slice(start, start + size)
