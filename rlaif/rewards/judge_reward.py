"""A judge as the reward function of an online trainer.

    from rlaif import JudgeReward, PointwiseJudge, ScriptedBackend, load_rubric

    backend = ScriptedBackend(["Mostly right. [[4]]", "I would rather not say.", "As before."])
    reward = JudgeReward(PointwiseJudge(backend, load_rubric("helpfulness")))
    made = reward.blocking(prompts=["Why?", "Why?"], completions=["It rains.", "No idea."])
    assert made == [0.5, None]
    # GRPOTrainer(model, reward_funcs=[reward], args=config, train_dataset=prompts)

A completion without a verdict has the reward `None`, which TRL leaves out of the group's baseline
and of the update; it is never 0. The verdicts that rewards come from can be kept, line by line.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

from rlaif.background import bridged, waiting
from rlaif.canonical import json_line
from rlaif.errors import ConfigError, DataError, StoreError
from rlaif.rewards.asking import Asker, OnOutage
from rlaif.rewards.groups import Strength, circulant_pairs, group_rewards
from rlaif.rewards.texts import candidate_of, item_of
from rlaif.runner import Tally
from rlaif.types import Candidate, Comparison, Item, Verdict

By = Literal["score", "comparison"]
"""Whether a reward is a grade of one completion, or its standing among those of its prompt."""
NoVerdict = Literal["none", "mean"]


class Scorer(Protocol):
    """A judge that grades one response."""

    async def score(self, item: Item, candidate: Candidate) -> Verdict:
        """The grade of `candidate`."""
        ...


class Comparer(Protocol):
    """A judge that compares two responses."""

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses is better."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """The rewards of one batch of completions, and what they come from."""

    rewards: list[float | None]
    causes: list[str | None]
    """Why a completion has no reward: a verdict's cause, or `alone` where it had no opponent."""
    verdicts: list[Verdict]
    """Each distinct verdict once."""
    rationales: list[str | None]
    """The judge's reasons for a grade; none for comparisons."""


