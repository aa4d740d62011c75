"""A judge in one line, for notebooks and scripts.

    from rlaif import Judge, ScriptedBackend

    judge = Judge(ScriptedBackend(["Both name a city. [[A]]", "[[B]]"]), "helpfulness")
    rows = [{"prompt": "Capital of France?", "response_a": "Paris.", "response_b": "Lyon."}]
    verdicts = judge.compare(rows)                    # both orders
    assert verdicts[0].preference.winner == "A"
    print(verdicts.table())

In place of the script goes an address, `Judge("openai/gpt-5.1", budget_usd=1.00)`, or several for a
panel. It asks exactly as the command line does, in the same words, through the same store, limits,
retries and budget; the key, the proxy and the home folder come from the environment, as there,
unless they are given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, cast

from rlaif.api.opening import Opener
from rlaif.api.telling import Options, sorted_out
from rlaif.api.verdicts import Verdicts
from rlaif.background import bridged, run_blocking
from rlaif.errors import ConfigError
from rlaif.judge.methods import METHODS, CompareMethod, How, Method, chosen, chosen_grading
from rlaif.judge.seating import Several, seat
from rlaif.types import Candidate, Item, Sampling, Verdict

if TYPE_CHECKING:
    from rlaif.backends.base import Backend
    from rlaif.judge.common import RubricSource
    from rlaif.judge.seating import AnyComparer, AnyGrader, Seated
    from rlaif.judge.tournament import Strategy
    from rlaif.rewards.judge_reward import By, JudgeReward

Rows = str | Path | Iterable[Any]
"""A file or folder, a data frame, a data set, or the rows themselves: mappings, or our values."""

_IN_PROCESS_WIDTH = 16
_BATCH_WIDTH = 10_000
T = TypeVar("T")
Judged = Iterable[tuple[Item, Sequence[Candidate]]]


class Judge:
    """A model that judges by a rubric, or several as one.

    `score`, `compare` and `rank` wait for their verdicts, also where an event loop already runs, as
    in a notebook; `ascore`, `acompare` and `arank` are to be awaited. Interrupted work is not lost:
    every reply is kept, and the same call asks only for what is missing.

    Args:
        model: An address such as `openai/gpt-5.1`, or a backend; of several each judges, by each
            rubric: a panel, or with `cascade` one after the other, the cheapest first.
        rubric: A shipped rubric's name, a file, a rubric, or what names the rubric of each item;
            `item` for what each item brings in its column `rubric`. Several for a panel.
        method: How it is asked: a name in `rlaif.judge.methods.METHODS`, or what suits the model.
        temperature, max_tokens: How it draws its replies.
        options: Those of the command line, in its words: how it is asked (`draws`, `ties` …) and
            how several judges become one (`panel`, `cascade` …), listed in `rlaif.api.telling`; and
            those of `open_backend`: `api_key`, `base_url`, `budget_usd`, `batch` …

    Raises:
        ConfigError: as `open_backend`; options come with a backend that is already open, or for
            several judges where there is one.
        SpecError: there is no such rubric, or it is malformed.
    """

    def __init__(
        self,
        model: str | Backend | Sequence[str | Backend],
        rubric: str | Path | RubricSource | Sequence[str | Path | RubricSource] = "helpfulness",
        *,
        method: CompareMethod = "auto",
        temperature: float = 0.0,
        max_tokens: int = 1024,
        **options: Unpack[Options],
    ) -> None:
        from rlaif.judge.item_rubric import rubric_source

        asked, seating, opening = sorted_out(options)
        self.rubrics: tuple[RubricSource, ...] = tuple(
            rubric_source(one) if isinstance(one, str | Path) else one for one in _listed(rubric)
        )
        opener = Opener(**opening)
        self.backends = tuple(opener.backend(one) for one in _listed(model))
        """Who judges."""
        substitutes = _listed(seating.pop("substitute")) if "substitute" in seating else []
        self._reserve = tuple(opener.backend(one) for one in substitutes)
        if (writer := asked.get("questions_by")) is not None:
            asked["questions_by"] = opener.backend(writer)
        if opening and not opener.used:
            names = ", ".join(sorted(opening))
            raise ConfigError(f"a backend is open already: {names} is unused")
        self._told = asked | {
            "method": method,
            "sampling": Sampling(temperature, max_tokens=max_tokens),
        }
        self._several = Several(**seating, substitute=self._reserve or None)
        self._all = opener.backends
        self._concurrency: int | None = opening.get("concurrency")
        self._batch = bool(opening.get("batch"))
        if len(self.backends) * len(self.rubrics) == 1 and (given := self._several.given()):
            raise ConfigError(f"{', '.join(given)} is for several judges, and there is one")

    @property
    def backend(self) -> Backend:
        """Who judges, or the first of several."""
        return self.backends[0]

    def __repr__(self) -> str:
        models = ", ".join(repr(one.model) for one in self.backends)
        rubrics = ", ".join(repr(getattr(one, "name", "…")) for one in self.rubrics)
        return f"Judge({models}, {rubrics}, method={self._told['method']!r})"

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
            ConfigError: the method grades nothing, or an option does not fit it.
        """
        from rlaif.api.rows import responses

        items = responses(rows, limit)
        seated = self._grading([(item, (one,)) for item, one in items])
        return await self._judged(
            items, lambda pair: seated.judge.score(*pair), seated, progress=progress
        )

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
            SpecError, BackendError, ConfigError: as `ascore`.
        """
        from rlaif.api.rows import comparisons

        items = comparisons(rows, limit, pairs)
        seated = self._comparing([(one.item, (one.a, one.b)) for one in items])
        return await self._judged(items, seated.judge.compare, seated, progress=progress)

    async def arank(
        self,
        rows: Rows,
        *,
        limit: int | None = None,
        strategy: Strategy | Literal["listwise"] = "active",
        comparisons: int | None = None,
        shuffles: int | None = None,
        settle: str = "all",
        confidence: float = 0.95,
        seed: int = 0,
        progress: bool = True,
    ) -> Verdicts:
        """The order of the responses to each prompt, by comparing pairs of them or in one list.

        Args:
            rows: With `prompt` and `responses`; or `(Item, candidates)` pairs.
            limit: Most rows to take.
            strategy: Which pairs are compared; `listwise` shows all responses in one prompt.
            comparisons: Most pairs of a prompt.
            shuffles: How often a list is shown; 4 times by default.
            settle: Which part of the order is wanted: `all`, or `topK`.
            confidence: How sure that must be.
            seed: Draws who meets first, and the order of a list.
            progress: Whether to show how far it is, on standard error.

        Raises:
            SpecError, BackendError: as `ascore`.
            ConfigError: an option is wrong, or does not fit the strategy.
        """
        from rlaif.api.rows import rankings
        from rlaif.judge.tournament import Tournament

        if self._several.cascade is not None or self._several.weights == "estimated":
            raise ConfigError("cascades and estimated weights score and compare: rank without")
        listed = strategy == "listwise"
        if listed and (comparisons is not None or settle != "all"):
            raise ConfigError("a list compares no pairs: it takes no comparisons, settle")
        if not listed and shuffles is not None:
            raise ConfigError(f"shuffles is for strategy='listwise', not {strategy!r}")
        items = rankings(rows, limit)
        judge: Any
        if listed:
            seated = self._listing(items, shuffles, confidence, seed)
            judge = seated.judge
        else:
            seated = self._comparing(items)
            judge = Tournament(
                seated.judge,
                cast("Strategy", strategy),
                comparisons=comparisons,
                settle=settle,
                confidence=confidence,
                seed=seed,
            )
        return await self._judged(items, lambda pair: judge.rank(*pair), seated, progress=progress)

    def reward(self, by: By = "score", **options: Any) -> JudgeReward:
        """The judge as a reward function; the options are those of `JudgeReward`."""
        from rlaif.rewards.judge_reward import JudgeReward

        judge = self.pointwise() if by == "score" else self.pairwise()
        return JudgeReward(judge, by=by, **options)

    def pointwise(self, judged: Judged = ()) -> AnyGrader:
        """The judge that grades.

        Args:
            judged: All that will be judged: each is checked for its rubric and its reference, and
                responses are found that recur over prompts.

        Raises:
            ConfigError: the method grades nothing, or options contradict each other.
            SpecError: an item has no rubric, or lacks the reference that it needs.
        """
        judge: AnyGrader = self._grading(judged).judge
        return judge

    def pairwise(self, judged: Judged = ()) -> AnyComparer:
        """The judge that compares; `judged` and the errors as for `pointwise`.

        Raises:
            ConfigError: options contradict each other.
            SpecError: as for `pointwise`.
        """
        judge: AnyComparer = self._comparing(judged).judge
        return judge

    def _grading(self, judged: Judged) -> Seated:
        from rlaif.judge.making import check_combinable, grader

        seated = self._seated(grader, chosen_grading, judged)
        check_combinable(seated.judges)
        return seated

    def _comparing(self, judged: Judged) -> Seated:
        from rlaif.judge.making import comparer

        return self._seated(comparer, chosen, judged)

    def _listing(
        self, judged: Judged, shuffles: int | None, confidence: float, seed: int
    ) -> Seated:
        from rlaif.judge.making import lister

        def made(backend: Backend, rubric: Any, how: Any, guard: Any) -> Any:
            how = replace(how, seed=seed)
            return lister(backend, rubric, how, guard, shuffles=shuffles, confidence=confidence)

        return self._seated(made, lambda how, backend: METHODS["verdict"], judged)

    def _seated(
        self,
        make: Callable[..., Any],
        choose: Callable[[How, Backend], Method],
        judged: Judged,
    ) -> Seated:
        from rlaif.cli.making import guard
        from rlaif.judge.item_rubric import checked

        how = How(**self._told)
        rows = list(judged)
        against = guard(rows)
        members = [
            (backend, make(backend, rubric, how, against))
            for backend in self.backends
            for rubric in self.rubrics
        ]
        reserve = [make(one, self.rubrics[0], how, against) for one in self._reserve]
        if any(choose(how, one).reads_rubric for one in (*self.backends, *self._reserve)):
            for rubric in self.rubrics:
                for _ in checked(rubric, rows, writes_reference=how.reference == "judge"):
                    pass
        return seat(members, replace(self._several, substitute=reserve or None))

    async def _judged(
        self,
        items: Sequence[T],
        work: Callable[[T], Awaitable[Verdict]],
        seated: Seated,
        *,
        progress: bool,
    ) -> Verdicts:
        return await bridged(self._gathered(items, seated.counted(work), seated, progress))

    async def _gathered(
        self,
        items: Sequence[T],
        work: Callable[[T], Awaitable[Verdict]],
        seated: Seated,
        progress: bool,
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
        summary = tally.summary() | seated.account()
        if seated.estimated:
            estimate = seated.estimate()
            summary["panel"] |= estimate
            if (weights := estimate["weights"]) is not None:
                found = [seated.reweighed(verdict, weights) for verdict in found]
        return Verdicts(found, summary)

    def _width(self) -> int:
        from rlaif.backends.limited import LimitedBackend
        from rlaif.backends.opening import layers

        if self._concurrency is not None:
            return self._concurrency
        if self._batch:
            return _BATCH_WIDTH
        every = [layer for one in self._all for layer in layers(one)]
        paces = [2 * one.pace.allowed for one in every if isinstance(one, LimitedBackend)]
        return max(paces, default=_IN_PROCESS_WIDTH)

    def close(self) -> None:
        """Give connections and memory back. Safe to call twice."""
        for backend in self._all:
            run_blocking(backend.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listed(given: Any) -> list[Any]:
    """What was given, alone or as a list."""
    if isinstance(given, list | tuple):
        if not given:
            raise ConfigError("name a model and a rubric, or several: an empty list is none")
        return list(given)
    return [given]
