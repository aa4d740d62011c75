"""What people's labels say about a judge: calibration, corrected figures, and when to believe it.

Reference:
    Methods and sources are those of `rlaif.stats.calibration`, `correction`, `error_rates` and
    `selective`; this module only brings the rows to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import DataError
from rlaif.evals.human_labels import Floats, LabeledRun, LabelPairs, Outcomes
from rlaif.stats.calibration import Isotonic, Method, calibrate
from rlaif.stats.correction import ppi_mean
from rlaif.stats.error_rates import rogan_gladen
from rlaif.stats.reliability import Quality, as_confidence, quality
from rlaif.stats.selective import choose_threshold

_FOLDS = 5


def calibration(pairs: LabelPairs, method: Method, *, seed: int = 0) -> dict[str, Any]:
    """How good the judge's probabilities are, and a map that makes them better.

    `before` and `after` hold `ece` (expected calibration error of the confidence max(p, 1 - p)),
    `brier` and `log_loss`, with their reliability `curve`; `after` is out of fold, prompts whole.
    `map` is fitted to all labels: `slope` and `intercept` in log-odds, or the corners of a line.

    Args:
        pairs: Verdicts beside labels.
        method: `isotonic`, `platt` or `temperature`.
        seed: Seed of the folds.

    Raises:
        DataError: there are fewer labeled prompts than folds, or nothing to fit.
    """
    found = calibrate(method, pairs.p, pairs.label, pairs.prompt, folds=_FOLDS, seed=seed)
    fitted = found.fitted
    shape: dict[str, Any] = (
        {"p": list(fitted.p), "value": list(fitted.value)}
        if isinstance(fitted, Isotonic)
        else {"slope": fitted.slope, "intercept": fitted.intercept}
    )
    return {
        "method": method,
        "n": pairs.p.size,
        "prompts": found.n_clusters,
        "folds": found.folds,
        "seed": seed,
        "before": _quality(found.before),
        "after": _quality(found.after),
        "map": shape,
    }


def stated_quality(pairs: LabelPairs) -> dict[str, Any]:
    """How good the judge's probabilities are as they stand, as in `calibration`'s `before`."""
    return _quality(quality(*as_confidence(pairs.p, pairs.label)))


def selection(
    run: LabeledRun,
    pairs: LabelPairs,
    *,
    agreement: float,
    confidence: float,
    judges: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The confidence above which the judge agrees with people as often as asked.

    `threshold` is the least confidence max(p, 1 - p) of a verdict to keep, None where none can be
    believed so far; `coverage` is the share of all comparisons that are kept, those without a
    verdict among the others. `steps` are the thresholds that were tested, from the highest down,
    each with the lower limit `low` of its agreement; the last one that passed was chosen.

    Args:
        run: All verdicts.
        pairs: Verdicts beside labels.
        agreement: Least share of kept verdicts that people share, inside (0, 1).
        confidence: Chance that the promise holds, inside (0.5, 1).
        judges: Those that `pairs` are of.

    Raises:
        DataError: a share is out of range.
    """
    sure = np.maximum(pairs.p, 1 - pairs.p)
    chosen = choose_threshold(
        sure,
        pairs.agrees,
        alpha=1 - agreement,
        delta=1 - confidence,
        clusters=pairs.prompt,
    )
    value = run.judged(judges).value
    all_sure = np.maximum(value, 1 - value)  # NaN without a verdict, which is never kept
    kept = 0 if chosen.threshold is None else int((all_sure >= chosen.threshold).sum())
    return {
        "agreement": agreement,
        "confidence": confidence,
        "threshold": chosen.threshold,
        "coverage": kept / value.size,
        "kept": kept,
        "escalated": value.size - kept,
        "labeled": chosen.n,
        "labeled_coverage": chosen.coverage,
        "steps": [
            {
                "threshold": step.threshold,
                "n": step.n,
                "agreement": 1 - step.errors / step.n,
                "low": 1 - step.risk_limit,
            }
            for step in chosen.steps
        ],
    }


