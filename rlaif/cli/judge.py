"""`rlaif judge`: score or compare responses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.judging import Judging, comparisons_in, responses_in
from rlaif.cli.methods import (
    PairOptions,
    ScoreOptions,
    check_unused,
    is_reward,
    is_small,
    pair_judge,
    score_judge,
    takes,
)
from rlaif.cli.output import say
from rlaif.cli.ranking import rank

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.judge.likelihood import LikelihoodJudge
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.judge.reward import RewardJudge
    from rlaif.types import Comparison, Sampling

    Judge = PairwiseJudge | LikelihoodJudge | RewardJudge

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Score or compare responses.")
app.command()(rank)

Data = Annotated[
    str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, a run of generate, or -.")
]
Method = Literal["auto", "verdict", "token", "likelihood"]


@app.command()
@asks(output=Path("runs/score"))
@takes("how", ScoreOptions)
def score(
    data: Data,
    rubric: options.Rubric = "helpfulness",
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    *,
    how: ScoreOptions,
    asking: Asking,
) -> None:
    """Grade each response on every criterion of a rubric. Writes verdicts.jsonl."""
    from rlaif.specs.rubric import load_rubric
    from rlaif.types import Sampling

    source = options.spooled(data)
    spec = load_rubric(rubric)
    with asking.session() as session:
        backend = session.backend(asking.one_model())
        judged = ((item, (one,)) for item, one in responses_in(source, asking.limit))
        if is_reward(backend):
            _score_by_reward(backend, how, Judging("judge score", asking, session, source))
            return
        sampling = Sampling(temperature, max_tokens=max_tokens)
        judge = score_judge(backend, spec, how, sampling, judged)
        Judging("judge score", asking, session, source).carry_out(
            judge.ref,
            lambda: responses_in(source, asking.limit),
            lambda pair: judge.score(*pair),
            lambda pair: [(backend, r) for r in judge.requests(*pair)],
        )


def _score_by_reward(backend: CachedBackend, how: ScoreOptions, judging: Judging) -> None:
    """Score with a reward model, which is not asked anything in words."""
    from rlaif.judge.reward import RewardJudge

    check_unused(how, "reward")
    say(f"{backend.model} scores by reward; no rubric is read")
    judge = RewardJudge(backend)
    judging.carry_out(
        judge.ref,
        lambda: responses_in(judging.source, judging.asking.limit),
        lambda pair: judge.score(*pair),
        lambda pair: [(backend, judge.request(*pair))],
    )


@app.command()
@asks(output=Path("runs/compare"))
@takes("how", PairOptions)
def compare(
    data: Data,
    rubric: Annotated[
        str | None,
        typer.Option("-r", "--rubric", help="A shipped rubric, or a file. [default: helpfulness]"),
    ] = None,
    pairs: Annotated[
        str, typer.Option(help="Of a prompt's candidates: all, adjacent, or a number of pairs.")
    ] = "all",
    seed: options.Seed = 0,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    *,
    how: PairOptions,
    asking: Asking,
) -> None:
    """Compare responses in pairs, each pair in both orders. Writes verdicts.jsonl."""
    from rlaif.candidates import pair_up
    from rlaif.types import Item, Sampling

    pair_up(Item("", ()), (), pairs)  # a wrong --pairs is refused even where none are drawn
    source = options.spooled(data)
    with asking.session() as session:
        backend = session.backend(asking.one_model())

        def compared() -> Iterator[Comparison]:
            return comparisons_in(source, asking.limit, pairs, seed)

        sampling = Sampling(temperature, max_tokens=max_tokens)
        judge = make_comparison_judge(
            backend, rubric, how.method, sampling, how=how, seed=seed, compared=compared
        )
        settings = {"pairs": pairs, "seed": seed}
        Judging("judge compare", asking, session, source, settings).carry_out(
            judge.ref,
            compared,
            judge.compare,
            lambda comparison: [(backend, r) for r in judge.requests(comparison)],
        )


def make_comparison_judge(
    backend: CachedBackend,
    rubric: str | None,
    method: Method,
    sampling: Sampling,
    *,
    how: PairOptions | None = None,
    seed: int = 0,
    compared: Callable[[], Iterable[Comparison]] = tuple,
) -> Judge:
    """The judge that `method` names for `backend`.

    Args:
        backend: The model that judges.
        rubric: What it judges by; helpfulness by default.
        method: How it is asked.
        sampling: How it draws its replies.
        how: How else it is asked; as usual by default.
        seed: Draws what is drawn.
        compared: All that will be compared, to find responses that recur over prompts.

    Raises:
        SpecError: no such rubric, or it is malformed.
        ConfigError: options contradict each other, or the method.
    """
    how = how or PairOptions(method=method)
    unread = f"; -r {rubric} is not read" if rubric else ""
    if method == "auto" and is_reward(backend):
        from rlaif.judge.reward import RewardJudge

        check_unused(how, "reward")
        say(f"{backend.model} judges by reward, which has no rubric{unread}")
        return RewardJudge(backend)
    if method == "likelihood" or (method == "auto" and is_small(backend)):
        from rlaif.judge.likelihood import LikelihoodJudge

        check_unused(how, "likelihood")
        say(f"{backend.model} judges by likelihood, which has no rubric{unread} (see --method)")
        return LikelihoodJudge(backend)
    from rlaif.specs.rubric import load_rubric

    return pair_judge(
        backend,
        load_rubric(rubric or "helpfulness"),
        how,
        sampling,
        seed=seed,
        judged=((pair.item, (pair.a, pair.b)) for pair in compared()),
    )
