"""`rlaif agreement`: a judge against people, another judge, or the labels inside the items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rlaif.cli import options
from rlaif.cli.human_labels import (
    Calibrate,
    labeled_run,
    print_calibration,
    print_selection,
    write_escalated,
)
from rlaif.cli.leaderboard import (
    By,
    JudgeName,
    Level,
    causes_cell,
    fail_over,
    interval_cell,
    need_strata,
    write_whole,
)
from rlaif.cli.output import emit, progress_bar, say, table

app = typer.Typer(add_completion=False)


@app.command()
def agreement(
    run: Annotated[Path, typer.Argument(help="The judge's run folder, or its verdicts.jsonl.")],
    against: Annotated[
        str,
        typer.Option(
            "--with",
            help="A run of votes or of another judge; the same run holds its voters against one "
            "another; labels: the labels inside the items.",
        ),
    ],
    voters: Annotated[
        str | None, typer.Option(help="Keep annotators whose name begins so, such as expert.")
    ] = None,
    judge: JudgeName = None,
    by: By = None,
    majority: Annotated[
        bool, typer.Option("--majority", help="Against the most frequent vote of each comparison.")
    ] = False,
    consistent: Annotated[
        bool, typer.Option("--consistent", help="Without verdicts whose two orders disagree.")
    ] = False,
    calibrate: Annotated[
        Calibrate | None,
        typer.Option(help="Test the judge's probabilities, and a map that makes them better."),
    ] = None,
    select_agreement: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=0.999,
            help="Find the confidence above which the judge agrees with people so often; with -o, "
            "write the others to escalate.jsonl.",
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.51, max=0.999, help="Chance that --select-agreement holds.")
    ] = 0.95,
    level: Level = 0.95,
    rounds: Annotated[int, typer.Option(min=1, help="Resamples behind kappa's interval.")] = 2000,
    seed: options.Seed = 0,
    max_failures: options.MaxFailures = 0.05,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder, or a .json file, to write to.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Say how often a judge agrees with others, beyond chance too, with intervals by prompt.

    S1 counts a tie as a third verdict, S2 leaves out what either side calls a tie. Scores are held
    against ratings: the share within half a level, kappa and correlations.
    """
    run = options.spooled(run)
    against = against if against == "labels" else str(options.spooled(against))
    if against != "labels" and _holds_scores(run):
        _refuse(
            "goes with comparisons, not with scores",
            by=by, majority=majority, consistent=consistent, calibrate=calibrate,
            **{"select-agreement": select_agreement},
        )  # fmt: skip
        settings_of = {"level": level, "rounds": rounds, "seed": seed}
        made = _with_ratings(run, against, judge, voters, settings_of, quiet=as_json)
        _tell_ratings(made, output, as_json=as_json)
        fail_over(max_failures, [("the judge", made["scores"]["coverage"])])
        return
    if against == "labels":
        _refuse(
            "goes with votes, not with --with labels",
            voters=voters, by=by, majority=majority, consistent=consistent,
        )  # fmt: skip
        made = _with_labels(run, judge, level, quiet=as_json)
        coverages = [("the judge", made["subsets"]["all"]["coverage"])]
    else:
        from rlaif.evals.agreement import Settings

        settings = Settings(
            majority=majority, consistent_only=consistent, level=level, rounds=rounds, seed=seed
        )
        made = _with_votes(run, Path(against), judge, voters, by, settings, quiet=as_json)
        need_strata(by or (), [[name for name, values in made["by"].items() if values]])
        coverages = [(side, made[side]["coverage"]) for side in ("verdicts", "votes")]
    written = None
    if calibrate is not None or select_agreement is not None:
        from rlaif.evals.human_checks import calibration, selection
        from rlaif.evals.reading import chosen_judges

        labeled, places = labeled_run([run], against, quiet=as_json)
        judges = chosen_judges(places, judge)
        pairs = labeled.pairs(judges, voters)
        if calibrate is not None:
            made["calibration"] = calibration(pairs, calibrate, seed=seed)
        if select_agreement is not None:
            found = selection(
                labeled, pairs, agreement=select_agreement, confidence=confidence, judges=judges
            )
            made["selection"] = found
            if output is not None:
                folder = output.parent if output.suffix == ".json" else output
                written = write_escalated(run, judges, found["threshold"], folder)
                found["escalate"] = str(written)
    if output is not None:
        say(f"wrote {write_whole(made, output, 'agreement.json')}")
    if as_json:
        emit(made)
    else:
        print_labels(made) if against == "labels" else _print_votes(made)
        if calibrate is not None:
            print_calibration(made["calibration"])
        if select_agreement is not None:
            print_selection(made["selection"], written)
    fail_over(max_failures, coverages)


