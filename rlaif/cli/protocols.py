"""What the protocols of `rlaif eval` do around their judges: plan, draw answers, judge, report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlaif.cli import options
from rlaif.cli.judging import note_interruption
from rlaif.cli.output import emit, fail_over_limit, progress_bar, say, summary_table
from rlaif.cli.running import run_draining

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.cli.asking import Asking, Session
    from rlaif.evals.mt_bench import Answers, Match, Question, References
    from rlaif.evals.mt_bench_judges import TurnJudge
    from rlaif.runner import Stop
    from rlaif.store.runs import RunFolder
    from rlaif.types import JudgeRef, Request, Sampling, Verdict

Mode = Literal["single", "pairwise-baseline", "pairwise-all"]
Kind = Literal["single", "pair"]

_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class ProtocolRun:
    """What every protocol does around its judge: plan, or judge into a run folder."""

    command: str
    asking: Asking
    session: Session

    def plan(self, asked: Iterable[tuple[CachedBackend, Request]]) -> None:
        """Say what would be asked."""
        from rlaif.cli.dry_run import dry_run_report

        dry_run_report(asked, as_json=self.asking.as_json, prices=self.session.terms.prices)

    def folder(
        self, backend: CachedBackend, ref: JudgeRef, inputs: Mapping[str, Path | None], **more: Any
    ) -> RunFolder:
        """The run folder, which belongs to this judge and these files."""
        from rlaif.store.runs import RunFolder
        from rlaif.types import as_dict

        digests = {name: options.data_digest(path) for name, path in inputs.items() if path}
        config = {
            "command": self.command,
            "inputs_sha256": digests,
            "judge": as_dict(ref),
            "backend": backend.identity,
            **more,
        }
        return RunFolder(self.asking.output, config, grows={"limit"})

    def judge(
        self,
        backend: CachedBackend,
        run: RunFolder,
        work: Sequence[Any],
        judge: Callable[[Any], Awaitable[Verdict]],
        others: Sequence[CachedBackend] = (),
    ) -> dict[str, Any]:
        """Judge everything, asking `backend` and `others`; the summary.

        Where it is ended early, so is the command.
        """
        from rlaif.runner import write_verdicts

        with progress_bar("judging", len(work), quiet=self.asking.as_json) as bar:

            async def judged(stop: Stop) -> dict[str, Any]:
                async with options.opened(backend, *others):
                    return await write_verdicts(
                        work,
                        judge,
                        run,
                        concurrency=self.session.width,
                        progress=bar.advance,
                        stop=stop,
                        also=self.session.account,
                    )

            summary = note_interruption(run, run_draining(judged, drain=not self.asking.batch))
        if summary.get("interrupted"):
            self.report(summary)
            self.check(summary)
        return summary

    def report(self, summary: dict[str, Any], files: Sequence[Path] = ()) -> None:
        """Print the summary."""
        output = self.asking.output
        if self.asking.as_json:
            emit(summary | {"run": str(output)})
            return
        whole = not summary.get("interrupted")
        name = "verdicts.jsonl" if whole else "verdicts.jsonl.partial"
        summary_table("judged", summary, [output / name, *files])
        if whole:
            say(f"next: rlaif leaderboard {output}")

    def check(self, summary: Mapping[str, Any]) -> None:
        """Exit as the summary asks for: interrupted, out of money, or too much without verdict."""
        fail_over_limit(summary, self.asking.max_failures)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files of an MT-Bench run hold."""

    questions: list[Question]
    selected: list[Question]
    answers: list[Answers]
    addresses: list[str]
    """Models whose answers are drawn."""
    references: References


