from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from rlaif.backends.cached import CachedBackend
from rlaif.backends.scripted import ScriptedBackend
from rlaif.errors import BackendError, BudgetError, VerdictError
from rlaif.judge.hearing import Heard, enough, hear, hear_all, hear_reference, own_reference
from rlaif.judge.parsing import parse_winner
from rlaif.store.replies import ReplyStore
from rlaif.types import Completion, Item, Message, Request, Sampling
from tests.builders import item

ASKED = Request((Message("system", "You judge."), Message("user", "Which?")), Sampling(0.7))


def _correct(error: VerdictError) -> str:
    return f"fault: {error}"


def _hear(*replies: object, **more: object) -> tuple[Heard[tuple[str, float]], ScriptedBackend]:
    backend = ScriptedBackend(list(replies))  # type: ignore[arg-type]
    options = {"correct": _correct, "shown": "AB", **more}
    heard = asyncio.run(hear(backend, ASKED, parse_winner, **options))  # type: ignore[arg-type]
    return heard, backend


def test_a_reply_that_can_be_read_is_the_only_one() -> None:
    heard, backend = _hear("Because.\n[[A]]")
    assert heard.read() == ("A", 1.0)
    assert len(backend.requests) == len(heard.calls) == 1
    assert heard.rationale == "Because."


def test_a_reply_without_a_verdict_is_shown_again_with_its_fault() -> None:
    heard, backend = _hear("A is right, I think.", "[[B]]")
    assert heard.read() == ("B", 0.0)
    again = backend.requests[1]
    assert again.messages == (
        *ASKED.messages,
        Message("assistant", "A is right, I think."),
        Message("user", "fault: no verdict mark in the reply"),
    )
    assert again.sampling == ASKED.sampling
    assert [call.shown for call in heard.calls] == ["AB", "AB"]
    assert [call.reply for call in heard.calls] == ["A is right, I think.", "[[B]]"]
    assert len({call.digest for call in heard.calls}) == 2
    assert heard.rationale == "A is right, I think."


def test_a_judge_is_asked_twice_at_most() -> None:
    heard, backend = _hear("no mark", "still none", "[[A]]")
    assert len(backend.requests) == 2
    assert heard.error is not None
    assert heard.error.cause == "unreadable"
    with pytest.raises(VerdictError, match="no verdict mark"):
        heard.read()


def test_thinking_is_not_shown_to_the_judge_again() -> None:
    _, backend = _hear("<think>secret [[A]]</think>Both are fine.", "[[tie]]")
    assert backend.requests[1].messages[2] == Message("assistant", "Both are fine.")


def test_a_reply_that_was_cut_off_is_asked_to_be_brief() -> None:
    heard, backend = _hear(Completion("First of all", "length"), "[[A]]")
    assert heard.read()[0] == "A"
    assert "cut off" in backend.requests[1].messages[-1].content
    assert backend.requests[1].sampling.max_tokens == ASKED.sampling.max_tokens


@pytest.mark.parametrize("text", ["", "<think>on and on"])
def test_a_judge_that_thought_until_it_was_cut_off_gets_more_room(text: str) -> None:
    heard, backend = _hear(Completion(text, "length"), "[[A]]")
    assert heard.read()[0] == "A"
    again = backend.requests[1]
    # an empty turn of the assistant would be refused by some providers
    assert [m.role for m in again.messages] == ["system", "user"]
    assert again.messages[-1].content == "Which?\n\nfault: the reply was cut off"
    assert again.sampling.max_tokens == 2 * ASKED.sampling.max_tokens


def test_an_empty_reply_is_asked_again_with_the_same_room() -> None:
    _, backend = _hear("", "[[A]]")
    assert backend.requests[1].sampling == ASKED.sampling


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (Completion("", "refusal"), "refused"),
        ("I'm sorry, but I can't judge this.", "refused"),
        (BackendError("overloaded", retryable=True), "provider_error"),
        (BudgetError("spent"), "budget"),
    ],
)
def test_what_asking_again_does_not_mend(reply: object, cause: str) -> None:
    heard, backend = _hear(reply, "[[A]]")
    assert len(backend.requests) == 1
    assert heard.error is not None
    assert heard.error.cause == cause


@pytest.mark.parametrize("correct", [None, lambda error: None])
def test_a_judge_may_be_asked_once(correct: object) -> None:
    heard, backend = _hear("no mark", "[[A]]", correct=correct)
    assert len(backend.requests) == 1
    assert heard.error is not None


def test_a_second_call_that_fails_is_the_cause() -> None:
    heard, _ = _hear("no mark", BudgetError("spent"))
    assert heard.error is not None
    assert heard.error.cause == "budget"
    assert len(heard.calls) == 2


def test_reasons_come_from_json_too() -> None:
    heard, _ = _hear('{"rationale": "B lies.", "verdict": "A"}', "[[A]]")
    assert heard.rationale == "B lies."
    assert Heard((), None, VerdictError("x", cause="refused")).rationale is None


