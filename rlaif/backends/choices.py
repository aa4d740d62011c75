"""How likely a model says each of some choices, whatever tokens they are spelled with. Pure.

A choice may be a token with and without a space before it, or several tokens: 10 is often 1 and 0.
All its spellings count. Where one choice begins another, it is what is said and not gone on with:
P(1) = P(token 1) - P(token 1) P(token 0 | 1).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rlaif.types import Sampling

Ids = tuple[int, ...]
Spellings = Mapping[str, tuple[Ids, ...]]
"""The ways to spell each choice, in tokens."""

_LEAST = math.exp(-100.0)
"""Stands for a probability that rounding made nothing of: its logarithm is still a number."""


def words_of(tokenizer: Any) -> dict[str, tuple[int, ...]]:
    """The tokens of a vocabulary by their text without spaces around it."""
    special = set(tokenizer.all_special_ids)
    ids = [i for i in range(len(tokenizer)) if i not in special]
    words: dict[str, tuple[int, ...]] = {}
    for i, text in zip(ids, tokenizer.batch_decode([[i] for i in ids]), strict=True):
        word = text.strip()
        words[word] = (*words.get(word, ()), i)
    return words


def spellings_of(choices: Sequence[str], words: Mapping[str, Ids], tokenizer: Any) -> Spellings:
    """The spellings of each choice: every single token that spells it, else as it is tokenized."""
    found: dict[str, tuple[Ids, ...]] = {}
    for choice in choices:
        singles = words.get(choice.strip(), ())
        if singles:
            found[choice] = tuple((i,) for i in singles)
            continue
        several = (
            tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in (choice, f" {choice}")
        )
        found[choice] = tuple(ids for ids in dict.fromkeys(several) if ids)
    return found


def continuations(spellings: Spellings) -> list[Ids]:
    """What the model has to read behind the prompt to know the probability of every spelling."""
    steps = (ids[:n] for ids in _all(spellings) for n in range(1, len(ids)))
    return list(dict.fromkeys(steps))


def choice_logprobs(spellings: Spellings, logprob: Callable[[Ids, int], float]) -> dict[str, float]:
    """The log-probability of each choice, in nats.

    Args:
        spellings: How the choices are spelled.
        logprob: The log-probability of a token behind the prompt and some tokens after it.
    """
    raw = {
        ids: math.exp(sum(logprob(ids[:n], ids[n]) for n in range(len(ids))))
        for ids in _all(spellings)
    }
    net = {ids: p - sum(raw[longer] for longer in _grown(ids, raw)) for ids, p in raw.items()}
    return {
        choice: math.log(max(_LEAST, sum(net[ids] for ids in ways)))
        for choice, ways in spellings.items()
    }


def choose(logprobs: Mapping[str, float], sampling: Sampling, seed: int) -> str:
    """The likeliest choice where the temperature is 0, else one drawn from a stream of its own."""
    ranked = sorted(logprobs, key=lambda choice: -logprobs[choice])
    if sampling.temperature == 0.0:
        return ranked[0]
    best = logprobs[ranked[0]]
    weights = [math.exp((logprobs[c] - best) / sampling.temperature) for c in ranked]
    held, kept = 0.0, 0
    for weight in weights:  # the nucleus: the fewest choices that hold `top_p`
        if kept and held >= sampling.top_p * sum(weights):
            break
        held, kept = held + weight, kept + 1
    stream = random.Random(seed)  # noqa: S311
    return stream.choices(ranked[:kept], weights[:kept])[0]


def _all(spellings: Spellings) -> Iterator[Ids]:
    return (ids for ways in spellings.values() for ids in ways)


def _grown(ids: Ids, known: Mapping[Ids, float]) -> list[Ids]:
    """The spellings that go on where `ids` ends, but for those that go on from one of these."""
    longer = [k for k in known if len(k) > len(ids) and k[: len(ids)] == ids]
    return [k for k in longer if not any(len(j) < len(k) and k[: len(j)] == j for j in longer)]
