"""Chains of critique and revision: what is kept, what ends them, and that they replay."""

import asyncio
import json
from collections import Counter

import pytest

from rlaif.backends.cached import CachedBackend
from rlaif.backends.scripted import ScriptedBackend
from rlaif.constitutional.chains import Reviser
from rlaif.constitutional.records import Chain, read_chains
from rlaif.constitutional.rendering import Script
from rlaif.errors import BackendError, BudgetError, ConfigError, SpecError
from rlaif.judge.pairwise import PairwiseJudge
from rlaif.specs.constitution import Constitution, Principle
from rlaif.store.replies import ReplyStore
from rlaif.types import Sampling
from tests.builders import rubric
from tests.unit.constitutional.makers import MINE, actor, item, part_of, reviser


def made(backend, asked=None, **more):
    return asyncio.run(reviser(backend, **more).revise(asked or item()))


def judge(reply):
    """A judge by a rule: it is shown two texts and names the mark."""
    backend = ScriptedBackend(reply, model="scripted/judge")
    return PairwiseJudge(backend, rubric(reasoning="none"), sampling=Sampling()), backend


def longer(request):
    """Prefers the text with more warm water in it, whichever comes first."""
    text = request.messages[-1].content
    a, b = text.split("response_b>", 1)[0], text.split("response_b>", 1)[1]
    return "[[A]]" if a.count("water") > b.count("water") else "[[B]]"


def test_each_revision_is_the_response_of_the_next_round():
    backend = actor()
    chain = made(backend, rounds=3).chain
    assert [part_of(r) for r in backend.requests] == ["response"] + ["critique", "revision"] * 3
    assert (chain.first, chain.revised, chain.cause) == ("Twist hard.", True, None)
    assert chain.final == chain.rounds[2].revision == chain.standing()[3]
    for number, one in enumerate(chain.rounds, 1):
        assert (one.number, one.status) == (number, "unchecked")
        shown = backend.requests[2 * number].messages
        assert chain.standing()[number - 1] in [m.content for m in shown]
        assert one.critique in [m.content for m in shown]


def test_the_same_question_in_two_rounds_is_asked_twice():
    backend = actor(critique="", revision="x")
    one = Constitution("m", "1", "", "", MINE.principles[:1])
    chain = made(backend, rounds=3, script=Script(one)).chain
    assert [r.fault for r in chain.rounds] == ["empty_critique"] * 3
    assert len({r.digest("b") for r in backend.requests}) == 4


def test_actor_and_critic_may_differ():
    writing, criticizing = actor(), actor("Say why it helps to warm the lid.")
    chain = made(writing, critic=criticizing, rounds=2).chain
    assert [part_of(r) for r in criticizing.requests] == ["critique"] * 2
    assert Counter(map(part_of, writing.requests)) == {"response": 1, "revision": 2}
    assert chain.rounds[0].critique == "Say why it helps to warm the lid."


def test_every_seed_gives_its_own_principles_and_the_same_again():
    def names(seed):
        return [r.principle for r in made(actor(), rounds=8, seed=seed).chain.rounds]

    assert names(1) == names(1)
    assert len({tuple(names(seed)) for seed in range(6)}) > 3


@pytest.mark.parametrize(
    ("critique", "revision", "fault", "asked"),
    [
        ("", None, "empty_critique", 5),
        ("I'm sorry, I can't judge that.", None, "refused_critique", 5),
        ("Revised response: Warm it.", None, "revision_in_critique", 5),
        ("Twist hard.", None, "copied_critique", 5),
        ("Be kind.", "", "empty_revision", 9),
        ("Be kind.", "Twist hard.", "unchanged", 9),
        ("Be kind.", "The original response was cold.", "leaked_critique", 9),
    ],
)
def test_what_is_no_revision_is_never_passed_off_as_one(critique, revision, fault, asked):
    backend = actor(critique, (lambda _: revision) if revision is not None else None)
    chain = made(backend, rounds=4).chain
    assert (chain.revised, chain.final, chain.cause) == (False, "Twist hard.", fault)
    assert [(r.status, r.fault) for r in chain.rounds] == [("fault", fault)] * 4
    assert all(r.revision is None and r.reason for r in chain.rounds)
    assert len(backend.requests) == asked


