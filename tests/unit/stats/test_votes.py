import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.stats.coefficients import kappa
from rlaif.stats.votes import (
    LabelPairs,
    against_majority,
    against_votes,
    agreement,
    among_voters,
    between_groups,
    human_ceiling,
    same_votes_ceiling,
)

KEYS = ["q1", "q1", "q1", "q2", "q2", "q3"]
LABELS = ["A", "A", "B", "tie", "B", "A"]
VERDICTS = {"q1": "A", "q2": "tie"}


def test_a_verdict_meets_every_vote_on_its_key():
    pairs = against_votes(VERDICTS, KEYS, LABELS)
    assert pairs.first == ("A", "A", "A", "tie", "tie")
    assert pairs.second == ("A", "A", "B", "tie", "B")
    assert pairs.clusters == ("q1", "q1", "q1", "q2", "q2")
    assert (pairs.unmatched, pairs.coverage) == (1, 5 / 6)
    assert against_votes(VERDICTS, KEYS, LABELS, [1, 1, 1, 2, 2, 3]).clusters == (1, 1, 1, 2, 2)
    assert against_votes({}, [], []).coverage == 0


def test_without_leaves_out_a_tie_on_either_side():
    pairs = against_votes({**VERDICTS, "q3": "A"}, KEYS, ["A", "tie", "B", "A", "B", "A"])
    assert pairs.without("tie") == LabelPairs(("A", "A", "A"), ("A", "B", "A"), ("q1", "q1", "q3"))


def test_voters_meet_each_other_once():
    pairs = among_voters(KEYS, LABELS)
    assert sorted(zip(pairs.first, pairs.second, strict=True)) == [
        ("A", "A"),
        ("A", "B"),
        ("A", "B"),
        ("tie", "B"),
    ]
    assert pairs.clusters == ("q1", "q1", "q1", "q2")
    assert len(pairs.both_ways()) == 8
    assert pairs.both_ways().first == pairs.first + pairs.second


def test_groups_meet_on_the_keys_they_share():
    pairs = between_groups(["q1", "q4"], ["B", "A"], KEYS, LABELS)
    assert (pairs.first, pairs.second) == (("B", "B", "B"), ("A", "A", "B"))
    assert pairs.clusters == ("q1", "q1", "q1")


def test_agreement_by_hand():
    pairs = against_votes(VERDICTS, KEYS, LABELS)
    found = agreement(pairs, rounds=100)
    assert (found.share.value, found.share.n, found.share.n_clusters) == (0.6, 5, 2)
    # Chance: A 3/5 * 2/5, tie 2/5 * 1/5 = 8/25.
    assert found.kappa.value == pytest.approx((0.6 - 0.32) / 0.68)
    assert found.coverage == 5 / 6


def test_agreement_on_one_label_has_no_kappa():
    found = agreement(against_votes({"q": "A", "r": "A"}, ["q", "r"], ["A", "A"]))
    assert found.share.value == 1
    assert found.kappa is None


def test_split_majorities_share_the_credit():
    keys, labels = ["q"] * 4 + ["r"] * 3, ["A", "A", "tie", "tie", "B", "B", "tie"]
    assert against_majority({"q": "A", "r": "B"}, keys, labels).value == 0.75
    assert against_majority({"q": "A", "r": "B"}, keys, labels, leave_out="tie").value == 1.0
    only_r = against_majority({"q": "tie", "r": "A"}, keys, labels, leave_out="tie")
    assert (only_r.value, only_r.n) == (0.0, 1)


def test_keys_whose_majority_is_a_tie_have_none_without_it():
    with pytest.raises(DataError, match="no pair"):
        against_majority({"q": "A"}, ["q", "q"], ["tie", "tie"], leave_out="tie")


