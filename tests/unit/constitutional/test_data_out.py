"""Rows to train on, how texts drifted, and scores by round."""

import asyncio
import json
from dataclasses import replace

import pytest

from rlaif.constitutional.drift import coverage, drift_of, near_duplicates, share
from rlaif.constitutional.export import (
    drawn_pairs,
    helpfulness_row,
    mixed,
    sft_rows,
    write_sft,
)
from rlaif.constitutional.rounds import RoundScores, last_round, standing_responses
from rlaif.errors import ConfigError, DataError
from rlaif.preferences.pairs import HeldBack, PreferencePair, Rules, pairs_from
from rlaif.types import JudgeRef, RubricRef, Sampling, Score, Verdict
from tests.builders import candidate, verdict
from tests.unit.constitutional.makers import actor, item, reviser


def chain(name="i1", prompt="How do I open a jar?", *, revision=None, rounds=2, meta=None, **more):
    backend = actor(revision=revision, **more)
    asked = item(name, prompt, **(meta or {}))
    return asyncio.run(reviser(backend, rounds=rounds).revise(asked)).chain


def test_rows_are_the_revisions_that_passed():
    one = chain()
    rows = list(sft_rows([one]))
    assert [r.completion[0].content for r in rows] == [r.revision for r in one.rounds]
    assert (rows[0].chain_id, rows[0].round, rows[0].principle) == (
        one.id,
        1,
        one.rounds[0].principle,
    )
    assert rows[0].constitution == "mine@1.0.0"
    [last] = sft_rows([one], "last")
    assert last == rows[-1]
    lost = replace(one, rounds=(one.rounds[0], replace(one.rounds[1], status="not_preferred")))
    assert len(list(sft_rows([lost]))) == 1
    assert list(sft_rows([replace(one, cause="provider_error")])) == []
    assert list(sft_rows([chain(critique="")])) == []
    back = chain(revision=lambda r: "Warm it." if r.draw == 1 else "Twist hard.")
    assert [r.round for r in sft_rows([back])] == [1]


def test_a_mixture_holds_its_ratio_and_comes_shuffled_alike():
    own = [row for n in range(20) for row in sft_rows([chain(f"i{n}", f"Q{n}?")], "last")]
    others = [helpfulness_row(item(f"h{n}", f"H{n}?"), candidate("1", "Yes.")) for n in range(50)]
    made = list(mixed(own, others, 1.5))
    assert sum(r.origin == "helpfulness" for r in made) == 30
    assert made == list(mixed(own, others, 1.5))
    assert [r.origin for r in made] != sorted(r.origin for r in made)
    assert {r.prompt for r in mixed(own, others, 0.5, seed=1)} != {
        r.prompt for r in mixed(own, others, 0.5, seed=2)
    }
    for ratio in (3.0, -1.0):
        with pytest.raises(DataError, match="others"):
            list(mixed(own, others, ratio))


def test_pairs_are_mixed_at_a_ratio():
    def rows(*names):
        return list(pairs_from([verdict(n, item_id=n, prompt=n) for n in names], Rules()))

    others = [*rows(*"abcdef"), *pairs_from([verdict("t", 0.5, item_id="t")], Rules())]
    found = drawn_pairs(rows("x", "y"), others, 2.0)
    assert sum(isinstance(r, PreferencePair) for r in found) == 4
    assert sum(isinstance(r, HeldBack) for r in found) == 1
    with pytest.raises(DataError, match="takes 10 others"):
        drawn_pairs(rows("x", "y"), others, 5.0)


