"""Comparing by scores: the higher one wins, either way round, and half a pair is no verdict."""

from __future__ import annotations

import asyncio
import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BackendError, BudgetError
from rlaif.judge.by_scores import ByScoresJudge, ChecklistPairs, preference_by
from rlaif.judge.checklist import ChecklistJudge
from rlaif.judge.checklist_form import MOST_QUESTIONS
from rlaif.judge.pointwise import PointwiseJudge
from rlaif.types import Comparison, Completion, Request, Sampling, Score, Verdict
from tests.builders import comparison, criterion, rubric
from tests.unit.judge.replies import spoken, spread, tagged

TWO = rubric(criterion("facts", weight=0.75), criterion("tone", weight=0.25))
MIXED = rubric(criterion("facts", weight=0.5), criterion("polite", low=0, high=1, weight=0.5))
FLIPPED = {"A": "B", "B": "A", "tie": "tie"}
NORMAL = NormalDist()
WRITTEN = (
    "QUESTION (3): Does it name Paris?\nQUESTION (1): Is Paris all?\nQUESTION (1): Is it brief?"
)


def _judge(script: object, spec: object = None, **options: object):
    backend = ScriptedBackend(script)  # type: ignore[arg-type]
    inner = PointwiseJudge(backend, spec or rubric(), **options)  # type: ignore[arg-type]
    return ByScoresJudge(inner), backend


def _compare(script: object, pair: Comparison | None = None, **options: object) -> Verdict:
    judge, _ = _judge(script, **options)
    verdict = asyncio.run(judge.compare(pair or comparison()))
    verdict.check()
    return verdict


def _said(replies: dict[str, object]):
    """A judge with a reply for each response."""
    return lambda request: replies[tagged(request, "response")]


def _levels(**of: float) -> Completion:
    spreads = {level[1:]: p for level, p in of.items()}
    return spoken(spread(max(spreads, key=lambda level: spreads[level]), spreads))


@pytest.mark.parametrize(
    ("a", "b", "winner", "p_a"), [(4, 2, "A", 1.0), (2, 4, "B", 0.0), (3, 3, "tie", 0.5)]
)
def test_the_higher_grade_wins_and_equal_ones_tie(a: int, b: int, winner: str, p_a: float) -> None:
    script = _said({"Paris.": f"So it is. [[{a}]]", "Lyon.": f"It is not. [[{b}]]"})
    verdict = _compare(script)
    preference = verdict.preference
    assert preference is not None
    assert (preference.winner, preference.p_a, preference.consistent) == (winner, p_a, True)
    assert [(o.shown, o.p_a, o.source) for o in preference.orders] == [
        ("AB", p_a, "verdict"),
        ("BA", p_a, "verdict"),
    ]
    assert verdict.judge.method == "scores, verdict"
    assert verdict.judge.rubric is not None
    assert len(verdict.calls) == 2
    assert verdict.rationale == f"A {a}, B {b}\n\nA: So it is.\n\nB: It is not."


def test_probabilities_give_thurstones_case_iii() -> None:
    script = _said({"Paris.": _levels(l4=0.5, l5=0.5), "Lyon.": _levels(l3=0.4, l5=0.4, l7=0.2)})
    verdict = _compare(script, method="expectation")
    preference = verdict.preference
    assert preference is not None
    # means 4.5 and 4 (level 7 is none), variances 0.25 and 1
    assert preference.p_a == pytest.approx(NORMAL.cdf(0.5 / math.sqrt(1.25)))
    assert preference.winner == "A"
    assert preference.orders[0].source == "tokens"
    assert preference.orders[0].missing_mass == pytest.approx(0.2)
    assert verdict.judge.method == "scores, expectation"


def test_every_criterion_counts_by_its_weight() -> None:
    def script(request: Request) -> Completion:
        good = tagged(request, "response") == "Paris."
        if "the facts?" in request.messages[-1].content:
            return _levels(l4=0.5, l5=0.5) if good else _levels(l1=0.5, l5=0.5)
        return _levels(l2=1.0) if good else _levels(l3=1.0)

    verdict = _compare(script, spec=TWO, method="expectation")
    preference = verdict.preference
    assert preference is not None
    ahead = 0.75 * (4.5 - 3) + 0.25 * (2 - 3)
    sd = 0.75 * math.sqrt(0.25 + 4)
    assert preference.p_a == pytest.approx(NORMAL.cdf(ahead / sd))
    assert verdict.rationale is not None
    assert verdict.rationale.splitlines() == [
        "A 3.875, B 3",
        "A 4.5, B 3: facts",
        "A 2, B 3: tone",
    ]


def test_different_scales_meet_on_one() -> None:
    def script(request: Request) -> Completion:
        good = tagged(request, "response") == "Paris."
        if "the facts?" in request.messages[-1].content:
            return _levels(l1=0.5, l5=0.5)
        return _levels(l0=0.2, l1=0.8) if good else _levels(l0=0.5, l1=0.5)

    preference = _compare(script, spec=MIXED, method="expectation").preference
    assert preference is not None
    # on [0, 1] the facts have variance 1/4 either time
    variance = 0.25 * (0.25 + 0.25 + 0.16 + 0.25)
    assert preference.p_a == pytest.approx(NORMAL.cdf(0.5 * 0.3 / math.sqrt(variance)))


