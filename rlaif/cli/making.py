"""The judges that the options of a command ask for.

An option that the chosen method has no use for is an error: it is never ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from rlaif.cli import options
from rlaif.cli.methods import PairOptions, ScoreOptions, check_unused
from rlaif.errors import ConfigError
from rlaif.judge.choice import is_small

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.judge.by_scores import ByScoresJudge, ChecklistPairs
    from rlaif.judge.checklist import ChecklistJudge
    from rlaif.judge.common import RubricSource
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.judge.pointwise import PointwiseJudge
    from rlaif.types import Candidate, Item, Sampling


def score_judge(
    backend: CachedBackend,
    rubric: RubricSource,
    how: ScoreOptions,
    sampling: Sampling,
    judged: Iterable[tuple[Item, Sequence[Candidate]]] = (),
) -> PointwiseJudge:
    """The judge that grades as `how` says.

    Args:
        backend: The model that judges.
        rubric: What it judges by.
        how: The options.
        sampling: How it draws its replies.
        judged: All that will be judged, to find responses that recur over prompts.

    Raises:
        ConfigError: options contradict each other.
    """
    from rlaif.judge.pointwise import PointwiseJudge

    if how.questions_by is not None:
        raise ConfigError("--questions-by is for --method checklist")
    auto = "expectation" if is_small(backend) else "verdict"
    method: Any = auto if how.method == "auto" else how.method
    return PointwiseJudge(
        backend,
        rubric,
        sampling=sampling,
        method=method,
        draws=how.draws,
        aggregate=how.aggregate,
        criteria_calls=how.criteria_calls,
        **how.common(),
        **against_attacks(judged),
    )


def checklist_judge(
    backend: CachedBackend,
    writer: CachedBackend,
    rubric: RubricSource,
    how: ScoreOptions,
    sampling: Sampling,
    judged: Iterable[tuple[Item, Sequence[Candidate]]] = (),
) -> ChecklistJudge:
    """The judge that answers yes/no questions which `writer` has written.

    The other arguments are those of `score_judge`.

    Raises:
        ConfigError: options contradict each other.
    """
    from rlaif.judge.checklist import ChecklistJudge

    useless = {"method", "draws", "structured", "aggregate", "criteria_calls"}
    usual: dict[str, Any] = {f.name: f.default for f in fields(how) if f.name not in useless}
    check_unused(replace(how, **usual), "checklist")
    given = {k: v for k, v in how.common().items() if k != "structured"}
    return ChecklistJudge(
        backend,
        rubric,
        writer=writer,
        sampling=sampling,
        **given,
        **against_attacks(judged),
    )


def pair_judge(
    backend: CachedBackend,
    rubric: RubricSource,
    how: PairOptions,
    sampling: Sampling,
    *,
    seed: int = 0,
    judged: Iterable[tuple[Item, Sequence[Candidate]]] = (),
) -> PairwiseJudge:
    """The judge that compares as `how` says, by a verdict or one token shown both responses.

    Args:
        backend: The model that judges.
        rubric: What it judges by.
        how: The options.
        sampling: How it draws its replies.
        seed: Draws the order where that is random.
        judged: All that will be judged, to find responses that recur over prompts.

    Raises:
        ConfigError: options contradict each other.
    """
    from rlaif.judge.pairwise import PairwiseJudge

    _refuse(how, ("questions_by", "aggregate", "criteria_calls"), "is for scores")
    return PairwiseJudge(
        backend,
        rubric,
        sampling=sampling,
        method="token" if how.method == "token" else "verdict",
        orders=how.orders,
        seed=seed,
        draws=how.draws or 1,
        ties=how.ties,
        levels=5 if how.levels == "5" else 3,
        **how.common(),
        **against_attacks(judged),
    )


def judge_by_scores(
    backend: CachedBackend,
    rubric: RubricSource,
    how: PairOptions,
    sampling: Sampling,
    *,
    judged: Iterable[tuple[Item, Sequence[Candidate]]] = (),
    writer: CachedBackend | None = None,
) -> ByScoresJudge | ChecklistPairs:
    """The judge that grades each response alone, as `how` says; the higher score wins.

    Args:
        backend: The model that judges.
        rubric: What it judges by.
        how: The options, with the method `score`, `expectation` or `checklist`.
        sampling: How it draws its replies.
        judged: All that will be judged, to find responses that recur over prompts.
        writer: The model that writes questions; by default the one that judges.

    Raises:
        ConfigError: options contradict each other.
    """
    from rlaif.judge.by_scores import ByScoresJudge, ChecklistPairs

    _refuse(how, ("ties", "levels", "orders"), "is for responses that are seen together")
    method: Any = "verdict" if how.method == "score" else how.method
    told = {f.name: getattr(how, f.name) for f in fields(ScoreOptions)} | {"method": method}
    grading = ScoreOptions(**told)
    if method != "checklist":
        return ByScoresJudge(score_judge(backend, rubric, grading, sampling, judged))
    judge = checklist_judge(backend, writer or backend, rubric, grading, sampling, judged)
    return ChecklistPairs(judge, backend, writer or backend)


def _refuse(how: PairOptions, names: Sequence[str], why: str) -> None:
    """Raise `ConfigError` if one of the options `names` was set: the method has no use for it."""
    usual = {f.name: f.default for f in fields(how)}
    for name in names:
        if getattr(how, name) != usual[name]:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"the method {how.method} takes no {flag}, which {why}")


def against_attacks(judged: Iterable[tuple[Item, Sequence[Candidate]]]) -> dict[str, Any]:
    """What every judge takes against attempts on it: keyed markers, what recurs over prompts."""
    from rlaif.judge.detect import constant_responses
    from rlaif.judge.markers import Markers
    from rlaif.store.secret import load_secret

    return {
        "markers": Markers(load_secret(options.home())),
        "constant": constant_responses(judged),
    }
