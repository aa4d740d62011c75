"""`rlaif train ppo`: judges, reward models and functions as rewards, from options or a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from rlaif import JudgeReward, PointwiseJudge, ScriptedBackend, load_rubric
from rlaif.cli.alarming import open_alarms
from rlaif.cli.train import app
from rlaif.errors import BudgetError, ConfigError, SpecError

SMALL = ["--episodes", "8", "--batch-size", "4", "--epochs", "1", "--response-length", "4"]
FUNCTION = """
def letters(completions, **_):
    return [sum(c.isalpha() for c in m[0]["content"]) / 4 for m in completions]
number = 3
"""
JUDGE = [{"match": "response_a>", "reply": "[[A]]"}, {"match": "", "reply": "helpfulness: [[4]]"}]

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing` is deprecated")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"id": str(n), "prompt": f"Question {n}?"} for n in range(6)]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("judge.jsonl").write_text("".join(json.dumps(row) + "\n" for row in JUDGE))
    Path("mine.py").write_text(FUNCTION)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path  # type: ignore[misc]
    torch.set_num_threads(threads)


def call(*words: str, model: Path | None = None, small: bool = True) -> Result:
    more = ["-m", str(model)] if model is not None else []
    return CliRunner().invoke(
        app, ["ppo", "prompts.jsonl", *more, *(SMALL if small else []), "-o", "run", *words]
    )


def test_a_judge_and_a_function_reward(here: Path, tiny_model: Path) -> None:
    words = ("--reward", "scripted/judge.jsonl", "--reward", "mine.py:letters", "--json")
    done = call(*words, "--weight", "1", "--weight", "0.5", model=tiny_model)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["updates"] == 2
    assert told["last"]["reward/scripted/judge.jsonl"] == 0.5
    assert told["last"]["scripted/judge.jsonl/coverage"] == 1.0
    assert json.loads(Path("run/summary.json").read_text())["episodes"] == 8
    assert len(Path("run/verdicts.jsonl").read_text().splitlines()) == 8
    card = Path("run/model/README.md").read_text()
    assert "mine.py:letters" in card
    assert "| rubric | helpfulness |" in card
    config = json.loads(Path("run/config.json").read_text())
    assert config["rewards"] == [["scripted/judge.jsonl", 1.0], ["letters", 0.5]]
    assert not Path("run/checkpoints").exists()

    again = call(*words, "--weight", "1", "--weight", "0.5", model=tiny_model)
    assert json.loads(again.stdout)["wall_s"] == told["wall_s"]  # nothing was done
    other = call(*words, "--weight", "1", "--weight", "0.7", model=tiny_model)
    assert isinstance(other.exception, ConfigError)
    assert "rewards was" in str(other.exception)


def test_a_judge_compares_the_responses_of_a_prompt(here: Path, tiny_model: Path) -> None:
    words = ("--reward", "scripted/judge.jsonl", "--by", "comparison")
    alone = call(*words, model=tiny_model)
    assert isinstance(alone.exception, ConfigError)
    assert "--responses-per-prompt of 2 or more" in str(alone.exception)
    done = call(*words, "--responses-per-prompt", "2", "--json", model=tiny_model)
    assert done.exit_code == 0, done.output
    # it always prefers what it is shown first: both orders make that even
    assert json.loads(done.stdout)["last"]["reward"] == 0.0


def test_a_file_says_what_options_do_not(here: Path, tiny_model: Path) -> None:
    held_out = "prompts.jsonl"
    Path("ppo.yaml").write_text(
        f"model: {tiny_model}\nrewards: [mine.py:letters]\nweights: [2]\nlora_rank: 0\n"
        f"value_model: true\nheld_out: {held_out}\ntotal_episodes: 100\nclip: 0.1\n"
    )
    done = call("--config", "ppo.yaml")
    assert done.exit_code == 0, done.output
    assert "held-out reward" in done.stdout
    config = json.loads(Path("run/config.json").read_text())
    assert config["settings"]["clip"] == 0.1
    assert config["settings"]["total_episodes"] == 8  # an option wins
    assert config["lora_rank"] == 0
    assert config["value_model"] is True
    logged = [json.loads(line) for line in Path("run/training.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged if "eval_reward" in row] == [0, 2]
    other = call("--config", "ppo.yaml", "--no-value-model")
    assert isinstance(other.exception, ConfigError)
    assert "value_model was true, is false" in str(other.exception)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("clips: 1\nrewards: [mine.py:letters]\n", SpecError, "clip"),
        ("rewards: [mine.py:letters]\nclip: no\n", SpecError, "clip"),
        ("rewards: [mine.py:letters]\nweights: [x]\n", SpecError, "does not fit"),
        ("rewards: [mine.py:number]\n", ConfigError, "no function number"),
        ("rewards: [there.py:number]\n", SpecError, "no such file"),
        ("rewards: []\n", ConfigError, "say what is rewarded"),
        ("rewards: [nobody/x]\n", ConfigError, "nobody"),
    ],
)
def test_what_does_not_fit_is_named(
    here: Path, tiny_model: Path, text: str, kind: type[Exception], words: str
) -> None:
    Path("ppo.yaml").write_text(text)
    done = call("--config", "ppo.yaml", model=tiny_model)
    assert isinstance(done.exception, kind), done.output
    assert words in str(done.exception)


def test_a_server_of_the_policy_needs_its_name(here: Path, tiny_model: Path) -> None:
    words = ("--reward", "mine.py:letters", "--policy-url", "http://127.0.0.1:9/v1")
    done = call(*words, model=tiny_model)
    assert isinstance(done.exception, ConfigError)
    assert "--policy-name" in str(done.exception)
    named = call(*words, "--policy-name", "p", "--lora-rank", "0", model=tiny_model)
    assert isinstance(named.exception, ConfigError)
    assert "by its adapters" in str(named.exception)


def test_a_budget_that_is_spent_keeps_what_was_learned(
    here: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broke(
        self: object, prompts: list[str], completions: list[str], *, log_metric: object, **_: object
    ) -> list[float | None]:
        assert callable(log_metric)
        log_metric("scripted/judge.jsonl/no_verdict/budget", 0.5)
        return [0.1, None] * (len(completions) // 2)

    monkeypatch.setattr("rlaif.rewards.judge_reward.JudgeReward.__call__", broke)
    done = call("--reward", "scripted/judge.jsonl", model=tiny_model)
    assert isinstance(done.exception, BudgetError)
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["update-1"]
    assert not Path("run/model").exists()
    monkeypatch.undo()
    monkeypatch.chdir(here)
    rest = call("--reward", "scripted/judge.jsonl", model=tiny_model)
    assert rest.exit_code == 0, rest.output
    logged = Path("run/training.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [1, 2]


def test_an_alarm_is_told_and_may_end_the_training(here: Path, tiny_model: Path) -> None:
    text = "fire: value\nbaseline: 1\nwindow: 2\nalarms: {coverage: {least: 1.1}}\n"
    Path("limits.yaml").write_text(text)
    words = ("--reward", "mine.py:letters", "--alarm-limits", "limits.yaml", "--episodes", "16")
    stopped = call(*words, "--alarms", "stop", model=tiny_model)
    assert stopped.exit_code == 0, stopped.output
    assert "alarm at step 3: coverage" in stopped.output
    assert "--alarms continue goes on" in stopped.output
    assert not Path("run/model").exists()
    done = call(*words, model=tiny_model)
    assert "alarm at step 3: coverage" in done.output  # when it first fired
    assert Path("run/model").exists()
    fired = json.loads(Path("run/summary.json").read_text())["alarms"]["fired"]
    assert [(row["name"], row["step"]) for row in fired] == [("coverage", 3)]


def test_alarms_may_be_left_out(here: Path, tiny_model: Path) -> None:
    done = call("--reward", "mine.py:letters", "--alarms", "off", "--json", model=tiny_model)
    assert "alarms" not in json.loads(done.stdout)


def _named(name: str) -> Callable[..., list[float]]:
    def reward(completions: list[str], **_: object) -> list[float]:
        return [0.0] * len(completions)

    reward.__name__ = name
    return reward


def test_a_reward_of_weight_0_is_the_held_out_judge() -> None:
    alarms = open_alarms("stop", None, [_named("ours"), _named("gold")], [1.0, 0.0])
    assert alarms is not None
    ends = [alarms({"step": n, "reward": n / 10, "reward/gold": -n / 10}) for n in range(1, 21)]
    assert ends[-1]
    assert list(alarms.fired) == ["gold_trend"]
    with pytest.raises(ConfigError, match="every reward has the weight 0"):
        open_alarms("stop", None, [_named("ours")], [0.0])


@pytest.mark.parametrize(("others", "fires"), [([], True), ([_named("of unknown range")], False)])
def test_of_judges_it_is_known_what_the_most_is(others: list[object], fires: bool) -> None:
    judge = JudgeReward(PointwiseJudge(ScriptedBackend([]), load_rubric("helpfulness")))
    alarms = open_alarms("continue", None, [judge, *others], [2.0] * (1 + len(others)))
    assert alarms is not None
    alarms.see(["why?"] * 60, ["so"] * 60, [2.0] * 60)
    for step in range(1, 16):
        assert not alarms({"step": step, "reward": 2.0})
    assert ("judge_ceiling" in alarms.fired) is fires
