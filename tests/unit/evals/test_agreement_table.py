from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import ConfigError, DataError, SpecError
from rlaif.evals.agreement import Settings, agreement_table
from rlaif.evals.vote_table import SharedNames, VoteTable
from tests.unit.evals.records import grade, pair

FAST = Settings(rounds=5)


def held(verdicts, votes, settings=FAST, **more):
    shared = SharedNames()
    judge, people = VoteTable(shared), VoteTable(shared)
    for verdict in verdicts:
        judge.add(verdict)
    for vote in votes:
        people.add(vote)
    return agreement_table(judge, people, settings=settings, **more)


def test_every_verdict_meets_every_vote_whichever_model_is_called_a() -> None:
    made = held(
        [pair("1", "x", "y", "A"), pair("2", "x", "y", "tie"), pair("3", "x", "y", "B")],
        [
            pair("1", "x", "y", "A", judge="p1"),
            pair("1", "y", "x", "B", judge="p2"),  # x again
            pair("1", "x", "y", "tie", judge="p3"),
            pair("2", "x", "y", "tie", judge="p1"),
            pair("9", "x", "y", "A", judge="p1"),
        ],
    )
    one, two = made["setups"]["S1"], made["setups"]["S2"]
    assert (one["n"], one["agreed"], one["agreement"]) == (4, 3, 0.75)
    assert (two["n"], two["agreement"], two["kappa"]) == (2, 1.0, None)
    assert made["unmatched"] == {"verdicts": 1, "votes": 1}
    assert made["ceiling"]["S1"] == pytest.approx(4 / 5)
    assert made["verdicts"]["ties"] == 1


def test_turns_are_told_apart_and_strata_found_on_either_side() -> None:
    turn = [{"question_id": 81, "turn": n} for n in (1, 2)]
    made = held(
        [pair("81:1", "x", "y", "A", meta=turn[0]), pair("81:2", "x", "y", "A", meta=turn[1])],
        [
            pair("a", "x", "y", "A", meta=turn[0] | {"category": "math"}),
            pair("b", "x", "y", "B", meta=turn[1] | {"category": "math"}),
        ],
    )
    shares = {turn: setups["S1"]["agreement"] for turn, setups in made["by"]["turn"].items()}
    assert shares == {"1": 1.0, "2": 0.0}
    assert made["by"]["category"]["math"]["S1"]["n"] == 2
    assert made["setups"]["S1"]["prompts"] == 1  # both turns are one prompt


def test_what_has_no_verdict_is_in_the_coverage_and_nowhere_else() -> None:
    votes = [pair("1", "x", "y", "A", judge=f"p{n}") for n in range(3)]
    votes.append(pair("2", "x", "y", None, judge="p0", cause="refused"))
    made = held([pair("1", "x", "y", "A"), pair("2", "x", "y", "A")], votes)
    setup = made["setups"]["S1"]
    assert (setup["n"], setup["coverage"], setup["causes"]) == (3, 0.75, {"refused": 1})
    lost = held([pair("1", "x", "y", None), pair("2", "x", "y", "B")], votes)["setups"]["S1"]
    assert (lost["n"], lost["agreement"], lost["coverage"]) == (0, None, 0.0)
    assert lost["causes"] == {"refused": 1, "unreadable": 3}


def test_inconsistent_verdicts_can_be_left_out() -> None:
    verdicts = [
        pair("1", "x", "y", "tie", orders=("A", "B")),
        pair("2", "x", "y", "A"),
    ]
    votes = [pair(n, "x", "y", "A", judge="p") for n in "12"]
    made = held(verdicts, votes, Settings(rounds=5, consistent_only=True))
    setup = made["setups"]["S1"]
    assert (setup["n"], setup["agreement"], setup["coverage"]) == (1, 1.0, 0.5)
    assert setup["causes"] == {"inconsistent": 1}
    assert made["verdicts"]["inconsistent"] == 1


