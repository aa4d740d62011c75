"""`rlaif eval judge-bench`: how often a judge is right about pairs that people labeled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.methods import PairOptions
from rlaif.cli.output import emit, say
from rlaif.cli.protocols import ProtocolRun
from rlaif.cli.taking import takes

if TYPE_CHECKING:
    from rlaif.types import Comparison


@asks(output=Path("runs/judge-bench"))
@takes("how", PairOptions)
def judge_bench(
    files: Annotated[list[Path], typer.Argument(help="The set's files, gzip or not.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="llmbar, judgebench, rewardbench, rewardbench2, rm-bench, pandalm, auto-j, "
            "hh-rlhf, or pairs: prompt, response_a, response_b and label (A, B or tie).",
        ),
    ],
    rubric: Annotated[
        str | None,
        typer.Option("-r", "--rubric", help="A shipped rubric, or a file. By default helpfulness."),
    ] = None,
    seed: options.Seed = 0,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    *,
    how: PairOptions,
    asking: Asking,
) -> None:
    """Put a judge to labeled pairs, and say how often it is right. Writes verdicts.jsonl.

    Prints what rlaif agreement RUN --with labels prints; RewardBench 1 and 2 and RM-Bench are
    summed up as their authors do. Rows that cannot be judged (the two sides of an hh-rlhf row
    differ before the last response) are counted and listed in left_out.json.
    """
    from rlaif.cli.agreement import print_labels
    from rlaif.cli.judge import make_comparison_judge
    from rlaif.errors import SpecError
    from rlaif.evals.judge_bench import LeftOut, check_format, left_out_summary, read_set
    from rlaif.evals.judge_bench_rules import label_result
    from rlaif.judge.seating import asked_of
    from rlaif.store.runs import read_verdicts
    from rlaif.types import Sampling

    name = check_format(form)
    left: list[LeftOut] = []
    files = [options.spooled(file) for file in files]
    work: list[Comparison] = list(read_set(name, files, left.append, limit=asking.limit))
    if left:
        first = f"{left[0].path}:{left[0].line}: {left[0].reason}"
        say(f"{len(left)} left out, listed in left_out.json; the first is {first}")
    if not work:
        raise SpecError("holds nothing to judge: every row is left out", path=files[0])
    with asking.session() as session:
        run = ProtocolRun("eval judge-bench", asking, session)
        backend = session.backend(asking.one_model())
        writers = [session.backend(how.questions_by)] if how.questions_by else []
        judge = make_comparison_judge(
            backend,
            rubric,
            Sampling(temperature, max_tokens=max_tokens),
            how,
            seed=seed,
            compared=lambda: work,
            writer=writers[0] if writers else None,
        )
        if asking.dry_run:
            run.plan(asked for pair in work for asked in asked_of(judge, backend, pair))
            return
        inputs: dict[str, Path | None] = {f"{n} {f.name}": f for n, f in enumerate(files)}
        more = {"questions_by": writers[0].identity} if writers else {}
        folder = run.folder(backend, judge.ref, inputs, limit=asking.limit, format=name, **more)
        folder.write_json("left_out.json", left_out_summary(left))
        summary = run.judge(backend, folder, work, judge.compare, writers)
    found = label_result(name, lambda: read_verdicts(asking.output))
    if asking.as_json:
        emit(found)
    else:
        print_labels(found)
    run.check(summary)
