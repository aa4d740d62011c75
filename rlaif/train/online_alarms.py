"""Alarms inside online training: they read its logs, and what it writes, and may end it.

    alarms = OnlineAlarms(stop=True)
    PPOTrainer(model, [alarms.watching(reward)], args, rows, processing_class=tokenizer,
               callbacks=[alarms])
    GRPOTrainer(model, [alarms.watching(reward)], args, rows, callbacks=[alarms.for_trainer()])
    summary["alarms"] = alarms.as_dict()

The first logged steps are the baseline that the latest are compared with. A reward that training
does not see (a held-out judge, in TRL a reward function of weight 0) gives the gap between the two
judges where its name in the logs is given.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.stats.means import MeanInterval, mean_interval
from rlaif.stats.win_rate import win_rate
from rlaif.store.runs import read_rows
from rlaif.train.alarms import Alarm, Limits, Measure, load_limits, sound
from rlaif.train.drift import Responses, change, text_measures

_TEXTS = 128
"""Responses at the start, and lately, that are compared."""
_UNREAD = 64
"""New responses after which they are compared again: it takes a second."""
_SAME = 1e-9
RewardFunction = Callable[..., Any]

TRL_NAMES = {
    "reward": "reward",
    "entropy": "entropy",
    "completions/mean_length": "length",
    "completions/max_length": "length_max",
    "completions/clipped_ratio": "unfinished",
}
"""What GRPO and RLOO of TRL log, in our words. Their `kl` is a token's: see `for_trainer`."""


