from __future__ import annotations

import asyncio

import pytest

from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BackendError
from rlaif.judge.likelihood import LikelihoodJudge
from rlaif.types import Completion, Request, TokenLogprob, Verdict
from tests.builders import comparison


def _judge(with_prompt: dict[str, list[float]], alone: dict[str, list[float]]) -> LikelihoodJudge:
    def script(request: Request) -> Completion:
        table = alone if request.messages[0].content == "" else with_prompt
        logprobs = table[request.messages[-1].content]
        return Completion("", tokens=tuple(TokenLogprob("t", lp) for lp in logprobs))

    return LikelihoodJudge(ScriptedBackend(script), temperature_nats=1.0)


def _compare(judge: LikelihoodJudge, a: str = "Paris.", b: str = "Lyon.") -> Verdict:
    return asyncio.run(judge.compare(comparison(a, b)))


def test_the_score_is_the_gain_per_token() -> None:
    given = {"Paris.": [-1.0, -1.0], "Lyon.": [-2.0]}
    alone = {"Paris.": [-3.0, -2.0], "Lyon.": [-2.5]}
    preference = _compare(_judge(given, alone)).preference
    assert preference is not None
    # gains per token: 1.5 for Paris, 0.5 for Lyon
    assert preference.p_a == pytest.approx(1 / (1 + 2.718281828459045 ** -(1.5 - 0.5)))
    assert (preference.winner, preference.consistent) == ("A", True)


def test_swapping_swaps() -> None:
    judge = _judge({"x": [-1.0], "y": [-4.0]}, {"x": [-2.0], "y": [-4.5]})
    one, other = _compare(judge, "x", "y").preference, _compare(judge, "y", "x").preference
    assert one is not None
    assert other is not None
    assert one.p_a == pytest.approx(1 - other.p_a)


@pytest.mark.parametrize(("alone", "what"), [([], "two ways"), ([-1.0, -1.0], "two ways")])
def test_tokens_that_do_not_match_are_no_verdict(alone: list[float], what: str) -> None:
    verdict = _compare(_judge({"x": [-1.0], "y": [-1.0]}, {"x": [-1.0], "y": alone}), "x", "y")
    assert (verdict.status, verdict.cause) == ("no_verdict", "unreadable")
    assert what in (verdict.rationale or "")


def test_an_empty_response_has_no_verdict() -> None:
    verdict = _compare(_judge({"x": [-1.0], "": []}, {"x": [-1.0], "": []}), "x", "")
    assert verdict.cause == "unreadable"


def test_identical_responses_tie_without_a_call() -> None:
    preference = _compare(_judge({}, {}), "x", "x").preference
    assert preference is not None
    assert preference.winner == "tie"


def test_a_backend_that_cannot_score_text_stops_the_run() -> None:
    backend = ScriptedBackend(lambda _: BackendError("cannot score given text", fatal=True))
    with pytest.raises(BackendError, match="cannot score"):
        _compare(LikelihoodJudge(backend))
