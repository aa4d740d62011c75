"""A report on a run: figures, tables and single verdicts on one page."""

from __future__ import annotations

from pathlib import Path

from rlaif.errors import DataError
from rlaif.evals.leaderboard import LeaderboardTable
from rlaif.evals.reading import names, read_runs
from rlaif.report.browser import VerdictBrowser
from rlaif.report.page import Block, Callout, Heading, KeyFigures, Page, Table, files_beside
from rlaif.report.run_entries import entry_of
from rlaif.report.run_figures import SAMPLE, RunFigures
from rlaif.report.run_tables import (
    MOST_ROWS,
    behavior,
    categories,
    causes_told,
    standings,
    win_matrix,
)
from rlaif.store.runs import read_json
from rlaif.types import Verdict


def run_page(path: Path, *, judge: str | None = None, sample: int = SAMPLE, seed: int = 0) -> Page:
    """The page of a run folder, or of a `verdicts.jsonl`.

    Args:
        path: The run.
        judge: The judge to keep, or the beginning of several with a `*` behind it; None keeps all.
        sample: Most verdicts to show one by one.
        seed: Seed of their sample.

    Raises:
        SpecError: no such file, or a line that is no verdict.
        DataError: the run has no verdicts, none by `judge`, or verdicts of several kinds.
    """
    figures, board = RunFigures(sample=sample, seed=seed), LeaderboardTable()

    def add(verdict: Verdict) -> None:
        if judge is None or names(judge, verdict.judge.model):
            figures.add(verdict)
            board.add(verdict)

    read_runs([path], add)
    if not figures.kinds:
        raise DataError(f"no verdict of {path} is by {judge!r}")
    if len(figures.kinds) > 1:
        kinds = " and ".join(sorted(figures.kinds))
        raise DataError(f"{path} holds {kinds} verdicts: a report shows one kind")
    return Page(
        _title(path),
        _subtitle(figures),
        [
            _key_figures(figures, _wall_s(path)),
            *_conclusions(figures),
            *standings(figures, board),
            *win_matrix(figures),
            *categories(figures),
            *behavior(figures),
            *_coverage(figures),
            *_browser(figures, seed),
            *_files(path),
        ],
        footer="All intervals are 95 %, by prompt. What has no verdict counts in n, coverage and "
        "causes, and in no other figure.",
    )


def _title(path: Path) -> str:
    name = path.parent.name if path.suffix == ".jsonl" else path.resolve().name
    return f"Run {name}" if name else "Run"


def _subtitle(figures: RunFigures) -> str:
    kind = {"score": "Scores", "comparison": "Comparisons"}.get(min(figures.kinds), "Rankings")
    judges = [name for name, _ in figures.judges.most_common()]
    by = f"`{judges[0]}`" if len(judges) == 1 else f"{len(judges)} judges"
    rubric = ", ".join(f"rubric `{name}`" for name in list(figures.rubrics)[:2])
    method = ", ".join(list(figures.methods)[:2])
    return ", ".join(part for part in (f"{kind} by {by}", rubric, method) if part)