class OnlineAlarms:
    """Watches online training. Called with the figures of each logged step, as a callback of PPO.

    Args:
        limits: When an alarm fires; the shipped ones by default.
        stop: Whether training ends where an alarm fires; else it goes on, and they are kept.
        gold: Name in the logs of the reward that training does not see.
        ceiling: The most a reward can be, for the share at the judge's ceiling (1 for a judge).
        tell: Told of each alarm when it first fires.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        stop: bool = True,
        gold: str | None = None,
        ceiling: float | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.limits = limits or load_limits()
        self.stop = stop
        self.alarms: list[Alarm] = []
        """Each alarm as it is now."""
        self.fired: dict[str, tuple[int, Alarm]] = {}
        """Each alarm that fired: the step where it first did, and how it stood there."""
        self._gold = gold
        self._ceiling = ceiling
        self._tell = tell
        self._rows: dict[int, dict[str, float]] = {}
        self._first_texts: list[tuple[str, str]] = []
        self._latest_texts: deque[tuple[str, str]] = deque(maxlen=_TEXTS)
        self._rewards: deque[float] = deque(maxlen=_TEXTS)
        self._unread = 0
        self._of_texts: list[Measure] = []

    def __call__(self, figures: Mapping[str, Any]) -> bool:
        """Look at the figures of one logged step; whether training should end.

        Args:
            figures: `step`, and those of `reward`, `kl` and `kl_k3` (nats a response), `entropy`
                (nats a token), `length`, `length_p95` (tokens), `coverage`, `unfinished` (or
                `ended`) that are known. What is no finite number is passed over.
        """
        for alarm in self._look(figures):
            self._tell(f"alarm: {alarm.line()}")
        return self.stop and any(alarm.fired for alarm in self.alarms)

    def _look(self, figures: Mapping[str, Any]) -> list[Alarm]:
        """The alarms that fire for the first time, with what the figures of a step add."""
        step = self._keep(figures)
        self.alarms = []
        if len(self._rows) >= self.limits.baseline + self.limits.window:
            self.alarms = sound(self._measures(), self.limits)
        new = [alarm for alarm in self.alarms if alarm.fired and alarm.name not in self.fired]
        self.fired.update((alarm.name, (step, alarm)) for alarm in new)
        return new

    def recall(self, run: Path) -> None:
        """Take up the steps that the folder of a run has in `training.jsonl`.

        A run that is resumed is thereby compared with its own beginning, and alarms that fired then
        are kept. Steps after the checkpoint that it goes on from are forgotten when they are logged
        anew. What was written before is not known any more.

        Raises:
            SpecError: a line of the file does not fit.
        """
        path = run / "training.jsonl"
        for _, row in read_rows(path) if path.is_file() else ():
            self._look(row)

    def _keep(self, figures: Mapping[str, Any]) -> int:
        """Keep the figures of a step in place of what was logged of it, and after it; the step."""
        row = {k: float(v) for k, v in figures.items() if _is_number(v)}
        if "ended" in row:
            row.setdefault("unfinished", 1.0 - row["ended"])
        step = int(row.get("step", len(self._rows) + 1))
        for later in [known for known in self._rows if known >= step]:
            del self._rows[later]
        for name in [name for name, (known, _) in self.fired.items() if known >= step]:
            del self.fired[name]
        self._rows[step] = row
        return step

    def watching(self, reward: RewardFunction) -> RewardFunction:
        """`reward`, with the responses it is asked about kept for the alarms; sync or async."""
        call = getattr(reward, "__call__", None)  # noqa: B004
        is_async = inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(call)
        made: RewardFunction = self._awaited(reward) if is_async else self._called(reward)
        made.__name__ = getattr(reward, "__name__", type(reward).__name__)
        if (close := getattr(reward, "aclose", None)) is not None:
            made.aclose = close  # type: ignore[attr-defined]
        return made

    def _awaited(self, reward: RewardFunction) -> RewardFunction:
        async def watched(prompts: Any, completions: Any, *args: Any, **named: Any) -> Any:
            given = dict(zip(("completion_ids",), args, strict=False)) | named  # TRL names them all
            rewards = await reward(prompts=prompts, completions=completions, **given)
            self.see(prompts, completions, rewards)
            return rewards

        return watched

    def _called(self, reward: RewardFunction) -> RewardFunction:
        def watched(prompts: Any, completions: Any, *args: Any, **named: Any) -> Any:
            given = dict(zip(("completion_ids",), args, strict=False)) | named
            rewards = reward(prompts=prompts, completions=completions, **given)
            self.see(prompts, completions, rewards)
            return rewards

        return watched

    def see(
        self, prompts: Sequence[Any], completions: Sequence[Any], rewards: Sequence[float | None]
    ) -> None:
        """Keep the responses of one batch, and their rewards."""
        for prompt, completion in zip(prompts, completions, strict=True):
            pair = (_text(prompt), _text(completion))
            if len(self._first_texts) < _TEXTS:
                self._first_texts.append(pair)
            else:
                self._latest_texts.append(pair)
                self._unread += 1
        self._rewards.extend(r for r in rewards if r is not None and math.isfinite(r))

    def for_trainer(self) -> Any:
        """A callback for a trainer of transformers or TRL, which maps the names in its logs.

        GRPO's and RLOO's `kl` is the mean of a token (k3): times the mean length it is that of a
        response.
        """
        from transformers import TrainerCallback

        alarms = self

        class Watching(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
            def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
                if "reward" in logs and alarms(from_trl(logs, state.global_step)):
                    control.should_training_stop = True

        return Watching()

    def as_dict(self) -> dict[str, Any]:
        """What a summary says of the alarms."""
        return {
            "limits": self.limits.name,
            "now": [alarm.as_dict() for alarm in self.alarms],
            "fired": [{"step": step, **alarm.as_dict()} for step, alarm in self.fired.values()],
        }

    def _measures(self) -> list[Measure]:
        found = [
            *self._means("kl", "kl_k3", "coverage"),
            *self._ratios(("entropy", "entropy"), ("length_mean", "length")),
            *self._ratios(("length_p95", "length_p95")),
            *self._rises("unfinished"),
            *self._trend(),
        ]
        if self._ceiling is not None and len(self._rewards) > 1:
            top = win_rate([float(r >= self._ceiling - _SAME) for r in self._rewards])
            found.append(Measure("judge_ceiling", top.value, top.low, top.high))
        return found + self._text_measures()

    def _text_measures(self) -> list[Measure]:
        """The figures of what was written, worked out anew after every so many responses."""
        if len(self._first_texts) == len(self._latest_texts) == _TEXTS and self._unread >= _UNREAD:
            latest, first = _responses(self._latest_texts), _responses(self._first_texts)
            self._of_texts, self._unread = text_measures(latest, first), 0
        return self._of_texts

    def _windows(self, name: str) -> tuple[list[float], list[float]]:
        """The values of a figure at the start, and lately."""
        rows = list(self._rows.values())
        first, latest = rows[: self.limits.baseline], rows[-self.limits.window :]
        return [r[name] for r in first if name in r], [r[name] for r in latest if name in r]

    def _means(self, *names: str) -> list[Measure]:
        return [
            _measure(name, _mean(latest))
            for name in names
            if len(latest := self._windows(name)[1]) > 1
        ]

    def _ratios(self, *names: tuple[str, str]) -> list[Measure]:
        found = []
        for alarm, figure in names:
            first, latest = self._windows(figure)
            if len(latest) > 1 and first and (before := sum(first) / len(first)) > 0:
                now = _mean(latest)
                ends = (now.value / before, now.low / before, now.high / before)
                found.append(Measure(alarm, *ends))
        return found

    def _rises(self, name: str) -> list[Measure]:
        ends = change(*self._windows(name))
        return [] if ends is None else [Measure(name, *ends)]

    def _trend(self) -> list[Measure]:
        """The held-out judge's change, where the training judge's reward rose for certain."""
        if self._gold is None:
            return []
        ours, theirs = change(*self._windows("reward")), change(*self._windows(self._gold))
        if ours is None or theirs is None or ours[1] <= 0:
            return []
        return [Measure("gold_trend", *theirs)]


def from_trl(logs: Mapping[str, Any], step: int) -> dict[str, Any]:
    """The figures of a log of TRL's GRPO or RLOO in our words; further ones keep their names."""
    found = {TRL_NAMES.get(name, name): value for name, value in logs.items() if name != "kl"}
    if _is_number(logs.get("kl")) and _is_number(found.get("length")):
        found["kl_k3"] = float(logs["kl"]) * float(found["length"])
    return found | {"step": step}


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def _mean(values: Sequence[float]) -> MeanInterval:
    return mean_interval(list(values))


def _measure(name: str, found: MeanInterval) -> Measure:
    return Measure(name, found.value, found.low, found.high)


def _text(value: Any) -> str:
    """A prompt or a completion as text: it comes as text, or as messages."""
    if isinstance(value, str):
        return value
    return "\n".join(str(message["content"]) for message in value)


def _responses(pairs: Sequence[tuple[str, str]]) -> Responses:
    prompts, texts = zip(*pairs, strict=True)
    return Responses(prompts, texts)
