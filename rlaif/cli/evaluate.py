"""`rlaif eval`: run a benchmark's protocol with any judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.judge_bench import judge_bench
from rlaif.cli.output import table
from rlaif.cli.protocols import Mode, MtBenchRun, ProtocolRun

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Run a benchmark's protocol: MT-Bench, AlpacaEval, Arena-Hard, or labeled pairs.",
)

app.command("judge-bench")(judge_bench)


@app.command("mt-bench")
@asks(output=Path("runs/mt-bench"))
def mt_bench(
    questions: Annotated[
        str, typer.Option("--questions", help="question.jsonl: MT-Bench's, or your own like it.")
    ],
    answers: Annotated[
        Path | None,
        typer.Option("--answers", help="A folder of answers, one MODEL.jsonl each."),
    ] = None,
    models_to_judge: Annotated[
        list[str] | None,
        typer.Option(
            "--models-to-judge",
            help="A model in --answers, or an address whose answers are drawn now. Repeatable. "
            "By default every model in --answers.",
        ),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="single: grade each turn 1 to 10. pairwise-baseline: each model against "
            "--baseline. pairwise-all: every two models. Pairs are asked in both orders."
        ),
    ] = "single",
    baseline: Annotated[
        str, typer.Option(help="The other side of pairwise-baseline.")
    ] = "gpt-3.5-turbo",
    references: Annotated[
        str | None,
        typer.Option(
            "--references",
            help="Reference answers for math, reasoning and coding: a file, a folder with one for "
            "the judge, or none to judge without. By default those in --questions.",
        ),
    ] = None,
    judge_prompts: Annotated[
        Path | None,
        typer.Option("--judge-prompts", help="FastChat's judge_prompts.jsonl, instead of -r."),
    ] = None,
    rubric: options.Rubric = "chat-quality",
    fastchat: Annotated[
        Path | None,
        typer.Option("--fastchat", help="Also write model_answer/ and model_judgment/ here."),
    ] = None,
    max_tokens: options.MaxTokens = 2048,
    max_answer_tokens: Annotated[
        int, typer.Option(min=1, help="Most tokens of an answer that is drawn.")
    ] = 1024,
    seed: options.Seed = 0,
    answers_base_url: Annotated[
        str | None,
        typer.Option(
            "--answers-base-url",
            help="The same for the models to judge. By default --base-url.",
        ),
    ] = None,
    *,
    asking: Asking,
) -> None:
    """Judge two-turn answers as MT-Bench does. Writes verdicts.jsonl.

    Answers are drawn at the temperature of their category (writing and roleplay 0.7, stem and
    humanities 0.1, extraction, math, coding and reasoning 0, any other 0.7) unless the question has
    a required_temperature. The second turn is judged with the whole conversation in view.
    """
    from rlaif.types import Sampling

    source = options.spooled(questions)
    judge_address = asking.one_model()
    sampling = Sampling(max_tokens=max_tokens)
    with asking.session() as session:
        plan = MtBenchRun(
            run=ProtocolRun("eval mt-bench", asking, session),
            mode=mode,
            baseline=baseline,
            rubric=rubric,
            judge_prompts=judge_prompts,
            answer_sampling=Sampling(max_tokens=max_answer_tokens, seed=seed),
            fastchat=fastchat,
        )
        loaded = plan.load(
            source, answers, models_to_judge or [], references, judge_address, asking.limit
        )
        backend = session.backend(judge_address)
        to_ask = [session.backend(address, answers_base_url) for address in loaded.addresses]
        plan.carry_out(
            loaded,
            backend,
            sampling,
            to_ask,
            {"questions": source, "answers": answers, "judge_prompts": judge_prompts},
            limit=asking.limit,
        )


@app.command("alpaca-eval")
@asks(output=Path("runs/alpaca-eval"))
def alpaca_eval(
    outputs: Annotated[
        list[Path],
        typer.Option("--outputs", help="A model's outputs, JSON or JSONL. Repeatable."),
    ],
    baseline: Annotated[Path, typer.Option("--baseline", help="The baseline's outputs.")],
    instructions: Annotated[
        Path | None,
        typer.Option(
            "--instructions", help="The instructions. By default those in the baseline's file."
        ),
    ] = None,
    judge_prompt: Annotated[
        Path | None,
        typer.Option("--judge-prompt", help="A prompt file with <|im_start|> turns."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="What --judge-prompt calls the first and the second output, as FIRST,SECOND. "
            "By default found in it."
        ),
    ] = None,
    legacy_order: Annotated[
        bool,
        typer.Option(
            "--legacy-order", help="Ask one order, drawn by the prompt's text, instead of both."
        ),
    ] = False,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1,
    *,
    asking: Asking,
) -> None:
    """Compare outputs with a baseline's by the probability of one token. Writes verdicts.jsonl.

    Where the judge gives log-probabilities a verdict is P(model preferred); elsewhere it is the
    name that the judge says. rlaif leaderboard then gives win rates, plain and length-controlled.
    """
    from rlaif.evals.alpaca_eval import (
        OWN_PROMPT,
        SoftJudge,
        comparisons,
        load_instructions,
        load_outputs,
        load_soft_prompt,
    )
    from rlaif.types import Sampling

    every = load_instructions(instructions or baseline)
    selected = every[: asking.limit]
    models = [load_outputs(path, every, needed=selected) for path in outputs]
    _refuse_repeats([m.model for m in models], [m.path for m in models])
    other = load_outputs(baseline, every, needed=selected)
    work = list(comparisons(selected, models, other))
    prompt = load_soft_prompt(judge_prompt, _pair_of(labels)) if judge_prompt else OWN_PROMPT
    with asking.session() as session:
        run = ProtocolRun("eval alpaca-eval", asking, session)
        backend = session.backend(asking.one_model())
        judge = SoftJudge(
            backend,
            prompt,
            sampling=Sampling(temperature, max_tokens=max_tokens),
            legacy=legacy_order,
        )
        if asking.dry_run:
            run.plan((backend, r) for pair in work for r in judge.requests(pair))
            return
        inputs = {"instructions": instructions, "baseline": baseline, "judge_prompt": judge_prompt}
        inputs |= {f"outputs {m.model}": m.path for m in models}
        folder = run.folder(backend, judge.ref, inputs, limit=asking.limit)
        summary = run.judge(backend, folder, work, judge.compare)
    run.report(summary)
    run.check(summary)


def _refuse_repeats(names: Sequence[str], paths: Sequence[Path]) -> None:
    from rlaif.errors import SpecError

    for place, name in enumerate(names):
        if name in names[:place]:
            first = paths[names.index(name)]
            message = f"holds outputs of {name!r}, as {first} does"
            raise SpecError(message, path=paths[place], field="generator")


def _pair_of(labels: str | None) -> tuple[str, str] | None:
    from rlaif.errors import ConfigError

    if labels is None:
        return None
    first, comma, second = (part.strip() for part in labels.partition(","))
    if not comma or not first or not second or first == second:
        raise ConfigError(f"--labels is FIRST,SECOND, two different names, not '{labels}'")
    return first, second


@app.command("arena-hard")
@asks(output=Path("runs/arena-hard"))
def arena_hard(
    questions: Annotated[str, typer.Option("--questions", help="question.jsonl of any version.")],
    answers: Annotated[
        Path, typer.Option("--answers", help="A folder of answers, one MODEL.jsonl each.")
    ],
    baseline: Annotated[
        list[str],
        typer.Option(
            "--baseline", help="The other side: MODEL, or CATEGORY=MODEL for one. Repeatable."
        ),
    ],
    models_to_judge: Annotated[
        list[str] | None,
        typer.Option(
            "--models-to-judge",
            help="A model in --answers. Repeatable. By default all but the baselines.",
        ),
    ] = None,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 4096,
    *,
    asking: Asking,
) -> None:
    """Compare answers with a baseline's in two games with five labels. Writes verdicts.jsonl.

    The judge writes its own response first. The baseline is response A in the first game and B in
    the second.
    """
    from rlaif.evals.arena_hard import (
        FiveLabelJudge,
        comparisons,
        label_counts,
        load_answers,
        load_questions,
        parse_baselines,
    )
    from rlaif.evals.fields import named_files
    from rlaif.store.runs import read_verdicts
    from rlaif.types import Sampling

    source = options.spooled(questions)
    every = load_questions(source)
    selected = every[: asking.limit]
    baselines = parse_baselines(baseline, every)
    files = named_files(answers)
    wanted = _wanted_files(files, models_to_judge or [], baselines.names)
    found = {
        name: load_answers(files[name], every, needed=selected)
        for name in dict.fromkeys([*wanted, *(n for n in baselines.names if n in files)])
    }
    work = [pair for pair in comparisons(selected, found, baselines) if pair.a.model in wanted]
    with asking.session() as session:
        run = ProtocolRun("eval arena-hard", asking, session)
        backend = session.backend(asking.one_model())
        judge = FiveLabelJudge(backend, sampling=Sampling(temperature, max_tokens=max_tokens))
        if asking.dry_run:
            run.plan((backend, r) for pair in work for r in judge.requests(pair))
            return
        folder = run.folder(
            backend,
            judge.ref,
            {"questions": source, "answers": answers},
            limit=asking.limit,
            models=list(wanted),
            baseline=sorted(baseline),
        )
        summary = run.judge(backend, folder, work, judge.compare)
    counts = label_counts(read_verdicts(asking.output))
    summary |= {"labels": counts}
    folder.write_json("summary.json", summary)
    run.report(summary)
    if not asking.as_json:
        table("labels, for the model", tuple(counts), [tuple(counts.values())])
    run.check(summary)


def _wanted_files(
    files: Mapping[str, Path], names: list[str], baselines: Sequence[str]
) -> list[str]:
    """The models to judge.

    Raises:
        ConfigError: one has no answers, or there is none.
    """
    from rlaif.errors import ConfigError, suggestion

    options.distinct(names)
    for name in names:
        if name not in files:
            raise ConfigError(f"there are no answers of {name!r}: {suggestion(name, files)}")
    if found := names or [name for name in files if name not in baselines]:
        return found
    raise ConfigError("nothing to judge: --answers holds only the baselines")