@dataclass(frozen=True, slots=True)
class MtBenchRun:
    """An MT-Bench run."""

    run: ProtocolRun
    mode: Mode
    baseline: str
    rubric: str
    judge_prompts: Path | None
    answer_sampling: Sampling
    fastchat: Path | None

    def load(
        self,
        source: Path,
        folder: Path | None,
        models: list[str],
        references: str | None,
        judge: str,
        limit: int | None,
    ) -> Loaded:
        """Everything that the files hold, checked against each other."""
        from rlaif.errors import ConfigError
        from rlaif.evals.fields import named_files
        from rlaif.evals.mt_bench import (
            References,
            check_complete,
            load_answers,
            load_questions,
            load_references,
        )

        questions = load_questions(source)
        selected = questions[:limit]
        files = named_files(folder) if folder else {}
        if not files and not models:
            raise ConfigError("nothing to judge: give --answers FOLDER or --models-to-judge MODEL")
        if self.mode == "pairwise-baseline" and models and self.baseline in files:
            models = list(dict.fromkeys([*models, self.baseline]))
        options.distinct(models)
        found = []
        for name in models or files:
            if name in files:
                one = load_answers(files[name], questions, name)
                check_complete(one, selected)
                _tell(one)
                found.append(one)
        given = References({}, off=references == "none")
        if references not in {None, "none"}:
            given = load_references(Path(str(references)), questions, judge)
        addresses = [name for name in models if name not in files]
        return Loaded(questions, selected, found, addresses, given)

    def matches(self, loaded: Loaded, drawn: Sequence[Answers], always: bool) -> list[Match]:
        """Every turn to judge."""
        from rlaif.evals.mt_bench import pair_matches, single_matches

        models = [*loaded.answers, *drawn]
        if self.mode == "single":
            given = single_matches(loaded.selected, models, loaded.references, always=always)
            return list(given)
        baseline = self.baseline if self.mode == "pairwise-baseline" else None
        return list(
            pair_matches(
                loaded.selected, models, loaded.references, baseline=baseline, always=always
            )
        )

    def carry_out(
        self,
        loaded: Loaded,
        backend: CachedBackend,
        sampling: Sampling,
        to_ask: list[CachedBackend],
        inputs: dict[str, Path | None],
        *,
        limit: int | None,
    ) -> None:
        """Draw the answers that are missing, and judge."""
        from rlaif.evals.mt_bench_fastchat import check_answers, check_judgments

        kind: Kind = "single" if self.mode == "single" else "pair"
        planned = [asyncio.run(self._planned(one, loaded)) for one in to_ask]
        judge, always = self._judge(loaded, backend, sampling, kind, [a for a, _ in planned])
        work = self.matches(loaded, [a for a, _ in planned], always)
        if self.fastchat is not None:
            check_judgments(self.fastchat, judge.ref.model, kind, work)
            for one in to_ask:
                check_answers(self.fastchat, one.model, loaded.selected)
        if self.run.asking.dry_run:
            drawing = [(b, r) for b, (_, rs) in zip(to_ask, planned, strict=True) for r in rs]
            self.run.plan([*drawing, *((backend, r) for m in work for r in judge.requests(m))])
            return
        folder = self.run.folder(
            backend,
            judge.ref,
            inputs | {"references": _as_path(loaded.references.path)},
            limit=limit,
            mode=self.mode,
            baseline=self.baseline if self.mode == "pairwise-baseline" else None,
            references=not loaded.references.off,
            models={
                **{a.model: "from --answers" for a in loaded.answers},
                **{b.model: b.identity for b in to_ask},
            },
            answers={
                "max_tokens": self.answer_sampling.max_tokens,
                "seed": self.answer_sampling.seed,
            }
            if to_ask
            else None,
        )
        drawn = self._draw(loaded, to_ask, folder)
        work = self.matches(loaded, drawn, always)
        summary = self.run.judge(backend, folder, work, judge.judge)
        files = self._write_fastchat(judge, kind, work, drawn, loaded)
        self.run.report(summary, files)
        self.run.check(summary)

    def _judge(
        self,
        loaded: Loaded,
        backend: CachedBackend,
        sampling: Sampling,
        kind: Kind,
        planned: Sequence[Answers],
    ) -> tuple[TurnJudge, bool]:
        """What judges, and whether it needs a reference for every question."""
        from rlaif.evals.mt_bench_judges import (
            PromptJudge,
            RubricJudge,
            check_reference_rule,
            load_prompt_set,
        )
        from rlaif.specs.rubric import load_rubric

        if self.judge_prompts is not None:
            work = self.matches(loaded, planned, always=False)
            prompts = load_prompt_set(self.judge_prompts, kind, work)
            return PromptJudge(backend, prompts, sampling), False
        spec = load_rubric(self.rubric)
        always = check_reference_rule(spec, loaded.references.off)
        return RubricJudge(backend, spec, kind, sampling), always

    async def _planned(
        self, backend: CachedBackend, loaded: Loaded
    ) -> tuple[Answers, list[Request]]:
        """What drawing answers would ask, and answers to plan with.

        An answer that is not kept yet is stood for by text as long as it may become.
        """
        from rlaif.evals.mt_bench import Answers

        stand_in = "x" * (_CHARACTERS_PER_TOKEN * self.answer_sampling.max_tokens)
        turns: dict[str, tuple[str, ...]] = {}
        asked: list[Request] = []
        for question in loaded.selected:
            said: list[str] = []
            for _ in question.turns:
                request = question.request(said, self.answer_sampling)
                asked.append(request)
                kept = backend.kept(request)
                said.append((await backend.complete(request)).text if kept else stand_in)
            turns[question.id] = tuple(said)
        # pairs of equal answers are not asked about: the stand-ins of two models never are
        told = {name: tuple(f"{backend.model} {t}" for t in said) for name, said in turns.items()}
        return Answers(backend.model, told), asked

    def _draw(
        self, loaded: Loaded, to_ask: Sequence[CachedBackend], folder: RunFolder
    ) -> list[Answers]:
        """Answers of every model to every question, also kept in the run folder."""
        from rlaif.evals.mt_bench import answer_questions
        from rlaif.evals.mt_bench_fastchat import write_answers

        if not to_ask:
            return []
        total = len(to_ask) * len(loaded.selected)
        with progress_bar("answering", total, quiet=self.run.asking.as_json) as bar:

            async def drawn() -> list[Answers]:
                async with options.opened(*to_ask):
                    return [
                        await answer_questions(
                            backend,
                            loaded.selected,
                            self.answer_sampling,
                            concurrency=self.run.session.width(),
                            progress=bar.advance,
                        )
                        for backend in to_ask
                    ]

            found = asyncio.run(drawn())
        for one in found:
            write_answers(folder.path, one, loaded.selected)
            _tell(one)
        return found

    def _write_fastchat(
        self,
        judge: TurnJudge,
        kind: Kind,
        work: Sequence[Match],
        drawn: Sequence[Answers],
        loaded: Loaded,
    ) -> list[Path]:
        from rlaif.evals.mt_bench_fastchat import write_answers, write_judgments
        from rlaif.store.runs import read_verdicts

        if self.fastchat is None:
            return []
        judged = zip(work, read_verdicts(self.run.asking.output), strict=True)
        return [
            *(write_answers(self.fastchat, one, loaded.selected) for one in drawn),
            write_judgments(self.fastchat, judge, kind, judged),
        ]


def _as_path(path: str | None) -> Path | None:
    return Path(path) if path else None


def _tell(answers: Answers) -> None:
    """Say what is odd about one model's answers."""
    if others := sorted(answers.ids - {answers.model}):
        say(f"{answers.path}: its rows say {', '.join(others)}; taken as {answers.model}")
    if answers.repeated:
        say(f"{answers.path}: {answers.repeated} rows are replaced by later ones")
    if answers.failures:
        say(f"{answers.model} gave no answer to {len(answers.failures)} questions")
    if answers.cut:
        say(f"{answers.model}: {answers.cut} answers end at the token limit")
