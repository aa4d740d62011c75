"""`rlaif train ppo`: a policy tuned for what judges, reward models or functions say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlaif.background import run_blocking
from rlaif.cli import options
from rlaif.cli.alarming import AlarmFile, OnAlarm, open_alarms, tell_alarms
from rlaif.cli.asking import Asking, Session, asks
from rlaif.cli.output import emit, progress_bar, say, table
from rlaif.cli.rewarding import is_function, load_function
from rlaif.cli.train_options import EMBEDDED
from rlaif.errors import BudgetError, ConfigError, SpecError

if TYPE_CHECKING:
    from rlaif.train.ppo.config import PPOConfig
    from rlaif.train.ppo.served import ServedPolicy

_UNUSED = ("model", "batch", "batch_poll", "stragglers", "max_failures", "dry_run")
_PANEL = "Training"
_BUDGET_SPENT = "/no_verdict/budget"
_IN_FILE = (
    "model",
    "rewards",
    "weights",
    "rubric",
    "by",
    "held_out",
    "policy_url",
    "policy_name",
    "lora_rank",
    "value_model",
)
"""What the file may say beside the settings of `PPOConfig`."""

By = Literal["score", "comparison"]


def _setting(help_text: str, **more: Any) -> Any:
    return typer.Option(help=help_text, rich_help_panel=_PANEL, show_default=False, **more)


@asks(output=Path("runs/ppo"), without=_UNUSED)
def ppo(
    prompts: Annotated[str, typer.Argument(help="JSONL, JSON, CSV, Parquet, a folder, or -.")],
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", help="local/NAME, or a checkpoint folder.", show_default=EMBEDDED
        ),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            help="What is rewarded; repeatable. A judge's address, reward/PATH, or "
            "FILE.py:FUNCTION in TRL's signature."
        ),
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            help="Weight of each reward, in their order. By default 1; of 0, it is logged, not "
            "trained for: a held-out judge, whom the alarms compare with the others."
        ),
    ] = None,
    rubric: Annotated[
        str | None, typer.Option("-r", "--rubric", help="What judges go by: helpfulness.")
    ] = None,
    by: Annotated[
        By | None,
        typer.Option(
            help="Whether judges grade a response, or compare it with the others of its prompt, of "
            "which there must be several (--responses-per-prompt)."
        ),
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Prompts that are scored, and not learned from.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="A YAML file of settings by name: those of PPOConfig, and model, rewards, "
            "weights, rubric, by, held_out, policy_url, policy_name, lora_rank, value_model. "
            "Options win over it.",
        ),
    ] = None,
    policy_url: Annotated[
        str | None,
        typer.Option(
            help="A vLLM server that draws the responses: it loads the adapters after each update."
        ),
    ] = None,
    policy_name: Annotated[
        str | None, typer.Option(help="The name by which it serves the policy as it is now.")
    ] = None,
    episodes: Annotated[int | None, _setting("Responses in all: 1024.", min=1)] = None,
    batch_size: Annotated[int | None, _setting("Responses an update: 32.", min=1)] = None,
    responses_per_prompt: Annotated[
        int | None, _setting("Responses of an update to the same prompt: 1.", min=1)
    ] = None,
    micro_batch_size: Annotated[
        int | None, _setting("Responses in memory at once, in training: 8.", min=1)
    ] = None,
    epochs: Annotated[int | None, _setting("Passes over an update's responses: 4.", min=1)] = None,
    learning_rate: Annotated[float | None, _setting("The highest; it falls to 0: 1e-4.")] = None,
    response_length: Annotated[
        int | None, _setting("Most tokens of a response: 64.", min=1)
    ] = None,
    kl_coefficient: Annotated[
        float | None, _setting("Price of leaving the start, a nat: 0.05.", min=0.0)
    ] = None,
    kl_target: Annotated[
        float | None, _setting("Nats a response that the price is steered to.")
    ] = None,
    temperature: Annotated[float | None, _setting("Of sampling: 1.")] = None,
    lora_rank: Annotated[int | None, _setting("0 trains every weight: 16.", min=0)] = None,
    value_model: Annotated[
        bool | None,
        typer.Option(
            "--value-model/--no-value-model",
            help="A value model of its own beside the policy: slower, more learned where the "
            "policy's states say little of the reward.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int | None, _setting("Seed of everything that is drawn: 0.")] = None,
    eval_updates: Annotated[
        int | None, _setting("Score the held-out prompts every so many updates too.", min=0)
    ] = None,
    alarms: OnAlarm = "continue",
    alarm_limits: AlarmFile = None,
    *,
    asking: Asking,
) -> None:
    """Proximal policy optimization: tune a model for rewards.

    The tuned model is a plain checkpoint in OUTPUT/model; use it as local/OUTPUT. The same command
    again goes on from the last checkpoint, or does nothing when it is done. Ctrl-C ends after the
    update and keeps it; the end of a budget does the same.
    """
    given = {
        "model": model,
        "rewards": reward,
        "weights": weight,
        "rubric": rubric,
        "by": by,
        "held_out": held_out,
        "policy_url": policy_url,
        "policy_name": policy_name,
        "total_episodes": episodes,
        "batch_size": batch_size,
        "responses_per_prompt": responses_per_prompt,
        "micro_batch_size": micro_batch_size,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "response_length": response_length,
        "kl_coefficient": kl_coefficient,
        "kl_target": kl_target,
        "temperature": temperature,
        "lora_rank": lora_rank,
        "value_model": value_model,
        "seed": seed,
        "eval_updates": eval_updates,
    }
    plan = _plan(
        {name: value for name, value in given.items() if value is not None}, config, asking
    )
    _carry_out(prompts, plan, asking, (alarms, alarm_limits))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train for, and how."""

    model: str
    args: PPOConfig
    rewards: Sequence[str]
    weights: Sequence[float] | None
    rubric: str
    by: By
    held_out: Path | None
    policy_url: str | None
    policy_name: str | None
    lora_rank: int
    value_model: bool


