"""A judge against the labels inside the items: how often it is right, and whether order moves it.

    table = LabelTable()
    for verdict in verdicts:
        table.add(verdict)
    table.result()["subsets"]["all"]["accuracy"]

Two figures stand side by side. `accuracy` is the same for every set: the mean over the orders of an
item, a tie half, over items that have a verdict. `accuracy_own_rule` counts as the set's authors
do: LLMBar takes the mean of the two orders, JudgeBench asks whether right verdicts outnumber wrong
ones, and both count a missing verdict as not right; elsewhere it is the share of combined verdicts
that name the labeled winner.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError, SpecError
from rlaif.evals.reading import Names, chosen_judges, column, question_of
from rlaif.stats.agreement import cohen_kappa
from rlaif.stats.win_rate import win_rate
from rlaif.types import CAUSES, Item, Verdict

Rule = Literal["llmbar", "judgebench", "combined"]
"""How a set counts: the mean of two orders, the majority over orders, the combined winner."""

_SIDES = {"A": 0, "B": 1, "tie": 2}
_RULES: tuple[Rule, ...] = get_args(Rule)
_SUBSETS = ("subset", "category", "source")
_NONE = -1.0
"""An order that gave no verdict, or was not asked."""

Mask = NDArray[np.bool_]


class LabelTable:
    """Columns of labeled comparisons, and the accuracies they give.

    Args:
        rule: How the set counts; None tells LLMBar and JudgeBench by their names in the items'
            `meta["dataset"]` or in the judge's method, and takes the combined winner elsewhere.
    """

    def __init__(self, rule: Rule | None = None) -> None:
        self._rule = rule
        self._rules: Counter[Rule] = Counter()
        self._judges = Names()
        self._subsets = Names()
        self._questions = Names()
        self._judge, self._subset, self._question = array("i"), array("i"), array("i")
        self._label, self._winner, self._cause = array("b"), array("b"), array("b")
        self._right = {"AB": array("d"), "BA": array("d")}
        self._first = {"AB": array("d"), "BA": array("d")}
        self._own_rule = array("b")
        self._unlabeled = 0

    def add(self, verdict: Verdict) -> None:
        """Keep what the table needs of one verdict; one without a label is only counted.

        Raises:
            SpecError: it is no comparison, or its label is not A, B or tie.
        """
        if verdict.kind != "comparison":
            raise SpecError(f"a {verdict.kind} has no side to hold to a label", field="kind")
        label = verdict.item.meta.get("label")
        if label is None:
            self._unlabeled += 1
            return
        if not isinstance(label, str) or label not in _SIDES:
            raise SpecError(f"label {label!r} is not A, B or tie", field="item.meta.label")
        subset = _subset(verdict.item)
        self._judge.append(self._judges.number(verdict.judge.model))
        self._subset.append(self._subsets.number(subset))
        self._question.append(self._questions.number(f"{subset}\n{question_of(verdict.item)}"))
        self._label.append(_SIDES[label])
        self._cause.append(-1 if verdict.cause is None else CAUSES.index(verdict.cause))
        self._keep_orders(verdict, label)

    def _keep_orders(self, verdict: Verdict, label: str) -> None:
        preference = verdict.preference
        winners = _winners(verdict)
        for shown in ("AB", "BA"):
            self._right[shown].append(_right(winners.get(shown), label))
            self._first[shown].append(_went_first(winners.get(shown), shown))
        self._winner.append(-1 if preference is None else _SIDES[preference.winner])
        rule = self._rule or own_rule(verdict)
        self._rules[rule] += 1
        self._own_rule.append(_RULES.index(rule))

    def result(
        self, judge: str | None = None, *, judges: Sequence[str] | None = None, level: float = 0.95
    ) -> dict[str, Any]:
        """The accuracies of all items and of each subset.

        Every figure is a fraction in [0, 1]; one that the data cannot give is None. `n` counts
        labeled items, `coverage` the share of them with a verdict. `low` and `high` belong to
        `accuracy`: a score interval clustered by prompt. `accuracy_combined` is that of verdicts
        over both orders, a tie half, with `low_combined` and `high_combined`: what the judge's mean
        probability is worth where its orders disagree. `accuracy_ab` and `accuracy_ba` are over
        what was read in one order, shown as given and swapped, `position_agreement` is the share of
        items whose two orders name the same winner, `first_share` the share of verdicts for the
        response shown first, a tie half. `kappa` is Cohen's, combined winner against label. Counts
        follow: what was read in each order (`n_ab`, `n_ba`), what named the labeled winner
        (`right_ab`, `right_ba`, `right_both`), `inconsistent` items (a missing order agrees with
        nothing), and those won by the first or the second place in both orders (`both_first`,
        `both_second`).

        Args:
            judge: The judge to keep, as in `chosen_judges`.
            judges: Their names, where they were chosen before.
            level: Confidence of the intervals.

        Raises:
            DataError: no item has a label.
            ConfigError: `judge` names none of the judges.
            SpecError: there are several judges and none is chosen.
        """
        if not len(self._label):
            raise DataError("no item has a label: nothing in item.meta.label")
        known = self._judges.all()
        picked = judges or chosen_judges(dict.fromkeys(known), judge)
        kept = np.isin(column(self._judge), [known.index(name) for name in picked if name in known])
        if not kept.any():
            raise DataError(f"no labeled item was judged by {', '.join(picked)}")
        subset = column(self._subset)
        subsets = {"all": self._row(kept, level)}
        for number, name in enumerate(self._subsets.all()):
            if (rows := kept & (subset == number)).any() and name:
                subsets[name if name != "all" else "subset all"] = self._row(rows, level)
        return {
            "against": "labels",
            "judge": picked[0] if len(picked) == 1 else judge,
            "rule": " and ".join(sorted(self._rules)),
            "level": level,
            "interval_of": "accuracy",
            "unlabeled": self._unlabeled,
            "subsets": subsets,
        }

    def _row(self, rows: Mask, level: float) -> dict[str, Any]:
        ab, ba = (column(self._right[shown])[rows] for shown in ("AB", "BA"))
        first = np.stack([column(self._first[shown])[rows] for shown in ("AB", "BA")])
        winner, label = column(self._winner)[rows], column(self._label)[rows]
        cause, question = column(self._cause)[rows], column(self._question)[rows]
        own = self._own_outcomes()[rows]
        ok = winner >= 0
        row: dict[str, Any] = {
            "n": int(rows.sum()),
            "coverage": float(ok.mean()),
            "causes": causes_of(cause),
        }
        mean = _item_means(ab, ba, winner, label)[ok]
        clusters = question[ok].tolist()
        rate = win_rate(mean, clusters, level=level) if ok.any() else None
        verdicts = _outcomes(winner[ok], label[ok])
        combined = win_rate(verdicts, clusters, level=level) if ok.any() else None
        two = (ab != _NONE) & (ba != _NONE)
        unasked = ok & (ab == _NONE) & (ba == _NONE)
        same = _same_winner(first)
        row |= {
            "accuracy": rate.value if rate else None,
            "accuracy_own_rule": _mean(own[own != _NONE]),
            "accuracy_ab": _mean(ab[ab != _NONE]),
            "accuracy_ba": _mean(ba[ba != _NONE]),
            "position_agreement": _mean(same[two]),
            "first_share": _mean(first[first != _NONE]),
            "kappa": _kappa(winner[ok], label[ok]),
            "low": rate.low if rate else None,
            "high": rate.high if rate else None,
            "se": rate.se if rate else None,
            "accuracy_combined": combined.value if combined else None,
            "low_combined": combined.low if combined else None,
            "high_combined": combined.high if combined else None,
            "own_rule_n": int((own != _NONE).sum()),
            "n_ab": int((ab != _NONE).sum()),
            "n_ba": int((ba != _NONE).sum()),
            "right_ab": int((ab == 1).sum()),
            "right_ba": int((ba == 1).sum()),
            "right_both": int(((ab == 1) & (ba == 1)).sum()),
            "inconsistent": int((~(two & same | unasked)).sum()),
            "both_first": int(((first == 1).all(axis=0)).sum()),
            "both_second": int(((first == 0).all(axis=0)).sum()),
        }
        return row

    def _own_outcomes(self) -> NDArray[np.float64]:
        """What each item counts by its set's own rule, `_NONE` where that leaves it out."""
        ab, ba = column(self._right["AB"]), column(self._right["BA"])
        winner, label = column(self._winner), column(self._label)
        there = np.stack([ab, ba]) != _NONE
        right = np.where(there, np.stack([ab, ba]), 0.0)
        asked = max(1, int(there.any(axis=1).sum()))  # a set judged in one order has only that one
        combined = np.where(winner >= 0, winner == label, _NONE)
        unasked = (winner >= 0) & ~there.any(axis=0)
        halves = np.where(unasked & (winner != label), 0.5, right.sum(axis=0) / asked)
        signs = np.where(there, np.sign(right - 0.5), 0.0).sum(axis=0)
        majority = np.where(unasked, combined, signs > 0)
        rule = column(self._own_rule)
        return np.select([rule == 0, rule == 1], [halves, majority], combined)


