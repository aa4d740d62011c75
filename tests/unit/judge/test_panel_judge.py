"""Several judges as one: panels and cascades."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BackendError, BudgetError, ConfigError, DataError
from rlaif.judge.cascade import CascadeJudge, confidence, is_escalated
from rlaif.judge.combining import Rule, combine_scores, pooled
from rlaif.judge.common import no_verdict, verdict_id
from rlaif.judge.listwise import ListwiseJudge
from rlaif.judge.pair_form import combine_orders, side
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.judge.panel import PanelJudge, combined
from rlaif.judge.panel_votes import PanelVotes
from rlaif.judge.pointwise import PointwiseJudge
from rlaif.judge.tournament import Tournament
from rlaif.types import (
    Call,
    Comparison,
    JudgeRef,
    OrderVerdict,
    Preference,
    Request,
    Sampling,
    Score,
    Usage,
    Verdict,
)
from tests.builders import candidate, comparison, criterion, item, rubric


class Fixed:
    """A judge that gives P(a preferred) whatever it is shown, or fails for a cause."""

    def __init__(self, name: str, said: float | str, cost: float | None = 0.01) -> None:
        self.ref = JudgeRef(f"fixed/{name}", "verdict", Sampling())
        self.said, self.cost, self.asked = said, cost, 0

    def requests(self, pair: Comparison) -> list[Request]:
        return [Request(pair.a.response), Request(pair.b.response)]

    async def compare(self, pair: Comparison) -> Verdict:
        self.asked += 1
        call = Call("0" * 64, "", Usage(), 0.0, cached=False, cost_usd=self.cost)
        sides = (pair.a, pair.b)
        if isinstance(self.said, str):
            return no_verdict("comparison", pair.item, sides, self.ref, self.said, (call,))  # type: ignore[arg-type]
        orders = [OrderVerdict("AB", side(self.said), self.said)]
        orders.append(OrderVerdict("BA", side(self.said), self.said))
        return Verdict(
            verdict_id("comparison", pair.item, sides, self.ref),
            "comparison",
            pair.item,
            sides,
            self.ref,
            "ok",
            preference=combine_orders(orders),
            rationale=f"{self.ref.model} says {side(self.said)}",
            calls=(call, call),
        )


def judges(*said: float | str) -> list[Fixed]:
    return [Fixed(str(k), p) for k, p in enumerate(said)]


def compared(judge: PanelJudge | CascadeJudge) -> Verdict:
    return asyncio.run(judge.compare(comparison()))


def p_of(*said: float, **options: object) -> float:
    preference = compared(PanelJudge(judges(*said), **options)).preference  # type: ignore[arg-type]
    assert preference is not None
    return preference.p_a


@pytest.mark.parametrize(
    ("rule", "weights", "p_a"),
    [
        ("mean", None, (0.9 + 0.8 + 0.1) / 3),
        ("mean", (2.0, 1.0, 1.0), (1.8 + 0.8 + 0.1) / 4),
        ("median", None, 0.8),
        ("median", (1.0, 1.0, 2.0), 0.45),
        ("vote", None, 2 / 3),
        ("vote", (1.0, 1.0, 2.0), 0.5),
    ],
)
def test_rules_and_weights(rule: Rule, weights: Sequence[float] | None, p_a: float) -> None:
    assert p_of(0.9, 0.8, 0.1, rule=rule, weights=weights) == pytest.approx(p_a)


def test_the_record_takes_a_panel_apart() -> None:
    verdict = compared(PanelJudge(judges(0.9, 0.2, "refused")))
    assert verdict.preference is not None
    assert (verdict.preference.winner, verdict.preference.consistent) == ("A", True)
    assert [o.p_a for o in verdict.preference.orders] == pytest.approx([0.55, 0.55])
    assert verdict.members is not None
    assert [m.preference.p_a if m.preference else m.cause for m in verdict.members] == [
        0.9,
        0.2,
        "refused",
    ]
    assert [m.calls for m in verdict.members] == [2, 2, 1]
    assert len(verdict.calls) == 5
    assert verdict.judge.model == "panel(fixed/0, fixed/1, fixed/2)"
    assert verdict.judge.members is not None
    assert [ref.model for ref in verdict.judge.members] == ["fixed/0", "fixed/1", "fixed/2"]
    assert verdict.rationale == "fixed/0 says A"
    assert Verdict.from_dict(verdict.as_dict()) == verdict


@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), min_size=2, max_size=4), st.data())
def test_swapping_the_candidates_swaps_a_panel_s_verdict(said: list[float], data: object) -> None:
    rule = data.draw(st.sampled_from(["mean", "median", "vote"]))  # type: ignore[attr-defined]
    straight = p_of(*said, rule=rule)
    assert p_of(*(1 - p for p in said), rule=rule) == pytest.approx(1 - straight)
    for other in permutations(said):
        assert p_of(*other, rule=rule) == pytest.approx(straight)


def test_a_tie_is_a_tie_in_every_order_of_judges() -> None:
    for said in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
        preference = compared(PanelJudge(judges(*said), rule="vote")).preference
        assert preference is not None
        assert (preference.winner, preference.p_a) == ("tie", 0.5)


def test_too_few_verdicts_are_none() -> None:
    lost = compared(PanelJudge(judges(0.9, "refused", "unreadable", "refused")))
    assert (lost.status, lost.cause) == ("no_verdict", "refused")
    assert lost.rationale == "1 of the judges have a verdict, and 3 must"
    assert compared(PanelJudge(judges(0.9, "refused"))).status == "no_verdict"
    assert compared(PanelJudge(judges(0.9, "refused"), min_valid=1)).status == "ok"


def test_a_judge_that_was_not_asked_for_want_of_money_leaves_the_item_for_a_rerun() -> None:
    reserve = Fixed("reserve", 0.9)
    panel = PanelJudge(judges(0.9, 0.9, "budget"), min_valid=1, substitutes=[reserve])
    assert compared(panel).cause == "budget"
    assert reserve.asked == 0


def test_substitutes_sit_in_for_judges_without_a_verdict() -> None:
    seated, reserve = judges(0.9, "refused", 0.2), [Fixed("r0", "refused"), Fixed("r1", 0.4)]
    panel = PanelJudge(seated, weights=[1, 2, 1], min_valid=3, substitutes=reserve)
    verdict = compared(panel)
    assert verdict.preference is not None
    assert verdict.preference.p_a == pytest.approx((0.9 + 2 * 0.4 + 0.2) / 4)
    assert verdict.members is not None
    assert [(m.judge, m.instead_of) for m in verdict.members][3:] == [(3, 1), (4, 1)]
    votes = PanelVotes(panel.seats)
    votes.add(verdict)
    assert votes.table.tolist() == [[0.9, 0.4, 0.2]]
    assert votes.summary()["replaced"] == 1
    assert "2 in reserve" in panel.ref.method


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"judges": judges(0.9)}, "two judges or more"),
        ({"judges": [Fixed("a", 0.1), Fixed("a", 0.9)]}, "sits on the panel twice"),
        ({"judges": judges(0, 1), "substitutes": [Fixed("0", 1)]}, "sits on the panel twice"),
        ({"judges": judges(0, 1), "min_valid": 3}, "3 verdicts of 2 judges"),
        ({"judges": judges(0, 1), "min_valid": 0}, "0 verdicts of 2 judges"),
        ({"judges": judges(0, 1), "weights": [1.0]}, "as many weights"),
        ({"judges": judges(0, 1), "weights": [1.0, 0.0]}, "each above 0"),
        ({"judges": judges(0, 1), "weights": "estimated"}, "need three judges"),
        ({"judges": judges(0, 1), "weights": "equal"}, "'estimated', not 'equal'"),
        ({"judges": judges(0, 1), "rule": "max"}, "rule is 'max'"),
    ],
)
def test_a_panel_that_cannot_be_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PanelJudge(wrong.pop("judges"), **wrong)  # type: ignore[arg-type]


def test_pooled_values() -> None:
    assert pooled([1.0, 3.0], [0.0, 0.0], "mean") == 2.0
    assert pooled([3.0, 1.0], [1.0, 1.0], "median") == 2.0
    assert pooled([5.0, 1.0, 2.0], [1.0, 1.0, 1.0], "median") == 2.0
    assert pooled([5.0, 1.0], [3.0, 1.0], "median") == 5.0


def test_scores_on_one_scale_and_on_several() -> None:
    three, five = Score(3, 1, 5, {"3": 1.0}), Score(5, 1, 5, {"4": 0.0, "5": 1.0})
    mean = combine_scores([three, five], [1, 1], "mean")
    assert (mean.value, mean.min, mean.max) == (4, 1, 5)
    assert mean.distribution == {"3": 0.5, "4": 0.0, "5": 0.5}
    assert combine_scores([three, three, five], [1, 1, 1], "vote").value == 3
    assert combine_scores([three, five], [1, 1], "vote").value == 4
    other = combine_scores([three, Score(0.9, 0, 1)], [1, 1], "mean")
    assert (other.value, other.min, other.max) == (pytest.approx(0.7), 0, 1)
    passed = [Score(p, 0, 1) for p in (0.6, 0.9, 0.2)]
    assert combine_scores(passed, [1, 1, 1], "vote").value == pytest.approx(2 / 3)
    assert combine_scores(passed, [1, 1, 1], "median").value == 0.6


def test_a_panel_of_rubrics_scores() -> None:
    def script(request: Request) -> str:
        return "\n".join(
            f"{name}: [[{grade}]]"
            for name, grade in (("clarity", 4), ("depth", 2), ("quality", 5))
            if f"the {name}?" in request.messages[0].content
        )

    backend = ScriptedBackend(script)
    one = rubric(criterion("clarity", weight=0.5), criterion("depth", weight=0.5))
    other = replace(rubric(criterion("quality")), name="other")
    panel = PanelJudge([PointwiseJudge(backend, one), PointwiseJudge(backend, other)])
    verdict = asyncio.run(panel.score(item(), candidate("x", "Paris.")))
    assert verdict.score is not None
    assert verdict.score.value == pytest.approx(4.0)
    assert verdict.judge.model == "scripted/inline"
    assert verdict.judge.rubric is None


def test_a_panel_of_lists_ranks_by_all_of_them() -> None:
    def by(sign: int) -> ListwiseJudge:
        def script(request: Request) -> str:
            import re

            texts = re.findall(r":response_(\w)>\n(\d+)\n", request.messages[-1].content)
            order = sorted(texts, key=lambda pair: sign * int(pair[1]))
            return f"[[{' > '.join(label.upper() for label, _ in order)}]]"

        return ListwiseJudge(ScriptedBackend(script, model=f"scripted/{sign}"), rubric())

    same = [candidate(f"c{k}", str(k)) for k in range(3)]
    split = asyncio.run(PanelJudge([by(1), by(-1)]).rank(item(), same))
    assert split.ranking is not None
    assert split.ranking.strengths == pytest.approx(dict.fromkeys(("c0", "c1", "c2"), 0.0))
    assert split.ranking.pairs is not None
    assert {p.members for p in split.ranking.pairs} <= {(1.0, 0.0), (0.0, 1.0)}
    backwards = replace(by(-1).ref, model="scripted/other")
    third = by(-1)
    third.ref = backwards
    most = asyncio.run(PanelJudge([by(1), by(-1), third], rule="vote").rank(item(), same))
    assert most.ranking is not None
    assert most.ranking.order == ("c2", "c1", "c0")
    alike = [candidate("a", "1"), candidate("b", "1")]
    shared = asyncio.run(PanelJudge([by(1), by(-1)]).rank(item(), alike))
    assert shared.ranking is not None
    assert shared.ranking.strengths == {"a": 0.0, "b": 0.0}


def test_a_tournament_keeps_what_each_judge_of_a_panel_said() -> None:
    panel = PanelJudge(judges(0.9, "refused", 0.6))
    field = [candidate(f"c{k}", str(k)) for k in range(3)]
    verdict = asyncio.run(Tournament(panel, "round-robin").rank(item(), field))
    assert verdict.ranking is not None
    assert verdict.ranking.pairs is not None
    assert {pair.members for pair in verdict.ranking.pairs} == {(0.9, None, 0.6)}
    assert Verdict.from_dict(verdict.as_dict()) == verdict
    votes = PanelVotes(3)
    votes.add(verdict)
    assert votes.table.shape == (3, 3)


def _votes(rows: Sequence[Sequence[float]]) -> PanelVotes:
    votes = PanelVotes(len(rows[0]))
    for row in rows:
        votes.add(compared(PanelJudge(judges(*row))))
    return votes


def test_copies_are_worth_one_judge() -> None:
    rows = [(1.0, 1.0), (0.0, 0.0), (1.0, 1.0), (0.0, 0.0)]
    assert _votes(rows).summary()["effective_judges"] == pytest.approx(1.0)
    lone = _votes([(1.0, 1.0)]).summary()
    assert lone["effective_judges"] is None
    assert "nothing to correlate" in lone["why"]


def test_estimated_weights_find_the_judge_that_guesses_and_know_no_side() -> None:
    truth = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    guess = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    rows = [(t, t, t, g) for t, g in zip(truth, guess, strict=True)]
    weights = _votes(rows).estimated_weights()
    assert weights[3] < 0.5 < min(weights[:3])
    turned = [rows[0], *(tuple(1 - p for p in row) for row in rows[1:])]
    assert _votes(turned).estimated_weights() == pytest.approx(weights)
    verdict = compared(PanelJudge(judges(1.0, 1.0, 1.0, 0.0), weights="estimated"))
    assert verdict.preference is not None
    assert verdict.preference.p_a == 0.75
    again = combined(verdict, "mean", weights).preference
    assert again is not None
    assert again.p_a > 0.9
    with pytest.raises(DataError):
        PanelVotes(3).estimated_weights()


# Cascades.


def test_the_next_judge_is_asked_where_one_is_in_doubt() -> None:
    small, large = judges(0.6, 0.95)
    cascade = CascadeJudge([small, large], 0.8)
    verdict = compared(cascade)
    assert verdict.preference is not None
    assert (verdict.preference.p_a, len(verdict.calls)) == (0.95, 4)
    assert verdict.members is not None
    assert [(m.judge, m.calls) for m in verdict.members] == [(0, 2), (1, 2)]
    assert verdict.judge == cascade.ref
    assert not is_escalated(verdict)
    assert Verdict.from_dict(verdict.as_dict()) == verdict
    sure = CascadeJudge(judges(0.1, 0.95), 0.8)
    preference = compared(sure).preference
    assert preference is not None
    assert preference.p_a == 0.1
    assert [s.asked for s in sure.stages] == [1, 0]


def test_what_was_saved_is_priced_as_the_last_judge_was() -> None:
    small, large = Fixed("small", 0.9, cost=0.001), Fixed("large", 0.95, cost=0.01)
    cascade = CascadeJudge([small, large], 0.8)
    for said in (0.9, 0.9, 0.9, 0.55):
        small.said = said
        compared(cascade)
    found = cascade.summary()
    assert [(s["asked"], s["decided"], s["calls"]) for s in found["stages"]] == [
        (4, 3, 8),
        (1, 1, 2),
    ]
    assert (found["calls_saved"], found["cost_not_spent_usd"]) == (6, pytest.approx(0.06))
    assert found["escalated"] == 0
    unpriced = CascadeJudge([Fixed("a", 0.9, None), Fixed("b", 0.9, None)], 0.8)
    assert unpriced.summary()["calls_saved"] is None
    compared(unpriced)
    assert unpriced.summary()["calls_saved"] == 2
    assert unpriced.summary()["cost_not_spent_usd"] is None


@pytest.mark.parametrize(
    ("cause", "asked"), [("unreadable", 1), ("refused", 1), ("budget", 0), ("injection", 0)]
)
def test_an_item_without_a_verdict_goes_on_unless_nobody_could_mend_it(
    cause: str, asked: int
) -> None:
    small, large = judges(cause, 0.95)
    verdict = compared(CascadeJudge([small, large], 0.8))
    assert large.asked == asked
    assert verdict.status == ("ok" if asked else "no_verdict")


def test_what_nobody_is_sure_of_is_counted_for_people() -> None:
    cascade = CascadeJudge(judges(0.6, 0.7, "refused"), 0.8)
    verdict = compared(cascade)
    assert (verdict.cause, cascade.escalated, is_escalated(verdict)) == ("refused", 1, True)
    same = comparison("Paris.", "Paris.")
    backends = [ScriptedBackend([], model=f"scripted/{k}") for k in "ab"]
    tie = CascadeJudge([PairwiseJudge(b, rubric()) for b in backends], 0.8)
    found = asyncio.run(tie.compare(same))
    assert found.preference == Preference("tie", 0.5, (), True)
    assert not is_escalated(found)
    assert (tie.escalated, backends[1].calls) == (0, 0)


def test_scores_go_on_by_the_probability_of_their_likeliest_level() -> None:
    def score(value: Score | None) -> Verdict:
        made = no_verdict(
            "score", item(), (candidate("a", "x"),), JudgeRef("j", "m", Sampling()), "refused"
        )
        return replace(made, status="ok", cause=None, score=value) if value else made

    assert confidence(score(Score(3, 1, 5, {"3": 0.7, "4": 0.3}))) == 0.7
    each = {
        "a": {"value": 3, "weight": 0.75, "distribution": {"3": 1.0}},
        "b": {"value": 3, "weight": 0.25, "distribution": {"3": 0.6, "4": 0.4}},
    }
    assert confidence(score(Score(3, 1, 5, None, each))) == pytest.approx(0.9)
    assert confidence(score(Score(3, 1, 5))) is None
    assert confidence(score(None)) is None
    one, other = (ScriptedBackend(lambda _: "quality: [[4]]", model=f"scripted/{k}") for k in "ab")
    cascade = CascadeJudge([PointwiseJudge(b, rubric()) for b in (one, other)], 0.8)
    verdict = asyncio.run(cascade.score(item(), candidate("x", "Paris.")))
    assert verdict.score is not None
    assert (verdict.score.value, one.calls, other.calls, cascade.escalated) == (4, 1, 1, 1)
    assert is_escalated(verdict)


@pytest.mark.parametrize(
    ("stages", "threshold"), [(judges(0.5), 0.8), (judges(0, 1), 0.5), (judges(0, 1), 1.5)]
)
def test_a_cascade_that_cannot_be_is_refused(stages: list[Fixed], threshold: float) -> None:
    with pytest.raises(ConfigError):
        CascadeJudge(stages, threshold)
    with pytest.raises(ConfigError, match="twice"):
        CascadeJudge([Fixed("a", 0), Fixed("a", 1)], 0.8)


def test_what_would_be_asked_is_of_all_judges() -> None:
    pair = comparison()
    assert len(PanelJudge(judges(0, 1, 1)).requests(pair)) == 6
    assert len(CascadeJudge(judges(0, 1), 0.8).requests(pair)) == 4


def test_a_provider_that_fails_costs_a_panel_one_member() -> None:
    def failing(error: BackendError) -> PairwiseJudge:
        return PairwiseJudge(ScriptedBackend(lambda _: error, model="scripted/down"), rubric())

    fine = [
        PairwiseJudge(ScriptedBackend(lambda _: "[[tie]]", model=f"scripted/{k}"), rubric())
        for k in "ab"
    ]
    assert compared(PanelJudge([*fine, failing(BackendError("down"))])).status == "ok"
    spent = compared(PanelJudge([*fine, failing(BudgetError("spent"))]))
    assert spent.cause == "budget"
