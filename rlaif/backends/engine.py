"""Batched sampling and exact token scoring for causal language models, on token ids.

Written for small models on a CPU, where the two costs that matter are the copies that a growing
key/value cache makes at every token and the rows that finished but stay in the batch; right for
any transformers causal language model on any one device. Nothing is kept between calls.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

_NUCLEUS_CANDIDATES = 512  # tokens looked at first when a nucleus is cut
_DROP_SHARE = 0.125  # finished rows leave the batch once they are this share of it
_ALTERED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


@dataclass(slots=True)
class Generated:
    """One sampled continuation."""

    token_ids: list[int] = field(default_factory=list)
    """Ends with the end-of-sequence token when `finish_reason` is `stop`."""
    logprobs: list[float] = field(default_factory=list)
    """Nats, of the model's own distribution: before temperature and nucleus."""
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)
    """For each token the most likely (token id, log-probability)."""
    finish_reason: Literal["stop", "length"] = "length"


class _GrowingLayer(DynamicLayer):
    """A cache layer that writes into a buffer with room to spare instead of copying every token."""

    def __init__(self, spare: int) -> None:
        super().__init__()
        self._spare = spare
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            room = (*key_states.shape[:2], end + self._spare, key_states.shape[-1])
            grown = (key_states.new_empty(room), value_states.new_empty(room))
            if start:
                grown[0][:, :, :start] = self.keys
                grown[1][:, :, :start] = self.values
            self._buffers = grown
        self._buffers[0][:, :, start:end] = key_states
        self._buffers[1][:, :, start:end] = value_states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._buffers = None


@dataclass(frozen=True, slots=True)
class Prefix:
    """Tokens that were read, with the model's state after them."""

    length: int
    """Tokens."""
    cache: DynamicCache
    last_hidden: Tensor
    """Shape (1, hidden): what predicts the next token."""


Head = Callable[[Tensor], Tensor]
"""Hidden states, shape (..., hidden), to float32 logits, shape (..., vocabulary)."""


def output_head(model: PreTrainedModel) -> Head:
    """The output projection of `model` in float32: bfloat16 logits tie and round too coarsely.

    Raises:
        ValueError: the model alters its logits after the projection, in a way not known here.
    """
    config = model.config
    capped = getattr(config, "final_logit_softcapping", None)
    for name in _ALTERED_LOGITS[1:]:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise ValueError(f"models with '{name}' are not supported here")
    layer = model.get_output_embeddings()
    weight = layer.weight.detach().float()
    bias = layer.bias.detach().float() if getattr(layer, "bias", None) is not None else None

    def head(hidden: Tensor) -> Tensor:
        with exact_products(hidden.dtype):
            logits = torch.nn.functional.linear(hidden.float(), weight, bias)
        return torch.tanh(logits / capped) * capped if capped else logits

    return head


@contextmanager
def exact_products(dtype: torch.dtype) -> Iterator[None]:
    """Products of float32 tensors that hold values of `dtype`, as fast as they are exact.

    Where both factors hold bfloat16 values, products of bfloat16 with sums in float32 lose nothing,
    and take half the time.
    """
    if dtype is not torch.bfloat16:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def new_cache(model: PreTrainedModel, spare: int) -> DynamicCache:
    """An empty cache; with room to grow where every layer attends to everything before it."""
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(config, "sliding_window", None):
        return DynamicCache(config=config)
    cache = DynamicCache()
    cache.layers = [_GrowingLayer(spare) for _ in range(config.num_hidden_layers)]
    return cache


def _nucleus(probs: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """(probabilities, token ids), falling, zero outside the smallest set with mass `top_p`.

    Sorting a whole vocabulary costs more than a small model's step, so only as many of the
    likeliest tokens are looked at as the widest nucleus of the batch needs.
    """
    size = probs.shape[-1]
    width = min(_NUCLEUS_CANDIDATES, size)
    values, ids = probs.topk(width, dim=-1)
    while width < size and bool((values.sum(-1) < top_p).any()):
        width = min(8 * width, size)
        values, ids = probs.topk(width, dim=-1)
    before = values.cumsum(-1, dtype=torch.float64) - values
    return values.masked_fill(before >= top_p, 0.0), ids


def draw(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> Tensor:
    """One token a row: the row's cumulative distribution inverted at its own uniform number."""
    if temperature == 0.0:
        return logits.argmax(-1)
    probs = torch.softmax(logits / temperature, dim=-1)
    ids: Tensor | None = None
    if top_p < 1.0:
        probs, ids = _nucleus(probs, top_p)
    cumulative = probs.cumsum(-1, dtype=torch.float64)
    target = uniforms.unsqueeze(-1) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True)
    index = index.clamp_(max=probs.shape[-1] - 1)
    return index.squeeze(-1) if ids is None else ids.gather(-1, index).squeeze(-1)


def _prefill(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_id: int, spare: int
) -> tuple[DynamicCache, Tensor, Tensor]:
    """Cache, last hidden states and mask, one row a prompt; equal prompts are read once."""
    distinct = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
    width = max(map(len, distinct))
    ids = torch.full((len(distinct), width), pad_id)
    mask = torch.zeros(len(distinct), width, dtype=torch.long)
    for row, prompt in enumerate(distinct):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    cache = new_cache(model, spare)
    hidden = model.base_model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp_(min=0),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    place = {prompt: row for row, prompt in enumerate(distinct)}
    rows = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=model.device)
    cache.batch_select_indices(rows)
    return cache, hidden[rows, -1], mask[rows]


