"""The steps of the quickstart, each in a folder of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rlaif.canonical import json_line
from rlaif.cli import options
from rlaif.cli.output import progress_bar

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.judge.making import Comparer
    from rlaif.store.replies import ReplyStore
    from rlaif.types import Candidate, Comparison, Item, Sampling

T = TypeVar("T")

CANDIDATES = 4
HELD_OUT_DRAWS = 2
RESPONSE_TOKENS = 56
TUNED = "local/tuned"


@dataclass(slots=True)
class Results:
    """What the steps made, for the report."""

    judge: str
    method: str
    policy: str
    seed: int
    candidates: dict[str, Any] = field(default_factory=dict)
    verdicts: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)


@dataclass
class Work:
    """The steps of the quickstart, each in a folder of its own inside `output`."""

    output: Path
    store: ReplyStore
    judge_address: str
    policy_address: str
    rubric: str | None
    seed: int
    limit: int
    concurrency: int
    base_url: str | None
    timeout_s: float
    quiet: bool

    def run(self) -> Results:
        """Do, or resume, every step."""
        # one loop for all steps: a provider's connections belong to the loop that opened them
        with asyncio.Runner() as self._runner:
            try:
                return self._steps()
            finally:
                for backend in (self.judge_backend, self.policy):
                    self._wait(backend.aclose())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def _steps(self) -> Results:
        results = Results(
            judge=self.judge_address,
            method=self.judge.ref.method,
            policy=self.policy_address,
            seed=self.seed,
        )
        train, held_out = self.prompts("train"), self.prompts("heldout")
        folders = results.folders
        folders["candidates"], results.candidates = self.generate(
            "1-candidates", train, [self.policy], CANDIDATES
        )
        folders["verdicts"], results.verdicts = self.compare_candidates(
            "2-verdicts", folders["candidates"]
        )
        folders["dataset"], results.dataset = self.prefer("3-dataset", folders["verdicts"])
        folders["model"], results.training = self.train("4-model", folders["dataset"])
        folders["held_out"], _ = self.generate(
            "5-held-out", held_out, [self.policy, self.tuned(folders["model"])], HELD_OUT_DRAWS
        )
        folders["evaluation"], _ = self.evaluate("6-evaluation", folders["held_out"])
        folders["probe"], _ = self.probe("7-judge-probe")
        folders["guards"] = self.guards("8-guards", folders["held_out"], folders["model"])
        return results

    def _backend(self, address: str) -> CachedBackend:
        return options.open_backend(
            address,
            self.store,
            concurrency=self.concurrency,
            base_url=self.base_url,
            timeout_s=self.timeout_s,
        )

    @cached_property
    def judge_backend(self) -> CachedBackend:
        return (
            self.policy
            if self.judge_address == self.policy_address
            else self._backend(self.judge_address)
        )

    @cached_property
    def judge(self) -> Comparer:
        from rlaif.cli.judge import make_comparison_judge
        from rlaif.types import Sampling

        return make_comparison_judge(self.judge_backend, self.rubric, Sampling())

    @cached_property
    def policy(self) -> CachedBackend:
        from rlaif.backends.cached import CachedBackend
        from rlaif.backends.local import LocalBackend

        backend = LocalBackend(self.policy_address, self.policy_folder, options.home())
        return CachedBackend(backend, self.store)

    @cached_property
    def policy_folder(self) -> Path:
        from rlaif.backends.local import resolve_checkpoint

        return resolve_checkpoint(self.policy_address.removeprefix("local/"), options.home())

    def tuned(self, folder: Path) -> CachedBackend:
        """The tuned model, under a name that does not depend on where it lies."""
        from rlaif.backends.cached import CachedBackend
        from rlaif.backends.local import LocalBackend

        backend = LocalBackend(TUNED, folder / "model", options.home())
        return CachedBackend(backend, self.store)

    def prompts(self, split: str) -> list[Item]:
        """The shipped prompts of a split."""
        from rlaif.specs.items import read_prompts
        from rlaif.specs.shipped import shipped_dir

        rows = read_prompts(shipped_dir("quickstart") / "prompts.jsonl")
        return [item for item in rows if item.meta["split"] == split][: self.limit]

    @property
    def sampling(self) -> Sampling:
        from rlaif.types import Sampling

        return Sampling(0.9, top_p=0.95, max_tokens=RESPONSE_TOKENS, seed=self.seed)

    def generate(
        self, name: str, items: list[Item], backends: list[CachedBackend], n: int
    ) -> tuple[Path, dict[str, Any]]:
        """Draw `n` responses of each model to each prompt."""
        from rlaif.candidates import write_candidates
        from rlaif.store.runs import RunFolder
        from rlaif.types import as_dict

        run = RunFolder(
            self.output / name,
            {
                "prompts": [item.id for item in items],
                "models": [b.identity for b in backends],
                "n": n,
                "sampling": as_dict(self.sampling),
            },
        )
        with progress_bar(name, len(items), quiet=self.quiet) as bar:
            summary = self._wait(
                write_candidates(
                    items,
                    backends,
                    run,
                    n=n,
                    sampling=self.sampling,
                    concurrency=self.concurrency,
                    progress=bar.advance,
                )
            )
        return run.path, summary

    def _judged(
        self, name: str, comparisons: list[Comparison], config: dict[str, Any]
    ) -> tuple[Path, dict[str, Any]]:
        from rlaif.runner import write_verdicts
        from rlaif.store.runs import RunFolder
        from rlaif.types import as_dict

        who = {"judge": as_dict(self.judge.ref), "backend": self.judge_backend.identity}
        run = RunFolder(self.output / name, who | config)
        with progress_bar(name, len(comparisons), quiet=self.quiet) as bar:
            summary = self._wait(
                write_verdicts(
                    comparisons,
                    self.judge.compare,
                    run,
                    concurrency=self.concurrency,
                    progress=bar.advance,
                )
            )
        return run.path, summary

    def compare_candidates(self, name: str, candidates: Path) -> tuple[Path, dict[str, Any]]:
        """Compare every pair of each prompt's candidates."""
        from rlaif.candidates import pair_up
        from rlaif.store.runs import read_candidates

        pairs = [
            comparison
            for item, found in read_candidates(candidates)
            for comparison in pair_up(item, found, "all")
        ]
        return self._judged(name, pairs, {"data": options.data_digest(candidates)})

    def prefer(self, name: str, verdicts: Path) -> tuple[Path, dict[str, Any]]:
        """Of each prompt the best candidate over the worst, linted."""
        from rlaif.preferences.export import write_dataset
        from rlaif.preferences.pairs import Rules, pairs_from
        from rlaif.store.runs import read_verdicts

        rows = pairs_from(read_verdicts(verdicts), Rules(select="best-worst"))
        folder = self.output / name
        # the held-out prompts are another file: every row here may be trained on
        summary = write_dataset(rows, folder, test_share=0.0, source="rlaif quickstart")
        return folder, summary.as_dict()

    def train(self, name: str, dataset: Path) -> tuple[Path, dict[str, Any]]:
        """Tune the policy on the preference data."""
        from rlaif.train.data import load_preferences
        from rlaif.train.dpo import DPOSettings, train_dpo

        folder = self.output / name
        with progress_bar(name, None, quiet=self.quiet) as bar:
            summary = train_dpo(
                self.policy_folder,
                load_preferences(dataset),
                folder,
                DPOSettings(batch_size=4, learning_rate=3e-4, seed=self.seed),
                home=options.home(),
                facts={"base": self.policy_address, "judge": self.judge_address},
                progress=bar.reach,
            )
        return folder, summary

    def evaluate(self, name: str, held_out: Path) -> tuple[Path, dict[str, Any]]:
        """The tuned model's responses against the original's, on prompts it never saw."""
        from rlaif.store.runs import read_candidates
        from rlaif.types import Comparison

        pairs = [
            Comparison(item, tuned, original)
            for item, found in read_candidates(held_out)
            for tuned in _of(found, TUNED)
            for original in _of(found, self.policy_address)
        ]
        return self._judged(name, pairs, {"data": options.data_digest(held_out)})

    def probe(self, name: str) -> tuple[Path, dict[str, Any]]:
        """The judge on pairs whose better response is known."""
        from rlaif.specs.items import read_data
        from rlaif.specs.shipped import shipped_dir
        from rlaif.types import Comparison

        source = shipped_dir("quickstart") / "probe.jsonl"
        pairs = [Comparison(item, a, b) for item, (a, b) in read_data(source, "compare")]
        return self._judged(name, pairs, {"data": options.data_digest(source)})

    def guards(self, name: str, held_out: Path, model: Path) -> Path:
        """The log-probability of the held-out responses under the original model, in nats.

        The tuned model's own responses also under the tuned model.
        """
        from rlaif.store.runs import RunFolder, read_candidates

        found = list(read_candidates(held_out))
        pairs = [(item, candidate) for item, made in found for candidate in made]
        tuned = self.tuned(model)
        run = RunFolder(
            self.output / name,
            {
                "data": options.data_digest(held_out),
                "models": [self.policy.identity, tuned.identity],
            },
        )
        with progress_bar(name, len(pairs), quiet=self.quiet) as bar:
            rows = self._wait(self._likelihoods(pairs, tuned, bar.advance))
        with run.open_whole("likelihoods.jsonl") as file:
            file.writelines(map(json_line, rows))
        return run.path

    async def _likelihoods(
        self,
        pairs: Iterable[tuple[Item, Candidate]],
        tuned: CachedBackend,
        progress: Callable[[int], None],
    ) -> list[dict[str, Any]]:
        from rlaif.runner import ordered
        from rlaif.types import Request

        async def one(pair: tuple[Item, Candidate]) -> dict[str, Any]:
            item, candidate = pair
            request = Request((*item.prompt, *candidate.response), task="likelihood")
            tokens = (await self.policy.complete(request)).tokens
            row = {
                "item": item.id,
                "candidate": candidate.id,
                "model": candidate.model,
                "tokens": len(tokens),
                "logprob_original": sum(t.logprob for t in tokens),
            }
            if candidate.model == TUNED:  # the KL is taken over the tuned model's own responses
                under_tuned = (await tuned.complete(request)).tokens
                row["logprob_tuned"] = sum(t.logprob for t in under_tuned)
            return row

        made = []
        async for row in ordered(pairs, one, concurrency=self.concurrency):
            made.append(row)
            progress(1)
        return made


def _of(candidates: Iterable[Candidate], model: str) -> list[Candidate]:
    return [c for c in candidates if c.model == model]
