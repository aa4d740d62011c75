"""`rlaif judge`: score, compare or rank responses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.judging import Judging, comparisons_in, responses_in
from rlaif.cli.making import guard, score_judge
from rlaif.cli.methods import PairOptions, ScoreOptions
from rlaif.cli.output import say
from rlaif.cli.ranking import rank
from rlaif.cli.several import SeveralOptions, conclude, seat
from rlaif.cli.taking import takes
from rlaif.judge.choice import is_reward
from rlaif.judge.methods import check_used, chosen

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.judge.making import Comparer, Grader
    from rlaif.types import Candidate, Comparison, Item, Sampling

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Score, compare or rank responses."
)
app.command()(rank)

Data = Annotated[
    str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, a run of generate, or -.")
]
Rubrics = Annotated[
    list[str] | None,
    typer.Option(
        "-r",
        "--rubric",
        help="A shipped rubric, or a file; or item: what each item brings in its column rubric. Of "
        "item:FOLDER it may name those in the folder. Repeatable. By default helpfulness.",
    ),
]


@app.command()
@asks(output=Path("runs/score"))
@takes("how", ScoreOptions)
@takes("several", SeveralOptions)
def score(
    data: Data,
    rubric: Rubrics = None,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    *,
    how: ScoreOptions,
    several: SeveralOptions,
    asking: Asking,
) -> None:
    """Grade each response on every criterion of a rubric. Writes verdicts.jsonl."""
    from rlaif.judge.item_rubric import checked, rubric_source
    from rlaif.judge.making import check_combinable
    from rlaif.types import Sampling

    source, names = options.spooled(data), rubric or ["helpfulness"]
    specs = {name: rubric_source(name) for name in names}
    sampling = Sampling(temperature, max_tokens=max_tokens)
    with asking.session() as session:
        judging = Judging("judge score", asking, session, source, _own_rubrics(names))

        def judged(name: str | None) -> Iterable[tuple[Item, Sequence[Candidate]]]:
            return checked(
                specs[name or names[0]],
                ((item, (one,)) for item, one in responses_in(source, asking.limit)),
                path=source,
                writes_reference=how.reference_by_judge,
            )

        def judge_of(backend: CachedBackend, name: str | None) -> Grader:
            by_reward = is_reward(backend)
            spec, rows = specs[name or names[0]], () if by_reward else judged(name)
            judge = score_judge(backend, spec, how, sampling, rows, writer)
            if by_reward:
                say(f"{backend.model} scores by reward; no rubric is read")
            return judge

        writer = session.backend(how.questions_by) if how.questions_by else None
        seated = seat(asking, session, several, names, judge_of)
        check_combinable(seated.judges)
        judging.carry_out(
            seated.judge.ref,
            lambda: responses_in(source, asking.limit),
            seated.counted(lambda pair: seated.judge.score(*pair)),
            lambda pair: seated.requests(*pair),
            also=seated.account,
            after=partial(conclude, seated),
        )


def _own_rubrics(names: Sequence[str]) -> dict[str, Any]:
    """What the run's configuration says where every item brings its rubric."""
    from rlaif.judge.item_rubric import PER_ITEM

    if all(name.partition(":")[0] != PER_ITEM for name in names):
        return {}
    return {"rubric": names[0] if len(names) == 1 else list(names)}


@app.command()
@asks(output=Path("runs/compare"))
@takes("how", PairOptions)
@takes("several", SeveralOptions)
def compare(
    data: Data,
    rubric: Rubrics = None,
    pairs: Annotated[
        str, typer.Option(help="Of a prompt's candidates: all, adjacent, or a number of pairs.")
    ] = "all",
    seed: options.Seed = 0,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    *,
    how: PairOptions,
    several: SeveralOptions,
    asking: Asking,
) -> None:
    """Compare responses in pairs, each pair in both orders. Writes verdicts.jsonl."""
    from rlaif.candidates import pair_up
    from rlaif.types import Item, Sampling

    pair_up(Item("", ()), (), pairs)  # a wrong --pairs is refused even where none are drawn
    source = options.spooled(data)
    with asking.session() as session:

        def compared() -> Iterator[Comparison]:
            return comparisons_in(source, asking.limit, pairs, seed)

        def judge_of(backend: CachedBackend, name: str | None) -> Comparer:
            return make_comparison_judge(
                backend,
                name,
                sampling,
                how,
                seed=seed,
                compared=compared,
                source=source,
                writer=writer,
            )

        sampling = Sampling(temperature, max_tokens=max_tokens)
        writer = session.backend(how.questions_by) if how.questions_by else None
        seated = seat(asking, session, several, rubric, judge_of)
        settings = {"pairs": pairs, "seed": seed, **_own_rubrics(rubric or [])}
        Judging("judge compare", asking, session, source, settings).carry_out(
            seated.judge.ref,
            compared,
            seated.counted(seated.judge.compare),
            seated.requests,
            also=seated.account,
            after=partial(conclude, seated),
        )


def make_comparison_judge(
    backend: CachedBackend,
    rubric: str | None,
    sampling: Sampling,
    how: PairOptions | None = None,
    *,
    seed: int = 0,
    compared: Callable[[], Iterable[Comparison]] = tuple,
    source: Path | None = None,
    writer: CachedBackend | None = None,
) -> Comparer:
    """The judge that compares by `backend`.

    Args:
        backend: The model that judges.
        rubric: What it judges by; helpfulness by default.
        sampling: How it draws its replies.
        how: How it is asked; as suits the model by default.
        seed: Draws what is drawn.
        compared: All that will be compared, to find responses that recur over prompts.
        source: The file they come from, for errors.
        writer: The model that writes the questions of a checklist, if it is another.

    Raises:
        SpecError: no such rubric, or it is malformed.
        ConfigError: options contradict each other.
    """
    from rlaif.judge.making import comparer

    told = (how or PairOptions()).how(sampling, seed=seed, questions_by=writer)
    way = chosen(told, backend)
    check_used(told, way, way.pair_uses)
    if way.reads_rubric:
        from rlaif.judge.item_rubric import checked, rubric_source

        spec = rubric_source(rubric or "helpfulness")
        judged = checked(
            spec,
            ((pair.item, (pair.a, pair.b)) for pair in compared()),
            path=source,
            writes_reference=told.reference == "judge",
        )
        return comparer(backend, spec, told, guard(judged))
    unread = f"; -r {rubric} is not read" if rubric else ""
    how_to = "" if is_reward(backend) else " (see --method)"
    say(f"{backend.model} judges by {way.name}, which has no rubric{unread}{how_to}")
    return comparer(backend, None, told)