def _refuse(why: str, **given: Any) -> None:
    """Raise `ConfigError` for an option that there is nothing to do for."""
    from rlaif.errors import ConfigError

    stray = [f"--{name}" for name, value in given.items() if value]
    if stray:
        raise ConfigError(f"{', '.join(stray)} {why}")


def _holds_scores(run: Path) -> bool:
    from rlaif.evals.reading import numbered_verdicts

    return next((one.kind == "score" for _, one in numbered_verdicts(run)), False)


def _with_ratings(
    run: Path,
    against: str,
    judge: str | None,
    voters: str | None,
    settings: Mapping[str, Any],
    *,
    quiet: bool,
) -> dict[str, Any]:
    from rlaif.evals.reading import chosen_judges
    from rlaif.evals.score_agreement import score_agreement

    labeled, places = labeled_run([run], against, quiet=quiet)
    judges = chosen_judges(places, judge)
    found = score_agreement(labeled, judges=judges, voters=voters, **settings)
    return {
        "against": against if voters is None else f"{against}: {voters}*",
        "judge": _called(judges, judge),
        "kind": "score",
        "level": settings["level"],
        "scores": found,
    }


def _tell_ratings(made: Mapping[str, Any], output: Path | None, *, as_json: bool) -> None:
    if output is not None:
        say(f"wrote {write_whole(made, output, 'agreement.json')}")
    emit(made) if as_json else _print_ratings(made)


def _print_ratings(made: Mapping[str, Any]) -> None:
    found, percent = made["scores"], f"{made['level']:.0%}"
    rows: list[list[object]] = [
        ["within half a level", found["agreement"], interval_cell(found)],
        ["kappa, quadratic", found["kappa"], interval_cell(found, "kappa_low", "kappa_high")],
        ["Spearman", found["spearman"], ""],
        ["Kendall", found["kendall"], ""],
        ["Pearson", found["pearson"], ""],
        [
            "judge minus rating",
            found["difference"],
            interval_cell(found, "difference_low", "difference_high"),
        ],
        ["absolute difference", found["absolute_difference"], ""],
        ["alpha among people", found["alpha"], interval_cell(found, "alpha_low", "alpha_high")],
    ]
    low, high = found["scale"]
    note = (
        f"{found['n']} ratings of {found['prompts']} prompts on {low:g} to {high:g}, "
        f"{found['coverage']:.1%} of them with a score; {percent} intervals, clustered by prompt."
    )
    table(f"{made['judge']} with {made['against']}", ["figure", "value", percent], rows, note=note)


def _with_labels(run: Path, judge: str | None, level: float, *, quiet: bool) -> dict[str, Any]:
    from rlaif.evals.labels import LabelTable
    from rlaif.evals.reading import chosen_judges, read_runs

    labels = LabelTable()
    with progress_bar("reading", None, quiet=quiet) as bar:
        places = read_runs([run], labels.add, told=bar.advance)
    return labels.result(judge, judges=chosen_judges(places, judge), level=level)


