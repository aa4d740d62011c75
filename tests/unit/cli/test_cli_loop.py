"""`rlaif loop` on a tiny model, judged by tiny reward models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("trl")

from rlaif.cli.main import app
from rlaif.errors import ConfigError, SpecError
from rlaif.report.page import render_page
from rlaif.report.training_loop import loop_page
from tests.tiny import build_tiny_classifier


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("judges")
    one, other = (build_tiny_classifier(folder / str(seed), seed=seed) for seed in (1, 2))
    return one, other


@pytest.fixture
def loop(tmp_path: Path, tiny_model: Path, judges: tuple[Path, Path]) -> Path:
    for name, prompts in (("a", range(4)), ("b", range(10, 13))):
        lines = [json.dumps({"prompt": f"Question {i}?"}) + "\n" for i in prompts]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    path = tmp_path / "loop.yaml"
    path.write_text(
        f"""\
name: tiny
prompts: a.jsonl
held_out: b.jsonl
model: local/{tiny_model}
rounds: 1
generate: {{candidates: 2, held_out_candidates: 1, max_tokens: 8}}
judge: {{model: reward/{judges[0]}}}
held_out_judge: {{model: reward/{judges[1]}}}
select: {{balance: null, max_length_ratio: 99.0}}
train: {{settings: {{batch_size: 2, lora_rank: 4, learning_rate: 0.01}}}}
on_alarm: continue
"""
    )
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["loop", *map(str, words)])


def test_a_loop_runs_is_resumed_and_reported(loop: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    done = run(loop, "-o", output, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    made = json.loads(done.stdout)
    assert (made["ended"], len(made["rounds"])) == ("done", 1)
    assert Path(made["report"]) == output / "report.html"
    page = (output / "report.html").read_text()
    assert page == render_page(loop_page(output))
    assert json.loads((output / "loop.json").read_text())["rounds"] == made["rounds"]

    again = run(loop, "-o", output)
    assert again.exit_code == 0, again.output
    assert "held-out judge" in again.stdout
    assert f"local/{output}" in "".join(again.stderr.split()) or "wrote" in again.stderr

    # the pages of the loop, and of the training inside it, from their folders alone
    for folder in (output, output / "round-1" / "4-model"):
        told = CliRunner().invoke(app, ["report", str(folder), "-o", str(tmp_path / "page.html")])
        assert told.exit_code == 0, told.output
        assert "<svg" in (tmp_path / "page.html").read_text()

    # other limits, over those of the file: nothing is asked, and the loop ends at the alarm
    (tmp_path / "alarms.yaml").write_text("fire: value\nalarms: {kl_k3: {most: -1}}\n")
    stopped = run(loop, "-o", output, "--alarms", tmp_path / "alarms.yaml", "--on-alarm", "stop")
    assert stopped.exit_code == 1
    assert "stopped after round 1" in stopped.stderr
    assert "kl_k3" in stopped.stderr


def test_a_dry_run_says_what_judges_would_be_asked(loop: Path, tmp_path: Path) -> None:
    done = run(loop, "-o", tmp_path / "run", "--dry-run", "--json", "--rounds", 3)
    assert done.exit_code == 0, (done.output, done.exception)
    rows = json.loads(done.stdout)["rows"]
    # a reward model reads each response once: 3 rounds of 4 prompts with 2 candidates and of 3
    # held-out prompts with 1, which the start's are compared with
    assert sorted(row["requests"] for row in rows) == [3 * 3 + 3, 3 * (4 * 2 + 3) + 3]
    assert not (tmp_path / "run").exists()


def test_the_example_is_printed_as_it_is() -> None:
    done = run("--example")
    assert done.exit_code == 0
    assert done.stdout.startswith("# Rounds of generate")
    assert isinstance(run().exception, ConfigError)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("model: local/", "model: server/", ConfigError, "model is trained, so it is local/"),
        ("rounds: 1", "rounds: none", SpecError, "a whole number"),
        ("learning_rate: 0.01", "learning_rat: 0.01", ConfigError, "train.settings.learning_rat"),
        ("a.jsonl", "c.jsonl", SpecError, "c.jsonl"),
        ("batch_size: 2", "batch_size: 0", ConfigError, "batch_size"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_made(
    loop: Path, tmp_path: Path, old: str, new: str, error: type[Exception], message: str
) -> None:
    loop.write_text(loop.read_text().replace(old, new, 1))
    done = run(loop, "-o", tmp_path / "run")
    assert isinstance(done.exception, error), done.output
    assert message in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_the_same_judge_under_another_name_is_no_held_out_judge(
    loop: Path, tmp_path: Path, judges: tuple[Path, Path]
) -> None:
    text = loop.read_text().replace(
        f"{{model: reward/{judges[1]}}}", f"{{model: reward/{judges[0]}, rubric: x}}"
    )
    loop.write_text(text)
    done = run(loop, "-o", tmp_path / "run")
    assert isinstance(done.exception, ConfigError)
    assert "asks the same model the same" in str(done.exception)


PPO = "train: {trainer: ppo, settings: %s}"


def with_ppo(loop: Path, **settings: Any) -> None:
    lines = [line for line in loop.read_text().splitlines() if not line.startswith("train:")]
    told = ", ".join(f"{name}: {value}" for name, value in settings.items())
    loop.write_text("\n".join([*lines, PPO % f"{{{told}}}"]) + "\n")


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing` is deprecated:FutureWarning")
def test_a_loop_trains_by_ppo_with_its_judge_as_reward(loop: Path, tmp_path: Path) -> None:
    with_ppo(loop, batch_size=4, responses_per_prompt=2, mini_batches=1, epochs=1, lora_rank=4)
    output = tmp_path / "run"
    done = run(loop, "-o", output, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    (row,) = json.loads(done.stdout)["rounds"]
    assert not (output / "round-1" / "2-verdicts").exists()
    assert row["train"]["episodes"] == 8
    assert row["train"]["alarms"]["fired"] == []
    logged = (output / "round-1" / "4-model" / "training.jsonl").read_text().splitlines()
    assert len(logged) == 2
    assert all(-1 <= json.loads(line)["reward"] <= 1 for line in logged)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"responses_per_prompt": 1}, "a judge that compares needs 2 or more"),
        ({"lora_rank": "many"}, "train.settings.lora_rank"),
        ({"output_dir": "x"}, "each round has its folder"),
        ({"clipp": 0.1}, "train.settings.clipp"),
    ],
)
def test_wrong_settings_of_ppo_are_refused_at_once(
    loop: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with_ppo(loop, **settings)
    done = run(loop, "-o", tmp_path / "run")
    assert isinstance(done.exception, ConfigError), (done.output, done.exception)
    assert message in str(done.exception)


def test_ppo_does_not_wait_a_day_for_its_rewards(loop: Path, tmp_path: Path) -> None:
    with_ppo(loop, batch_size=4)
    done = run(loop, "-o", tmp_path / "run", "--batch")
    assert isinstance(done.exception, ConfigError)
    assert "--batch" in str(done.exception)