def labelled_accuracy(
    verdicts: Iterable[Verdict],
    *,
    judge: str | None = None,
    rule: Rule | None = None,
    level: float = 0.95,
) -> dict[str, Any]:
    """The accuracies of `verdicts` against their labels: `LabelTable.result` of them all."""
    table = LabelTable(rule)
    for verdict in verdicts:
        table.add(verdict)
    return table.result(judge, level=level)


def own_rule(verdict: Verdict) -> Rule:
    """How the set that a verdict's item comes from counts."""
    hints = f"{verdict.item.meta.get('dataset', '')} {verdict.judge.method}".lower()
    return next((rule for rule in get_args(Rule) if rule in hints), "combined")


def causes_of(causes: NDArray[Any], n: NDArray[Any] | None = None) -> dict[str, int]:
    """How often each cause occurs in a column of places in `CAUSES`, -1 for none.

    Args:
        causes: Shape (entries,).
        n: Shape (entries,), how many verdicts each entry counts for; None counts each once.
    """
    there = causes >= 0
    weights = None if n is None else n[there]
    counts = np.bincount(causes[there], weights, minlength=len(CAUSES))
    return {cause: int(n) for cause, n in zip(CAUSES, counts, strict=True) if n}


def _subset(item: Item) -> str:
    return next((str(item.meta[name]) for name in _SUBSETS if item.meta.get(name)), "")