def test_more_than_half_of_the_draws_must_be_readable() -> None:
    good: Heard[int] = Heard((), 1)
    bad: Heard[int] = Heard((), error=VerdictError("x", cause="truncated"))
    assert enough([good, bad, good]) == [1, 1]
    for heard in ([good, bad], [bad], [bad, good, bad]):
        with pytest.raises(VerdictError) as caught:
            enough(heard)
        assert caught.value.cause == "truncated"


def _reference(reply: object) -> Heard[str]:
    backend = ScriptedBackend([reply])  # type: ignore[list-item]
    return asyncio.run(hear_reference(backend, item(), Sampling(0.7, max_tokens=50)))


def test_a_judges_own_answer_is_greedy_and_the_same_for_every_candidate() -> None:
    what = item()
    request = own_reference(what, Sampling(0.7, 0.9, 50, seed=3))
    assert request == Request(what.prompt, Sampling(0.0, 1.0, 50, seed=3))
    assert isinstance(what, Item)
    assert _reference("<think>Lyon?</think>Paris.").read() == "Paris."


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (Completion("Paris is", "length"), "truncated"),
        (Completion("", "refusal"), "refused"),
        (" ", "unreadable"),
        (BudgetError("spent"), "budget"),
    ],
)
def test_an_answer_of_its_own_that_the_judge_does_not_have(reply: object, cause: str) -> None:
    heard = _reference(reply)
    assert heard.error is not None
    assert heard.error.cause == cause


OTHER = replace(ASKED, draw=1)


def _hear_all(
    tmp_path: Path, *replies: object, times: int = 1
) -> tuple[list[Heard[tuple[str, float]]], ScriptedBackend]:
    """The last of `times` hearings of two requests by a backend with a store."""
    inner = ScriptedBackend(list(replies))  # type: ignore[arg-type]

    async def run() -> list[Heard[tuple[str, float]]]:
        heard: list[Heard[tuple[str, float]]] = []
        with ReplyStore(tmp_path / "replies.sqlite") as store:
            for _ in range(times):
                backend = CachedBackend(inner, store)
                asks = [("AB", ASKED), ("BA", OTHER)]
                heard = await hear_all(backend, asks, parse_winner, correct=_correct)
        return heard

    return asyncio.run(run()), inner


def test_what_was_asked_before_is_read_from_the_store(tmp_path: Path) -> None:
    first, _ = _hear_all(tmp_path, "[[A]]", "[[B]]")
    again, backend = _hear_all(tmp_path)
    assert backend.requests == []
    assert [one.read() for one in again] == [one.read() for one in first] == [("A", 1), ("B", 0)]
    calls = [(one.calls[0].digest, one.calls[0].shown, one.calls[0].reply) for one in again]
    assert calls == [(one.calls[0].digest, one.calls[0].shown, one.calls[0].reply) for one in first]
    assert [one.calls[0].cached for one in [*first, *again]] == [False, False, True, True]


def test_a_kept_reply_without_a_verdict_is_asked_about_again(tmp_path: Path) -> None:
    first, backend = _hear_all(tmp_path, "no mark", "[[B]]", "[[A]]")
    assert len(backend.requests) == 3
    again, backend = _hear_all(tmp_path)
    assert backend.requests == []
    assert [[call.reply for call in one.calls] for one in again] == [
        ["no mark", "[[A]]"],
        ["[[B]]"],
    ]
    assert [one.read() for one in again] == [one.read() for one in first]


def test_only_what_is_missing_is_asked(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "replies.sqlite") as store:
        key = OTHER.digest(ScriptedBackend([]).identity)
        store.put_many([(key, Completion("[[B]]"))])
    heard, backend = _hear_all(tmp_path, "[[A]]")
    assert backend.requests == [ASKED]
    assert [one.calls[0].cached for one in heard] == [False, True]
    assert [one.read()[0] for one in heard] == ["A", "B"]


def test_both_orders_are_in_flight_at_once(tmp_path: Path) -> None:
    class Meeting(ScriptedBackend):
        """Answers when two are there."""

        async def complete(self, request: Request) -> Completion:
            done = await super().complete(request)
            await asyncio.wait_for(barrier.wait(), 5)
            return done

    barrier: asyncio.Barrier

    async def run() -> list[Heard[tuple[str, float]]]:
        nonlocal barrier
        barrier = asyncio.Barrier(2)
        with ReplyStore(tmp_path / "replies.sqlite") as store:
            backend = CachedBackend(Meeting(["[[A]]", "[[B]]"]), store)
            return await hear_all(backend, [("AB", ASKED), ("BA", OTHER)], parse_winner)

    assert [one.read()[0] for one in asyncio.run(run())] == ["A", "B"]


def test_a_fatal_failure_ends_the_hearing(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no key"):
        _hear_all(tmp_path, BackendError("no key", fatal=True), "[[A]]")
