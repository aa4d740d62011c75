"""`rlaif audit`: is this judge fit for use?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.judging import finish, note_interruption
from rlaif.cli.methods import CompareBy, PairOptions, QuestionsBy
from rlaif.cli.output import cut_short, emit, progress_bar, say, table
from rlaif.cli.running import run_draining

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.cli.asking import Session
    from rlaif.evals.audit import Audit
    from rlaif.evals.audit_checks import Check
    from rlaif.evals.audit_thresholds import Thresholds
    from rlaif.judge.methods import CompareMethod
    from rlaif.judge.pair_form import PairMethod
    from rlaif.runner import Stop
    from rlaif.store.runs import RunFolder
    from rlaif.types import Comparison, Sampling, Verdict

app = typer.Typer(add_completion=False)


@app.command()
@asks(output=Path("runs/audit"), without=("max_failures",))
def audit(
    rubric: Annotated[
        str | None,
        typer.Option("-r", "--rubric", help="A shipped rubric, or a file. By default helpfulness."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Pairs to audit with, labeled or not, or a run of generate. "
            "By default the shipped pairs."
        ),
    ] = None,
    method: CompareBy = "auto",
    questions_by: QuestionsBy = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="Your own bounds, over the shipped ones.")
    ] = None,
    other: Annotated[
        Path | None,
        typer.Option("--with", help="Another judge's run on the same pairs, for leakage."),
    ] = None,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    max_failures: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Most without a verdict, over the thresholds file."),
    ] = None,
    *,
    asking: Asking,
) -> None:
    """Check a judge for biases, steadiness and resistance to attacks. Exit 0 when all pass.

    Writes verdicts.jsonl, audit.json and audit.html. Running it again asks nothing twice.
    """
    from rlaif.evals.audit import probe_path, read_pairs, trials_for
    from rlaif.evals.audit_texts import load_texts
    from rlaif.evals.audit_thresholds import Bounds, load_thresholds
    from rlaif.evals.audit_trials import build_trials
    from rlaif.types import Sampling

    bounds = load_thresholds(thresholds)
    if max_failures is not None:
        bounds = bounds.with_bounds("format_failures", Bounds(most=max_failures))
    if other is not None:
        other = options.spooled(other)
    source = probe_path() if data is None else options.spooled(data)
    texts = load_texts()
    with asking.session() as session:
        backend = session.backend(asking.one_model())
        sampling = Sampling(temperature, max_tokens=max_tokens)
        writer = session.backend(questions_by) if questions_by else None
        judge = _judge(backend, rubric, method, sampling, writer)
        wanted = trials_for(bounds, judge.ref.method)
        trials = list(build_trials(read_pairs(source, limit=asking.limit), texts, wanted))
        if asking.dry_run:
            from rlaif.cli.dry_run import dry_run_report
            from rlaif.judge.seating import asked_of

            asked = (asked for trial in trials for asked in asked_of(judge, backend, trial))
            dry_run_report(asked, as_json=asking.as_json, prices=session.terms.prices)
            return
        run = _folder(asking.output, source, asking.limit, judge, backend, wanted)
        summary = _ask(run, judge, session, trials)
    if cut_short(summary):
        finish("audited", summary, asking, "verdicts.jsonl")
    result = _audit(run, bounds, other)
    card = _write(run, result, "shipped pairs" if data is None else source.name)
    if asking.as_json:
        emit(result.as_dict() | {"run": str(asking.output), "card": str(card)})
    else:
        _tell(result, card)
    if not result.passed:
        raise typer.Exit(1)


def _judge(
    backend: CachedBackend,
    rubric: str | None,
    method: CompareMethod,
    sampling: Sampling,
    writer: CachedBackend | None,
) -> Any:
    """The judge to audit, as `judge compare` makes it, but asked again by draw.

    Raises:
        ConfigError: the method has no use for a writer of questions.
        SpecError: no such rubric, or it is malformed.
    """
    from rlaif.cli.judge import make_comparison_judge
    from rlaif.cli.making import guard
    from rlaif.evals.audit_trials import WITHOUT_DRAWS, AuditAlone, AuditJudge
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.specs.rubric import load_rubric

    def made(asked: Any) -> Any:
        how = PairOptions(method=method)
        return make_comparison_judge(asked, rubric, sampling, how, writer=writer)

    judge = made(backend)
    if judge.ref.method.startswith(WITHOUT_DRAWS):
        return judge
    if not isinstance(judge, PairwiseJudge):
        return AuditAlone(made, backend)
    spec = load_rubric(rubric or "helpfulness")
    asked: PairMethod = "token" if method == "token" else "verdict"
    return AuditJudge(backend, spec, sampling=sampling, method=asked, **guard().taken())


def _folder(
    output: Path,
    source: Path,
    limit: int | None,
    judge: Any,
    backend: CachedBackend,
    trials: tuple[str, ...],
) -> RunFolder:
    """The run folder. Bounds are no part of its configuration: other bounds ask nothing anew."""
    from rlaif.specs.shipped import shipped_dir
    from rlaif.store.runs import RunFolder
    from rlaif.types import as_dict

    config = {
        "command": "audit",
        "data_sha256": options.data_digest(source),
        "texts_sha256": options.data_digest(shipped_dir("audit") / "texts.yaml"),
        "limit": limit,
        "trials": list(trials),
        "judge": as_dict(judge.ref),
        "backend": backend.identity,
    }
    return RunFolder(output, config)


def _ask(run: RunFolder, judge: Any, session: Session, trials: list[Comparison]) -> dict[str, Any]:
    from rlaif.runner import write_verdicts

    with progress_bar("auditing", len(trials), quiet=session.asking.as_json) as bar:

        async def judged(stop: Stop) -> dict[str, Any]:
            async with options.opened(*session.backends):
                return await write_verdicts(
                    trials,
                    judge.compare,
                    run,
                    concurrency=session.width,
                    progress=bar.advance,
                    stop=stop,
                    also=session.account,
                )

        return note_interruption(run, run_draining(judged, drain=not session.asking.batch))


def _audit(run: RunFolder, thresholds: Thresholds, other: Path | None) -> Audit:
    from rlaif.evals.audit import audit_verdicts
    from rlaif.store.runs import read_verdicts

    second: list[Verdict] = list(read_verdicts(other)) if other else []
    return audit_verdicts(read_verdicts(run.path), thresholds, other=second)


def _write(run: RunFolder, result: Audit, data: str) -> Path:
    from rlaif.report.audit_card import audit_page
    from rlaif.report.page import write_page

    run.write_json("audit.json", result.as_dict())
    return write_page(audit_page(result, data), run.path / "audit.html")


def _tell(result: Audit, card: Path) -> None:
    columns = ("check", "effect [95 %]", "bound", "n", "coverage", "")
    table(f"audit of {result.judge.model}", columns, [_row(check) for check in result.checks])
    for name, why in result.skipped:
        say(f"not checked: {name}: {why}")
    failed = [check.name for check in result.checks if not check.passed]
    verdict = f"fails {', '.join(failed)}" if failed else "passes every check"
    say(f"{result.judge.model} {verdict}; wrote {card}")


def _row(check: Check) -> tuple[str, ...]:
    told = "passed" if check.passed else "FAILED"
    bound = f"{'≤' if check.threshold == check.bounds.most else '≥'} {check.threshold:.0%}"
    share = f"{check.coverage:.0%}"
    if check.effect is None or check.low is None or check.high is None:
        return check.name, "not measured", bound, "0", share, told
    effect = f"{check.effect:.1%} [{100 * check.low:.1f}, {100 * check.high:.1f}]"
    return check.name, effect, bound, str(check.n), share, told
