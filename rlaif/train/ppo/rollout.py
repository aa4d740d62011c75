"""Responses sampled from a policy, in batches, with a key-value cache.

Sampling is plain: softmax of logits over the temperature, nothing cut off, since a response must
have the probability that the policy is trained on. Finished rows leave the batch.

Shapes: B prompts, P prompt columns padded on the left, T response columns padded on the right.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Episodes(NamedTuple):
    """Prompts with the responses that were sampled."""

    tokens: Tensor
    """(B, P + T)"""
    mask: Tensor
    """(B, P + T), 1 on the tokens of prompt and response; the token that ends a response counts."""
    length: int
    """T"""
    ended: Tensor
    """(B,), whether the response ended by itself."""

    @property
    def response(self) -> Tensor:
        """The response tokens, (B, T)."""
        return self.tokens[:, -self.length :]

    @property
    def response_mask(self) -> Tensor:
        """1.0 on response tokens, (B, T)."""
        return self.mask[:, -self.length :].float()

    def rows(self, places: Tensor) -> Episodes:
        """Some of the episodes, with columns that are padding in all of them cut off."""
        tokens, mask = self.tokens[places], self.mask[places]
        used = mask.any(dim=0).nonzero()
        first, last = int(used[0]), int(used[-1]) + 1
        prompt = tokens.shape[1] - self.length
        return Episodes(
            tokens[:, first:last],
            mask[:, first:last],
            last - max(prompt, first),
            self.ended[places],
        )


def pad_left(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Prompts as one tensor padded on the left, and its mask, both (B, P).

    Raises:
        ValueError: a prompt is empty.
    """
    import torch

    if not all(prompts):
        raise ValueError("a prompt has no tokens")
    width = max(map(len, prompts))
    tokens = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.as_tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return tokens, mask


def sample(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    *,
    most: int,
    ends: Collection[int],
    pad: int,
    temperature: float,
    generator: Generator,
) -> Episodes:
    """A response to each prompt, on the policy's device; cut after the token that ends it.

    Args:
        policy: A causal language model of transformers.
        prompts: Token ids, B of them.
        most: Most tokens of a response.
        ends: The ids that end a response.
        pad: The id that fills up; it never counts, whatever it is.
        temperature: Above 0.
        generator: The chances, on the policy's device; the same state gives the same responses.
    """
    import torch

    device = next(policy.parameters()).device
    tokens, mask = (t.to(device) for t in pad_left(prompts, pad))
    made = torch.full((len(prompts), most), pad, dtype=torch.long, device=device)
    there = torch.zeros((len(prompts), most), dtype=torch.long, device=device)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    stops = torch.tensor(sorted(ends), device=device)
    alive = torch.arange(len(prompts), device=device)
    step = _Steps(policy, tokens, mask)
    for t in range(most):
        drawn = _draw(step.logits / temperature, generator)
        made[alive, t], there[alive, t] = drawn, 1
        over = torch.isin(drawn, stops)
        ended[alive[over]] = True
        if t + 1 == most or over.all():
            break
        if over.any():
            step.keep(~over)
            alive, drawn = alive[~over], drawn[~over]
        step.forward(drawn)
    used = int(there.any(dim=0).sum())
    return Episodes(
        torch.cat([tokens, made[:, :used]], dim=1),
        torch.cat([mask, there[:, :used]], dim=1),
        used,
        ended,
    )


def joined(parts: Sequence[Episodes], order: Tensor, pad: int) -> Episodes:
    """Episodes of several batches as one, in a new order.

    Args:
        parts: Their prompts and responses may have different widths.
        order: Shape (B,), which of them comes where.
        pad: The id that fills up.
    """
    import torch
    from torch.nn.functional import pad as filled

    before = max(part.tokens.shape[1] - part.length for part in parts)
    after = max(part.length for part in parts)
    tokens, masks = [], []
    for part in parts:
        sides = (before - part.tokens.shape[1] + part.length, after - part.length)
        tokens.append(filled(part.tokens, sides, value=pad))
        masks.append(filled(part.mask, sides, value=0))
    ended = torch.cat([part.ended for part in parts])
    return Episodes(torch.cat(tokens)[order], torch.cat(masks)[order], after, ended[order])


class _Steps:
    """A policy read token by token, its cache kept for the rows still alive."""

    def __init__(self, policy: Any, tokens: Tensor, mask: Tensor) -> None:
        self._policy = policy
        self._mask = mask
        self._read(tokens, (mask.cumsum(-1) - 1).clamp(min=0), None)

    def forward(self, drawn: Tensor) -> None:
        """Read one more token a row."""
        import torch

        self._mask = torch.cat([self._mask, torch.ones_like(drawn)[:, None]], dim=1)
        self._read(drawn[:, None], self._mask.sum(-1, keepdim=True) - 1, self._cache)

    def keep(self, rows: Tensor) -> None:
        """Forget the rows where `rows` is False."""
        self._mask = self._mask[rows]
        self._cache.batch_select_indices(rows.nonzero().squeeze(-1))

    def _read(self, tokens: Tensor, places: Tensor, cache: Any) -> None:
        import torch

        with torch.no_grad():
            made = self._policy(
                input_ids=tokens,
                attention_mask=self._mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = made.past_key_values
        self.logits = made.logits[:, -1].float()


def _draw(logits: Tensor, generator: Generator) -> Tensor:
    """One token a row by the Gumbel trick's cheaper cousin: the least exponential over p.

    argmin of E_i / p_i with E_i ~ Exp(1) is i with probability p_i (exact, as in a race), and needs
    no cumulative sum over the vocabulary.
    """
    import torch

    race = torch.empty_like(logits).exponential_(generator=generator)
    return (logits.softmax(-1) / race).argmax(-1)
