"""Rankings by comparing pairs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest

from rlaif.errors import ConfigError, DataError
from rlaif.judge.common import no_verdict, verdict_id
from rlaif.judge.pair_form import combine_orders
from rlaif.judge.tournament import Strategy, Tournament
from rlaif.types import (
    Call,
    Candidate,
    Comparison,
    JudgeRef,
    OrderVerdict,
    Request,
    Sampling,
    Usage,
    Verdict,
)
from tests.builders import candidate, item

STRATEGIES = get_args(Strategy)


class Comparing:
    """A judge that prefers by a number in the response, and keeps what it was asked."""

    def __init__(self, *, fails: frozenset[str] = frozenset(), always_first: bool = False) -> None:
        self.ref = JudgeRef("scripted/judge", "verdict", Sampling())
        self.asked: list[tuple[str, str]] = []
        self.together = 0
        self._running = 0
        self._fails, self._always_first = fails, always_first

    def requests(self, comparison: Comparison) -> list[Request]:
        return [Request(comparison.a.response), Request(comparison.b.response)]

    async def compare(self, comparison: Comparison) -> Verdict:
        a, b = comparison.a, comparison.b
        self.asked.append((a.text, b.text))
        self._running += 1
        self.together = max(self.together, self._running)
        await asyncio.sleep(0)
        self._running -= 1
        call = Call("0" * 64, "", Usage(1, 0, 1), 0.0, cached=False)
        sides = (a, b)
        if {a.text, b.text} & self._fails:
            return no_verdict("comparison", comparison.item, sides, self.ref, "refused", (call,))
        p = 1 / (1 + math.exp(float(b.text) - float(a.text)))
        first, second = (1.0, 0.0) if self._always_first else (p, p)
        sides_of = [OrderVerdict("AB", _winner(first), first)]
        sides_of.append(OrderVerdict("BA", _winner(second), second))
        return Verdict(
            verdict_id("comparison", comparison.item, sides, self.ref),
            "comparison",
            comparison.item,
            sides,
            self.ref,
            "ok",
            preference=combine_orders(sides_of),
            calls=(call,),
            flags={a.id: ("empty",)} if a.text == "0" else None,
        )


def _winner(p: float) -> str:
    return "A" if p > 0.5 else "B" if p < 0.5 else "tie"


def field(*numbers: int) -> list[Candidate]:
    return [candidate(f"c{k}", str(number)) for k, number in enumerate(numbers)]


def ranked(tournament: Tournament, candidates: Sequence[Candidate]) -> Verdict:
    return asyncio.run(tournament.rank(item(), candidates))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_finds_the_order_of_a_clear_judge(strategy: Strategy) -> None:
    candidates = field(4, 0, 6, 2, 10, 8, 12)
    judge = Comparing()
    verdict = ranked(Tournament(judge, strategy, comparisons=21, confidence=0.999), candidates)
    ranking = verdict.ranking
    assert ranking is not None
    by_text = {c.id: int(c.text) for c in candidates}
    assert [by_text[name] for name in ranking.order] == [12, 10, 8, 6, 4, 2, 0]
    assert sum(ranking.strengths.values()) == pytest.approx(0, abs=1e-9)
    assert ranking.comparisons == len(judge.asked) == len({frozenset(p) for p in judge.asked})
    assert len(verdict.calls) == len(judge.asked)
    assert ranking.cycles == 0
    assert ranking.low is not None
    assert all(ranking.low[k] < s < ranking.high[k] for k, s in ranking.strengths.items())  # type: ignore[index]
    assert Verdict.from_dict(verdict.as_dict()) == verdict
    assert verdict.flags in (None, {"c1": ("empty",)})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_names_and_order_of_the_candidates_change_nothing(strategy: Strategy) -> None:
    candidates = field(4, 0, 5, 1, 2, 3)
    other = [replace(c, id=f"other {c.id}", model="m") for c in reversed(candidates)]
    one, two = Comparing(), Comparing()
    first = ranked(Tournament(one, strategy, comparisons=8), candidates).ranking
    second = ranked(Tournament(two, strategy, comparisons=8), other).ranking
    assert one.asked == two.asked
    assert first is not None
    assert second is not None
    assert [f"other {name}" for name in first.order] == list(second.order)
    assert {f"other {k}": v for k, v in first.strengths.items()} == pytest.approx(second.strengths)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_judge_that_always_says_first_ranks_nobody(strategy: Strategy) -> None:
    verdict = ranked(Tournament(Comparing(always_first=True), strategy), field(1, 2, 3, 4))
    assert verdict.ranking is not None
    assert list(verdict.ranking.strengths.values()) == pytest.approx([0] * 4, abs=1e-9)
    assert len(verdict.ranking.unsettled or ()) == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_more_comparisons_than_allowed(strategy: Strategy) -> None:
    judge = Comparing()
    ranked(Tournament(judge, strategy, comparisons=9), field(*range(8)))
    assert len(judge.asked) <= 9


def test_a_round_is_asked_at_once_and_a_settled_order_ends_it() -> None:
    judge = Comparing()
    tournament = Tournament(judge, "active", comparisons=120, settle="top1")
    verdict = ranked(tournament, field(*range(0, 48, 3)))
    assert judge.together == 8
    assert verdict.ranking is not None
    assert verdict.ranking.settled
    assert verdict.ranking.order[0] == "c15"
    assert len(judge.asked) < 60


def test_merge_sort_needs_no_more_than_its_worst_case() -> None:
    judge = Comparing()
    ranked(Tournament(judge, "merge-sort"), field(*range(16)))
    assert len(judge.asked) <= 49


def test_identical_responses_share_a_place_without_a_call() -> None:
    judge = Comparing()
    alone = ranked(Tournament(judge), field(3, 3, 3))
    assert alone.ranking is not None
    assert (alone.status, set(alone.ranking.strengths.values()), judge.asked) == ("ok", {0.0}, [])
    pair = ranked(Tournament(judge), field(3, 9, 3))
    assert pair.ranking is not None
    assert pair.ranking.order[0] == "c1"
    assert pair.ranking.strengths["c0"] == pair.ranking.strengths["c2"]
    assert sum(pair.ranking.strengths.values()) == pytest.approx(0)
    assert len(judge.asked) == 1


def test_a_pair_without_a_verdict_is_recorded_and_no_outcome() -> None:
    class Partial(Comparing):
        async def compare(self, comparison: Comparison) -> Verdict:
            verdict = await super().compare(comparison)
            if {comparison.a.text, comparison.b.text} != {"1", "2"}:
                return verdict
            sides = verdict.candidates
            return no_verdict("comparison", verdict.item, sides, self.ref, "refused")

    verdict = ranked(Tournament(Partial(), "round-robin"), field(1, 2, 3, 4))
    assert verdict.ranking is not None
    assert verdict.ranking.comparisons == 5
    missing = [pair for pair in verdict.ranking.pairs or () if pair.p_a is None]
    assert [pair.cause for pair in missing] == ["refused"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_outcomes_that_join_all_there_is_no_verdict(strategy: Strategy) -> None:
    judge = Comparing(fails=frozenset({"7"}))
    verdict = ranked(Tournament(judge, strategy, comparisons=10), field(1, 2, 3, 4, 7))
    assert (verdict.status, verdict.cause, verdict.ranking) == ("no_verdict", "refused", None)
    assert len(verdict.calls) == len(judge.asked)


def test_too_few_comparisons_to_join_all_leave_no_verdict() -> None:
    verdict = ranked(Tournament(Comparing(), "active", comparisons=2), field(1, 2, 3, 4))
    assert verdict.cause == "budget"


def test_cycles_are_counted() -> None:
    class Circular(Comparing):
        async def compare(self, comparison: Comparison) -> Verdict:
            verdict = await super().compare(comparison)
            beats = (int(comparison.a.text) - int(comparison.b.text)) % 3 == 1
            p = 0.9 if beats else 0.1
            order = [OrderVerdict("AB", _winner(p), p), OrderVerdict("BA", _winner(p), p)]
            return replace(verdict, preference=combine_orders(order))

    verdict = ranked(Tournament(Circular(), "round-robin"), field(0, 1, 2))
    assert verdict.ranking is not None
    assert (verdict.ranking.triples, verdict.ranking.cycles) == (1, 1)


def test_requests_count_the_comparisons_at_most() -> None:
    tournament = Tournament(Comparing(), "active", comparisons=5)
    assert len(tournament.requests(item(), field(*range(6)))) == 10
    assert len(Tournament(Comparing(), "round-robin").requests(item(), field(*range(6)))) == 30
    assert tournament.requests(item(), field(1, 1)) == []


def test_one_candidate_and_twice_the_same_id_are_refused() -> None:
    with pytest.raises(DataError, match="two or more"):
        ranked(Tournament(Comparing()), field(1))
    with pytest.raises(DataError, match="one id"):
        ranked(Tournament(Comparing()), [*field(1), *field(2)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "knockout"}, "not one of"),
        ({"comparisons": 0}, "from 1 up"),
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"settle": "best"}, "settle is"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tournament(Comparing(), **options)  # type: ignore[arg-type]
