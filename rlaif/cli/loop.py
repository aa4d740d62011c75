"""`rlaif loop`: rounds of generate, judge, prefer, train and evaluate, with alarms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.output import KEPT, emit, printable, progress_bar, say, table
from rlaif.cli.running import run_draining
from rlaif.errors import ConfigError

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.cli.asking import Session
    from rlaif.judge.making import Comparer
    from rlaif.rewards.judge_reward import JudgeReward
    from rlaif.runner import Stop
    from rlaif.train.alarms import Limits
    from rlaif.train.loop_round import Tools, Trainer
    from rlaif.train.loop_schema import JudgeFile, LoopFile
    from rlaif.types import Item, Request

app = typer.Typer(add_completion=False)


@app.command()
@asks(output=Path("runs/loop"), without=("model", "limit", "max_failures", "base_url"))
def loop(
    config: Annotated[
        Path | None, typer.Argument(help="The loop's YAML file; see --example.")
    ] = None,
    alarms: Annotated[
        Path | None, typer.Option(help="Limits of the alarms, over those of the loop's file.")
    ] = None,
    on_alarm: Annotated[
        Literal["stop", "continue"] | None,
        typer.Option(help="What follows an alarm, over the loop's file."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How many rounds, over the loop's file.")
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print a commented file to begin with.")
    ] = False,
    *,
    asking: Asking,
) -> None:
    """Rounds of generate, judge, prefer, train and evaluate; alarms after each.

    Every round is compared with the start by the judge that training follows, and by one that it
    never sees. The same command again goes on where it was stopped. Ends with a table, loop.json
    and report.html. Exit code 1 where the loop stopped at an alarm.
    """
    from rlaif.train.alarms import load_limits
    from rlaif.train.loop_config import example_loop, load_loop, loop_prompts

    if example:
        typer.echo(example_loop(), nl=False)
        return
    if config is None:
        raise ConfigError("give the loop's YAML file; --example prints one to begin with")
    over = {"on_alarm": on_alarm, "rounds": rounds}
    spec = load_loop(config).model_copy(update={k: v for k, v in over.items() if v is not None})
    limits = load_limits(alarms or (config.parent / spec.alarms if spec.alarms else None))
    prompts, held_out = loop_prompts(spec, config.parent)
    with asking.session() as session:
        if asking.dry_run:
            _dry_run(spec, session, prompts, held_out)
            return
        from rlaif.train.data import require_train_extra
        from rlaif.train.loop import run_loop

        require_train_extra()

        async def work(stop: Stop) -> dict[str, Any]:
            async with _Opened(session):
                tools = _tools(spec, session, stop, _trainer(spec, session, limits, len(prompts)))
                return await run_loop(asking.output, tools, prompts, held_out, limits, tell=say)

        made = run_draining(work, drain=not asking.batch)
    _finish(made, asking)


class _Opened:
    """Closes every backend of a session, those too that are opened inside."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        for backend in self._session.backends:
            await backend.aclose()


def _tools(spec: LoopFile, session: Session, stop: Stop, train: Trainer) -> Tools:
    from rlaif.backends.local import resolve_checkpoint
    from rlaif.train.loop_round import Seat, Tools

    backend, gold_backend = (
        session.backend(told.model, base_url=told.base_url)
        for told in (spec.judge, spec.held_out_judge)
    )
    judge, gold = _judge(spec.judge, backend), _judge(spec.held_out_judge, gold_backend)
    if gold_backend.identity == backend.identity and gold.ref == judge.ref:
        raise ConfigError("held_out_judge asks the same model the same: training would see it")
    return Tools(
        config=spec,
        judge=Seat(judge, backend.identity),
        gold=Seat(gold, gold_backend.identity),
        start=resolve_checkpoint(_policy(spec), options.home()),
        store=session.store,
        home=options.home(),
        train=train,
        bar=lambda label, total: progress_bar(label, total, quiet=session.asking.as_json),
        stop=stop,
        concurrency=session.width,
    )


def _policy(spec: LoopFile) -> str:
    """The name of the checkpoint behind `local/`.

    Raises:
        ConfigError: the policy is no model in this process.
    """
    provider, _, name = spec.model.partition("/")
    if provider != "local" or not name:
        raise ConfigError(f"model is trained, so it is local/NAME or local/PATH, not {spec.model}")
    return name


