import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.errors import DataError
from rlaif.stats.panel import combine, dawid_skene, effective_judges, vote_weights


def test_votes_by_hand():
    votes = [[1, 0, np.nan], [1, 0.5, 0], [np.nan] * 3]
    assert combine(votes).tolist() == pytest.approx([0.5, 0.5, np.nan], nan_ok=True)
    assert combine(votes, weights=[3, 1, 0]).tolist()[:2] == pytest.approx([0.75, 0.875])
    assert combine(votes, least=3).tolist() == pytest.approx([np.nan, 0.5, np.nan], nan_ok=True)
    # The only member that voted has no weight: no verdict.
    assert np.isnan(combine([[np.nan, 1.0]], weights=[1, 0]))[0]


TABLES = st.integers(1, 4).flatmap(
    lambda n: st.lists(
        st.lists(st.sampled_from([0, 0.5, 1, np.nan]), min_size=n, max_size=n), min_size=1
    )
)


@given(TABLES)
def test_swapping_sides_mirrors_and_order_of_members_does_not_matter(table):
    votes = np.array(table, dtype=float)
    found = combine(votes)
    assert combine(1 - votes) == pytest.approx(1 - found, nan_ok=True)
    assert combine(votes[:, ::-1]) == pytest.approx(found, nan_ok=True)


def test_weights_by_hand():
    assert vote_weights([8, 5, 1], [8, 10, 10]) == pytest.approx([np.log(9), 0, 0])


def test_copies_of_a_judge_are_one_judge():
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=500)
    one = np.where(rng.random(500) < 0.8, truth, 1 - truth)
    found = effective_judges(np.column_stack([one] * 5), truth)
    assert (found.value, found.n, found.basis) == (pytest.approx(1), 5, "errors")
    assert found.correlation == pytest.approx(1)


def test_independent_judges_count_in_full():
    rng = np.random.default_rng(1)
    truth = rng.integers(2, size=20_000)
    votes = np.where(rng.random((20_000, 4)) < 0.8, truth[:, None], 1 - truth[:, None])
    assert effective_judges(votes, truth).value == pytest.approx(4, abs=0.15)
    # Without a truth their being right looks like copying: a lower limit.
    apart = effective_judges(votes)
    assert apart.basis == "verdicts"
    assert 1 < apart.value < 3


def test_half_copied_judges_are_worth_what_kish_says():
    votes = np.array([[1, 1], [1, 0], [0, 0], [0, 0]])
    truth = np.zeros(4)
    rho = np.corrcoef(votes.T)[0, 1]
    found = effective_judges(votes, truth)
    assert found.correlation == pytest.approx(rho)
    assert found.value == pytest.approx(2 / (1 + rho))


def test_opposed_judges_are_not_more_than_they_are():
    found = effective_judges([[1, 0], [0, 1], [1, 0]], [1, 1, 1])
    assert (found.correlation, found.value) == (pytest.approx(-1), 2)


def test_members_without_common_or_varied_votes_are_left_out():
    votes = [[1, 0, np.nan], [0, 1, 1], [1, 1, np.nan], [0, 0, 1]]
    assert effective_judges(votes).correlation == pytest.approx(
        np.corrcoef([1, 0, 1, 0], [0, 1, 1, 0])[0, 1]
    )


def votes_of(rng, accuracy, items=400, labels=3):
    truth = rng.integers(labels, size=items)
    rows = []
    for judge, right in enumerate(accuracy):
        other = (truth + rng.integers(1, labels, size=items)) % labels
        said = np.where(rng.random(items) < right, truth, other)
        rows += [(i, judge, int(x)) for i, x in enumerate(said)]
    return truth, rows


def slow_dawid_skene(rows, smoothing, rounds):
    """The same model, one number at a time."""
    items, judges, labels = (list(dict.fromkeys(c)) for c in zip(*rows, strict=True))
    q = {}
    for i in items:
        own = [x for j, _, x in rows if j == i]
        q.update({(i, k): own.count(k) / len(own) for k in labels})
    for _round in range(rounds):
        prior = {k: sum(q[i, k] for i in items) / len(items) for k in labels}
        theta = {
            (j, k, x): smoothing + sum(q[i, k] for i, who, y in rows if who == j and y == x)
            for j, k, x in product(judges, labels, labels)
        }
        total = {(j, k): sum(theta[j, k, x] for x in labels) for j, k in product(judges, labels)}
        for i in items:
            weight = {
                k: prior[k]
                * np.prod([theta[j, k, x] / total[j, k] for other, j, x in rows if other == i])
                for k in labels
            }
            q.update({(i, k): weight[k] / sum(weight.values()) for k in labels})
    return np.array([[q[i, k] for k in labels] for i in items])


