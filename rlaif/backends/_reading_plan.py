"""What to read of some token sequences, and behind which of those read before. Pure.

The sequences make a tree, walked depth first: a branch is read behind its ancestors, over what its
finished sibling left there. Several last sequences are remembered, each on a trunk of its own, so
that prompts of two rubrics that take turns do not read each other's instructions away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BLOCK = 64
"""Most tokens that attend together: their scores then stay in the cache of a core."""
_PACK = 1024
"""Tokens that pass the network together: more are not faster, and take more memory."""
_NEAR = 4
"""A path stays on a trunk with which it shares one in so many of the tokens of the shorter."""

Path = tuple[int, ...]
"""Tokens from the root of the tree on."""


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens of one branch that attend together."""

    depth: int
    """Tokens before them."""
    tokens: Path
    path: int | None
    """The place of the path that ends here."""
    trunk: int = 0
    """Where the tokens before them are remembered."""

    @property
    def end(self) -> int:
        """Tokens up to its last one."""
        return self.depth + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Share:
    """The paths that are read on one trunk."""

    trunk: int
    source: int
    """The trunk that remembers their beginning."""
    kept: int
    """How many of its tokens are kept; all where the source is the trunk itself."""
    places: list[int]
    """Which paths."""


def plan(
    paths: Sequence[Path], held: Path, *, block: int = BLOCK, trunk: int = 0
) -> tuple[list[Block], Path]:
    """What to read, in order, and what is held afterwards.

    Args:
        paths: Distinct token sequences, none of them empty.
        held: The sequence whose keys and values are there already.
        block: Most tokens of a block.
        trunk: Where they are.
    """
    blocks: list[Block] = []
    # what parts from the held path late comes first: each subtree stays together
    order = sorted(range(len(paths)), key=lambda i: (-common(paths[i], held), paths[i]))
    for place in order:
        path = paths[place]
        # the state at the last token is asked for, so that is read even where it is held
        known = min(common(path, held), len(path) - 1)
        for start in range(known, len(path), block):
            tokens = path[start : start + block]
            ends = start + len(tokens) == len(path)
            blocks.append(Block(start, tokens, place if ends else None, trunk))
        held = path
    return blocks, held


def common(one: Path, other: Path) -> int:
    """How many tokens two sequences begin with alike."""
    if one[: len(other)] == other:
        return len(other)
    return next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), len(one))


def divide(paths: Sequence[Path], held: Sequence[Path]) -> list[Share]:
    """Which paths are read on which trunk.

    A path that shares little with what any trunk holds gets one for itself and its like, begun with
    a copy of what it shares; the trunk that was used longest ago gives way. What paths share with
    each other is never read twice.

    Args:
        paths: Distinct token sequences, none of them empty.
        held: The sequence that each trunk remembers, the one used last first.
    """
    shares: dict[int, Share] = {}
    order = sorted(range(len(paths)), key=lambda i: paths[i])
    best = {i: _nearest(paths[i], held) for i in order}
    free = [t for t in range(len(held)) if t not in {source for source, _ in best.values()}]
    before: Path = ()
    trunk = 0
    for place in order:
        path = paths[place]
        source, kept = best[place]
        if not before or common(path, before) <= kept:
            near = _NEAR * kept >= min(len(path), len(held[source]))
            trunk = source if near or not free else free.pop()
            if trunk not in shares:
                whole = len(held[source])
                shares[trunk] = Share(trunk, source, whole if trunk == source else kept, [])
        shares[trunk].places.append(place)
        before = path
    return list(shares.values())


def _nearest(path: Path, held: Sequence[Path]) -> tuple[int, int]:
    """The trunk that holds most of the beginning of `path`, and how many tokens of it."""
    shared = [common(path, one) for one in held]
    most = max(shared)
    return shared.index(most), most


def packs(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks that pass the network together, in order."""
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
