"""A judge in one line, for notebooks and scripts.

    from rlaif import Judge, ScriptedBackend

    judge = Judge(ScriptedBackend(["Both name a city. [[A]]", "[[B]]"]), "helpfulness")
    rows = [{"prompt": "Capital of France?", "response_a": "Paris.", "response_b": "Lyon."}]
    verdicts = judge.compare(rows)                    # both orders
    assert verdicts[0].preference.winner == "A"
    print(verdicts.table())

In place of the script goes an address, `Judge("openai/gpt-5.1", budget_usd=1.00)`. It asks exactly
as the command line does, through the same store, limits, retries and budget; the key, the proxy and
the home folder come from the environment, as there, unless they are given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack

from rlaif.api.opening import Opening, open_backend
from rlaif.api.verdicts import Verdicts
from rlaif.background import bridged, run_blocking
from rlaif.errors import ConfigError
from rlaif.types import Candidate, Item, Sampling, Verdict

if TYPE_CHECKING:
    from rlaif.backends.base import Backend
    from rlaif.judge.common import RubricSource
    from rlaif.judge.likelihood import LikelihoodJudge
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.judge.pointwise import PointwiseJudge
    from rlaif.judge.reward import RewardJudge
    from rlaif.judge.screening import OnInjection
    from rlaif.judge.settings import ReferenceFrom, TooLong
    from rlaif.judge.tournament import Strategy
    from rlaif.rewards.judge_reward import By, JudgeReward

Method = Literal["auto", "verdict", "token", "likelihood"]
"""A verdict with reasons; the probabilities of one token (a grade then is its expectation); how
much the prompt raises a response's likelihood; or what suits the model."""
Rows = str | Path | Iterable[Any]
"""A file or folder, a data frame, a data set, or the rows themselves: mappings, or our values."""

_USUAL = {
    "reference": "given",
    "structured": False,
    "too_long": "refuse",
    "on_injection": "flag",
}
_IN_PROCESS_WIDTH = 16
T = TypeVar("T")
Judged = Iterable[tuple[Item, Sequence[Candidate]]]


