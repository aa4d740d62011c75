"""Online RL on TRL's `GRPOTrainer` and `RLOOTrainer`, with any mix of rewards.

    rows = load_prompts(Path("prompts.jsonl"))
    summary = train_online("grpo", Path("smollm2"), rows, [judge], Path("runs/grpo"), home=home)

Shao et al. 2024, "DeepSeekMath" (arXiv 2402.03300), eq. (3); Ahmadian et al. 2024, "Back to basics"
(arXiv 2402.14740). A completion without a reward is left out of its group and of the update; it is
never worth 0. Where the budget of a judge is spent, the state is kept and training ends; the same
run with a larger budget goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rlaif.errors import ConfigError
from rlaif.specs.items import read_prompts
from rlaif.train.arguments import trl_config
from rlaif.train.common import Fitted, Job, Method, Parts, Progress, carry_out
from rlaif.train.fitting import Verdict, fitting, tokens
from rlaif.train.online_reward import OnlineReward
from rlaif.train.ppo.config import MissingReward
from rlaif.train.ppo.rewards import RewardFunction, RewardMix
from rlaif.train.settings import Rates, Settings
from rlaif.types import as_dict

if TYPE_CHECKING:
    from rlaif.train.online_alarms import OnlineAlarms

Algorithm = Literal["grpo", "rloo"]
Watch = Callable[[Mapping[str, Any]], object]
"""Told the figures of each step, as training.jsonl has them; ends training by a true answer."""

_NAMES = {
    "reward_std": "reward_std",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "unfinished",
    "entropy": "entropy",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "epoch": "epoch",
    "reward": "reward",
    "frac_reward_zero_std": "groups_alike",
    "clip_ratio/region_mean": "clipped",
}
_ENDS = 5
"""Steps at either end of a run that the summary's rewards are means of."""


@dataclass(frozen=True, kw_only=True)
class OnlineSettings(Settings):
    """How to train. Defaults are for LoRA, by the size of the model."""

    batch_size: int = 16
    """Completions a step."""
    num_generations: int = 8
    """Completions of each prompt, which are compared with each other."""
    max_completion_length: int = 256
    """Tokens of a completion."""
    temperature: float = 1.0
    top_p: float = 1.0
    beta: float = 0.04
    """Weight of the KL to the model as it was; 0 reads no reference, and logs no KL."""
    missing_reward: MissingReward = "mask"
    """What a completion is worth that lacks one of several rewards: nothing is known (mask), or
    what the others give it (rest)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        super().__post_init__()
        if self.num_generations < 2:
            raise ConfigError("num_generations is 2 or more: completions are compared")
        if self.batch_size % self.num_generations:
            raise ConfigError(
                f"batch_size {self.batch_size} is no multiple of num_generations "
                f"{self.num_generations}"
            )
        if not 0 <= self.beta < float("inf"):
            raise ConfigError(f"beta is {self.beta}, and must be 0 or more")
        if not 0 < self.temperature < float("inf") or not 0 < self.top_p <= 1:
            raise ConfigError("temperature must be more than 0, and top_p in (0, 1]")
        if self.max_completion_length < 1:
            raise ConfigError("max_completion_length must be 1 or more")


class Online(Method[OnlineSettings]):
    """GRPO or RLOO."""

    rates: ClassVar[Rates] = {
        "small": (1e-4, 5e-6),
        "medium": (2e-5, 1e-6),
        "large": (1e-5, 1e-6),
    }

    def __init__(
        self,
        algorithm: Algorithm,
        settings: OnlineSettings,
        rewards: RewardMix,
        watch: Sequence[Watch] = (),
        identity: Mapping[str, Any] | None = None,
        alarms: OnlineAlarms | None = None,
    ) -> None:
        super().__init__(settings)
        self.name = algorithm  # type: ignore[misc]  # two names for what is one method here
        self._rewards = rewards
        self._watch: list[Watch] = [*watch, *([] if alarms is None else [alarms])]
        self._identity = identity or {}
        self._alarms = alarms

    def identity(self) -> dict[str, Any]:
        """The rewards, beside what the caller says of them."""
        return {"rewards": self._rewards.described(), **self._identity}

    def fit(self, rows: Any, tokenizer: Any) -> Fitted:
        """The prompts that leave room for a whole completion.

        Raises:
            ConfigError: completions are as long as the window.
        """
        settings = self.settings
        most = settings.max_length - settings.max_completion_length
        if most < 1:
            raise ConfigError(
                f"completions of {settings.max_completion_length} tokens leave no room for a "
                f"prompt in {settings.max_length}"
            )

        def judge(row: Mapping[str, Any]) -> Verdict:
            fits = tokens(tokenizer, row["prompt"]) <= most
            return None if fits else "too_long", False

        return fitting(rows, judge)

    def build(self, parts: Parts) -> Any:
        """TRL's trainer, with the rewards as one function."""
        import trl

        settings = self.settings
        title = self.name.upper()
        config = trl_config(
            getattr(trl, f"{title}Config"),
            parts.arguments,
            settings,
            num_generations=settings.num_generations,
            max_completion_length=settings.max_completion_length,
            temperature=settings.temperature,
            top_p=settings.top_p,
            beta=settings.beta,
        )
        asked: Any = OnlineReward(self._rewards, parts.output, parts.stopping)
        if self._alarms is not None:
            asked = self._alarms.watching(asked)
        return getattr(trl, f"{title}Trainer")(
            model=parts.network,
            reward_funcs=[asked],
            args=config,
            train_dataset=parts.rows,
            processing_class=parts.tokenizer,
            peft_config=parts.peft_config,
            callbacks=[*parts.callbacks, _watching(self, parts.stopping)],
        )

    def curve(self, entry: Mapping[str, float]) -> dict[str, float]:
        """A step: `reward`, `kl` or `kl_k3` (nats a response), `entropy` (nats a token), lengths.

        TRL's `kl` is the mean of a token: of the log ratio (k1) in RLOO, of k3 in GRPO. Times the
        mean length it is that of a response.
        """
        row = {ours: entry[theirs] for theirs, ours in _NAMES.items() if theirs in entry}
        if "kl" in entry and "length" in row:
            row["kl" if self.name == "rloo" else "kl_k3"] = entry["kl"] * row["length"]
        if "step" in entry:
            row["episodes"] = entry["step"] * self.settings.batch_size
        told = ("rewards/", "completions/", "clip_ratio/", "sampling/")
        rest = {k: v for k, v in entry.items() if k not in _NAMES and not k.startswith(told)}
        return row | {k: v for k, v in rest.items() if k not in ("kl", "step", "num_tokens")}

    def conclude(self, summary: dict[str, Any], curves: list[dict[str, Any]]) -> None:
        """Add rewards at both ends, coverage, cost, KL, length, and what the alarms say."""
        summary["episodes"] = summary["steps"] * self.settings.batch_size
        rewards = [row["reward"] for row in curves if "reward" in row]
        for name, some in (("reward_first", rewards[:_ENDS]), ("reward_last", rewards[-_ENDS:])):
            summary[name] = sum(some) / len(some) if some else None
        covered = [row["coverage"] for row in curves if "coverage" in row]
        summary["coverage"] = sum(covered) / len(covered) if covered else 0.0
        summary["cost_usd"] = round(sum(row.get("cost_usd", 0.0) for row in curves), 9)
        for name in ("kl", "kl_k3", "length", "entropy"):
            if curves and name in curves[-1]:
                summary[f"{name}_last"] = curves[-1][name]
        if self._alarms is not None:
            summary["alarms"] = self._alarms.as_dict()