class JudgeReward:
    """A reward function that asks a judge, for `reward_funcs` of TRL's GRPO and RLOO trainers.

    Call it with what the trainer hands over; it is `async`, and all completions of a batch are
    asked at once, however many reward functions there are. For trainers that do not await
    (TRL's OnlineDPO) take `reward.blocking`; for verl and OpenRLHF see `rlaif.rewards.frameworks`.

    Rewards lie in [-1, 1]: a grade from the worst to the best of its scale, or, by comparison,
    twice the mean P(preferred) over the other completions of the prompt, minus 1.

    Args:
        judge: Grades (`PointwiseJudge`) or compares (`PairwiseJudge`, `LikelihoodJudge`).
        by: Which of the two, for a judge that does both (`RewardJudge`).
        opponents: By comparison, how many other completions each meets; all by default, which is
            N (N - 1) / 2 comparisons a prompt.
        strength: By comparison, what the outcomes are summed up to.
        reference: The column with each prompt's reference; `None` for none.
        no_verdict: The reward of a completion without a verdict: `None`, or the `mean` of those of
            its prompt. TRL counts `None` as 0 in its weighted sum as soon as another reward
            function has a number: with several of them take `mean`, which moves nothing.
        on_outage: Whether training waits while the judge cannot be reached, or goes on with `None`.
        longest_pause_s: Seconds of one outage after which its failure is raised.
        record: A JSONL file to which every verdict is appended. Give each process its own.
        name: What the trainer calls it in its logs.

    Raises:
        ConfigError: an option is wrong, or the judge does not do what it is asked for.
    """

    def __init__(
        self,
        judge: Scorer | Comparer,
        *,
        by: By | None = None,
        opponents: int | None = None,
        strength: Strength = "mean",
        reference: str | None = "reference",
        no_verdict: NoVerdict = "none",
        on_outage: OnOutage = "pause",
        longest_pause_s: float = 3600.0,
        record: str | Path | None = None,
        name: str = "judge",
    ) -> None:
        self.by: By = _chosen(judge, by)
        if opponents is not None and (self.by == "score" or opponents < 1):
            raise ConfigError("opponents is a count from 1 up, for rewards by comparison")
        if strength not in get_args(Strength):
            raise ConfigError(f"strength is one of {get_args(Strength)}, not {strength!r}")
        if no_verdict not in get_args(NoVerdict):
            raise ConfigError(f"no_verdict is 'none' or 'mean', not {no_verdict!r}")
        self.judge = judge
        self.__name__ = name
        self.tally = Tally()
        """Verdicts, calls, tokens and cost so far, over all batches."""
        self.asker = Asker(on_outage, longest_pause_s)
        self._opponents = opponents
        self._strength: Strength = strength
        self._reference = reference
        self._no_verdict: NoVerdict = no_verdict
        self._record = Path(record) if record is not None else None

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: object = None,
        *,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """The reward of each completion, `None` where there is no verdict.

        Args:
            prompts: One for each completion, text or messages; a group shares an equal one.
            completions: Text or messages.
            completion_ids: Not read.
            log_metric: Told of the mean, the coverage, the cost and more, under the name's prefix.
            log_extra: Told why each completion has no reward, and the judge's reasons.
            columns: The data set's; the reference is taken from its own.

        Raises:
            DataError: prompts and completions are not as many, or one is no text.
            BackendError: the judge is misconfigured, or an outage outlasted the longest pause.
            StoreError: the record cannot be written.
        """
        del completion_ids
        references = columns.get(self._reference) if self._reference else None
        started, waited_s = time.monotonic(), self.asker.paused_s
        step = await self.judged(prompts, completions, references)
        if log_metric is not None:
            metrics = _metrics(step) | {"seconds": time.monotonic() - started}
            if (paused := self.asker.paused_s - waited_s) > 0:
                metrics["paused_s"] = paused
            for name, value in metrics.items():
                log_metric(f"{self.__name__}/{name}", value)
        if log_extra is not None:
            log_extra(f"{self.__name__}_no_verdict", step.causes)
            if self.by == "score":
                log_extra(f"{self.__name__}_rationale", step.rationales)
        return step.rewards

    @property
    def blocking(self) -> Callable[..., list[float | None]]:
        """The same as a plain function, which waits: for trainers that do not await."""
        return waiting(self, self.__name__)

    async def judged(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        references: Sequence[Any] | None = None,
    ) -> Step:
        """The rewards of completions, and the verdicts they come from.

        Raises:
            DataError, BackendError, StoreError: as a call.
        """
        if len(prompts) != len(completions):
            message = f"{len(prompts)} prompts are not as many as {len(completions)} completions"
            raise DataError(message)
        given = references if references is not None else [None] * len(prompts)
        items = [item_of(p, r) for p, r in zip(prompts, given, strict=True)]
        candidates = [candidate_of(completion) for completion in completions]
        work = self._scored if self.by == "score" else self._compared
        step = await bridged(work(items, candidates))
        for verdict in step.verdicts:
            self.tally.add(verdict)
        self._keep(step.verdicts)
        if "budget" in step.causes:
            self.asker.tell("the budget is spent: completions are left without rewards")
        return step if self._no_verdict == "none" else _with_means(step, items)

    async def _scored(self, items: Sequence[Item], candidates: Sequence[Candidate]) -> Step:
        judge = cast("Scorer", self.judge)
        keys = [(item.id, one.id) for item, one in zip(items, candidates, strict=True)]
        jobs: dict[tuple[str, str], Callable[[], Awaitable[Verdict]]] = {}
        for key, item, one in zip(keys, items, candidates, strict=True):
            jobs.setdefault(key, partial(judge.score, item, one))
        found = await self.asker.verdicts(jobs)
        said = [found[key] for key in keys]
        return Step(
            [_scaled(verdict) for verdict in said],
            [_cause(verdict) for verdict in said],
            [verdict for verdict in found.values() if verdict is not None],
            [verdict.rationale if verdict and verdict.score else None for verdict in said],
        )

    async def _compared(self, items: Sequence[Item], candidates: Sequence[Candidate]) -> Step:
        judge = cast("Comparer", self.judge)
        groups = [
            _Group(item, [candidates[n] for n in places], places, self._opponents)
            for item, places in _by_prompt(items)
        ]
        jobs: dict[tuple[str, int, int], Callable[[], Awaitable[Verdict]]] = {
            (group.item.id, i, j): partial(judge.compare, group.comparison(i, j))
            for group in groups
            for i, j in group.pairs
        }
        found = await self.asker.verdicts(jobs)
        rewards: list[float | None] = [None] * len(items)
        causes: list[str | None] = [None] * len(items)
        for group in groups:
            said = {(i, j): found[group.item.id, i, j] for i, j in group.pairs}
            for place, reward, cause in group.rewards(said, self._strength):
                rewards[place], causes[place] = reward, cause
        verdicts = [verdict for verdict in found.values() if verdict is not None]
        return Step(rewards, causes, verdicts, [None] * len(items))

    def _keep(self, verdicts: Sequence[Verdict]) -> None:
        if self._record is None or not verdicts:
            return
        lines = "".join(json_line(verdict.as_dict()) for verdict in verdicts).encode()
        try:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            with self._record.open("ab") as file:
                file.write(lines)
        except OSError as error:
            raise StoreError(f"{self._record}: {error.strerror or error}") from error


