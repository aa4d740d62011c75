"""What a report tells of a run, gathered in one pass over its verdicts and in bounded memory."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Generic, TypeVar

from rlaif.evals.audit_checks import difference_interval, first_share, flipped
from rlaif.evals.audit_families import outcome_of_a
from rlaif.evals.audit_trials import READS_ALONE, trial_of
from rlaif.evals.reading import model_of, question_of
from rlaif.runner import Tally
from rlaif.types import Candidate, Kind, Ranking, Verdict

T = TypeVar("T")

SAMPLE = 200
"""Most verdicts that a report shows one by one."""
FAILED_SHARE, INCONSISTENT_SHARE = 0.5, 0.25
"""Parts of the sample that failures and inconsistent verdicts may take from the others."""
_CATEGORIES = ("category", "subset", "source", "dataset")


class Reservoir(Generic[T]):
    """A uniform random sample of a stream whose length is not known.

    Reference:
        Vitter 1985, "Random sampling with a reservoir", ACM TOMS 11(1), algorithm R.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._random = random.Random(seed)  # noqa: S311
        self._kept: list[tuple[int, T]] = []
        self.seen = 0

    def add(self, value: T) -> None:
        """Offer one value."""
        if len(self._kept) < self._size:
            self._kept.append((self.seen, value))
        elif (place := self._random.randrange(self.seen + 1)) < self._size:
            self._kept[place] = (self.seen, value)
        self.seen += 1

    def values(self, n: int) -> list[T]:
        """`n` of the sample, or all it has, in the order of the stream."""
        picked = self._kept
        if n < len(picked):
            picked = self._random.sample(picked, n)
        return [value for _, value in sorted(picked, key=lambda entry: entry[0])]


@dataclass(slots=True)
class Shares:
    """Outcomes in [0, 1] with the prompt of each."""

    values: array[float] = field(default_factory=lambda: array("d"))
    prompts: array[int] = field(default_factory=lambda: array("q"))

    def add(self, value: float | None, prompt: int) -> None:
        """Count one outcome, if there is one."""
        if value is not None:
            self.values.append(value)
            self.prompts.append(prompt)

    def interval(self) -> tuple[float, float, float] | None:
        """Their mean with its 95 % interval by prompt: (low, mean, high)."""
        if not self.values:
            return None
        ends = difference_interval([2 * value - 1 for value in self.values], self.prompts)
        low, mean, high = ((end + 1) / 2 for end in ends)
        return low, mean, high


@dataclass(slots=True)
class Mean:
    """A running mean."""

    total: float = 0.0
    n: int = 0

    def add(self, value: float) -> None:
        """Count one value."""
        self.total += value
        self.n += 1

    @property
    def value(self) -> float | None:
        """The mean, or None of nothing."""
        return self.total / self.n if self.n else None


