"""`rlaif judge`: score or compare responses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.cli import options
from rlaif.cli.output import emit, fail_over_limit, progress_bar, say, summary_table
from rlaif.errors import SpecError

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.judge.likelihood import LikelihoodJudge
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.types import Candidate, Comparison, Item, JudgeRef, Request, Sampling

    Judge = PairwiseJudge | LikelihoodJudge

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Score or compare responses.")

Data = Annotated[
    str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, a run of generate, or -.")
]
Method = Literal["auto", "verdict", "likelihood"]

SMALL_MODEL_PARAMETERS = 1_000_000_000
"""A smaller local model is not asked for verdicts by default: it says "A" to everything."""


@app.command()
def score(
    data: Data,
    model: options.Models,
    rubric: options.Rubric = "helpfulness",
    output: options.Output = Path("runs/score"),
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    limit: options.Limit = None,
    concurrency: options.Concurrency = 16,
    base_url: options.BaseUrl = None,
    timeout: options.Timeout = 120.0,
    max_failures: options.MaxFailures = 0.05,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Grade each response on every criterion of a rubric. Writes verdicts.jsonl."""
    from rlaif.judge.pointwise import PointwiseJudge
    from rlaif.specs.rubric import load_rubric
    from rlaif.types import Sampling

    source = options.spooled(data)
    spec = load_rubric(rubric)
    total = _count(source, _scored(source, limit))
    with options.open_store() as store:
        backend = options.open_backend(
            options.one_model(model),
            store,
            concurrency=concurrency,
            base_url=base_url,
            timeout_s=timeout,
        )
        judge = PointwiseJudge(backend, spec, sampling=Sampling(temperature, max_tokens=max_tokens))
        run = _Run("judge score", source, limit, output, concurrency, max_failures, as_json)
        if dry_run:
            run.dry(backend, (judge.request(item, c) for item, c in _scored(source, limit)))
        else:
            run.wet(
                backend,
                judge.ref,
                _scored(source, limit),
                lambda pair: judge.score(*pair),
                total,
                {},
            )


