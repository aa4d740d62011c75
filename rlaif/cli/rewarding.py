"""Where rewards of online training come from: judges, reward models, Python functions.

with asking.session() as session:
sources = reward_sources(session, how, rubric, record=output / "verdicts.jsonl")
train_online("grpo", model, rows, sources.rewards, output, …)
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.errors import ConfigError, SpecError

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.cli.asking import Session
    from rlaif.rewards.judge_reward import JudgeReward
    from rlaif.types import Item, Request

_PANEL = "Rewards"


@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """What is rewarded. Each field is an option of the command line."""

    reward: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            "--reward",
            help="What is rewarded: a judge's address, provider/name; reward/PATH, a reward model, "
            "whose rewards are taken as they are; or FILE.py:FUNCTION, which takes prompts, "
            "completions and columns by name and gives a number or None for each completion. "
            "Repeatable: rewards are added up.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    weight: Annotated[
        list[float] | None,
        typer.Option(
            help="Weight of each reward, in their order. By default 1; of 0, it is logged, not "
            "trained for: a held-out judge, whom the alarms compare with the others.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    by: Annotated[
        Literal["score", "comparison"],
        typer.Option(
            help="score: each completion is graded. comparison: it is compared with the others of "
            "its prompt.",
            rich_help_panel=_PANEL,
        ),
    ] = "score"
    opponents: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="By comparison, how many others each completion meets. By default all.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    on_outage: Annotated[
        Literal["pause", "mask"],
        typer.Option(
            help="While a judge cannot be reached, training waits, or goes on without its rewards.",
            rich_help_panel=_PANEL,
        ),
    ] = "pause"


@dataclass(slots=True)
class Sources:
    """The rewards of a run, and what they are."""

    rewards: list[Any] = field(default_factory=list)
    identity: dict[str, Any] = field(default_factory=dict)
    """For the run folder."""
    facts: dict[str, str] = field(default_factory=dict)
    """For the model card."""
    requests: list[Callable[[Item, str], list[tuple[CachedBackend, Request]]]] = field(
        default_factory=list
    )
    """What each judge would be asked about a response of this text."""


@contextmanager
def reward_sources(
    session: Session, how: RewardOptions, rubric: str | None, *, record: Path
) -> Iterator[Sources]:
    """The rewards that the options ask for, until the block ends.

    Args:
        session: What backends share.
        how: The options.
        rubric: What judges judge by; helpfulness by default.
        record: The file that gets every verdict.

    Raises:
        ConfigError: there is no source, options contradict each other, or a function cannot be had.
        SpecError: no such rubric, file or function.
    """
    from rlaif.background import run_blocking

    sources = Sources()
    given = how.reward or []
    if not given:
        raise ConfigError("give a --judge, or another --reward")
    if how.weight and len(how.weight) != len(given):
        raise ConfigError(f"{len(how.weight)} of --weight for {len(given)} rewards")
    judges = [one for one in given if not one.startswith("reward/") and not is_function(one)]
    if how.opponents is not None and how.by == "score":
        raise ConfigError("--opponents is for --by comparison")
    if rubric and not judges:
        raise ConfigError(f"-r {rubric} is for a --judge that is asked in words")
    try:
        for address in given:
            if address.startswith("reward/"):
                _add_model(sources, address)
            elif is_function(address):
                sources.rewards.append(load_function(address))
                file = Path(address.rpartition(":")[0])
                sources.identity[address] = hashlib.sha256(file.read_bytes()).hexdigest()
            else:
                _add_judge(sources, session, address, how, rubric, record, len(judges) > 1)
        sources.facts["rewards"] = ", ".join(given)
        yield sources
    finally:
        for backend in session.backends:
            run_blocking(backend.aclose())


def _add_model(sources: Sources, address: str) -> None:
    from rlaif.backends.base import BackendOptions
    from rlaif.backends.reward import open_reward

    model = open_reward(address.removeprefix("reward/"), BackendOptions())
    sources.identity[address] = model.identity
    sources.rewards.append(address)


def _add_judge(
    sources: Sources,
    session: Session,
    address: str,
    how: RewardOptions,
    rubric: str | None,
    record: Path,
    several: bool,
) -> None:
    from rlaif.rewards.judge_reward import JudgeReward

    backend = session.backend(address)
    judge, requests = _judge(backend, how, rubric)
    reward: JudgeReward = JudgeReward(
        judge,
        by=how.by,
        opponents=how.opponents,
        on_outage=how.on_outage,
        record=record,
        name=f"judge/{backend.model}" if several else "judge",
    )
    sources.rewards.append(reward)
    sources.requests.append(requests)
    sources.identity[address] = {
        "backend": backend.identity,
        "judge": judge.ref.method,
        "rubric": judge.ref.rubric.digest if judge.ref.rubric else None,
        "by": how.by,
        "opponents": how.opponents,
    }
    if judge.ref.rubric:
        sources.facts["rubric"] = f"{judge.ref.rubric.name} {judge.ref.rubric.version}"


def _judge(backend: CachedBackend, how: RewardOptions, rubric: str | None) -> tuple[Any, Any]:
    """The judge, and what it would be asked about a response."""
    from rlaif.types import Candidate, Comparison, Message, Sampling

    def response(name: str, text: str) -> Candidate:
        return Candidate(name, (Message("assistant", text),))

    judge: Any
    if how.by == "score":
        from rlaif.cli.making import score_judge
        from rlaif.cli.methods import ScoreOptions
        from rlaif.judge.item_rubric import rubric_source

        spec = rubric_source(rubric or "helpfulness")
        judge = score_judge(backend, spec, ScoreOptions(), Sampling(max_tokens=1024))
        return judge, lambda item, text: [
            (backend, request) for request in judge.requests(item, response("a", text))
        ]
    from rlaif.cli.judge import make_comparison_judge

    judge = make_comparison_judge(backend, rubric, Sampling(max_tokens=1024))
    return judge, lambda item, text: [
        (backend, request)
        for request in judge.requests(
            Comparison(item, response("a", text), response("b", f"{text} "))
        )
    ]


def is_function(source: str) -> bool:
    """Whether a reward is FILE.py:FUNCTION."""
    return source.rpartition(":")[0].endswith(".py")


def load_function(source: str) -> Any:
    """The function that FILE.py:FUNCTION names. The file is run.

    Raises:
        ConfigError: the address is none, the file fails, or has no such function.
        SpecError: there is no such file.
    """
    file, colon, name = source.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py" or not name.isidentifier():
        raise ConfigError(f"--reward is FILE.py:FUNCTION, not {source!r}")
    if not path.is_file():
        raise SpecError("no such file", path=path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path} fails when it is run: {error!r}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{path} has no function {name}")
    return function
