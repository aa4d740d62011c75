"""Token sequences read by a causal language model, what they share only once.

    prefill = Prefill(model)
    hidden = prefill.read([(1, 2, 3, 4), (1, 2, 3, 5)])       # reads five tokens: 1 2 3 4 5

The sequences make a tree. It is walked depth first, and the keys and values of the way from its
root to the present branch lie in one buffer a layer: a branch writes its own behind those of its
ancestors, over what its finished sibling left there. So a prefix is neither read twice nor copied,
and stays for the next call; memory does not grow with the number of sequences. The tokens of many
branches pass the rest of the network as one row without padding; only attention goes branch by
branch.

What else is read with a sequence hardly touches its result: a token always meets its keys in the
same order, and attention looks at a multiple of some number of keys, the rest masked out, since
how a sum is rounded depends on its length. With the kernels of torch 2.13 for AVX-512 that makes
results equal to the last bit; elsewhere rounding may differ with what a sequence is read with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

_NAME = "rlaif_tree"
_KEYS = {torch.bfloat16: 128}
"""Keys that attention looks at a multiple of, by the dtype; else `_MOST_KEYS`."""
_MOST_KEYS = 512
_LEAST_ROWS = 32
"""Rows below which a matrix product on a CPU takes another way, and rounds in another way."""
_BLOCK = 512
"""Most tokens of a branch that are read at a time: its mask has a row for each."""
_PACK = 1024
"""Tokens that pass the network together: more are not faster, and take more memory."""
_LAYER_KINDS = frozenset({"full_attention", "sliding_attention"})
_SHIFTING_ROPE = frozenset({"dynamic", "longrope"})
"""Positions that are encoded by the longest sequence of a batch."""
_ALTERED_SCORES = ("softcap", "s_aux")
"""What a model hands to attention where that is more than a weighted mean."""

Path = tuple[int, ...]
"""Tokens from the root of the tree on."""
Stopped = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens of one branch that attend together."""

    depth: int
    """Tokens before them."""
    tokens: Path
    path: int | None
    """The place of the path that ends here."""

    @property
    def end(self) -> int:
        """Tokens up to its last one."""
        return self.depth + len(self.tokens)


def plan(paths: Sequence[Path], held: Path) -> tuple[list[Block], Path]:
    """What to read, in order, and what is held afterwards.

    Args:
        paths: Distinct token sequences, none of them empty.
        held: The sequence whose keys and values are there already.
    """
    blocks: list[Block] = []
    # what parts from the held path late comes first: each subtree stays together
    order = sorted(range(len(paths)), key=lambda i: (-_common(paths[i], held), paths[i]))
    for place in order:
        path = paths[place]
        # the state at the last token is asked for, so that is read even where it is held
        known = min(_common(path, held), len(path) - 1)
        for start in range(known, len(path), _BLOCK):
            tokens = path[start : start + _BLOCK]
            ends = start + len(tokens) == len(path)
            blocks.append(Block(start, tokens, place if ends else None))
        held = path
    return blocks, held


def _common(one: Path, other: Path) -> int:
    """How many tokens two sequences begin with alike."""
    if one[: len(other)] == other:
        return len(other)
    return next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), len(one))