def _plan(given: Mapping[str, Any], config: Path | None, asking: Asking) -> Plan:
    """What the options and the file say.

    Raises:
        SpecError: the file is missing or malformed.
        ConfigError: there is no reward, or a setting does not fit.
    """
    from rlaif.train.data import require_train_extra
    from rlaif.train.ppo.config import PPOConfig
    from rlaif.train.settings import read_yaml, settings_from

    require_train_extra()
    read = read_yaml(config) if config is not None else {}
    beside = {name: read.pop(name) for name in _IN_FILE if name in read}
    settings = {name: value for name, value in given.items() if name not in _IN_FILE}
    kind: Any = PPOConfig
    args: PPOConfig = settings_from(kind, {"output_dir": asking.output} | read, config, settings)
    own = beside | {name: value for name, value in given.items() if name in _IN_FILE}
    rewards = [str(name) for name in _listed(own.get("rewards"))]
    if not rewards:
        raise ConfigError("say what is rewarded: --reward, or rewards: in --config")
    held_out = own.get("held_out")
    try:
        return Plan(
            str(own.get("model", EMBEDDED)),
            args,
            rewards,
            [float(w) for w in _listed(own["weights"])] if "weights" in own else None,
            str(own.get("rubric", "helpfulness")),
            own.get("by", "score"),
            Path(held_out) if held_out is not None else None,
            own.get("policy_url"),
            own.get("policy_name"),
            int(own.get("lora_rank", 16)),
            bool(own.get("value_model", False)),
        )
    except (TypeError, ValueError) as error:
        raise SpecError(f"does not fit: {error}", path=config) from error


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _carry_out(
    prompts: str, plan: Plan, asking: Asking, alarms: tuple[OnAlarm, Path | None]
) -> None:
    from rlaif.backends.embedded import chosen_dtype
    from rlaif.backends.local import resolve_checkpoint
    from rlaif.specs.items import read_prompts
    from rlaif.train.ppo.run import train_ppo

    rows = [_row(item) for item in read_prompts(options.spooled(prompts), limit=asking.limit)]
    held_out = [_row(item) for item in read_prompts(plan.held_out)] if plan.held_out else None
    base = resolve_checkpoint(plan.model.removeprefix("local/"), options.home())
    spent: list[str] = []

    def watch(figures: Mapping[str, Any]) -> bool:
        spent.extend(name for name, n in figures.items() if name.endswith(_BUDGET_SPENT) and n)
        return bool(spent)

    with asking.session() as session, progress_bar("training", None, quiet=asking.as_json) as bar:
        functions = [_reward(name, plan, asking, session) for name in plan.rewards]
        try:
            summary = train_ppo(
                base,
                rows,
                functions,
                plan.args,
                reward_weights=plan.weights,
                eval_rows=held_out,
                lora_rank=plan.lora_rank,
                dtype=chosen_dtype(options.home()),
                value_model=plan.value_model,
                served_policy=_served(plan, asking),
                facts={
                    "base": plan.model,
                    "judged by": ", ".join(plan.rewards),
                    "rubric": plan.rubric,
                },
                progress=bar.reach,
                callbacks=[watch],
                alarms=open_alarms(*alarms, functions, plan.weights),
            )
        finally:
            for backend in session.backends:
                run_blocking(backend.aclose())
    if spent:
        raise BudgetError("the budget is spent: what was learned is kept, the same command goes on")
    _told(summary, asking)


