"""`rlaif leaderboard`: verdicts to scores, win rates and strengths, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.cli import options
from rlaif.cli.human_labels import labeled_run, print_corrected
from rlaif.cli.output import emit, progress_bar, say, table

if TYPE_CHECKING:
    from rlaif.evals.leaderboard import LeaderboardTable

app = typer.Typer(add_completion=False)

Ties = Literal["half", "davidson", "rao-kupper"]
LengthMode = Literal["weights", "refit", "ratio"]
Level = Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence of the intervals.")]
JudgeName = Annotated[
    str | None,
    typer.Option("--judge", help="Keep one judge's verdicts; 'expert*' pools all that begin so."),
]
By = Annotated[
    list[str] | None,
    typer.Option(
        "--by", help="Divide by a field of the items' meta. Repeatable. By default turn, category."
    ),
]


_ENDS = {
    "score": ("low", "high"),
    "win_rate": ("low", "high"),
    "lc_win_rate": ("lc_low", "lc_high"),
    "strength": ("strength_low", "strength_high"),
    "style_strength": ("style_strength_low", "style_strength_high"),
}
"""The ends of the interval of each figure that has one."""


@app.command()
def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or verdicts.jsonl files.")],
    baseline: Annotated[
        str | None, typer.Option(help="Win rates against this model. By default all opponents.")
    ] = None,
    bradley_terry: Annotated[
        bool,
        typer.Option("--bradley-terry", help="Order by strength; an error where it has no value."),
    ] = False,
    ties: Annotated[Ties, typer.Option(help="How a tie enters strengths.")] = "half",
    elo: Annotated[
        bool, typer.Option("--elo", help="Add strengths as ratings: 400 / ln 10 a nat, mean 1000.")
    ] = False,
    length_controlled: Annotated[
        LengthMode | None,
        typer.Option(
            help="Win rates at equal length. weights: as published. refit: fitted here, with "
            "difficulties or, without --difficulty, with an effect of each prompt. ratio: read at "
            "length ratio 1."
        ),
    ] = None,
    difficulty: Annotated[
        Path | None, typer.Option(help="CSV: index,instruction_difficulty.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="CSV of AlpacaEval's GLM weights.")] = None,
    style_controlled: Annotated[
        bool,
        typer.Option("--style-controlled", help="Strengths without length, headers, lists, bold."),
    ] = False,
    by: By = None,
    judge: JudgeName = None,
    reference: Annotated[
        Path | None, typer.Option(help="A run whose leaderboard this one is held against.")
    ] = None,
    reference_judge: Annotated[
        str | None, typer.Option(help="The judge of the reference, as --judge.")
    ] = None,
    correct: Annotated[
        str | None,
        typer.Option(
            help="Add figures corrected by people: a run of their votes or scores on some of the "
            "items, or labels: those inside the items."
        ),
    ] = None,
    voters: Annotated[
        str | None, typer.Option(help="Of --correct, keep annotators whose name begins so.")
    ] = None,
    level: Level = 0.95,
    rounds: Annotated[
        int, typer.Option(min=2, help="Resamples behind bootstrapped errors.")
    ] = 1000,
    seed: options.Seed = 0,
    max_failures: options.MaxFailures = 0.05,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder, or a .json file, to write to.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Rank models by the verdicts of runs. Intervals are clustered by prompt.

    A judgment without a verdict is neither a loss nor a tie: it lowers the coverage, and above
    --max-failures the exit code is 1.
    """
    from rlaif.evals.leaderboard import STRATA, Settings, compared
    from rlaif.evals.length_tables import load_length_control
    from rlaif.evals.reading import chosen_judges

    _refuse_stray(length_controlled, difficulty, weights, correct, voters)
    control = (
        load_length_control(length_controlled, difficulty, weights) if length_controlled else None
    )
    settings = Settings(
        baseline=baseline,
        by_strength=bradley_terry,
        ties=ties,
        elo=elo,
        length_control=control,
        level=level,
        rounds=rounds,
        seed=seed,
    )
    runs = [options.spooled(run) for run in runs]
    strata = tuple(by or STRATA)
    filled, places = _filled(
        runs, strata, lengths=control is not None, style=style_controlled, quiet=as_json
    )
    judges = chosen_judges(places, judge)
    made = filled.result(settings, judges=judges, judge=judge)
    need_strata(by or (), [row.get("by_interval", {}) for row in made["rows"]])
    if correct is not None:
        _add_corrected(made, runs, correct, voters, judges, quiet=as_json)
    if reference is not None:
        other, known = _filled([reference], (), quiet=as_json)
        theirs = other.result(
            Settings(baseline=baseline, level=level),
            judges=chosen_judges(known, reference_judge),
            judge=reference_judge,
        )
        made["reference"] = compared(made, theirs)
    if output is not None:
        say(f"wrote {write_whole(made, output, 'leaderboard.json')}")
    if as_json:
        emit(made)
    else:
        plain = baseline is None and length_controlled is None
        _print(made, strata, strengths=plain or bradley_terry or elo or ties != "half")
    fail_over(max_failures, [("all models", made["verdicts"]["coverage"]), *_coverages(made)])


