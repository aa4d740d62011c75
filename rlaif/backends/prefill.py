"""Token sequences read by a causal language model, what they share only once.

    prefill = Prefill(model)
    hidden = prefill.read([(1, 2, 3, 4), (1, 2, 3, 5)])       # reads five tokens: 1 2 3 4 5

The sequences make a tree. It is walked depth first, and the keys and values of the way from its
root to the present branch lie in one buffer a layer: a branch writes its own behind those of its
ancestors, over what its finished sibling left there. So a prefix is neither read twice nor copied.
The last few sequences that part early stay for the next calls, each in buffers of its own; memory
does not grow with the number of sequences. The tokens of many branches pass the rest of the network
as one row without padding; only attention goes branch by branch.

What else is read with a sequence hardly touches its result: a token always meets its keys in the
same order, and attention looks at a multiple of some number of keys, the rest masked out, since
how a sum is rounded depends on its length. With the kernels of torch 2.13 for AVX-512 that makes
results equal to the last bit; elsewhere rounding may differ with what a sequence is read with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from rlaif.backends._reading_plan import BLOCK, Block, Path, divide, packs, plan
from rlaif.backends._tree_attention import LEAST_ROWS, ROWS, Rows, Trunk, attend

_NAME = "rlaif_tree"
_KERNEL_BLOCK = 512
"""Most tokens of a block where one kernel does all of attention: its mask has a row for each."""
_TRUNKS = 4
"""Sequences that are remembered."""
_LAYER_KINDS = frozenset({"full_attention", "sliding_attention"})
_SHIFTING_ROPE = frozenset({"dynamic", "longrope"})
"""Positions that are encoded by the longest sequence of a batch."""

Stopped = Callable[[], bool]


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
    """A model that remembers the last sequences it read.

    Args:
        model: A causal language model in eval mode, on one device; see `supported`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._trunks = [Trunk() for _ in range(_TRUNKS)]
        """The one used last comes first."""
        self._block = BLOCK if model.device.type == "cpu" else _KERNEL_BLOCK
        self.tokens_read = 0
        """Tokens that passed the network so far."""

    def forget(self) -> None:
        """Give the memory of the last sequences back."""
        for trunk in self._trunks:
            trunk.forget()

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
        found: dict[int, Tensor] = {}
        try:
            with torch.inference_mode(), self._attention():
                blocks, held = self._planned(distinct)
                for pack in packs(blocks):
                    _go_on(stopped)
                    self._forward(pack, found)
        except BaseException:
            self.forget()
            raise
        self._remember(held)
        places = {path: place for place, path in enumerate(distinct)}
        return torch.stack([found[places[path]] for path in paths])

    def _planned(self, paths: Sequence[Path]) -> tuple[list[Block], dict[int, Path]]:
        """What to read, and what each trunk in use holds afterwards. Makes room for it."""
        blocks: list[Block] = []
        held: dict[int, Path] = {}
        shares = divide(paths, [trunk.held for trunk in self._trunks])
        for share in shares:
            if share.source != share.trunk:
                self._trunks[share.trunk].take(self._trunks[share.source], share.kept)
        for share in shares:
            trunk, own = self._trunks[share.trunk], [paths[i] for i in share.places]
            trunk.make_room(max(map(len, own)))
            read, held[share.trunk] = plan(own, trunk.held, block=self._block, trunk=share.trunk)
            blocks += [
                replace(b, path=share.places[b.path]) if b.path is not None else b for b in read
            ]
        return blocks, held

    def _remember(self, held: Mapping[int, Path]) -> None:
        """Keep what each trunk in use holds now, and put those first."""
        for place, last in held.items():
            self._trunks[place].held = last
        idle = [trunk for i, trunk in enumerate(self._trunks) if i not in held]
        self._trunks = [self._trunks[i] for i in held] + idle

    def _forward(self, pack: Sequence[Block], found: dict[int, Tensor]) -> None:
        tokens = [token for block in pack for token in block.tokens]
        positions = [p for block in pack for p in range(block.depth, block.end)]
        spare = [0] * max(0, LEAST_ROWS - len(tokens))
        device = self._model.device
        turn = ROWS.set(Rows(pack, self._trunks))
        try:
            hidden = self._model.base_model(
                input_ids=torch.tensor([tokens + spare], device=device),
                position_ids=torch.tensor([positions + spare], device=device),
                use_cache=False,
            ).last_hidden_state[0]
        finally:
            ROWS.reset(turn)
        self.tokens_read += len(tokens)
        stop = 0
        for block in pack:
            stop += len(block.tokens)
            if block.path is not None:
                found[block.path] = hidden[stop - 1].clone()

    @contextmanager
    def _attention(self) -> Iterator[None]:
        before = cast("str", self._model.config._attn_implementation)
        AttentionInterface.register(_NAME, attend)
        self._model.set_attn_implementation(_NAME)
        try:
            yield
        finally:
            self._model.set_attn_implementation(before)