def streams(seeds: Sequence[int], steps: int, device: torch.device) -> Tensor:
    """Uniform numbers, shape (rows, steps), each row from its own seed; the same on any device."""
    rows = [
        torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in seeds
    ]
    return torch.stack(rows).to(device)


def _record(result: Generated, token: int, logprob: float, top: list[tuple[int, float]]) -> None:
    result.token_ids.append(token)
    result.logprobs.append(logprob)
    result.top_logprobs.append(top)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    *,
    pad_id: int,
    eos_ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    top_logprobs: int = 0,
    head: Head | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Generated]:
    """One sampled continuation of each prompt, all in one batch, in order.

    Args:
        model: A causal language model in eval mode.
        pad_id: Fills the left of shorter prompts; it is masked out.
        eos_ids: Tokens that end a continuation.
        prompts: Token ids; none may be empty.
        seeds: One a prompt. A row draws from its own stream, untouched by its neighbours.
        temperature: 0 takes the most likely token.
        top_p: Nucleus mass; 1 draws from the whole vocabulary.
        max_new_tokens: Most tokens to add to each prompt.
        top_logprobs: How many of the most likely tokens to report at each position.
        head: `output_head(model)`, to save making it again.
        stopped: Asked before every token; when it says so, `InterruptedError` is raised.

    Raises:
        ValueError: seeds and prompts differ in number, or a prompt is empty.
        InterruptedError: `stopped` said so.
    """
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts need as many seeds, got {len(seeds)}")
    if not all(prompts):
        raise ValueError("a prompt needs at least one token")
    results = [Generated() for _ in prompts]
    if not prompts or max_new_tokens <= 0:
        return results
    head = head or output_head(model)
    uniforms = streams(seeds, max_new_tokens, model.device)
    ends = frozenset(eos_ids)
    cache, hidden, mask = _prefill(model, prompts, pad_id, max_new_tokens)
    alive = list(range(len(prompts)))  # the result that each row of the batch belongs to
    finished: set[int] = set()

    for step in range(max_new_tokens):
        if stopped():
            raise InterruptedError("generation was stopped")
        logits = head(hidden)
        tokens = draw(logits, uniforms[alive, step], temperature, top_p)
        logprobs = logits.log_softmax(-1)
        chosen = logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).tolist()
        top = logprobs.topk(top_logprobs, dim=-1)
        tops = [
            list(zip(ids, values, strict=True))
            for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]
        for row, token in enumerate(tokens.tolist()):
            if alive[row] in finished:
                continue
            _record(results[alive[row]], token, chosen[row], tops[row])
            if token in ends:
                results[alive[row]].finish_reason = "stop"
                finished.add(alive[row])
        waiting = [row for row, index in enumerate(alive) if index not in finished]
        if not waiting or step + 1 == max_new_tokens:
            break
        if len(alive) - len(waiting) >= _DROP_SHARE * len(alive):
            rows = torch.tensor(waiting, device=model.device)
            cache.batch_select_indices(rows)
            mask, tokens = mask[rows], tokens[rows]
            alive = [alive[row] for row in waiting]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=-1)
        hidden = model.base_model(
            input_ids=tokens.unsqueeze(-1),
            attention_mask=mask,
            position_ids=mask.sum(-1, keepdim=True) - 1,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
    return results


@torch.inference_mode()
def read_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> Prefix:
    """What `score_tokens` needs of the tokens before a continuation; read once, used many times.

    Raises:
        ValueError: the prefix is empty.
    """
    if not prefix:
        raise ValueError("the prefix needs at least one token")
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([list(prefix)], device=model.device)
    hidden = model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
    return Prefix(len(prefix), cache, hidden.last_hidden_state[0, -1:])


@torch.inference_mode()
def score_tokens(
    model: PreTrainedModel, prefix: Prefix, continuation: Sequence[int], *, head: Head
) -> list[float]:
    """The log-probability, in nats, of each token of `continuation` after `prefix`.

    One forward pass over one unpadded sequence: a score never depends on what else is scored,
    nor on whether the prefix was read before.
    """
    if not continuation:
        return []
    hidden = prefix.last_hidden
    if len(continuation) > 1:
        cache = copy.deepcopy(prefix.cache)
        ids = torch.tensor([list(continuation[:-1])], device=model.device)
        rest = model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
        hidden = torch.cat([hidden, rest.last_hidden_state[0]])
    given = torch.tensor(continuation, device=model.device).unsqueeze(-1)
    scores: list[float] = head(hidden).log_softmax(-1).gather(-1, given).squeeze(-1).tolist()
    return scores


def faster_dtype(seconds: float = 0.8) -> Literal["bfloat16", "float32"]:
    """The dtype with the faster matrix product, of the shape of a small model's layer, here.

    bfloat16 wins several-fold on a GPU and with AVX512_BF16 or AMX, and loses on older
    processors, where it is emulated.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rates: dict[Literal["bfloat16", "float32"], float] = {}
    for name in ("bfloat16", "float32"):
        dtype = getattr(torch, name)
        left = torch.ones(128, 576, dtype=dtype, device=device)
        weight = torch.ones(1536, 576, dtype=dtype, device=device)
        torch.nn.functional.linear(left, weight)  # the first call sets up the kernel
        start, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - start) < seconds / 2:
            torch.nn.functional.linear(left, weight).sum().item()
            count += 1
        rates[name] = count / spent
    return max(rates, key=lambda name: rates[name])