def _refuse_stray(
    mode: str | None,
    difficulty: Path | None,
    weights: Path | None,
    correct: str | None,
    voters: str | None,
) -> None:
    """Raise `ConfigError` for an option that nothing would read."""
    from rlaif.errors import ConfigError

    if voters is not None and correct is None:
        raise ConfigError("--voters goes with --correct")
    if difficulty is not None and mode not in {"weights", "refit"}:
        raise ConfigError("--difficulty goes with --length-controlled weights or refit")
    if weights is not None and mode != "weights":
        raise ConfigError("--weights goes with --length-controlled weights")


def need_strata(asked: Sequence[str], found: Sequence[Collection[str]]) -> None:
    """Raise `ConfigError` for a field of `--by` that no item has.

    Args:
        asked: The fields.
        found: Those that occur, in one place or another.
    """
    from rlaif.errors import ConfigError

    if absent := [name for name in asked if not any(name in one for one in found)]:
        raise ConfigError(f"--by {absent[0]}: no item has {absent[0]!r} in its meta")


def _add_corrected(
    made: dict[str, Any],
    runs: Sequence[Path],
    people: str,
    voters: str | None,
    judges: Sequence[str],
    *,
    quiet: bool,
) -> None:
    """Add `by_labels` to the rows: their figures as people's labels correct them."""
    from rlaif.evals.human_checks import corrected

    labeled, _ = labeled_run(runs, people, quiet=quiet)
    found = corrected(
        labeled, judges=judges, voters=voters, baseline=made.get("baseline"), level=made["level"]
    )
    for row in made["rows"]:
        if row["model"] in found:
            row["by_labels"] = found[row["model"]]
    made["corrected_by"] = people if voters is None else f"{people}: {voters}*"


def _filled(
    runs: Sequence[Path],
    strata: Sequence[str],
    *,
    quiet: bool,
    lengths: bool = False,
    style: bool = False,
) -> tuple[LeaderboardTable, dict[str, tuple[Path, int]]]:
    """The table of some runs, and where each judge first appears."""
    from rlaif.evals.leaderboard import LeaderboardTable
    from rlaif.evals.reading import read_runs

    filled = LeaderboardTable(strata, lengths=lengths, style=style)
    with progress_bar("reading", None, quiet=quiet) as bar:
        places = read_runs(runs, filled.add, told=bar.advance)
    return filled, places


