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


_LEAVE_SHARE = 0.125
"""Finished rows leave once they are this share: to let them go copies the cache of the others."""
_BLOCK = 256


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

    def to(self, device: Any) -> Episodes:
        """The same on another device."""
        tokens, mask, ended = (t.to(device) for t in (self.tokens, self.mask, self.ended))
        return Episodes(tokens, mask, self.length, ended)

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
    stops = torch.tensor(sorted(ends), dtype=torch.long, device=device)
    rows = torch.arange(len(prompts), device=device)
    over = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    ended = over.clone()
    step = _Steps(policy, tokens, mask, most)
    for t in range(most):
        drawn = draw(step.logits / temperature, generator)
        made[rows, t], there[rows, t] = drawn.where(~over, pad), (~over).long()
        ended[rows] |= (now := torch.isin(drawn, stops) & ~over)
        over = over | now
        gone = int(over.sum())
        if t + 1 == most or gone == len(rows):
            break
        if gone >= _LEAVE_SHARE * len(rows):
            step.keep(~over)
            rows, drawn, over = rows[~over], drawn[~over], over[~over]
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

    def __init__(self, policy: Any, tokens: Tensor, mask: Tensor, most: int) -> None:
        from rlaif.backends.engine import new_cache

        self._policy = policy
        self._mask = mask
        self._cache: Any = new_cache(policy, most)
        self._read(tokens, (mask.cumsum(-1) - 1).clamp(min=0))

    def forward(self, drawn: Tensor) -> None:
        """Read one more token a row."""
        import torch

        self._mask = torch.cat([self._mask, torch.ones_like(drawn)[:, None]], dim=1)
        self._read(drawn[:, None], self._mask.sum(-1, keepdim=True) - 1)

    def keep(self, rows: Tensor) -> None:
        """Forget the rows where `rows` is False."""
        self._mask = self._mask[rows]
        self._cache.batch_select_indices(rows.nonzero().squeeze(-1))

    def _read(self, tokens: Tensor, places: Tensor) -> None:
        import torch

        with torch.no_grad():
            made = self._policy(
                input_ids=tokens,
                attention_mask=self._mask,
                position_ids=places,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = made.past_key_values
        self.logits = made.logits[:, -1].float()


def draw(logits: Tensor, generator: Generator) -> Tensor:
    """One token a row, (B,), each with its probability.

    The vocabulary is cut into blocks: a block is drawn by its mass, then a token within it. That
    takes two random numbers a row instead of one for each word, and no sum over all words that
    rounding could spoil.

    Args:
        logits: Shape (B, V), float32.
        generator: On the device of the logits.
    """
    import torch
    from torch.nn.functional import pad as filled

    p = filled(logits.softmax(-1), (0, -logits.shape[-1] % _BLOCK))
    blocks = p.view(len(p), -1, _BLOCK)
    chances = torch.rand(
        (len(p), 2), generator=generator, dtype=torch.float64, device=logits.device
    )
    block = _inverted(blocks.sum(-1), chances[:, 0])
    return block * _BLOCK + _inverted(blocks[torch.arange(len(p)), block], chances[:, 1])


def _inverted(masses: Tensor, chances: Tensor) -> Tensor:
    """The first place of each row at which the summed masses pass the chance's share of them."""
    import torch

    summed = masses.double().cumsum(-1)
    whole = summed[:, -1:]
    # below the whole, so that a place is found, and above equal sums, so that it has mass
    target = (chances[:, None] * whole).minimum(torch.nextafter(whole, torch.zeros_like(whole)))
    return torch.searchsorted(summed, target, right=True).squeeze(-1)
