"""`rlaif train` from end to end on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.command import rlaif, write_rows

pytest.importorskip("trl")
# TRL's loop of async rewards is closed by nobody
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pairs() -> Path:
    rows = (
        {
            "prompt": f"Question {n}?",
            "chosen": f"Yes, {n}.",
            "rejected": f"No, {n}!",
            "p_chosen": 0.9,
            "judge": "server/j",
            "rubric": "helpfulness 1.0.0",
        }
        for n in range(12)
    )
    return write_rows(Path("pairs.jsonl"), *rows)


def test_a_reward_model_from_a_file_of_settings_judges(pairs: Path, tiny_model: Path) -> None:
    Path("rm.yaml").write_text(
        f"dataset: {pairs}\nheld_out: 0.3\nlabels: soft\nbatch_size: 4\nlora_rank: 4\n"
        "trl: {lr_scheduler_type: constant}\n"
    )
    words = ("train", "reward", "--config", "rm.yaml", "-m", tiny_model, "-o", "rm", "--json")
    done = rlaif(*words, "--learning-rate", 0.01, "--max-steps", 2)
    assert done.code == 0
    found = done.json
    assert found["rows"] + found["held_out"]["n"] == 12
    assert found["model"] == "rm/model"
    config = json.loads(Path("rm/config.json").read_text())
    assert config["settings"]["learning_rate"] == 0.01
    assert config["settings"]["trl"] == {"lr_scheduler_type": "constant"}
    data = write_rows(
        Path("judge.jsonl"),
        {"prompt": "Question 1?", "response_a": "Yes, 1.", "response_b": "No, 1!"},
    )
    judged = rlaif("judge", "compare", data, "-m", "reward/rm", "-o", "run", "--json")
    assert (judged.code, judged.json["coverage"]) == (0, 1.0)


def test_a_split_of_the_data_set_is_measured_on_but_for_prompts_trained_on(
    pairs: Path, tiny_model: Path
) -> None:
    import datasets

    rows = datasets.load_dataset("json", data_files=str(pairs))["train"]
    parts = {"train": rows.select(range(8)), "test": rows.select(range(6, 12))}
    datasets.DatasetDict(parts).save_to_disk("set")
    small = ("--lora-rank", 4, "--max-steps", 1, "--json", "-m", tiny_model)
    done = rlaif("train", "dpo", "set", "-o", "dpo", *small)
    assert done.json["held_out"]["n"] == 4
    assert "2 rows of the test split are not measured on" in done.err
    done = rlaif("train", "kto", "set", "-o", "kto", "--held-out", 0, *small)
    assert "held_out" not in done.json
    done = rlaif("train", "sft", pairs, "-o", "sft", "--limit", 3, *small)
    assert done.json["rows"] == 3


def test_a_judge_rewards_grpo_and_its_verdicts_are_kept(tiny_model: Path) -> None:
    prompts = write_rows(Path("prompts.jsonl"), *({"prompt": f"Say {n}."} for n in range(4)))
    judge = write_rows(Path("judge.jsonl"), {"match": "", "reply": "Fine. [[4]]"})
    words = (
        *("train", "grpo", prompts, "-m", tiny_model, "--judge", f"scripted/{judge}", "-n", 4),
        *("--batch-size", 8, "--max-completion-length", 6, "--max-steps", 1, "--lora-rank", 4),
        *("-o", "run", "--json"),
    )
    planned = rlaif(*words, "--dry-run")
    assert planned.json["rows"][0]["requests"] == 8
    assert not Path("run").exists()
    done = rlaif(*words)
    assert done.code == 0
    assert done.json["coverage"] == 1.0
    assert done.json["alarms"]["fired"] == []
    [row] = map(json.loads, Path("run/training.jsonl").read_text().splitlines())
    assert row["judge/mean"] == row["reward"] == pytest.approx(0.5)
    verdicts = Path("run/verdicts.jsonl").read_text().splitlines()
    assert 1 <= len(verdicts) <= 8
    card = Path("run/model/README.md").read_text()
    assert "| rewards | scripted/judge.jsonl |" in card


def test_a_judge_that_fails_for_some_is_over_the_limit(tiny_model: Path) -> None:
    prompts = write_rows(Path("prompts.jsonl"), {"prompt": "Say one."}, {"prompt": "Say two."})
    Path("mine.py").write_text(
        "def third(completions, **columns):\n"
        "    return [None if n % 3 == 0 else 1.0 * n for n in range(len(completions))]\n"
    )
    words = (
        *("train", "rloo", prompts, "-m", tiny_model, "--reward", "mine.py:third", "-n", 4),
        *("--batch-size", 8, "--max-completion-length", 6, "--max-steps", 1, "--lora-rank", 4),
    )
    done = rlaif(*words, "-o", "run")
    assert done.code == 1
    assert "37.5% of the completions have no reward, over the limit" in done.err
    assert rlaif(*words, "-o", "run", "--max-failures", 0.4).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dpo",), "give a data set, as an argument or as dataset: in --config"),
        (("dpo", "--config", "odd.yaml"), "odd.yaml: field 'limit': 'many' does not fit"),
        (("dpo", "--config", "wide.yaml"), "held_out is 2.0, and must be in [0, 0.9]"),
        (("dpo", "--config", "none.yaml"), "limit is 0, and must be 1 or more"),
        (("dpo", "pairs.jsonl", "--weights", "column"), "field 'weight': no such column"),
        (("grpo", "prompts.jsonl"), "give a --judge, or another --reward"),
        (("grpo", "prompts.jsonl", "--reward", "mine.py"), "names no provider"),
        (("grpo", "prompts.jsonl", "--reward", "none.py:f"), "none.py: no such file"),
        (("grpo", "prompts.jsonl", "--reward", "mine.py:g"), "mine.py has no function g"),
        (("grpo", "prompts.jsonl", "--reward", "mine.py:g h"), "FILE.py:FUNCTION"),
        (("grpo", "prompts.jsonl", "--reward", "bad.py:f"), "bad.py fails when it is run"),
        (("grpo", "prompts.jsonl", "--reward", "mine.py:f", "--weight", 1, "--weight", 2), "for 1"),
        (("grpo", "prompts.jsonl", "--reward", "mine.py:f", "--opponents", 2), "--by comparison"),
        (("grpo", "prompts.jsonl", "--reward", "mine.py:f", "-r", "helpfulness"), "asked in words"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    words: tuple[object, ...], message: str, pairs: Path, tiny_model: Path
) -> None:
    write_rows(Path("prompts.jsonl"), {"prompt": "Say one."})
    Path("odd.yaml").write_text(f"dataset: {pairs}\nlimit: many\n")
    Path("wide.yaml").write_text(f"dataset: {pairs}\nheld_out: 2.0\n")
    Path("none.yaml").write_text(f"dataset: {pairs}\nlimit: 0\n")
    Path("mine.py").write_text("def f(completions, **columns):\n    return [0.0]\n")
    Path("bad.py").write_text("raise RuntimeError('no')\n")
    done = rlaif("train", *words, "-m", tiny_model, "-o", "run")
    assert done.code == 2
    assert message in done.error
    assert not Path("run/model").exists()
