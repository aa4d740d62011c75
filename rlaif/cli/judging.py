"""What every judging command does around its judge: read the data, plan, or judge it.

A command is little more than:

with asking.session() as session:
    backend = session.backend(asking.one_model())
    judge = PairwiseJudge(backend, rubric)
    judging = Judging("judge compare", asking, session, source, {"pairs": pairs})
    judging.carry_out(
        judge.ref,
        lambda: comparisons_in(source, asking.limit, pairs),
        judge.compare,
        lambda comparison: [(backend, r) for r in judge.requests(comparison)],
    )
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rlaif.cli import options
from rlaif.cli.output import (
    counted,
    emit,
    fail_over_limit,
    progress_bar,
    summary_table,
)
from rlaif.cli.running import run_draining
from rlaif.errors import SpecError

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.cli.asking import Asking, Session
    from rlaif.runner import Stop
    from rlaif.store.runs import RunFolder
    from rlaif.types import Candidate, Comparison, Item, JudgeRef, Request, Verdict

INTERRUPTED = "interrupted.json"
"""The summary so far, in the folder of a run that was ended early."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judging:
    """One judging command, with everything that it was told."""

    command: str
    asking: Asking
    session: Session
    source: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else decides the result, for the run folder's configuration."""

    def carry_out(
        self,
        judge: JudgeRef,
        items: Callable[[], Iterable[T]],
        work: Callable[[T], Awaitable[Verdict]],
        requests: Callable[[T], Iterable[tuple[CachedBackend, Request]]],
        *,
        also: Callable[[], Mapping[str, Any]] = dict,
        after: Callable[[RunFolder, dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """Judge everything into the run folder; with `--dry-run` say what would be asked.

        Args:
            judge: Who judges.
            items: What there is to judge, read anew at each call.
            work: The verdict on one item.
            requests: What `work` asks for one item before it has any reply, and of which backend.
            also: What else the summary says.
            after: What is left to do with a whole run; makes its last summary.

        Raises:
            SpecError: there is nothing to judge, or the data is malformed.
            ConfigError: the run folder holds another run.
        """
        if self.asking.dry_run:
            from rlaif.cli.dry_run import dry_run_report

            asked = (pair for item in self._some(items()) for pair in requests(item))
            dry_run_report(asked, as_json=self.asking.as_json, prices=self.session.terms.prices)
            return
        total = counted(self._some(items()), quiet=self.asking.as_json)
        summary = self._judge(judge, items(), work, total, also, after)
        finish("judged", summary, self.asking, "verdicts.jsonl")

    def _some(self, items: Iterable[T]) -> Iterator[T]:
        """`items`, of which there must be some."""
        item: object = None
        for item in items:
            yield item
        if item is None:
            message = "holds nothing to judge: its prompts have too few candidates"
            raise SpecError(message, path=self.source)

    def _judge(
        self,
        judge: JudgeRef,
        items: Iterable[T],
        work: Callable[[T], Awaitable[Verdict]],
        total: int,
        also: Callable[[], Mapping[str, Any]],
        after: Callable[[RunFolder, dict[str, Any]], dict[str, Any]] | None,
    ) -> dict[str, Any]:
        from rlaif.runner import write_verdicts
        from rlaif.store.runs import RunFolder

        run = RunFolder(self.asking.output, self._config(judge), grows={"limit"})
        with progress_bar("judging", total, quiet=self.asking.as_json) as bar:

            async def judged(stop: Stop) -> dict[str, Any]:
                async with options.opened(*self.session.backends):
                    return await write_verdicts(
                        items,
                        work,
                        run,
                        concurrency=self.session.width,
                        progress=bar.advance,
                        stop=stop,
                        also=lambda: {**self.session.account(), **also()},
                    )

            summary = note_interruption(run, run_draining(judged, drain=not self.asking.batch))
        if after is None or summary.get("interrupted"):
            return summary
        return after(run, summary)

    def _config(self, judge: JudgeRef) -> dict[str, Any]:
        from rlaif.types import as_dict

        asked = [backend.identity for backend in self.session.backends]
        return {
            "command": self.command,
            "data_sha256": options.data_digest(self.source),
            "limit": self.asking.limit,
            "judge": as_dict(judge),
            "backend": asked[0] if len(asked) == 1 else asked,
            **self.settings,
        }


def note_interruption(run: RunFolder, summary: dict[str, Any]) -> dict[str, Any]:
    """`summary`, kept as `interrupted.json` of `run` if it is of a part; a whole run has none."""
    if summary.get("interrupted"):
        run.write_json(INTERRUPTED, summary)
    else:
        (run.path / INTERRUPTED).unlink(missing_ok=True)
    return summary


def finish(
    title: str,
    summary: dict[str, Any],
    asking: Asking,
    file: str,
    what: str = "items have no verdict",
) -> None:
    """Print the summary of a run, and exit as it asks for.

    Args:
        title: What was done, over the table.
        summary: The summary of the run.
        asking: What the command was told.
        file: The file that the run wrote.
        what: What failed, for the error about too many failures.
    """
    if asking.as_json:
        emit(summary | {"run": str(asking.output)})
    else:
        partial = ".partial" if summary.get("interrupted") else ""
        summary_table(title, summary, [asking.output / f"{file}{partial}"])
    fail_over_limit(summary, asking.max_failures, what)


def responses_in(source: Path, limit: int | None) -> Iterator[tuple[Item, Candidate]]:
    """Each response in `source` to grade: plain data, or a run of generate."""
    from rlaif.specs.items import read_data

    made = candidates_in(source, limit)
    for item, candidates in made or read_data(source, "score", limit=limit):
        for candidate in candidates:
            yield item, candidate


def comparisons_in(
    source: Path, limit: int | None, pairs: str = "all", seed: int = 0
) -> Iterator[Comparison]:
    """Each comparison in `source` to make: plain data, or pairs of the candidates of a run."""
    from rlaif.candidates import pair_up
    from rlaif.specs.items import read_data
    from rlaif.types import Comparison

    if (made := candidates_in(source, limit)) is not None:
        for item, candidates in made:
            yield from pair_up(item, candidates, pairs, seed=seed)
        return
    for item, (a, b) in read_data(source, "compare", limit=limit):
        yield Comparison(item, a, b)


def candidates_in(
    source: Path, limit: int | None
) -> Iterable[tuple[Item, tuple[Candidate, ...]]] | None:
    """The candidates of a run of generate, or None where `source` is plain data."""
    from rlaif.store.runs import read_candidates

    if source.name == options.CANDIDATES or (source / options.CANDIDATES).exists():
        return islice(read_candidates(source), limit)
    return None
