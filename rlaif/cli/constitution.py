"""`rlaif constitution`: critique and revision, comparison by principle, checks, training rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, Session, asks
from rlaif.cli.constitution_data import check, export
from rlaif.cli.judging import Judging, comparisons_in, finish, note_interruption
from rlaif.cli.output import progress_bar, say
from rlaif.cli.running import run_draining
from rlaif.errors import ConfigError, SpecError

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.constitutional.chains import Reviser
    from rlaif.constitutional.refereeing import ComparisonJudge
    from rlaif.runner import Stop
    from rlaif.store.runs import RunFolder
    from rlaif.types import Request

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Critique and revise responses by a constitution, and compare by its principles.",
)
app.command()(check)
app.command()(export)

Which = Annotated[
    str, typer.Option("-c", "--constitution", help="A shipped constitution, or a file.")
]
Examples = Annotated[
    int | None, typer.Option(min=0, help="Most few-shot examples to show. By default all.")
]
When = Literal["off", "per-round", "final"]


@app.command()
@asks(output=Path("runs/critique"))
def critique(
    prompts: Annotated[str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, or -.")],
    constitution: Which = "harmlessness",
    rounds: Annotated[
        int, typer.Option("-n", "--rounds", min=1, max=1000, help="Most rounds.")
    ] = 4,
    critic: Annotated[
        str | None, typer.Option(help="The model that criticizes. By default the one of -m.")
    ] = None,
    critic_url: Annotated[
        str | None, typer.Option(help="Its server, if it is not the one of --base-url.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="An independent judge: a revision is kept only if it is preferred."),
    ] = None,
    judge_url: Annotated[
        str | None, typer.Option(help="Its server, if it is not the one of --base-url.")
    ] = None,
    check_when: Annotated[
        When | None,
        typer.Option(
            "--check",
            help="per-round: each revision against what stood before, until one is not preferred. "
            "final: the last one against the first response. Both orders are asked. By default "
            "per-round with --judge, else off.",
        ),
    ] = None,
    rubric: Annotated[
        str | None,
        typer.Option("-r", "--rubric", help="The judge's. By default the constitution's name."),
    ] = None,
    draw: Annotated[
        Literal["seeded", "in-turn", "most-violated"],
        typer.Option(
            help="The principle of a round: at random; in the order of the file; or the one that "
            "the judge, else the critic, finds most violated."
        ),
    ] = "seeded",
    form: Annotated[
        Literal["chat", "transcript"],
        typer.Option(help="chat: each part is a turn. transcript: one text, for base models."),
    ] = "chat",
    examples: Examples = None,
    system: Annotated[str, typer.Option(help="What the system says to actor and critic.")] = "",
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = 1024,
    seed: options.Seed = 0,
    *,
    asking: Asking,
) -> None:
    """Answer prompts, then criticize and revise the answers. Writes revisions.jsonl.

    -m names the model that answers and rewrites. The verdicts of the checks go to verdicts.jsonl,
    and rows that hold no prompt to skipped.jsonl.
    """
    from rlaif.constitutional.chains import Reviser
    from rlaif.constitutional.rendering import Script
    from rlaif.judge.markers import Markers
    from rlaif.specs.constitution import load_constitution
    from rlaif.store.secret import load_secret
    from rlaif.types import Sampling

    when: When = check_when or ("per-round" if judge else "off")
    if when != "off" and judge is None:
        raise ConfigError(f"--check {when} needs a --judge")
    if when == "off" and judge is not None and draw != "most-violated":
        raise ConfigError("--check off leaves --judge nothing to do")
    source, spec = options.spooled(prompts), load_constitution(constitution)
    with asking.session() as session:
        actor = session.backend(asking.one_model())
        critic_backend = session.backend(critic, critic_url) if critic else actor
        judge_backend = session.backend(judge, judge_url) if judge else None
        referee = None
        if judge_backend is not None and when != "off":
            referee = _referee(judge_backend, rubric or _rubric_of(spec.name), asking)
        reviser = Reviser(
            actor,
            critic_backend,
            Script(spec, form, examples, system),
            rounds=rounds,
            draw=draw,
            seed=seed,
            sampling=Sampling(temperature, top_p, max_tokens, seed),
            judge=referee,
            check=when,
            chooser=(judge_backend or critic_backend) if draw == "most-violated" else None,
            markers=Markers(load_secret(options.home())),
        )
        if asking.dry_run:
            _plan(reviser, source, asking, session, judge_backend)
            return
        _make(reviser, [p.name for p in spec.critiques], source, asking, session, rounds)


def _rubric_of(constitution: str) -> str:
    """The shipped rubric that says what a constitution is about.

    Raises:
        ConfigError: there is none.
    """
    from rlaif.specs.rubric import shipped_rubrics

    if constitution in shipped_rubrics():
        return constitution
    raise ConfigError(f"there is no rubric called {constitution!r} for the judge: give one with -r")


def _referee(backend: CachedBackend, rubric: str, asking: Asking) -> ComparisonJudge:
    from rlaif.cli.judge import make_comparison_judge
    from rlaif.types import Sampling

    if backend.model in asking.model:
        say(f"note: {backend.model} checks its own revisions; an independent judge would be better")
    return make_comparison_judge(backend, rubric, Sampling())


def _plan(
    reviser: Reviser,
    source: Path,
    asking: Asking,
    session: Session,
    judge: CachedBackend | None,
) -> None:
    """Say what would be asked, replies that are yet to be written stood in for."""
    from rlaif.backends.cached import CachedBackend
    from rlaif.cli.dry_run import dry_run_report
    from rlaif.constitutional.prompts import BrokenRow, prompts_in

    backends = {b.identity: b for b in session.backends if isinstance(b, CachedBackend)}

    def asked() -> Iterator[tuple[CachedBackend, Request]]:
        for item in prompts_in(source, asking.limit):
            if isinstance(item, BrokenRow):
                continue
            for backend, request in reviser.requests(item):
                to = judge if backend is None else backends[backend.identity]
                if to is not None:
                    yield to, request

    dry_run_report(asked(), as_json=asking.as_json, prices=session.terms.prices)


def _make(
    reviser: Reviser,
    principles: list[str],
    source: Path,
    asking: Asking,
    session: Session,
    rounds: int,
) -> None:
    """Make the chains, look at what came of them, and report."""
    from rlaif.constitutional.making import write_chains
    from rlaif.constitutional.prompts import BrokenRow, prompts_in
    from rlaif.constitutional.records import REVISIONS
    from rlaif.store.runs import RunFolder

    rows = list[bool]()
    rows.extend(isinstance(row, BrokenRow) for row in prompts_in(source, asking.limit))
    if all(rows):
        for row in prompts_in(source, asking.limit):
            assert isinstance(row, BrokenRow)
            raise SpecError(row.message, path=source, line=row.line, field=row.field)
    run = RunFolder(asking.output, _config(reviser, source, asking, session))
    with progress_bar("revising", len(rows), quiet=asking.as_json) as bar:

        async def work(stop: Stop) -> dict[str, Any]:
            async with options.opened(*session.backends):
                return await write_chains(
                    prompts_in(source, asking.limit),
                    reviser.revise,
                    run,
                    principles=principles,
                    concurrency=session.width,
                    progress=bar.advance,
                    stop=stop,
                    also=session.account,
                )

        summary = note_interruption(run, run_draining(work, drain=not asking.batch))
    if not summary.get("interrupted"):
        summary = _looked_at(run, summary)
    finish("revised", summary, asking, REVISIONS, "chains have no revision")


def _config(reviser: Reviser, source: Path, asking: Asking, session: Session) -> dict[str, Any]:
    return {
        "command": "constitution critique",
        "prompts_sha256": options.data_digest(source),
        "limit": asking.limit,
        "backends": [backend.identity for backend in session.backends],
        **reviser.config(),
    }


def _looked_at(run: RunFolder, summary: dict[str, Any]) -> dict[str, Any]:
    """The summary with what the chains look like; it and the page are written."""
    from rlaif.constitutional.drift import drift_of
    from rlaif.constitutional.records import read_chains
    from rlaif.report.constitution_report import chains_page
    from rlaif.report.page import write_page

    summary = summary | {"drift": drift_of(read_chains(run.path))}
    run.write_json("summary.json", summary)
    write_page(chains_page(run.path), run.path / "report.html")
    return summary


@app.command()
@asks(output=Path("runs/constitution-compare"))
def compare(
    data: Annotated[
        str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, a run of generate, or -.")
    ],
    constitution: Which = "harmlessness",
    k: Annotated[
        int, typer.Option("-k", min=1, help="Principles that a label is the mean of.")
    ] = 1,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Let the judge think step by step first.")
    ] = False,
    clamp: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Bounds of a label. By default 0.4 0.6 with --reasons, else none."),
    ] = None,
    examples: Examples = None,
    pairs: Annotated[
        str, typer.Option(help="Of a prompt's candidates: all, adjacent, or a number of pairs.")
    ] = "all",
    draws: Annotated[
        int,
        typer.Option(min=1, help="Replies to each question, for models without log-probabilities."),
    ] = 1,
    least_mass: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Probability that must lie on the letters (A), (B)."),
    ] = 0.5,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    seed: options.Seed = 0,
    *,
    asking: Asking,
) -> None:
    """Compare responses by a principle drawn for each pair, in both orders.

    Writes verdicts.jsonl, which `rlaif prefer` turns into rows with soft labels.
    """
    from rlaif.candidates import pair_up
    from rlaif.constitutional.comparing import PrincipleJudge
    from rlaif.judge.markers import Markers
    from rlaif.specs.constitution import load_constitution
    from rlaif.store.secret import load_secret
    from rlaif.types import Comparison, Item, Sampling

    pair_up(Item("", ()), (), pairs)  # a wrong --pairs is refused even where none are drawn
    source = options.spooled(data)
    with asking.session() as session:
        backend = session.backend(asking.one_model())
        principled = PrincipleJudge(
            backend,
            load_constitution(constitution),
            seed=seed,
            k=k,
            reasons=reasons,
            clamp=clamp,
            examples=examples,
            sampling=Sampling(temperature, max_tokens=max_tokens),
            draws=draws,
            least_mass=least_mass,
            markers=Markers(load_secret(options.home())),
        )

        def compared() -> Iterator[Comparison]:
            return comparisons_in(source, asking.limit, pairs, seed)

        settings = {"pairs": pairs, "seed": seed, "k": k, "clamp": clamp}
        Judging("constitution compare", asking, session, source, settings).carry_out(
            principled.ref,
            compared,
            principled.compare,
            lambda comparison: [(backend, r) for r in principled.requests(comparison)],
        )