def test_a_round_that_failed_does_not_end_the_chain():
    backend = actor(lambda r: "" if r.draw == 1 else "Warm it.")
    chain = made(backend, rounds=2).chain
    assert [r.status for r in chain.rounds] == ["fault", "unchecked"]
    assert (chain.cause, chain.revised) == (None, True)


def test_no_first_response():
    chain = made(actor(response=" ")).chain
    assert (chain.first, chain.final, chain.revised) == (None, None, False)
    assert (chain.cause, chain.rounds) == ("empty_response", ())
    assert chain.calls[0].reply == " "


@pytest.mark.parametrize(
    ("error", "cause"),
    [(BackendError("down"), "provider_error"), (BudgetError("spent"), "budget")],
)
def test_a_provider_that_fails_breaks_the_chain_off(error, cause):
    late = actor(lambda r: error if r.draw == 2 else "Warm it.")
    chain = made(late, rounds=4).chain
    assert (chain.cause, len(chain.rounds)) == (cause, 2)
    assert made(actor(response=error)).chain.cause == cause
    with pytest.raises(BackendError, match="bad key"):
        made(actor(response=BackendError("bad key", fatal=True)))


def test_a_revision_is_kept_if_it_is_preferred_in_both_orders():
    referee, asked = judge(longer)
    texts = {1: "Run water.", 2: "Run water, more water.", 3: "Dry."}
    backend = actor(revision=lambda r: texts[r.draw])
    done = made(backend, rounds=4, judge=referee, check="per-round")
    chain = done.chain
    assert [r.status for r in chain.rounds] == ["kept", "kept", "not_preferred"]
    assert (chain.final, chain.revised) == ("Run water, more water.", True)
    assert asked.calls == 6
    assert [v.id for v in done.verdicts] == [r.check.verdict_id for r in chain.rounds]
    assert [v.candidates[0].id for v in done.verdicts] == ["first", "round-1", "round-2"]
    assert chain.rounds[0].check.p_revision == 1.0
    assert chain.standing() == ["Twist hard.", "Run water.", texts[2], texts[2]]


def test_a_judge_who_likes_the_first_place_keeps_nothing():
    referee, _ = judge(lambda _: "[[B]]")
    chain = made(actor(), judge=referee, check="per-round").chain
    assert [r.status for r in chain.rounds] == ["not_preferred"]
    assert (chain.rounds[0].check.consistent, chain.revised, chain.cause) == (False, False, None)


def test_no_verdict_is_no_preference_and_ends_nothing():
    referee, _ = judge(lambda _: "Hm.")
    chain = made(actor(), rounds=2, judge=referee, check="per-round").chain
    assert [r.status for r in chain.rounds] == ["no_verdict"] * 2
    assert chain.rounds[0].check.cause == "unreadable"
    assert (chain.revised, chain.final) == (False, "Twist hard.")


def test_a_check_that_was_not_answered_breaks_the_chain_off():
    referee, _ = judge(lambda _: BackendError("down"))
    for check in ("per-round", "final"):
        chain = made(actor(), rounds=2, judge=referee, check=check).chain
        assert (chain.cause, chain.revised) == ("provider_error", False)
        assert chain.reason == "the check was not answered"


@pytest.mark.parametrize(("reply", "kept"), [(longer, True), (lambda _: "[[A]]", False)])
def test_the_last_revision_alone_can_be_checked(reply, kept):
    referee, asked = judge(reply)
    chain = made(actor(), rounds=3, judge=referee, check="final").chain
    assert asked.calls == 2
    assert {r.status for r in chain.rounds} == {"kept" if kept else "not_preferred"}
    assert chain.revised is kept
    assert chain.check is not None
    assert chain.final == (chain.rounds[2].revision if kept else "Twist hard.")
    nothing = made(actor(""), rounds=1, judge=referee, check="final").chain
    assert (nothing.check, nothing.cause) == (None, "empty_critique")


