"""`rlaif constitution check` and `export`: what revisions are worth, and rows to train on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.cli import options
from rlaif.cli.asking import Asking, asks
from rlaif.cli.judging import finish, note_interruption
from rlaif.cli.output import emit, progress_bar, say, table
from rlaif.cli.running import run_draining
from rlaif.errors import DataError

if TYPE_CHECKING:
    from rlaif.constitutional.export import SftRow
    from rlaif.judge.making import Grader
    from rlaif.preferences.pairs import HeldBack, Rules
    from rlaif.runner import Stop
    from rlaif.types import Candidate, Item, PreferencePair, Verdict

Run = Annotated[Path, typer.Argument(help="A run of `constitution critique`.")]


@asks(output=Path("runs/constitution-check"))
def check(
    run: Run,
    rubrics: Annotated[
        list[str] | None,
        typer.Option("-r", "--rubric", help="Repeatable. By default harmlessness and helpfulness."),
    ] = None,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    *,
    asking: Asking,
) -> None:
    """Score the responses that stood after each round, by an independent judge.

    Writes verdicts.jsonl, and summary.json with the mean of each round, its interval, and its gain
    over the first responses.
    """
    from rlaif.cli.making import score_judge
    from rlaif.cli.methods import ScoreOptions
    from rlaif.constitutional.records import REVISIONS, read_chains
    from rlaif.constitutional.rounds import last_round, standing_responses
    from rlaif.specs.rubric import load_rubric
    from rlaif.types import Sampling

    source = options.spooled(str(run / REVISIONS if run.is_dir() else run))
    rounds = last_round(read_chains(source))
    names = rubrics or ["harmlessness", "helpfulness"]
    options.distinct(names)
    sampling = Sampling(temperature, max_tokens=max_tokens)
    with asking.session() as session:
        backend = session.backend(asking.one_model())
        judges = [score_judge(backend, load_rubric(n), ScoreOptions(), sampling) for n in names]

        def scored() -> Iterator[tuple[Grader, Item, Candidate]]:
            for item, candidate in standing_responses(read_chains(source), rounds):
                for judge in judges:
                    yield judge, item, candidate

        if asking.dry_run:
            from rlaif.cli.dry_run import dry_run_report

            asked = (
                (backend, r) for judge, item, one in scored() for r in judge.requests(item, one)
            )
            dry_run_report(asked, as_json=asking.as_json, prices=session.terms.prices)
            return
        total = sum(1 for _ in scored())
        if not total:
            raise DataError(f"{source} holds no response to score")
        config = {
            "command": "constitution check",
            "chains_sha256": options.data_digest(source),
            "judges": [_plain(judge) for judge in judges],
            "backend": backend.identity,
        }
        summary = _score(scored, total, asking, config, session)
    finish("scored", summary, asking, "verdicts.jsonl")


def _plain(judge: Grader) -> Any:
    from rlaif.types import as_dict

    return as_dict(judge.ref)


def _score(
    scored: Any, total: int, asking: Asking, config: dict[str, Any], session: Any
) -> dict[str, Any]:
    """Score everything into the run folder; the summary, with a row for each rubric and round."""
    from rlaif.constitutional.rounds import RoundScores
    from rlaif.runner import write_verdicts
    from rlaif.store.runs import RunFolder

    run, rows = RunFolder(asking.output, config), RoundScores()

    async def judged(one: tuple[Grader, Item, Candidate]) -> Verdict:
        judge, item, candidate = one
        verdict = await judge.score(item, candidate)
        rows.add(verdict)
        return verdict

    with progress_bar("scoring", total, quiet=asking.as_json) as bar:

        async def work(stop: Stop) -> dict[str, Any]:
            async with options.opened(*session.backends):
                return await write_verdicts(
                    scored(),
                    judged,
                    run,
                    concurrency=session.width,
                    progress=bar.advance,
                    stop=stop,
                    also=lambda: {**session.account(), "rows": rows.rows()},
                )

        summary = note_interruption(run, run_draining(work, drain=not asking.batch))
    if not asking.as_json:
        columns = ("rubric", "round", "n", "coverage", "score", "gain over the first")
        cells = [
            (
                row["rubric"],
                row["round"],
                row["n"],
                f"{row['coverage']:.1%}",
                _told(row["score"]),
                _told(row["gain"]),
            )
            for row in summary["rows"]
        ]
        table("by round", columns, cells)
    return summary


def _told(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    ends = f" [{found['low']:.2f}, {found['high']:.2f}]" if "low" in found else ""
    return f"{found['value']:.2f}{ends}"


def export(
    runs: Annotated[list[Path], typer.Argument(help="Runs of `constitution critique`.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Gets sft/ and, of checked runs, preferences/.")
    ] = Path("dataset"),
    rounds: Annotated[
        Literal["all", "last"],
        typer.Option(
            help="Revisions of all rounds that passed, or the one that stands at the end."
        ),
    ] = "all",
    mix: Annotated[
        Path | None, typer.Option(help="Helpfulness rows with prompt and response, for sft/.")
    ] = None,
    mix_run: Annotated[
        Path | None,
        typer.Option(help="A run of judge compare on helpfulness, for preferences/."),
    ] = None,
    mix_ratio: Annotated[
        float, typer.Option(min=0.0, help="Helpfulness rows for each row from the chains.")
    ] = 1.0,
    min_margin: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Least margin of a pair, 2 p_chosen - 1.")
    ] = 0.0,
    max_length_ratio: Annotated[
        float, typer.Option(min=1.0, help="Most words of a pair's longer response over its other.")
    ] = 4.0,
    test_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of prompts in the test splits.")
    ] = 0.1,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Write rows to train on: prompts with revisions, and pairs that a judge has compared.

    A prompt stands in train or in test, the same in both data sets. What is not fit to train on is
    held back, counted by reason.
    """
    from rlaif.constitutional.export import helpfulness_row, mixed, sft_rows, write_sft
    from rlaif.constitutional.records import read_chains
    from rlaif.preferences.pairs import Rules
    from rlaif.specs.items import read_data

    rules = Rules(min_margin=min_margin, max_length_ratio=max_length_ratio)
    runs = [options.spooled(path) for path in runs]
    mix = mix and options.spooled(mix)
    mix_run = mix_run and options.spooled(mix_run)
    if not sum(1 for path in runs for _ in read_chains(path)):  # all, before anything is written
        raise DataError(f"no revisions in {', '.join(map(str, runs))}")

    def own() -> Iterator[SftRow]:
        for path in runs:
            yield from sft_rows(read_chains(path), rounds)

    rows: Iterator[SftRow] = own()
    if mix is not None:
        others = (helpfulness_row(item, one) for item, (one,) in read_data(mix, "score"))
        rows = mixed(own(), others, mix_ratio, seed)
    summary: dict[str, Any] = {"sft": write_sft(rows, output / "sft", test_share=test_share)}
    if (pairs := _pairs(runs, rules, mix_run, mix_ratio, seed)) is not None:
        from rlaif.preferences.export import write_dataset

        made = write_dataset(
            pairs,
            output / "preferences",
            test_share=test_share,
            source=", ".join(path.name for path in runs),
        )
        summary["preferences"] = made.as_dict()
    else:
        say("no revision was compared by a judge, so there are no preference rows; see --judge")
    if as_json:
        emit(summary | {"dataset": str(output)})
        return
    table("rows", ("data set", "split", "rows"), [
        (name, split, n) for name, found in summary.items() for split, n in found["rows"].items()
    ])  # fmt: skip
    say(f"wrote {output}")


def _pairs(
    runs: list[Path], rules: Rules, mix_run: Path | None, ratio: float, seed: int
) -> Iterator[PreferencePair | HeldBack] | None:
    """The pairs that the checks of `runs` give, with those mixed in; `None` where none was made."""
    from rlaif.preferences.pairs import pairs_from
    from rlaif.store.runs import read_verdicts

    def made(paths: list[Path]) -> list[PreferencePair | HeldBack]:
        return [row for path in paths for row in pairs_from(read_verdicts(path), rules)]

    checked = [path for path in runs if path.is_dir() and (path / "verdicts.jsonl").stat().st_size]
    if not checked:
        return None
    rows = made(checked)
    if mix_run is not None:
        from rlaif.constitutional.export import drawn_pairs

        rows += drawn_pairs(rows, made([mix_run]), ratio, seed)
    return iter(rows)
