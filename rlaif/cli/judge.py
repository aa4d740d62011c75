"""`rlaif judge`: score, compare or rank responses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.judging import Judging, comparisons_in, responses_in
from rlaif.cli.making import checklist_judge, judge_by_scores, pair_judge, score_judge
from rlaif.cli.methods import PairMethod, PairOptions, ScoreOptions, check_unused
from rlaif.cli.output import say
from rlaif.cli.ranking import rank
from rlaif.cli.several import SeveralOptions, seat
from rlaif.cli.taking import takes
from rlaif.errors import ConfigError
from rlaif.judge.choice import is_reward, is_small

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.judge.by_scores import ByScoresJudge, ChecklistPairs
    from rlaif.judge.checklist import ChecklistJudge
    from rlaif.judge.likelihood import LikelihoodJudge
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.judge.pointwise import PointwiseJudge
    from rlaif.judge.reward import RewardJudge
    from rlaif.types import Candidate, Comparison, Item, Sampling

    Judge = PairwiseJudge | LikelihoodJudge | RewardJudge | ByScoresJudge | ChecklistPairs

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
Method = Literal["auto", "verdict", "token", "likelihood"]


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

        def grader(backend: CachedBackend, name: str | None) -> PointwiseJudge:
            if is_reward(backend) or how.method == "checklist":
                raise ConfigError("rewards and checklists are no grades to combine: give one -m")
            return score_judge(backend, specs[name or names[0]], how, sampling, judged(name))

        alone = len(asking.model) == len(names) == 1 and not several.given()
        if alone and (how.method == "checklist" or asking.one_model().startswith("reward/")):
            backend = session.backend(asking.one_model())
            if is_reward(backend):
                _score_by_reward(backend, how, judging)
                return
            writer = session.backend(how.questions_by) if how.questions_by else backend
            spec = specs[names[0]]
            made = checklist_judge(backend, writer, spec, how, sampling, judged(names[0]))
            _score_by_checklist(backend, writer, made, judging)
            return
        seated = seat(asking, session, several, names, grader)
        judging.carry_out(
            seated.judge.ref,
            lambda: responses_in(source, asking.limit),
            seated.counted(lambda pair: seated.judge.score(*pair)),
            lambda pair: seated.requests(*pair),
            also=seated.account,
            after=seated.conclude,
        )


def _own_rubrics(names: Sequence[str]) -> dict[str, Any]:
    """What the run's configuration says where every item brings its rubric."""
    from rlaif.judge.item_rubric import PER_ITEM

    if all(name.partition(":")[0] != PER_ITEM for name in names):
        return {}
    return {"rubric": names[0] if len(names) == 1 else list(names)}


def _score_by_checklist(
    backend: CachedBackend, writer: CachedBackend, judge: ChecklistJudge, judging: Judging
) -> None:
    """Score by yes/no questions, which another model may write."""
    judging.carry_out(
        judge.ref,
        lambda: responses_in(judging.source, judging.asking.limit),
        lambda pair: judge.score(*pair),
        lambda pair: [
            *((writer, r) for r in judge.writing_requests(*pair)),
            *((backend, r) for r in judge.answer_requests(*pair)),
        ],
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

        def comparer(backend: CachedBackend, name: str | None) -> Judge:
            return make_comparison_judge(
                backend,
                name,
                how.method,
                sampling,
                how=how,
                seed=seed,
                compared=compared,
                source=source,
                writer=writer,
            )

        sampling = Sampling(temperature, max_tokens=max_tokens)
        writer = session.backend(how.questions_by) if how.questions_by else None
        seated = seat(asking, session, several, rubric, comparer)
        settings = {"pairs": pairs, "seed": seed, **_own_rubrics(rubric or [])}
        Judging("judge compare", asking, session, source, settings).carry_out(
            seated.judge.ref,
            compared,
            seated.counted(seated.judge.compare),
            seated.requests,
            also=seated.account,
            after=seated.conclude,
        )


def make_comparison_judge(
    backend: CachedBackend,
    rubric: str | None,
    method: PairMethod,
    sampling: Sampling,
    *,
    how: PairOptions | None = None,
    seed: int = 0,
    compared: Callable[[], Iterable[Comparison]] = tuple,
    source: Path | None = None,
    writer: CachedBackend | None = None,
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
        source: The file they come from, for errors.
        writer: The model that writes the questions of a checklist, if it is another.

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
    from rlaif.judge.item_rubric import checked, rubric_source

    spec = rubric_source(rubric or "helpfulness")
    judged = checked(
        spec,
        ((pair.item, (pair.a, pair.b)) for pair in compared()),
        path=source,
        writes_reference=how.reference_by_judge,
    )
    if method in ("score", "expectation", "checklist"):
        return judge_by_scores(backend, spec, how, sampling, judged=judged, writer=writer)
    return pair_judge(backend, spec, how, sampling, seed=seed, judged=judged)