def _told(summary: Mapping[str, Any], asking: Asking) -> None:
    if asking.as_json:
        emit({**summary, "model": str(asking.output / "model")})
        return
    tell_alarms(summary)
    last = summary["last"]
    lines = {name: last.get(name) for name in ("reward", "coverage", "kl", "length", "entropy")}
    held = {
        f"held-out reward {when}": found["eval_reward"]
        for when in ("first", "last")
        if (found := summary.get(f"eval_{when}"))
    }
    if rose := summary.get("eval_gain"):
        held["held-out reward rose by"] = (
            f"{rose['mean']:.3f} [{rose['low']:.3f}, {rose['high']:.3f}]"
        )
    plain = ("updates", "episodes", "prompts_left_out", "episodes_per_s", "wall_s")
    rows = {**{name: summary[name] for name in plain}, **lines, **held}
    table("trained", ("", ""), [(k, v) for k, v in rows.items() if v is not None])
    if summary["stopped"]:
        say("stopped at an alarm: the same command with --alarms continue goes on from there")
        return
    say(f"wrote {asking.output / 'model'}: use it as local/{asking.output}")


def _served(plan: Plan, asking: Asking) -> ServedPolicy | None:
    """The server that draws the responses, if one does.

    Raises:
        ConfigError: it has no name for the policy.
    """
    if plan.policy_url is None:
        return None
    if plan.policy_name is None:
        raise ConfigError("--policy-url needs --policy-name: what the server calls the policy")
    from rlaif.train.ppo.served import ServedPolicy

    address = f"server/{plan.policy_name}"
    given = options.backend_options(address, plan.policy_url, asking.timeout)
    return ServedPolicy(
        plan.policy_url,
        plan.policy_name,
        folder=asking.output / "served",
        api_key=given.api_key,
        timeout_s=asking.timeout,
    )


def _row(item: Any) -> dict[str, Any]:
    from rlaif.types import as_dict

    row = {"prompt": as_dict(item.prompt), "id": item.id}
    return row | ({"reference": item.reference} if item.reference is not None else {})


def _reward(name: str, plan: Plan, asking: Asking, session: Session) -> Any:
    """The reward function that `name` stands for.

    Raises:
        ConfigError, SpecError: there is no such function, model or rubric.
    """
    if name.startswith("reward/"):
        return name
    if is_function(name):
        return load_function(name)
    from rlaif.api.judging import Judge

    if plan.by == "comparison" and plan.args.responses_per_prompt < 2:
        raise ConfigError("to compare responses takes --responses-per-prompt of 2 or more")
    judge = Judge(session.backend(name), plan.rubric)
    return judge.reward(plan.by, record=asking.output / "verdicts.jsonl", name=name)
