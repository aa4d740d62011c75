"""Prompts: which fit, in which order, and how they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.train.ppo.data import PromptRows, chunks


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


ROWS = [{"prompt": "x" * n, "reference": str(n)} for n in (3, 30, 4, 5, 0)]


def test_prompts_that_do_not_fit_are_left_out_and_counted(tokenizer: Any) -> None:
    rows = PromptRows(ROWS, tokenizer, most=10, seed=0)
    assert list(rows.kept) == [0, 2, 3]
    assert rows.left_out == 2
    with pytest.raises(DataError, match="none of 5 prompts has between 1 and 2 tokens"):
        PromptRows(ROWS, tokenizer, most=2, seed=0)


def test_every_pass_takes_each_prompt_once_in_an_order_of_its_own(tokenizer: Any) -> None:
    rows = [{"prompt": f"p{n}"} for n in range(12)]
    prompts = PromptRows(rows, tokenizer, most=10, seed=3)
    drawn = [place for update in range(6) for place in prompts.batch(update, 4)]
    assert sorted(drawn[:12]) == sorted(drawn[12:]) == list(range(12))
    assert drawn[:12] != drawn[12:]
    again = PromptRows(rows, tokenizer, most=10, seed=3)
    assert again.batch(4, 4) == drawn[16:20]  # whatever came before
    other = PromptRows(rows, tokenizer, most=10, seed=4)
    assert [other.batch(u, 4) for u in range(3)] != [drawn[0:4], drawn[4:8], drawn[8:12]]


def test_a_prompt_may_come_several_times_in_a_row(tokenizer: Any) -> None:
    prompts = PromptRows([{"prompt": f"p{n}"} for n in range(5)], tokenizer, most=10, seed=0)
    first, second = prompts.batch(0, 6, each=3), prompts.batch(1, 6, each=3)
    assert first == [first[0]] * 3 + [first[3]] * 3
    assert len({first[0], first[3], second[0], second[3]}) == 4


def test_messages_are_written_in_the_chat_template(tokenizer: Any) -> None:
    chat = [{"role": "user", "content": "hi"}]
    prompts = PromptRows([{"prompt": chat}, {"prompt": "hi"}], tokenizer, most=100, seed=0)
    assert tokenizer.decode(prompts.tokens(0)).endswith("<|start|>assistant\n")
    assert tokenizer.decode(prompts.tokens(1)) == "hi"
    assert prompts.completion(0, "yes") == [{"role": "assistant", "content": "yes"}]
    assert prompts.completion(1, "yes") == "yes"
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        prompts.tokens(0)


def test_other_columns_go_to_the_rewards(tokenizer: Any) -> None:
    rows = PromptRows(ROWS, tokenizer, most=10, seed=0)
    assert rows.columns([2, 0]) == (["xxxx", "xxx"], {"reference": ["4", "3"]})


def test_rows_need_a_prompt(tokenizer: Any) -> None:
    with pytest.raises(SpecError, match="'prompt': no such column"):
        PromptRows([{"text": "x"}], tokenizer, most=10, seed=0)


def test_the_digest_is_that_of_the_prompts(tokenizer: Any) -> None:
    def digest(rows: Any) -> str:
        return PromptRows(rows, tokenizer, most=10, seed=0).digest

    assert digest(ROWS) == digest(ROWS[:1] + ROWS[2:4])
    assert digest(ROWS) != digest(ROWS[:3])


def test_chunks_are_whole_but_the_last() -> None:
    assert [list(part) for part in chunks(range(5), 2)] == [[0, 1], [2, 3], [4]]