def test_voters_among_themselves_are_unordered_pairs() -> None:
    table = VoteTable(SharedNames())
    for name, winner in (("p1", "A"), ("p2", "A"), ("p3", "B")):
        table.add(pair("1", "x", "y", winner, judge=name))
    table.add(pair("2", "x", "y", "A", judge="p1"))
    made = agreement_table(table, table, settings=FAST)
    assert (made["setups"]["S1"]["n"], made["setups"]["S1"]["agreed"]) == (3, 1)
    # both ways: AA twice, AB and BA twice each; kappa = (1/3 - 5/9) / (4/9)
    assert made["setups"]["S1"]["kappa"] == pytest.approx(-0.5)
    one = agreement_table(table, table, judges=["p3"], settings=FAST)
    assert (one["setups"]["S1"]["n"], one["setups"]["S1"]["agreed"]) == (2, 0)


def test_the_majority_splits_and_leaves_out_ties() -> None:
    def votes(item, *winners):
        return [pair(item, "x", "y", w, judge=f"p{n}") for n, w in enumerate(winners)]

    made = held(
        [pair("1", "x", "y", "A"), pair("2", "x", "y", "B"), pair("3", "x", "y", None)],
        [*votes("1", "A", "B"), *votes("2", "tie", "tie", "B"), *votes("3", "A")],
        Settings(majority=True, rounds=5),
    )
    one, two = made["setups"]["S1"], made["setups"]["S2"]
    assert (one["n"], one["agreed"]) == (2, 0.5)
    assert (two["n"], two["agreed"]) == (1, 0.5)
    assert (one["coverage"], one["causes"]) == (pytest.approx(2 / 3), {"unreadable": 1})


@given(st.lists(st.tuples(st.sampled_from("ABt"), st.sampled_from("ABt")), min_size=1, max_size=12))
def test_swapping_the_sides_changes_nothing(pairs) -> None:
    words = {"A": "A", "B": "B", "t": "tie"}
    one = [pair(str(n), "x", "y", words[v]) for n, (v, _) in enumerate(pairs)]
    two = [pair(str(n), "y", "x", words[v]) for n, (_, v) in enumerate(pairs)]
    there, back = held(one, two)["setups"]["S1"], held(two, one)["setups"]["S1"]
    assert there["agreement"] == back["agreement"]
    assert there["kappa"] == (back["kappa"] and pytest.approx(back["kappa"]))


def test_what_a_table_of_votes_refuses() -> None:
    table = VoteTable(SharedNames())
    with pytest.raises(SpecError, match="a score is no vote"):
        table.add(grade("1", "x", 5))
    with pytest.raises(SpecError, match="both candidates are by x"):
        table.add(pair("1", "x", "x", "A"))
    with pytest.raises(SpecError, match="names no category"):
        table.add(pair("1", "x", "y", "A", meta={"category": ""}))
    table.add(pair("2", "x", "y", "A"))
    with pytest.raises(ConfigError, match="no judge is called 'expert'"):
        table.judges_called("expert")
    with pytest.raises(DataError, match="there are no votes"):
        table.votes(["nobody"])
    with pytest.raises(DataError, match="no comparison has two votes"):
        agreement_table(table, table, settings=FAST)
    with pytest.raises(ConfigError, match="majority of the voters themselves"):
        agreement_table(table, table, settings=Settings(majority=True))


def test_two_runs_that_share_nothing_are_refused() -> None:
    other = [pair("2", "x", "y", "A", judge="p")]
    for settings in (FAST, Settings(majority=True)):
        with pytest.raises(DataError, match="share no comparison"):
            held([pair("1", "x", "y", "A")], other, settings)
    twice = [pair("1", "x", "y", "A"), pair("1", "x", "y", "B", judge="second")]
    with pytest.raises(ConfigError, match="several judges at once against a majority"):
        held(twice, [pair("1", "x", "y", "A", judge="p")], Settings(majority=True))