class Judge:
    """A model that judges by a rubric.

    `score`, `compare` and `rank` wait for their verdicts, also where an event loop already runs, as
    in a notebook; `ascore`, `acompare` and `arank` are to be awaited. Interrupted work is not lost:
    every reply is kept, and the same call asks only for what is missing.

    Args:
        model: An address such as `openai/gpt-5.1`, or a backend.
        rubric: A shipped rubric's name, a file, a rubric, or what names the rubric of each item.
        method: How it is asked.
        temperature, max_tokens: How it draws its replies.
        draws: Replies to each question, whose mean is taken; more than one needs a temperature.
        reference: `judge` lets it answer the prompt itself first, where an item has no reference.
        structured: Ask for a JSON object, held to a schema where the provider can.
        too_long: Whether a response that is too long is refused or cut in the middle.
        on_injection: Whether an attempt on the judge is a flag beside the verdict, or leaves none.
        options: What `open_backend` takes besides: `api_key`, `base_url`, `budget_usd` …

    Raises:
        ConfigError: as `open_backend`; or options come with a backend that is already open.
        SpecError: there is no such rubric, or it is malformed.
    """

    def __init__(
        self,
        model: str | Backend,
        rubric: str | Path | RubricSource = "helpfulness",
        *,
        method: Method = "auto",
        temperature: float = 0.0,
        max_tokens: int = 1024,
        draws: int | None = None,
        reference: ReferenceFrom = "given",
        structured: bool = False,
        too_long: TooLong = "refuse",
        on_injection: OnInjection = "flag",
        **options: Unpack[Opening],
    ) -> None:
        from rlaif.backends.limited import LimitedBackend
        from rlaif.backends.opening import layers
        from rlaif.specs.rubric import load_rubric

        if not isinstance(model, str) and options:
            raise ConfigError(f"a backend is open already: {', '.join(sorted(options))} is unused")
        self.rubric: RubricSource = (
            load_rubric(rubric) if isinstance(rubric, str | Path) else rubric
        )
        self.backend = open_backend(model, **options) if isinstance(model, str) else model
        self._method = method
        self._sampling = Sampling(temperature, max_tokens=max_tokens)
        self._draws = draws
        self._more: dict[str, Any] = {
            "reference": reference,
            "structured": structured,
            "too_long": too_long,
            "on_injection": on_injection,
        }
        self._concurrency: int | None = options.get("concurrency")
        self._paces = [x.pace for x in layers(self.backend) if isinstance(x, LimitedBackend)]

    def __repr__(self) -> str:
        rubric = getattr(self.rubric, "name", "…")
        return f"Judge({self.backend.model!r}, {rubric!r}, method={self._method!r})"

    def score(self, rows: Rows, *, limit: int | None = None, progress: bool = True) -> Verdicts:
        """The grade of each response, waited for; the arguments are those of `ascore`."""
        return run_blocking(self.ascore(rows, limit=limit, progress=progress))

    def compare(
        self, rows: Rows, *, limit: int | None = None, pairs: str = "all", progress: bool = True
    ) -> Verdicts:
        """Which of two responses is better, waited for; the arguments are those of `acompare`."""
        return run_blocking(self.acompare(rows, limit=limit, pairs=pairs, progress=progress))

    def rank(self, rows: Rows, **how: Any) -> Verdicts:
        """The order of the responses, waited for; the arguments are those of `arank`."""
        return run_blocking(self.arank(rows, **how))

    async def ascore(
        self, rows: Rows, *, limit: int | None = None, progress: bool = True
    ) -> Verdicts:
        """The grade of each response.

        Args:
            rows: With `prompt` and `response`; or `(Item, Candidate)` pairs.
            limit: Most rows to take.
            progress: Whether to show how far it is, on standard error.

        Raises:
            SpecError: a row does not fit: names its number and field.
            BackendError: a fatal failure: every further call would fail the same way.
        """
        from rlaif.api.rows import responses

        items = responses(rows, limit)
        judge = self.pointwise([(item, (one,)) for item, one in items])
        return await self._judged(items, lambda pair: judge.score(*pair), progress=progress)

    async def acompare(
        self, rows: Rows, *, limit: int | None = None, pairs: str = "all", progress: bool = True
    ) -> Verdicts:
        """Which of two responses is better, each pair asked in both orders.

        Args:
            rows: With `prompt`, `response_a` and `response_b`; or values of type `Comparison`.
            limit: Most rows to take.
            pairs: Of a prompt's candidates in a run of generate: all, adjacent, or a number.
            progress: Whether to show how far it is, on standard error.

        Raises:
            SpecError, BackendError: as `ascore`.
        """
        from rlaif.api.rows import comparisons

        items = comparisons(rows, limit, pairs)
        judge = self.pairwise([(one.item, (one.a, one.b)) for one in items])
        return await self._judged(items, judge.compare, progress=progress)

    async def arank(
        self,
        rows: Rows,
        *,
        limit: int | None = None,
        strategy: Strategy = "active",
        comparisons: int | None = None,
        settle: str = "all",
        confidence: float = 0.95,
        seed: int = 0,
        progress: bool = True,
    ) -> Verdicts:
        """The order of the responses to each prompt, by comparing pairs of them.

        Args:
            rows: With `prompt` and `responses`; or `(Item, candidates)` pairs.
            limit: Most rows to take.
            strategy: Which pairs are compared.
            comparisons: Most pairs of a prompt.
            settle: Which part of the order is wanted: `all`, or `topK`.
            confidence: How sure that must be.
            seed: Draws who meets first.
            progress: Whether to show how far it is, on standard error.

        Raises:
            SpecError, BackendError: as `ascore`.
            ConfigError: an option is wrong.
        """
        from rlaif.api.rows import rankings
        from rlaif.judge.tournament import Tournament

        items = rankings(rows, limit)
        judge = Tournament(
            self.pairwise(items),
            strategy,
            comparisons=comparisons,
            settle=settle,
            confidence=confidence,
            seed=seed,
        )
        return await self._judged(items, lambda pair: judge.rank(*pair), progress=progress)

    def reward(self, by: By = "score", **options: Any) -> JudgeReward:
        """The judge as a reward function; the options are those of `JudgeReward`."""
        from rlaif.rewards.judge_reward import JudgeReward

        judge = self.pointwise() if by == "score" else self.pairwise()
        return JudgeReward(judge, by=by, **options)

    def pointwise(self, judged: Judged = ()) -> PointwiseJudge | RewardJudge:
        """The judge that grades.

        Args:
            judged: All that will be judged, to find responses that recur over prompts.

        Raises:
            ConfigError: the method grades nothing, or options contradict each other.
        """
        from rlaif.judge.choice import is_reward, is_small
        from rlaif.judge.pointwise import PointwiseJudge
        from rlaif.judge.reward import RewardJudge

        if is_reward(self.backend):
            self._check_unused("reward")
            return RewardJudge(self.backend)
        if self._method == "likelihood":
            raise ConfigError("likelihoods of different prompts make no grades: compare by them")
        small = self._method == "auto" and is_small(self.backend)
        return PointwiseJudge(
            self.backend,
            self.rubric,
            sampling=self._sampling,
            method="expectation" if small or self._method == "token" else "verdict",
            draws=self._draws,
            **self._more,
            **_against_attacks(judged),
        )

    def pairwise(self, judged: Judged = ()) -> PairwiseJudge | LikelihoodJudge | RewardJudge:
        """The judge that compares; `judged` as for `pointwise`.

        Raises:
            ConfigError: options contradict each other.
        """
        from rlaif.judge.choice import is_reward, is_small
        from rlaif.judge.likelihood import LikelihoodJudge
        from rlaif.judge.pairwise import PairwiseJudge
        from rlaif.judge.reward import RewardJudge

        if is_reward(self.backend):
            self._check_unused("reward")
            return RewardJudge(self.backend)
        small = self._method == "auto" and is_small(self.backend)
        if small or self._method == "likelihood":
            self._check_unused("likelihood")
            return LikelihoodJudge(self.backend)
        return PairwiseJudge(
            self.backend,
            self.rubric,
            sampling=self._sampling,
            method="token" if self._method == "token" else "verdict",
            draws=self._draws or 1,
            **self._more,
            **_against_attacks(judged),
        )

    def _check_unused(self, method: str) -> None:
        """Raise `ConfigError` if options were set that a method without words has no use for."""
        given = [name for name, value in self._more.items() if value != _USUAL[name]]
        given += ["draws"] if self._draws is not None else []
        if given:
            raise ConfigError(f"a judge by {method} takes no {', '.join(given)}")

    async def _judged(
        self, items: Sequence[T], work: Callable[[T], Awaitable[Verdict]], *, progress: bool
    ) -> Verdicts:
        return await bridged(self._gathered(items, work, progress))

    async def _gathered(
        self, items: Sequence[T], work: Callable[[T], Awaitable[Verdict]], progress: bool
    ) -> Verdicts:
        from rlaif.cli.output import progress_bar
        from rlaif.runner import Tally, ordered

        tally, found = Tally(), list[Verdict]()
        with progress_bar("judging", len(items), quiet=not progress) as bar:
            async with aclosing(ordered(items, work, concurrency=self._width)) as verdicts:
                async for verdict in verdicts:
                    tally.add(verdict)
                    found.append(verdict)
                    bar.advance(1, tally.note())
        return Verdicts(found, tally.summary())

    def _width(self) -> int:
        if self._concurrency is not None:
            return self._concurrency
        return max([2 * pace.allowed for pace in self._paces], default=_IN_PROCESS_WIDTH)

    def close(self) -> None:
        """Give connections and memory back. Safe to call twice."""
        run_blocking(self.backend.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _against_attacks(judged: Judged) -> Mapping[str, Any]:
    from rlaif.cli import options
    from rlaif.judge.detect import constant_responses
    from rlaif.judge.markers import Markers
    from rlaif.store.secret import load_secret

    return {
        "markers": Markers(load_secret(options.home())),
        "constant": constant_responses(judged),
    }
