"""Sampling from a tiny policy, and what the policy says of what it sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rlaif.train.ppo.actor import ActorCritic, positions, without_dropout
from rlaif.train.ppo.rollout import Episodes, pad_left, sample
from rlaif.train.ppo.rollout import draw as draw_tokens

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def draw(policy: Any, prompts: list[list[int]] = PROMPTS, seed: int = 0, **other: Any) -> Episodes:
    settings = {"most": 6, "ends": {3}, "pad": 0, "temperature": 1.0} | other
    return sample(policy, prompts, generator=torch.Generator().manual_seed(seed), **settings)


def test_the_same_chances_give_the_same_responses_and_others_do_not(policy: Any) -> None:
    one, same, other = draw(policy), draw(policy), draw(policy, seed=1)
    assert torch.equal(one.tokens, same.tokens)
    assert not torch.equal(one.tokens, other.tokens)


def test_what_is_sampled_has_the_probability_that_the_policy_gives_it(policy: Any) -> None:
    """Against a forward pass over whole texts, without padding or cache."""
    made = draw(policy)
    actor = ActorCritic(policy)
    with torch.no_grad():
        said = actor(made.tokens, made.mask, made.length)
    for row, prompt in enumerate(PROMPTS):
        kept = made.response[row][made.response_mask[row].bool()].tolist()
        whole = torch.tensor([[*prompt, *kept]])
        with torch.no_grad():
            logits = policy(input_ids=whole).logits[0].log_softmax(-1)
        expected = [logits[len(prompt) - 1 + t, token].item() for t, token in enumerate(kept)]
        assert said.logprobs[row, : len(kept)].tolist() == pytest.approx(expected, abs=1e-4)


def test_the_mode_is_sampled_at_a_low_temperature_with_or_without_neighbors(policy: Any) -> None:
    together = draw(policy, temperature=1e-4)
    for row, prompt in enumerate(PROMPTS):
        alone = draw(policy, [prompt], temperature=1e-4)
        kept = together.response[row][together.response_mask[row].bool()]
        assert kept.tolist() == alone.response[0][alone.response_mask[0].bool()].tolist()


def test_a_response_ends_with_its_first_end_token(policy: Any) -> None:
    greedy = draw(policy, temperature=1e-4)
    end = int(greedy.response[0, 2])
    first = greedy.response[0].tolist().index(end)
    made = draw(policy, temperature=1e-4, ends={end})
    assert made.response_mask[0].sum() == first + 1
    assert made.ended[0]
    assert made.response[0, first] == end
    for row in range(3):
        if not made.ended[row]:
            assert end not in made.response[row].tolist()


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 3)
    drawn = draw_tokens(logits, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.012, rtol=0)


def test_rows_lose_the_columns_that_nobody_needs() -> None:
    tokens = torch.tensor([[0, 0, 7, 1, 0, 0], [5, 6, 7, 1, 2, 3]])
    mask = torch.tensor([[0, 0, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    episodes = Episodes(tokens, mask, 3, torch.tensor([True, False]))
    short = episodes.rows(torch.tensor([0]))
    assert short.tokens.tolist() == [[7, 1]]
    assert short.length == 1
    assert short.response.tolist() == [[1]]
    assert episodes.rows(torch.tensor([1, 0])).length == 3


def test_padding_on_the_left_does_not_move_positions() -> None:
    tokens, mask = pad_left([[1], [1, 2, 3]], pad=9)
    assert tokens.tolist() == [[9, 9, 1], [1, 2, 3]]
    assert positions(mask).tolist() == [[0, 0, 0], [0, 1, 2]]
    with pytest.raises(ValueError, match="no tokens"):
        pad_left([[1], []], pad=9)


def test_values_start_at_zero_and_their_gradient_reaches_the_trunk(policy: Any) -> None:
    made, actor = draw(policy), ActorCritic(policy)
    said = actor(made.tokens, made.mask, made.length)
    assert said.values.abs().max() == 0
    assert said.entropy.min() > 0
    torch.nn.init.ones_(actor.value_head.weight)
    policy.zero_grad()
    actor(made.tokens, made.mask, made.length).values.sum().backward()
    assert policy.get_input_embeddings().weight.grad.abs().max() > 0
    policy.zero_grad()


def test_a_separate_value_model_leaves_the_policy_alone(policy: Any, tiny_model: Path) -> None:
    from transformers import AutoModel

    made = draw(policy)
    actor = ActorCritic(policy, AutoModel.from_pretrained(tiny_model, dtype=torch.float32))
    torch.nn.init.ones_(actor.value_head.weight)
    said = actor(made.tokens, made.mask, made.length)
    assert said.values.abs().max() > 0
    policy.zero_grad()
    said.values.sum().backward()
    assert policy.get_input_embeddings().weight.grad is None
    assert actor(made.tokens, made.mask, made.length, with_values=False).values.abs().max() == 0


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing` is deprecated:FutureWarning")
def test_the_reference_is_the_policy_without_its_adapters(tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    made = draw(plain)
    with torch.no_grad():
        before = ActorCritic(plain)(made.tokens, made.mask, made.length).logprobs
    lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    actor = ActorCritic(get_peft_model(plain, lora))
    with torch.no_grad():
        tuned = actor(made.tokens, made.mask, made.length).logprobs
        with actor.reference():
            reference = actor(made.tokens, made.mask, made.length).logprobs
    torch.testing.assert_close(reference, before)
    assert (tuned - before).abs().max() > 1e-3
    with pytest.raises(TypeError, match="reference model"), ActorCritic(plain).reference():
        pass


def test_dropout_is_switched_off() -> None:
    module = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(2, 2))
    without_dropout(module)
    assert torch.equal(module[0](torch.ones(8)), torch.ones(8))


def test_values_may_leave_the_trunk_alone(policy: Any) -> None:
    made, actor = draw(policy), ActorCritic(policy, value_gradient=False)
    torch.nn.init.ones_(actor.value_head.weight)
    policy.zero_grad()
    actor(made.tokens, made.mask, made.length).values.sum().backward()
    assert actor.value_head.weight.grad.abs().max() > 0
    assert policy.get_input_embeddings().weight.grad is None