def test_ceilings_by_hand():
    # q1: each A meets (A, B): 1/2 each; the B meets (A, A): 0. q2: 0 and 0. q3 has one vote.
    assert human_ceiling(KEYS, LABELS).value == pytest.approx(1 / 5)
    assert human_ceiling(KEYS, LABELS).n == 5
    # Without ties: q1 as before; q2's B meets only a tie, its tie is no vote.
    assert human_ceiling(KEYS, LABELS, leave_out="tie").value == pytest.approx(1 / 3)
    # 2 of q1, 1 of q2, 1 of q3.
    assert same_votes_ceiling(KEYS, LABELS).value == pytest.approx(4 / 6)


VOTES = st.lists(
    st.tuples(st.sampled_from("pqr"), st.sampled_from(["A", "B", "tie"])), min_size=1, max_size=25
)


@given(VOTES, st.dictionaries(st.sampled_from("pqr"), st.sampled_from(["A", "B", "tie"])))
def test_no_verdict_beats_the_votes_own_majority(votes, verdicts):
    keys, labels = zip(*votes, strict=True)
    pairs = against_votes(verdicts, keys, labels)
    hits = sum(a == b for a, b in zip(pairs.first, pairs.second, strict=True))
    ceiling = same_votes_ceiling(keys, labels)
    assert hits <= ceiling.value * ceiling.n + 1e-9
    assert ceiling.n == len(votes)


@given(VOTES, st.randoms(use_true_random=False))
def test_swapped_names_and_shuffled_votes_change_nothing(votes, random):
    swap = {"A": "B", "B": "A", "tie": "tie"}
    shuffled = votes.copy()
    random.shuffle(shuffled)
    for measure in (human_ceiling, same_votes_ceiling):
        outcomes = []
        for rows in (votes, [(k, swap[w]) for k, w in shuffled]):
            try:
                outcomes.append(measure(*zip(*rows, strict=True)).value)
            except DataError:
                outcomes.append(None)
        assert outcomes[0] == pytest.approx(outcomes[1])


def test_lengths_and_emptiness_are_refused():
    for call in (
        lambda: against_votes({}, ["q"], []),
        lambda: among_voters(["q"], []),
        lambda: between_groups(["q"], ["A"], ["q"], []),
        lambda: same_votes_ceiling(["q"], []),
    ):
        with pytest.raises(DataError, match="0 labels for 1 keys"):
            call()
    with pytest.raises(DataError, match="cluster names"):
        against_votes({}, ["q"], ["A"], ["p", "p"])
    for call in (
        lambda: agreement(LabelPairs((), (), ())),
        lambda: human_ceiling(["q"], ["A"]),
        lambda: same_votes_ceiling([], []),
    ):
        with pytest.raises(DataError, match="no pair"):
            call()


# What the published votes give: lm-sys mt_bench_human_judgments, 40 of the 80 questions.
@pytest.fixture
def mt_bench(shared_data):
    def read(name):
        with (shared_data / "mt_bench" / name).open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def labeled(row):
        models = tuple(sorted((row["model_a"], row["model_b"])))
        sides = {models[0]: "A", models[1]: "B"}
        label = sides[row[row["winner"]]] if row["winner"] in row else "tie"
        return (row["question_id"], row["turn"], *models), label

    judged = read("gpt4_pair_judgments.jsonl")
    verdicts = dict(labeled(row) for row in judged)
    consistent = dict(labeled(row) for row in judged if "inconsistent" not in row["winner"])
    human = [(row["judge"], *labeled(row)) for row in read("human_judgments.jsonl")]

    def votes(kind, *turns):
        rows = [(k, w) for who, k, w in human if who.startswith(kind) and k[1] in turns]
        return [k for k, _ in rows], [w for _, w in rows], [k[0] for k, _ in rows]

    return verdicts, consistent, votes


def counts(pairs):
    return sum(a == b for a, b in zip(pairs.first, pairs.second, strict=True)), len(pairs)


@pytest.mark.parametrize(
    ("kind", "turn", "s1", "s2"),
    [
        ("expert", 1, (423, 671), (345, 416)),
        ("expert", 2, (432, 662), (353, 424)),
        ("author", 1, (121, 181), (95, 105)),
        ("author", 2, (115, 179), (88, 103)),
        ("", 1, (544, 852), (440, 521)),
        ("", 2, (547, 841), (441, 527)),
    ],
)
def test_gpt4_against_people(mt_bench, kind, turn, s1, s2):
    verdicts, _, votes = mt_bench
    pairs = against_votes(verdicts, *votes(kind, turn))
    assert (counts(pairs), counts(pairs.without("tie"))) == (s1, s2)
    assert pairs.coverage == 1