def test_draws_are_told_as_such() -> None:
    replies = {"Paris.": iter(["[[4]]", "[[5]]"]), "Lyon.": iter(["[[1]]", "[[3]]"])}
    verdict = _compare(
        lambda request: next(replies[tagged(request, "response")]),
        draws=2,
        sampling=Sampling(temperature=1.0),
    )
    preference = verdict.preference
    assert preference is not None
    assert (preference.orders[0].source, preference.orders[0].draws) == ("draws", 2)
    assert preference.p_a == pytest.approx(NORMAL.cdf(2.5 / math.sqrt(0.25 + 1)))
    assert verdict.judge.method == "scores, verdict, 2 draws"


grades = st.fixed_dictionaries(
    {level: st.floats(0.01, 1.0) for level in ("1", "2", "3", "4", "5")}
).map(lambda mass: {level: p / sum(mass.values()) for level, p in mass.items()})


def _scored(spread_: dict[str, float]) -> Score:
    value = sum(int(level) * p for level, p in spread_.items())
    detail = {"value": value, "min": 1, "max": 5, "weight": 1.0, "distribution": spread_}
    return Score(value, 1, 5, spread_, {"quality": detail})


@given(grades, grades)
def test_exchanging_the_responses_exchanges_the_preference(
    a: dict[str, float], b: dict[str, float]
) -> None:
    straight, turned = (
        preference_by(_scored(a), _scored(b)),
        preference_by(_scored(b), _scored(a)),
    )
    assert straight.p_a == pytest.approx(1 - turned.p_a)
    assert straight.winner == FLIPPED[turned.winner]
    assert (straight.p_a > 0.5) <= (straight.winner == "A")
    assert 0 <= straight.p_a <= 1


def test_identical_responses_tie_without_a_call() -> None:
    judge, backend = _judge(["[[1]]"])
    pair = comparison(b="Paris.")
    verdict = asyncio.run(judge.compare(pair))
    assert verdict.preference is not None
    assert (verdict.preference.winner, verdict.calls) == ("tie", ())
    assert judge.requests(pair) == []
    assert backend.requests == []


@pytest.mark.parametrize(("bad", "name"), [("Paris.", "A"), ("Lyon.", "B")])
def test_one_grade_that_cannot_be_read_leaves_no_verdict(bad: str, name: str) -> None:
    def script(request: Request) -> str:
        return "Hm." if tagged(request, "response") == bad else "[[4]]"

    verdict = _compare(script, reask=False)
    assert (verdict.status, verdict.cause) == ("no_verdict", "unreadable")
    assert verdict.rationale is not None
    assert verdict.rationale.startswith(f"response {name}: ")
    assert len(verdict.calls) == 2


def test_a_spent_budget_is_the_cause_whichever_response_met_it() -> None:
    def script(request: Request) -> object:
        if tagged(request, "response") == "Lyon.":
            return BudgetError("all is spent")
        return "Hm."

    verdict = _compare(script, reask=False)
    assert verdict.cause == "budget"


def test_nobody_is_asked_about_a_pair_with_a_response_that_is_refused() -> None:
    judge, backend = _judge(["[[1]]", "[[1]]"], max_chars=100)
    pair = comparison(b="x" * 101)
    verdict = asyncio.run(judge.compare(pair))
    assert (verdict.cause, verdict.calls, backend.requests) == ("truncated", (), [])
    assert judge.requests(pair) == []


def test_what_was_noticed_is_flagged() -> None:
    verdict = _compare(_said({"Paris.": "[[4]]", "": "[[1]]"}), comparison(b=""))
    assert verdict.flags == {"b": ("empty",)}


def test_a_failure_of_no_avail_ends_the_run() -> None:
    error = BackendError("no such model", fatal=True)
    with pytest.raises(BackendError, match="no such model"):
        _compare(lambda _: error)


def test_each_item_brings_its_rubric_to_the_record() -> None:
    judge, _ = _judge(_said({"Paris.": "[[4]]", "Lyon.": "[[1]]"}), lambda _: rubric())
    verdict = asyncio.run(judge.compare(comparison()))
    assert judge.ref.rubric is None
    assert verdict.judge.rubric is not None
    assert verdict.judge.rubric.name == "test"


def test_requests_are_what_is_asked() -> None:
    judge, backend = _judge(_said({"Paris.": "[[4]]", "Lyon.": "[[1]]"}))
    planned = judge.requests(comparison())
    asyncio.run(judge.compare(comparison()))
    assert {r.digest("x") for r in planned} == {r.digest("x") for r in backend.requests}
    assert len(planned) == 2


def _checklist() -> tuple[ChecklistPairs, ScriptedBackend, ScriptedBackend]:
    answers = ScriptedBackend(
        lambda request: "Yes" if tagged(request, "response") == "Paris." else "No"
    )
    asks = ScriptedBackend(lambda _: WRITTEN, model="scripted/writer")
    judge = ChecklistJudge(answers, rubric(), writer=asks, max_chars=100)
    return ChecklistPairs(judge), answers, asks


def test_a_checklist_is_written_once_for_both() -> None:
    judge, answers, asks = _checklist()
    verdict = asyncio.run(judge.compare(comparison()))
    assert verdict.preference is not None
    assert (verdict.preference.winner, verdict.preference.p_a) == ("A", 1.0)
    assert (len(asks.requests), len(answers.requests)) == (1, 6)
    assert judge.ref.method == "checklist, questions by scripted/writer"


def test_a_checklist_is_planned_for_writer_and_judge() -> None:
    judge, answers, asks = _checklist()
    planned = list(judge.planned(comparison()))
    assert sum(backend is asks for backend, _ in planned) == 1
    assert sum(backend is answers for backend, _ in planned) == 2 * MOST_QUESTIONS
    assert judge.requests(comparison()) == [request for _, request in planned]
    assert judge.requests(comparison(b="Paris.")) == []
    assert judge.requests(comparison(b="x" * 101)) == []
