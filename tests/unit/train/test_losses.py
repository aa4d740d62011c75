from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from rlaif.train.losses import (  # noqa: E402
    MOST_FLIPPED,
    soft_dpo_loss,
    soft_reward_loss,
)

DELTAS = [-30.0, -2.0, -0.3, 0.0, 0.7, 5.0, 40.0]
BETA = 0.3


def t(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64)


def by_hand(delta: float, p: float) -> float:
    return p * math.log1p(math.exp(-BETA * delta)) + (1 - p) * math.log1p(math.exp(BETA * delta))


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_the_conservative_form_is_the_cross_entropy(p: float) -> None:
    found = soft_dpo_loss(t(*DELTAS), t(*[p] * len(DELTAS)), BETA)
    assert found.tolist() == pytest.approx([by_hand(d, p) for d in DELTAS], rel=1e-9)


@pytest.mark.parametrize("form", ["conservative", "robust"])
def test_a_sure_label_gives_the_plain_loss(form: Any) -> None:
    found = soft_dpo_loss(t(*DELTAS), t(*[1.0] * len(DELTAS)), BETA, form)
    plain = -torch.nn.functional.logsigmoid(BETA * t(*DELTAS))
    assert torch.equal(found, plain)


@pytest.mark.parametrize("p", [0.6, 0.7, 0.9])
def test_the_mean_of_the_robust_form_over_flipped_labels_is_the_plain_loss(p: float) -> None:
    delta, rate = t(*DELTAS), t(*[p] * len(DELTAS))
    right = soft_dpo_loss(delta, rate, BETA, "robust")
    flipped = soft_dpo_loss(-delta, rate, BETA, "robust")
    plain = soft_dpo_loss(delta, t(1.0), BETA)
    assert (p * right + (1 - p) * flipped).tolist() == pytest.approx(plain.tolist(), rel=1e-9)


def test_the_robust_form_stays_finite_where_a_label_says_nothing() -> None:
    at_half = soft_dpo_loss(t(2.0), t(0.5), BETA, "robust")
    at_most = soft_dpo_loss(t(2.0), t(1 - MOST_FLIPPED), BETA, "robust")
    assert at_half.tolist() == pytest.approx(at_most.tolist())


@pytest.mark.parametrize("form", ["conservative", "robust"])
def test_a_pair_told_the_other_way_round_has_the_same_loss(form: Any) -> None:
    p = t(0.1, 0.3, 0.45, 0.6, 0.8, 0.9, 1.0)
    there = soft_dpo_loss(t(*DELTAS), p, BETA, form)
    back = soft_dpo_loss(-t(*DELTAS), 1 - p, BETA, form)
    assert there.tolist() == pytest.approx(back.tolist(), rel=1e-9)
    margin = t(*[0.4] * 7)
    there = soft_reward_loss(t(*DELTAS), p, margin)
    back = soft_reward_loss(-t(*DELTAS), 1 - p, -margin)
    assert there.tolist() == pytest.approx(back.tolist(), rel=1e-9)


@pytest.mark.parametrize("form", ["conservative", "robust"])
def test_gradients_are_those_of_differences(form: Any) -> None:
    delta = t(-3.0, -0.5, 0.2, 1.5, 6.0).requires_grad_()
    p, weight = t(0.55, 0.65, 0.8, 0.95, 1.0), t(1.0, 0.5, 2.0, 0.0, 1.0)
    assert torch.autograd.gradcheck(lambda d: soft_dpo_loss(d, p, BETA, form, weight), (delta,))
    margin = t(0.0, 0.3, -0.2, 1.0, 0.5)
    assert torch.autograd.gradcheck(lambda d: soft_reward_loss(d, p, margin, weight), (delta,))


def test_an_unsure_label_pulls_nowhere_at_zero() -> None:
    delta = t(0.0).requires_grad_()
    soft_dpo_loss(delta, t(0.5), BETA).sum().backward()
    assert delta.grad.item() == 0.0


@pytest.mark.parametrize("p", [0.55, 0.7, 0.9])
def test_the_minimum_is_where_the_model_is_as_sure_as_the_label(p: float) -> None:
    logit = math.log(p / (1 - p))
    delta = t(logit / BETA).requires_grad_()
    soft_dpo_loss(delta, t(p), BETA).sum().backward()
    assert delta.grad.item() == pytest.approx(0.0, abs=1e-12)
    d = t(0.8 + logit).requires_grad_()
    soft_reward_loss(d, t(p), t(0.8)).sum().backward()
    assert d.grad.item() == pytest.approx(0.0, abs=1e-12)


def test_a_weight_scales_the_loss_of_its_pair() -> None:
    p = t(0.7, 0.7)
    once = soft_dpo_loss(t(1.0, 1.0), p, BETA)
    found = soft_dpo_loss(t(1.0, 1.0), p, BETA, weight=t(0.0, 3.0))
    assert found.tolist() == pytest.approx([0.0, 3 * once[1].item()])