def _watching(method: Online, stopping: Any) -> Any:
    """Tells whoever watches of each step, and ends training where one of them wants it."""
    from transformers import TrainerCallback

    class Watching(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if "reward" not in logs:
                return
            row = method.curve({**logs, "step": state.global_step}) | {"step": state.global_step}
            answers = [watch(row) for watch in method._watch]  # all are told
            if any(answers) or stopping.wanted:
                control.should_save = control.should_training_stop = True

    return Watching()


def load_prompts(path: Path, limit: int | None = None) -> Any:
    """The prompts of a file or folder, for online training.

    Returns:
        A `datasets.Dataset` of `prompt` (messages), `id`, `reference` (text or null), and the
        further columns that hold text, numbers or truth values in every row.

    Raises:
        SpecError: the file cannot be read, has no rows, or a row does not fit.
    """
    import datasets

    items = list(read_prompts(path, limit=limit))
    columns: dict[str, list[Any]] = {
        "prompt": [as_dict(item.prompt) for item in items],
        "id": [item.id for item in items],
        "reference": [item.reference for item in items],
    }
    names = {name for item in items for name in item.meta} - columns.keys()
    for name in sorted(names - {"completion", "completions", "completion_ids", "prompts"}):
        values = [item.meta.get(name) for item in items]
        if len(kinds := {type(value) for value in values}) == 1 and kinds <= {
            str,
            int,
            float,
            bool,
        }:
            columns[name] = values
    return datasets.Dataset.from_dict(columns)


def train_online(
    algorithm: Algorithm,
    model: Path,
    rows: Any,
    rewards: Sequence[RewardFunction | Path | str],
    output: Path,
    settings: OnlineSettings | None = None,
    *,
    home: Path,
    weights: Sequence[float] | None = None,
    watch: Sequence[Watch] = (),
    alarms: OnlineAlarms | None = None,
    identity: Mapping[str, Any] | None = None,
    facts: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total, note: None,
) -> dict[str, Any]:
    """Train `model` to earn rewards; the tuned checkpoint lies in `output/model`.

    Args:
        algorithm: `grpo` or `rloo`.
        model: A checkpoint folder.
        rows: Prompts with columns for the rewards, as `load_prompts` gives them.
        rewards: Functions in TRL's signature, sync or async (a `JudgeReward`), and folders of
            reward models.
        output: The run folder; it gets samples.jsonl too: prompt, completion, reward, step.
        settings: How to train.
        home: Where the choice of dtype is kept.
        weights: One for each reward; all 1 by default.
        watch: Told the figures of each step; ends training by a true answer.
        alarms: They watch every step, also those of this run before it was stopped, and may end
            it; the summary says what they say, under `alarms`.
        identity: What decides the rewards, for the run folder.
        facts: What the model card says beside the settings.
        progress: Told of every step.

    Returns:
        The summary: as `train_dpo`, with rewards at both ends, coverage, cost and KL.

    Raises:
        BudgetError: a judge's budget is spent; the state is kept.
        ConfigError, DataError, StoreError, KeyboardInterrupt: as `train_dpo`; a reward that is no
            number is a `DataError`.
        BackendError: a judge is misconfigured, or its outage outlasted the longest pause.
    """
    if algorithm not in ("grpo", "rloo"):
        raise ConfigError(f"the algorithm is grpo or rloo, not {algorithm!r}")
    settings = settings or OnlineSettings()
    mix = RewardMix(rewards, weights, missing=settings.missing_reward)
    if alarms is not None:
        alarms.recall(output)
    method = Online(algorithm, settings, mix, watch, identity, alarms)
    return carry_out(method, Job(model, rows, output, home, None, facts or {}, progress))
