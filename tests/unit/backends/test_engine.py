from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from rlaif.backends.engine import (  # noqa: E402
    Generated,
    faster_dtype,
    generate,
    output_head,
    read_prefix,
    score_tokens,
)

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12], [5, 6, 7], [30]]
ENDS = [256]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def _generate(model: Any, prompts: list[list[int]] = PROMPTS, **how: Any) -> list[Generated]:
    settings = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 20, "top_logprobs": 3} | how
    seeds = settings.pop("seeds", list(range(len(prompts))))
    return generate(model, pad_id=257, eos_ids=ENDS, prompts=prompts, seeds=seeds, **settings)


def _next_logprobs(model: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)


def test_greedy_is_the_most_likely_token_each_time_even_beside_longer_prompts(model: Any) -> None:
    for prompt, result in zip(PROMPTS, _generate(model, temperature=0.0), strict=True):
        ids = list(prompt)
        for token, logprob in zip(result.token_ids, result.logprobs, strict=True):
            expected = _next_logprobs(model, ids)
            assert token == int(expected.argmax())
            assert logprob == pytest.approx(float(expected[token]), abs=1e-4)
            ids.append(token)


def test_reported_probabilities_are_the_models_own_whatever_the_temperature(model: Any) -> None:
    result = _generate(model, temperature=0.3, top_p=0.8)[1]
    ids = list(PROMPTS[1])
    for token, logprob, top in zip(
        result.token_ids, result.logprobs, result.top_logprobs, strict=True
    ):
        expected = _next_logprobs(model, ids)
        assert logprob == pytest.approx(float(expected[token]), abs=1e-4)
        values, ids_top = expected.topk(3)
        assert [t for t, _ in top] == ids_top.tolist()
        assert [lp for _, lp in top] == pytest.approx(values.tolist(), abs=1e-4)
        ids.append(token)


def test_a_row_depends_on_its_own_seed_alone(model: Any) -> None:
    together = _generate(model)
    for place, prompt in enumerate(PROMPTS):
        (alone,) = _generate(model, [prompt], seeds=[place])
        assert alone.token_ids == together[place].token_ids
    assert together[0].token_ids != together[2].token_ids  # one prompt, two seeds


def test_draws_follow_the_distribution(model: Any) -> None:
    prompt = [40, 41]
    results = _generate(model, [prompt] * 4000, max_new_tokens=1)
    expected = _next_logprobs(model, prompt).exp()
    counts = torch.bincount(torch.tensor([r.token_ids[0] for r in results]), minlength=259) / 4000
    assert float((counts - expected).abs().sum()) / 2 < 0.06  # total variation distance


def test_the_nucleus_leaves_the_tail_out(model: Any) -> None:
    prompt = [40, 41]
    order = _next_logprobs(model, prompt).exp().sort(descending=True)
    size = int((order.values.cumsum(0) < 0.5).sum()) + 1
    allowed = set(order.indices[:size].tolist())
    drawn = {r.token_ids[0] for r in _generate(model, [prompt] * 500, top_p=0.5, max_new_tokens=1)}
    assert drawn <= allowed
    assert len(drawn) > 1 or size == 1


def test_rows_that_end_leave_and_the_rest_go_on_unchanged(model: Any) -> None:
    long = _generate(model, max_new_tokens=60)
    ended = [r for r in long if r.finish_reason == "stop"]
    for result in ended:
        assert result.token_ids[-1] in ENDS
        assert not set(result.token_ids[:-1]) & set(ENDS)
    for result in long:
        if result.finish_reason == "length":
            assert len(result.token_ids) == 60


def test_an_end_token_of_any_row_stops_that_row_only(model: Any) -> None:
    first = _generate(model, max_new_tokens=6)
    end = first[1].token_ids[2]
    again = generate(
        model,
        pad_id=257,
        eos_ids=[end],
        prompts=PROMPTS,
        seeds=range(4),
        temperature=1.0,
        top_p=1.0,
        max_new_tokens=6,
    )
    for before, after in zip(first, again, strict=True):
        cut = before.token_ids.index(end) + 1 if end in before.token_ids else 6
        assert after.token_ids == before.token_ids[:cut]


def test_scores_equal_the_models_log_probabilities(model: Any) -> None:
    prefix, head = read_prefix(model, [5, 6]), output_head(model)
    scores = score_tokens(model, prefix, [7, 8, 9], head=head)
    assert scores == score_tokens(model, prefix, [7, 8, 9], head=head)
    for place, score in enumerate(scores):
        expected = _next_logprobs(model, [5, 6, 7, 8, 9][: 2 + place])
        assert score == pytest.approx(float(expected[[7, 8, 9][place]]), abs=1e-4)
    assert score_tokens(model, prefix, [], head=head) == []
    assert score_tokens(model, prefix, [7], head=head) == pytest.approx(scores[:1], abs=1e-5)


@pytest.mark.parametrize(
    ("prompts", "seeds", "message"),
    [([[1]], [1, 2], "as many seeds"), ([[1], []], [1, 2], "at least one token")],
)
def test_bad_arguments(
    model: Any, prompts: list[list[int]], seeds: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _generate(model, prompts, seeds=seeds)


def test_an_empty_prefix_is_an_error(model: Any) -> None:
    with pytest.raises(ValueError, match="prefix"):
        read_prefix(model, [])


def test_nothing_asked_nothing_done(model: Any) -> None:
    assert _generate(model, []) == []
    assert _generate(model, [[1]], max_new_tokens=0)[0].token_ids == []


def test_it_can_be_stopped(model: Any) -> None:
    with pytest.raises(InterruptedError):
        _generate(model, stopped=lambda: True)


def test_altered_logits_are_followed_or_refused(model: Any) -> None:
    hidden = torch.ones(1, model.config.hidden_size)
    plain = output_head(model)(hidden)
    try:
        model.config.final_logit_softcapping = 5.0
        capped = output_head(model)(hidden)
        assert torch.allclose(capped, 5 * torch.tanh(plain / 5))
        model.config.final_logit_softcapping = None
        model.config.logit_scale = 0.5
        with pytest.raises(ValueError, match="logit_scale"):
            output_head(model)
    finally:
        model.config.final_logit_softcapping = None
        model.config.logit_scale = 1.0


def test_one_dtype_is_faster() -> None:
    assert faster_dtype(0.02) in {"bfloat16", "float32"}
