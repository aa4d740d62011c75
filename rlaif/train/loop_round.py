"""One round of a loop, step by step, each in a folder of its own that a rerun skips when done.

1-candidates  responses of the policy so far        4-model       the trained policy
2-verdicts    comparisons by the training judge     5-held-out    its responses and the start's
3-dataset     linted preference rows                6-evaluation  by the training judge
                                                    7-held-out-judge  by the held-out judge
                                                    8-likelihoods     under both policies

The steps are the functions that `rlaif generate`, `judge compare`, `prefer` and `train` call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rlaif.backends.cached import CachedBackend
from rlaif.backends.local import LocalBackend, weights_digest
from rlaif.candidates import pair_up, write_candidates
from rlaif.canonical import digest, json_line
from rlaif.errors import BudgetError, DataError
from rlaif.runner import Stop, ordered, write_verdicts
from rlaif.store.runs import RunFolder, read_candidates, read_json, read_verdicts
from rlaif.types import (
    Candidate,
    Comparison,
    Item,
    JudgeRef,
    Request,
    Sampling,
    Verdict,
    as_dict,
)

if TYPE_CHECKING:
    from rlaif.store.base import Replies
    from rlaif.train.loop_schema import LoopFile

START = "local/start"
POLICY = "local/policy"


class LoopJudge(Protocol):
    """A judge that compares two responses."""

    ref: JudgeRef

    async def compare(self, comparison: Comparison) -> Verdict:
        """Which of two responses is better."""
        ...


@dataclass(frozen=True, slots=True)
class Seat:
    """A judge of the loop, and what its replies are kept under."""

    judge: LoopJudge
    identity: str


class Bar(Protocol):
    """The progress of one step."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more as done."""
        ...

    def reach(self, done: int, total: int, note: str = "") -> None:
        """Set how much is done, and of how much."""
        ...


class Interrupted(Exception):  # noqa: N818
    """The loop was told to end; all that was begun is kept."""


