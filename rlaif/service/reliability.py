"""How far people can be relied on: with each other, with the judge, and where the answer is known.

told = reliability(labels, said)
told["annotators"][0]["others_kappa"]       # beyond chance, with others_kappa_low and _high
told["alpha"]["value"]                      # all annotators of all items together
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rlaif.errors import DataError
from rlaif.evals.score_agreement import agree
from rlaif.service.labels import Label
from rlaif.service.queues import Said
from rlaif.stats.agreement import wilson
from rlaif.stats.coefficients import Coefficient, kappa
from rlaif.stats.raters import krippendorff_alpha
from rlaif.stats.win_rate import win_rate
from rlaif.types import Score

LEVEL = 0.95
"""Confidence of the intervals."""
_ROUNDS = 500
_HALF = 0.5


def reliability(labels: Iterable[Label], said: Mapping[int, Said]) -> dict[str, Any]:
    """Of each annotator and of all together how reliable they are; skipped items count nowhere.

    Each of `annotators` has `n` items and, with a prefix, how it compares: `judge_` with the judge,
    `others_` with every other annotator of the same items, both with `n` pairs, `agreement` and its
    interval `low` to `high`, and Cohen's `kappa` (of ratings weighted by the squared difference)
    with `kappa_low` to `kappa_high`; `gold_` has `n`, `accuracy`, `low` and `high` on items with
    known answers. Two choices agree where they are the same of A, B and tie, both-bad being a tie;
    two ratings as `evals.score_agreement` says. `alpha` is Krippendorff's (nominal; of ratings,
    interval). What cannot be told is None.

    Args:
        labels: Of one run.
        said: What its judge said at the places of the labels, and what is known to be right.

    Reference:
        Krippendorff 2011, "Computing Krippendorff's alpha-reliability"; Cohen 1968, "Weighted
        kappa", Psychol. Bull. 70(4).
    """
    given: dict[int, dict[str, Label]] = defaultdict(dict)
    for label in labels:
        if label.choice != "skip":
            given[label.n][label.name] = label
    names = sorted({name for by_name in given.values() for name in by_name})
    return {
        "level": LEVEL,
        "annotators": [_one(name, given, said) for name in names],
        "items": len(given),
        "overlapping": sum(len(by_name) > 1 for by_name in given.values()),
        "alpha": _alpha(given),
    }


def judge_share(labels: Iterable[Label], said: Mapping[int, Said]) -> tuple[int, float | None]:
    """How many labels have a verdict of the judge beside them, and the share that agrees."""
    same = [
        _agree(label.score, _said(label), _of_judge(said[label.n]))
        for label in labels
        if label.choice != "skip" and label.n in said and said[label.n].value is not None
    ]
    return len(same), (sum(same) / len(same) if same else None)


def _one(
    name: str, given: Mapping[int, Mapping[str, Label]], said: Mapping[int, Said]
) -> dict[str, Any]:
    mine = {n: by_name[name] for n, by_name in given.items() if name in by_name}
    others = [
        (n, label, other)
        for n, label in mine.items()
        for who, other in given[n].items()
        if who != name
    ]
    judged = [(n, label) for n, label in mine.items() if n in said and said[n].value is not None]
    right = [
        is_right(label, said[n].gold) for n, label in mine.items() if n in said and said[n].gold
    ]
    return {
        "name": name,
        "n": len(mine),
        **_held("judge", [(n, label, _of_judge(said[n])) for n, label in judged]),
        **_held("others", [(n, label, _said(other)) for n, label, other in others]),
        "gold_n": len(right),
        "gold_accuracy": sum(right) / len(right) if right else None,
        **_ends("gold", wilson(sum(right), len(right), LEVEL) if right else None),
    }


def is_right(label: Label, gold: Any) -> bool:
    """Whether a label is what is known to be right.

    Args:
        label: No skip.
        gold: As `queues.gold_of` gives it.
    """
    if label.score is None:
        return bool(label.winner == gold)
    if isinstance(gold, Mapping):
        criteria = label.score.criteria or {}
        return all(name in criteria and criteria[name]["value"] in gold[name] for name in gold)
    near = _HALF if label.score.max - label.score.min > 1 else 1e-9
    return isinstance(gold, list) and any(abs(label.score.value - one) <= near for one in gold)


def _said(label: Label) -> Any:
    return label.winner if label.score is None else label.score.value


def _of_judge(said: Said) -> Any:
    return said.value if said.winner is None else said.winner


def _agree(score: Score | None, one: Any, other: Any) -> bool:
    if score is None:
        return bool(one == other)
    return bool(agree(one, other, score.min, score.max))


def _held(prefix: str, rows: Sequence[tuple[int, Label, Any]]) -> dict[str, Any]:
    """Agreement and kappa of a person's labels with something else said of the same places."""
    first, second = [_said(label) for _, label, _ in rows], [other for _, _, other in rows]
    places = [n for n, _, _ in rows]
    told: dict[str, Any] = {f"{prefix}_n": len(rows), f"{prefix}_agreement": None}
    share = beyond = None
    if rows:
        same = [float(_agree(label.score, _said(label), other)) for _, label, other in rows]
        share = win_rate(same, places, level=LEVEL)
        told[f"{prefix}_agreement"] = share.value
        weights: Any = "none" if rows[0][1].score is None else "quadratic"
        beyond = _if_any(
            lambda: kappa(first, second, places, weights=weights, level=LEVEL, rounds=_ROUNDS)
        )
    return {
        **told,
        **_ends(prefix, (share.low, share.high) if share else None),
        f"{prefix}_kappa": beyond.value if beyond else None,
        **_ends(f"{prefix}_kappa", (beyond.low, beyond.high) if beyond else None),
    }


def _ends(prefix: str, ends: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = ends or (None, None)
    return {f"{prefix}_low": low, f"{prefix}_high": high}


def _alpha(given: Mapping[int, Mapping[str, Label]]) -> dict[str, Any] | None:
    rows = [(n, label) for n, by_name in given.items() for label in by_name.values()]
    distance: Any = "interval" if any(label.score for _, label in rows) else "nominal"
    labels, units = [_said(label) for _, label in rows], [n for n, _ in rows]
    found = _if_any(
        lambda: krippendorff_alpha(labels, units, distance=distance, level=LEVEL, rounds=_ROUNDS)
    )
    if found is None:
        return None
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _if_any(measure: Callable[[], Coefficient]) -> Coefficient | None:
    try:
        return measure()
    except DataError:  # too few labels, or all of them equal: 0 / 0
        return None
