"""Selection with length held in check: tiers, and a balance over all rows."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaif.preferences.pairs import HeldBack, Rules, pairs_from
from rlaif.stats.text import words
from rlaif.train.selection import select_rows
from rlaif.types import (
    Candidate,
    Item,
    JudgeRef,
    Message,
    OrderVerdict,
    Preference,
    PreferencePair,
    Sampling,
    Verdict,
)

JUDGE = JudgeRef("scripted/judge", "verdict", Sampling())
RULES = Rules(max_length_ratio=100.0)


def verdict(item: str, a: tuple[str, str], b: tuple[str, str], p_a: float | None) -> Verdict:
    """A comparison of two candidates, each (id, text)."""
    sides = tuple(Candidate(n, (Message("assistant", t),)) for n, t in (a, b))
    name = f"{item} {a[0]} {b[0]}"
    where = Item(item, (Message("user", f"question {item}"),))
    if p_a is None:
        return Verdict(name, "comparison", where, sides, JUDGE, "no_verdict", cause="refused")
    winner = "A" if p_a > 0.5 else "B" if p_a < 0.5 else "tie"
    orders = tuple(OrderVerdict(shown, winner, p_a) for shown in ("AB", "BA"))
    preference = Preference(winner, p_a, orders, consistent=True)
    return Verdict(name, "comparison", where, sides, JUDGE, "ok", preference=preference)


def tournament(item: str, quality: dict[str, tuple[float, int]]) -> list[Verdict]:
    """All pairs of candidates with (quality, words): the better one wins by the difference."""
    texts = {name: f"{name} " + "w " * (n - 1) for name, (_, n) in quality.items()}
    return [
        verdict(item, (a, texts[a]), (b, texts[b]), 0.5 + (quality[a][0] - quality[b][0]) / 2)
        for a, b in combinations(quality, 2)
    ]


def kept(rows: list[PreferencePair | HeldBack]) -> list[PreferencePair]:
    return [row for row in rows if isinstance(row, PreferencePair)]


def test_tiers_take_the_shortest_of_the_good_over_the_longest_of_the_bad() -> None:
    found = {"best": (0.9, 40), "good": (0.88, 10), "bad": (0.12, 30), "worst": (0.1, 5)}
    (row,) = kept(select_rows(tournament("i", found), RULES, tiers=0.1))
    assert row.chosen[0].content.startswith("good")
    assert row.rejected[0].content.startswith("bad")
    (plain,) = kept(select_rows(tournament("i", found), RULES, tiers=0.0))
    assert plain.chosen[0].content.startswith("best")
    assert plain.rejected[0].content.startswith("worst")


def test_every_comparison_is_a_row_or_has_a_reason() -> None:
    verdicts = [
        *tournament("i", {"a": (0.9, 4), "b": (0.5, 4), "c": (0.1, 4)}),
        verdict("j", ("a", "x"), ("b", "y"), None),
    ]
    rows = select_rows(verdicts, RULES, tiers=0.2)
    assert len(rows) == len(verdicts)
    reasons = [row.reason for row in rows if isinstance(row, HeldBack)]
    assert reasons == ["not_selected", "not_selected", "no_verdict"]


def test_without_tiers_and_balance_it_is_what_prefer_does() -> None:
    verdicts = tournament("i", {"a": (0.9, 4), "b": (0.5, 9), "c": (0.1, 2)})
    rules = Rules(select="best-worst", max_length_ratio=9.0)
    assert select_rows(verdicts, rules) == list(pairs_from(verdicts, rules))


def pair(number: int, chosen: int, rejected: int, margin: float) -> Verdict:
    texts = [(n, f"{n} " + "w " * (k - 1)) for n, k in (("a", chosen), ("b", rejected))]
    return verdict(f"i{number}", texts[0], texts[1], 0.5 + margin / 2)


def test_the_balance_gives_up_the_smallest_margins_that_push_length() -> None:
    verdicts = [
        pair(0, 30, 10, 0.9),
        pair(1, 30, 10, 0.1),
        pair(2, 10, 30, 0.05),
        pair(3, 20, 20, 0.2),
    ]
    rows = select_rows(verdicts, RULES, balance=0.02)
    held = [row for row in rows if isinstance(row, HeldBack)]
    assert [row.verdict.item.id for row in held] == ["i1"]
    assert (held[0].reason, held[0].detail) == (
        "length_suspicious",
        "held back to balance lengths",
    )


def test_the_balance_never_takes_the_last_row() -> None:
    assert len(kept(select_rows([pair(0, 30, 10, 0.5)], RULES, balance=0.02))) == 1


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 60), st.floats(0.01, 1.0)),
        min_size=1,
        max_size=40,
    )
)
def test_the_balance_never_widens_the_difference(rows: list[tuple[int, int, float]]) -> None:
    verdicts = [pair(i, *row) for i, row in enumerate(rows)]

    def gap(found: list[PreferencePair | HeldBack]) -> int:
        sides = [
            (len(words(r.chosen[0].content)), len(words(r.rejected[0].content)))
            for r in kept(found)
        ]
        return abs(sum(c - r for c, r in sides))

    before = select_rows(verdicts, RULES)
    after = select_rows(verdicts, RULES, balance=0.02)
    assert len(after) == len(before)
    assert 1 <= len(kept(after)) <= len(kept(before))
    assert gap(after) <= gap(before)
    if len(kept(after)) > 1 and gap(after) > 0:
        # what is left cannot be brought nearer, or is near enough
        total = sum(len(words(r.rejected[0].content)) for r in kept(after))
        nearer = any(
            0
            < (len(words(r.chosen[0].content)) - len(words(r.rejected[0].content))) * sign
            < 2 * gap(after)
            for r in kept(after)
            for sign in (1 if _signed(after) > 0 else -1,)
        )
        assert gap(after) <= 0.02 * total or not nearer


def _signed(rows: list[PreferencePair | HeldBack]) -> int:
    return sum(
        len(words(r.chosen[0].content)) - len(words(r.rejected[0].content)) for r in kept(rows)
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_judge_that_pays_for_length_gives_rows_of_equal_length(seed: int) -> None:
    import random

    rng = random.Random(seed)
    verdicts = []
    for i in range(200):
        a, b = rng.randint(10, 60), rng.randint(10, 60)
        p = min(0.99, max(0.01, 0.5 + (a - b) / 80 + rng.gauss(0, 0.3)))
        texts = [(n, f"{n} " + "w " * (k - 1)) for n, k in (("a", a), ("b", b))]
        verdicts.append(verdict(f"i{i}", texts[0], texts[1], p))
    before, after = (kept(select_rows(verdicts, RULES, balance=b)) for b in (None, 0.02))

    def mean_gap(rows: list[PreferencePair]) -> float:
        chosen = sum(len(words(r.chosen[0].content)) for r in rows)
        rejected = sum(len(words(r.rejected[0].content)) for r in rows)
        return chosen / rejected - 1

    assert mean_gap(before) > 0.1
    assert abs(mean_gap(after)) <= 0.02
    assert len(after) > 0.3 * len(before)