def test_the_most_violated_principle_is_asked_for():
    chooser = ScriptedBackend(lambda r: f"[[{2 if r.draw == 1 else 9}]]", model="scripted/c")
    chain = made(actor(), rounds=2, draw="most-violated", chooser=chooser).chain
    assert (chain.rounds[0].principle, chain.rounds[0].drawn) == ("brief", "most-violated")
    assert chain.rounds[1].drawn == "seeded"
    assert [c.part for c in chain.rounds[0].calls] == ["draw", "critique", "revision"]
    mute = ScriptedBackend(lambda _: "", model="scripted/c")
    assert made(actor(), draw="most-violated", chooser=mute).chain.rounds[0].drawn == "seeded"
    down = ScriptedBackend(lambda _: BackendError("x"), model="scripted/c")
    assert made(actor(), draw="most-violated", chooser=down).chain.cause == "provider_error"


def test_a_rerun_from_the_store_is_the_same_to_the_bit(tmp_path):
    backend = actor()

    async def twice():
        lines = []
        with ReplyStore(tmp_path / "r.sqlite") as store:
            for _ in range(2):
                cached = CachedBackend(backend, store)
                done = await reviser(cached, rounds=3).revise(item())
                lines.append(json.dumps(done.chain.as_dict(), sort_keys=True))
        return lines, done

    lines, done = asyncio.run(twice())
    assert lines[0] == lines[1]
    assert backend.calls == 7
    assert all(call.cached for call in done.calls)


def test_a_record_survives_the_file(tmp_path):
    referee, _ = judge(longer)
    chains = [
        made(actor(), judge=referee, check="per-round").chain,
        made(actor(response="")).chain,
        made(actor("")).chain,
    ]
    path = tmp_path / "revisions.jsonl"
    path.write_text("".join(json.dumps(c.as_dict()) + "\n" for c in chains))
    assert list(read_chains(tmp_path)) == chains
    assert list(read_chains(path)) == chains


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2"),
        ({"final": "Twist hard."}, "no revision"),
        ({"extra": 1}, "Unexpected|extra"),
        ({"rounds": 3}, "tuple"),
    ],
)
def test_a_line_that_is_no_chain(tmp_path, change, message):
    path = tmp_path / "revisions.jsonl"
    path.write_text(json.dumps(made(actor()).chain.as_dict() | change))
    with pytest.raises(SpecError, match=message) as error:
        list(read_chains(path))
    assert error.value.line == 1


def test_what_would_be_asked_is_what_is_asked():
    referee, asked = judge(longer)
    grown = actor(revision=lambda r: "Run water." * r.draw)
    for check, more in (
        ("off", {}),
        ("per-round", {"judge": referee}),
        ("final", {"judge": referee}),
    ):
        asked.requests.clear()
        grown.requests.clear()
        maker = reviser(grown, rounds=4, check=check, **more)
        planned = Counter(b is None for b, _ in maker.requests(item()))
        asyncio.run(maker.revise(item()))
        assert (planned[False], planned[True]) == (len(grown.requests), len(asked.requests))
    chooser = actor()
    planned = reviser(grown, draw="most-violated", chooser=chooser, rounds=2).requests(item())
    assert sum(b is chooser for b, _ in planned) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"rounds": 0}, "count from 1"),
        ({"check": "final"}, "takes a judge"),
        ({"judge": judge(longer)[0]}, "takes no judge"),
        ({"draw": "most-violated"}, "needs a model to ask"),
    ],
)
def test_options_that_contradict_each_other(more, message):
    with pytest.raises(ConfigError, match=message):
        reviser(actor(), **more)


def test_a_constitution_without_critiques():
    only = Constitution("m", "1", "", "", (Principle("p", "", "", "Which?"),))
    with pytest.raises(SpecError, match="no principle has a critique"):
        Reviser(actor(), actor(), Script(only))


def test_the_id_is_of_prompt_and_recipe():
    ids = {
        made(actor(), asked, **more).chain.id
        for asked in (item(), item("i2"))
        for more in ({}, {"seed": 1}, {"rounds": 1}, {"script": Script(MINE, examples=0)})
    }
    assert len(ids) == 8
    assert isinstance(made(actor()).chain, Chain)