class _Group:
    """The completions of one prompt, equal ones together, in an order that only texts decide."""

    def __init__(
        self, item: Item, completions: Sequence[Candidate], places: list[int], most: int | None
    ) -> None:
        self.item = item
        self._places = places
        self._ids = [one.id for one in completions]
        players = {one.id: one for one in completions}
        self._players = [players[name] for name in sorted(players)]
        self.pairs = circulant_pairs(len(players), most)

    def comparison(self, i: int, j: int) -> Comparison:
        return Comparison(self.item, self._players[i], self._players[j])

    def rewards(
        self, said: dict[tuple[int, int], Verdict | None], strength: Strength
    ) -> Iterable[tuple[int, float | None, str | None]]:
        """Place in the batch, reward, and why there is none, of each completion."""
        counts, place_of = Counter(self._ids), {one.id: n for n, one in enumerate(self._players)}
        p = {k: v.preference.p_a if v and v.preference else None for k, v in said.items()}
        made = group_rewards([counts[one.id] for one in self._players], p, strength)
        for place, name in zip(self._places, self._ids, strict=True):
            at, cause = place_of[name], None
            if made[at] is None:
                missing = [_cause(v) for pair, v in said.items() if at in pair]
                cause = next((why for why in missing if why), "alone" if not missing else "unread")
            yield place, made[at], cause


def _chosen(judge: object, by: By | None) -> By:
    does = {"score": hasattr(judge, "score"), "comparison": hasattr(judge, "compare")}
    if by is not None and by not in does:
        raise ConfigError(f"by is 'score' or 'comparison', not {by!r}")
    if by is None:
        if does["score"] == does["comparison"]:
            raise ConfigError("say whether to reward by='score' or by='comparison'")
        return "score" if does["score"] else "comparison"
    if not does[by]:
        raise ConfigError(f"{type(judge).__name__} does not judge by {by}")
    return by


def _by_prompt(items: Sequence[Item]) -> list[tuple[Item, list[int]]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[item.id].append(place)
    return [(items[found[0]], found) for found in places.values()]


def _scaled(verdict: Verdict | None) -> float | None:
    if verdict is None or verdict.score is None:
        return None
    score = verdict.score
    share = (score.value - score.min) / (score.max - score.min)
    return 2.0 * min(1.0, max(0.0, share)) - 1.0


def _cause(verdict: Verdict | None) -> str | None:
    return "provider_error" if verdict is None else verdict.cause


def _with_means(step: Step, items: Sequence[Item]) -> Step:
    """The step with the mean reward of a prompt's completions where one has none."""
    rewards = list(step.rewards)
    for _, places in _by_prompt(items):
        known = [r for place in places if (r := step.rewards[place]) is not None]
        for place in places:
            if rewards[place] is None and known:
                rewards[place] = math.fsum(known) / len(known)
    return Step(rewards, step.causes, step.verdicts, step.rationales)


def _metrics(step: Step) -> dict[str, float]:
    """What is logged of a batch. Means are over completions, the cost is of this batch."""
    read = [r for r, why in zip(step.rewards, step.causes, strict=True) if why is None]
    known = [r for r in read if r is not None]
    n = len(step.rewards)
    made: dict[str, float] = {"coverage": len(known) / n if n else 1.0}
    if known:
        made["mean"] = math.fsum(known) / len(known)
    for cause, count in sorted(Counter(c for c in step.causes if c).items()):
        made[f"no_verdict/{cause}"] = count / n
    calls = [call for verdict in step.verdicts for call in verdict.calls]
    made["calls"] = float(len(calls))
    made["cost_usd"] = math.fsum(c.cost_usd or 0.0 for c in calls if not c.cached)
    preferences = [v.preference for v in step.verdicts if v.preference]
    if preferences:
        made["consistent"] = sum(p.consistent for p in preferences) / len(preferences)
    return made
