"""How long, how varied and how repetitive responses are: cheap guards against a policy that
learned to please a judge by writing less, more, or the same thing again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from rlaif.errors import DataError

# Kana and ideographs are written without spaces: each counts as a word of its own.
_CJK = r"぀-ヿ㐀-䶿一-鿿豈-﫿"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+(?:['’][^\W_{_CJK}]+)*")


def words(text: str) -> list[str]:
    """The words of `text` in lower case, without punctuation; an apostrophe stays inside a word."""
    return [match.group().lower() for match in _WORD.finditer(text)]


def ngrams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of the words of `text`, in order; none where it has fewer than `n` words.

    Raises:
        DataError: `n` is not positive.
    """
    if n < 1:
        raise DataError(f"n is {n}, not positive")
    tokens = words(text)
    return zip(*(tokens[i:] for i in range(n)), strict=False)


def ngram_count(texts: Sequence[str], n: int) -> int:
    """How many n-grams all `texts` have together, repeats counted.

    Raises:
        DataError: `n` is not positive.
    """
    return sum(1 for text in texts for _ in ngrams(text, n))


def distinct_n(texts: Sequence[str], n: int, *, size: int | None = None) -> float:
    """Distinct n-grams over all n-grams of the corpus, in (0, 1]; an n-gram lies within one text.

    The figure falls as a corpus grows, so two corpora compare only at one `size`: the expected
    value in a random subsample of that many n-grams, drawn without replacement. It is computed
    exactly, so no seed is involved. Take the smaller `ngram_count` of the two.

    Args:
        texts: The responses.
        n: Words in an n-gram.
        size: n-grams in the subsample; None takes the corpus as it is.

    Raises:
        DataError: `n` is not positive, no text has `n` words, or `size` is not in
            [1, number of n-grams].

    Reference:
        Li et al. 2016, "A diversity-promoting objective function for neural conversation models"
        (1510.03055), here with n-grams, not words, below the line. Subsample:
        Hurlbert 1971, "The nonconcept of species diversity", Ecology 52(4).
    """
    counts = Counter(gram for text in texts for gram in ngrams(text, n))
    total = counts.total()
    if total == 0:
        raise DataError(f"no text has {n} words")
    if size is None or size == total:
        return len(counts) / total
    if not 1 <= size < total:
        raise DataError(f"size is {size}, with {total} n-grams to draw from")
    return _expected_distinct(np.fromiter(counts.values(), dtype=np.float64), size) / size


def _expected_distinct(counts: np.ndarray[tuple[int], np.dtype[np.float64]], size: int) -> float:
    """Expected number of kinds among `size` draws without replacement from `counts` of each."""
    from scipy.special import gammaln

    total = counts.sum()
    # P(kind missed) = C(total - count, size) / C(total, size); 0 where too few others remain.
    others = total - counts
    can_miss = others >= size
    left = others[can_miss]
    log_missed = (
        gammaln(left + 1)
        - gammaln(left - size + 1)
        - gammaln(total + 1)
        + gammaln(total - size + 1)
    )
    return float(counts.size - np.exp(log_missed).sum())


def mean_words(texts: Sequence[str]) -> float:
    """Mean number of words of a text.

    Raises:
        DataError: there are no texts.
    """
    _need_texts(texts)
    return sum(len(words(text)) for text in texts) / len(texts)


def echo(prompts: Sequence[str], texts: Sequence[str]) -> float:
    """The share of the texts' words that stand in their own prompt, in [0, 1].

    A policy that pleases a judge by repeating the question raises it.

    Args:
        prompts: The prompt of each text, length n.
        texts: The responses, length n.

    Raises:
        DataError: the lengths differ, or the texts have no words.
    """
    if len(prompts) != len(texts):
        raise DataError(f"{len(prompts)} prompts for {len(texts)} texts")
    found = total = 0
    for prompt, text in zip(prompts, texts, strict=True):
        known = set(words(prompt))
        said = words(text)
        found += sum(word in known for word in said)
        total += len(said)
    if not total:
        raise DataError("no text has a word")
    return found / total


def repetition(texts: Sequence[str], n: int = 4) -> float:
    """The share of texts in which some n-gram of words occurs more than once, in [0, 1].

    Raises:
        DataError: there are no texts, or `n` is not positive.
    """
    _need_texts(texts)
    return sum(_repeats(text, n) for text in texts) / len(texts)


def _repeats(text: str, n: int) -> bool:
    grams = list(ngrams(text, n))
    return len(set(grams)) < len(grams)


def _need_texts(texts: Sequence[str]) -> None:
    if not texts:
        raise DataError("there are no texts")
