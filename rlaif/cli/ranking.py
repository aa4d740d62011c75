"""`rlaif judge rank`: the responses to each prompt in order, by comparing pairs of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.judging import Judging, candidates_in
from rlaif.cli.methods import PairOptions
from rlaif.errors import SpecError

if TYPE_CHECKING:
    from rlaif.types import Candidate, Comparison, Item

Data = Annotated[
    str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, a run of generate, or -.")
]


@asks(output=Path("runs/rank"))
def rank(
    data: Data,
    rubric: Annotated[
        str | None,
        typer.Option("-r", "--rubric", help="A shipped rubric, or a file. [default: helpfulness]"),
    ] = None,
    method: Annotated[
        Literal["round-robin", "merge-sort", "swiss", "active"],
        typer.Option(
            help="Which pairs are compared. active: those that promise to settle most of the "
            "order. swiss: neighbors in the standing, round by round. merge-sort: as a sort "
            "needs them. round-robin: all."
        ),
    ] = "active",
    comparisons: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most pairs of a prompt to compare. [default: N log2 N for active, as many as "
            "the method needs for the others]",
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
    compare_by: Annotated[
        Literal["auto", "verdict", "token", "likelihood"],
        typer.Option(help="How a pair is judged: see --method of judge compare."),
    ] = "auto",
    seed: options.Seed = 0,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    *,
    asking: Asking,
) -> None:
    """Rank the responses to each prompt. Writes verdicts.jsonl."""
    from rlaif.cli.judge import make_comparison_judge
    from rlaif.judge.tournament import Tournament
    from rlaif.types import Sampling

    source = options.spooled(data)
    with asking.session() as session:
        backend = session.backend(asking.one_model())
        judge = make_comparison_judge(
            backend,
            rubric,
            compare_by,
            Sampling(temperature, max_tokens=max_tokens),
            how=PairOptions(method=compare_by),
            seed=seed,
            compared=lambda: _neighbors(source, asking.limit),
        )
        tournament = Tournament(
            judge,
            method,
            comparisons=comparisons,
            settle=settle,
            confidence=confidence,
            seed=seed,
        )
        Judging("judge rank", asking, session, source, {"seed": seed}).carry_out(
            tournament.ref,
            lambda: rankings_in(source, asking.limit),
            lambda pair: tournament.rank(*pair),
            lambda pair: [(backend, r) for r in tournament.requests(*pair)],
        )


def rankings_in(source: Path, limit: int | None) -> Iterator[tuple[Item, tuple[Candidate, ...]]]:
    """Each prompt in `source` with the responses to rank: plain data, or a run of generate.

    Raises:
        SpecError: a prompt has fewer than two responses.
    """
    from rlaif.specs.items import read_data

    made = candidates_in(source, limit)
    for item, candidates in made or read_data(source, "rank", limit=limit):
        if len(candidates) < 2:
            message = f"item {item.id!r} has {len(candidates)} response: a ranking needs two"
            raise SpecError(message, path=source)
        yield item, candidates


def _neighbors(source: Path, limit: int | None) -> Iterator[Comparison]:
    """Pairs in which every response occurs, for what looks at all responses."""
    from itertools import pairwise

    from rlaif.types import Comparison

    for item, candidates in rankings_in(source, limit):
        for a, b in pairwise(candidates):
            yield Comparison(item, a, b)