def _wall_s(path: Path) -> float | None:
    summary = path / "summary.json"
    if not path.is_dir() or not summary.exists():
        return None
    found = read_json(summary)
    seconds = found.get("wall_s") if isinstance(found, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else None


def _key_figures(figures: RunFigures, wall_s: float | None) -> KeyFigures:
    tally = figures.tally
    shown = [
        ("verdicts", f"{tally.ok:,}", f"of {tally.done:,} asked, {figures.prompts:,} prompts"),
        ("coverage", f"{tally.coverage:.1%}", causes_told(tally.causes) or "all with a verdict"),
    ]
    if figures.scores and figures.scale:
        mean = sum(figures.scores) / len(figures.scores)
        low, high = figures.scale
        shown.append(("mean score", f"{mean:.2f}", f"on {low:g} to {high:g}"))
    if (flips := figures.disagreements.interval()) is not None:
        shown.append(("consistent", f"{1 - flips[1]:.1%}", "same winner in both orders"))
    if figures.p_a:
        shown.append(("ties", f"{figures.ties / len(figures.p_a):.1%}", "of the verdicts"))
    if figures.priced:
        note = "as the provider bills" if figures.priced == tally.calls else "calls with a price"
        shown.append(("cost", f"${figures.cost_usd:,.2f}", note))
    if wall_s is not None and wall_s >= 1 and tally.calls:
        shown.append(("time", _duration(wall_s), f"{tally.calls:,} calls"))
    return KeyFigures(shown[:6])


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _conclusions(figures: RunFigures) -> list[Block]:
    found: list[Block] = []
    tally = figures.tally
    if not tally.ok:
        told = f"Of {tally.done:,} asked none has a verdict: {causes_told(tally.causes)}."
        return [Callout("warning", "No verdict at all", told)]
    if tally.coverage < 0.95:
        told = (
            f"{1 - tally.coverage:.1%} have no verdict ({causes_told(tally.causes)}). What the "
            "others say holds for the others."
        )
        found.append(Callout("warning", "Much of the run has no verdict", told))
    first = figures.first.interval()
    if first is not None and not first[0] <= 0.5 <= first[2]:
        place = "first" if first[1] > 0.5 else "second"
        share = max(first[1], 1 - first[1])
        told = (
            f"The response shown {place} gets {share:.1%} of the judgments. Both orders were "
            "asked, so it favors no candidate, but it blurs every comparison."
        )
        found.append(Callout("neutral", f"The judge leans to the {place} place", told))
    if len(figures.judges) > 1:
        names_ = ", ".join(f"`{name}` ({n:,})" for name, n in figures.judges.most_common(8))
        more = f" and {len(figures.judges) - 8} more" if len(figures.judges) > 8 else ""
        told = f"{names_}{more}. Figures pool them; `--judge` shows one."
        found.append(Callout("neutral", f"{len(figures.judges)} judges", told))
    return found


def _coverage(figures: RunFigures) -> list[Block]:
    tally = figures.tally
    usage = tally.usage
    calls = []
    if tally.calls:
        calls = [("calls", f"{tally.calls:,}, {tally.calls - tally.calls_cached:,} newly asked")]
    rows: list[tuple[str, str]] = [
        ("asked", f"{tally.done:,}"),
        ("with a verdict", f"{tally.ok:,} ({tally.coverage:.1%})"),
        *((f"without: {c.replace('_', ' ')}", f"{n:,}") for c, n in sorted(tally.causes.items())),
        *calls,
    ]
    if usage.input or usage.output:
        rows.append(("tokens in", f"{usage.input:,}, {usage.cached_input:,} of them cached"))
        rows.append(("tokens out", f"{usage.output:,}"))
    if figures.priced:
        known = f", known for {figures.priced:,} calls" if figures.priced < tally.calls else ""
        rows.append(("cost", f"${figures.cost_usd:,.4f}{known}"))
    if figures.latencies_s:
        ordered = sorted(figures.latencies_s)
        half, most = ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))]
        rows.append(("seconds a call", f"{half:.2f} (median), {most:.2f} (95 % are below)"))
    blocks: list[Block] = [
        Heading("Coverage and cost"),
        Table("What was asked, and what came of it", ("what", "how much"), rows),
    ]
    failed = {c or "(none)": causes for c, causes in figures.causes_by_category.items()}
    if len(failed) > 1:
        by_category = [
            (name.replace("`", "'"), sum(causes.values()), causes_told(causes))
            for name, causes in sorted(failed.items(), key=lambda entry: -entry[1].total())
        ]
        columns = ("category", "without", "causes")
        blocks.append(Table("Without a verdict, by category", columns, by_category[:MOST_ROWS]))
    return blocks


def _browser(figures: RunFigures, seed: int) -> list[Block]:
    verdicts = figures.sample()
    if not verdicts:
        return []
    total = figures.tally.done
    if len(verdicts) == total:
        note = f"All {total:,} verdicts of the run."
    else:
        failed = sum(v.status == "no_verdict" for v in verdicts)
        unsure = sum(v.preference is not None and not v.preference.consistent for v in verdicts)
        rest = len(verdicts) - failed - unsure
        parts = ((failed, "without a verdict"), (unsure, "whose orders disagree"), (rest, "others"))
        told = ", ".join(f"{n} {what}" for n, what in parts if n)
        note = (
            f"{len(verdicts):,} of {total:,} verdicts: {told}, each drawn at random (seed {seed}). "
            "All are in `verdicts.jsonl`."
        )
    return [
        Heading("Single verdicts", "Open one to read the responses and what the judge said."),
        VerdictBrowser([entry_of(verdict) for verdict in verdicts], note),
    ]


def _files(path: Path) -> list[Block]:
    return files_beside(
        path,
        {
            "config.json": "everything that decided the result",
            "verdicts.jsonl": "every verdict, one record a line",
            "summary.json": "counts, coverage, tokens and time",
            "leaderboard.json": "the leaderboard's numbers",
            "audit.html": "the audit's own page",
        },
    )
