"""The losses of PPO against numbers worked out by hand, and their gradients against differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from rlaif.train.ppo.losses import policy_loss, value_loss

ONES = torch.ones(1, 3, dtype=torch.float64)


def test_the_policy_loss_by_hand() -> None:
    old = torch.zeros(1, 3, dtype=torch.float64)
    now = tensor([[math.log(1.5), math.log(0.5), math.log(1.1)]], dtype=torch.float64)
    advantages = tensor([[1.0, -1.0, 2.0]], dtype=torch.float64)
    found = policy_loss(now, old, advantages, ONES, clip=0.2)
    # 1.5 is cut at 1.2; 0.5 at 0.8, which costs more; 1.1 stays
    assert found.loss.item() == pytest.approx((-1.2 + 0.8 - 2.2) / 3)
    assert found.clip_fraction.item() == pytest.approx(2 / 3)
    assert found.ratio.item() == pytest.approx((1.5 + 0.5 + 1.1) / 3)


def test_before_the_first_step_the_ratio_is_one_and_the_kl_zero() -> None:
    logprobs = torch.randn(4, 5)
    found = policy_loss(logprobs, logprobs, torch.randn(4, 5), torch.ones(4, 5), clip=0.2)
    assert found.ratio.item() == 1.0
    assert found.approx_kl.item() == 0.0
    assert found.clip_fraction.item() == 0.0


def test_padding_counts_for_nothing() -> None:
    now = tensor([[0.1, 50.0]])
    mask = tensor([[1.0, 0.0]])
    padded = policy_loss(now, torch.zeros(1, 2), torch.ones(1, 2), mask, clip=0.2)
    alone = policy_loss(now[:, :1], torch.zeros(1, 1), torch.ones(1, 1), mask[:, :1], clip=0.2)
    torch.testing.assert_close(padded, alone)


def test_the_value_loss_by_hand() -> None:
    old = tensor([[1.0, 1.0, 1.0]], dtype=torch.float64)
    now = tensor([[2.0, 1.1, 0.0]], dtype=torch.float64)
    returns = tensor([[3.0, 1.0, 0.0]], dtype=torch.float64)
    loss, cut = value_loss(now, old, returns, ONES, clip=0.2)
    # held near 1.2, 1.1, 0.8: errors 1.8, 0.1, 0.8 against 1.0, 0.1, 0.0
    assert loss.item() == pytest.approx(0.5 * (1.8**2 + 0.1**2 + 0.8**2) / 3)
    assert cut.item() == pytest.approx(2 / 3)
    free, none = value_loss(now, old, returns, ONES, clip=None)
    assert free.item() == pytest.approx(0.5 * (1.0 + 0.01 + 0.0) / 3)
    assert none.item() == 0


def test_gradients_are_those_of_the_formulas() -> None:
    generator = torch.Generator().manual_seed(1)

    def draw() -> torch.Tensor:
        return torch.randn(2, 3, generator=generator, dtype=torch.float64)

    old, advantages, returns = draw(), draw(), draw()
    mask = tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    moving = (old + 0.3 * draw()).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: policy_loss(x, old, advantages, mask, clip=0.2).loss, (moving,)
    )
    assert torch.autograd.gradcheck(
        lambda x: value_loss(x, old, returns, mask, clip=0.2)[0], (moving,)
    )