def _winners(verdict: Verdict) -> dict[str, str]:
    """The winner in each order that was read; of a failed pair those that an importer kept."""
    if verdict.preference is not None:
        return {order.shown: order.winner for order in verdict.preference.orders}
    games = verdict.item.meta.get("games")
    read = [game for game in games if isinstance(game, dict)] if isinstance(games, list) else []
    return {str(game.get("shown")): game["winner"] for game in read if game.get("winner") in _SIDES}


def _right(winner: str | None, label: str) -> float:
    """1 right, 0 wrong, 0.5 a tie where the label is none; `_NONE` without a reading."""
    if winner is None:
        return _NONE
    if winner == label:
        return 1.0
    return 0.5 if winner == "tie" else 0.0


def _went_first(winner: str | None, shown: str) -> float:
    """1 where the response shown first won, 0 where the other did, 0.5 a tie, or `_NONE`."""
    if winner is None:
        return _NONE
    return 0.5 if winner == "tie" else float((winner == "A") == (shown == "AB"))


def _same_winner(first: NDArray[np.float64]) -> Mask:
    """Where both orders name one winner: the first of one order is the second of the other."""
    same: Mask = first[0] + first[1] == 1
    return same


def _item_means(
    ab: NDArray[np.float64], ba: NDArray[np.float64], winner: NDArray[Any], label: NDArray[Any]
) -> NDArray[np.float64]:
    """Mean over the orders that have a verdict; a tie without an order counts as a tie."""
    asked = np.stack([ab, ba])
    there = asked != _NONE
    total = np.where(there, asked, 0.0).sum(axis=0)
    unasked = np.where(winner == label, 1.0, 0.5)
    return np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1), unasked)


def _outcomes(winner: NDArray[Any], label: NDArray[Any]) -> NDArray[np.float64]:
    """1 where the verdict names the labeled winner, 0.5 where it is a tie and the label is none."""
    tie = np.where(winner == _SIDES["tie"], 0.5, 0.0)
    return np.where(winner == label, 1.0, tie)


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if values.size else None


def _kappa(winner: NDArray[Any], label: NDArray[Any]) -> float | None:
    try:
        return cohen_kappa(winner.tolist(), label.tolist())
    except DataError:
        return None