def write_whole(made: Mapping[str, Any], output: Path, name: str) -> Path:
    """Write `made` to `output`, or to the file `name` in it where it names no .json file.

    Raises:
        StoreError: it cannot be written.
    """
    import json

    from rlaif.errors import StoreError
    from rlaif.store.runs import whole_file

    path = output if output.suffix == ".json" else output / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    with whole_file(path) as file:
        file.write(json.dumps(made, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def fail_over(limit: float, coverages: Sequence[tuple[str, float]]) -> None:
    """End the command with code 1 where a coverage is under 1 - `limit`; says which."""
    short = [f"{name} {1 - coverage:.1%}" for name, coverage in coverages if 1 - coverage > limit]
    if short:
        shown = ", ".join(short[:6]) + (f" and {len(short) - 6} more" if len(short) > 6 else "")
        say(f"error: judgments without a verdict, over the limit of {limit:.1%}: {shown}")
        raise typer.Exit(1)


def _coverages(made: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(row["model"], row["coverage"]) for row in made["rows"]]


def causes_cell(causes: Mapping[str, int]) -> str:
    """Why judgments have no verdict, for a cell of a table."""
    return ", ".join(f"{n} {cause}" for cause, n in causes.items())


def interval_cell(row: Mapping[str, Any], low: str = "low", high: str = "high") -> str:
    """An interval of a row, for a cell of a table; empty where it has none."""
    if row.get(low) is None or row.get(high) is None:
        return ""
    return f"{row[low]:.3f} to {row[high]:.3f}"


def _print(made: Mapping[str, Any], strata: Sequence[str], *, strengths: bool) -> None:
    """Print the leaderboard, and one table for each stratum that occurs."""
    percent, figure = f"{made['level']:.0%}", made["interval_of"]
    shown = [(figure.replace("_", " "), figure), ("LC win rate", "lc_win_rate")]
    shown += [("style-controlled", "style_win_rate"), ("style strength", "style_strength")]
    shown += [("strength", "strength"), ("elo", "elo")] if strengths else []
    columns: list[tuple[str, Callable[[Mapping[str, Any]], object]]] = [
        ("model", lambda row: row["model"]),
        ("n", lambda row: row["n"]),
        ("coverage", lambda row: f"{row['coverage']:.1%}"),
    ]
    for head, key in shown:
        if any(key in row for row in made["rows"]):
            columns.append((head, lambda row, key=key: row.get(key)))  # type: ignore[misc]
        ends = _ENDS.get(key)
        if ends and any(row.get(ends[0]) is not None for row in made["rows"]):
            columns.append(
                (f"{percent} interval", lambda row, ends=ends: interval_cell(row, *ends))  # type: ignore[misc]
            )
    if any(row["causes"] for row in made["rows"]):
        columns.append(("without verdict", lambda row: causes_cell(row["causes"])))
    title = f"{made['kind']}s by {made['judge']}"
    if made.get("baseline"):
        title += f", against {made['baseline']}"
    rows = [[cell(row) for _, cell in columns] for row in made["rows"]]
    in_nats = any(head.endswith("strength") for head, _ in columns)
    table(title, [head for head, _ in columns], rows, note=_note(made, percent, in_nats=in_nats))
    for name in strata:
        _print_stratum(made, name)
    _print_differences(made, percent)
    if "corrected_by" in made:
        print_corrected(made)


def _print_differences(made: Mapping[str, Any], percent: str) -> None:
    """Print how far each model lies above the next, and what it takes to be sure of it."""
    rows = [
        [
            found["a"],
            found["b"],
            found["difference"],
            interval_cell(found),
            found["prompts"],
            {0: "separated", None: "no difference"}.get(
                found["more_prompts"], f"{found['more_prompts'] or 0:,} more"
            ),
        ]
        for found in made["differences"]
    ]
    if rows:
        table(
            "from each model to the next",
            ["model", "next", "difference", f"{percent} interval", "prompts", "to separate them"],
            rows,
            note="Prompts paired. more: prompts still to ask for a chance of 4 in 5 to tell "
            "the two apart, were the difference as it is.",
        )


def _note(made: Mapping[str, Any], percent: str, *, in_nats: bool) -> str:
    unit = "; strengths in nats" if in_nats else ""
    lines = [f"{percent} intervals, clustered over {made['prompts']} prompts{unit}."]
    if (share := made.get("separability")) is not None:
        lines.append(f"{share['separated']} of {share['pairs']} pairs of models separate.")
    if (strengths := made.get("strengths")) is not None and "unavailable" in strengths:
        lines.append(f"No strengths: {strengths['unavailable']}.")
    if (mode := made.get("length_control")) is not None:
        lines.append(f"Length control: {mode}.")
    if (held := made.get("reference")) is not None:
        lines.append(
            f"Against {held['judge']}: Kendall tau {held['kendall_tau']:.3f}, agreement with "
            f"confidence {held['agreement_with_confidence']:.3f}, Brier {held['brier']:.4f}."
        )
    return " ".join(lines)


def _print_stratum(made: Mapping[str, Any], name: str) -> None:
    """Print the leading figure of each model by the values of a stratum."""
    found = [row["by"][name] for row in made["rows"] if name in row.get("by", {})]
    values = list(dict.fromkeys(value for by in found for value in by))
    if not values:
        return
    title = f"{made['interval_of'].replace('_', ' ')} by {name}"
    models = {row["model"]: row["by"][name] for row in made["rows"] if name in row.get("by", {})}
    if len(models) < len(values):
        rows = [[value, *(by.get(value) for by in models.values())] for value in values]
        table(title, [name, *models], rows)
    else:
        rows = [[model, *(by.get(value) for value in values)] for model, by in models.items()]
        table(title, ["model", *values], rows)
