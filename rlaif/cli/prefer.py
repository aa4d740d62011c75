"""`rlaif prefer`: verdicts to a linted preference data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, progress_bar, say, table
from rlaif.errors import DataError, SpecError

if TYPE_CHECKING:
    from rlaif.preferences.pairs import HeldBack, Rules, Select
    from rlaif.types import PreferencePair, Verdict

app = typer.Typer(add_completion=False)


@app.command()
def prefer(
    run: Annotated[
        list[Path], typer.Argument(help="Runs of judge compare, rank or score, or verdicts.jsonl.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The data set's folder.")] = Path(
        "dataset"
    ),
    select: Annotated[
        str, typer.Option(help="all comparisons, or best-worst: the ends of each prompt's ranking.")
    ] = "all",
    ranked_pairs: Annotated[
        Literal["all", "adjacent"],
        typer.Option(help="Of a ranking: all pairs of its responses, or only neighbors."),
    ] = "all",
    settled: Annotated[
        bool,
        typer.Option(
            "--settled", help="Hold back pairs of a ranking whose strengths' intervals overlap."
        ),
    ] = False,
    min_margin: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Least margin, 2 p_chosen - 1.")
    ] = 0.0,
    inconsistent: Annotated[
        bool, typer.Option("--inconsistent", help="Keep verdicts whose two orders disagree.")
    ] = False,
    max_length_ratio: Annotated[
        float, typer.Option(min=1.0, help="Most words of the longer response over the shorter.")
    ] = 4.0,
    decontaminate: Annotated[
        list[Path] | None,
        typer.Option(help="A file of prompts that must not be trained on. Repeatable."),
    ] = None,
    test_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of prompts in the test split.")
    ] = 0.1,
    as_json: options.AsJson = False,
) -> None:
    """Turn verdicts into chosen/rejected rows that `datasets` and TRL open as they are.

    Of scores every two responses to one prompt make a comparison. What is not fit to train on is
    held back, counted by reason and kept in held_back.jsonl.
    """
    from typing import get_args

    from rlaif.errors import ConfigError
    from rlaif.preferences.export import write_dataset
    from rlaif.preferences.pairs import Rules, Select, pairs_from

    if select not in get_args(Select):
        raise ConfigError(f"--select is one of {', '.join(get_args(Select))}, not '{select}'")
    runs, benchmarks = (
        [options.spooled(path) for path in paths] for paths in (run, decontaminate or [])
    )
    rules = Rules(
        select=_select(select),
        ranked_pairs=ranked_pairs,
        settled=settled,
        min_margin=min_margin,
        inconsistent=inconsistent,
        max_length_ratio=max_length_ratio,
        benchmark_prompts=_benchmark(benchmarks),
    )
    total = sum(_count(path, rules) for path in runs)
    if not total:
        raise DataError(f"no comparisons in {', '.join(map(str, runs))}")
    with progress_bar("sorting", total, quiet=as_json) as bar:

        def rows() -> Iterator[PreferencePair | HeldBack]:
            for path in runs:
                for row in pairs_from(_comparisons(path), rules):
                    bar.advance()
                    yield row

        summary = write_dataset(
            rows(), output, test_share=test_share, source=", ".join(p.name for p in run)
        ).as_dict()
    if as_json:
        emit(summary | {"dataset": str(output)})
        return
    kept = [(split, n) for split, n in summary["rows"].items()]
    table("rows", ("split", "rows"), kept)
    if summary["held_back"]:
        table("held back", ("reason", "comparisons"), summary["held_back"].items())
    if not 0.4 <= summary["longer_chosen_share"] <= 0.6:
        say(
            f"note: the chosen response is the longer one in {summary['longer_chosen_share']:.0%} "
            "of the rows; a model trained on them will learn length"
        )
    say(f"wrote {output}: datasets.load_from_disk({str(output)!r})")


def _count(path: Path, rules: Rules) -> int:
    """How many comparisons a run holds; read before anything is written.

    Raises:
        SpecError: a line is not a verdict, or scores and others are mixed.
    """
    from rlaif.preferences.pairs import compared

    try:
        return sum(1 for verdict in _comparisons(path) for _ in compared(verdict, rules))
    except SpecError as error:
        where = error.path or path
        raise SpecError(error.message, path=where, line=error.line, field=error.field) from None


def _comparisons(path: Path) -> Iterator[Verdict]:
    """The comparisons and rankings of a run; of scores those that they come to."""
    from itertools import chain

    from rlaif.preferences.scores import compared_by_score
    from rlaif.store.runs import read_verdicts

    verdicts = read_verdicts(path)
    first = next(verdicts, None)
    if first is None:
        return iter(())
    every = chain([first], verdicts)
    return compared_by_score(every) if first.kind == "score" else every


def _select(name: str) -> Select:
    return "best-worst" if name == "best-worst" else "all"


def _benchmark(paths: list[Path]) -> frozenset[str]:
    from rlaif.preferences.pairs import prompt_key
    from rlaif.specs.items import read_prompts

    return frozenset(prompt_key(item.prompt) for path in paths for item in read_prompts(path))
