from __future__ import annotations

import pytest

from rlaif.errors import DataError, SpecError
from rlaif.evals.labels import LabelTable, labelled_accuracy
from tests.unit.evals.records import grade, pair


def labeled(item, label, given, swapped, **more):
    """A labeled pair whose two orders were won so; None for an order that was not asked."""
    orders = tuple(w for w in (given, swapped) if w is not None)
    mean = sum({"A": 1.0, "tie": 0.5, "B": 0.0}[w] for w in orders) / len(orders)
    winner = "A" if mean > 0.5 else "B" if mean < 0.5 else "tie"
    meta = {"label": label, **more}
    return pair(item, "x", "y", winner, p_a=mean, orders=orders, meta=meta)


def test_the_figures_of_four_pairs_by_hand() -> None:
    made = labelled_accuracy(
        [
            labeled("1", "A", "A", "A", subset="s"),
            labeled("2", "B", "A", "B", subset="s"),
            labeled("3", "A", "A", "tie", subset="t"),
            labeled("4", "B", "A", "A", subset="t"),
        ]
    )
    assert list(made["subsets"]) == ["all", "s", "t"]
    row = made["subsets"]["all"]
    assert (row["n"], row["coverage"], row["causes"]) == (4, 1.0, {})
    assert row["accuracy"] == pytest.approx((1 + 0.5 + 0.75 + 0) / 4)
    assert (row["accuracy_ab"], row["accuracy_ba"]) == (0.5, (1 + 1 + 0.5 + 0) / 4)
    assert row["accuracy_own_rule"] == 0.5  # the combined winner: right, tie, right, wrong
    assert row["position_agreement"] == 0.5
    # first place: A as given or B swapped; the tie counts half
    assert row["first_share"] == pytest.approx((1 + 0 + 1 + 1 + 1 + 0.5 + 1 + 0) / 8)
    assert (row["right_ab"], row["right_ba"], row["right_both"]) == (2, 2, 1)
    assert (row["inconsistent"], row["both_first"], row["both_second"]) == (2, 1, 0)
    assert row["low"] < row["accuracy"] < row["high"]
    assert row["accuracy_combined"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert row["low_combined"] < row["accuracy_combined"] < row["high_combined"]
    assert (made["rule"], made["judge"], made["interval_of"]) == ("combined", "judge", "accuracy")


@pytest.mark.parametrize(
    ("rule", "expected"), [("llmbar", 4.5 / 8), ("judgebench", 2 / 4), ("combined", 2 / 3)]
)
def test_each_rule_counts_a_missing_verdict_its_own_way(rule, expected) -> None:
    games = [{"shown": "AB", "winner": "A"}, {"shown": "BA", "winner": None}]
    lost = pair("4", "x", "y", None, meta={"label": "A", "games": games})
    table = LabelTable(rule)
    for verdict in (
        labeled("1", "A", "A", "A"),
        labeled("2", "A", "A", "B"),
        labeled("3", "B", "tie", "B") if rule == "combined" else labeled("3", "B", "A", "tie"),
        lost,
    ):
        table.add(verdict)
    row = table.result()["subsets"]["all"]
    # llmbar: 1, 0.5, 0.25, 0.5; judgebench: right, a draw, wrong, right; combined: three readable
    assert row["accuracy_own_rule"] == pytest.approx(expected)
    assert (row["coverage"], row["causes"]) == (0.75, {"unreadable": 1})
    assert (row["n_ab"], row["n_ba"]) == (4, 3)


def test_an_always_first_judge_scores_one_half_with_position_bias_one() -> None:
    made = labelled_accuracy(labeled(str(n), "AB"[n % 2], "A", "B") for n in range(40))
    row = made["subsets"]["all"]
    assert (row["accuracy"], row["first_share"], row["position_agreement"]) == (0.5, 1.0, 0.0)
    assert row["kappa"] == 0


def test_mean_probabilities_may_be_right_where_orders_disagree() -> None:
    always_first = [
        pair(str(n), "x", "y", "A", p_a=0.55, orders=("A", "B"), meta={"label": "AAAB"[n % 4]})
        for n in range(40)
    ]
    row = labelled_accuracy(always_first)["subsets"]["all"]
    assert (row["accuracy"], row["accuracy_combined"]) == (0.5, 0.75)
    # Wilson's for 30 of 40; ours is a little wider, as its variance is estimated
    assert row["low_combined"] == pytest.approx(0.598, abs=0.01)
    assert row["high_combined"] == pytest.approx(0.858, abs=0.01)
    lost = pair("x", "x", "y", None, meta={"label": "A"})
    nothing = labelled_accuracy([lost])["subsets"]["all"]
    assert (nothing["accuracy_combined"], nothing["low_combined"]) == (None, None)


def test_a_set_judged_in_one_order_has_no_agreement_of_orders() -> None:
    made = labelled_accuracy(
        [labeled("1", "A", "A", None, dataset="llmbar"), labeled("2", "B", "A", None)],
    )
    row = made["subsets"]["all"]
    assert (row["accuracy"], row["accuracy_ba"], row["position_agreement"]) == (0.5, None, None)
    assert row["accuracy_own_rule"] == 0.5
    assert made["rule"] == "combined and llmbar"


def test_identical_responses_are_a_tie_that_was_not_asked() -> None:
    made = labelled_accuracy([pair("1", "x", "y", "tie", orders=(), meta={"label": "A"})])
    row = made["subsets"]["all"]
    assert (row["accuracy"], row["inconsistent"], row["accuracy_ab"]) == (0.5, 0, None)


def test_nothing_readable_leaves_figures_empty_and_coverage_zero() -> None:
    made = labelled_accuracy([pair("1", "x", "y", None, meta={"label": "A"})])
    row = made["subsets"]["all"]
    assert (row["n"], row["coverage"], row["causes"]) == (1, 0.0, {"unreadable": 1})
    assert {row[key] for key in ("accuracy", "kappa", "low", "high", "accuracy_own_rule")} == {None}


def test_a_judge_is_picked_out_of_a_mix() -> None:
    verdicts = [
        pair("1", "x", "y", "A", meta={"label": "A"}),
        pair("1", "x", "y", "B", judge="other", meta={"label": "A"}),
    ]
    assert labelled_accuracy(verdicts, judge="other")["subsets"]["all"]["accuracy"] == 0
    with pytest.raises(SpecError, match="a mix of 2 judges"):
        labelled_accuracy(verdicts)


def test_what_a_table_of_labels_refuses() -> None:
    with pytest.raises(SpecError, match="a score has no side"):
        LabelTable().add(grade("1", "x", 5))
    with pytest.raises(SpecError, match="label 'C' is not A, B or tie"):
        LabelTable().add(pair("1", "x", "y", "A", meta={"label": "C"}))
    with pytest.raises(SpecError, match=r"label \['A'\] is not A, B or tie"):
        LabelTable().add(pair("1", "x", "y", "A", meta={"label": ["A"]}))
    table = LabelTable()
    table.add(pair("1", "x", "y", "A"))
    with pytest.raises(DataError, match="no item has a label"):
        table.result()
    table.add(pair("2", "x", "y", "A", meta={"label": "A"}))
    assert table.result()["unlabeled"] == 1
    with pytest.raises(DataError, match="no labeled item was judged by nobody"):
        table.result(judges=["nobody"])