def test_dawid_skene_is_the_slow_one():
    rng = np.random.default_rng(3)
    _, rows = votes_of(rng, [0.9, 0.7, 0.5], items=12)
    rows = [row for row in rows if rng.random() < 0.8]
    found = dawid_skene(*zip(*rows, strict=True), smoothing=0.5)
    assert found.posterior == pytest.approx(slow_dawid_skene(rows, 0.5, found.rounds), abs=1e-9)


def test_dawid_skene_finds_who_is_good():
    rng = np.random.default_rng(4)
    accuracy = [0.9, 0.85, 0.4, 0.4, 0.4]
    truth, rows = votes_of(rng, accuracy)
    found = dawid_skene(*zip(*rows, strict=True))
    assert found.judges == (0, 1, 2, 3, 4)
    named = np.array(found.labels)[found.posterior.argmax(axis=1)]
    votes = np.array([x for _, _, x in rows]).reshape(5, -1)
    majority = np.array([np.bincount(column, minlength=3).argmax() for column in votes.T])
    assert np.mean(named == truth) > np.mean(majority == truth) + 0.03
    trace = found.confusion.diagonal(axis1=1, axis2=2) @ found.prior
    assert trace == pytest.approx(accuracy, abs=0.07)
    assert found.posterior.sum(axis=1) == pytest.approx(1)
    assert found.confusion.sum(axis=2) == pytest.approx(1)
    assert found.prior.sum() == pytest.approx(1)


def test_names_of_labels_and_order_of_votes_do_not_matter():
    rng = np.random.default_rng(5)
    _, rows = votes_of(rng, [0.9, 0.6, 0.6], items=40)
    once = dawid_skene(*zip(*rows, strict=True))
    renamed = [(f"i{i}", f"j{j}", "xyz"[k]) for i, j, k in rng.permutation(rows)]
    again = dawid_skene(*zip(*renamed, strict=True))
    place = [again.items.index(f"i{i}") for i in once.items]
    columns = [again.labels.index("xyz"[k]) for k in once.labels]
    assert again.posterior[np.ix_(place, columns)] == pytest.approx(once.posterior, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: combine([1, 0]), "shape"),
        (lambda: combine([]), "shape"),
        (lambda: combine([["A"]]), "not numbers"),
        (lambda: combine([[1.5]]), "outside"),
        (lambda: combine([[1]], weights=[1, 2]), "weights"),
        (lambda: combine([[1]], weights=[-1]), "weights"),
        (lambda: combine([[1]], weights=[0]), "weights"),
        (lambda: combine([[1]], least=2), "least 2 of 1"),
        (lambda: vote_weights([3], [2]), "right of n"),
        (lambda: vote_weights([3], [4, 5]), "right of n"),
        (lambda: effective_judges([[1], [0]]), "two members"),
        (lambda: effective_judges([[1, 0], [0, 1]], [1]), "truth"),
        (lambda: effective_judges([[1, 0], [0, 1]], [1, 2]), "truth"),
        (lambda: effective_judges([[1, 0], [1, 0]]), "nothing to correlate"),
        (lambda: dawid_skene([], [], []), "no votes"),
        (lambda: dawid_skene([1], [1], [1, 2]), "1 items, 1 judges, 2 labels"),
        (lambda: dawid_skene([1], [1], [1], smoothing=0), "smoothing"),
        (lambda: dawid_skene([1, 1, 2], [1, 2, 1], "ABA", most_rounds=1), "still move"),
    ],
)
def test_what_cannot_be_computed_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize(("name", "expected"), [("natural", 96.0), ("adversarial_neighbor", 82.5)])
def test_fifteen_strategies_of_gpt4_as_one_panel(shared_data, name, expected):
    def rows(file):
        lines = (shared_data / "llmbar" / file).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    first = np.array([row["label"] == 1 for row in rows(f"{name}.jsonl")], dtype=float)
    vote = {"1": 1.0, "2": 0.0, None: np.nan}
    decisions = [r for r in rows(f"{name}.decisions.jsonl") if r["evaluator"] == "GPT-4"]
    games = [[vote[w] for w in game] for r in decisions for game in zip(*r["winners"], strict=True)]
    votes = np.array(games).T
    assert votes.shape == (len(first), 30)
    panel = combine(votes)
    credit = np.where(panel == 0.5, 0.5, (panel > 0.5) == (first == 1))
    assert 100 * credit.mean() == pytest.approx(expected, abs=0.05)
    # Thirty votes of one model, worth few independent ones.
    assert 1 < effective_judges(votes, first).value < 4


def test_more_labels_leave_less_to_chance():
    assert vote_weights([0], [0], labels=4).tolist() == pytest.approx([0.0])
    # (5 + 1) / (8 + 4) = 1/2 right of four labels: log(3 * 1) nats
    assert vote_weights([5], [8], labels=4)[0] == pytest.approx(math.log(3))
    with pytest.raises(DataError, match="1 label"):
        vote_weights([1], [2], labels=1)