Trainer = Callable[["Round", Path, Callable[[int, int, str], None]], dict[str, Any]]
"""Trains the policy of a round into a run folder, with `model/` inside; the summary."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What every round works with."""

    config: LoopFile
    judge: Seat
    gold: Seat
    """The judge that training never sees."""
    start: Path
    """The checkpoint that the loop began with."""
    store: Replies
    home: Path
    train: Trainer
    bar: Callable[[str, int | None], AbstractContextManager[Bar]]
    stop: Stop
    concurrency: int | Callable[[], int] = 16


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round: its number, its prompts and the policy it begins with."""

    number: int
    folder: Path
    policy: Path
    """A checkpoint."""
    prompts: Sequence[Item]
    held_out: Sequence[Item]
    tools: Tools

    @property
    def model(self) -> Path:
        """The checkpoint that the round ends with."""
        return self.folder / "4-model" / "model"

    @property
    def selects(self) -> bool:
        """Whether training is on pairs that were selected before; else the judge scores in it."""
        return self.tools.config.train.trainer == "dpo"

    def digest(self) -> str:
        """Names all that decides the round, beside the loop's own configuration."""
        return digest(
            {
                "round": self.number,
                "policy": weights_digest(self.policy),
                "prompts": [as_dict(item) for item in self.prompts],
            }
        )

    async def carry_out(self) -> None:
        """Do, or go on with, every step.

        Raises:
            Interrupted: it was told to end.
            BudgetError: the budget is spent.
            BackendError: a fatal one.
            DataError: too much of a step failed, or no pair is fit to train on.
            ConfigError: a folder holds another run.
        """
        if self.selects:
            await self._generate("1-candidates", self.prompts, {POLICY: self.policy}, self._n)
            await self._compare_candidates()
            self._prefer()
        self._train()
        models = {START: self.tools.start, POLICY: self.model}
        n = self.tools.config.generate.held_out_candidates
        await self._generate("5-held-out", self.held_out, models, n)
        pairs = list(self._against_start())
        await self._judge("6-evaluation", pairs, self.tools.judge)
        await self._judge("7-held-out-judge", pairs, self.tools.gold)
        await self._likelihoods()

    @property
    def _n(self) -> int:
        return self.tools.config.generate.candidates

    @property
    def _sampling(self) -> Sampling:
        drawn = self.tools.config.generate
        return Sampling(
            drawn.temperature, drawn.top_p, drawn.max_tokens, seed=self.tools.config.seed
        )

    def backend(self, name: str, checkpoint: Path) -> CachedBackend:
        """A checkpoint under a name that does not depend on where it lies."""
        inner = LocalBackend(name, checkpoint, self.tools.home)
        return CachedBackend(inner, self.tools.store)

    async def _generate(
        self, name: str, items: Sequence[Item], models: Mapping[str, Path], n: int
    ) -> None:
        backends = [self.backend(model, checkpoint) for model, checkpoint in models.items()]
        run = RunFolder(
            self.folder / name,
            {
                "prompts": digest([as_dict(item) for item in items]),
                "models": {b.model: b.identity for b in backends},
                "n": n,
                "sampling": as_dict(self._sampling),
            },
        )
        if self._is_done(run):
            return
        try:
            with self._bar(name, len(items)) as bar:
                summary = await write_candidates(
                    items,
                    backends,
                    run,
                    n=n,
                    sampling=self._sampling,
                    concurrency=self.tools.concurrency,
                    progress=bar.advance,
                    stop=self.tools.stop,
                )
        finally:
            for backend in backends:
                await backend.aclose()
        self._check(name, summary)

    async def _compare_candidates(self) -> None:
        pairs = [
            comparison
            for item, found in read_candidates(self.folder / "1-candidates")
            for comparison in pair_up(
                item, found, self.tools.config.select.compare, seed=self.tools.config.seed
            )
        ]
        await self._judge("2-verdicts", pairs, self.tools.judge)

    async def _judge(self, name: str, pairs: Sequence[Comparison], seat: Seat) -> None:
        run = RunFolder(
            self.folder / name,
            {
                "pairs": digest([_pair_key(pair) for pair in pairs]),
                "judge": as_dict(seat.judge.ref),
                "backend": seat.identity,
            },
        )
        if self._is_done(run):
            return
        with self._bar(name, len(pairs)) as bar:
            summary = await write_verdicts(
                pairs,
                seat.judge.compare,
                run,
                concurrency=self.tools.concurrency,
                progress=bar.advance,
                stop=self.tools.stop,
            )
        self._check(name, summary)

    def _prefer(self) -> None:
        from rlaif.preferences.export import write_dataset
        from rlaif.preferences.pairs import Rules
        from rlaif.train.selection import select_rows

        chosen = self.tools.config.select
        folder = self.folder / "3-dataset"
        if (folder / "README.md").exists():  # the last file that is written
            return
        rules = Rules(
            select="best-worst" if chosen.pairs == "best-worst" else "all",
            min_margin=chosen.min_margin,
            inconsistent=chosen.inconsistent,
            max_length_ratio=chosen.max_length_ratio,
        )
        rows = select_rows(
            read_verdicts(self.folder / "2-verdicts"),
            rules,
            tiers=chosen.rho if chosen.pairs == "tiers" else None,
            balance=chosen.balance,
        )
        # the held-out prompts are another file: every row here may be trained on
        write_dataset(rows, folder, test_share=0.0, source=f"round {self.number} of a loop")

    def _train(self) -> None:
        def told(done: int, total: int, note: str) -> None:
            bar.reach(done, total, note)
            if self.tools.stop.is_set():
                raise KeyboardInterrupt  # trainers save their state on it

        if (self.model / "config.json").exists():
            return
        with self._bar("4-model", None) as bar:
            try:
                self.tools.train(self, self.folder / "4-model", told)
            except KeyboardInterrupt:
                raise Interrupted from None

    def _against_start(self) -> Iterable[Comparison]:
        """The policy's held-out responses (A) against the start's, draw by draw."""
        for item, found in read_candidates(self.folder / "5-held-out"):
            start = {_draw(c): c for c in found if c.model == START}
            for candidate in found:
                if candidate.model == POLICY and _draw(candidate) in start:
                    yield Comparison(item, candidate, start[_draw(candidate)])

    async def _likelihoods(self) -> None:
        """The log-probability of each token of the held-out responses, under both policies."""
        models = {START: self.tools.start, POLICY: self.model}
        start, policy = (self.backend(name, path) for name, path in models.items())
        found = list(read_candidates(self.folder / "5-held-out"))
        pairs = [(item, candidate) for item, made in found for candidate in made]
        run = RunFolder(
            self.folder / "8-likelihoods",
            {
                "responses": digest([[item.id, as_dict(c)] for item, c in pairs]),
                "models": [start.identity, policy.identity],
            },
        )
        if (run.path / "likelihoods.jsonl").exists():
            return

        async def one(pair: tuple[Item, Candidate]) -> dict[str, Any]:
            item, candidate = pair
            request = Request((*item.prompt, *candidate.response), task="likelihood")
            row: dict[str, Any] = {"item": item.id, "candidate": candidate.id}
            row |= {"model": candidate.model, "start": await _logprobs(start, request)}
            if candidate.model == POLICY:  # the KL is taken over the policy's own responses
                row["policy"] = await _logprobs(policy, request)
            return row

        try:
            with (
                self._bar("8-likelihoods", len(pairs)) as bar,
                run.open_whole("likelihoods.jsonl") as file,
            ):
                async with aclosing(ordered(pairs, one, concurrency=16)) as rows:
                    async for row in rows:
                        file.write(json_line(row))
                        bar.advance()
                        if self.tools.stop.is_set():
                            raise Interrupted
        finally:
            for backend in (start, policy):
                await backend.aclose()

    def _bar(self, name: str, total: int | None) -> AbstractContextManager[Bar]:
        return self.tools.bar(f"round {self.number}, {name}", total)

    def _is_done(self, run: RunFolder) -> bool:
        """Whether the step was finished, with no more failures than are allowed."""
        if not (run.path / "summary.json").exists():
            return False
        return self._fault(read_json(run.path / "summary.json")) is None

    def _check(self, name: str, summary: Mapping[str, Any]) -> None:
        if summary.get("interrupted"):
            raise Interrupted
        if summary["causes"].get("budget"):
            raise BudgetError(
                f"the budget is spent in step {name} of round {self.number}; the same command with "
                "a larger one goes on"
            )
        if (fault := self._fault(summary)) is not None:
            raise DataError(f"step {name} of round {self.number}: {fault}")

    def _fault(self, summary: Mapping[str, Any]) -> str | None:
        """Why a step is not good enough, if it is not."""
        failed, n = summary["n"] - summary["ok"], summary["n"]
        if summary["causes"].get("budget") or failed > self.tools.config.max_failures * n + 1e-9:
            causes = ", ".join(f"{k} {v}" for k, v in summary["causes"].items())
            return f"{failed} of {n} failed ({causes}), over max_failures"
        return None


async def _logprobs(backend: CachedBackend, request: Request) -> list[float]:
    """The log-probability of each token of the last message, nats."""
    return [token.logprob for token in (await backend.complete(request)).tokens]


def _draw(candidate: Candidate) -> str:
    return candidate.id.rpartition("#")[2]


def _pair_key(pair: Comparison) -> list[Any]:
    return [pair.item.id, as_dict(pair.a), as_dict(pair.b)]