class RunFigures:
    """Everything a report shows but the leaderboard."""

    def __init__(self, *, sample: int = SAMPLE, seed: int = 0) -> None:
        self.tally = Tally()
        self.kinds: Counter[Kind] = Counter()
        self.judges: Counter[str] = Counter()
        self.rubrics: Counter[str] = Counter()
        self.methods: Counter[str] = Counter()
        self.ties = 0
        self.is_audit = False
        """Whether some verdict is of an audit, whose candidates are no models in a race."""
        self.flipped, self.first, self.longer = Shares(), Shares(), Shares()
        self.published = Shares()
        """Verdicts known only combined: 1 where the record says that the orders disagreed."""
        self.p_a: array[float] = array("d")
        self.scores: array[float] = array("d")
        self.scale: tuple[float, float] | None = None
        self.matrix: dict[tuple[str, str], Mean] = {}
        self.by_category: dict[tuple[str, str], Mean] = {}
        self.causes_by_category: dict[str, Counter[str]] = {}
        self.cost_usd = 0.0
        self.priced = 0
        """Calls whose price is known."""
        self.latencies_s: array[float] = array("d")
        self._prompts: dict[str, int] = {}
        self._sample = sample
        self._failed: Reservoir[Verdict] = Reservoir(sample, seed)
        self._inconsistent: Reservoir[Verdict] = Reservoir(sample, seed + 1)
        self._others: Reservoir[Verdict] = Reservoir(sample, seed + 2)

    @property
    def prompts(self) -> int:
        """How many prompts there are."""
        return len(self._prompts)

    def read(self, verdicts: Iterable[Verdict]) -> RunFigures:
        """Add all `verdicts`; itself."""
        for verdict in verdicts:
            self.add(verdict)
        return self

    def add(self, verdict: Verdict) -> None:
        """Add one verdict."""
        self.tally.add(verdict)
        self.kinds[verdict.kind] += 1
        self.judges[verdict.judge.model] += 1
        self.methods[verdict.judge.method] += 1
        if verdict.judge.rubric is not None:
            self.rubrics[f"{verdict.judge.rubric.name} {verdict.judge.rubric.version}"] += 1
        self._add_calls(verdict)
        category = category_of(verdict)
        if verdict.cause is not None:
            self.causes_by_category.setdefault(category, Counter())[verdict.cause] += 1
        prompt = self._prompts.setdefault(question_of(verdict.item), len(self._prompts))
        if verdict.preference is not None:
            self._add_comparison(verdict, category, prompt)
        elif verdict.score is not None:
            self._add_score(verdict, category)
        elif verdict.ranking is not None:
            self._add_ranking(verdict, verdict.ranking, category)
        self.is_audit = self.is_audit or trial_of(verdict.item) is not None
        self._offer(verdict)

    def _add_calls(self, verdict: Verdict) -> None:
        for call in verdict.calls:
            if call.cost_usd is not None:
                self.cost_usd += call.cost_usd
                self.priced += 1
            if not call.cached:
                self.latencies_s.append(call.latency_s)

    def _add_comparison(self, verdict: Verdict, category: str, prompt: int) -> None:
        assert verdict.preference is not None
        a, b = verdict.candidates
        outcome = verdict.preference.p_a
        self.ties += verdict.preference.winner == "tie"
        self.p_a.append(verdict.preference.p_a)
        if len(verdict.preference.orders) > 1 and not reads_alone(verdict):
            self.flipped.add(flipped(verdict), prompt)
            self.first.add(first_share(verdict), prompt)
        elif len(verdict.preference.orders) == 1:
            self.published.add(float(not verdict.preference.consistent), prompt)
        first, second = (length_of(verdict, c) for c in verdict.candidates)
        if first and second and first != second:
            by_orders = outcome_of_a(verdict)
            self.longer.add(by_orders if first > second else 1 - by_orders, prompt)
        self._add_outcome(model_of(a), model_of(b), outcome, category)

    def _add_score(self, verdict: Verdict, category: str) -> None:
        assert verdict.score is not None
        score = verdict.score
        self.scores.append(score.value)
        low, high = self.scale or (score.min, score.max)
        # other tools' files record grades outside their scale
        self.scale = (min(low, score.min, score.value), max(high, score.max, score.value))
        name = model_of(verdict.candidates[0])
        self.by_category.setdefault((category, name), Mean()).add(score.value)

    def _add_ranking(self, verdict: Verdict, ranking: Ranking, category: str) -> None:
        """Count a ranking as the comparisons it implies."""
        named = set(ranking.order)
        for first, second in combinations(verdict.candidates, 2):
            if first.id not in named or second.id not in named:
                continue
            won = ranking.before(first.id, second.id)
            self._add_outcome(model_of(first), model_of(second), won, category)

    def _add_outcome(self, first: str, second: str, won: float, category: str) -> None:
        """Count P(first preferred) for both models, unless they are one."""
        for one, other, value in ((first, second, won), (second, first, 1 - won)):
            if first != second:
                self.matrix.setdefault((one, other), Mean()).add(value)
                self.by_category.setdefault((category, one), Mean()).add(value)

    def _offer(self, verdict: Verdict) -> None:
        if verdict.status == "no_verdict":
            self._failed.add(verdict)
        elif verdict.preference is not None and not verdict.preference.consistent:
            self._inconsistent.add(verdict)
        else:
            self._others.add(verdict)

    def sample(self) -> list[Verdict]:
        """Verdicts to show: failures first, then inconsistent ones, then others at random."""
        failed, inconsistent, others = (
            min(r.seen, self._sample) for r in (self._failed, self._inconsistent, self._others)
        )
        room = self._sample
        n_failed = max(min(failed, int(room * FAILED_SHARE)), room - inconsistent - others)
        n_failed = min(failed, n_failed)
        left = room - n_failed
        n_inconsistent = max(min(inconsistent, int(room * INCONSISTENT_SHARE)), left - others)
        n_inconsistent = min(inconsistent, n_inconsistent)
        return [
            *self._failed.values(n_failed),
            *self._inconsistent.values(n_inconsistent),
            *self._others.values(left - n_inconsistent),
        ]

    @property
    def disagreements(self) -> Shares:
        """Whether the orders disagree, of all verdicts that tell.

        A lone vote tells nothing; among verdicts published combined, some say that they disagreed.
        """
        return (
            self.published
            if not self.flipped.values and any(self.published.values)
            else (self.flipped)
        )

    @property
    def categories(self) -> list[str]:
        """Names of the categories, in order of first appearance; "" where there is none."""
        return list(dict.fromkeys(category for category, _ in self.by_category))


def reads_alone(verdict: Verdict) -> bool:
    """Whether its judge reads each response by itself, so that no order was shown."""
    return verdict.judge.method.startswith(READS_ALONE)


def category_of(verdict: Verdict) -> str:
    """The first of category, subset, source and data set that the item names, or ""."""
    for key in _CATEGORIES:
        value = verdict.item.meta.get(key)
        if isinstance(value, str | int) and str(value):
            return str(value)
    return ""


def length_of(verdict: Verdict, candidate: Candidate) -> int:
    """Characters of a response, from the item where the text itself is absent; 0 if unknown."""
    if candidate.response:
        return len(candidate.text)
    lengths = verdict.item.meta.get("lengths")
    found = lengths.get(model_of(candidate)) if isinstance(lengths, dict) else None
    return found if isinstance(found, int) else 0
