import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.stats.text import distinct_n, echo, mean_words, ngram_count, ngrams, repetition, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, it’s 3.5!", ["don't", "stop", "it’s", "3", "5"]),
        ("snake_case  café\nNAÏVE", ["snake", "case", "café", "naïve"]),
        ("猫が好き cats", ["猫", "が", "好", "き", "cats"]),
        ("... --- \u202e", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_ngrams_stay_inside_their_text():
    assert list(ngrams("a b c", 2)) == [("a", "b"), ("b", "c")]
    assert list(ngrams("a b", 3)) == []
    assert ngram_count(["a b c", "d e", "f"], 2) == 3


def test_distinct_by_hand():
    texts = ["the cat the cat", "the dog"]
    assert distinct_n(texts, 1) == pytest.approx(3 / 6)
    assert distinct_n(texts, 2) == pytest.approx(3 / 4)
    assert distinct_n(texts, 4) == 1


def test_subsample_by_hand():
    # Two draws without replacement from a a b: {a, a} 1/3, {a, b} 2/3, so 5/3 kinds in 2 draws.
    assert distinct_n(["a a b"], 1, size=2) == pytest.approx(5 / 6)
    assert distinct_n(["a a b"], 1, size=1) == 1
    assert distinct_n(["a a b"], 1, size=3) == distinct_n(["a a b"], 1)


def test_subsample_is_the_mean_of_random_subsamples():
    tokens = [f"w{i * i % 17}" for i in range(60)]
    rng = np.random.default_rng(0)
    drawn = [len(set(rng.permutation(tokens)[:20])) / 20 for _ in range(3000)]
    assert distinct_n([" ".join(tokens)], 1, size=20) == pytest.approx(np.mean(drawn), abs=0.005)


def test_size_makes_corpora_of_one_vocabulary_comparable():
    rng = np.random.default_rng(1)
    small = [" ".join(f"w{i}" for i in rng.integers(300, size=200)) for _ in range(2)]
    large = [" ".join(f"w{i}" for i in rng.integers(300, size=200)) for _ in range(20)]
    assert distinct_n(small, 1) > 4 * distinct_n(large, 1)
    assert distinct_n(large, 1, size=400) == pytest.approx(distinct_n(small, 1), rel=0.08)


@given(st.lists(st.text("ab ", max_size=30), max_size=6), st.integers(1, 3), st.data())
def test_distinct_is_a_share(texts, n, data):
    total = ngram_count(texts, n)
    if total == 0:
        with pytest.raises(DataError):
            distinct_n(texts, n)
        return
    size = data.draw(st.integers(1, total))
    assert 0 < distinct_n(texts, n) <= distinct_n(texts, n, size=size) + 1e-9 <= 1 + 2e-9


@pytest.mark.parametrize("size", [0, -1, 4])
def test_size_must_fit_the_corpus(size):
    with pytest.raises(DataError, match="3 n-grams"):
        distinct_n(["a b c"], 1, size=size)


@pytest.mark.parametrize("n", [0, -2])
def test_an_ngram_has_words(n):
    with pytest.raises(DataError, match="not positive"):
        distinct_n(["a b c"], n)


def test_mean_words():
    assert mean_words(["one two three", "", "four"]) == pytest.approx(4 / 3)


def test_repetition_counts_responses():
    loop = "I am happy to help. I am happy to help."
    assert repetition([loop, "I am happy to help you today", "", "so so"]) == 0.25
    assert repetition(["so so", "so what"], n=1) == 0.5


def test_empty_corpora_have_no_numbers():
    with pytest.raises(DataError, match="no texts"):
        mean_words([])
    with pytest.raises(DataError, match="no texts"):
        repetition([])
    with pytest.raises(DataError, match="2 words"):
        distinct_n(["one", ""], 2)


def test_echo_counts_words_of_the_own_prompt() -> None:
    assert echo(["Why is the sky blue?", "Name a dog"], ["The sky, it is.", "Rex"]) == 3 / 5
    assert echo(["a"], ["b c"]) == 0


@pytest.mark.parametrize(
    ("prompts", "texts", "message"),
    [(["a"], [], "1 prompts for 0 texts"), (["a"], [" "], "no text has a word")],
)
def test_echo_of_nothing(prompts: list[str], texts: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        echo(prompts, texts)
