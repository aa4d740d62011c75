"""Log-probabilities and entropies a few rows at a time, against those of the whole softmax."""

from __future__ import annotations

import math

import pytest
import torch

from rlaif.train.ppo import kernel
from rlaif.train.ppo.kernel import spoken


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [1, 20, 1 << 21])
def test_they_are_those_of_the_softmax(
    monkeypatch: pytest.MonkeyPatch, temperature: float, chunk: int
) -> None:
    monkeypatch.setattr(kernel, "_CHUNK", chunk)
    logits = torch.randn(2, 3, 7, dtype=torch.float64)
    tokens = torch.randint(7, (2, 3))
    whole = (logits / temperature).log_softmax(-1)
    logprobs, entropies = spoken(logits, tokens, temperature)
    torch.testing.assert_close(logprobs, whole.gather(-1, tokens[..., None])[..., 0])
    torch.testing.assert_close(entropies, -(whole.exp() * whole).sum(-1))


def test_entropy_of_even_chances_is_the_logarithm_of_their_number() -> None:
    _, entropies = spoken(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))
    assert entropies.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_gradients_are_those_of_the_formulas(temperature: float) -> None:
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor([4, 0, 2])
    assert torch.autograd.gradcheck(lambda x: spoken(x, tokens, temperature), (logits,))
    assert torch.autograd.gradcheck(lambda x: spoken(x, tokens, temperature)[0], (logits,))
    assert torch.autograd.gradcheck(lambda x: spoken(x, tokens, temperature)[1], (logits,))


def test_without_entropy_there_is_none_and_the_gradient_stays() -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    tokens = torch.tensor([4, 0, 2])
    logprobs, entropies = spoken(logits, tokens, with_entropy=False)
    assert entropies.abs().max() == 0
    logprobs.sum().backward()
    given = logits.grad.clone()
    logits.grad = None
    logits.log_softmax(-1).gather(-1, tokens[:, None]).sum().backward()
    torch.testing.assert_close(given, logits.grad)


def test_half_precision_is_summed_up_in_full() -> None:
    logits = torch.randn(2, 50_000).bfloat16().requires_grad_()
    tokens = torch.tensor([3, 49_999])
    logprobs, entropies = spoken(logits, tokens)
    assert logprobs.dtype is entropies.dtype is torch.float32
    whole = logits.double().log_softmax(-1)
    torch.testing.assert_close(
        logprobs.double(), whole.gather(-1, tokens[:, None])[:, 0], atol=1e-4, rtol=0
    )
    logprobs.sum().backward()
    assert logits.grad.dtype is torch.bfloat16