def corrected(
    run: LabeledRun,
    *,
    judges: Sequence[str] | None = None,
    voters: str | None = None,
    baseline: str | None = None,
    level: float = 0.95,
) -> dict[str, dict[str, Any]]:
    """The figure of each model as people would see it, from the judge and their labels.

    `corrected` is PPI++: right on average whatever the judge does, with `corrected_se` and
    `corrected_low` to `corrected_high`; `labels_only` uses no verdict, `shrunk` lies between the
    judge's own figure `raw` and the corrected one, and `judge_weight` (0 to 1) is how much of the
    judge was used. `n_labeled` of `n_judged` verdicts have labels; several labels of one are
    averaged. For comparisons `rogan_gladen` holds the share of wins among those that neither
    side calls a tie, corrected by the judge's `sensitivity` and `specificity`. What cannot be had
    is `unavailable` with its reason.

    Args:
        run: Verdicts and labels.
        judges: The judges to keep.
        voters: How the names of the annotators to keep begin.
        baseline: The other side of win rates.
        level: Confidence of the intervals.

    Raises:
        DataError: there are no labels, or none of what was judged.
        ConfigError: nobody is called as `voters` says.
    """
    judged, labels = run.judged(judges), run.labels(voters)
    judged = judged.where(~np.isnan(judged.value))
    keys, people = run.keys(judged), run.keys(labels)
    if not np.isin(keys, people).any():
        raise DataError("the labels share nothing with the verdicts: no prompt, turn and models")
    names, where = np.unique(people, return_inverse=True)
    means = np.bincount(where, labels.value) / np.bincount(where)
    place = np.minimum(np.searchsorted(names, keys), names.size - 1)
    label = np.where(names[place] == keys, means[place], np.nan)
    models = run.models()
    opponent = models.index(baseline) if baseline in models else None
    found = {}
    for number, name in enumerate(models):
        second = judged.b == number
        mine = (judged.a == number) | second
        if opponent is not None:
            mine &= (judged.a == opponent) | (judged.b == opponent)
        if mine.any() and number != opponent:
            found[name] = _model_figures(run, judged, label, mine, second, level)
    return found


def _model_figures(
    run: LabeledRun,
    judged: Outcomes,
    label: Floats,
    mine: NDArray[np.bool_],
    second: NDArray[np.bool_],
    level: float,
) -> dict[str, Any]:
    flip = second[mine]
    f, y, hard = (
        np.where(flip, 1 - values[mine], values[mine])
        for values in (judged.value, label, judged.hard)
    )
    prompts = run.prompts(judged.item[mine])
    known = ~np.isnan(y)
    figures: dict[str, Any] = {"n_judged": int(f.size), "n_labeled": int(known.sum())}
    try:
        if known.all():
            raise DataError("every verdict has a label: the labels are the figure")
        if not known.any():
            raise DataError("no verdict of it has a label")
        result = ppi_mean(
            y[known],
            f[known],
            f[~known],
            clusters=prompts[~known],
            labeled_clusters=prompts[known],
            scale=run.scale,
            level=level,
        )
    except DataError as error:
        figures["unavailable"] = str(error)
        if known.any():
            figures["labels_only"] = float(y[known].mean())
    else:
        figures |= {
            "corrected": result.value,
            "corrected_se": result.se,
            "corrected_low": result.low,
            "corrected_high": result.high,
            "raw": result.raw,
            "shrunk": result.shrunk,
            "labels_only": result.labels_only,
            "judge_weight": result.weight,
            "correlation": result.correlation,
        }
    if run.kind == "comparison":
        figures["rogan_gladen"] = _wins_alone(hard, y, prompts, level)
    return figures


def _wins_alone(hard: Floats, y: Floats, prompts: NDArray[Any], level: float) -> dict[str, Any]:
    decided = hard != 0.5
    known = decided & ~np.isnan(y) & (y != 0.5)
    try:
        if not known.any():
            raise DataError("no label of a comparison that neither side calls a tie")
        if known.sum() == decided.sum():
            raise DataError("every verdict has a label: the labels are the figure")
        result = rogan_gladen(
            hard[decided & ~known],
            hard[known],
            (y[known] > 0.5).astype(np.float64),
            clusters=prompts[decided & ~known],
            labeled_clusters=prompts[known],
            level=level,
        )
    except DataError as error:
        return {"unavailable": str(error)}
    return {key: value for key, value in asdict(result).items() if key != "level"}


def _quality(found: Quality) -> dict[str, Any]:
    return {
        "ece": found.ece,
        "brier": found.brier,
        "log_loss": found.log_loss,
        "curve": [asdict(point) for point in found.bins],
    }
