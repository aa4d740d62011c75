from __future__ import annotations

import asyncio
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BackendError
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.types import Completion, Request, TokenLogprob, Verdict
from tests.builders import comparison, rubric


def _shown(request: Request) -> tuple[str, str]:
    text = request.messages[-1].content
    first = re.search(r"<response_a>\n(.*?)\n</response_a>", text, re.DOTALL)
    second = re.search(r"<response_b>\n(.*?)\n</response_b>", text, re.DOTALL)
    assert first
    assert second
    return first[1], second[1]


def _longer(request: Request) -> str:
    a, b = _shown(request)
    return "[[tie]]" if len(a) == len(b) else "[[A]]" if len(a) > len(b) else "[[B]]"


def _judge(script: object) -> tuple[PairwiseJudge, ScriptedBackend]:
    backend = ScriptedBackend(script)  # type: ignore[arg-type]
    return PairwiseJudge(backend, rubric()), backend


def _compare(script: object, a: str = "Paris.", b: str = "Lyon.") -> Verdict:
    return asyncio.run(_judge(script)[0].compare(comparison(a, b)))


def test_a_fair_judge_is_consistent_and_asked_in_both_orders() -> None:
    judge, backend = _judge(_longer)
    verdict = asyncio.run(judge.compare(comparison("short", "much longer")))
    assert [_shown(r) for r in backend.requests] == [
        ("short", "much longer"),
        ("much longer", "short"),
    ]
    preference = verdict.preference
    assert preference is not None
    assert (preference.winner, preference.p_a, preference.consistent) == ("B", 0.0, True)
    assert [(o.shown, o.winner) for o in preference.orders] == [("AB", "B"), ("BA", "B")]
    assert [c.shown for c in verdict.calls] == ["AB", "BA"]


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_swapping_the_candidates_swaps_a_fair_verdict(a: str, b: str) -> None:
    one = _compare(_longer, a, b).preference
    other = _compare(_longer, b, a).preference
    assert one is not None
    assert other is not None
    assert one.p_a == pytest.approx(1 - other.p_a)
    assert {one.winner, other.winner} in ({"A", "B"}, {"tie"})


def test_an_always_first_judge_scores_one_half_and_is_inconsistent() -> None:
    preference = _compare(lambda _: "[[A]]").preference
    assert preference is not None
    assert (preference.winner, preference.p_a, preference.consistent) == ("tie", 0.5, False)
    assert [o.winner for o in preference.orders] == ["A", "B"]


def test_soft_probabilities_are_averaged_over_the_orders() -> None:
    def soft(request: Request) -> Completion:
        p = 0.9 if _shown(request)[0] == "Paris." else 0.4
        top = (("A", math.log(p)), ("B", math.log(1 - p)))
        mark = "A" if p > 0.5 else "B"
        pieces = ("[[", mark, "]]")
        tokens = tuple(TokenLogprob(piece, -0.1, top) for piece in pieces)
        return Completion("".join(pieces), tokens=tokens)

    preference = _compare(soft).preference
    assert preference is not None
    assert preference.p_a == pytest.approx((0.9 + 0.6) / 2)
    assert preference.consistent


def test_identical_responses_tie_without_a_call() -> None:
    judge, backend = _judge(lambda _: "[[A]]")
    verdict = asyncio.run(judge.compare(comparison("same", "same")))
    assert verdict.preference is not None
    assert (verdict.preference.winner, verdict.preference.p_a) == ("tie", 0.5)
    assert backend.requests == []


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        ("no mark here", "unreadable"),
        (Completion("[[A]]", finish_reason="length"), "truncated"),
        (Completion("", finish_reason="refusal"), "refused"),
        (BackendError("overloaded", retryable=True), "provider_error"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_one_bad_order_leaves_no_verdict_and_keeps_both_calls(
    bad: object, cause: str, place: int
) -> None:
    replies: list[object] = ["[[A]]", "[[A]]"]
    replies[place] = bad
    verdict = _compare(replies)
    assert (verdict.status, verdict.cause, verdict.preference) == ("no_verdict", cause, None)
    assert len(verdict.calls) == 2


def test_a_fatal_failure_is_raised() -> None:
    with pytest.raises(BackendError, match="bad key"):
        _compare(lambda _: BackendError("bad key", fatal=True))


def test_the_same_work_has_the_same_id_and_other_work_another() -> None:
    one, same = _compare(_longer), _compare(_longer)
    assert one.id == same.id
    assert _compare(_longer, a="Nice.").id != one.id


def test_a_verdict_survives_a_round_trip() -> None:
    verdict = _compare(_longer)
    assert Verdict.from_dict(verdict.as_dict()) == verdict