def supported(model: PreTrainedModel) -> bool:
    """Whether every layer of `model` is plain attention, which `Prefill` can put its own for."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        bool(getattr(model, "_supports_attention_backend", False))
        and kinds <= _LAYER_KINDS
        and rope.get("rope_type") not in _SHIFTING_ROPE
        and _agrees(model)
    )


def _agrees(model: PreTrainedModel) -> bool:
    """Whether a short sequence reads the same both ways, up to rounding."""
    path = tuple(range(1, min(40, model.config.get_text_config().vocab_size)))
    plain = read_plain(model, [path[:20], path])
    try:
        ours = Prefill(model).read([path[:20], path])
    except (RuntimeError, AttributeError, TypeError):  # what another kind of attention may raise
        return False
    nearness = torch.nn.functional.cosine_similarity(ours.float(), plain.float(), dim=-1)
    return bool((nearness > 0.999).all())


def read_plain(
    model: PreTrainedModel, paths: Sequence[Path], stopped: Stopped = lambda: False
) -> Tensor:
    """The last hidden state of each path, read one by one; shape (paths, hidden).

    Raises:
        ValueError: a path is empty.
        InterruptedError: `stopped` said so.
    """
    found = []
    for path in _not_empty(paths):
        _go_on(stopped)
        ids = torch.tensor([path], device=model.device)
        with torch.inference_mode():
            states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        found.append(states[0, -1])
    return torch.stack(found)


def _not_empty(paths: Sequence[Path]) -> Sequence[Path]:
    if not all(paths):
        raise ValueError("a path needs at least one token")
    return paths


def _go_on(stopped: Stopped) -> None:
    if stopped():
        raise InterruptedError("reading was stopped")


class Prefill:
    """A model that remembers the last sequence it read.

    Args:
        model: A causal language model in eval mode, on one device; see `supported`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._held: Path = ()
        self._memory: dict[int, tuple[Tensor, Tensor]] = {}
        self._room = 0
        self.tokens_read = 0
        """Tokens that passed the network so far."""

    def forget(self) -> None:
        """Give the memory of the last sequence back."""
        self._held, self._room = (), 0
        self._memory.clear()

    def read(self, paths: Sequence[Path], stopped: Stopped = lambda: False) -> Tensor:
        """The last hidden state of each path, shape (paths, hidden).

        Args:
            paths: Token sequences, in any order.
            stopped: Asked now and then; when it says so, reading ends.

        Raises:
            ValueError: a path is empty.
            InterruptedError: `stopped` said so.
        """
        distinct = list(dict.fromkeys(_not_empty(paths)))
        blocks, held = plan(distinct, self._held)
        found: dict[int, Tensor] = {}
        try:
            with torch.inference_mode(), self._attention():
                self._make_room(max((block.end for block in blocks), default=0))
                for pack in _packs(blocks):
                    _go_on(stopped)
                    self._forward(pack, found)
        except BaseException:
            self.forget()
            raise
        self._held = held
        places = {path: place for place, path in enumerate(distinct)}
        return torch.stack([found[places[path]] for path in paths])

    def _forward(self, pack: Sequence[Block], found: dict[int, Tensor]) -> None:
        tokens = [token for block in pack for token in block.tokens]
        positions = [p for block in pack for p in range(block.depth, block.end)]
        spare = [0] * max(0, _LEAST_ROWS - len(tokens))
        device = self._model.device
        turn = _ROWS.set(_Rows(pack, self, device))
        try:
            hidden = self._model.base_model(
                input_ids=torch.tensor([tokens + spare], device=device),
                position_ids=torch.tensor([positions + spare], device=device),
                use_cache=False,
            ).last_hidden_state[0]
        finally:
            _ROWS.reset(turn)
        self.tokens_read += len(tokens)
        stop = 0
        for block in pack:
            stop += len(block.tokens)
            if block.path is not None:
                found[block.path] = hidden[stop - 1].clone()

    def _make_room(self, keys: int) -> None:
        """Buffers for so many keys, and what is held in them."""
        if keys > self._room:
            self._room = -(-keys // _MOST_KEYS) * _MOST_KEYS
            for layer, (key, value) in self._memory.items():
                self._memory[layer] = (self._grown(key), self._grown(value))

    def _grown(self, old: Tensor) -> Tensor:
        new = old.new_zeros(1, old.shape[1], self._room, old.shape[3])
        new[:, :, : len(self._held)] = old[:, :, : len(self._held)]
        return new

    def memory(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The buffers of a layer, shape (1, heads, keys, size of a head), made like these two."""
        if layer not in self._memory:
            size = (1, key.shape[1], self._room)
            self._memory[layer] = (
                key.new_zeros(*size, key.shape[3]),
                value.new_zeros(*size, value.shape[3]),
            )
        return self._memory[layer]

    @contextmanager
    def _attention(self) -> Iterator[None]:
        before = cast("str", self._model.config._attn_implementation)
        AttentionInterface.register(_NAME, _attend)
        self._model.set_attn_implementation(_NAME)
        try:
            yield
        finally:
            self._model.set_attn_implementation(before)


def _packs(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    pack: list[Block] = []
    size = 0
    for block in blocks:
        if pack and size + len(block.tokens) > _PACK:
            yield pack
            pack, size = [], 0
        pack.append(block)
        size += len(block.tokens)
    if pack:
        yield pack


class _Rows:
    """The blocks that pass the network now, and the masks they attend with."""

    def __init__(self, blocks: Sequence[Block], prefill: Prefill, device: torch.device) -> None:
        self.blocks = blocks
        self.prefill = prefill
        self._device = device
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}

    def mask(
        self, place: int, keys: int, groups: int, spare: int, window: int | None, dtype: torch.dtype
    ) -> Tensor:
        """What block `place` does not attend to, shape (groups * tokens + spare, keys)."""
        kind = (place, groups, window)
        if kind not in self._masks:
            block = self.blocks[place]
            key = torch.arange(keys)
            row = torch.arange(block.depth, block.end)[:, None]
            seen = key <= row
            if window is not None:
                seen &= row - key < window
            seen = torch.cat([seen.repeat(groups, 1), torch.ones(spare, keys, dtype=torch.bool)])
            mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))
            self._masks[kind] = mask.to(self._device)
        return self._masks[kind]


_ROWS: ContextVar[_Rows] = ContextVar("rlaif_rows")


def _attend(
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
    """Attention of every block to itself and to what is before it in the buffers of the layer.

    Query heads that share a head of keys are laid end to end as rows, so the keys are not repeated.

    Raises:
        NotImplementedError: the model does more than a weighted mean.
    """
    del attention_mask, dropout
    if any(more.get(name) is not None for name in _ALTERED_SCORES):
        raise NotImplementedError("attention that alters its scores")
    rows = _ROWS.get()
    keys, values = rows.prefill.memory(module.layer_idx, key, value)
    _, heads, width, size = query.shape
    shared = key.shape[1]
    groups, step = heads // shared, _KEYS.get(query.dtype, _MOST_KEYS)
    out = query.new_zeros(width, heads, value.shape[3])
    start = 0
    for place, block in enumerate(rows.blocks):
        tokens = len(block.tokens)
        stop = start + tokens
        keys[:, :, block.depth : block.end] = key[:, :, start:stop]
        values[:, :, block.depth : block.end] = value[:, :, start:stop]
        looked = -(-block.end // step) * step
        asked = query[:, :, start:stop].reshape(1, shared, groups * tokens, size)
        spare = max(0, _LEAST_ROWS - groups * tokens)
        if spare:
            asked = torch.nn.functional.pad(asked, (0, 0, 0, spare))
        mask = rows.mask(place, looked, groups, spare, sliding_window, query.dtype)
        told = torch.nn.functional.scaled_dot_product_attention(
            asked, keys[:, :, :looked], values[:, :, :looked], attn_mask=mask, scale=scaling
        )
        told = told[0, :, : groups * tokens].reshape(shared, groups, tokens, -1)
        out[start:stop].view(tokens, shared, groups, -1).copy_(told.permute(2, 0, 1, 3))
        start = stop
    return out.unsqueeze(0), None
