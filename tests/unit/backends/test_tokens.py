"""Tokens of a request: bounds that hold, and estimates that are near."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends.tokens import (
    TokenCounter,
    estimate_tokens,
    most_input_tokens,
    most_output_tokens,
    token_counter,
)
from rlaif.types import Message, Request, Sampling


def ask(text: str, **more: object) -> Request:
    return Request((Message("user", text),), **more)  # type: ignore[arg-type]


@given(st.text())
def test_the_bound_holds_for_a_token_a_byte(text: str) -> None:
    request = Request((Message("system", text), Message("user", text)))
    assert most_input_tokens(request) >= 2 * len(text.encode("utf-8", "surrogatepass"))


def test_the_bound_counts_a_lone_surrogate_and_a_schema() -> None:
    assert most_input_tokens(ask("\ud800")) > most_input_tokens(ask(""))
    schema = {"type": "object", "properties": {"verdict": {"enum": ["A", "B"]}}}
    assert most_input_tokens(ask("", json_schema=schema)) > most_input_tokens(ask("")) + 100


def test_a_reply_is_bounded_by_its_sampling_and_the_thinking_of_the_model() -> None:
    request = ask("hi", sampling=Sampling(max_tokens=100))
    assert most_output_tokens("server/x", request) == 100
    assert most_output_tokens("openai/gpt-4o", request) == 100
    assert most_output_tokens("openai/o3", request) > 1000
    likelihood = Request((Message("assistant", "hi"),), task="likelihood")
    assert most_output_tokens("server/x", likelihood) == 1


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # counted with OpenAI's o200k vocabulary
        ("The capital of France is Paris, and it has been so for many centuries now. " * 20, 341),
        ("def add(a: int, b: int) -> int:\n    return a + b\n\n\n" * 20, 380),
        ("Столица Франции — Париж, и так было уже много веков подряд. " * 20, 361),
        ("法国的首都是巴黎，几百年来一直如此。" * 20, 240),
        (
            "Die Hauptstadt Frankreichs ist schon seit vielen Jahrhunderten Paris. Für mich. " * 20,
            301,
        ),
    ],
    ids=["English", "code", "Russian", "Chinese", "German"],
)
def test_an_estimate_is_near(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == pytest.approx(tokens, rel=0.4)


def test_an_estimate_of_english_prose_is_nearer() -> None:
    text = (
        "Both answers explain how the moon pulls on the oceans. The first one adds why there are "
        "two tides a day, with a short example, and names its sources; the second one repeats the "
        "question and ends early. I prefer the first, although it is longer than it needs to be.\n"
    )
    assert estimate_tokens(text) == pytest.approx(58, rel=0.15)  # counted with o200k


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens_by_much(a: str, b: str) -> None:
    assert estimate_tokens(a) >= 0
    assert estimate_tokens(a + a) <= 2 * estimate_tokens(a) + 1e-6


def test_without_a_tokenizer_it_is_an_estimate() -> None:
    counter = TokenCounter()
    assert counter.source == "estimate"
    text = "some words of a prompt " * 10
    assert counter.count(ask(text)) == round(estimate_tokens(text)) + 4
    claude = token_counter("anthropic/claude-haiku-4-5")
    assert claude.count(ask(text)) == round(1.25 * estimate_tokens(text)) + 4


def test_the_first_thousand_are_counted_and_the_rest_follow_in_proportion() -> None:
    asked = 0

    def exact(text: str) -> int:
        nonlocal asked
        asked += 1
        return 2 * round(estimate_tokens(text))

    counter = TokenCounter(exact)
    text = "abcdefghij" * 100  # 190 by the estimate
    counts = [counter.count(ask(text)) for _ in range(1500)]
    assert asked == 1000
    assert set(counts) == {384}
    assert counter.source == "tokenizer"


def test_a_local_models_tokenizer_counts(tiny_model: Path) -> None:
    from tokenizers import Tokenizer

    path = tiny_model / "tokenizer.json"
    counter = token_counter("local/x", tokenizer=path)
    text = "How many tokens is this? Ünïcode, too."
    exact = len(Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False).ids)
    assert counter.count(ask(text)) == exact + 4
    assert counter.count(ask("\ud800")) > 4
    assert counter.source == "tokenizer"


def test_a_broken_tokenizer_is_none(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    assert token_counter("local/x", tokenizer=path).source == "estimate"


@pytest.fixture
def tiktoken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A tiktoken that makes one token a character; the vocabularies that it opened."""
    opened: list[str] = []

    def get_encoding(name: str) -> object:
        opened.append(name)
        return SimpleNamespace(encode=lambda text, disallowed_special: list(text))

    def encoding_name_for_model(name: str) -> str:
        return {"gpt-5.1": "o200k_base"}[name]

    made = SimpleNamespace(
        get_encoding=get_encoding, encoding_name_for_model=encoding_name_for_model
    )
    monkeypatch.setitem(sys.modules, "tiktoken", made)  # type: ignore[arg-type]
    return opened


def test_tiktoken_counts_where_it_has_the_vocabulary(tiktoken: list[str], tmp_path: Path) -> None:
    def counter(model: str) -> TokenCounter:
        return token_counter(model, tiktoken_cache=tmp_path)

    assert counter("openai/gpt-5.1").source == "estimate"
    assert tiktoken == []  # it would fetch the vocabulary
    url = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_text("")
    assert counter("openai/gpt-5.1").count(ask("twelve chars")) == 12 + 4
    assert counter("openai/unheard-of").source == "estimate"
    assert counter("server/gpt-5.1").source == "estimate"
    assert tiktoken == ["o200k_base"]


def test_without_tiktoken_it_is_an_estimate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)  # type: ignore[arg-type]
    assert token_counter("openai/gpt-5.1", tiktoken_cache=tmp_path).source == "estimate"


def test_estimates_of_published_answers_lie_near_a_real_vocabulary(shared_data: Path) -> None:
    """The embedded model's vocabulary is smaller than OpenAI's, and splits English much alike."""
    from rlaif.backends.embedded import embedded_path

    path = embedded_path("smollm2-135m", Path.home() / ".cache" / "rlaif") / "tokenizer.json"
    if not path.exists():
        pytest.skip("the embedded model is not fetched")
    answers = shared_data / "mt_bench" / "model_answer" / "gpt-4.jsonl"
    texts = [json.loads(x)["choices"][0]["turns"][0] for x in answers.read_text().splitlines()]
    exact = token_counter("local/x", tokenizer=path)
    counted = sum(exact.count(ask(text)) for text in texts)
    estimated = sum(TokenCounter().count(ask(text)) for text in texts)
    assert estimated == pytest.approx(counted, rel=0.15)
