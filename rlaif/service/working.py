"""What works on runs: takes one that waits, judges its data into its folder, and takes the next.

Every reply is in the store before it counts, so a run that a dead server left is simply done again:
what was answered is not asked a second time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlaif.api.judging import Judge
from rlaif.backends.budgeted import Budget
from rlaif.cli.judging import comparisons_in, responses_in
from rlaif.cli.options import data_digest
from rlaif.cli.ranking import rankings_in
from rlaif.errors import ConfigError, RlaifError, SpecError, StoreError
from rlaif.judge.tournament import Tournament
from rlaif.runner import Tally, write_verdicts
from rlaif.service import given
from rlaif.service.accounts import LOCAL, Caller
from rlaif.service.config import known
from rlaif.service.runs import Run, RunBook
from rlaif.service.state import Service
from rlaif.store.postgres import UnreachableError
from rlaif.store.runs import RunFolder, file_of_run
from rlaif.types import Candidate, Item, Verdict, as_dict

_LOOK_S = 0.5
"""Seconds between looks for a run, and between notes of how far one is."""
_DRAIN_S = 5.0
_LONGEST_ERROR = 600
_AGAIN_S = 2.0
"""Seconds between tries to note that a run failed."""

_log = logging.getLogger("rlaif.service")


@dataclass(frozen=True, slots=True)
class Task:
    """What one run does, to one piece of its data after the other."""

    pieces: Callable[[], Iterable[Any]]
    judge: Callable[[Any], Awaitable[Verdict]]
    config: dict[str, Any]


@dataclass
class _Progress:
    """How far a run is."""

    total: int | None = None
    done: int = 0
    tally: Tally = field(default_factory=Tally)


class Worker:
    """Works on the runs of a service until it is stopped.

    Args:
        service: Whose runs.
        book: The runs.
        done: Told the id of each run that is done.
    """

    def __init__(
        self, service: Service, book: RunBook, done: Callable[[str], object] = str
    ) -> None:
        self._service = service
        self._book = book
        self._done = done
        self._stopping = asyncio.Event()
        self._stops: set[threading.Event] = set()

    async def work(self) -> None:
        """Take runs and do them, as many at once as the configuration allows; until stopped."""
        running: set[asyncio.Task[None]] = set()
        most = self._service.config.limits.runs_at_once
        while not self._stopping.is_set():
            try:
                while len(running) < most and (run := self._book.claim()) is not None:
                    task = asyncio.create_task(self._carry_out(run))
                    running.add(task)
                    task.add_done_callback(running.discard)
            except RlaifError as error:
                _log.error("runs cannot be taken: %s", error)
            await _first(self._stopping.wait(), _LOOK_S)
        for stop in self._stops:
            stop.set()
        if running:
            _, left = await asyncio.wait(running, timeout=_DRAIN_S)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def stop(self) -> None:
        """Begin nothing new; what is in flight has some seconds, and the rest is left for later."""
        self._stopping.set()

    async def _carry_out(self, run: Run) -> None:
        stop = threading.Event()
        self._stops.add(stop)
        try:
            await self._judge(run, stop)
        except UnreachableError as error:
            _log.error("the run %s is left for later: %s", run.id, error)
            self._book.release(run.id)
        except RlaifError as error:
            await self._fail(run, self._told(error))
        except asyncio.CancelledError:
            self._book.release(run.id)
            raise
        except Exception as error:
            _log.error("the run %s failed: %s", run.id, type(error).__name__)
            await self._fail(run, "the service failed; see its log")
        finally:
            self._stops.discard(stop)

    def _told(self, error: RlaifError) -> str:
        """What whoever made the run is told of an error: not where the service keeps its files."""
        if isinstance(error, SpecError):
            row = "the data" if error.line is None else f"row {error.line}"
            return f"{row}: {SpecError(error.message, field=error.field)}"[:_LONGEST_ERROR]
        return str(error).replace(f"{self._service.root}/", "")[:_LONGEST_ERROR]

    async def _fail(self, run: Run, why: str) -> None:
        """Note that a run failed. Where not even that can be kept, as on a full disk, it is tried
        until it can: the run begun anew would ask its judge again, and keep as little.
        """
        told = False
        while not self._stopping.is_set():
            try:
                if self._book.holds(run.id):  # else another server goes on with it
                    self._book.end(run.id, "failed", error=why)
                return
            except StoreError as error:
                if not told:
                    _log.error("that the run %s failed cannot be kept yet: %s", run.id, error)
                told = True
            await _first(self._stopping.wait(), _AGAIN_S)
        self._book.release(run.id)

    async def _judge(self, run: Run, stop: threading.Event) -> None:
        spent = run.cost_usd  # by a server that died
        budget_usd = run.work.get("budget_usd")
        budget = Budget(None if budget_usd is None else max(0.0, budget_usd - spent))
        task = await asyncio.to_thread(self._prepare, run, budget)
        progress = _Progress()
        progress.total = await asyncio.to_thread(lambda: sum(1 for _ in task.pieces()))

        async def judged(piece: Any) -> Verdict:
            verdict = await task.judge(piece)
            progress.tally.add(verdict)
            self._service.judged([verdict])
            return verdict

        def note() -> bool:
            tally = progress.tally
            cost = spent + tally.cost_usd
            return self._book.advance(run.id, progress.total, tally.done, tally.ok, cost)

        async def noting() -> None:
            while True:
                with suppress(StoreError):  # it may be back when the run is done
                    if note() or not self._book.holds(run.id):
                        stop.set()
                await asyncio.sleep(_LOOK_S)

        for name in ("verdicts.index", "report.html"):  # of an earlier time
            with suppress(OSError):
                (folder_of(self._service.root, run.id) / name).unlink()
        notes = asyncio.create_task(noting())
        try:
            summary = await write_verdicts(
                task.pieces(),
                judged,
                RunFolder(folder_of(self._service.root, run.id), task.config),
                concurrency=lambda: self._width(run),
                stop=stop,
                also=lambda: {"cost_before_usd": spent} if spent else {},
            )
        finally:
            notes.cancel()
        if not self._book.holds(run.id):  # another server goes on with it
            return
        cancelled = note()
        if not summary.get("interrupted"):
            self._book.end(run.id, "done", summary=summary)
            self._done(run.id)
        elif cancelled:
            self._book.end(run.id, "cancelled", summary=summary)
        else:
            self._book.release(run.id)

    def _prepare(self, run: Run, budget: Budget) -> Task:
        """What the run does. Reads its data, which takes a while."""
        work = run.work
        if given.is_without_judge(work):
            return self._without_judge(run)
        caller = self._owner(run)
        judge = self._service.bench.judge(
            work["judge"], work["rubric"], self._service.budget(caller), budget
        )
        source = self.source(run)
        pieces = _pieces(source, work)
        ref, ask = _asker(judge, work["kind"], pieces)
        config = {
            "command": f"serve {work['kind']}",
            "data_sha256": data_digest(source),
            "limit": work.get("limit"),
            "pairs": work.get("pairs"),
            "judge": as_dict(ref),
            "backend": judge.backend.identity,
        }
        return Task(pieces, ask, config)

    def _without_judge(self, run: Run) -> Task:
        """What a run does that asks no judge of the service."""
        work, source = run.work, self.source(run)
        config = {"command": f"serve {work['kind']}", "limit": work.get("limit")}
        if work.get("given"):
            pieces, ask = given.taken(source, work)
            data = data_digest(file_of_run(source, "verdicts.jsonl"))
            return Task(pieces, ask, config | {"verdicts_sha256": data})
        ref, nothing = given.for_people(
            work["kind"], known(work["rubric"], self._service.bench.rubrics, "rubric")
        )
        config |= {"data_sha256": data_digest(source), "pairs": work.get("pairs")}
        return Task(_pieces(source, work), nothing, config | {"judge": as_dict(ref)})

    def _width(self, run: Run) -> int:
        """How many pieces to work on at once."""
        return (
            1 if given.is_without_judge(run.work) else self._service.bench.width(run.work["judge"])
        )

    def source(self, run: Run) -> Path:
        """Where the data of a run is.

        Raises:
            ConfigError: the configuration has no folder of data sets any more.
        """
        return source_of(self._service, run.token, run.work["data"])

    def _owner(self, run: Run) -> Caller:
        if run.token == LOCAL.id:
            return LOCAL
        caller = self._service.tokens.numbered(run.token)
        if caller is None:
            raise ConfigError("the token of this run was revoked")
        return caller


def folder_of(root: Path, name: str) -> Path:
    """The folder of the run called `name`."""
    return root / "runs" / name


def source_of(service: Service, token: int, data: Mapping[str, str]) -> Path:
    """Where the data of a run is.

    Args:
        service: The service.
        token: Whose run it is.
        data: As the run names it.

    Raises:
        ConfigError: the configuration has no folder of data sets, or not this one.
    """
    if "upload" in data:
        uploads = service.root / "uploads" / str(token)
        return Path(uploads, data["upload"], data["name"])
    return input_path(service.config.inputs, data["path"])


def input_path(inputs: str | None, path: str) -> Path:
    """Where a data set below the folder `inputs` is.

    Raises:
        ConfigError: there is no such folder, the path leads out of it, or to nothing.
    """
    if inputs is None:
        raise ConfigError("this service reads no data sets of its own: upload one")
    root = Path(inputs).resolve()
    try:
        found = (root / path).resolve()
        inside = found.is_relative_to(root) and found != root and found.exists()
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise ConfigError("there is no such data set below the configured folder")
    return found


def _pieces(source: Path, work: Any) -> Callable[[], Iterable[Any]]:
    limit = work.get("limit")
    if work["kind"] == "score":
        return lambda: responses_in(source, limit)
    if work["kind"] == "compare":
        return lambda: comparisons_in(source, limit, work.get("pairs") or "all")
    return lambda: rankings_in(source, limit)


def _asker(
    judge: Judge, kind: str, pieces: Callable[[], Iterable[Any]]
) -> tuple[Any, Callable[[Any], Awaitable[Verdict]]]:
    """Who judges, for the run's configuration, and what judges one piece."""
    if kind == "score":
        judged: Iterable[tuple[Item, Sequence[Candidate]]] = (
            (item, (one,)) for item, one in pieces()
        )
        grader = judge.pointwise(judged)
        return grader.ref, lambda pair: grader.score(*pair)
    if kind == "compare":
        comparer = judge.pairwise((pair.item, (pair.a, pair.b)) for pair in pieces())
        return comparer.ref, comparer.compare
    ranker = Tournament(judge.pairwise(pieces()))
    return ranker.ref, lambda pair: ranker.rank(*pair)


async def _first(what: Awaitable[Any], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await what
    except TimeoutError:
        return
