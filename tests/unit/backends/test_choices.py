from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from rlaif.backends.choices import (
    Ids,
    choice_logprobs,
    choose,
    continuations,
    spellings_of,
    words_of,
)
from rlaif.types import Sampling

TEXTS = ["<end>", "A", " A", "1", "0", " ", "B"]


class Words:
    """A tokenizer with a vocabulary of seven."""

    all_special_ids = (0,)

    def __len__(self) -> int:
        return len(TEXTS)

    def batch_decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return ["".join(TEXTS[i] for i in row) for row in rows]

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, Any]:
        assert not add_special_tokens
        return {"input_ids": [TEXTS.index(c) for c in text]}


def _spellings(*choices: str) -> Any:
    tokenizer = Words()
    return spellings_of(choices, words_of(tokenizer), tokenizer)


def test_a_choice_is_every_token_that_spells_it_else_as_it_is_tokenized() -> None:
    assert _spellings("A", "1", "10") == {
        "A": ((1,), (2,)),
        "1": ((3,),),
        "10": ((3, 4), (5, 3, 4)),
    }


def test_special_tokens_spell_nothing() -> None:
    assert "<end>" not in words_of(Words())


def test_only_what_spellings_of_several_tokens_need_is_read_behind_the_prompt() -> None:
    assert continuations(_spellings("A", "B")) == []
    assert continuations(_spellings("1", "10")) == [(3,), (5,), (5, 3)]


def _logprob(behind: Ids, token: int) -> float:
    table = {
        ((), 1): 0.2,
        ((), 2): 0.1,
        ((), 3): 0.4,
        ((3,), 4): 0.25,
        ((), 5): 0.2,
        ((5,), 3): 0.5,
        ((5, 3), 4): 0.5,
    }
    return math.log(table[behind, token])


def test_spellings_are_summed_and_a_choice_that_goes_on_is_not_the_shorter_one() -> None:
    found = choice_logprobs(_spellings("A", "1", "10"), _logprob)
    assert {c: math.exp(lp) for c, lp in found.items()} == pytest.approx(
        {"A": 0.3, "1": 0.4 * 0.75, "10": 0.4 * 0.25 + 0.2 * 0.5 * 0.5}
    )


def test_a_chain_of_choices_is_not_taken_off_twice() -> None:
    spellings = {"1": ((3,),), "10": ((3, 4),), "100": ((3, 4, 4),)}
    p = {((), 3): 0.8, ((3,), 4): 0.5, ((3, 4), 4): 0.25}
    found = choice_logprobs(spellings, lambda behind, token: math.log(p[behind, token]))
    assert [math.exp(lp) for lp in found.values()] == pytest.approx([0.4, 0.3, 0.1])


def test_what_rounding_makes_nothing_of_still_has_a_logarithm() -> None:
    spellings = {"1": ((3,),), "10": ((3, 4),)}
    found = choice_logprobs(spellings, lambda *_: 0.0)
    assert found["1"] == pytest.approx(-100.0)


def test_greedy_takes_the_likeliest_choice_whatever_the_seed() -> None:
    logprobs = {"A": math.log(0.3), "B": math.log(0.6)}
    assert {choose(logprobs, Sampling(), seed) for seed in range(20)} == {"B"}


def test_draws_follow_the_choices_probabilities_and_temperature_flattens_them() -> None:
    logprobs = {"A": math.log(0.1), "B": math.log(0.4)}
    for temperature, share in ((1.0, 0.2), (2.0, 1 / 3)):
        sampling = Sampling(temperature=temperature)
        said = [choose(logprobs, sampling, seed) for seed in range(4000)]
        assert said.count("A") / 4000 == pytest.approx(share, abs=0.03)
    assert choose(logprobs, Sampling(temperature=1.0), 7) == choose(
        logprobs, Sampling(temperature=1.0), 7
    )


def test_a_nucleus_leaves_unlikely_choices_out() -> None:
    logprobs = {"A": math.log(0.1), "B": math.log(0.4)}
    sampling = Sampling(temperature=1.0, top_p=0.8)
    assert {choose(logprobs, sampling, seed) for seed in range(100)} == {"B"}
