"""The judges that the options of a command ask for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rlaif.cli import options
from rlaif.cli.methods import ScoreOptions

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.judge.common import RubricSource
    from rlaif.judge.making import Grader, Guard
    from rlaif.types import Candidate, Item, Sampling


def score_judge(
    backend: CachedBackend,
    rubric: RubricSource,
    how: ScoreOptions,
    sampling: Sampling,
    judged: Iterable[tuple[Item, Sequence[Candidate]]] = (),
    writer: CachedBackend | None = None,
) -> Grader:
    """The judge that grades as `how` says.

    Args:
        backend: The model that judges.
        rubric: What it judges by.
        how: The options.
        sampling: How it draws its replies.
        judged: All that will be judged, to find responses that recur over prompts.
        writer: The model that writes the questions of a checklist, if it is another.

    Raises:
        ConfigError: options contradict each other.
    """
    from rlaif.judge.making import grader

    return grader(backend, rubric, how.how(sampling, questions_by=writer), guard(judged))


def guard(judged: Iterable[tuple[Item, Sequence[Candidate]]] = ()) -> Guard:
    """What every judge takes against attempts on it: keyed markers, what recurs over prompts."""
    from rlaif.judge.detect import constant_responses
    from rlaif.judge.making import Guard
    from rlaif.judge.markers import Markers
    from rlaif.store.secret import load_secret

    return Guard(Markers(load_secret(options.home())), constant_responses(judged))