@pytest.mark.parametrize(
    ("turn", "s1", "s2", "mixed1", "mixed2"),
    [
        (1, (220, 369), (186, 237), (142, 227), (110, 135)),
        (2, (232, 361), (175, 216), (135, 221), (108, 127)),
    ],
)
def test_people_among_themselves(mt_bench, turn, s1, s2, mixed1, mixed2):
    _, _, votes = mt_bench
    keys, labels, questions = votes("expert", turn)
    pairs = among_voters(keys, labels, questions)
    assert (counts(pairs), counts(pairs.without("tie"))) == (s1, s2)
    authors, said, where = votes("author", turn)
    mixed = between_groups(authors, said, keys, labels, where)
    assert (counts(mixed), counts(mixed.without("tie"))) == (mixed1, mixed2)


@pytest.mark.parametrize(
    ("turn", "s1", "n1", "s2", "n2"),
    [(1, 0.6536, 408, 0.8377, 268), (2, 0.6874, 402, 0.8495, 279)],
)
def test_gpt4_against_the_majority_of_experts(mt_bench, turn, s1, n1, s2, n2):
    verdicts, _, votes = mt_bench
    keys, labels, questions = votes("expert", turn)
    all_three = against_majority(verdicts, keys, labels, questions)
    decided = against_majority(verdicts, keys, labels, questions, leave_out="tie")
    assert (all_three.n, decided.n) == (n1, n2)
    assert (all_three.value, decided.value) == pytest.approx((s1, s2), abs=5e-5)


@pytest.mark.parametrize(
    ("turns", "s1", "s2", "among", "kept"),
    [
        ([1], 0.4359, 0.6570, 0.3768, (0.6863, 0.4989, 0.8361)),
        ([2], 0.4684, 0.6651, 0.4602, (0.6998, 0.5148, 0.8353)),
        ([1, 2], 0.4523, 0.6616, 0.4195, (0.6930, 0.5071, 0.8357)),
    ],
)
def test_kappa_and_what_dropping_inconsistent_verdicts_does(mt_bench, turns, s1, s2, among, kept):
    verdicts, consistent, votes = mt_bench
    keys, labels, questions = votes("expert", *turns)
    pairs = against_votes(verdicts, keys, labels, questions)
    people = among_voters(keys, labels, questions).both_ways()
    plain = [
        kappa(x.first, x.second, rounds=1).value for x in (pairs, pairs.without("tie"), people)
    ]
    assert plain == pytest.approx([s1, s2, among], abs=1e-4)
    found = agreement(against_votes(consistent, keys, labels, questions), rounds=10)
    assert (found.share.value, found.kappa.value, found.coverage) == pytest.approx(kept, abs=1e-4)


def test_intervals_and_ceiling_of_the_published_votes(mt_bench):
    verdicts, _, votes = mt_bench
    keys, labels, questions = votes("expert", 1, 2)
    pairs = against_votes(verdicts, keys, labels, questions)
    s1, s2 = agreement(pairs), agreement(pairs.without("tie"), rounds=10)
    assert s1.share.n_clusters == 40
    assert (s1.share.low, s1.share.high) == pytest.approx((0.598, 0.683), abs=0.01)
    assert (s2.share.low, s2.share.high) == pytest.approx((0.786, 0.871), abs=0.01)
    assert (s1.kappa.low, s1.kappa.high) == pytest.approx((0.390, 0.512), abs=0.01)
    assert same_votes_ceiling(keys, labels).value == pytest.approx(0.8717, abs=0.005)
    votes_alone = agreement(against_votes(verdicts, keys, labels, range(len(keys))), rounds=10)
    assert votes_alone.share.high - votes_alone.share.low < 0.053  # resampling votes: too narrow
