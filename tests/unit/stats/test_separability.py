"""Whether words alone tell the sides of pairs apart."""

import random

import pytest

from rlaif.errors import DataError
from rlaif.stats.separability import separability

WORDS = [f"word{n}" for n in range(60)]


def texts(n, seed, extra=()):
    rng = random.Random(seed)
    return [" ".join([*rng.sample(WORDS, 12), *extra]) for _ in range(n)]


def test_sides_with_a_word_of_their_own_are_told_apart_by_it():
    found = separability(texts(60, 1, ["however"]), texts(60, 2, ["sorry"]))
    assert found.accuracy == 1.0
    assert found.low > 0.9
    assert found.second[0][0] == "sorry"
    assert found.first[0][0] == "however"
    assert all(weight > 0 for _, weight in (*found.first, *found.second))


def test_sides_that_are_alike_are_not():
    found = separability(texts(300, 1), texts(300, 2))
    assert 0.4 < found.accuracy < 0.6
    assert found.low < 0.5 < found.high


def test_swapping_the_sides_swaps_the_words_and_keeps_the_accuracy():
    one, other = texts(50, 1, ["however"]), texts(50, 2)
    found, turned = separability(one, other), separability(other, one)
    assert turned.accuracy == found.accuracy
    assert [w for w, _ in turned.second] == [w for w, _ in found.first]
    assert turned.longer == 1 - found.longer == 1.0


def test_undecided_pairs_count_half():
    one, other = ["a b"] * 12, ["a c"] * 12
    assert separability(one, other).accuracy == 1.0
    same = ["a b", "a c"] * 10
    assert separability(same, [t.replace("a", "d") for t in same]).longer == 0.5


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (["a"] * 10, ["b"] * 9, "10 texts on one side"),
        (["a"] * 9, ["b"] * 9, "at least 10"),
        (["a"] * 10, ["a"] * 10, "no word"),
    ],
)
def test_what_cannot_be_computed(first, second, message):
    with pytest.raises(DataError, match=message):
        separability(first, second)


def test_an_impossible_level():
    with pytest.raises(DataError):
        separability(["a"] * 12, ["b"] * 12, level=1.5)