def _with_votes(
    run: Path,
    other: Path,
    judge: str | None,
    voters: str | None,
    by: list[str] | None,
    settings: Any,
    *,
    quiet: bool,
) -> dict[str, Any]:
    from rlaif.evals.agreement import agreement_table
    from rlaif.evals.reading import chosen_judges, read_runs
    from rlaif.evals.vote_table import DEFAULT_STRATA, SharedNames, VoteTable

    shared = SharedNames(tuple(by or DEFAULT_STRATA))
    ours = VoteTable(shared)
    same = other.resolve() == run.resolve()
    theirs = ours if same else VoteTable(shared)
    with progress_bar("reading", None, quiet=quiet) as bar:
        places = read_runs([run], ours.add, told=bar.advance)
        if not same:
            read_runs([other], theirs.add, told=bar.advance)
    people = theirs.judges_called(None if voters is None else f"{voters}*")
    judges = people if judge is None and same else chosen_judges(places, judge)
    made = agreement_table(ours, theirs, judges=judges, voters=people, settings=settings)
    return {"against": _called(people, voters), "judge": _called(judges, judge), **made}


def _called(names: Sequence[str], wanted: str | None) -> str:
    """One name for some judges: its own, or how many they are and what they were called by."""
    if len(names) == 1:
        return names[0]
    return f"{len(names)} judges" + (f": {wanted.rstrip('*')}*" if wanted else "")


def _print_votes(made: Mapping[str, Any]) -> None:
    percent = f"{made['level']:.0%}"
    rows = [_vote_row("all", name, setup) for name, setup in made["setups"].items()]
    for stratum, values in made["by"].items():
        for value, setups in values.items():
            rows += [_vote_row(f"{stratum} {value}", name, s) for name, s in setups.items()]
    columns = [
        "comparisons",
        "setup",
        "n",
        "agreement",
        f"{percent} interval",
        "kappa",
        f"{percent} of kappa",
        "coverage",
        "without verdict",
    ]
    ceiling = made["ceiling"]["S1"]
    note = f"{percent} intervals, clustered by prompt. S1: a tie is a third verdict; S2: none."
    if ceiling is not None:
        note += f" The most frequent votes would agree with {ceiling:.3f} of them (S1)."
    alpha = made["raters"]["krippendorff_alpha"]
    if "value" in alpha:
        note += (
            f" Among the voters Krippendorff's alpha is {alpha['value']:.3f} "
            f"({interval_cell(alpha)})."
        )
    table(f"{made['judge']} with {made['against']}", columns, rows, note=note)


def _vote_row(what: str, name: str, setup: Mapping[str, Any]) -> list[object]:
    return [
        what,
        name,
        setup["n"],
        setup["agreement"],
        interval_cell(setup),
        setup["kappa"],
        interval_cell(setup, "kappa_low", "kappa_high"),
        f"{setup['coverage']:.1%}",
        causes_cell(setup["causes"]),
    ]


def print_labels(made: Mapping[str, Any]) -> None:
    """Print accuracies against the labels inside items, of `LabelTable.result`."""
    percent = f"{made['level']:.0%}"
    rows = [
        [
            name,
            row["n"],
            row["accuracy"],
            interval_cell(row),
            row["accuracy_own_rule"],
            row["kappa"],
            f"{row['coverage']:.1%}",
            causes_cell(row["causes"]),
        ]
        for name, row in made["subsets"].items()
    ]
    columns = [
        "subset",
        "n",
        "accuracy",
        f"{percent} interval",
        "own rule",
        "kappa",
        "coverage",
        "without verdict",
    ]
    note = (
        f"{percent} intervals, clustered by prompt. accuracy: mean over both orders, a tie half; "
        f"own rule: as the set's authors count ({made['rule']})."
    )
    table(f"{made['judge']} with labels", columns, rows, note=note)
    orders = ("accuracy_ab", "accuracy_ba", "position_agreement", "first_share")
    table(
        "by order shown",
        ["subset", "as given", "swapped", "orders agree", "for the first", "combined", "interval"],
        [
            [
                name,
                *(row[key] for key in (*orders, "accuracy_combined")),
                interval_cell(row, "low_combined", "high_combined"),
            ]
            for name, row in made["subsets"].items()
        ],
        note="combined: accuracy of the verdict over both orders, by their mean probability.",
    )
