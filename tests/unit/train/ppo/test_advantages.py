"""Advantages, whitening and penalties against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from rlaif.train.ppo.advantages import (
    KLController,
    UsualSpread,
    gae,
    kl_k1,
    kl_k3,
    masked_mean,
    token_rewards,
    whiten,
)


def test_gae_by_hand() -> None:
    rewards = tensor([[0.0, 0.0, 1.0], [0.5, 2.0, 9.0]])
    values = tensor([[0.5, 0.25, 0.5], [1.0, 1.0, 7.0]])
    mask = tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    advantages, returns = gae(rewards, values, mask, gamma=0.9, lam=0.8)
    last = 1.0 - 0.5
    middle = 0.9 * 0.5 - 0.25 + 0.72 * last
    first = 0.9 * 0.25 - 0.5 + 0.72 * middle
    second_last = 2.0 - 1.0
    second_first = 0.5 + 0.9 * 1.0 - 1.0 + 0.72 * second_last
    expected = tensor([[first, middle, last], [second_first, second_last, 0.0]])
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(returns, (expected + values) * mask)


@settings(deadline=None)  # torch takes its time at first
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_with_lambda_one_returns_are_the_rewards_to_come(b: int, t: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(b, t, generator=generator, dtype=torch.float64)
    values = torch.randn(b, t, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, t + 1, (b, 1), generator=generator)
    mask = (torch.arange(t) < lengths).double()
    _, returns = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    to_come = (rewards * mask).flip(1).cumsum(1).flip(1) * mask
    torch.testing.assert_close(returns, to_come)


def test_the_score_comes_with_the_last_token_and_every_token_pays() -> None:
    mask = tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    made = token_rewards(tensor([2.0, 5.0]), tensor([[0.5, 1.0, 9.0]] * 2), mask, 0.1)
    torch.testing.assert_close(made, tensor([[-0.05, 1.9, 0.0], [0.0, 0.0, 0.0]]))


def test_whitening_shifts_or_keeps_the_mean_and_ignores_padding() -> None:
    values = tensor([[1.0, 3.0, 100.0]])
    mask = tensor([[1.0, 1.0, 0.0]])
    torch.testing.assert_close(
        whiten(values, mask), tensor([[-(0.5**0.5), 0.5**0.5, 0.0]]), atol=1e-6, rtol=0
    )
    kept = whiten(values, mask, shift_mean=False)
    assert masked_mean(kept, mask).item() == pytest.approx(2.0)


def test_advantages_are_not_made_wider_than_they_usually_were() -> None:
    usual, mask = UsualSpread(0.5), torch.ones(1, 2)
    wide, narrow = tensor([[-1.0, 1.0]]), tensor([[-0.01, 0.01]])
    assert usual.value == 0.0
    first = usual.update(wide, mask)
    assert first == pytest.approx(2**0.5)  # n - 1 in the denominator
    torch.testing.assert_close(whiten(wide, mask, least=first), whiten(wide, mask))
    second = usual.update(narrow, mask)
    assert second == pytest.approx((0.5 * 2**0.5 + 0.01 * 2**0.5) / 1.5)
    torch.testing.assert_close(
        whiten(narrow, mask, least=second), narrow / second, atol=1e-6, rtol=0
    )
    assert usual.update(narrow, torch.zeros(1, 2)) == second  # nothing was learned from
    assert usual.update(tensor([[1e38, -1e38]]), mask) == second
    assert UsualSpread(0.0).update(wide, mask) == 0.0


def test_equal_values_whiten_to_zero_not_to_nan() -> None:
    same = torch.full((3, 2), 4.0)
    assert whiten(same, torch.ones(3, 2)).abs().max() == 0
    assert whiten(same[:1, :1], torch.ones(1, 1)).item() == 0
    assert whiten(same, torch.zeros(3, 2)).abs().max() == 0


def test_both_estimators_of_kl_agree_in_the_mean_and_k3_is_never_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(6, generator=generator).log_softmax(0)
    q = torch.randn(6, generator=generator).log_softmax(0)
    exact = (p.exp() * (p - q)).sum()
    for estimator in (kl_k1, kl_k3):
        torch.testing.assert_close((p.exp() * estimator(p, q)).sum(), exact)
    assert (kl_k3(p, q) >= 0).all()
    assert kl_k1(p, q).min() < 0


def test_the_controller_steers_to_its_target() -> None:
    fixed = KLController(0.1)
    fixed.update(100.0, 1000)
    assert fixed.coefficient == 0.1
    high = KLController(0.1, target=6.0, horizon=10_000)
    high.update(60.0, 100)  # ten times the target: the error is cut at 0.2
    assert high.coefficient == pytest.approx(0.1 * (1 + 0.2 * 100 / 10_000))
    near = KLController(0.1, target=6.0, horizon=10_000)
    near.update(5.4, 100)
    assert near.coefficient == pytest.approx(0.1 * (1 - 0.1 * 100 / 10_000))
    assert not math.isnan(near.coefficient)
