"""People's labels beside a judge's verdicts, for `rlaif agreement` and `rlaif leaderboard`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlaif.cli.output import progress_bar, table

if TYPE_CHECKING:
    from rlaif.evals.human_labels import LabeledRun
    from rlaif.types import Verdict

Calibrate = Literal["isotonic", "platt", "temperature"]
IN_ITEMS = "labels"
"""What `--with` and `--correct` call the labels inside the items."""


def labeled_run(
    runs: Sequence[Path], people: str, *, quiet: bool
) -> tuple[LabeledRun, dict[str, tuple[Path, int]]]:
    """The verdicts of runs with people's labels beside them, and where each judge first appears.

    Args:
        runs: The judge's run folders or `verdicts.jsonl` files.
        people: A run of votes, or `labels` for those inside the items.
        quiet: Whether to leave out the progress bar.
    """
    from rlaif.evals.human_labels import LabeledRun
    from rlaif.evals.reading import read_runs

    labeled = LabeledRun()

    def add(verdict: Verdict) -> None:
        labeled.add_judged(verdict)
        if people == IN_ITEMS:
            labeled.add_own_label(verdict)

    with progress_bar("reading", None, quiet=quiet) as bar:
        places = read_runs(runs, add, told=bar.advance)
        if people != IN_ITEMS:
            read_runs([Path(people)], labeled.add_label, told=bar.advance)
    return labeled, places


def write_escalated(
    run: Path,
    judges: Sequence[str],
    threshold: float | None,
    folder: Path,
    *,
    sure: Callable[[Verdict], float | None] | None = None,
) -> Path:
    """Write the items to send on to `escalate.jsonl`, least sure first; the file.

    A line is a row of DATA for `rlaif judge`, under the verdict's id: those without a verdict
    first, then those under the threshold.

    Args:
        run: The run folder, or its `verdicts.jsonl`.
        judges: Whose verdicts.
        threshold: Confidence under which an item is sent on; every one where it is None.
        folder: Where the file goes.
        sure: How sure a verdict is, below 0 where there is none; None keeps an item from being sent
            on. By default max(p, 1 - p) of a comparison.

    Raises:
        StoreError: it cannot be written.
    """
    import math

    from rlaif.canonical import json_line
    from rlaif.errors import StoreError
    from rlaif.store.runs import whole_file

    path, rows = folder / "escalate.jsonl", []
    for offset, verdict in _with_offsets(run):
        if verdict.judge.model not in judges:
            continue
        found = (sure or _sure)(verdict)
        if found is not None and found < (math.inf if threshold is None else threshold):
            rows.append((found, offset))
    rows.sort()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    with whole_file(path) as file, _verdicts_file(run).open("rb") as source:
        for _, offset in rows:
            source.seek(offset)
            file.write(json_line(_data_row(_parsed(source.readline()))))
    return path


def _sure(verdict: Verdict) -> float:
    said = verdict.preference
    return -1.0 if said is None else max(said.p_a, 1 - said.p_a)


def _verdicts_file(run: Path) -> Path:
    return run / "verdicts.jsonl" if run.is_dir() else run


def _with_offsets(run: Path) -> Iterator[tuple[int, Verdict]]:
    """The verdicts of a run that was read before, each with the byte where its line begins."""
    offset = 0
    with _verdicts_file(run).open("rb") as source:
        for line in source:
            if line.strip():
                yield offset, _parsed(line)
            offset += len(line)


def _parsed(line: bytes) -> Verdict:
    import json

    from rlaif.types import Verdict

    return Verdict.from_dict(json.loads(line))


def _data_row(verdict: Verdict) -> dict[str, Any]:
    """A comparison, or a score, as a row of DATA."""
    from rlaif.evals.reading import question_of
    from rlaif.types import as_dict

    item, said = verdict.item, verdict.preference
    meta = {"question_id": question_of(item), **item.meta, "verdict_id": verdict.id}
    meta["judged"] = verdict.cause if said is None else said.winner
    if said is not None:
        meta["p_a"] = said.p_a
    if verdict.score is not None:
        meta["judged"] = verdict.score.value
    names = ("",) if len(verdict.candidates) == 1 else ("_a", "_b")
    responses: dict[str, Any] = {}
    for name, candidate in zip(names, verdict.candidates, strict=True):
        responses[f"response{name}"] = as_dict(candidate.response)
        responses[f"model{name}"] = candidate.model
    row = {
        "id": verdict.id,
        "prompt": as_dict(item.prompt),
        "reference": item.reference,
        **responses,
        "meta": meta,
    }
    return {key: value for key, value in row.items() if value is not None}


def print_calibration(found: Mapping[str, Any]) -> None:
    """Print how good the judge's probabilities are before and after a map."""
    names = {"ece": "calibration error", "brier": "Brier score", "log_loss": "log loss, nats"}
    rows = [[name, found["before"][key], found["after"][key]] for key, name in names.items()]
    told = ", ".join(
        f"{point['stated']:.2f} is {point['observed']:.2f}" for point in found["before"]["curve"]
    )
    table(
        f"calibration, {found['method']}",
        ["figure", "as stated", "mapped"],
        rows,
        note=f"{found['n']} labels on {found['prompts']} prompts; mapped by {found['folds']} fits, "
        f"each without the prompts it maps. Confidence stated is right: {told}.",
    )


def print_selection(found: Mapping[str, Any], written: Path | None) -> None:
    """Print the threshold above which the judge is to be believed, and what that leaves."""
    rows = [
        [step["threshold"], step["n"], step["agreement"], step["low"]] for step in found["steps"]
    ]
    if found["threshold"] is None:
        told = (
            f"No threshold keeps an agreement of {found['agreement']:.0%} with confidence "
            f"{found['confidence']:.0%}: escalate everything, or label more."
        )
    else:
        told = (
            f"Keep verdicts of confidence {found['threshold']:.3f} and more: {found['kept']} of "
            f"{found['kept'] + found['escalated']} ({found['coverage']:.1%})."
        )
    if written is not None:
        told += f" To send on, least sure first: {found['escalated']} in {written}."
    columns = [
        "confidence at least",
        "labels",
        "agreement",
        f"at least ({found['confidence']:.0%})",
    ]
    table("when to believe the judge", columns, rows, note=told)


def print_corrected(made: Mapping[str, Any]) -> None:
    """Print what the figures of a leaderboard become by people's labels."""
    figure = made["interval_of"]
    rows = []
    for row in made["rows"]:
        if (found := row.get("by_labels")) is None:
            continue
        gladen = found.get("rogan_gladen", {})
        ends = (found.get("corrected_low"), found.get("corrected_high"))
        rows.append(
            [
                row["model"],
                f"{found['n_labeled']} of {found['n_judged']}",
                row.get(figure),
                found.get("corrected"),
                "" if None in ends else f"{ends[0]:.3f} to {ends[1]:.3f}",
                found.get("shrunk"),
                found.get("labels_only"),
                gladen.get("value", "refused" if "near chance" in str(gladen) else None),
                found.get("unavailable", ""),
            ]
        )
    percent = f"{made['level']:.0%}"
    table(
        f"{figure.replace('_', ' ')}s by people's labels",
        [
            "model",
            "labeled",
            "judge",
            "corrected",
            f"{percent} interval",
            "shrunk",
            "labels alone",
            "Rogan-Gladen",
            "",
        ],
        rows,
        note="corrected: PPI++, right on average for any judge, if the labeled comparisons "
        "were drawn like the others. shrunk: between judge and corrected. Rogan-Gladen: wins "
        "among those that neither side calls a tie.",
    )
