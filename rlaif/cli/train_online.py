"""`rlaif train grpo` and `rlaif train rloo`: a judge, or any function, as the reward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlaif.cli import options
from rlaif.cli.alarming import AlarmFile, OnAlarm, open_alarms, tell_alarms
from rlaif.cli.asking import Asking, asks
from rlaif.cli.output import progress_bar, say
from rlaif.cli.rewarding import RewardOptions, Sources, reward_sources
from rlaif.cli.taking import takes
from rlaif.cli.train_options import EMBEDDED, CommonOptions

if TYPE_CHECKING:
    from rlaif.backends.cached import CachedBackend
    from rlaif.train.online import Algorithm, OnlineSettings
    from rlaif.train.online_alarms import OnlineAlarms
    from rlaif.types import Request

_PANEL = "Training"


@dataclass(frozen=True, kw_only=True)
class OnlineOptions(CommonOptions):
    """How to train online. Each field is an option, and a setting by the same name."""

    batch_size: Annotated[
        int | None,
        typer.Option(min=2, help="Completions a step. By default 16.", rich_help_panel=_PANEL),
    ] = None
    num_generations: Annotated[
        int | None,
        typer.Option(
            "--num-generations",
            "-n",
            min=2,
            help="Completions of each prompt, which are compared. By default 8.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    max_completion_length: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a completion. By default 256.", rich_help_panel=_PANEL),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(min=0.01, help="Of the policy. By default 1.", rich_help_panel=_PANEL),
    ] = None
    beta: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Weight of the KL to the model as it was. By default 0.04; 0 logs no KL.",
            rich_help_panel=_PANEL,
        ),
    ] = None


Prompts = Annotated[str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, or -.")]
Rubric = Annotated[
    str | None,
    typer.Option("-r", "--rubric", help="A shipped rubric, or a file. By default helpfulness."),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="A YAML file of settings by name, and under trl: of any field of TRL's configuration. "
        "Options win over it.",
    ),
]


def _command(algorithm: Algorithm, doc: str) -> Callable[..., None]:
    def command(
        prompts: Prompts,
        rubric: Rubric = None,
        config: Config = None,
        alarms: OnAlarm = "continue",
        alarm_limits: AlarmFile = None,
        *,
        rewarded: RewardOptions,
        how: OnlineOptions,
        asking: Asking,
    ) -> None:
        from rlaif.train.online import OnlineSettings
        from rlaif.train.settings import load_settings

        settings = load_settings(OnlineSettings, config, how.given())
        source = options.spooled(prompts)
        with (
            asking.session() as session,
            reward_sources(
                session, rewarded, rubric, record=asking.output / "verdicts.jsonl"
            ) as sources,
        ):
            if asking.dry_run:
                _dry_run(source, asking, settings, sources, session.terms.prices)
                return
            watching = open_alarms(alarms, alarm_limits, sources.rewards, rewarded.weight)
            summary = _train(
                algorithm, source, asking, settings, sources, watching, rewarded.weight
            )
        _finish(summary, asking)

    command.__name__, command.__doc__ = algorithm, doc
    output = Path("runs") / algorithm
    taking = takes("how", OnlineOptions)(takes("rewarded", RewardOptions)(command))
    return asks(output=output, model=[EMBEDDED])(taking)


grpo = _command(
    "grpo",
    """GRPO: completions of a prompt against each other, with a judge or a function as reward.

    -m is the model that is trained, --judge who rewards it. Writes training.jsonl, samples.jsonl,
    verdicts.jsonl and model/. The same command again goes on from the last checkpoint; replies of
    the judge are kept, so that nothing is paid twice.
    """,
)
rloo = _command(
    "rloo",
    """RLOO: REINFORCE with the others of a prompt as baseline; a judge or a function rewards.

    -m is the model that is trained, --judge who rewards it. Writes training.jsonl, samples.jsonl,
    verdicts.jsonl and model/. The same command again goes on from the last checkpoint; replies of
    the judge are kept, so that nothing is paid twice.
    """,
)


def _train(
    algorithm: Algorithm,
    source: Path,
    asking: Asking,
    settings: OnlineSettings,
    sources: Sources,
    alarms: OnlineAlarms | None,
    weights: list[float] | None,
) -> dict[str, Any]:
    from rlaif.backends.local import resolve_checkpoint
    from rlaif.train.data import require_train_extra
    from rlaif.train.online import load_prompts, train_online

    require_train_extra()
    rows = load_prompts(source, asking.limit)
    model = asking.one_model()
    base = resolve_checkpoint(model.removeprefix("local/"), options.home())
    with progress_bar("training", None, quiet=asking.as_json) as bar:
        return train_online(
            algorithm,
            base,
            rows,
            sources.rewards,
            asking.output,
            settings,
            home=options.home(),
            weights=weights,
            alarms=alarms,
            identity=sources.identity,
            facts={"base": model, "data set": source.name, **sources.facts},
            progress=bar.reach,
        )


def _dry_run(
    source: Path, asking: Asking, settings: OnlineSettings, sources: Sources, prices: Any
) -> None:
    """Print what the judges would be asked at most: each completion as long as it can be."""
    from rlaif.cli.dry_run import dry_run_report
    from rlaif.specs.items import read_prompts

    def asked() -> Iterator[tuple[CachedBackend, Request]]:
        items = list(read_prompts(source, limit=asking.limit))
        turns = settings.epochs * len(items) * settings.num_generations
        steps = settings.max_steps or max(1, int(turns // settings.batch_size))
        for place in range(steps * settings.batch_size // settings.num_generations):
            item = items[place % len(items)]
            for draw in range(settings.num_generations):
                text = f"{place} {draw}" + " word" * settings.max_completion_length
                for requests in sources.requests:
                    yield from requests(item, text)

    dry_run_report(asked(), as_json=asking.as_json, prices=prices)


def _finish(summary: dict[str, Any], asking: Asking) -> None:
    from rlaif.cli.train import show

    told = {k: v for k, v in summary.items() if k != "alarms"} if not asking.as_json else summary
    show(told, asking.output, f"local/{asking.output}", as_json=asking.as_json)
    tell_alarms(summary)
    missing = 1.0 - summary["coverage"]
    if missing > asking.max_failures + 1e-9:
        say(f"error: {missing:.1%} of the completions have no reward, over the limit")
        raise typer.Exit(1)