def test_a_data_set_opens_and_no_prompt_stands_on_both_sides(tmp_path):
    datasets = pytest.importorskip("datasets")
    chains = [chain(f"i{n}", f"Question {n}?") for n in range(30)]
    rows = [*sft_rows(chains), *sft_rows(chains[:1])]
    summary = write_sft(rows, tmp_path / "sft", test_share=0.3)
    assert summary["duplicates"] == 2
    assert sum(summary["rows"].values()) == 60
    made = datasets.load_from_disk(str(tmp_path / "sft"))
    asked = {s: {r["prompt"][0]["content"] for r in made[s]} for s in ("train", "test")}
    assert asked["train"]
    assert asked["test"]
    assert not asked["train"] & asked["test"]
    row = made["train"][0]
    assert row["completion"][0]["role"] == "assistant"
    assert row["origin"] == "revision"
    write_sft(rows, tmp_path / "sft", test_share=0.0)
    with pytest.raises(DataError, match="no revision"):
        write_sft([], tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    with pytest.raises(ConfigError, match="holds other files"):
        write_sft(rows, tmp_path / "other")


SORRY = "I'm sorry, but as an AI I can't help. It's important to remember that you are valued."


def test_drift_tells_refusals_length_stock_phrases_and_telling_words():
    chains = [
        chain(
            f"i{n}",
            f"Question number {n} about jars?",
            response=f"Twist lid number {n} hard with both of your hands.",
            revision=lambda r: f"{SORRY} {r.draw}",
            meta={"harmful": n % 2 == 0},
            rounds=1,
        )
        for n in range(40)
    ]
    found = drift_of([*chains, chain("e", response="")])
    first, last = found["rounds"]
    assert (first["n"], first["refusals"]["all"]["value"]) == (40, 0.0)
    evasive = last["refusals"]["harmless"]
    assert (evasive["value"], evasive["high"], evasive["n"]) == (1.0, 1.0, 20)
    assert 0.7 < evasive["low"] < 1.0
    assert last["refusals"]["harmful"]["n"] == 20
    assert last["boilerplate"]["value"] == 1.0
    assert last["words"]["value"] > first["words"]["value"]
    assert found["near_duplicates"]["final"] > 0.9
    assert found["near_duplicates"]["first"] < 0.3
    assert found["separability"]["accuracy"] == 1.0
    assert "sorry" in [word for word, _ in found["separability"]["second"]]
    assert (found["revised"], found["leaked"]) == (40, 0)
    assert found["principles"]["drawn"] == 2
    json.dumps(found, allow_nan=False)


def test_drift_of_little_or_nothing():
    assert drift_of([])["rounds"] == []
    found = drift_of([chain(meta={"harmful": []})])
    assert "at least 10" in found["separability"]["reason"]
    assert set(found["rounds"][0]["refusals"]) == {"all"}
    assert share([]) is None


def test_near_duplicates_and_coverage():
    text = "Run warm water over the lid for a minute and then twist it off with a cloth."
    assert (
        near_duplicates([text, text.replace("cloth", "towel"), "Something else entirely."]) == 1 / 3
    )
    assert near_duplicates(["Yes.", "No.", "yes"]) == pytest.approx(1 / 3)
    assert near_duplicates([]) is None
    from collections import Counter

    assert coverage(Counter(a=5, b=5))["effective"] == pytest.approx(2.0)
    assert coverage(Counter()) == {"drawn": 0, "effective": 0.0}


def test_leaks_that_slipped_through_are_counted():
    one = chain(rounds=1, critique="You forgot that the lid has to be warmed with water first.")
    leaky = replace(one, final=f"Well. {one.rounds[0].critique}")
    assert drift_of([leaky])["leaked"] == 1


def scored(place, item_id, value):
    ref = JudgeRef("scripted/j", "verdict", Sampling(), RubricRef("safety", "1", "d"))
    status = {"status": "ok", "score": Score(value, 1, 5)} if value is not None else {
        "status": "no_verdict", "cause": "unreadable",
    }  # fmt: skip
    return Verdict(
        f"{place}{item_id}", "score", item(item_id), (candidate(place, "x"),), ref, **status
    )


def test_scores_by_round_with_their_gain_prompt_by_prompt():
    scores = RoundScores()
    for n, (first, second) in enumerate([(1, 3), (2, 4), (5, 5), (4, None)]):
        scores.add(scored("round-0", f"i{n}", first))
        scores.add(scored("round-10", f"i{n}", second))
    zero, ten = scores.rows()
    assert (zero["round"], zero["score"]["value"], zero["gain"]) == (0, 3.0, None)
    assert (ten["round"], ten["coverage"], ten["causes"]) == (10, 0.75, {"unreadable": 1})
    assert ten["score"]["value"] == 4.0
    assert ten["gain"]["value"] == pytest.approx(4 / 3)
    assert ten["gain"]["low"] < 4 / 3 < ten["gain"]["high"]


def test_the_responses_that_stood_after_each_round():
    ended = replace(chain(), rounds=chain().rounds[:1])
    found = list(standing_responses([ended, chain("e", response="")], 2))
    assert [c.id for _, c in found] == ["round-0", "round-1", "round-2"]
    assert found[1][1].text == found[2][1].text == ended.rounds[0].revision
    assert last_round([ended, chain()]) == 2
    assert last_round([]) == 0