def _trainer(spec: LoopFile, session: Session, limits: Limits, prompts: int) -> Trainer:
    """How each round is trained.

    Raises:
        ConfigError: a setting of the trainer is unknown or does not fit.
    """
    from rlaif.train.loop_trainers import dpo_settings, dpo_trainer, ppo_config, ppo_trainer

    if spec.train.trainer == "dpo":
        return dpo_trainer(dpo_settings(spec.train.settings, spec.seed))
    if session.asking.batch:
        raise ConfigError("--batch answers within a day: PPO asks its judge at every update")
    ppo_config(spec, prompts, Path())

    @contextmanager
    def reward(folder: Path) -> Iterator[JudgeReward]:
        from rlaif.background import run_blocking
        from rlaif.rewards.judge_reward import JudgeReward

        # a backend of its own: connections belong to the event loop that opened them, and a
        # trainer's is another one than the loop's
        backend = options.open_backend(
            spec.judge.model,
            session.store,
            base_url=spec.judge.base_url,
            timeout_s=session.asking.timeout,
            terms=session.terms,
        )
        try:
            yield JudgeReward(_judge(spec.judge, backend), by="comparison")
        finally:
            run_blocking(backend.aclose())

    return ppo_trainer(reward, limits, say)


def _judge(told: JudgeFile, backend: CachedBackend) -> Comparer:
    """A judge of the loop's file."""
    from rlaif.cli.judge import make_comparison_judge
    from rlaif.cli.methods import PairOptions
    from rlaif.types import Sampling

    how = PairOptions(
        method=told.method,
        draws=told.draws,
        ties=told.ties,
        levels="5" if told.levels == 5 else "3",
        structured=told.structured,
    )
    sampling = Sampling(told.temperature, max_tokens=told.max_tokens)
    return make_comparison_judge(backend, told.rubric, sampling, how)


def _dry_run(spec: LoopFile, session: Session, prompts: list[Item], held_out: list[Item]) -> None:
    """Say what the judges would be asked, were every response as long as it can be."""
    from rlaif.cli.dry_run import dry_run_report
    from rlaif.train.loop_plan import planned_comparisons

    _policy(spec)
    backend, gold_backend = (
        session.backend(told.model, base_url=told.base_url)
        for told in (spec.judge, spec.held_out_judge)
    )
    judge, gold = _judge(spec.judge, backend), _judge(spec.held_out_judge, gold_backend)

    def asked() -> Iterator[tuple[CachedBackend, Request]]:
        for comparison, held in planned_comparisons(spec, prompts, held_out):
            for request in judge.requests(comparison):
                yield backend, request
            if held:
                for request in gold.requests(comparison):
                    yield gold_backend, request

    dry_run_report(asked(), as_json=session.asking.as_json, prices=session.terms.prices)


def _finish(made: dict[str, Any], asking: Asking) -> None:
    """Write the report, print the table, and exit as the loop ended."""
    from rlaif.report.page import write_page
    from rlaif.report.training_loop import loop_page

    report = None
    if made["rounds"]:
        report = write_page(loop_page(asking.output), asking.output / "report.html")
    if asking.as_json:
        emit(made | {"run": str(asking.output), "report": str(report) if report else None})
    else:
        _print_rounds(made, asking.output)
    if made["ended"] == "interrupted":
        say(f"interrupted after {len(made['rounds'])} rounds: {KEPT}")
        raise typer.Exit(130)
    if made["ended"] == "alarms":
        last = made["rounds"][-1]
        say(
            f"error: stopped after round {last['round']}: {', '.join(last['fired'])} fired; "
            "--on-alarm continue goes on all the same"
        )
        raise typer.Exit(1)


def _print_rounds(made: Mapping[str, Any], output: Path) -> None:
    columns = ("round", "judge", "held-out judge", "KL", "words", "alarms")
    rows = [
        (
            row["round"],
            _span(row["reward"]),
            _span(row["gold"]),
            _measure(row, "kl"),
            f"{row['words']['policy']['mean']:.1f}",
            ", ".join(row["fired"]) or "none",
        )
        for row in made["rounds"]
    ]
    if not rows:
        return
    note = "P(preferred over the start) with 95 % intervals by prompt; KL in nats a response"
    table(printable(made["name"]), columns, rows, note=note)
    last = made["rounds"][-1]["model"]
    say(f"wrote {output / 'report.html'}; the last policy is local/{output / last}")


def _span(found: Mapping[str, float]) -> str:
    return f"{found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"


def _measure(row: Mapping[str, Any], name: str) -> str:
    return next((f"{m['value']:.2f}" for m in row["measures"] if m["name"] == name), "")
