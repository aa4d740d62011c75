"""Attention of branches to themselves and to what their trunk remembers.

The kernel of torch for a CPU takes two to three times as long as the matrix products it is made of:
it works in narrow strips, as a whole table of scores might not fit in memory. A branch of a few
dozen tokens has a small one, so on a CPU the products are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from rlaif.backends._reading_plan import Block, Path
from rlaif.backends.engine import exact_products

_STEP = 128
"""Keys that attention looks at a multiple of."""
_ROOM = 512
"""Keys that a buffer has room for a multiple of."""
LEAST_ROWS = 32
"""Rows below which a matrix product on a CPU takes another way, and rounds in another way."""
_LOG2_E = 1.4426950408889634
_ALTERED_SCORES = ("softcap", "s_aux")
"""What a model hands to attention where that is more than a weighted mean."""


class Trunk:
    """Keys and values of the last sequence that was read, in one buffer a layer."""

    def __init__(self) -> None:
        self.held: Path = ()
        self._room = 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def forget(self) -> None:
        """Give the memory back."""
        self.held, self._room = (), 0
        self._layers.clear()

    def take(self, other: Trunk, kept: int) -> None:
        """Hold what `other` does, up to so many tokens."""
        self.held = other.held[:kept]
        self._room = -(-kept // _ROOM) * _ROOM
        self._layers = {
            layer: (_grown(key, kept, self._room), _grown(value, kept, self._room))
            for layer, (key, value) in other._layers.items()
        }

    def make_room(self, keys: int) -> None:
        """Have buffers for so many keys, with what is held in them."""
        if keys > self._room:
            self._room = -(-keys // _ROOM) * _ROOM
            for layer, (key, value) in self._layers.items():
                held = len(self.held)
                grown = (_grown(key, held, self._room), _grown(value, held, self._room))
                self._layers[layer] = grown

    def memory(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The buffers of a layer, shape (heads, keys, size of a head), made like these two."""
        if layer not in self._layers:
            size = (key.shape[1], self._room)
            self._layers[layer] = (
                key.new_zeros(*size, key.shape[3]),
                value.new_zeros(*size, value.shape[3]),
            )
        return self._layers[layer]


def _grown(old: Tensor, held: int, room: int) -> Tensor:
    new = old.new_zeros(old.shape[0], room, old.shape[2])
    new[:, :held] = old[:, :held]
    return new


class Rows:
    """The blocks that pass the network now, and what each of them must not see."""

    def __init__(self, blocks: Sequence[Block], trunks: Sequence[Trunk]) -> None:
        self.blocks = blocks
        self.trunks = trunks
        self._masks: dict[tuple[int, int, int | None], tuple[int, Tensor]] = {}

    def mask(
        self, place: int, groups: int, window: int | None, device: torch.device
    ) -> tuple[int, Tensor]:
        """The key from which on a block may not see all, and its mask from there on.

        The mask is 0 or minus infinity, shape (groups * tokens and some spare rows, keys).
        """
        kind = (place, groups, window)
        if kind not in self._masks:
            block = self.blocks[place]
            low = block.depth if window is None or block.end <= window else 0
            key = torch.arange(low, -(-block.end // _STEP) * _STEP)
            row = torch.arange(block.depth, block.end)[:, None]
            unseen = key > row
            if window is not None:
                unseen |= row - key >= window
            mask = torch.zeros(unseen.shape).masked_fill_(unseen, float("-inf")).repeat(groups, 1)
            spare = -len(mask) % LEAST_ROWS
            mask = torch.nn.functional.pad(mask, (0, 0, 0, spare))
            self._masks[kind] = low, mask.to(device)
        return self._masks[kind]


ROWS: ContextVar[Rows] = ContextVar("rlaif_rows")
"""What passes the network now."""


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention of every block to itself and to what is before it on its trunk.

    Query heads that share a head of keys are laid end to end as rows, so the keys are not repeated.

    Raises:
        NotImplementedError: the model does more than a weighted mean.
    """
    del attention_mask, dropout
    if any(more.get(name) is not None for name in _ALTERED_SCORES):
        raise NotImplementedError("attention that alters its scores")
    rows = ROWS.get()
    _, heads, width, size = query.shape
    shared = key.shape[1]
    groups = heads // shared
    scale = size**-0.5 if scaling is None else scaling
    mean = weighted_mean if query.device.type == "cpu" else kernel_mean
    out = query.new_zeros(width, heads, value.shape[3])
    start = 0
    for place, block in enumerate(rows.blocks):
        tokens = len(block.tokens)
        stop = start + tokens
        keys, values = rows.trunks[block.trunk].memory(module.layer_idx, key, value)
        keys[:, block.depth : block.end] = key[0, :, start:stop]
        values[:, block.depth : block.end] = value[0, :, start:stop]
        low, mask = rows.mask(place, groups, sliding_window, query.device)
        seen = low + mask.shape[1]
        asked = query.new_zeros(shared, len(mask), size)
        asked[:, : groups * tokens] = query[0, :, start:stop].reshape(shared, -1, size)
        told = mean(asked, keys[:, :seen], values[:, :seen], mask, low, scale)
        told = told[:, : groups * tokens].reshape(shared, groups, tokens, -1)
        out[start:stop].view(tokens, shared, groups, -1).copy_(told.permute(2, 0, 1, 3))
        start = stop
    return out.unsqueeze(0), None


def weighted_mean(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, low: int, scale: float
) -> Tensor:
    """Values weighted by the softmax of the scores, shape (heads, rows, size of a head).

    Scores and their sums are float32; each sum is one of sums over equally many keys, so that keys
    behind the last one that is seen change nothing.

    Args:
        query: Shape (heads, rows, size).
        keys: Shape (heads, keys, size), a multiple of `_STEP` keys.
        values: Shape (heads, keys, size of a value).
        mask: Added to the scores of the keys from `low` on, shape (rows, keys - low).
        low: The first key that some row does not see.
        scale: Of the scores.
    """
    with exact_products(query.dtype):
        scores = query.float() @ keys.float().transpose(1, 2)
    scores[:, :, low:] += mask
    # torch takes five times as long for powers of e as for powers of 2
    scores.sub_(scores.amax(-1, keepdim=True)).mul_(scale * _LOG2_E).exp2_()
    total = scores.unflatten(-1, (-1, _STEP)).sum(-1).sum(-1, keepdim=True, dtype=torch.float64)
    return (scores.to(values.dtype) @ values.contiguous()).div_(total)


def kernel_mean(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, low: int, scale: float
) -> Tensor:
    """What `weighted_mean` gives, by the kernel of the device."""
    mask = torch.nn.functional.pad(mask, (low, 0)).to(query.dtype)
    return torch.nn.functional.scaled_dot_product_attention(
        query[None], keys[None], values[None], attn_mask=mask, scale=scale
    )[0]
