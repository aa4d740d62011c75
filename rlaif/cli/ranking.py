"""`rlaif judge rank`: the responses to each prompt in order, by pairs or by whole lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.judging import Judging, candidates_in
from rlaif.cli.making import guard
from rlaif.cli.methods import JUDGING, CompareOptions, PairOptions, flag_of
from rlaif.cli.several import SeveralOptions, conclude, seat
from rlaif.cli.taking import takes
from rlaif.errors import ConfigError, SpecError
from rlaif.judge.methods import LIST_USES, CompareMethod

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.types import Candidate, Comparison, Item, Sampling, Verdict

Data = Annotated[
    str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, a run of generate, or -.")
]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RankOptions(CompareOptions):
    """How the responses of a ranking are judged."""

    compare_by: Annotated[
        CompareMethod,
        typer.Option(
            help="How a pair is judged: any --method of judge compare.", rich_help_panel=JUDGING
        ),
    ] = "auto"

    def of_pairs(self) -> PairOptions:
        """The options as those of comparing."""
        shared = {f.name: getattr(self, f.name) for f in fields(CompareOptions)}
        return PairOptions(method=self.compare_by, **shared)


@asks(output=Path("runs/rank"))
@takes("how", RankOptions)
@takes("several", SeveralOptions)
def rank(
    data: Data,
    rubric: Annotated[
        list[str] | None,
        typer.Option(
            "-r",
            "--rubric",
            help="A shipped rubric, or a file; or item, as for judge compare. Repeatable. "
            "By default helpfulness.",
        ),
    ] = None,
    method: Annotated[
        Literal["round-robin", "merge-sort", "swiss", "active", "listwise"],
        typer.Option(
            help="Which pairs are compared. active: those that promise to settle most of the "
            "order. swiss: neighbors in the standing, round by round. merge-sort: as a sort "
            "needs them. round-robin: all. Or listwise: all responses in one prompt, shuffled."
        ),
    ] = "active",
    comparisons: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most pairs of a prompt to compare. By default N log2 N for active, as many as "
            "the method needs for the others.",
        ),
    ] = None,
    shuffles: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="listwise: how often the list is shown, each second time backwards. By default 4.",
        ),
    ] = None,
    settle: Annotated[
        str, typer.Option(help="What is wanted: all of the order, or top1, top2, …")
    ] = "all",
    confidence: Annotated[
        float,
        typer.Option(
            min=0.5,
            max=0.9999,
            help="active and swiss stop once what is wanted is this sure; also the level of "
            "the strengths' intervals.",
        ),
    ] = 0.95,
    seed: options.Seed = 0,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    *,
    how: RankOptions,
    several: SeveralOptions,
    asking: Asking,
) -> None:
    """Rank the responses to each prompt. Writes verdicts.jsonl."""
    from rlaif.judge.tournament import Tournament
    from rlaif.types import Sampling

    listed = method == "listwise"
    if several.cascade is not None or several.weights == "estimated":
        raise ConfigError("--cascade and estimated weights are for judge score and judge compare")
    if listed:
        _refuse_for_lists(how, comparisons, settle)
    elif shuffles is not None:
        raise ConfigError(f"--shuffles is for --method listwise, not {method}")
    source = options.spooled(data)
    asked = _Asked(
        how, Sampling(temperature, max_tokens=max_tokens), source, asking.limit, seed, confidence
    )

    def ranker(judge: Any) -> Any:
        if method == "listwise":
            return judge
        return Tournament(
            judge,
            method,
            comparisons=comparisons,
            settle=settle,
            confidence=confidence,
            seed=seed,
        )

    def judge_of(backend: CachedBackend, name: str | None) -> Any:
        if listed:
            return asked.of_lists(backend, name, shuffles)
        return asked.of_pairs(backend, name, writer)

    with asking.session() as session:
        writer = session.backend(how.questions_by) if how.questions_by else None
        seated = seat(asking, session, several, rubric, judge_of)
        judge, told = ranker(seated.judge), RankTally()
        members = [(backend, ranker(member)) for backend, member in seated.members]
        Judging("judge rank", asking, session, source, {"seed": seed}).carry_out(
            judge.ref,
            lambda: rankings_in(source, asking.limit, listed=listed),
            told.counted(seated.counted(lambda pair: judge.rank(*pair))),
            lambda pair: [(b, r) for b, member in members for r in member.requests(*pair)],
            also=lambda: {**seated.account(), **told.account()},
            after=partial(conclude, seated),
        )


def _refuse_for_lists(how: RankOptions, comparisons: int | None, settle: str) -> None:
    """Raise `ConfigError` for options that lists have no use for."""
    used = set(map(flag_of, LIST_USES))
    stray = [name for name in how.given() if name not in used]
    stray += ["--comparisons"] if comparisons is not None else []
    stray += ["--settle"] if settle != "all" else []
    if stray:
        raise ConfigError(f"--method listwise compares no pairs: it takes no {', '.join(stray)}")


@dataclass(frozen=True)
class _Asked:
    """What every judge of a ranking is told."""

    how: RankOptions
    sampling: Sampling
    source: Path
    limit: int | None
    seed: int
    confidence: float

    def of_pairs(
        self, backend: CachedBackend, name: str | None, writer: CachedBackend | None
    ) -> Any:
        """The judge that compares two of the responses; `writer` writes its checklists."""
        from rlaif.cli.judge import make_comparison_judge

        return make_comparison_judge(
            backend,
            name,
            self.sampling,
            self.how.of_pairs(),
            seed=self.seed,
            compared=lambda: _neighbors(self.source, self.limit),
            source=self.source,
            writer=writer,
        )

    def of_lists(self, backend: CachedBackend, name: str | None, shuffles: int | None) -> Any:
        """The judge that sees all responses at once."""
        from rlaif.judge.item_rubric import checked, rubric_source
        from rlaif.judge.making import lister

        spec = rubric_source(name or "helpfulness")
        judged = checked(
            spec,
            rankings_in(self.source, self.limit),
            path=self.source,
            writes_reference=self.how.reference_by_judge,
        )
        told = self.how.of_pairs().how(self.sampling, seed=self.seed)
        return lister(
            backend, spec, told, guard(judged), shuffles=shuffles, confidence=self.confidence
        )


class RankTally:
    """How far the rankings of a run can be trusted, for its summary."""

    def __init__(self) -> None:
        self._found = dict.fromkeys(
            ("rankings", "settled", "unsettled_neighbors", "comparisons", "triples", "cycles"), 0
        )

    def counted(self, work: Callable[[T], Awaitable[Verdict]]) -> Callable[[T], Awaitable[Verdict]]:
        """`work`, whose rankings are counted."""

        async def ranked(item: T) -> Verdict:
            verdict = await work(item)
            if (made := verdict.ranking) is not None:
                found = self._found
                found["rankings"] += 1
                found["settled"] += bool(made.settled)
                found["unsettled_neighbors"] += len(made.unsettled or ())
                found["comparisons"] += made.comparisons
                found["triples"] += made.triples or 0
                found["cycles"] += made.cycles or 0
            return verdict

        return ranked

    def account(self) -> dict[str, Any]:
        """What the summary says of the rankings."""
        return {"rankings": self._found}


def rankings_in(
    source: Path, limit: int | None, *, listed: bool = False
) -> Iterator[tuple[Item, tuple[Candidate, ...]]]:
    """Each prompt in `source` with the responses to rank: plain data, or a run of generate.

    Raises:
        SpecError: a prompt has fewer than two responses; or, where they are `listed`, more
            different ones than there are labels.
    """
    from rlaif.judge.list_form import MOST_RESPONSES
    from rlaif.specs.items import read_data

    made = candidates_in(source, limit)
    for item, candidates in made or read_data(source, "rank", limit=limit):
        if len(candidates) < 2:
            message = f"item {item.id!r} has {len(candidates)} response: a ranking needs two"
            raise SpecError(message, path=source)
        if listed and (n := len({c.response for c in candidates})) > MOST_RESPONSES:
            message = f"item {item.id!r} has {n} responses: a list holds {MOST_RESPONSES} at most"
            raise SpecError(message, path=source)
        yield item, candidates


def _neighbors(source: Path, limit: int | None) -> Iterator[Comparison]:
    """Pairs in which every response occurs, for what looks at all responses."""
    from itertools import pairwise

    from rlaif.types import Comparison

    for item, candidates in rankings_in(source, limit):
        for a, b in pairwise(candidates):
            yield Comparison(item, a, b)