@app.command()
def compare(
    data: Data,
    model: options.Models,
    rubric: Annotated[
        str | None,
        typer.Option("-r", "--rubric", help="A shipped rubric, or a file. [default: helpfulness]"),
    ] = None,
    output: options.Output = Path("runs/compare"),
    method: Annotated[
        Method,
        typer.Option(
            help="verdict: ask, in both orders, and read the verdict. likelihood: how much the "
            "prompt raises the response's likelihood, for models too small to ask; it reads no "
            "rubric. auto: likelihood for a local model under a billion parameters."
        ),
    ] = "auto",
    pairs: Annotated[
        str, typer.Option(help="Of a prompt's candidates: all, adjacent, or a number of pairs.")
    ] = "all",
    seed: options.Seed = 0,
    temperature: options.Temperature = 0.0,
    max_tokens: options.MaxTokens = 1024,
    limit: options.Limit = None,
    concurrency: options.Concurrency = 16,
    base_url: options.BaseUrl = None,
    timeout: options.Timeout = 120.0,
    max_failures: options.MaxFailures = 0.05,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare responses in pairs, each pair in both orders. Writes verdicts.jsonl."""
    from rlaif.candidates import pair_up
    from rlaif.types import Item, Sampling

    pair_up(Item("", ()), (), pairs)  # a wrong --pairs is refused even where none are drawn
    source = options.spooled(data)
    total = _count(source, _compared(source, limit, pairs, seed))
    with options.open_store() as store:
        backend = options.open_backend(
            options.one_model(model),
            store,
            concurrency=concurrency,
            base_url=base_url,
            timeout_s=timeout,
        )
        sampling = Sampling(temperature, max_tokens=max_tokens)
        judge = make_comparison_judge(backend, rubric, method, sampling)
        run = _Run("judge compare", source, limit, output, concurrency, max_failures, as_json)
        if dry_run:
            found = _compared(source, limit, pairs, seed)
            run.dry(backend, (r for comparison in found for r in judge.requests(comparison)))
        else:
            run.wet(
                backend,
                judge.ref,
                _compared(source, limit, pairs, seed),
                judge.compare,
                total,
                {"pairs": pairs, "seed": seed},
            )


def make_comparison_judge(
    backend: CachedBackend, rubric: str | None, method: Method, sampling: Sampling
) -> Judge:
    """The judge that `method` names for `backend`.

    Raises:
        SpecError: no such rubric, or it is malformed.
    """
    small = getattr(backend.inner, "parameters", SMALL_MODEL_PARAMETERS) < SMALL_MODEL_PARAMETERS
    if method == "likelihood" or (method == "auto" and small):
        from rlaif.judge.likelihood import LikelihoodJudge

        unread = f"; -r {rubric} is not read" if rubric else ""
        say(f"{backend.model} judges by likelihood, which has no rubric{unread} (see --method)")
        return LikelihoodJudge(backend)
    from rlaif.judge.pairwise import PairwiseJudge
    from rlaif.specs.rubric import load_rubric

    return PairwiseJudge(backend, load_rubric(rubric or "helpfulness"), sampling=sampling)


def _scored(source: Path, limit: int | None) -> Iterator[tuple[Item, Candidate]]:
    from rlaif.specs.items import read_data

    for item, candidates in _run_or_data(source, limit) or read_data(source, "score", limit=limit):
        for candidate in candidates:
            yield item, candidate


def _compared(source: Path, limit: int | None, pairs: str, seed: int) -> Iterator[Comparison]:
    from rlaif.candidates import pair_up
    from rlaif.specs.items import read_data
    from rlaif.types import Comparison

    if (made := _run_or_data(source, limit)) is not None:
        for item, candidates in made:
            yield from pair_up(item, candidates, pairs, seed=seed)
        return
    for item, (a, b) in read_data(source, "compare", limit=limit):
        yield Comparison(item, a, b)


def _count(source: Path, work: Iterable[object]) -> int:
    """How much there is to judge.

    Raises:
        SpecError: nothing: the draws of a run failed, or there is one where two are needed.
    """
    total = sum(1 for _ in work)
    if not total:
        raise SpecError("holds nothing to judge: its prompts have too few candidates", path=source)
    return total


def _run_or_data(
    source: Path, limit: int | None
) -> Iterable[tuple[Item, tuple[Candidate, ...]]] | None:
    """The candidates of a run of `generate`, or None where `source` is plain data."""
    from itertools import islice

    from rlaif.store.runs import read_candidates

    if source.name == "candidates.jsonl" or (source / "candidates.jsonl").exists():
        return islice(read_candidates(source), limit)
    return None


class _Run:
    """One judging command: dry or wet."""

    def __init__(
        self,
        command: str,
        source: Path,
        limit: int | None,
        output: Path,
        concurrency: int,
        max_failures: float,
        as_json: bool,
    ) -> None:
        self._command = command
        self._source = source
        self._limit = limit
        self._output = output
        self._concurrency = concurrency
        self._max_failures = max_failures
        self._as_json = as_json

    def dry(self, backend: CachedBackend, requests: Iterable[Request]) -> None:
        from rlaif.cli.asking import dry_run_report

        dry_run_report(((backend, request) for request in requests), as_json=self._as_json)

    def wet(
        self,
        backend: CachedBackend,
        judge: JudgeRef,
        items: Iterable[Any],
        work: Callable[[Any], Any],
        total: int,
        extra: dict[str, Any],
    ) -> None:
        from rlaif.runner import write_verdicts
        from rlaif.store.runs import RunFolder
        from rlaif.types import as_dict

        config = {
            "command": self._command,
            "data_sha256": options.data_digest(self._source),
            "limit": self._limit,
            "judge": as_dict(judge),
            "backend": backend.identity,
            **extra,
        }
        run = RunFolder(self._output, config)
        with progress_bar("judging", total, quiet=self._as_json) as bar:

            async def judged() -> dict[str, Any]:
                async with options.opened(backend):
                    return await write_verdicts(
                        items, work, run, concurrency=self._concurrency, progress=bar.advance
                    )

            summary = asyncio.run(judged())
        if self._as_json:
            emit(summary | {"run": str(self._output)})
        else:
            summary_table("judged", summary, [self._output / "verdicts.jsonl"])
        fail_over_limit(summary, self._max_failures)
