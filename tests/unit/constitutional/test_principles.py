"""Draws that any machine repeats."""

from collections import Counter

import pytest

from rlaif.constitutional.principles import drawn_number, drawn_principle, drawn_set
from rlaif.errors import ConfigError
from rlaif.specs.constitution import Principle

PRINCIPLES = [Principle(f"p{n}", "c", "r", "k") for n in range(16)]


def names(draw, item, rounds=16, seed=7):
    drawn = (drawn_principle(PRINCIPLES, draw, seed, item, r) for r in range(1, rounds + 1))
    return [p.name for p in drawn]


def test_draws_are_the_same_on_any_machine():
    # written down once: another result here would change every recorded chain
    assert names("seeded", "prompt-1", 6) == ["p6", "p4", "p6", "p3", "p9", "p10"]
    assert [p.name for p in drawn_set(PRINCIPLES, 4, 7, "x")] == ["p0", "p15", "p13", "p8"]


def test_each_round_and_each_prompt_draws_anew():
    drawn = Counter(name for i in range(400) for name in names("seeded", f"i{i}", 4))
    assert len(drawn) == 16
    assert max(drawn.values()) < 2 * min(drawn.values())
    assert names("seeded", "a") != names("seeded", "b")
    assert names("seeded", "a", seed=1) != names("seeded", "a", seed=2)


def test_in_turn_every_principle_has_one_turn_from_a_place_of_the_prompts_own():
    for item in ("a", "b", "c"):
        found = names("in-turn", item)
        start = int(found[0][1:])
        assert found == [f"p{(start + n) % 16}" for n in range(16)]
    assert len({names("in-turn", f"i{n}", 1)[0] for n in range(100)}) > 8


def test_a_set_holds_each_principle_once():
    for k in (1, 5, 16):
        assert len({p.name for p in drawn_set(PRINCIPLES, k, 0, "x")}) == k


@pytest.mark.parametrize("k", [0, 17])
def test_a_set_of_too_many_or_none(k):
    with pytest.raises(ConfigError, match="cannot be drawn"):
        drawn_set(PRINCIPLES, k, 0, "x")


def test_nothing_to_draw_from():
    with pytest.raises(ConfigError, match="nothing to draw"):
        drawn_number(0, 1)
