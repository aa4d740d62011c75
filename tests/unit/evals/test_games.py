"""Games of a pair: whatever was shown first, the verdict speaks of the pair's own A and B."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BackendError, VerdictError
from rlaif.evals.games import Game, play, with_meta
from rlaif.types import (
    Comparison,
    Completion,
    JudgeRef,
    Message,
    Request,
    Sampling,
    Verdict,
    Winner,
)
from tests.builders import comparison, item

REF = JudgeRef("scripted/inline", "test", Sampling())


def read(completion: Completion) -> tuple[Winner, float]:
    """The reply is P(first preferred)."""
    try:
        share = float(completion.text)
    except ValueError:
        raise VerdictError("no number", cause="unreadable") from None
    return "A" if share > 0.5 else "B" if share < 0.5 else "tie", share


def ask(shown: Comparison) -> Request:
    return Request((Message("user", f"{shown.a.text}|{shown.b.text}"),))


def judged(pair: Comparison, script: dict[str, str]) -> Verdict:
    backend = ScriptedBackend(lambda request: script[request.messages[0].content])
    games = [Game("AB", ask(pair)), Game("BA", ask(pair.swapped()))]
    return asyncio.run(play(backend, REF, pair, games, read))


@given(st.floats(0, 1), st.floats(0, 1))
def test_swapping_a_pair_swaps_its_verdict(first: float, second: float) -> None:
    pair = comparison("x", "y")
    script = {"x|y": repr(first), "y|x": repr(second)}
    one, other = judged(pair, script).preference, judged(pair.swapped(), script).preference
    assert one is not None
    assert other is not None
    assert one.p_a == pytest.approx(1 - other.p_a)
    assert one.consistent == other.consistent
    assert {one.winner, other.winner} in ({"A", "B"}, {"tie"})


def test_a_judge_that_likes_the_first_place_is_inconsistent_and_ties() -> None:
    found = judged(comparison("x", "y"), {"x|y": "1", "y|x": "1"}).preference
    assert found is not None
    assert (found.p_a, found.winner, found.consistent) == (0.5, "tie", False)


def test_one_game_without_a_reading_leaves_no_verdict_and_keeps_both_replies() -> None:
    verdict = judged(comparison("x", "y"), {"x|y": "1", "y|x": "well"})
    assert (verdict.cause, verdict.preference) == ("unreadable", None)
    assert [call.reply for call in verdict.calls] == ["1", "well"]


def test_a_failure_of_the_provider_is_a_cause_unless_it_is_fatal() -> None:
    pair = comparison("x", "y")
    games = [Game("AB", ask(pair))]
    for fatal in (False, True):
        backend = ScriptedBackend([BackendError("down", fatal=fatal)])
        run = play(backend, REF, pair, games, read)
        if fatal:
            with pytest.raises(BackendError):
                asyncio.run(run)
        else:
            assert asyncio.run(run).cause == "provider_error"


def test_more_meta_leaves_the_verdict_s_id() -> None:
    more = with_meta(item(meta={"turn": 1}), label="A")
    assert more.meta == {"turn": 1, "label": "A"}
    pair = comparison("x", "y")
    script = {"x|y": "1", "y|x": "0"}
    other = Comparison(with_meta(pair.item, note=1), pair.a, pair.b)
    assert judged(pair, script).id == judged(other, script).id
