from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from rlaif.backends._reading_plan import Block  # noqa: E402
from rlaif.backends._tree_attention import (  # noqa: E402
    LEAST_ROWS,
    Rows,
    Trunk,
    kernel_mean,
    weighted_mean,
)


def _inputs(dtype: torch.dtype, window: int | None = None) -> tuple[torch.Tensor, ...]:
    chance = torch.Generator().manual_seed(0)
    block = Block(130, tuple(range(20)), None)
    low, mask = Rows([block], [Trunk()]).mask(0, 3, window, torch.device("cpu"))
    sizes = ((2, len(mask), 16), (2, 256, 16), (2, 256, 8))
    query, keys, values = (torch.randn(size, generator=chance).to(dtype) for size in sizes)
    return query, keys, values, mask, torch.tensor(low)


def _exactly(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int
) -> torch.Tensor:
    """Attention by its definition, in float64: 20 tokens of three heads behind 130."""
    row = torch.arange(130, 150).repeat(3)[:, None]
    key = torch.arange(256)
    seen = (key <= row) & (row - key < window)
    scores = query[:, :60].double() @ keys.double().transpose(1, 2) * 0.3
    return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ values.double()


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("mean", [weighted_mean, kernel_mean])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_a_weighted_mean_is_what_attention_says(
    mean: object, window: int | None, dtype: torch.dtype, near: float
) -> None:
    query, keys, values, mask, low = _inputs(dtype, window)
    found = mean(query, keys, values, mask, int(low), 0.3)  # type: ignore[operator]
    assert found.dtype is dtype
    expected = _exactly(query, keys, values, window or 1000)
    assert torch.allclose(found[:, :60].double(), expected, atol=near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_behind_the_last_one_seen_change_nothing(dtype: torch.dtype) -> None:
    query, keys, values, mask, low = _inputs(dtype)
    more = torch.nn.functional.pad(mask, (0, 256), value=float("-inf"))
    longer = [torch.cat([x, x.flip(1)], 1) for x in (keys, values)]
    short = weighted_mean(query, keys, values, mask, int(low), 0.3)
    long = weighted_mean(query, *longer, more, int(low), 0.3)
    assert torch.allclose(short.float(), long.float(), atol=1e-6, rtol=2**-8)


def test_only_what_is_behind_a_block_begins_is_masked() -> None:
    _, _, _, mask, low = _inputs(torch.float32)
    assert int(low) == 130
    assert len(mask) % LEAST_ROWS == 0
    assert mask[0].tolist() == [0.0] + [float("-inf")] * 125
    assert (mask[60:] == 0).all()  # spare rows see everything: none of theirs is empty


def test_a_trunk_takes_the_beginning_of_another() -> None:
    one, other = Trunk(), Trunk()
    one.held = (1, 2, 3)
    one.make_room(3)
    key, value = one.memory(0, torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5))
    key[:, :3], value[:, :3] = 7.0, 8.0
    other.take(one, 2)
    assert other.held == (1, 2)
    key[:, :3] = 0.0
    mine, theirs = other.memory(0, key[None], value[None])
    assert (mine.shape, theirs.shape) == ((2, 512, 4), (2, 512, 5))
    assert (mine[:, :2] == 7.0).all()
    assert (mine[:, 2:] == 0.0).all()
    other.make_room(513)
    grown, _ = other.memory(0, key[None], value[None])
    assert grown.shape[1] == 1024
    assert (grown[:, :2] == 7.0).all()
    other.forget()
    assert other.held == ()
