"""How far a judge's scores agree with people's ratings, or another judge's, of the same responses.

    run = LabeledRun()
    for verdict in verdicts:
        run.add_judged(verdict)
    for label in labels:
        run.add_label(label)
    score_agreement(run)["spearman"]

Two agree where they lie within half a level of each other; on a scale no wider than 1 (pass or
fail, or criteria of several scales together) where they lie on one side of its middle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlaif.errors import DataError
from rlaif.evals.human_labels import LabeledRun, ScorePairs
from rlaif.stats.coefficients import Coefficient, kappa
from rlaif.stats.means import mean_interval
from rlaif.stats.ranks import kendall_tau, spearman
from rlaif.stats.raters import krippendorff_alpha
from rlaif.stats.win_rate import win_rate

T = TypeVar("T")

_HALF = 0.5


def agree(x: ArrayLike, y: ArrayLike, low: float, high: float) -> NDArray[np.bool_]:
    """Whether scores agree, of the shape of `x` and `y`.

    Args:
        x: Scores on a scale from `low` to `high`.
        y: Others of the same responses.
        low: Where the scale begins.
        high: Where it ends.
    """
    one, other = np.asarray(x), np.asarray(y)
    if high - low > 1:
        return np.asarray(np.abs(one - other) <= _HALF)
    middle = (low + high) / 2
    return np.asarray((one >= middle) == (other >= middle))


def score_agreement(
    run: LabeledRun,
    *,
    judges: Sequence[str] | None = None,
    voters: str | None = None,
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Agreement of a judge's scores with the ratings beside them, with intervals by prompt.

    `agreement` is the share within half a level, `kappa` Cohen's weighted by the squared
    difference, `spearman`, `kendall` and `pearson` correlations, `difference` the mean of judge
    minus rating (how much too mild the judge is) and `absolute_difference` the mean without its
    sign, both in units of the scale. `alpha` is Krippendorff's (interval) among the people. What
    the data cannot tell is None.

    Args:
        run: Scores and ratings.
        judges: The judges to keep.
        voters: How the names of the annotators to keep begin.
        level: Confidence of the intervals.
        rounds: Resamples behind the intervals of kappa and alpha.
        seed: Their seed.

    Raises:
        DataError: no rating has a score beside it, or a prompt has several responses of one model.
        ConfigError: nobody is called as `voters` says.
    """
    pairs = run.scores(judges, voters)
    low, high = run.scale
    x, y, prompts = pairs.judge, pairs.label, pairs.prompt.tolist()
    share = win_rate(agree(x, y, low, high).astype(np.float64).tolist(), prompts, level=level)
    settings: dict[str, Any] = {"level": level, "rounds": rounds, "seed": seed}
    beyond = _known(lambda: kappa(x.tolist(), y.tolist(), prompts, weights="quadratic", **settings))
    differs = _known(lambda: mean_interval(x - y, pairs.prompt, level=level))
    return {
        "n": int(x.size),
        "prompts": share.n_clusters,
        "scale": [low, high],
        "coverage": pairs.coverage,
        "agreement": share.value,
        "low": share.low,
        "high": share.high,
        **_ends("kappa", beyond),
        "spearman": _known(lambda: spearman(x, y)),
        "kendall": _known(lambda: kendall_tau(x, y)),
        "pearson": _known(lambda: _pearson(pairs)),
        "difference": float((x - y).mean()),
        "difference_low": differs.low if differs else None,
        "difference_high": differs.high if differs else None,
        "absolute_difference": float(np.abs(x - y).mean()),
        **_ends("alpha", _known(lambda: _alpha(run, voters, settings))),
    }


def _alpha(run: LabeledRun, voters: str | None, settings: dict[str, Any]) -> Coefficient:
    labels = run.labels(voters)
    return krippendorff_alpha(
        labels.value.tolist(),
        run.keys(labels).tolist(),
        run.prompts(labels.item).tolist(),
        distance="interval",
        **settings,
    )


def _pearson(pairs: ScorePairs) -> float:
    if pairs.judge.std() == 0 or pairs.label.std() == 0:
        raise DataError("all values of a side are equal")
    return float(np.corrcoef(pairs.judge, pairs.label)[0, 1])


def _ends(name: str, found: Coefficient | None) -> dict[str, float | None]:
    if found is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _known(measure: Callable[[], T]) -> T | None:
    """What `measure` gives, or None where the data cannot tell."""
    try:
        return measure()
    except DataError:
        return None
